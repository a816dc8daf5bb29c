#!/usr/bin/env python3
"""Calls every RPC of every service as a client in another language does.

    client_api.py DIRECTORY

DIRECTORY is an installation with development certificates and a running sidecar (its address in the
file `address`). The stubs made from proto/ are in PYTHONPATH. Every RPC is called once well and once
so that it must be refused with its reason; a call of the contract that has no case here is a failure.
"""

import base64
import hashlib
import json
import pathlib
import sys

import client
import end_users
import grpc
from fieldseal.v1 import audit_service_pb2 as audit
from fieldseal.v1 import encryption_service_pb2 as encryption
from fieldseal.v1 import key_service_pb2 as keys
from fieldseal.v1 import system_service_pb2 as system
from google.protobuf import duration_pb2

KEY = "keys/python"
ITEMS = 1000
Code = grpc.StatusCode


def field(**changed):
    return encryption.Field(**({"key": KEY, "table": "users", "column": "email"} | changed))


def value(text):
    return encryption.Value(string_value=text)


def items(ciphertexts):
    return [encryption.DecryptItem(row=str(i), ciphertext=c) for i, c in enumerate(ciphertexts)]


class Installation:
    def __init__(self, directory, checks):
        self.checks = checks
        self.directory = pathlib.Path(directory)
        target = client.read(f"{directory}/address").decode().strip()
        self.channels = {
            who: grpc.secure_channel(target, client.credentials(directory, who))
            for who in ("app", "ops", "auditor")
        }
        self.called = set()

    def call(self, who, module, method, request):
        """One RPC, by its full descriptor; of a stream the first message."""
        service, name = method.split(".")
        rpc = module.DESCRIPTOR.services_by_name[service].methods_by_name[name]
        channel = self.channels[who]
        streams = rpc.server_streaming
        stub = (channel.unary_stream if streams else channel.unary_unary)(
            f"/{rpc.containing_service.full_name}/{rpc.name}",
            request_serializer=type(request).SerializeToString,
            response_deserializer=getattr(module, rpc.output_type.name).FromString,
        )
        reply = stub(request, timeout=30)
        if streams:
            first = next(reply)
            reply.cancel()
            return first
        return reply

    def good(self, who, module, method, request):
        reply = self.call(who, module, method, request)
        self.called.add((method, "answered"))
        self.checks.that(method, reply is not None)
        return reply

    def refused(self, who, module, method, request, code, reason):
        try:
            self.call(who, module, method, request)
        except grpc.RpcError as error:
            status = client.of_call(error)
            info = status and client.error_info(status)
            seen = (error.code(), info and info.reason, info and info.domain)
            self.checks.that(method, seen == (code, reason, "fieldseal.dev"), seen)
            self.checks.that(method, error.details() == status.message and status.message, seen)
            self.called.add((method, "refused"))
            return info
        raise SystemExit(f"error: {method} was answered")


def key_service(at):
    created = at.good("ops", keys, "KeyService.CreateKey", keys.CreateKeyRequest(key_id="python"))
    at.checks.that("a change has a receipt", created.receipt.tree_size > created.receipt.index)
    at.refused("ops", keys, "KeyService.CreateKey", keys.CreateKeyRequest(key_id="python"),
               Code.ALREADY_EXISTS, "KEY_EXISTS")
    shown = at.good("ops", keys, "KeyService.GetKey", keys.GetKeyRequest(name=KEY))
    at.checks.that("it is what was created", shown.key == created.key, shown)
    at.refused("ops", keys, "KeyService.GetKey", keys.GetKeyRequest(name="keys/nobody-s"),
               Code.NOT_FOUND, "KEY_NOT_FOUND")
    listed = at.good("ops", keys, "KeyService.ListKeys", keys.ListKeysRequest())
    at.checks.that("the list has it", KEY in [key.name for key in listed.keys], listed)
    at.refused("ops", keys, "KeyService.ListKeys", keys.ListKeysRequest(page_size=-1),
               Code.INVALID_ARGUMENT, "PAGE_INVALID")
    rotate = keys.RotateKeyRequest(name=KEY, etag=shown.key.etag)
    rotated = at.good("ops", keys, "KeyService.RotateKey", rotate)
    at.checks.that("a new version", rotated.primary_version == f"{KEY}/versions/2", rotated)
    at.refused("ops", keys, "KeyService.RotateKey", rotate, Code.ABORTED, "ETAG_MISMATCH")
    settings(at)
    versions(at)
    rewraps(at)


