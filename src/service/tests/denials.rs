//! Whoever has no role is refused by every call of the contract, and each refusal is on record.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test that cannot be set up fails")]

#[path = "../../engine/tests/kit/mod.rs"]
mod kit;

use bytes::Bytes;
use fieldseal_api::v1;
use fieldseal_api::v1::audit_service_server::AuditService as _;
use fieldseal_api::v1::encryption_service_server::EncryptionService as _;
use fieldseal_api::v1::key_service_server::KeyService as _;
use fieldseal_api::v1::system_service_server::SystemService as _;
use fieldseal_audit::Outcome;
use fieldseal_engine::{AuditQuery, Engine};
use fieldseal_model::{InstallationId, Principal};
use fieldseal_service::actions::ACTIONS;
use fieldseal_service::{AuditHandler, EncryptionHandler, KeyHandler, SystemHandler, WireLimits};
use kit::{Place, caller, events, seal};
use prost::Message as _;
use prost_types::FileDescriptorSet;
use tonic::{Code, Request, Status};
use tonic_types::{RpcStatusExt as _, StatusExt as _};

/// A refusal: its code, its reason, and the record that it names.
type Refused = (Code, String, Option<String>);

fn of_call<T>(result: Result<T, Status>, call: &str) -> Refused {
    let Err(status) = result else { panic!("{call} was answered") };
    let info = status.get_details_error_info().unwrap();
    (status.code(), info.reason, info.metadata.get("event").cloned())
}

fn of_item(status: Option<tonic_types::Status>, call: &str) -> Refused {
    let Some(status) = status else { panic!("{call} was answered") };
    let info = status.get_details_error_info().unwrap();
    (Code::from_i32(status.code), info.reason, info.metadata.get("event").cloned())
}

fn field() -> v1::Field {
    let (key, table, column) = ("keys/pii".into(), "users".into(), "email".into());
    v1::Field { key, table, column, extra_context: Vec::new() }
}

/// What a caller sends: a message with its principal, if it has one.
struct Sender<'a> {
    engine: &'a Engine,
    principal: Option<Principal>,
    ciphertext: Bytes,
}

