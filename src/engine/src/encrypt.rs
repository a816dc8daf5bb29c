//! How an encrypt travels: permit, find or make the data key, seal. Refusals are recorded.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use fieldseal_audit::{CallEvent, Item, ItemOutcome, VerdictIndex};
use fieldseal_crypto::field::{self, Header, OVERHEAD_BYTES, SALT_BYTES};
use fieldseal_crypto::random;
use fieldseal_keys::{CallGuard, Sealer, SealingKey};
use fieldseal_model::{
    AccessReason, Action, Context, KeyId, Malformed, MalformedReason, Partition,
};
use fieldseal_policy::Permit;
use futures_util::future::join_all;

use crate::call::{Caller, EncryptCall, EncryptItem, EncryptReply, PlainInput, SealedItem};
use crate::call_rules::FieldRules;
use crate::engine::Engine;
use crate::gather::gather;
use crate::refusal::{Refusal, RefusalCause, event_name};
use crate::rulings::Rulings;
use crate::tokens::Tokens;

/// Values that are sealed before other calls get their turn: about 50 µs of short ones.
const SLICE: usize = 48;

/// A data key that a call needs, and for how many of its values.
struct Need<'a> {
    field: usize,
    partition: &'a Partition,
    permit: Permit,
    verdict: VerdictIndex,
    count: u32,
}

/// Where an item's data key stands, or why the item is refused.
type Assigned = Result<usize, RefusalCause>;

impl Engine {
    /// Seals values. An item that is refused fails alone; refusals are on record before the
    /// answer.
    ///
    /// # Errors
    /// `AuditUnavailable` where something must be recorded and cannot be; no randomness.
    pub async fn encrypt(
        &self,
        caller: &Caller,
        action: Action,
        call: EncryptCall,
    ) -> Result<EncryptReply, Refusal> {
        let reason = &call.reason;
        let guard = self.inner.keys.enter();
        let now = self.inner.clock.now();
        let mut event = CallEvent::new(&caller.principal, action, reason, now);
        let rules = FieldRules::new(&self.inner.keys, &call.fields, None);
        if rules.any_logs_encrypts() {
            self.journal_ready()?;
        }
        let (needs, assigned, mut recorded) =
            self.assign(caller, action, reason, &call, &rules, &mut event).await;
        let sealers = join_all(needs.iter().map(|need| self.sealer(action, reason, &call, need)));
        let sealers = sealers.await;
        let mut reply = self.seal(&call, &assigned, &sealers, guard).await?;
        recorded |= self.log_sealed(&call, &rules, &needs, &assigned, &sealers, &mut event);
        if recorded {
            let receipt = self.inner.journal.record(event).await?;
            let name = event_name(&receipt);
            for item in &mut reply.items {
                if let Err(refusal) = item {
                    refusal.event = Some(Arc::clone(&name));
                }
            }
        }
        Ok(reply)
    }

    async fn sealer(
        &self,
        action: Action,
        reason: &AccessReason,
        call: &EncryptCall,
        need: &Need<'_>,
    ) -> Result<Sealer, RefusalCause> {
        const LOST: RefusalCause = RefusalCause::Internal("an item of a field that does not exist");
        let field = call.fields.get(need.field).ok_or(LOST)?;
        let keys = &self.inner.keys;
        let sealer =
            keys.sealer(&need.permit, action, reason, field, need.partition, need.count).await;
        sealer.map_err(RefusalCause::from)
    }

