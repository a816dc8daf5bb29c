//! How many connections each principal has.

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::sync::{Arc, Mutex, PoisonError};

use fieldseal_model::Principal;

/// Counts connections by principal. Its size is bounded by the number of connections.
#[derive(Clone)]
pub(super) struct Census {
    seats: Arc<Mutex<HashMap<Principal, usize>>>,
    per_principal: usize,
}

/// One connection of one principal, counted until it is dropped.
pub(super) struct Seat {
    census: Census,
    principal: Principal,
}

impl Census {
    pub(super) fn new(per_principal: usize) -> Self {
        Self { seats: Arc::default(), per_principal }
    }

    /// `None` if the principal has as many connections as it may have.
    pub(super) fn seat(&self, principal: &Principal) -> Option<Seat> {
        let mut seats = self.seats.lock().unwrap_or_else(PoisonError::into_inner);
        let taken = seats.entry(principal.clone()).or_insert(0);
        if *taken >= self.per_principal {
            if *taken == 0 {
                seats.remove(principal);
            }
            return None;
        }
        *taken = taken.saturating_add(1);
        Some(Seat { census: self.clone(), principal: principal.clone() })
    }
}

impl Drop for Seat {
    fn drop(&mut self) {
        let mut seats = self.census.seats.lock().unwrap_or_else(PoisonError::into_inner);
        if let Entry::Occupied(mut taken) = seats.entry(self.principal.clone()) {
            match taken.get().checked_sub(1) {
                Some(left @ 1..) => *taken.get_mut() = left,
                _ => drop(taken.remove()),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_principal_has_only_its_seats_and_leaves_nothing_behind() {
        let (a, b) = (Principal::parse("dns:a").unwrap(), Principal::parse("dns:b").unwrap());
        assert!(Census::new(0).seat(&a).is_none());
        let census = Census::new(2);
        let first = census.seat(&a).unwrap();
        let second = census.seat(&a).unwrap();
        assert!(census.seat(&a).is_none());
        assert!(census.seat(&b).is_some());
        drop(first);
        let third = census.seat(&a).unwrap();
        assert!(census.seat(&a).is_none());
        drop((second, third));
        assert!(census.seats.lock().unwrap().is_empty());
    }
}
