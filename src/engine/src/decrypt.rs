//! How a decrypt travels: permit, look up, open, record, release.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use fieldseal_audit::{CallEvent, Item, ItemOutcome, VerdictIndex};
use fieldseal_keys::{DataKeyHandle, OpenCause, Opened, Opening, OpeningKey, Owner, Unusable};
use fieldseal_model::{Action, Context, KeyId, Malformed, MalformedReason, Partition};
use fieldseal_policy::Permit;

use crate::call::{Caller, DecryptCall, DecryptItem, DecryptReply, OpenedItem, SealedInput};
use crate::call_rules::FieldRules;
use crate::engine::Engine;
use crate::gather::gather;
use crate::gone::{Stated, is_gone, told};
use crate::refusal::{Refusal, RefusalCause, event_name};
use crate::rulings::Rulings;
use crate::tokens::Tokens;

/// Values that are opened before other calls get their turn: about 50 µs of short ones.
const SLICE: usize = 48;

/// An item on its way: allowed and looked up, or already refused.
enum Step {
    Open { permit: Permit, verdict: VerdictIndex, data_key: DataKeyHandle },
    Refused { verdict: VerdictIndex, outcome: ItemOutcome, cause: RefusalCause, stated: bool },
}

/// A data key, or why it cannot be used and whose it is.
type LookedUp = Result<DataKeyHandle, (RefusalCause, Option<Owner>)>;

impl Engine {
    /// Opens values. The RPC as a whole fails only if nothing can be recorded.
    ///
    /// # Errors
    /// `AuditUnavailable` or `AuditBusy`: nothing was released.
    pub async fn decrypt(
        &self,
        caller: &Caller,
        action: Action,
        call: DecryptCall,
    ) -> Result<DecryptReply, Refusal> {
        self.journal_ready()?;
        let guard = self.inner.keys.enter();
        let now = self.inner.clock.now();
        let mut event = CallEvent::new(&caller.principal, action, &call.reason, now);
        event.reserve(call.items.len());
        let steps = self.look_up(caller, action, &call, &mut event).await;
        let (opening, outcomes) = self.open(action, &call, &steps, &mut event).await;
        let recorded = self.inner.journal.commit(event, opening.into_withheld()).await?;
        let (opened, receipt) = recorded.into_parts();
        let (buffer, items) = self.release(opened, steps, outcomes, &event_name(&receipt));
        Ok(DecryptReply { buffer, items, receipt, guard })
    }

    /// Policy first, then the data keys: each once, from memory or one read.
    async fn look_up(
        &self,
        caller: &Caller,
        action: Action,
        call: &DecryptCall,
        event: &mut CallEvent,
    ) -> Vec<Step> {
        let mut rulings = Rulings::new(self, caller, action, &call.reason, &call.fields);
        let rules = FieldRules::new(&self.inner.keys, &call.fields, Some(&call.reason));
        let admitted = call.items.iter().map(|item| admit(&mut rulings, &rules, event, call, item));
        let admitted: Vec<_> = admitted.collect();
        let wanted = admitted.iter().filter_map(|item| item.as_ref().ok());
        let wanted = wanted.map(|(_, _, input)| input.key_id);
        let load = |id| async move {
            let found = self.inner.keys.data_key(id).await;
            found.map_err(|Unusable { error, owner }| (RefusalCause::from(error), owner))
        };
        let found = gather(wanted, load).await;
        let gone = admitted.iter().filter_map(|item| {
            let (permit, _, input) = item.as_ref().ok()?;
            let failed = found.get(&input.key_id)?.as_ref().err();
            let is_gone = failed.is_some_and(|(cause, _)| is_gone(cause));
            is_gone.then(|| stated(permit, input)).flatten()
        });
        let shredded = self.shredded(gone).await;
        let mut last: Option<(KeyId, &LookedUp)> = None;
        let mut step = |(permit, verdict, input): (Permit, VerdictIndex, &SealedInput)| {
            let id = input.key_id;
            if last.is_none_or(|(of, _)| of != id) {
                last = found.get(&id).map(|looked_up| (id, looked_up));
            }
            match last {
                Some((_, Ok(data_key))) => {
                    Step::Open { permit, verdict, data_key: data_key.clone() }
                }
                Some((_, Err((cause, _)))) if is_gone(cause) => {
                    let of = stated(&permit, input);
                    let (cause, outcome) = told(cause, of.and_then(|of| shredded.get(&of)));
                    Step::Refused { verdict, outcome, cause, stated: true }
                }
                Some((_, Err((cause, owner)))) => {
                    let other = owner.as_ref().zip(permit.key());
                    let other = other.and_then(|(o, key)| o.other_than(key, &input.partition));
                    match other {
                        Some(other) => Step::Refused {
                            verdict,
                            outcome: ItemOutcome::Failed(other.as_str()),
                            cause: other.into(),
                            stated: true,
                        },
                        None => unavailable(cause.clone(), verdict),
                    }
                }
                None => {
                    unavailable(RefusalCause::Internal("a data key was not looked up"), verdict)
                }
            }
        };
        admitted.into_iter().map(|item| item.map_or_else(|refused| refused, &mut step)).collect()
    }