def rewraps(at):
    job = f"{KEY}/rewrap"
    at.refused("ops", keys, "KeyService.GetRewrapJob", keys.GetRewrapJobRequest(name=job),
               Code.NOT_FOUND, "REWRAP_NOT_FOUND")
    at.refused("ops", keys, "KeyService.RewrapDataKeys",
               keys.RewrapDataKeysRequest(name=KEY, max_per_second=-1),
               Code.INVALID_ARGUMENT, "RATE_INVALID")
    started = at.good("ops", keys, "KeyService.RewrapDataKeys",
                      keys.RewrapDataKeysRequest(name=KEY))
    at.checks.that("the job's name", started.job.name == job, started)
    found = at.good("ops", keys, "KeyService.GetRewrapJob", keys.GetRewrapJobRequest(name=job))
    while found.job.state == keys.REWRAP_JOB_STATE_RUNNING:
        found = at.call("ops", keys, "KeyService.GetRewrapJob", keys.GetRewrapJobRequest(name=job))
    at.checks.that("it is done", found.job.state == keys.REWRAP_JOB_STATE_DONE, found)
    at.refused("ops", keys, "KeyService.CancelRewrapJob", keys.CancelRewrapJobRequest(name=job),
               Code.FAILED_PRECONDITION, "REWRAP_NOT_RUNNING")
    cancelled = at.good("ops", keys, "KeyService.CancelRewrapJob",
                        keys.CancelRewrapJobRequest(name=slow(at)))
    at.checks.that("it is cancelled", cancelled.job.state == keys.REWRAP_JOB_STATE_CANCELLED)
    status = keys.GetRotationStatusRequest(name=KEY)
    found = at.good("ops", keys, "KeyService.GetRotationStatus", status)
    at.checks.that("both versions", [v.data_keys for v in found.versions] == [0, 0], found)
    at.refused("ops", keys, "KeyService.GetRotationStatus",
               keys.GetRotationStatusRequest(name="keys/nobody-s"), Code.NOT_FOUND, "KEY_NOT_FOUND")


def slow(at):
    """Starts a rewrap of another key that takes long, and names it."""
    key = "keys/python-slow"
    at.call("ops", keys, "KeyService.CreateKey", keys.CreateKeyRequest(key_id="python-slow"))
    sealed = [encryption.EncryptItem(row="1", partition=f"p{i}", plaintext=value("x"))
              for i in range(100)]
    at.call("app", encryption, "EncryptionService.BatchEncrypt",
            encryption.BatchEncryptRequest(fields=[field(key=key)], items=sealed))
    at.call("ops", keys, "KeyService.RotateKey", keys.RotateKeyRequest(name=key))
    at.call("ops", keys, "KeyService.RewrapDataKeys",
            keys.RewrapDataKeysRequest(name=key, max_per_second=1))
    return f"{key}/rewrap"


def settings(at):
    update = keys.UpdateKeyRequest(key=keys.Key(name=KEY, labels={"team": "python"}))
    at.refused("ops", keys, "KeyService.UpdateKey", update, Code.INVALID_ARGUMENT,
               "UPDATE_MASK_INVALID")
    update.update_mask.paths.append("labels")
    updated = at.good("ops", keys, "KeyService.UpdateKey", update)
    at.checks.that("a label", updated.key.labels == {"team": "python"}, updated)


