#!/usr/bin/env python3
"""Cuts the power of a sidecar at work, many times over, and looks for what was acknowledged.

    power_cuts.py --binary FIELDSEAL --work DIRECTORY [--cuts 30] [--seed 1]

The sidecar works once, under `strace`, for callers who keep what they are told and when. From the
trace the files are made as a power cut at some moment may have left them (disk_trace.py); the binary is
started on them, and everything that had been acknowledged by then must be there, once. In the end the
same is done as if no `fdatasync` of the log, or of the store, had ever been made: that must lose
something. Exit code 1 if not.

It needs the Python stubs of `proto/` in PYTHONPATH.
"""

import atexit
import argparse
import json
import os
import random
import shutil
import signal
import subprocess
import sys
import threading
import time

import grpc
from fieldseal.v1 import audit_service_pb2 as audit
from fieldseal.v1 import audit_service_pb2_grpc as audit_rpc
from fieldseal.v1 import encryption_service_pb2 as fs
from fieldseal.v1 import encryption_service_pb2_grpc as rpc
from fieldseal.v1 import key_service_pb2 as keys
from fieldseal.v1 import key_service_pb2_grpc as keys_rpc

from disk_trace import CALLS, Choice, Disk

CALLERS = 6
ACKNOWLEDGED = 600
# Long records, so that a segment is full during the run.
BATCH = 1000
FIRST = "audit/segment-00000000000000000000.log"
PATIENCE = 60


class Failed(Exception):
    pass


class Installation:
    def __init__(self, binary, work):
        self.binary, self.home = binary, os.path.join(work, "power")
        self.state = os.path.join(self.home, "state")
        self.config = os.path.join(self.home, "fieldseal.toml")
        made = subprocess.run(
            [binary, "init", "--dir", self.home, "--listen", "127.0.0.1:0", "--dev-certificates"],
            capture_output=True, check=False)
        if made.returncode:
            raise Failed(made.stderr.decode())
        with open(self.config, encoding="utf-8") as file:
            text = file.read()
        for old, new in [
            ('address_file = ""', 'address_file = "address"'),
            ("segment_mib = 64", "segment_mib = 1"),
        ]:
            if old not in text:
                raise Failed(f"the configuration has no {old}")
            # The first address file is that of the callers.
            text = text.replace(old, new, 1)
        with open(self.config, "w", encoding="utf-8") as file:
            file.write(text)
        # As long as those that will follow; it holds nothing yet.
        os.truncate(os.path.join(self.state, FIRST), 1 << 20)

    def start(self, tracer=()):
        """A process that is ready, and its address; or what it said instead."""
        address = os.path.join(self.home, "address")
        if os.path.exists(address):
            os.remove(address)
        with open(os.path.join(self.home, "serve.log"), "wb") as log:
            process = subprocess.Popen(
                [*tracer, self.binary, "serve", "--config", self.config],
                stdout=subprocess.DEVNULL, stderr=log)
            # Whatever goes wrong, none outlives this.
            atexit.register(process.kill)
        end = time.monotonic() + PATIENCE
        while process.poll() is None and time.monotonic() < end:
            if os.path.exists(address) and os.path.getsize(address):
                with open(address, encoding="ascii") as file:
                    return process, file.read().strip()
            time.sleep(0.005)
        process.kill()
        process.wait()
        with open(os.path.join(self.home, "serve.log"), encoding="utf-8") as log:
            raise Failed(f"it does not start: {log.read()[-400:]}")

    def channel(self, address, who):
        def read(name):
            with open(os.path.join(self.home, "tls", name), "rb") as file:
                return file.read()
        identity = grpc.ssl_channel_credentials(
            read("ca.pem"), read(f"{who}.key"), read(f"{who}.pem"))
        # Channels to one address share a connection otherwise, whoever the caller is.
        return grpc.secure_channel(address, identity, [("grpc.use_local_subchannel_pool", 1)])

    def verified(self):
        return subprocess.run(
            [self.binary, "audit", "verify", "--log", os.path.join(self.state, "audit"),
             "--public-key", os.path.join(self.state, "audit/log.pub")],
            capture_output=True, check=False)


def named(key):
    return fs.Field(key=f"keys/{key}", table="t", column="c")