    /// Opens what was looked up and writes every item's outcome into the event.
    async fn open(
        &self,
        action: Action,
        call: &DecryptCall,
        steps: &[Step],
        event: &mut CallEvent,
    ) -> (Opening, Vec<Result<(), OpenCause>>) {
        let bytes = call.items.iter().filter_map(|i| i.input.as_ref().ok());
        let bytes = bytes.map(|i| i.ciphertext.len()).sum();
        let mut opening = Opening::with_capacity(steps.len(), bytes, self.inner.clock.now());
        let mut outcomes = Vec::with_capacity(steps.len());
        let mut tokens = Tokens::new(self, &call.fields);
        let mut ready = ReadyKeys::new(call);
        for (at, (item, step)) in call.items.iter().zip(steps).enumerate() {
            if at % SLICE == SLICE - 1 {
                tokio::task::yield_now().await;
            }
            let (verdict, key_version, outcome, opened) = match (step, &item.input) {
                (Step::Open { permit, verdict, data_key }, Ok(input)) => {
                    let opened = ready
                        .key(action, permit, data_key, item.field, input)
                        .unwrap_or(Err(OpenCause::NotPermitted));
                    let opened = match opened {
                        Ok(key) => opening.open(key, &input.row, &input.ciphertext),
                        Err(cause) => {
                            opening.skip();
                            Err(cause)
                        }
                    };
                    let outcome = match opened {
                        Ok(()) => ItemOutcome::Ok,
                        Err(cause) => ItemOutcome::Failed(cause.as_str()),
                    };
                    (*verdict, reached(data_key, opened), outcome, opened)
                }
                (Step::Refused { verdict, outcome, .. }, _) => {
                    opening.skip();
                    (*verdict, 0, outcome.clone(), Ok(()))
                }
                (Step::Open { verdict, .. }, Err(_)) => {
                    opening.skip();
                    let cause = OpenCause::NotPermitted;
                    (*verdict, 0, ItemOutcome::Failed(cause.as_str()), Err(cause))
                }
            };
            let stated = !matches!(step, Step::Refused { stated: false, .. });
            let input = item.input.as_ref().ok().filter(|_| stated);
            let input = input.map(|input| (&input.partition, &input.row));
            let (partition, row) = tokens.of(item.field, input);
            event.item(verdict, Item { partition, row, key_version, outcome });
            outcomes.push(opened);
        }
        (opening, outcomes)
    }

    fn release(
        &self,
        opened: Opened,
        steps: Vec<Step>,
        outcomes: Vec<Result<(), OpenCause>>,
        event: &Arc<str>,
    ) -> (zeroize::Zeroizing<Vec<u8>>, Vec<Result<OpenedItem, Refusal>>) {
        let (buffer, values) = opened.into_parts();
        let mut count = 0;
        // Neighbours mostly have the same key version.
        let mut last: Option<(Arc<str>, bool)> = None;
        let items = steps.into_iter().zip(outcomes).zip(values).map(|((step, outcome), value)| {
            match (step, outcome, value) {
                (Step::Open { data_key, .. }, Ok(()), Some(value)) => {
                    count += 1;
                    let name = data_key.version_name();
                    let is_old = match &last {
                        Some((of, is_old)) if Arc::ptr_eq(of, name) => *is_old,
                        _ => self.inner.keys.is_old(&data_key),
                    };
                    if last.as_ref().is_none_or(|(of, _)| !Arc::ptr_eq(of, name)) {
                        last = Some((Arc::clone(name), is_old));
                    }
                    Ok(OpenedItem {
                        content: value.content,
                        range: value.range,
                        key_version: Arc::clone(name),
                        reencrypt_suggested: is_old,
                    })
                }
                (Step::Refused { cause, .. }, _, _) => Err(Refusal::new(cause).at(event)),
                (_, Err(cause), _) => Err(Refusal::new(cause).at(event)),
                (_, Ok(()), None) => {
                    Err(Refusal::new(RefusalCause::Internal("an opened value is missing")))
                }
            }
        });
        let items = items.collect();
        self.inner.opened.fetch_add(count, Ordering::Relaxed);
        (buffer, items)
    }
}