impl Sender<'_> {
    fn with<T>(&self, message: T) -> Request<T> {
        let mut request = Request::new(message);
        if let Some(principal) = &self.principal {
            request.extensions_mut().insert(principal.clone());
        }
        request
    }

    async fn call(&self, service: &str, call: &str) -> Refused {
        match service {
            "EncryptionService" => self.encryption(call).await,
            "KeyService" => self.keys(call).await,
            _ => self.others(service, call).await,
        }
    }

    async fn encryption(&self, call: &str) -> Refused {
        let handler = EncryptionHandler::new(self.engine.clone(), WireLimits::default());
        let (field, ciphertext) = (Some(field()), self.ciphertext.clone());
        let bytes = v1::value::Kind::BytesValue(ciphertext.clone());
        let plaintext = Some(v1::Value { kind: Some(bytes) });
        let fields = field.iter().cloned().collect();
        match call {
            "Encrypt" => {
                let request = v1::EncryptRequest { field, plaintext, ..Default::default() };
                of_call(handler.encrypt(self.with(request)).await, call)
            }
            "Decrypt" => {
                let request = v1::DecryptRequest { field, ciphertext, ..Default::default() };
                of_call(handler.decrypt(self.with(request)).await, call)
            }
            "BatchEncrypt" => {
                let items = vec![v1::EncryptItem { plaintext, ..Default::default() }];
                let request =
                    self.with(v1::BatchEncryptRequest { fields, items, ..Default::default() });
                let reply = match handler.batch_encrypt(request).await {
                    Err(status) => return of_call(Err::<(), _>(status), call),
                    Ok(reply) => reply.into_inner().results.remove(0).result.unwrap(),
                };
                let v1::encrypt_result::Result::Error(status) = reply else { panic!("{call}") };
                of_item(Some(status), call)
            }
            "BatchDecrypt" => {
                let items = vec![v1::DecryptItem { ciphertext, ..Default::default() }];
                let request = v1::BatchDecryptRequest { fields, items, reason: None };
                let reply = match handler.batch_decrypt(self.with(request)).await {
                    Err(status) => return of_call(Err::<(), _>(status), call),
                    Ok(reply) => reply.into_inner().results.remove(0).result.unwrap(),
                };
                let v1::decrypt_result::Result::Error(status) = reply else { panic!("{call}") };
                of_item(Some(status), call)
            }
            _ => panic!("write a request for {call}"),
        }
    }

    async fn keys(&self, call: &str) -> Refused {
        let handler = KeyHandler::new(self.engine.clone(), WireLimits::default());
        let name = "keys/pii".to_owned();
        match call {
            "CreateKey" => {
                let key_id = "new".to_owned();
                let request = v1::CreateKeyRequest { key_id, ..Default::default() };
                of_call(handler.create_key(self.with(request)).await, call)
            }
            "GetKey" => of_call(handler.get_key(self.with(v1::GetKeyRequest { name })).await, call),
            "ListKeys" => {
                of_call(handler.list_keys(self.with(v1::ListKeysRequest::default())).await, call)
            }
            "RewrapDataKeys" => {
                let request = v1::RewrapDataKeysRequest { name, ..Default::default() };
                of_call(handler.rewrap_data_keys(self.with(request)).await, call)
            }
            "GetRewrapJob" => {
                let request = v1::GetRewrapJobRequest { name: format!("{name}/rewrap") };
                of_call(handler.get_rewrap_job(self.with(request)).await, call)
            }
            "CancelRewrapJob" => {
                let name = format!("{name}/rewrap");
                let request = v1::CancelRewrapJobRequest { name, ..Default::default() };
                of_call(handler.cancel_rewrap_job(self.with(request)).await, call)
            }
            "GetRotationStatus" => {
                let request = v1::GetRotationStatusRequest { name };
                of_call(handler.get_rotation_status(self.with(request)).await, call)
            }
            "RotateKey" => {
                let request = v1::RotateKeyRequest { name, ..Default::default() };
                of_call(handler.rotate_key(self.with(request)).await, call)
            }
            "UpdateKey" => {
                let update_mask = Some(prost_types::FieldMask { paths: vec!["labels".into()] });
                let key = Some(v1::Key { name, ..Default::default() });
                let request = v1::UpdateKeyRequest { key, update_mask, ..Default::default() };
                of_call(handler.update_key(self.with(request)).await, call)
            }
            _ => self.versions(handler, call).await,
        }
    }

    async fn versions(&self, handler: KeyHandler, call: &str) -> Refused {
        let name = "keys/pii/versions/1".to_owned();
        match call {
            "EnableKeyVersion" => {
                let request = v1::EnableKeyVersionRequest { name, ..Default::default() };
                of_call(handler.enable_key_version(self.with(request)).await, call)
            }
            "DisableKeyVersion" => {
                let request = v1::DisableKeyVersionRequest { name, ..Default::default() };
                of_call(handler.disable_key_version(self.with(request)).await, call)
            }
            "ScheduleDestroyKeyVersion" => {
                let request = v1::ScheduleDestroyKeyVersionRequest { name, ..Default::default() };
                of_call(handler.schedule_destroy_key_version(self.with(request)).await, call)
            }
            "RestoreKeyVersion" => {
                let request = v1::RestoreKeyVersionRequest { name, ..Default::default() };
                of_call(handler.restore_key_version(self.with(request)).await, call)
            }
            _ => self.partitions(handler, call).await,
        }
    }

    async fn partitions(&self, handler: KeyHandler, call: &str) -> Refused {
        let name = "keys/pii".to_owned();
        let partition = "ada".to_owned();
        match call {
            "ShredPartition" => {
                let request = v1::ShredPartitionRequest { name, partition, ..Default::default() };
                of_call(handler.shred_partition(self.with(request)).await, call)
            }
            "RestorePartition" => {
                let request = v1::RestorePartitionRequest { name, partition, ..Default::default() };
                of_call(handler.restore_partition(self.with(request)).await, call)
            }
            "ReopenPartition" => {
                let request = v1::ReopenPartitionRequest { name, partition, ..Default::default() };
                of_call(handler.reopen_partition(self.with(request)).await, call)
            }
            "GetPartition" => {
                let request = v1::GetPartitionRequest { name, partition };
                of_call(handler.get_partition(self.with(request)).await, call)
            }
            _ => panic!("write a request for {call}"),
        }
    }

    async fn others(&self, service: &str, call: &str) -> Refused {
        let audit = AuditHandler::new(self.engine.clone(), WireLimits::default());
        let id = InstallationId::new([7; 16]);
        let system = SystemHandler::new(self.engine.clone(), id, || true);
        match (service, call) {
            ("AuditService", "QueryAuditEvents") => {
                let request = self.with(v1::QueryAuditEventsRequest::default());
                of_call(audit.query_audit_events(request).await, call)
            }
            ("AuditService", "SummarizeAccess") => {
                let request = self.with(v1::SummarizeAccessRequest::default());
                of_call(audit.summarize_access(request).await, call)
            }
            ("AuditService", "RedactAuditEvents") => {
                let request = self.with(redact_request());
                of_call(audit.redact_audit_events(request).await, call)
            }
            ("AuditService", "ArchiveAuditEvents") => {
                let request = self.with(archive_request());
                of_call(audit.archive_audit_events(request).await, call)
            }
            ("AuditService", "TailAuditEvents") => {
                let request = self.with(v1::TailAuditEventsRequest::default());
                of_call(audit.tail_audit_events(request).await, call)
            }
            ("AuditService", "GetCheckpoint") => {
                let request = self.with(v1::GetCheckpointRequest::default());
                of_call(audit.get_checkpoint(request).await, call)
            }
            ("AuditService", "GetInclusionProof") => {
                let request = self.with(v1::GetInclusionProofRequest::default());
                of_call(audit.get_inclusion_proof(request).await, call)
            }
            ("AuditService", "GetConsistencyProof") => {
                let request =
                    v1::GetConsistencyProofRequest { old_tree_size: 1, ..Default::default() };
                of_call(audit.get_consistency_proof(self.with(request)).await, call)
            }
            ("SystemService", "GetStatus") => {
                of_call(system.get_status(self.with(v1::GetStatusRequest {})).await, call)
            }
            ("SystemService", "ReloadPolicy") => {
                let request = self.with(v1::ReloadPolicyRequest::default());
                of_call(system.reload_policy(request).await, call)
            }
            ("SystemService", "CreateBackup") => {
                let request = self.with(v1::CreateBackupRequest::default());
                of_call(system.create_backup(request).await, call)
            }
            ("SystemService", "PruneBackups") => {
                let request = self.with(v1::PruneBackupsRequest::default());
                of_call(system.prune_backups(request).await, call)
            }
            ("SystemService", "ListApprovals") => {
                let request = self.with(v1::ListApprovalsRequest::default());
                of_call(system.list_approvals(request).await, call)
            }
            ("SystemService", "ApproveChange") => {
                let request =
                    v1::ApproveChangeRequest { name: APPROVAL.into(), ..Default::default() };
                of_call(system.approve_change(self.with(request)).await, call)
            }
            ("SystemService", "RejectChange") => {
                let request =
                    v1::RejectChangeRequest { name: APPROVAL.into(), ..Default::default() };
                of_call(system.reject_change(self.with(request)).await, call)
            }
            _ => panic!("write a request for {service}.{call}"),
        }
    }
}