class Load:
    """Callers at work; each acknowledgement is kept with the moment when it came."""

    def __init__(self, installation, address):
        self.told, self.lock, self.failures = [], threading.Lock(), []
        app, ops = (installation.channel(address, who) for who in ("app", "ops"))
        self.sealer, self.keys = rpc.EncryptionServiceStub(app), keys_rpc.KeyServiceStub(ops)

    def tell(self, kind, *facts):
        moment = time.time()
        with self.lock:
            self.told.append((moment, kind, *facts))

    def reason(self, ticket):
        return fs.AccessReason(purpose="power", ticket=ticket)

    def receipt(self, ticket, receipt):
        self.tell("record", ticket, receipt.index, receipt.leaf_hash)

    def create(self, key, ticket):
        made = self.keys.CreateKey(keys.CreateKeyRequest(key_id=key, reason=self.reason(ticket)))
        self.tell("version", made.key.primary_version)
        self.receipt(ticket, made.receipt)

    def work(self, caller):
        try:
            self.create(f"own-{caller}", f"{caller}-own")
            n = 0
            while len(self.told) < ACKNOWLEDGED:
                self.one(caller, n)
                n += 1
        except grpc.RpcError as error:
            self.failures.append(f"{error.code()}: {error.details()}")

    def one(self, caller, n):
        ticket, key = f"{caller}-{n}", f"own-{caller}"
        partition = ticket if n % 3 else ""
        plain = f"value {ticket}"
        sealed = self.sealer.Encrypt(fs.EncryptRequest(
            field=named(key), partition=partition, plaintext=fs.Value(string_value=plain)))
        self.tell("value", key, partition, plain, sealed.ciphertext)
        if n % 2:
            item = fs.DecryptItem(partition=partition, ciphertext=sealed.ciphertext)
            opened = self.sealer.BatchDecrypt(fs.BatchDecryptRequest(
                fields=[named(key)], items=[item] * BATCH, reason=self.reason(ticket)))
        else:
            opened = self.sealer.Decrypt(fs.DecryptRequest(
                field=named(key), partition=partition, ciphertext=sealed.ciphertext,
                reason=self.reason(ticket)))
        self.receipt(ticket, opened.receipt)
        if n % 5 == 2:
            turned = self.keys.RotateKey(keys.RotateKeyRequest(
                name=f"keys/{key}", reason=self.reason(f"{ticket}-turn")))
            self.tell("version", turned.primary_version)
            self.receipt(f"{ticket}-turn", turned.receipt)
        if n % 7 == 3:
            self.create(f"made-{ticket}", f"{ticket}-made")

    def run(self):
        threads = [threading.Thread(target=self.work, args=(n,)) for n in range(CALLERS)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        if self.failures:
            raise Failed(self.failures[0])


def record(installation, work):
    """One run under strace: the trace on disk, what callers were told, and the files from before."""
    base, trace = os.path.join(work, "power-base"), os.path.join(work, "power-trace")
    # The life before was killed, so that the traced one settles what it finds.
    process, address = installation.start()
    before = Load(installation, address)
    before.create("first", "first")
    process.kill()
    process.wait()
    shutil.copytree(installation.state, base)
    # -D: the tracer stands aside, so that the sidecar is the one that is stopped.
    tracer = ["strace", "-D", "-f", "-ttt", "-xx", "-s", "8388608", "-o", trace, "-e", "trace=" + CALLS]
    process, address = installation.start(tracer)
    load = Load(installation, address)
    load.told += before.told
    load.run()
    process.send_signal(signal.SIGTERM)
    if process.wait(PATIENCE):
        raise Failed("the traced sidecar did not stop well")
    end = time.monotonic() + PATIENCE
    while b"exited with" not in tail(trace):
        if time.monotonic() > end:
            raise Failed("the trace does not end")
        time.sleep(0.05)
    disk = Disk(trace, installation.state, base)
    final = disk.final()
    compare(final, installation.state)
    if sum("/segment-" in path for path in final) < 2:
        raise Failed("the load was too little for a second segment")
    return disk, load.told


def tail(path):
    with open(path, "rb") as file:
        file.seek(max(0, os.path.getsize(path) - 4096))
        return file.read()


def compare(files, directory):
    """The model, played to its end, is what is on the disk: nothing was overlooked."""
    found = {}
    for where, _, names in os.walk(directory):
        for name in names:
            path = os.path.join(where, name)
            with open(path, "rb") as file:
                found[os.path.relpath(path, directory)] = file.read()
    if found.keys() != files.keys():
        raise Failed(f"the model has other files: {sorted(found.keys() ^ files.keys())}")
    for path, content in found.items():
        if content != files[path]:
            raise Failed(f"the model has other bytes in {path}")


def put(files, directory):
    shutil.rmtree(directory, ignore_errors=True)
    os.makedirs(os.path.join(directory, "store/blobs"), mode=0o700)
    for path, content in files.items():
        path = os.path.join(directory, path)
        os.makedirs(os.path.dirname(path), mode=0o700, exist_ok=True)
        with open(path, "wb") as file:
            file.write(content)
        os.chmod(path, 0o600)


def records_of(installation, address):
    stub = audit_rpc.AuditServiceStub(installation.channel(address, "auditor"))
    token = ""
    while True:
        page = stub.QueryAuditEvents(audit.QueryAuditEventsRequest(
            page_size=1000, page_token=token, order_by="event_time"))
        for event in page.audit_events:
            yield int(event.name.rsplit("/", 1)[1]), event.leaf_hash, event.ticket
        token = page.next_page_token
        if not token:
            return


def missing(installation, told):
    """What callers were told and is not there, or is there twice."""
    try:
        process, address = installation.start()
    except Failed as failed:
        return [str(failed)]
    try:
        return list(lost(installation, address, told))
    except grpc.RpcError as error:
        return [f"a call fails: {error.details()}"]
    finally:
        process.kill()
        process.wait()


def lost(installation, address, told):
    found = list(records_of(installation, address))
    leaves = {index: (leaf, ticket) for index, leaf, ticket in found}
    tickets = [ticket for _, _, ticket in found if ticket]
    for ticket in {ticket for ticket in tickets if tickets.count(ticket) > 1}:
        yield f"two records of {ticket}"
    stub = keys_rpc.KeyServiceStub(installation.channel(address, "ops"))
    listed = stub.ListKeys(keys.ListKeysRequest(page_size=1000)).keys
    versions = [version.name for key in listed for version in key.versions]
    for version in {version for version in versions if versions.count(version) > 1}:
        yield f"{version} twice"
    for _, kind, *facts in told:
        if kind == "record" and leaves.get(facts[1]) != (facts[2], facts[0]):
            yield f"the record of {facts[0]}"
        if kind == "version" and facts[0] not in versions:
            yield facts[0]
    values = [facts for _, kind, *facts in told if kind == "value"]
    sealer = rpc.EncryptionServiceStub(installation.channel(address, "app"))
    fields = sorted({key for key, *_ in values})
    for at in range(0, len(values), 500):
        some = values[at:at + 500]
        answer = sealer.BatchDecrypt(fs.BatchDecryptRequest(
            fields=[named(key) for key in fields],
            items=[fs.DecryptItem(field_index=fields.index(key), partition=partition, ciphertext=sealed)
                   for key, partition, _, sealed in some]))
        for (_, _, plain, _), result in zip(some, answer.results, strict=True):
            if result.ok.plaintext.string_value != plain:
                yield f"the ciphertext of {plain}"
    verified = installation.verified()
    if verified.returncode:
        yield f"the log: {verified.stderr.decode()[:200]}"


def moments(disk, told, cuts, chance):
    """Lines of the trace: around what was done to the files, and right after an answer."""
    for cut in range(cuts):
        if cut % 2 and told:
            moment = chance.choice(told)[0]
            yield next((at for at, t in enumerate(disk.times) if t > moment), len(disk.times))
        else:
            yield chance.choice(disk.interesting) + chance.randint(0, 1)


def cut(installation, disk, told, line, choice, ignored=lambda path, call: False):
    moment = disk.times[line] if line < len(disk.times) else float("inf")
    known = [fact for fact in told if fact[0] < moment]
    put(disk.image(line, choice, ignored), installation.state)
    return known, missing(installation, known)


def main():
    arguments = argparse.ArgumentParser()
    for name, kind, default in [
        ("binary", str, None), ("work", str, None), ("cuts", int, 30), ("seed", int, 1),
    ]:
        arguments.add_argument("--" + name, type=kind, default=default, required=default is None)
    given = arguments.parse_args()
    installation = Installation(given.binary, given.work)
    disk, told = record(installation, given.work)
    chance = random.Random(given.seed)
    counts, losses, checked = dict.fromkeys(Choice.HOW, 0), [], 0
    for number, line in enumerate(moments(disk, told, given.cuts, chance)):
        how = Choice.HOW[number % len(Choice.HOW)]
        known, gone = cut(installation, disk, told, line, Choice(how, chance))
        counts[how], checked = counts[how] + 1, checked + len(known)
        losses += [f"cut at line {line}, {how}: {what}" for what in gone]
    done = json.dumps(counts)
    print(f"cuts {given.cuts} {done}, acknowledged {len(told)}, looked at {checked}, lost {len(losses)}")
    for loss in losses[:10]:
        print(f"error: {loss}")
    # The same without the syncs: whatever the test would not notice shows here.
    for file in ("audit/", "store/"):
        found = 0
        for line in moments(disk, told, 10, chance):
            ignored = lambda path, call, file=file: path.startswith(file) and call == "fdatasync"
            found += len(cut(installation, disk, told, line, Choice("dropped", chance), ignored)[1])
        print(f"without fdatasync in {file}: lost {found}")
        if not found:
            losses.append(f"nobody notices that {file} is not synced")
            print(f"error: {losses[-1]}")
    if len(told) < ACKNOWLEDGED or checked < len(told):
        losses.append("too little was acknowledged")
        print(f"error: {losses[-1]}")
    return bool(losses)


if __name__ == "__main__":
    sys.exit(main())
