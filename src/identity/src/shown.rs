//! Which caller a token belongs to: the first that shows it.

use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;

use fieldseal_model::{Principal, Timestamp};
use parking_lot::Mutex;
use sha2::{Digest, Sha256};

use crate::issuers::Issuers;
use crate::refused::Refused;
use crate::token::{Claims, Parts};

/// Most tokens that are remembered at the same time, each until it has ended.
const MOST: usize = 100_000;
/// Which part of the places one caller may have: nobody shuts out all others alone.
const SHARE: usize = 4;

/// What a token is known by: SHA-256 over what is signed of it. A signature can be written in several
/// ways, what it signs cannot.
pub type TokenId = [u8; 32];

/// The tokens that are in use, each with the caller that it belongs to.
pub struct Shown {
    most: usize,
    tokens: Mutex<Tokens>,
}

#[derive(Default)]
struct Tokens {
    by_id: HashMap<TokenId, Entry>,
    /// When each is over, the earliest first.
    ends: BTreeSet<(i64, TokenId)>,
    /// How many places each caller has.
    places: HashMap<Principal, usize>,
}

struct Entry {
    principal: Principal,
    claims: Arc<Claims>,
    /// Of the signature that was checked, and which policy's keys were asked, as which they were then.
    signature: [u8; 32],
    generation: (u64, u64),
}

impl Tokens {
    fn give_back(&mut self, principal: &Principal) {
        if let Some(places) = self.places.get_mut(principal) {
            *places = places.saturating_sub(1);
            if *places == 0 {
                self.places.remove(principal);
            }
        }
    }
}

impl Default for Shown {
    fn default() -> Self {
        Self::with_capacity(MOST)
    }
}

impl Shown {
    /// Remembers so many tokens at most.
    #[must_use]
    pub fn with_capacity(most: usize) -> Self {
        Self { most, tokens: Mutex::default() }
    }

    /// Checks a token that a caller shows. `generation` says which issuers these are: what was checked
    /// with others is checked again. `query_hash` is that of the request which the token came with;
    /// empty if there was none.
    ///
    /// # Errors
    /// Why it is refused; and who it names, if a caller shows what belongs to another.
    pub fn check(
        &self,
        issuers: &Issuers,
        generation: u64,
        token: &str,
        query_hash: &str,
        principal: &Principal,
        now: Timestamp,
    ) -> Result<Arc<Claims>, (Refused, Option<Arc<Claims>>)> {
        let alone = |refused: Refused| (refused, None);
        let parts = Parts::cut(token).map_err(|flaw| alone(flaw.into()))?;
        let id: TokenId = Sha256::digest(parts.signed).into();
        let signature: [u8; 32] = Sha256::digest(parts.signature).into();
        // Before the keys are asked: what is checked while they change is checked again.
        let generation = (generation, issuers.revision());
        let claims = match self.known(&id, &signature, generation) {
            Some(claims) => claims,
            None => Arc::new(issuers.vouch(parts, now).map_err(alone)?),
        };
        claims.hold(now, query_hash).map_err(alone)?;
        let entry = Entry {
            principal: principal.clone(),
            claims: Arc::clone(&claims),
            signature,
            generation,
        };
        match self.bind(id, entry, now) {
            Ok(()) => Ok(claims),
            Err(Refused::Bound) => Err((Refused::Bound, Some(claims))),
            Err(refused) => Err(alone(refused)),
        }
    }

    /// What was found out about a token before.
    fn known(
        &self,
        id: &TokenId,
        signature: &[u8; 32],
        generation: (u64, u64),
    ) -> Option<Arc<Claims>> {
        let tokens = self.tokens.lock();
        let entry = tokens.by_id.get(id)?;
        let same = entry.signature == *signature && entry.generation == generation;
        same.then(|| Arc::clone(&entry.claims))
    }

    /// Binds a token to its caller, unless it is another's or there is no place for one more.
    fn bind(&self, id: TokenId, entry: Entry, now: Timestamp) -> Result<(), Refused> {
        let now = now.unix_nanos().div_euclid(1_000_000_000);
        let mut tokens = self.tokens.lock();
        if let Some(known) = tokens.by_id.get_mut(&id) {
            if known.principal != entry.principal {
                return Err(Refused::Bound);
            }
            *known = entry;
            return Ok(());
        }
        // INVARIANT: only what is refused as expired is forgotten.
        while let Some(first @ (ends, over)) = tokens.ends.first().copied()
            && ends <= now
        {
            tokens.ends.remove(&first);
            if let Some(gone) = tokens.by_id.remove(&over) {
                tokens.give_back(&gone.principal);
            }
        }
        let own = tokens.places.get(&entry.principal).copied().unwrap_or(0);
        if tokens.by_id.len() >= self.most || own >= self.most.div_ceil(SHARE) {
            return Err(Refused::Full);
        }
        tokens.places.insert(entry.principal.clone(), own + 1);
        tokens.ends.insert((entry.claims.ends(), id));
        tokens.by_id.insert(id, entry);
        Ok(())
    }
}
