#!/usr/bin/env python3
"""Checks an archive of audit evidence that `fieldseal audit pack` made.

    python3 -I verify.py --public-key log.pub [--checkpoint KEPT] [DIRECTORY]

Needs Python 3.9 and nothing else. It was written from docs/evidence.md and docs/audit-log.md and shares no
code with Fieldseal. DIRECTORY is where the archive was unpacked; without it, where this file stands.
`-I` keeps Python from running what lies beside this file, or what the environment names. Whoever does not
trust who made the archive takes this file from somewhere else.

Exit code 0: everything is as it was signed. 10: so it is, and the detail of some records was redacted.
7: something is wrong. 2: the command, the key or the files cannot be understood.
"""

import sys

if __name__ == "__main__" and not sys.flags.isolated:
    # Before anything else is imported: a json.py in the archive is not the one of Python.
    beside = sys.path[0]
    sys.path[:] = [path for path in sys.path if path not in (beside, "", ".")]

import argparse
import base64
import datetime
import hashlib
import json
import os
import re

KINDS = {
    1: "CALL",
    2: "KEY_CREATED",
    3: "KEY_ROTATED",
    4: "DATA_KEY_CREATED",
    5: "SEALS_RESERVED",
    6: "KEY_UPDATED",
    7: "VERSION_ENABLED",
    8: "VERSION_DISABLED",
    9: "VERSION_DESTROY_SCHEDULED",
    10: "VERSION_RESTORED",
    11: "VERSION_DESTROYED",
    12: "REWRAP_STARTED",
    13: "DATA_KEYS_REWRAPPED",
    14: "REWRAP_ENDED",
    15: "CLOCK_TICKED",
    16: "START",
    17: "STOP",
    18: "TAIL_RECOVERED",
    19: "POLICY_RELOADED",
    20: "PARTITION_SHREDDED",
    21: "PARTITION_RESTORED",
    22: "PARTITION_ERASED",
    23: "PARTITION_REOPENED",
    24: "VERSION_USED",
    25: "ROOT_DRILLED",
    26: "ROOT_ROTATED",
    27: "ROOT_REWRAPPED",
    28: "BACKUP_CREATED",
    29: "BACKUP_RESTORED",
    30: "SCRUB_FOUND",
    31: "BACKUP_DRILLED",
    32: "REPAIRED",
    33: "BACKUP_PRUNED",
    45: "DETAILS_REDACTED",
    46: "SEGMENTS_ARCHIVED",
    60: "APPROVAL_REQUESTED",
    61: "APPROVAL_REJECTED",
    62: "APPROVAL_EXPIRED",
    63: "APPROVALS_REMOVED",
    70: "APPROVAL_GRANTED",
}
ACTIONS = {
    1: "Encrypt",
    2: "Decrypt",
    3: "BatchEncrypt",
    4: "BatchDecrypt",
    16: "CreateKey",
    17: "GetKey",
    18: "ListKeys",
    19: "RotateKey",
    20: "UpdateKey",
    21: "EnableKeyVersion",
    22: "DisableKeyVersion",
    23: "ScheduleDestroyKeyVersion",
    24: "RestoreKeyVersion",
    25: "RewrapDataKeys",
    26: "GetRotationStatus",
    27: "ShredPartition",
    28: "RestorePartition",
    29: "GetRewrapJob",
    30: "CancelRewrapJob",
    31: "ReopenPartition",
    32: "QueryAuditEvents",
    33: "GetCheckpoint",
    34: "GetPartition",
    35: "SummarizeAccess",
    40: "GetInclusionProof",
    41: "GetConsistencyProof",
    45: "RedactAuditEvents",
    46: "ArchiveAuditEvents",
    48: "GetStatus",
    49: "ReloadPolicy",
    50: "CreateBackup",
    51: "PruneBackups",
    52: "TailAuditEvents",
    60: "ListApprovals",
    61: "ApproveChange",
    62: "RejectChange",
    64: "Recover",
    65: "RootDrill",
    66: "RootRotate",
    67: "RootRewrap",
    68: "RestoreBackup",
    69: "Repair",
    70: "BackupDrill",
}
OUTCOMES = {
    1: "OK",
    2: "DENIED",
    3: "FAILED",
    4: "PARTIAL",
}
CALL, START, RELOADED, REDACTED = 1, 16, 19, 45
OK, DENIED, FAILED = 1, 2, 3
READS = ("Decrypt", "BatchDecrypt", "Recover")
# What the sidecar notes for itself: no change that anybody made.
UNREMARKED = ("DATA_KEY_CREATED", "SEALS_RESERVED", "CLOCK_TICKED", "VERSION_USED", "START", "STOP")
HEADER = (
    "index,time,in_scope,kind,principal,certificate,action,outcome,purpose,ticket,end_user,item,key,"
    "key_version,table,column,row,partition,item_outcome,rule,cause,note,detail\n"
)
# Protobuf (log.proto): number, name and form of each field that is read.
REDACTION = {1: ("first", int), 2: ("count", int), 3: ("item", int), 4: ("item_count", int)}
VERDICT = {2: ("rule", str), 3: ("key", str), 4: ("table", str), 5: ("column", str), 6: ("cause", str)}
RECORD = {
    1: ("kind", int), 2: ("time", "time"), 3: ("principal", str), 4: ("action", int),
    5: ("outcome", int), 6: ("purpose", str), 7: ("verdicts", [VERDICT]), 11: ("key_version", int),
    13: ("note", str), 14: ("policy_digest", bytes), 45: ("redactions", [REDACTION]),
    80: ("certificate", bytes),
}
HEAD = {
    1: ("ticket", str), 2: ("items_root", bytes), 3: ("item_count", int), 4: ("partition", bytes),
    5: ("end_user", bytes),
}
ITEM = {
    1: ("verdict", int), 2: ("row", bytes), 3: ("partition", bytes), 4: ("key_version", int),
    5: ("outcome", int), 6: ("cause", str),
}
EPOCH = datetime.datetime(1970, 1, 1)
INSTANT = re.compile(r"([0-9]{4})-([0-9]{2})-([0-9]{2})T([0-9]{2}):([0-9]{2}):([0-9]{2})\.([0-9]{9})Z")
FILES = (
    "README.txt", "summary.html", "verify.py", "manifest.json", "log.pub", "checkpoint", "proof.json",
    "records.bin", "records.csv", "policies.json", "keys.json",
)