/// Parses no more: decides. An `Err` is an item that is already refused.
fn admit<'c>(
    rulings: &mut Rulings<'_>,
    rules: &FieldRules,
    event: &mut CallEvent,
    call: &'c DecryptCall,
    item: &'c DecryptItem,
) -> Result<(Permit, VerdictIndex, &'c SealedInput), Step> {
    let malformed = |event: &mut CallEvent, rulings: &mut Rulings<'_>, what: Malformed| {
        let verdict = rulings.malformed(event, item.field, &what);
        let outcome = ItemOutcome::Failed(what.reason().as_str());
        Step::Refused { verdict, outcome, cause: what.into(), stated: false }
    };
    let input = match checked(call, item) {
        Ok(input) => input,
        Err(what) => return Err(malformed(event, rulings, what)),
    };
    match rulings.decide(event, item.field, &input.partition) {
        Ok((Ok(permit), verdict)) => match rules.check(item.field, &input.partition, &input.row) {
            Ok(()) => Ok((permit.clone(), verdict, input)),
            Err(what) => Err(unavailable(what.into(), verdict)),
        },
        Ok((Err(_), verdict)) => Err(Step::Refused {
            verdict,
            outcome: ItemOutcome::Denied,
            cause: RefusalCause::Denied,
            stated: true,
        }),
        Err(_) => {
            let what = "an item of a field that does not exist";
            let what = Malformed::new(MalformedReason::FieldIndexInvalid, what);
            Err(malformed(event, rulings, what))
        }
    }
}

fn checked<'c>(call: &DecryptCall, item: &'c DecryptItem) -> Result<&'c SealedInput, Malformed> {
    let input = item.input.as_ref().map_err(Clone::clone)?;
    if let Some(field) = call.fields.get(item.field) {
        Context::new(field, &input.partition, &input.row)?;
    }
    Ok(input)
}

/// The key version that an item reached: none if the data key is not of the key and partition that
/// were stated, because the number would be read as one of the stated key's.
fn reached(data_key: &DataKeyHandle, opened: Result<(), OpenCause>) -> u32 {
    match opened {
        Err(OpenCause::OtherKey | OpenCause::OtherPartition | OpenCause::NotPermitted) => 0,
        _ => data_key.key_version().number.get(),
    }
}

/// The key and the partition that an item states.
fn stated(permit: &Permit, input: &SealedInput) -> Option<Stated> {
    Some((permit.key()?.clone(), input.partition.clone()))
}

fn unavailable(cause: RefusalCause, verdict: VerdictIndex) -> Step {
    Step::Refused { verdict, outcome: ItemOutcome::Failed(cause.reason()), cause, stated: true }
}

/// The key of one data key and partition, ready for a field's rows, or why it is not.
type ReadyKey<'a> = (KeyId, &'a Partition, Result<OpeningKey<'a>, OpenCause>);

/// The ready keys of a call: for each field the last one, because rows of a column share it.
struct ReadyKeys<'a> {
    call: &'a DecryptCall,
    last: Vec<Option<ReadyKey<'a>>>,
}

impl<'a> ReadyKeys<'a> {
    fn new(call: &'a DecryptCall) -> Self {
        Self { call, last: call.fields.iter().map(|_| None).collect() }
    }

    fn key(
        &mut self,
        action: Action,
        permit: &Permit,
        data_key: &'a DataKeyHandle,
        field: usize,
        input: &'a SealedInput,
    ) -> Option<Result<&OpeningKey<'a>, OpenCause>> {
        let of = self.call.fields.get(field)?;
        let slot = self.last.get_mut(field)?;
        let same = slot.as_ref().is_some_and(|(id, partition, _)| {
            *id == input.key_id && **partition == input.partition
        });
        if !same {
            let key = data_key.opening(permit, action, of, &input.partition);
            *slot = Some((input.key_id, &input.partition, key));
        }
        slot.as_ref().map(|(_, _, key)| key.as_ref().map_err(|cause| *cause))
    }
}
