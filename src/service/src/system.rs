//! `SystemService`.

use fieldseal_api::v1;
use fieldseal_api::v1::system_service_server::SystemService;
use fieldseal_engine::backup::{Made, Pruned};
use fieldseal_engine::{AnchorState, Engine, ExportState, RetentionState, ScrubState, Scrubbed};
use fieldseal_model::{InstallationId, hex};
use tonic::{Request, Response, Status};

use crate::approvals;
use crate::caller::caller;
use crate::encryption::wire_receipt;
use crate::errors::status;
use crate::parse;
use crate::wire_key::wire_time;

/// Handles `SystemService`.
#[derive(Clone)]
pub struct SystemHandler {
    engine: Engine,
    installation: InstallationId,
    pages_locked: fn() -> bool,
}

impl SystemHandler {
    /// Handles calls with this engine. `pages_locked` says whether all key pages are locked.
    #[must_use]
    pub fn new(engine: Engine, installation: InstallationId, pages_locked: fn() -> bool) -> Self {
        Self { engine, installation, pages_locked }
    }
}

#[tonic::async_trait]
impl SystemService for SystemHandler {
    async fn get_status(
        &self,
        request: Request<v1::GetStatusRequest>,
    ) -> Result<Response<v1::GetStatusResponse>, Status> {
        let caller = caller(&request)?;
        let found = self.engine.status(&caller).await.map_err(|r| status(&r))?;
        let (store_health, store_detail) = store(&found.store);
        let (audit_health, audit_detail) = audit(&found.audit);
        let (scrub, damage) = scrub(&found.scrub);
        let details = [store_detail, audit_detail, damage];
        let details = details.into_iter().flatten().collect::<Vec<_>>();
        let protection = if (self.pages_locked)() {
            v1::MemoryProtection::Locked
        } else {
            v1::MemoryProtection::Unlocked
        };
        let micros = |d: std::time::Duration| i64::try_from(d.as_micros()).unwrap_or(i64::MAX);
        let journal = v1::JournalStatistics {
            syncs: signed(found.journal.syncs),
            records: signed(found.journal.records),
            sync_p50_us: micros(found.journal.sync_p50),
            sync_p99_us: micros(found.journal.sync_p99),
            group_size_mean: found.journal.group_size_mean,
        };
        Ok(Response::new(v1::GetStatusResponse {
            version: found.version.to_owned(),
            installation: self.installation.to_string(),
            ready: found.ready,
            store_health: store_health.into(),
            audit_health: audit_health.into(),
            health_detail: details.join("; "),
            log_origin: found.log_origin,
            log_tree_size: signed(found.log_tree_size),
            keys: signed(found.keys as u64),
            data_keys_cached: signed(found.data_keys_cached as u64),
            data_keys_cached_limit: signed(found.data_keys_cached_limit as u64),
            policy_digest: hex::encode(&found.policy_digest),
            memory_protection: protection.into(),
            start_time: Some(wire_time(found.started_at)),
            journal: Some(journal),
            backup: Some(v1::BackupStatus {
                newest_time: found.backup.newest.map(wire_time),
                failure: found.backup.failed.unwrap_or_default().to_owned(),
                data_keys_at_risk: signed(found.data_keys_at_risk),
                copied: found.copied,
                copy_trouble: found.copy_trouble.unwrap_or_default(),
                copy_shares_volume: found.copy_shares_volume,
            }),
            scrub: Some(scrub),
            anchors: found.anchors.into_iter().map(wire_anchor).collect(),
            exports: found.exports.into_iter().map(wire_export).collect(),
            retention: found.retention.into_iter().map(wire_retention).collect(),
            audit_redaction_unfinished: found.redaction_unfinished,
        }))
    }

    async fn reload_policy(
        &self,
        request: Request<v1::ReloadPolicyRequest>,
    ) -> Result<Response<v1::ReloadPolicyResponse>, Status> {
        let caller = caller(&request)?;
        let reason = parse::reason(request.get_ref().reason.as_ref());
        let reason = reason.map_err(|what| status(&what.into()))?;
        let reloaded = self.engine.reload_policy(&caller, &reason).await;
        let reloaded = reloaded.map_err(|r| status(&r))?;
        Ok(Response::new(v1::ReloadPolicyResponse {
            policy_digest: hex::encode(&reloaded.digest),
            previous_policy_digest: hex::encode(&reloaded.previous),
            receipt: Some(wire_receipt(&reloaded.receipt)),
        }))
    }

    async fn create_backup(
        &self,
        request: Request<v1::CreateBackupRequest>,
    ) -> Result<Response<v1::CreateBackupResponse>, Status> {
        let caller = caller(&request)?;
        let reason = parse::reason(request.get_ref().reason.as_ref());
        let reason = reason.map_err(|what| status(&what.into()))?;
        let made = self.engine.create_backup(&caller, &reason).await.map_err(|r| status(&r))?;
        Ok(Response::new(wire_backup(&made)))
    }

    async fn list_approvals(
        &self,
        request: Request<v1::ListApprovalsRequest>,
    ) -> Result<Response<v1::ListApprovalsResponse>, Status> {
        approvals::list(&self.engine, request).await
    }

    async fn approve_change(
        &self,
        request: Request<v1::ApproveChangeRequest>,
    ) -> Result<Response<v1::ApproveChangeResponse>, Status> {
        approvals::approve(&self.engine, request).await
    }

    async fn reject_change(
        &self,
        request: Request<v1::RejectChangeRequest>,
    ) -> Result<Response<v1::RejectChangeResponse>, Status> {
        approvals::reject(&self.engine, request).await
    }