class Wrong(Exception):
    """Something is not as it was signed."""


class Unusable(Exception):
    """The command, the key or the files cannot be understood."""


def demand(condition, what):
    if not condition:
        raise Wrong(what)


def whole(value, what):
    """A number that counts: no fraction, and neither true nor false, which Python counts with too."""
    demand(type(value) is int and value >= 0, "%s is no whole number" % what)
    return value


def same(shown, expected):
    """Whether JSON is this, `true` being another value than 1."""
    return json.dumps(shown, sort_keys=True) == json.dumps(expected, sort_keys=True)


def no_number(text):
    raise Wrong("%s is no whole number" % text)


def members(pairs):
    demand(len(dict(pairs)) == len(pairs), "a member of JSON is there twice")
    return dict(pairs)


def sha256(*parts):
    return hashlib.sha256(b"".join(parts)).digest()


# Ed25519 (RFC 8032, section 5.1): only the check of a signature, so nothing here is secret.

P = 2**255 - 19
ORDER = 2**252 + 27742317777372353535851937790883648493
D = -121665 * pow(121666, P - 2, P) % P


def add(a, b):
    """Points as (X, Y, Z, T) with x = X/Z, y = Y/Z and xy = T/Z."""
    c, d = (a[1] - a[0]) * (b[1] - b[0]) % P, (a[1] + a[0]) * (b[1] + b[0]) % P
    e, f = 2 * a[3] * b[3] * D % P, 2 * a[2] * b[2] % P
    g, h, i, j = d - c, f - e, f + e, d + c
    return (g * h % P, i * j % P, h * i % P, g * j % P)


def times(scalar, point):
    total = (0, 1, 1, 0)
    while scalar:
        if scalar & 1:
            total = add(total, point)
        point, scalar = add(point, point), scalar >> 1
    return total


