"""Callers at work on a sidecar, what they were told, and whether all of it is still so.

Every acknowledgement is a fact with the moment at which it came. What a later change takes back (a
partition is shredded and restored, a version disabled and enabled) has a history: each change with the
moments at which it was asked for and acknowledged. At a moment between these two both is right.
"""

import threading
import time
from collections import Counter

import client
import grpc
from fieldseal.v1 import audit_service_pb2 as audit
from fieldseal.v1 import audit_service_pb2_grpc as audit_rpc
from fieldseal.v1 import encryption_service_pb2 as fs
from fieldseal.v1 import encryption_service_pb2_grpc as rpc
from fieldseal.v1 import key_service_pb2 as keys
from fieldseal.v1 import key_service_pb2_grpc as keys_rpc
from fieldseal.v1 import system_service_pb2 as system
from fieldseal.v1 import system_service_pb2_grpc as system_rpc
from google.protobuf import duration_pb2

CALLERS = 6
# Long records, so that a segment is full during a run.
BATCH = 1000
PATIENCE = 60
FOREVER = float("inf")
OPEN, SHREDDED, GOING = "OPEN", "SHREDDED", "GOING"
ENABLED, DISABLED = "ENABLED", "DISABLED"
# The states in which a partition may be found.
SHOWN = {
    OPEN: {keys.PARTITION_STATE_OPEN},
    SHREDDED: {keys.PARTITION_STATE_SHREDDING},
    GOING: {keys.PARTITION_STATE_SHREDDING, keys.PARTITION_STATE_ERASING,
            keys.PARTITION_STATE_ERASED},
}
REFUSALS = {
    SHREDDED: "PARTITION_SHREDDED", GOING: "PARTITION_SHREDDED", DISABLED: "KEY_VERSION_DISABLED",
}


def named(key):
    return fs.Field(key=f"keys/{key}", table="t", column="c")


def reason_of(error):
    status = client.of_call(error)
    info = status and client.error_info(status)
    return info.reason if info else ""


class Told:
    """What callers were told."""

    def __init__(self):
        self.facts, self.histories, self.done = [], {}, Counter()
        self.lock = threading.Lock()

    def tell(self, kind, *facts):
        moment = time.time()
        with self.lock:
            self.facts.append((moment, kind, *facts))

    def at(self, moment):
        """The facts that were known by then."""
        return [fact for fact in self.facts if fact[0] < moment]

    def possible(self, name, moment, first):
        """The states in which something may be at a moment."""
        states = {first}
        for asked, acknowledged, state in self.histories.get(name, []):
            if acknowledged < moment:
                states = {state}
            elif asked < moment:
                states.add(state)
        return states

    def change(self, name, state, call):
        """Makes a change by a call, and keeps both of its moments."""
        entry = [time.time(), FOREVER, state]
        with self.lock:
            self.histories.setdefault(name, []).append(entry)
        answer = call()
        entry[1] = time.time()
        self.tell("change", name, state)
        self.done[state] += 1
        return answer