    async fn prune_backups(
        &self,
        request: Request<v1::PruneBackupsRequest>,
    ) -> Result<Response<v1::PruneBackupsResponse>, Status> {
        let caller = caller(&request)?;
        let v1::PruneBackupsRequest { reason, validate_only } = request.get_ref();
        let reason = parse::reason(reason.as_ref()).map_err(|what| status(&what.into()))?;
        let pruned = self.engine.prune_backups(&caller, &reason, *validate_only).await;
        let pruned = pruned.map_err(|r| status(&r))?;
        let directory = self.engine.backup_directory();
        let directory = directory.map(|path| path.display().to_string()).unwrap_or_default();
        Ok(Response::new(wire_pruned(&pruned, directory)))
    }
}

fn wire_anchor(found: AnchorState) -> v1::AnchorStatus {
    v1::AnchorStatus {
        kind: found.kind.to_owned(),
        posted_records: signed(found.posted.unwrap_or(0)),
        post_time: found.posted_at.map(wire_time),
        records_behind: signed(found.behind),
        failure: found.failure.unwrap_or_default(),
    }
}

fn wire_export(found: ExportState) -> v1::ExportStatus {
    v1::ExportStatus {
        kind: found.kind.to_owned(),
        exported_records: signed(found.exported),
        records_behind: signed(found.behind),
        seconds_behind: signed(found.behind_for.as_secs()),
        failure: found.failure.unwrap_or_default(),
        rejected_records: signed(found.rejected),
    }
}

fn wire_retention(found: RetentionState) -> v1::RetentionStatus {
    v1::RetentionStatus {
        job: found.job.as_str().to_owned(),
        off: found.off.unwrap_or_default().to_owned(),
        before_time: found.before.map(wire_time),
        due: signed(found.due),
        run_time: found.last.map(wire_time),
        next_run_time: found.next.map(wire_time),
        failure: found.failure.unwrap_or_default().to_owned(),
    }
}

fn wire_backup(made: &Made) -> v1::CreateBackupResponse {
    let manifest = &made.manifest;
    v1::CreateBackupResponse {
        name: manifest.name.clone(),
        path: made.path.display().to_string(),
        revision: signed(manifest.revision),
        records: signed(manifest.records),
        data_keys: signed(manifest.data_keys),
        file_bytes: signed(manifest.file_bytes),
        file_sha256: manifest.file_sha256.clone(),
        create_time: Some(wire_time(manifest.created_at())),
        expire_time: Some(wire_time(manifest.expires_at())),
        receipt: Some(wire_receipt(&made.receipt)),
    }
}

fn wire_pruned(pruned: &Pruned, directory: String) -> v1::PruneBackupsResponse {
    let receipts = pruned.receipts.iter().map(|receipt| Some(wire_receipt(receipt)));
    let receipts = receipts.chain(std::iter::repeat(None));
    let removed = pruned
        .removed
        .iter()
        .zip(receipts)
        .map(|(manifest, receipt)| v1::PrunedBackup { name: manifest.name.clone(), receipt });
    v1::PruneBackupsResponse {
        removed: removed.collect(),
        kept: pruned.kept.iter().map(|manifest| manifest.name.clone()).collect(),
        passed_over: pruned.passed_over.clone(),
        directory,
    }
}

fn store(health: &fieldseal_engine::StoreHealth) -> (v1::HealthState, Option<String>) {
    use fieldseal_engine::StoreHealth as H;
    match health {
        H::Ok => (v1::HealthState::Ok, None),
        H::NoSpace => {
            let what = "the store takes no writes: free space is below its reserve";
            (v1::HealthState::NoSpace, Some(what.to_owned()))
        }
        H::Missing => {
            let what = "the store's files were removed or replaced; put them back";
            (v1::HealthState::Broken, Some(what.to_owned()))
        }
        H::Broken(why) => (v1::HealthState::Broken, Some(format!("the store is broken: {why}"))),
        H::Damaged(why) => (v1::HealthState::Broken, Some(format!("the store is damaged: {why}"))),
    }
}

fn scrub(state: &ScrubState) -> (v1::ScrubStatus, Option<String>) {
    let of = |state: v1::ScrubState, last: &Scrubbed| v1::ScrubStatus {
        state: state.into(),
        finish_time: Some(wire_time(last.at)),
        records: signed(last.report.records),
        data_keys: signed(last.report.data_keys),
        findings: signed(last.report.findings()),
        detail: last.report.to_string(),
    };
    match state {
        ScrubState::Pending => {
            let state = v1::ScrubState::Pending.into();
            (v1::ScrubStatus { state, ..v1::ScrubStatus::default() }, None)
        }
        ScrubState::Clean(last) => (of(v1::ScrubState::Clean, last), None),
        ScrubState::Damaged(last) => {
            let damage = format!("the store is damaged: {}", last.report);
            (of(v1::ScrubState::Damaged, last), Some(damage))
        }
    }
}

fn audit(health: &fieldseal_audit::Health) -> (v1::HealthState, Option<String>) {
    use fieldseal_audit::Health as H;
    match health {
        H::Ok => (v1::HealthState::Ok, None),
        H::NoSpace => {
            let what = "the audit log has no space for its next segment";
            (v1::HealthState::NoSpace, Some(what.to_owned()))
        }
        H::Missing => {
            let what = "the audit log's open segment was removed or replaced; put it back";
            (v1::HealthState::Broken, Some(what.to_owned()))
        }
        H::Broken(why) => {
            (v1::HealthState::Broken, Some(format!("the audit log is broken: {why}")))
        }
    }
}

fn signed(number: u64) -> i64 {
    i64::try_from(number).unwrap_or(i64::MAX)
}