def versions(at):
    """Version 1 goes through its states; version 2 is primary."""
    def request(verb, number):
        return getattr(keys, f"{verb}KeyVersionRequest")(name=f"{KEY}/versions/{number}")

    for verb, state, reason in (
            ("Disable", keys.KEY_VERSION_STATE_DISABLED, "KEY_VERSION_IS_PRIMARY"),
            ("Enable", keys.KEY_VERSION_STATE_ENABLED, "KEY_VERSION_STATE_WRONG"),
            ("ScheduleDestroy", keys.KEY_VERSION_STATE_DESTROY_SCHEDULED, "KEY_VERSION_IS_PRIMARY"),
            ("Restore", keys.KEY_VERSION_STATE_DISABLED, "KEY_VERSION_STATE_WRONG")):
        method = f"KeyService.{verb}KeyVersion"
        changed = at.good("ops", keys, method, request(verb, 1))
        at.checks.that(verb, changed.key_version.state == state, changed)
        at.refused("ops", keys, method, request(verb, 2), Code.FAILED_PRECONDITION, reason)


def encryption_service(at):
    """Returns the receipts of a decrypt and of a batch."""
    seal = encryption.EncryptRequest(field=field(), row="0", plaintext=value("ada@example.com"))
    sealed = at.good("app", encryption, "EncryptionService.Encrypt", seal)
    at.checks.that("74 bytes more", len(sealed.ciphertext) == len("ada@example.com") + 74)
    at.refused("app", encryption, "EncryptionService.Encrypt",
               encryption.EncryptRequest(field=field(table=""), plaintext=value("x")),
               Code.INVALID_ARGUMENT, "TABLE_INVALID")
    why = encryption.AccessReason(purpose="foreign", ticket="PY-1")
    open_it = encryption.DecryptRequest(field=field(), row="0", ciphertext=sealed.ciphertext,
                                        reason=why)
    opened = at.good("app", encryption, "EncryptionService.Decrypt", open_it)
    at.checks.that("the value", opened.plaintext == value("ada@example.com"))
    open_it.row = "1"
    info = at.refused("app", encryption, "EncryptionService.Decrypt", open_it,
                      Code.INVALID_ARGUMENT, "DECRYPTION_FAILED")
    at.checks.that("its record is named", "/events/" in info.metadata["event"], info)
    plain = [encryption.EncryptItem(row=str(i), plaintext=value(f"v{i}")) for i in range(ITEMS)]
    batch = encryption.BatchEncryptRequest(fields=[field()], items=plain)
    batch = at.good("app", encryption, "EncryptionService.BatchEncrypt", batch)
    ciphertexts = [result.ok.ciphertext for result in batch.results]
    at.refused("app", encryption, "EncryptionService.BatchEncrypt",
               encryption.BatchEncryptRequest(fields=[field()], items=plain + plain[:1]),
               Code.INVALID_ARGUMENT, "BATCH_SIZE_INVALID")
    ciphertexts[7] = b"plain text"
    request = encryption.BatchDecryptRequest(fields=[field()], items=items(ciphertexts), reason=why)
    batch = at.good("app", encryption, "EncryptionService.BatchDecrypt", request)
    for i, result in enumerate(batch.results):
        if i == 7:
            reason = client.error_info(result.error).reason
            at.checks.that("a bad item fails alone", reason == "CIPHERTEXT_NOT_SEALED", reason)
        else:
            at.checks.that("in their order", result.ok.plaintext == value(f"v{i}"), i)
    del request.items[:]
    at.refused("app", encryption, "EncryptionService.BatchDecrypt", request,
               Code.INVALID_ARGUMENT, "BATCH_SIZE_INVALID")
    return opened.receipt, batch.receipt