class Load:
    """Callers at work until so much was acknowledged, or something fails."""

    def __init__(self, installation, address, told=None, prefix=""):
        self.told, self.failures, self.prefix = told or Told(), [], prefix
        app, ops = (installation.channel(address, who) for who in ("app", "ops"))
        self.sealer, self.keys = rpc.EncryptionServiceStub(app), keys_rpc.KeyServiceStub(ops)

    def reason(self, ticket):
        return fs.AccessReason(purpose="power", ticket=ticket)

    def receipt(self, ticket, receipt):
        self.told.tell("record", ticket, receipt.index, receipt.leaf_hash)

    def create(self, key, ticket):
        made = self.keys.CreateKey(keys.CreateKeyRequest(key_id=key, reason=self.reason(ticket)))
        self.told.tell("version", made.key.primary_version)
        self.receipt(ticket, made.receipt)

    def seal(self, key, partition, plain):
        sealed = self.sealer.Encrypt(fs.EncryptRequest(
            field=named(key), partition=partition, plaintext=fs.Value(string_value=plain)))
        self.told.tell("value", key, partition, plain, sealed.ciphertext, sealed.key_version)
        return sealed

    def rotate(self, key, ticket):
        turned = self.keys.RotateKey(keys.RotateKeyRequest(
            name=f"keys/{key}", reason=self.reason(ticket)))
        self.told.tell("version", turned.primary_version)
        self.receipt(ticket, turned.receipt)
        self.told.done["rotations"] += 1

    def rewrap(self, key, ticket):
        try:
            started = self.keys.RewrapDataKeys(keys.RewrapDataKeysRequest(
                name=f"keys/{key}", reason=self.reason(ticket), max_per_second=60))
        except grpc.RpcError as error:
            if reason_of(error) == "REWRAP_RUNNING":
                return
            raise
        self.told.tell("rewrap", key)
        self.receipt(ticket, started.receipt)
        self.told.done["rewraps"] += 1

    def shred(self, key, partition, ticket, erases):
        request = keys.ShredPartitionRequest(
            name=f"keys/{key}", partition=partition, reason=self.reason(ticket),
            window=duration_pb2.Duration() if erases else None)
        answer = self.told.change((key, partition), GOING if erases else SHREDDED,
                                  lambda: self.keys.ShredPartition(request))
        self.receipt(ticket, answer.receipt)

    def restore(self, key, partition, ticket):
        request = keys.RestorePartitionRequest(
            name=f"keys/{key}", partition=partition, reason=self.reason(ticket))
        answer = self.told.change((key, partition), OPEN,
                                  lambda: self.keys.RestorePartition(request))
        self.receipt(ticket, answer.receipt)

    def turn_version(self, version, state, ticket):
        verb = "Disable" if state == DISABLED else "Enable"
        request = getattr(keys, f"{verb}KeyVersionRequest")(
            name=version, reason=self.reason(ticket))
        call = getattr(self.keys, f"{verb}KeyVersion")
        self.receipt(ticket, self.told.change(version, state, lambda: call(request)).receipt)

    def look(self, key, partition):
        """Whether what goes by itself has gone."""
        shown = self.keys.GetPartition(keys.GetPartitionRequest(
            name=f"keys/{key}", partition=partition))
        if shown.shred_receipt:
            self.told.tell("erased", key, partition)
            self.told.done["erased"] += 1
        return bool(shown.shred_receipt)

    def work(self, caller, acknowledged):
        try:
            caller = f"{self.prefix}{caller}"
            for key in (f"own-{caller}", f"locked-{caller}"):
                self.create(key, f"made-{key}")
            n, going = 0, []
            while len(self.told.facts) < acknowledged and not self.failures:
                self.one(caller, n, going)
                n += 1
        except grpc.RpcError as error:
            self.failures.append(error)

    def one(self, caller, n, going):
        ticket, key = f"{caller}-{n}", f"own-{caller}"
        partition = ticket if n % 3 else ""
        sealed = self.seal(key, partition, f"value {ticket}")
        if n % 4 == 1:
            item = fs.DecryptItem(partition=partition, ciphertext=sealed.ciphertext)
            opened = self.sealer.BatchDecrypt(fs.BatchDecryptRequest(
                fields=[named(key)], items=[item] * BATCH, reason=self.reason(ticket)))
        else:
            opened = self.sealer.Decrypt(fs.DecryptRequest(
                field=named(key), partition=partition, ciphertext=sealed.ciphertext,
                reason=self.reason(ticket)))
        self.receipt(ticket, opened.receipt)
        if n % 5 == 2:
            self.rotate(key, f"{ticket}-turn")
        if n % 5 == 4:
            self.rewrap(key, f"{ticket}-rewrap")
        if n % 7 == 3:
            self.create(f"made-{ticket}", f"{ticket}-made")
        if partition and n % 4 in (0, 2):
            erases = n % 8 < 4
            self.shred(key, partition, f"{ticket}-shred", erases)
            if erases:
                going.append(partition)
            elif n % 3 == 1:
                self.restore(key, partition, f"{ticket}-restore")
        if n % 6 == 4:
            self.lock(caller, ticket, n % 12 == 4)
        if going and n % 4 == 3 and self.look(key, going[0]):
            del going[0]

    def lock(self, caller, ticket, again):
        """Disables the version that protects a value, and perhaps enables it again."""
        key = f"locked-{caller}"
        version = self.seal(key, "", f"value {ticket} of {key}").key_version
        self.rotate(key, f"{ticket}-next")
        self.turn_version(version, DISABLED, f"{ticket}-disable")
        if again:
            self.turn_version(version, ENABLED, f"{ticket}-enable")

    def run(self, acknowledged):
        """Keeps the first failures, and what they are, in `failures`."""
        threads = [threading.Thread(target=self.work, args=(n, acknowledged))
                   for n in range(CALLERS)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()


def records_of(installation, address):
    stub = audit_rpc.AuditServiceStub(installation.channel(address, "auditor"))
    token = ""
    while True:
        page = stub.QueryAuditEvents(audit.QueryAuditEventsRequest(
            page_size=1000, page_token=token, order_by="event_time"))
        for event in page.audit_events:
            yield int(event.name.rsplit("/", 1)[1]), event.leaf_hash, event.ticket, event.kind
        token = page.next_page_token
        if not token:
            return


def twice(names):
    return sorted(name for name, count in Counter(names).items() if count > 1)


class Check:
    """Whether a sidecar has everything that was told before a moment."""

    def __init__(self, installation, address, told, moment=FOREVER):
        self.installation, self.address, self.told, self.moment = installation, address, told, moment
        self.facts = told.at(moment)
        self.keys = keys_rpc.KeyServiceStub(installation.channel(address, "ops"))

    def of(self, kind):
        return [facts for _, found, *facts in self.facts if found == kind]

    def lost(self):
        """What is not there, or is there twice, or has come back."""
        for part in (self.records, self.versions, self.partitions, self.values, self.rewraps,
                     self.whole):
            yield from part()

    def records(self):
        found = list(records_of(self.installation, self.address))
        leaves = {index: (leaf, ticket) for index, leaf, ticket, _ in found}
        # Of a change whose outcome was not known there may be two: that, and the change.
        for what in twice((ticket, kind) for _, _, ticket, kind in found if ticket):
            yield f"two records of {what}"
        for ticket, index, leaf in self.of("record"):
            if leaves.get(index) != (leaf, ticket):
                yield f"the record of {ticket}"

    def versions(self):
        listed, token = [], ""
        while True:
            page = self.keys.ListKeys(keys.ListKeysRequest(page_size=1000, page_token=token))
            listed += [version for key in page.keys for version in key.versions]
            token = page.next_page_token
            if not token:
                break
        states = {version.name: version.state for version in listed}
        for version in twice(version.name for version in listed):
            yield f"{version} twice"
        for (version,) in self.of("version"):
            allowed = {getattr(keys, f"KEY_VERSION_STATE_{state}")
                       for state in self.told.possible(version, self.moment, ENABLED)}
            if states.get(version) not in allowed:
                yield f"{version} is {states.get(version)}, not {allowed}"

    def shown(self, key, partition):
        return self.keys.GetPartition(keys.GetPartitionRequest(
            name=f"keys/{key}", partition=partition))

    def partitions(self):
        erased = {tuple(facts) for facts in self.of("erased")}
        for name in sorted({name for name, _ in self.of("change") if isinstance(name, tuple)}):
            shown = self.shown(*name).partition
            states = self.told.possible(name, self.moment, OPEN)
            if shown.state not in set().union(*(SHOWN[state] for state in states)):
                yield f"the partition {name} is {shown.state}, not {states}"
            gone = (shown.state, shown.data_keys) == (keys.PARTITION_STATE_ERASED, 0)
            if name in erased and not gone:
                yield f"the partition {name} was erased, and is {shown.state}"

    def values(self):
        values = self.of("value")
        sealer = rpc.EncryptionServiceStub(self.installation.channel(self.address, "app"))
        fields = sorted({key for key, *_ in values})
        for at in range(0, len(values), 500):
            some = values[at:at + 500]
            answer = sealer.BatchDecrypt(fs.BatchDecryptRequest(
                fields=[named(key) for key in fields],
                items=[fs.DecryptItem(field_index=fields.index(key), partition=partition,
                                      ciphertext=sealed)
                       for key, partition, _, sealed, _ in some]))
            for (key, partition, plain, _, version), result in zip(
                    some, answer.results, strict=True):
                states = self.told.possible((key, partition), self.moment, OPEN)
                states |= self.told.possible(version, self.moment, ENABLED)
                found = result.ok.plaintext.string_value if result.HasField("ok") \
                    else client.error_info(result.error).reason
                if found not in self.allowed(plain, states):
                    yield f"the ciphertext of {plain}: {found}, in {sorted(states)}"

    def allowed(self, plain, states):
        """What a value may come to in these states of its partition and its version."""
        refusals = {REFUSALS[state] for state in states if state in REFUSALS}
        return refusals | ({plain} if {OPEN, ENABLED} <= states else set())

    def until(self, look, what):
        end = time.monotonic() + PATIENCE
        while (found := look()) is None:
            if time.monotonic() > end:
                return f"{what} does not end"
            time.sleep(0.01)
        return found

    def rewraps(self):
        """Every rewrap goes on by itself, and is complete in the end."""
        for key in sorted({key for (key,) in self.of("rewrap")}):
            def job(key=key):
                found = self.keys.GetRewrapJob(
                    keys.GetRewrapJobRequest(name=f"keys/{key}/rewrap")).job
                return None if found.state == keys.REWRAP_JOB_STATE_RUNNING else found

            found = self.until(job, f"the rewrap of {key}")
            if isinstance(found, str):
                yield found
                continue
            if (found.state, found.remaining_data_keys) != (keys.REWRAP_JOB_STATE_DONE, 0):
                yield f"the rewrap of {key}: {found}"
            status = self.keys.GetRotationStatus(keys.GetRotationStatusRequest(name=f"keys/{key}"))
            target = int(found.target_version.rsplit("/", 1)[1])
            left = sum(version.data_keys for version in status.versions
                       if int(version.name.rsplit("/", 1)[1]) < target)
            if left:
                yield f"{left} data keys of {key} are under versions before {target}"

    def whole(self):
        """Log and store agree, and every record of both is as it was written."""
        verified = self.installation.verified()
        if verified.returncode:
            yield f"the log: {verified.stderr.decode()[:200]}"
        stub = system_rpc.SystemServiceStub(self.installation.channel(self.address, "ops"))

        def state():
            found = stub.GetStatus(system.GetStatusRequest()).scrub.state
            return None if found == system.SCRUB_STATE_PENDING else found

        found = self.until(state, "the scrub")
        if found != system.SCRUB_STATE_CLEAN:
            yield f"the scrub: {found}"


def missing(installation, told, moment=FOREVER, stop=lambda process: process.kill()):
    """Starts a sidecar, and says what callers were told before a moment and is not there."""
    process, address = installation.start()
    try:
        return list(Check(installation, address, told, moment).lost())
    finally:
        stop(process)
        process.wait()