    /// Decides every item and groups the allowed ones by data key. The last part of the answer is
    /// true if the event has something to record.
    async fn assign<'a>(
        &self,
        caller: &Caller,
        action: Action,
        reason: &AccessReason,
        call: &'a EncryptCall,
        rules: &FieldRules,
        event: &mut CallEvent,
    ) -> (Vec<Need<'a>>, Vec<Assigned>, bool) {
        let mut rulings = Rulings::new(self, caller, action, reason, &call.fields);
        let mut recorded = false;
        let mut admitted = Vec::with_capacity(call.items.len());
        for item in &call.items {
            let input = admit(&mut rulings, rules, event, call, item);
            recorded |= matches!(input, Err(RefusalCause::Denied));
            admitted.push(input);
        }
        // Only now: whether a data key exists is told to nobody who may not use it.
        self.refuse_sealed(&mut admitted).await;
        let mut needs = Needs::default();
        let assigned = call.items.iter().zip(admitted).map(|(item, input)| {
            let partition = &input?.partition;
            needs.place(item.field, partition, || {
                let (decision, verdict) = rulings.decide(event, item.field, partition)?;
                decision.clone().map(|permit| (permit, verdict)).map_err(|_| RefusalCause::Denied)
            })
        });
        let assigned = assigned.collect();
        (needs.needs, assigned, recorded)
    }

    /// Refuses what is sealed here already unless the caller means it.
    async fn refuse_sealed(&self, admitted: &mut [Result<&PlainInput, RefusalCause>]) {
        let sealed =
            |input: &Result<&PlainInput, _>| input.as_ref().ok().and_then(|i| sealed_as(i));
        let ids: Vec<Option<KeyId>> = admitted.iter().map(sealed).collect();
        if ids.iter().all(Option::is_none) {
            return;
        }
        let load = |id| async move {
            self.inner.keys.is_sealed_here(id).await.map_err(RefusalCause::from)
        };
        let found = gather(ids.iter().flatten().copied(), load).await;
        for (input, id) in admitted.iter_mut().zip(ids) {
            match id.and_then(|id| found.get(&id)) {
                Some(Ok(true)) => {
                    let what = "the value is sealed already; set allow_sealed_plaintext to seal \
                                it once more";
                    let reason = MalformedReason::PlaintextAlreadySealed;
                    *input = Err(Malformed::new(reason, what).into());
                }
                Some(Err(cause)) => *input = Err(cause.clone()),
                Some(Ok(false)) | None => {}
            }
        }
    }

    /// Writes into the event what was sealed for keys that want it on record; true if anything was.
    fn log_sealed(
        &self,
        call: &EncryptCall,
        rules: &FieldRules,
        needs: &[Need<'_>],
        assigned: &[Assigned],
        sealers: &[Result<Sealer, RefusalCause>],
        event: &mut CallEvent,
    ) -> bool {
        if !rules.any_logs_encrypts() {
            return false;
        }
        let mut tokens = Tokens::new(self, &call.fields);
        let mut logged = false;
        for (item, place) in call.items.iter().zip(assigned) {
            let (Ok(place), Ok(input)) = (place, &item.input) else { continue };
            let (Some(need), Some(sealer)) = (needs.get(*place), sealers.get(*place)) else {
                continue;
            };
            if !rules.logs_encrypts(item.field) {
                continue;
            }
            let (key_version, outcome) = match sealer {
                Ok(sealer) => (sealer.key_version().number.get(), ItemOutcome::Ok),
                Err(cause) => (0, ItemOutcome::Failed(cause.reason())),
            };
            let (partition, row) = tokens.of(item.field, Some((&input.partition, &input.row)));
            event.item(need.verdict, Item { partition, row, key_version, outcome });
            logged = true;
        }
        logged
    }

    async fn seal(
        &self,
        call: &EncryptCall,
        assigned: &[Assigned],
        sealers: &[Result<Sealer, RefusalCause>],
        guard: CallGuard,
    ) -> Result<EncryptReply, Refusal> {
        const LOST: RefusalCause = RefusalCause::Internal("an item without a data key");
        let bytes = call.items.iter().filter_map(|item| item.input.as_ref().ok());
        let bytes: usize = bytes.map(|input| input.value.len() + OVERHEAD_BYTES).sum();
        // One call of the operating system for all salts (DESIGN: never a user-space generator).
        let mut salts = vec![0; SALT_BYTES * call.items.len()];
        random::fill(&mut salts)?;
        let mut buffer = Vec::with_capacity(bytes);
        let mut ready: Vec<Option<(usize, SealingKey<'_>)>> =
            call.fields.iter().map(|_| None).collect();
        let mut items = Vec::with_capacity(call.items.len());
        let mut sealed = 0;
        for (at, (item, place)) in call.items.iter().zip(assigned).enumerate() {
            if at % SLICE == SLICE - 1 {
                tokio::task::yield_now().await;
            }
            let one = || -> Result<SealedItem, RefusalCause> {
                let place = place.as_ref().map_err(Clone::clone)?;
                let sealer = sealers.get(*place).ok_or(LOST)?.as_ref().map_err(Clone::clone)?;
                let input = item.input.as_ref().map_err(|_| LOST)?;
                let slot = ready.get_mut(item.field).ok_or(LOST)?;
                if slot.as_ref().is_none_or(|(of, _)| of != place) {
                    let field = call.fields.get(item.field).ok_or(LOST)?;
                    *slot = Some((*place, sealer.sealing_key(field)?));
                }
                let (_, key) = slot.as_ref().ok_or(LOST)?;
                let salt = salts.chunks_exact(SALT_BYTES).nth(at);
                let salt = salt.and_then(|s| s.try_into().ok()).ok_or(LOST)?;
                let start = buffer.len();
                key.seal(&input.row, salt, input.content, &input.value, &mut buffer);
                sealed += 1;
                let key_version = Arc::clone(sealer.version_name());
                Ok(SealedItem { range: start..buffer.len(), key_version })
            };
            items.push({ one }().map_err(Refusal::new));
        }
        self.inner.sealed.fetch_add(sealed, Ordering::Relaxed);
        Ok(EncryptReply { buffer, items, guard })
    }
}

/// The data keys that a call needs, each once.
#[derive(Default)]
struct Needs<'a> {
    needs: Vec<Need<'a>>,
    places: HashMap<(usize, &'a str), usize>,
    last: Option<(usize, &'a str, usize)>,
}

impl<'a> Needs<'a> {
    /// The place of a field's and partition's data key, which one more value needs.
    fn place(
        &mut self,
        field: usize,
        partition: &'a Partition,
        permit: impl FnOnce() -> Result<(Permit, VerdictIndex), RefusalCause>,
    ) -> Assigned {
        let name = partition.as_str();
        let known = match self.last {
            Some((of, last, place)) if of == field && last == name => Some(place),
            _ => self.places.get(&(field, name)).copied(),
        };
        let place = match known {
            Some(place) => place,
            None => {
                let (permit, verdict) = permit()?;
                self.needs.push(Need { field, partition, permit, verdict, count: 0 });
                let place = self.needs.len() - 1;
                self.places.insert((field, name), place);
                place
            }
        };
        self.last = Some((field, name, place));
        if let Some(need) = self.needs.get_mut(place) {
            need.count = need.count.saturating_add(1);
        }
        Ok(place)
    }
}

/// Refuses what is malformed and what policy denies. Nothing is looked up.
fn admit<'a>(
    rulings: &mut Rulings<'_>,
    rules: &FieldRules,
    event: &mut CallEvent,
    call: &EncryptCall,
    item: &'a EncryptItem,
) -> Result<&'a PlainInput, RefusalCause> {
    let input = item.input.as_ref().map_err(Clone::clone)?;
    if let Some(field) = call.fields.get(item.field) {
        Context::new(field, &input.partition, &input.row)?;
    }
    let (decision, verdict) = rulings.decide(event, item.field, &input.partition)?;
    if decision.is_err() {
        let outcome = ItemOutcome::Denied;
        event.item(verdict, Item { partition: None, row: None, key_version: 0, outcome });
        return Err(RefusalCause::Denied);
    }
    rules.check(item.field, &input.partition, &input.row)?;
    Ok(input)
}

/// The data key of a value that looks like a ciphertext, unless its caller means it: with the line
/// end that a file puts behind it, too. Text that only begins like one is plain text.
fn sealed_as(input: &PlainInput) -> Option<KeyId> {
    if input.allow_sealed || input.value.len() <= OVERHEAD_BYTES {
        return None;
    }
    let binary = field::decode_text(input.value.trim_ascii()).ok()?;
    Header::parse(&binary).ok().map(|header| header.key_id)
}