def partitions(at):
    def of(message, **more):
        return message(name=KEY, partition="py-tenant", **more)

    sealed = at.call("app", encryption, "EncryptionService.Encrypt", encryption.EncryptRequest(
        field=field(), row="0", partition="py-tenant", plaintext=value("of a tenant")))
    shred = of(keys.ShredPartitionRequest)
    would = of(keys.ShredPartitionRequest, validate_only=True)
    would = at.good("ops", keys, "KeyService.ShredPartition", would)
    at.checks.that("it can be restored", would.partition.state == keys.PARTITION_STATE_SHREDDING)
    approvals(at, shred)
    at.refused("ops", keys, "KeyService.ShredPartition", shred,
               Code.FAILED_PRECONDITION, "PARTITION_STATE_INVALID")
    open_it = encryption.DecryptRequest(
        field=field(), row="0", partition="py-tenant", ciphertext=sealed.ciphertext)
    try:
        at.call("app", encryption, "EncryptionService.Decrypt", open_it)
        raise SystemExit("error: a shredded partition opens")
    except grpc.RpcError as error:
        reason = client.error_info(client.of_call(error)).reason
        at.checks.that("nothing opens", reason == "PARTITION_SHREDDED", reason)
    at.refused("ops", keys, "KeyService.ReopenPartition", of(keys.ReopenPartitionRequest),
               Code.FAILED_PRECONDITION, "PARTITION_STATE_INVALID")
    at.good("ops", keys, "KeyService.RestorePartition", of(keys.RestorePartitionRequest))
    at.refused("ops", keys, "KeyService.RestorePartition", of(keys.RestorePartitionRequest),
               Code.FAILED_PRECONDITION, "PARTITION_STATE_INVALID")
    shown = at.good("auditor", keys, "KeyService.GetPartition", of(keys.GetPartitionRequest))
    at.checks.that("open, and no receipt",
                   (shown.partition.state, shown.shred_receipt) == (keys.PARTITION_STATE_OPEN, ""))
    waiting = asked(at, of(keys.ShredPartitionRequest, window=duration_pb2.Duration()))
    at.call("auditor", system, "SystemService.ApproveChange",
            system.ApproveChangeRequest(name=waiting.name, etag=waiting.etag))
    while not (shown := at.call("ops", keys, "KeyService.GetPartition",
                                of(keys.GetPartitionRequest))).shred_receipt:
        pass
    receipt = json.loads(json.loads(shown.shred_receipt)["receipt"])
    (at.directory / "receipt.json").write_text(shown.shred_receipt, encoding="utf-8")
    at.checks.that("a receipt of one data key", receipt["data_keys"] == 1, receipt)
    at.good("ops", keys, "KeyService.ReopenPartition", of(keys.ReopenPartitionRequest))
    nobody = keys.GetPartitionRequest(name=KEY, partition="nobody")
    at.refused("ops", keys, "KeyService.GetPartition", nobody,
               Code.NOT_FOUND, "PARTITION_NOT_FOUND")


def asked(at, shred):
    """A shred waits for a second principal: which request."""
    info = at.refused("ops", keys, "KeyService.ShredPartition", shred,
                      Code.FAILED_PRECONDITION, "APPROVAL_REQUIRED")
    found = at.call("auditor", system, "SystemService.ListApprovals",
                    system.ListApprovalsRequest())
    return next(one for one in found.approvals if one.name == info.metadata["approval"])


def approvals(at, shred):
    """The auditor of this installation is the second principal of a shred, which happens."""
    rule = ('@id("second") permit (principal in Role::"auditor", action in [Action::"ListApprovals", '
            'Action::"ApproveChange", Action::"RejectChange", Action::"ShredPartition"], resource);')
    (at.directory / "policy" / "second.cedar").write_text(rule, encoding="utf-8")
    at.call("ops", system, "SystemService.ReloadPolicy", system.ReloadPolicyRequest())
    first = asked(at, shred)
    rejected = at.good("ops", system, "SystemService.RejectChange",
                       system.RejectChangeRequest(name=first.name))
    at.checks.that("taken back", rejected.approval.state == system.APPROVAL_STATE_REJECTED)
    at.refused("ops", system, "SystemService.RejectChange",
               system.RejectChangeRequest(name=first.name),
               Code.FAILED_PRECONDITION, "APPROVAL_CLOSED")
    waiting = asked(at, shred)
    approve = system.ApproveChangeRequest(name=waiting.name, etag=waiting.etag)
    at.refused("ops", system, "SystemService.ApproveChange", approve,
               Code.PERMISSION_DENIED, "APPROVAL_OWN")
    approved = at.good("auditor", system, "SystemService.ApproveChange", approve)
    at.checks.that("by another", approved.approval.decider != approved.approval.requester)
    listed = at.good("ops", system, "SystemService.ListApprovals", system.ListApprovalsRequest())
    states = [one.state for one in listed.approvals]
    at.checks.that("both are kept", states == [system.APPROVAL_STATE_APPROVED,
                                               system.APPROVAL_STATE_REJECTED], states)
    at.refused("app", system, "SystemService.ListApprovals", system.ListApprovalsRequest(),
               Code.PERMISSION_DENIED, "PERMISSION_DENIED")