const APPROVAL: &str = "approvals/0123456789abcdef";

/// Every (service, call) of `fieldseal.v1`.
fn calls() -> Vec<(String, String)> {
    let set = FileDescriptorSet::decode(fieldseal_api::FILE_DESCRIPTOR_SET).unwrap();
    let files = set.file.iter().filter(|file| file.package() == "fieldseal.v1");
    let services = files.flat_map(|file| &file.service);
    let of = |service: &prost_types::ServiceDescriptorProto| {
        let name = service.name().to_owned();
        let calls = service.method.iter().map(|method| method.name().to_owned());
        calls.map(|call| (name.clone(), call)).collect::<Vec<_>>()
    };
    services.flat_map(of).collect()
}

#[tokio::test]
async fn whoever_has_no_role_is_refused_by_every_call_and_it_is_on_record() {
    let (_place, engine) = Place::with_key().await;
    let (ciphertext, _) = seal(&engine, "", "1", "x").await.unwrap();
    let principal = Some(caller("nobody").principal);
    let sender = Sender { engine: &engine, principal, ciphertext };
    let calls = calls();
    assert_eq!(calls.len(), ACTIONS.len());
    for (service, call) in calls {
        let (code, reason, event) = sender.call(&service, &call).await;
        assert_eq!(
            (code, reason.as_str()),
            (Code::PermissionDenied, "PERMISSION_DENIED"),
            "{call}"
        );
        let named = event.unwrap_or_else(|| panic!("{call} names no record"));
        let action = ACTIONS.iter().find(|(s, c, _)| *s == service && *c == call).unwrap().2;
        let query = AuditQuery { actions: vec![action], ..AuditQuery::default() };
        let found = events(&engine, query).await;
        // The query that finds the others is one of its own kind, and newer.
        let found = found.iter().find(|e| e.principal == "spiffe://test/nobody").unwrap();
        assert_eq!(named, format!("logs/main/events/{}", found.index), "{call}");
        assert_eq!(found.outcome, Some(Outcome::Denied), "{call}");
    }
}

#[tokio::test]
async fn a_call_without_a_principal_is_refused_with_its_reason() {
    let (_place, engine) = Place::with_key().await;
    let (ciphertext, _) = seal(&engine, "", "1", "x").await.unwrap();
    let sender = Sender { engine: &engine, principal: None, ciphertext };
    for (service, call) in calls() {
        let (code, reason, _) = sender.call(&service, &call).await;
        assert_eq!((code, reason.as_str()), (Code::Unauthenticated, "PRINCIPAL_MISSING"), "{call}");
    }
}

fn archive_request() -> v1::ArchiveAuditEventsRequest {
    let before_time = Some(prost_types::Timestamp { seconds: 1, nanos: 0 });
    v1::ArchiveAuditEventsRequest { before_time, ..Default::default() }
}

fn redact_request() -> v1::RedactAuditEventsRequest {
    v1::RedactAuditEventsRequest { partition: "alice".to_owned(), ..Default::default() }
}
