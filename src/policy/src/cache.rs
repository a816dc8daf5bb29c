//! Decisions that were made before.

use std::hash::{Hash, Hasher};

use quick_cache::Equivalent;
use quick_cache::sync::Cache;

use crate::permit::{Denial, Permit};
use crate::request::{Asked, Request};

/// Most decisions that one policy remembers.
pub(crate) const CAPACITY: usize = 4096;

/// A bounded cache of decisions, keyed by every input of a decision. It belongs to one loaded
/// policy and goes with it. Scan-resistant: a caller who asks for many new things does not push out
/// what everybody asks for.
pub(crate) struct Decisions(Cache<Key, Result<Permit, Denial>>);

/// A request as a key: equal, and equally hashed, to the [`Request`] it was made from.
struct Key(Asked);

impl Hash for Key {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.0.as_request().hash(state);
    }
}

impl PartialEq for Key {
    fn eq(&self, other: &Self) -> bool {
        self.0.as_request() == other.0.as_request()
    }
}

impl Eq for Key {}

impl Equivalent<Key> for Request<'_> {
    fn equivalent(&self, key: &Key) -> bool {
        // The lifetimes differ, the parts do not.
        let key: Request<'_> = key.0.as_request();
        *self == key
    }
}

impl Decisions {
    pub(crate) fn new() -> Self {
        Self(Cache::new(CAPACITY))
    }

    pub(crate) fn get(&self, request: &Request<'_>) -> Option<Result<Permit, Denial>> {
        self.0.get(request)
    }

    pub(crate) fn insert(&self, asked: Asked, decision: Result<Permit, Denial>) {
        self.0.insert(Key(asked), decision);
    }

    #[cfg(test)]
    pub(crate) fn len(&self) -> usize {
        self.0.len()
    }
}