def audit_service(at, receipts):
    query = audit.QueryAuditEventsRequest(
        query=audit.AuditEventQuery(tickets=["PY-1"]), include_items=True)
    page = at.good("auditor", audit, "AuditService.QueryAuditEvents", query)
    events = {event.name: event for event in page.audit_events}
    for receipt, count in zip(receipts, (1, ITEMS)):
        event = events[f"{receipt.log}/events/{receipt.index}"]
        at.checks.that("the receipt is the record's", event.leaf_hash == receipt.leaf_hash, event)
        at.checks.that("all its items", len(event.items) == event.item_count == count)
    at.refused("app", audit, "AuditService.QueryAuditEvents", query,
               Code.PERMISSION_DENIED, "PERMISSION_DENIED")
    count = audit.SummarizeAccessRequest(
        query=query.query, group_by=[audit.ACCESS_GROUPING_PRINCIPAL])
    summary = at.good("auditor", audit, "AuditService.SummarizeAccess", count)
    fields = sum(len(event.items) for event in page.audit_events)
    counted = (summary.total.field_count, summary.total.event_count)
    at.checks.that("every field is counted", counted == (fields, len(events)), summary)
    at.checks.that("refused ones too", fields > 1 + ITEMS, summary)
    at.refused("app", audit, "AuditService.SummarizeAccess", count,
               Code.PERMISSION_DENIED, "PERMISSION_DENIED")
    erase = audit.RedactAuditEventsRequest(partition="nobody", validate_only=True)
    nobody = at.good("ops", audit, "AuditService.RedactAuditEvents", erase)
    at.checks.that("nothing would go", (nobody.event_count, nobody.item_count) == (0, 0), nobody)
    at.refused("auditor", audit, "AuditService.RedactAuditEvents", erase,
               Code.PERMISSION_DENIED, "PERMISSION_DENIED")
    move = audit.ArchiveAuditEventsRequest(
        before_time=page.audit_events[0].event_time, validate_only=True)
    at.refused("auditor", audit, "AuditService.ArchiveAuditEvents", move,
               Code.PERMISSION_DENIED, "PERMISSION_DENIED")
    nothing = at.good("ops", audit, "AuditService.ArchiveAuditEvents", move)
    at.checks.that("no segment is so old", nothing.segment_count == 0, nothing)
    first = at.good("auditor", audit, "AuditService.TailAuditEvents",
                    audit.TailAuditEventsRequest(start_index=receipts[0].index))
    followed = {event.name: event for event in first.audit_events}
    name = f"{receipts[0].log}/events/{receipts[0].index}"
    at.checks.that("a tail shows the record", followed[name].leaf_hash == receipts[0].leaf_hash)
    at.refused("app", audit, "AuditService.TailAuditEvents", audit.TailAuditEventsRequest(),
               Code.PERMISSION_DENIED, "PERMISSION_DENIED")
    ask = audit.GetCheckpointRequest()
    checkpoint = at.good("auditor", audit, "AuditService.GetCheckpoint", ask).checkpoint
    at.checks.that("it covers them", checkpoint.tree_size >= max(r.tree_size for r in receipts))
    at.refused("auditor", audit, "AuditService.GetCheckpoint",
               audit.GetCheckpointRequest(log="logs/another"), Code.NOT_FOUND, "LOG_NOT_FOUND")
    proofs(at, receipts[0], checkpoint)


