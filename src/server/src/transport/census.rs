//! How many connections each principal has.

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::sync::{Arc, Mutex, PoisonError};

use fieldseal_model::Principal;

use crate::usage::Usage;

/// Counts connections by principal. Its size is bounded by the number of connections.
#[derive(Clone)]
pub(super) struct Census {
    seats: Arc<Mutex<HashMap<Principal, Taken>>>,
    per_principal: usize,
}

/// A principal's connections, and what they take together.
#[derive(Default)]
struct Taken {
    seats: usize,
    usage: Arc<Usage>,
}

/// One connection of one principal, counted until it is dropped.
pub(super) struct Seat {
    census: Census,
    principal: Principal,
    /// What all connections of the principal take.
    pub(super) usage: Arc<Usage>,
}

impl Census {
    pub(super) fn new(per_principal: usize) -> Self {
        Self { seats: Arc::default(), per_principal }
    }

    /// `None` if the principal has as many connections as it may have.
    pub(super) fn seat(&self, principal: &Principal) -> Option<Seat> {
        let mut seats = self.seats.lock().unwrap_or_else(PoisonError::into_inner);
        let taken = seats.entry(principal.clone()).or_default();
        if taken.seats >= self.per_principal {
            if taken.seats == 0 {
                seats.remove(principal);
            }
            return None;
        }
        taken.seats = taken.seats.saturating_add(1);
        let usage = Arc::clone(&taken.usage);
        Some(Seat { census: self.clone(), principal: principal.clone(), usage })
    }
}

impl Drop for Seat {
    fn drop(&mut self) {
        let mut seats = self.census.seats.lock().unwrap_or_else(PoisonError::into_inner);
        if let Entry::Occupied(mut taken) = seats.entry(self.principal.clone()) {
            match taken.get().seats.checked_sub(1) {
                Some(left @ 1..) => taken.get_mut().seats = left,
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
