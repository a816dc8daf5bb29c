//! What operators do meanwhile: rotate, rewrap, shred, restore, disable and enable.

use fieldseal_client::v1;
use tonic::Response;

use super::load::{Caller, PEOPLE, reason, turning};
use super::told::{Fate, Sealed};

/// Data keys a second of a rewrap that is to last until a kill.
const SLOWLY: i32 = 400;

impl Caller {
    pub(super) async fn rotate(&mut self, key: String, ticket: String) -> Option<()> {
        let name = format!("keys/{key}");
        let request = v1::RotateKeyRequest { name, reason: reason(&ticket), ..Default::default() };
        let mut client = self.ops.keys();
        let answer = self.life.answer(client.rotate_key(request)).await;
        if let Some(answer) = &answer {
            self.told.version(&answer.primary_version);
            self.told.done.rotations += 1;
            if key == super::load::locked(self.number) {
                self.locked.push((true, answer.primary_version.clone()));
            }
        }
        self.receipt(ticket, answer.map(|answer| answer.receipt))
    }

    /// Starts a rewrap, unless one is running.
    pub(super) async fn rewrap(&mut self, ticket: String) -> Option<()> {
        let key = turning(self.number);
        let request = v1::RewrapDataKeysRequest {
            name: format!("keys/{key}"),
            reason: reason(&ticket),
            max_per_second: if key == PEOPLE { SLOWLY } else { 0 },
            ..Default::default()
        };
        let mut client = self.ops.keys();
        let call = client.rewrap_data_keys(request);
        let Some(answer) = self.life.answer_or(call, "REWRAP_RUNNING").await else {
            return self.receipt(ticket, None);
        };
        let Some(answer) = answer else { return Some(()) };
        self.told.rewraps.insert(key);
        self.told.done.rewraps += 1;
        self.receipt(ticket, Some(answer.receipt))
    }

    /// Shreds the partition of the newest value that has one of its own.
    pub(super) async fn shred(&mut self, ticket: String, erases: bool) -> Option<()> {
        let Some(at) = self.held.iter().rposition(|sealed| sealed.key == PEOPLE) else {
            return Some(());
        };
        let sealed = self.held.remove(at);
        let request = v1::ShredPartitionRequest {
            name: format!("keys/{PEOPLE}"),
            partition: sealed.partition.clone(),
            window: erases.then(Default::default),
            reason: reason(&ticket),
            ..Default::default()
        };
        let fate = if erases { Fate::Going } else { Fate::Shredded };
        let mut client = self.ops.keys();
        let answer = self.life.answer(client.shred_partition(request)).await;
        let there = self.fate(&sealed, fate, answer.is_some());
        if there.is_some() {
            self.told.done.shreds += 1;
            self.told.done.erasures += u32::from(erases);
            if !erases {
                self.shredded.push(sealed);
            }
        }
        self.receipt(ticket, answer.map(|answer| answer.receipt))
    }

    /// Takes a shred back.
    pub(super) async fn restore(&mut self, ticket: String) -> Option<()> {
        let Some(sealed) = self.shredded.pop() else { return Some(()) };
        let request = v1::RestorePartitionRequest {
            name: format!("keys/{PEOPLE}"),
            partition: sealed.partition.clone(),
            reason: reason(&ticket),
            ..Default::default()
        };
        let mut client = self.ops.keys();
        let answer = self.life.answer(client.restore_partition(request)).await;
        if self.fate(&sealed, Fate::Open, answer.is_some()).is_some() {
            self.told.done.restores += 1;
            self.held.push(sealed);
        }
        self.receipt(ticket, answer.map(|answer| answer.receipt))
    }

    fn fate(&mut self, sealed: &Sealed, fate: Fate, is_told: bool) -> Option<()> {
        let fates = &mut self.told.fates;
        let states = if is_told { &mut fates.known } else { &mut fates.asked };
        states.insert(sealed.partition.clone(), fate);
        is_told.then_some(())
    }

    /// Disables the version before the primary one of its own key, or enables one that is disabled.
    pub(super) async fn turn_version(&mut self, ticket: String) -> Option<()> {
        let Some(newest) = self.locked.len().checked_sub(2) else { return Some(()) };
        let locked = self.locked.iter().position(|(enabled, _)| !enabled);
        let at = locked.filter(|_| ticket.len().is_multiple_of(2)).unwrap_or(newest);
        let (was_enabled, name) = self.locked[at].clone();
        let (mut client, reason) = (self.ops.keys(), reason(&ticket));
        let answer = if was_enabled {
            let name = name.clone();
            let request = v1::DisableKeyVersionRequest { name, reason, ..Default::default() };
            let call = async { client.disable_key_version(request).await.map(disabled) };
            self.life.answer(call).await
        } else {
            let name = name.clone();
            let request = v1::EnableKeyVersionRequest { name, reason, ..Default::default() };
            let call = async { client.enable_key_version(request).await.map(enabled) };
            self.life.answer(call).await
        };
        let versions = &mut self.told.enabled;
        let states = if answer.is_some() { &mut versions.known } else { &mut versions.asked };
        states.insert(name.clone(), !was_enabled);
        if answer.is_some() {
            self.locked[at].0 = !was_enabled;
            self.told.done.disables += u32::from(was_enabled);
            self.told.done.enables += u32::from(!was_enabled);
            // Its values open, or do not: the checks after the kill look at that.
            self.held.retain(|sealed| sealed.version != name);
        }
        self.receipt(ticket, answer)
    }
}

type Receipt = Option<v1::AuditReceipt>;

fn disabled(answer: Response<v1::DisableKeyVersionResponse>) -> Response<Receipt> {
    answer.map(|answer| answer.receipt)
}

fn enabled(answer: Response<v1::EnableKeyVersionResponse>) -> Response<Receipt> {
    answer.map(|answer| answer.receipt)
}