def proofs(at, receipt, kept):
    """A record by its receipt, and the checkpoint that was kept, in the tree of today."""
    ask = audit.GetInclusionProofRequest(index=receipt.index)
    proof = at.good("auditor", audit, "AuditService.GetInclusionProof", ask)
    at.checks.that("the receipt's record", proof.leaf_hash == receipt.leaf_hash, proof)
    index, last = receipt.index, proof.checkpoint.tree_size - 1
    node = proof.leaf_hash
    for other in proof.hashes:
        if index & 1 or index == last:
            node = hashlib.sha256(b"\1" + other + node).digest()
            while not index & 1 and index:
                index, last = index >> 1, last >> 1
        else:
            node = hashlib.sha256(b"\1" + node + other).digest()
        index, last = index >> 1, last >> 1
    root = base64.b64decode(proof.checkpoint.note.split("\n")[2])
    at.checks.that("it leads to the root", (last, node) == (0, root), proof)
    at.refused("app", audit, "AuditService.GetInclusionProof", ask,
               Code.PERMISSION_DENIED, "PERMISSION_DENIED")
    ask = audit.GetConsistencyProofRequest(old_tree_size=kept.tree_size)
    grown = at.good("auditor", audit, "AuditService.GetConsistencyProof", ask)
    at.checks.that("it grew", grown.checkpoint.tree_size > kept.tree_size and grown.hashes, grown)
    at.refused("app", audit, "AuditService.GetConsistencyProof", ask,
               Code.PERMISSION_DENIED, "PERMISSION_DENIED")
    beyond = audit.GetConsistencyProofRequest(old_tree_size=1 << 40)
    at.refused("auditor", audit, "AuditService.GetConsistencyProof", beyond,
               Code.OUT_OF_RANGE, "TREE_BEYOND_LOG")


def system_service(at, policy):
    status = at.good("ops", system, "SystemService.GetStatus", system.GetStatusRequest())
    at.checks.that("it is ready", status.ready and status.keys >= 1, status)
    at.refused("app", system, "SystemService.GetStatus", system.GetStatusRequest(),
               Code.PERMISSION_DENIED, "PERMISSION_DENIED")
    reload = system.ReloadPolicyRequest()
    policy.write_text("permit (\n", encoding="utf-8")
    at.refused("ops", system, "SystemService.ReloadPolicy", reload,
               Code.FAILED_PRECONDITION, "POLICY_INVALID")
    policy.unlink()
    digest = at.good("ops", system, "SystemService.ReloadPolicy", reload).policy_digest
    at.checks.that("the same policy", digest == status.policy_digest, digest)
    backup = system.CreateBackupRequest()
    made = at.good("ops", system, "SystemService.CreateBackup", backup)
    at.checks.that("a backup", pathlib.Path(made.path).stat().st_size == made.file_bytes, made)
    at.refused("app", system, "SystemService.CreateBackup", backup,
               Code.PERMISSION_DENIED, "PERMISSION_DENIED")
    prune = system.PruneBackupsRequest()
    pruned = at.good("ops", system, "SystemService.PruneBackups", prune)
    at.checks.that("none is over", not pruned.removed and made.name in pruned.kept, pruned)
    at.refused("app", system, "SystemService.PruneBackups", prune,
               Code.PERMISSION_DENIED, "PERMISSION_DENIED")


def without_stubs(at):
    """The health service, and a method that does not exist."""
    channel = at.channels["app"]
    health = channel.unary_unary("/grpc.health.v1.Health/Check")(b"", timeout=30)
    at.checks.that("it is serving", health == b"\x08\x01", health)
    try:
        channel.unary_unary("/fieldseal.v1.KeyService/ExportKey")(b"", timeout=30)
    except grpc.RpcError as error:
        reason = client.error_info(client.of_call(error)).reason
        at.checks.that("no such method", (error.code(), reason)
                       == (Code.UNIMPLEMENTED, "METHOD_UNKNOWN"), reason)


def main():
    checks = client.Checks()
    at = Installation(sys.argv[1], checks)
    key_service(at)
    receipts = encryption_service(at)
    end_users.calls(at, field(), value("grace@example.com"))
    partitions(at)
    audit_service(at, receipts)
    system_service(at, pathlib.Path(sys.argv[1]) / "policy" / "broken.cedar")
    without_stubs(at)
    methods = [
        f"{service.name}.{method.name}"
        for module in (encryption, keys, audit, system)
        for service in module.DESCRIPTOR.services_by_name.values()
        for method in service.methods
    ]
    for method in methods:
        for ended in ("answered", "refused"):
            checks.that(f"{method} is {ended} here", (method, ended) in at.called)
    # Each RPC: answered, refused with reason and message, and both counted; and every value.
    checks.end(len(methods) * 5 + ITEMS + 75)


if __name__ == "__main__":
    main()