def decompress(data):
    y = int.from_bytes(data, "little")
    sign, y = y >> 255, y & (2**255 - 1)
    demand(y < P, "a signature or key is no point of the curve")
    square = (y * y - 1) * pow(D * y * y + 1, P - 2, P) % P
    x = pow(square, (P + 3) // 8, P)
    if x * x % P != square:
        x = x * pow(2, (P - 1) // 4, P) % P
    demand(x * x % P == square and (x or not sign), "a signature or key is no point of the curve")
    x = P - x if x & 1 != sign else x
    return (x, y, 1, x * y % P)


BASE = decompress(b"\x58" + b"\x66" * 31)


def is_signed(key, message, signature):
    s = int.from_bytes(signature[32:], "little")
    if len(signature) != 64 or s >= ORDER:
        return False
    point, nonce = decompress(key), decompress(signature[:32])
    digest = hashlib.sha512(signature[:32] + key + message).digest()
    challenge = int.from_bytes(digest, "little") % ORDER
    a, b = times(s, BASE), add(nonce, times(challenge, point))
    return (a[0] * b[2] - b[0] * a[2]) % P == 0 and (a[1] * b[2] - b[1] * a[2]) % P == 0


def read_key(text):
    """Origin, key and key hash of a verifier key, `origin+hash+key`."""
    try:
        origin, digits, key = text.strip().split("+", 2)
        key = base64.b64decode(key, validate=True)
    except ValueError:
        raise Unusable("the public key is one line: origin+hash+key") from None
    key_hash = sha256(origin.encode(), b"\n", key)[:4]
    if len(key) != 33 or key[:1] != b"\x01" or key_hash.hex() != digits:
        raise Unusable("the public key is no Ed25519 key, or its hash does not fit")
    return origin, key[1:], key_hash


def read_checkpoint(text, origin, key, key_hash):
    """Size and root of a signed note."""
    try:
        body, signatures = text.split("\n\n", 1)
        claimed, size, root = body.split("\n")
        size, root = int(size), base64.b64decode(root, validate=True)
        signed = [line[2:].rsplit(" ", 1) for line in signatures.splitlines()]
        signed = [(name, base64.b64decode(data, validate=True)) for name, data in signed]
    except ValueError:
        raise Wrong("the checkpoint is no signed note") from None
    demand(claimed == origin, "the checkpoint is another log's, or the key is")
    good = [data for name, data in signed if name == origin and data[:4] == key_hash]
    message = (body + "\n").encode()
    demand(any(is_signed(key, message, data[4:]) for data in good), "this key did not sign the checkpoint")
    return size, root


def as_note(text):
    """A checkpoint that was kept, as a signed note: it is one, or the line of `audit anchor`."""
    if "\n\n" in text:
        return text
    words = text.split()
    if len(words) != 4:
        raise Unusable("what was kept is neither a signed note nor a line of origin, size, root and signature")
    return "%s\n%s\n%s\n\n\u2014 %s %s\n" % (*words[:3], words[0], words[3])


# Messages, records and details.


def varint(data, at):
    value = 0
    for shift in range(0, 70, 7):
        demand(at < len(data), "a number is cut off")
        value, at = value | (data[at] & 0x7F) << shift, at + 1
        if data[at - 1] < 0x80:
            return value & (2**64 - 1), at
    raise Wrong("a number is too long")


def part(data, at, length):
    demand(at + length <= len(data), "a record is cut off")
    return data[at : at + length], at + length


def decode(message, fields):
    """A protobuf message; fields that are not known are passed over."""
    out = {}
    for name, form in fields.values():
        out[name] = [] if isinstance(form, list) else 0 if form == "time" else form()
    at = 0
    while at < len(message):
        tag, at = varint(message, at)
        if tag & 7 == 0:
            value, at = varint(message, at)
        elif tag & 7 == 2:
            length, at = varint(message, at)
            value, at = part(message, at, length)
        else:
            demand(tag & 7 in (1, 5), "a field of a record has no known form")
            value, at = part(message, at, 8 if tag & 7 == 1 else 4)
        name, form = fields.get(tag >> 3, (None, None))
        if form == "time":
            out[name] = int.from_bytes(value, "little", signed=True)
        elif isinstance(form, list):
            out[name].append(decode(value, form[0]))
        elif name is not None:
            out[name] = value.decode() if form is str else value
    return out


def split(tree_size):
    """The largest power of two that is less (RFC 6962, section 2.1)."""
    return 1 << (tree_size - 1).bit_length() - 1


def root_of(hashes):
    if len(hashes) == 1:
        return hashes[0]
    at = split(len(hashes))
    return sha256(b"\1", root_of(hashes[:at]), root_of(hashes[at:]))


def read_detail(detail, commitment):
    """Head and items of a detail, which must be what the record commits to; None if there is none. Of an item
    that was redacted its leaf hash stands there, behind zeroes in place of the salt; it is None."""
    if not detail:
        return None
    salt, at = part(detail, 0, 16)
    length, at = varint(detail, at)
    head, at = part(detail, at, length)
    demand(sha256(salt, head) == commitment, "a detail is not the one that its record commits to")
    head, hashes, items = decode(head, HEAD), [], []
    while at < len(detail):
        salt, at = part(detail, at, 16)
        if salt == bytes(16):
            leaf_hash, at = part(detail, at, 32)
            hashes.append(leaf_hash)
            items.append(None)
            continue
        length, at = varint(detail, at)
        item, at = part(detail, at, length)
        hashes.append(sha256(b"\0", salt, item))
        items.append(decode(item, ITEM))
    root = root_of(hashes) if hashes else b""
    good = root == head["items_root"] and len(items) == head["item_count"]
    demand(good, "the items of a record are not those that it commits to")
    return head, items


class Record:
    def __init__(self, index, leaf, detail):
        demand(len(leaf) >= 32, "a record is too short")
        self.index, self.leaf_hash = index, sha256(b"\0", leaf)
        self.public, commitment = decode(leaf[:-32], RECORD), leaf[-32:]
        found = read_detail(detail, commitment)
        self.head, items = found or (decode(b"", HEAD), [])
        had_one = commitment != bytes(32)
        demand(had_one or not detail, "a record has a detail that it does not commit to")
        self.absent = [number for number, item in enumerate(items) if item is None]
        there = "redacted" if not found else "partly" if self.absent else "whole"
        self.detail = there if had_one else "none"
        self.fields = [self.item(number, item) for number, item in enumerate(items)]
        self.fields = self.fields or [self.decided(at) for at in range(len(self.public["verdicts"]))]
        self.fields = self.fields or [self.decided(-1) | {"partition": b"", "key_version": 0}]

    def decided(self, at):
        verdicts, nothing = self.public["verdicts"], decode(b"", VERDICT)
        return (verdicts[at] if 0 <= at < len(verdicts) else nothing) | {
            "item": "", "row": b"", "partition": self.head["partition"],
            "key_version": self.public["key_version"], "outcome": self.public["outcome"],
        }

    def item(self, number, item):
        if item is None:
            nothing = self.decided(-1) | {"partition": b"", "key_version": 0, "outcome": 0}
            return nothing | {"item": str(number)}
        field = self.decided(item["verdict"])
        return field | {
            "item": str(number),
            "row": item["row"],
            "partition": field["partition"] or item["partition"],
            "key_version": max(item["key_version"], field["key_version"]),
            "outcome": item["outcome"] or field["outcome"],
            "cause": item["cause"] or field["cause"],
        }

    def decides(self):
        """Whether it says which policy is in force from here on."""
        kind, digest = self.public["kind"], self.public["policy_digest"]
        return bool(digest) and (kind == START or kind == RELOADED and self.public["outcome"] == OK)

    def rows(self, in_scope):
        """Its rows of records.csv."""
        public = self.public
        for field in self.fields:
            version = str(field["key_version"] or "")
            yield ",".join([
                str(self.index), instant(public["time"]), "yes" if in_scope else "no",
                named(KINDS, public["kind"]), cell(public["principal"]), public["certificate"].hex(),
                named(ACTIONS, public["action"]) if public["action"] else "",
                outcome(public["outcome"]), cell(public["purpose"]), cell(self.head["ticket"]),
                self.head["end_user"].hex(), field["item"], cell(field["key"]), version,
                cell(field["table"]), cell(field["column"]), field["row"].hex(),
                field["partition"].hex(), outcome(field["outcome"]), cell(field["rule"]),
                cell(field["cause"]), cell(public["note"]), self.detail,
            ]) + "\n"


def named(names, number):
    return names.get(number, str(number))


def outcome(number):
    return named(OUTCOMES, number) if number else ""


def instant(nanos):
    seconds, rest = divmod(nanos, 10**9)
    at = EPOCH + datetime.timedelta(seconds=seconds)
    return at.strftime("%Y-%m-%dT%H:%M:%S") + ".%09dZ" % rest


def read_instant(text):
    found = INSTANT.fullmatch(text) if type(text) is str else None
    demand(found, "%s is no moment as it is written here" % json.dumps(text))
    *parts, nanos = map(int, found.groups())
    at = datetime.datetime(*parts) - EPOCH
    return (at.days * 86400 + at.seconds) * 10**9 + nanos


def visible(text):
    """No control character, nothing that turns the direction of text."""
    turns = "\u200e\u200f\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069"
    shown = ""
    for c in text:
        control = c < " " or "\x7f" <= c < "\xa0" or c in turns or "\ud800" <= c <= "\udfff"
        shown += "\\n" if c == "\n" else "\\u{%x}" % ord(c) if control else c
    return shown


def cell(text):
    """The same, and no formula."""
    shown = visible(text)
    formula = shown[:1] in ("=", "+", "-", "@") and shown != ""
    if not formula and not any(c in shown for c in "\",;'"):
        return shown
    return '"' + ("'" if formula else "") + shown.replace('"', '""') + '"'


class Archive:
    def __init__(self, directory):
        self.directory = directory
        self.manifest = self.json("manifest.json")
        self.policies, self.absent, self.named_whole, self.named_items = [], [], {}, {}
        self.figures = dict.fromkeys(
            ("records", "fields_read", "fields_refused", "fields_failed", "calls_refused", "callers",
             "changes", "records_redacted"), 0)
        self.callers, self.edges, self.latest, self.back = set(), [], None, 0

    def path(self, name):
        return os.path.join(self.directory, *name.split("/"))

    def bytes(self, name):
        try:
            with open(self.path(name), "rb") as file:
                return file.read()
        except OSError as error:
            raise Unusable("%s cannot be read: %s" % (name, error.strerror)) from None

    def json(self, name):
        text = self.bytes(name).decode()
        return json.loads(
            text, parse_float=no_number, parse_constant=no_number, object_pairs_hook=members)

    def check_files(self):
        """The files are those of the manifest, and no other."""
        there = set()
        for at, directories, names in os.walk(self.directory):
            for name in directories + names:
                path = os.path.join(at, name)
                demand(not os.path.islink(path), "%s is a link" % path)
            there |= {os.path.relpath(os.path.join(at, name), self.directory) for name in names}
        there = {name.replace(os.sep, "/") for name in there} - {"manifest.json"}
        listed = {file["name"]: file for file in self.manifest["files"]}
        demand(len(listed) == len(self.manifest["files"]), "the manifest lists a file twice")
        for name in sorted(there ^ set(listed)):
            raise Wrong("%s is not there" % name if name in listed else "%s is not in the manifest" % name)
        for name in sorted(there):
            known = name in FILES or name.startswith("policies/")
            demand(known, "%s is no file of an archive of this format" % name)
            digest, size = hashlib.sha256(), 0
            with open(self.path(name), "rb") as file:
                for data in iter(lambda: file.read(1 << 20), b""):
                    digest.update(data)
                    size += len(data)
            good = listed[name]["sha256"] == digest.hexdigest() and whole(listed[name]["bytes"], "a size") == size
            demand(good, "%s is not what the manifest says" % name)

    def check_range(self, size, root):
        """The records and the proof lead to the checkpoint; everything else is looked at on the way."""
        manifest, proof = self.manifest, self.json("proof.json")
        self.first, self.end = whole(manifest["first"], "first"), whole(manifest["end"], "end")
        before = manifest["policy_record"]
        before = None if before is None else whole(before, "policy_record")
        demand(0 <= self.first < self.end <= size, "the range does not fit the log")
        demand(before is None or 0 <= before < self.first, "the policy's record does not fit the range")
        ranges = [] if before is None else [[before, before + 1]]
        ranges.append([self.first, self.end])
        behind = [whole(at, "a redaction's record") for at in manifest["redaction_records"]]
        order = [self.end - 1] + behind + [size]
        demand(all(a < b for a, b in zip(order, order[1:])), "redactions are out of order")
        ranges += [[at, at + 1] for at in behind]
        self.ranges = ranges
        claimed = [proof["tree_size"], manifest["tree_size"], manifest["root"], manifest["records"]]
        good = same(claimed, [size, size, root.hex(), self.end - self.first])
        demand(good, "a number is not the checkpoint's")
        demand(same(proof["ranges"], ranges), "the proof is about other records")
        self.since, until = read_instant(manifest["since"]), manifest["until"]
        self.until = None if until is None else read_instant(until)
        demand(self.until is None or self.since < self.until, "the time ends before it begins")
        given = iter([base64.b64decode(text, validate=True) for text in proof["hashes"]])
        with open(self.path("records.bin"), "rb") as records, open(self.path("records.csv"), "rb") as csv:
            demand(csv.read(len(HEADER)) == HEADER.encode(), "records.csv has other columns")

            def walk(start, end):
                if not any(first < end and start < last for first, last in ranges):
                    found = next(given, b"")
                    demand(len(found) == 32, "the proof has too few hashes")
                    return found
                if end - start == 1:
                    return self.next_record(start, records, csv)
                middle = start + split(end - start)
                left = walk(start, middle)
                return sha256(b"\1", left, walk(middle, end))

            found = walk(0, size)
            demand(next(given, None) is None, "the proof has too many hashes")
            demand(found == root, "these are not the records that were signed, or not at these places")
            demand(not records.read(1), "records.bin has more than its records")
            demand(not csv.read(1), "records.csv has more rows than there are")

    def next_record(self, index, records, csv):
        parts = []
        for _ in range(2):
            length = records.read(4)
            demand(len(length) == 4, "records.bin is cut off")
            data = records.read(int.from_bytes(length, "little"))
            demand(len(data) == int.from_bytes(length, "little"), "records.bin is cut off")
            parts.append(data)
        record = Record(index, *parts)
        at = record.public["time"]
        timely = at >= self.since and (self.until is None or at < self.until)
        in_scope = self.first <= index < self.end and timely
        is_edge = index == self.first > 0 or index + 1 == self.end < self.manifest["tree_size"]
        demand(not (is_edge and timely), "record %d is at the edge and in scope: others are left out" % index)
        if self.first <= index < self.end:
            self.back = max(self.back, 0 if self.latest is None else self.latest - at)
            self.latest = at if self.latest is None else max(self.latest, at)
            self.edges = self.edges[:1] + [record]
        for row in record.rows(in_scope):
            row = row.encode()
            demand(csv.read(len(row)) == row, "records.csv does not say what record %d says" % index)
        self.redactions(record)
        if record.decides():
            digest = record.public["policy_digest"]
            if not self.policies or self.policies[-1].public["policy_digest"] != digest:
                self.policies.append(record)
        if in_scope:
            self.count(record)
        return record.leaf_hash

    def redactions(self, record):
        """What of its detail is not there, and what it says was redacted."""
        if record.detail in ("redacted", "partly"):
            self.absent.append(record)
        if record.public["kind"] != REDACTED or record.public["outcome"] != OK:
            return
        for named in record.public["redactions"]:
            items = range(named["item"], named["item"] + named["item_count"])
            if any(first <= named["first"] < end for first, end in self.ranges):
                self.named_items.update({(named["first"], at): record.index for at in items})
            for first, end in self.ranges if not items else ():
                for at in range(max(first, named["first"]), min(end, named["first"] + named["count"])):
                    self.named_whole[at] = record.index

    def check_redactions(self):
        """What is not there is named by a record behind it."""
        for record in self.absent:
            at, by = record.index, self.named_whole.get(record.index, -1)
            is_named = by > at or record.detail == "partly" and all(
                self.named_items.get((at, item), -1) > at for item in record.absent)
            demand(is_named, "detail of record %d is not there, and no record says that it was redacted" % at)

    def count(self, record):
        public, figures = record.public, self.figures
        kind, action = public["kind"], ACTIONS.get(public["action"])
        figures["records"] += 1
        figures["records_redacted"] += record.detail in ("redacted", "partly")
        figures["calls_refused"] += kind == CALL and public["outcome"] == DENIED
        figures["changes"] += kind != CALL and KINDS.get(kind) not in UNREMARKED
        self.callers |= {public["principal"]} - {""}
        figures["callers"] = len(self.callers)
        for field in record.fields if kind == CALL and action in READS else ():
            figures["fields_read"] += field["outcome"] == OK
            figures["fields_refused"] += field["outcome"] == DENIED
            figures["fields_failed"] += field["outcome"] == FAILED

    def check_policies(self):
        listed = self.json("policies.json")["policies"]
        begins = self.first == 0 or self.manifest["policy_record"] is not None or self.edges[0].decides()
        demand(begins, "no record says which policy decided at the beginning of the range")
        expected = [
            {"digest": record.public["policy_digest"].hex(), "record": record.index,
             "time": instant(record.public["time"]), "kind": KINDS[record.public["kind"]]}
            for record in self.policies
        ]
        shown = [{name: value for name, value in policy.items() if name != "included"} for policy in listed]
        demand(same(shown, expected), "policies.json does not say what the records say")
        flags = [policy["included"] for policy in listed]
        demand(all(type(flag) is bool for flag in flags), "policies.json does not say what is included")
        if self.manifest["policy_record"] is not None:
            first = self.policies[0].index if self.policies else None
            demand(first == self.manifest["policy_record"], "the record before the range names no policy")
        included = set(os.listdir(self.path("policies"))) if os.path.isdir(self.path("policies")) else set()
        demand(included == {p["digest"] for p in listed if p["included"]}, "policies/ is not what is listed")
        for digest in included:
            self.check_policy(digest)

    def check_policy(self, digest):
        there = os.listdir(self.path("policies/%s" % digest))
        good = sorted(there) == ["builtin.cedarschema", "files"]
        demand(good, "policy %s has other files than a policy has" % digest)
        names = sorted(os.listdir(self.path("policies/%s/files" % digest)), key=os.fsencode)
        parts = [b"fieldseal/v1/policy", self.bytes("policies/%s/builtin.cedarschema" % digest)]
        for name in names:
            path = os.path.join(self.path("policies/%s/files" % digest), name)
            demand(os.path.isfile(path), "%s of policy %s is no file" % (name, digest))
            parts += [os.fsencode(name), self.bytes("policies/%s/files/%s" % (digest, name))]
        found = sha256(*[piece for one in parts for piece in (len(one).to_bytes(8, "little"), one)])
        demand(found.hex() == digest, "the files of policy %s are not those that were in force" % digest)


    def told(self):
        """What is not wrong, and what whoever reads this must know."""
        first, last, size = self.edges[0], self.edges[-1], self.manifest["tree_size"]
        if self.back:
            back = divmod(self.back, 10**9)
            yield "backward   by %d.%09d seconds at most, from a record to one behind it" % back
        if first.index > 0 and first.public["time"] >= self.since:
            at_first = "WARNING    record %d, before the range, is of a later time: the clock was set"
            yield at_first % first.index
        at = last.public["time"]
        if self.end < size and at < self.since:
            at_last = "WARNING    record %d, behind the range, is of an earlier time: what follows it"
            yield at_last % last.index
            yield "           may be of the time that was asked for, and is not in here"
        if self.end == size and self.until is None:
            yield "ends       at %s; what came after that is not in here" % instant(at)
        elif self.end == size and at < self.until:
            yield "WARNING    the log of this checkpoint ends within the time: nothing is shown about"
            yield "           %s to %s" % (instant(at), instant(self.until))


def check_kept(text, signer, size, root):
    """A checkpoint that was kept elsewhere; what it says about the archive's."""
    try:
        kept_size, kept_root = read_checkpoint(as_note(text), *signer)
    except Wrong as error:
        raise Wrong("of the checkpoint that was kept: %s" % error) from None
    demand(size >= kept_size, "the archive is of %d records, and %d were signed when the checkpoint that was "
           "kept was made: what came between is missing" % (size, kept_size))
    if size > kept_size:
        return "kept       %d records, fewer than here: the roots cannot be compared" % kept_size
    demand(root == kept_root, "the checkpoint that was kept has another root: the log has two pasts")
    return "kept       the same size and the same root"


def check(directory, public_key, kept=None):
    archive = Archive(directory)
    if whole(archive.manifest["format"], "the format") != 1:
        raise Unusable("the archive has a newer format; use the verify.py of a newer program")
    own = archive.bytes("log.pub").decode()
    signer = origin, _, _ = read_key(own if public_key is None else public_key)
    demand(own.strip() == (public_key or own).strip(), "the log.pub in the archive is another key than yours")
    demand(archive.manifest["origin"] == origin, "the archive says that it is of another log")
    archive.check_files()
    size, root = read_checkpoint(archive.bytes("checkpoint").decode(), *signer)
    archive.check_range(size, root)
    archive.check_redactions()
    archive.check_policies()
    good = same(archive.manifest["figures"], archive.figures)
    demand(good, "the manifest's figures are not the records'")
    kept = check_kept(kept, signer, size, root) if kept is not None else None
    return archive, origin, size, root, kept


def read_text(path):
    if path is None:
        return None
    with open(path, encoding="utf-8") as file:
        try:
            return file.read()
        except UnicodeDecodeError:
            raise Unusable("%s is no text" % path) from None


def say(line):
    print(visible(line))


def main():
    parser = argparse.ArgumentParser(description="Checks an archive of `fieldseal audit pack`.")
    parser.add_argument("--public-key", metavar="FILE", help="log.pub, from somewhere else than the archive")
    parser.add_argument("--checkpoint", metavar="FILE", help="a checkpoint of the log that was kept elsewhere")
    parser.add_argument("directory", nargs="?", default=os.path.dirname(os.path.abspath(__file__)))
    arguments = parser.parse_args()
    sys.stdout.reconfigure(errors="backslashreplace")
    try:
        public_key = read_text(arguments.public_key)
        archive, *rest = check(arguments.directory, public_key, read_text(arguments.checkpoint))
    except Wrong as error:
        say("WRONG      %s" % error)
        return 7
    except (LookupError, TypeError, AttributeError, ArithmeticError, RecursionError, ValueError) as error:
        # A file that is none of its kind: in an archive that was altered, or that is none.
        say("WRONG      a file is not what it should be (%s: %s)" % (type(error).__name__, error))
        return 7
    except (Unusable, OSError) as error:
        say("UNUSABLE   %s" % error)
        return 2
    report(archive, *rest)
    if public_key is None:
        say("WARNING    no --public-key was given: this shows only that the archive fits its own key")
    return 10 if archive.absent else 0


def report(archive, origin, size, root, kept):
    redacted = bool(archive.absent)
    say("%s   every record, detail and row is as it was signed" % ("REDACTED" if redacted else "VERIFIED"))
    if redacted:
        say("           but for detail of %d, which was redacted, as the log says" % len(archive.absent))
    say("log        %s" % origin)
    say("records    %d to %d of %d" % (archive.first, archive.end - 1, size))
    say("root       %s  (compare it with a checkpoint of %d records)" % (root.hex(), size))
    until = "to the end" if archive.until is None else "until before %s" % instant(archive.until)
    say("asked for  from %s %s" % (instant(archive.since), until))
    for name, value in archive.figures.items():
        say("           %s %s" % ("{:>12,}".format(value), name.replace("_", " ")))
    for line in archive.told():
        say(line)
    if kept is not None:
        say(kept)


if __name__ == "__main__":
    sys.exit(main())
