#!/usr/bin/env python3
"""Reads and verifies a Fieldseal audit log, without Fieldseal.

Written from docs/audit-log.md and proto/fieldseal/log/v1/log.proto alone. Needs Python 3.11 and the
package `cryptography`.

    read_log.py --log STATE/audit --public-key log.pub             a summary, as JSON
    read_log.py --log STATE/audit --public-key log.pub --records   also every record, one JSON a line
    read_log.py --log STATE/audit --public-key log.pub --checkpoint FILE   against one kept elsewhere

Exit code 10: personal detail was erased, and records of the log say so. 7: something is not as it was signed, or not signed by this key. 12: records are missing.
13: an end that nothing proves. 2: the key or the checkpoint is none. 3: there is no log.
"""

import argparse
import base64
import binascii
import bisect
import datetime
import hashlib
import json
import re
import sys
import zlib
from pathlib import Path

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

ED25519 = b"\x01"
SIGNATURE_BYTES = 64
COMMITMENT_BYTES = 32
SALT_BYTES = 16
FORMAT = 1
NO_DETAIL = bytes(COMMITMENT_BYTES)
SEGMENT_NAME = re.compile(r"segment-(\d{20})\.log")

# In the place of a redacted item's salt.
REDACTED_SALT = bytes(SALT_BYTES)

# Protobuf: field number, name and kind. A list in brackets is a repeated field.
REDACTION = {
    1: ("first", int),
    2: ("count", int),
    3: ("item", int),
    4: ("item_count", int),
}
ARCHIVED_SEGMENT = {
    1: ("first", int),
    2: ("count", int),
    3: ("bytes", int),
    4: ("sha256", bytes),
}
VERDICT = {
    1: ("decision", int),
    2: ("rule", str),
    3: ("key", str),
    4: ("table", str),
    5: ("column", str),
    6: ("cause", str),
    7: ("generation", int),
}
LABEL = {
    1: ("name", str),
    2: ("value", str),
}
PROCESS_SETTING = {
    1: ("name", str),
    2: ("value", str),
}
PROCESS_CERTIFICATE = {
    1: ("usage", str),
    2: ("sha256", bytes),
    3: ("not_after", "sfixed64"),
}
KEY_SETTINGS = {
    3: ("rotation_period_seconds", int),
    4: ("destroy_window_seconds", int),
    5: ("data_key_lifetime_seconds", int),
    6: ("seal_limit", int),
    7: ("suites", bytes),  # Packed: one number after the other.
    8: ("log_encrypts", int),
    9: ("row_required", int),
    10: ("partition_required", int),
    11: ("purpose_required", int),
    12: ("labels", [LABEL]),
    13: ("end_user_required", int),
    14: ("allowed_purposes", [str]),
    15: ("ticket_patterns", [str]),
}
RECORD = {
    1: ("kind", int),
    2: ("time", "sfixed64"),
    3: ("principal", str),
    4: ("action", int),
    5: ("outcome", int),
    6: ("purpose", str),
    7: ("verdicts", [VERDICT]),
    8: ("item_count", int),
    9: ("revision", int),
    10: ("anchor", bytes),
    11: ("key_version", int),
    12: ("key_id", bytes),
    13: ("note", str),
    14: ("policy_digest", bytes),
    15: ("previous_policy_digest", bytes),
    16: ("count", int),
    17: ("key_ids", bytes),
    18: ("erased_key_id", bytes),
    19: ("settings", KEY_SETTINGS),
    30: ("calls", int),
    31: ("first_time", "sfixed64"),
    45: ("redactions", [REDACTION]),
    46: ("archived", [ARCHIVED_SEGMENT]),
    80: ("certificate", bytes),
    81: ("settings_digest", bytes),
    82: ("settings_told", [PROCESS_SETTING]),
    83: ("certificates", [PROCESS_CERTIFICATE]),
}
DETAIL_HEAD = {
    1: ("ticket", str),
    2: ("items_root", bytes),
    3: ("item_count", int),
    4: ("partition", bytes),
    5: ("end_user", bytes),
}
ITEM = {
    1: ("verdict", int),
    2: ("row", bytes),
    3: ("partition", bytes),
    4: ("key_version", int),
    5: ("outcome", int),
    6: ("cause", str),
    10: ("calls", int),
}
SEGMENT_HEAD = {
    1: ("format", int),
    2: ("origin", str),
    3: ("first", int),
    4: ("peaks", [bytes]),
    5: ("revision", int),
    6: ("time", "sfixed64"),
    7: ("previous", int),
    8: ("anchor", bytes),
    9: ("changed", int),
}
FRAME_HEAD = {
    1: ("first", int),
    2: ("count", int),
    3: ("root", bytes),
    4: ("synced", int),
}
KINDS = {1: "CALL", 2: "KEY_CREATED", 3: "KEY_ROTATED", 4: "DATA_KEY_CREATED"}
KINDS |= {5: "SEALS_RESERVED", 16: "START", 17: "STOP", 18: "TAIL_RECOVERED"}
KINDS |= {19: "POLICY_RELOADED", 6: "KEY_UPDATED", 7: "VERSION_ENABLED", 8: "VERSION_DISABLED"}
KINDS |= {9: "VERSION_DESTROY_SCHEDULED", 10: "VERSION_RESTORED", 11: "VERSION_DESTROYED"}
KINDS |= {12: "REWRAP_STARTED", 13: "DATA_KEYS_REWRAPPED", 14: "REWRAP_ENDED"}
KINDS |= {15: "CLOCK_TICKED", 20: "PARTITION_SHREDDED", 21: "PARTITION_RESTORED"}
KINDS |= {22: "PARTITION_ERASED", 23: "PARTITION_REOPENED", 24: "VERSION_USED"}
KINDS |= {25: "ROOT_DRILLED", 26: "ROOT_ROTATED", 27: "ROOT_REWRAPPED", 28: "BACKUP_CREATED"}
KINDS |= {29: "BACKUP_RESTORED", 30: "SCRUB_FOUND", 31: "BACKUP_DRILLED", 32: "REPAIRED"}
KINDS |= {33: "BACKUP_PRUNED", 45: "DETAILS_REDACTED", 46: "SEGMENTS_ARCHIVED"}
KINDS |= {60: "APPROVAL_REQUESTED", 61: "APPROVAL_REJECTED"}
KINDS |= {62: "APPROVAL_EXPIRED", 63: "APPROVALS_REMOVED"}
KINDS |= {70: "APPROVAL_GRANTED"}
ACTIONS = {1: "Encrypt", 2: "Decrypt", 3: "BatchEncrypt", 4: "BatchDecrypt", 16: "CreateKey"}
ACTIONS |= {20: "UpdateKey", 21: "EnableKeyVersion", 22: "DisableKeyVersion"}
ACTIONS |= {23: "ScheduleDestroyKeyVersion", 24: "RestoreKeyVersion"}
ACTIONS |= {17: "GetKey", 18: "ListKeys", 19: "RotateKey", 32: "QueryAuditEvents"}
ACTIONS |= {33: "GetCheckpoint", 48: "GetStatus", 49: "ReloadPolicy", 64: "Recover"}
ACTIONS |= {50: "CreateBackup", 51: "PruneBackups", 68: "RestoreBackup", 70: "BackupDrill"}
ACTIONS |= {27: "ShredPartition", 28: "RestorePartition", 31: "ReopenPartition"}
ACTIONS |= {34: "GetPartition", 35: "SummarizeAccess", 45: "RedactAuditEvents"}
ACTIONS |= {46: "ArchiveAuditEvents"}
ACTIONS |= {40: "GetInclusionProof", 41: "GetConsistencyProof", 52: "TailAuditEvents"}
ACTIONS |= {60: "ListApprovals", 61: "ApproveChange", 62: "RejectChange"}
OUTCOMES = {1: "OK", 2: "DENIED", 3: "FAILED", 4: "PARTIAL"}
DECISIONS = {1: "permitted", 2: "denied", 3: "malformed", 5: "token refused"}
NAMES = {"kind": KINDS, "action": ACTIONS, "outcome": OUTCOMES, "decision": DECISIONS}


class Malformed(Exception):
    """Bytes that are not what they should be."""


class Foreign(Exception):
    """Another log, or another log's key."""


class NotThere(Exception):
    """There is no log."""


# From the best to the worst, with the exit code.
EXITS = {"OK": 0, "REDACTED": 10, "ARCHIVED": 11, "UNPROVEN-TAIL": 13, "MISSING": 12, "TAMPERED": 7}
WORSE = list(EXITS)


def varint(data, at):
    """A varint and the place behind it."""
    value = 0
    for shift in range(0, 70, 7):
        if at >= len(data):
            raise Malformed("a number is cut off")
        byte = data[at]
        at += 1
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            return value & (2**64 - 1), at
    raise Malformed("a number is too long")


def part(data, at, length):
    """So many bytes and the place behind them."""
    if at + length > len(data):
        raise Malformed("it is cut off")
    return data[at : at + length], at + length


def default(kind):
    if isinstance(kind, list):
        return []
    if isinstance(kind, dict):
        return {}
    return 0 if kind == "sfixed64" else kind()


def decode(message, fields):
    """A protobuf message. What it does not set has its default; unknown fields are passed over."""
    out = {name: default(kind) for name, kind in fields.values()}
    at = 0
    while at < len(message):
        tag, at = varint(message, at)
        wire = tag & 7
        if wire == 0:
            value, at = varint(message, at)
        elif wire == 2:
            length, at = varint(message, at)
            value, at = part(message, at, length)
        elif wire in (1, 5):
            value, at = part(message, at, 8 if wire == 1 else 4)
        else:
            raise Malformed("a field has no known form")
        if tag >> 3 not in fields:
            continue
        name, kind = fields[tag >> 3]
        single = kind[0] if isinstance(kind, list) else kind
        form = 0 if single is int else 1 if single == "sfixed64" else 2
        if wire != form:
            raise Malformed(f"the field {name} has another form")
        value = typed(value, single)
        if isinstance(kind, list):
            out[name].append(value)
        else:
            out[name] = value
    return out


def typed(value, kind):
    if isinstance(kind, dict):
        return decode(value, kind)
    if kind == "sfixed64":
        return int.from_bytes(value, "little", signed=True)
    if kind is str:
        try:
            return value.decode()
        except UnicodeDecodeError:
            raise Malformed("a text is no UTF-8") from None
    return value


def sha256(*parts):
    return hashlib.sha256(b"".join(parts)).digest()


def pae(*parts):
    out = [len(parts).to_bytes(4, "little")]
    for one in parts:
        out += [len(one).to_bytes(4, "little"), one]
    return b"".join(out)


class Tree:
    """RFC 6962, section 2.1: the roots of the complete subtrees, the largest first."""

    def __init__(self, size=0, peaks=()):
        self.size, self.peaks = size, list(peaks)

    def append(self, leaf):
        self.append_hash(sha256(b"\x00", leaf))

    def append_hash(self, node):
        size = self.size
        while size & 1:
            node = sha256(b"\x01", self.peaks.pop(), node)
            size >>= 1
        self.peaks.append(node)
        self.size += 1

    def root(self):
        if not self.peaks:
            return sha256()
        node = self.peaks[-1]
        for peak in reversed(self.peaks[:-1]):
            node = sha256(b"\x01", peak, node)
        return node


def read_public_key(text):
    """Origin, key and key hash of a verifier key, `origin+hash+key`."""
    try:
        origin, digits, encoded = text.strip().split("+", 2)
        key = base64.b64decode(encoded, validate=True)
    except (ValueError, binascii.Error):
        raise Malformed("the public key is one line: origin+hash+key") from None
    key_hash = sha256(origin.encode(), b"\n", key)[:4]
    if key[:1] != ED25519 or len(key) != 33 or digits != key_hash.hex():
        raise Malformed("the public key's hash does not fit, or it is no Ed25519 key")
    return origin, Ed25519PublicKey.from_public_bytes(key[1:]), key_hash


def checkpoint_body(origin, tree):
    return f"{origin}\n{tree.size}\n{base64.b64encode(tree.root()).decode()}\n"


def sequence(data):
    """The parts of `(le32 length | part)*`."""
    at, out = 0, []
    while at < len(data):
        length, at = part(data, at, 4)
        one, at = part(data, at, int.from_bytes(length, "little"))
        out.append(one)
    return out


def close(data, at):
    """Checks CRC and padding of what begins at 0 and ends with its CRC at `at`."""
    crc, end = part(data, at, 4)
    if zlib.crc32(data[:at]) != int.from_bytes(crc, "little"):
        raise Malformed("its checksum does not fit")
    padding, end = part(data, end, -end % 8)
    if any(padding):
        raise Malformed("its padding is not zero")
    return end


def frame_lengths(prefix):
    """The lengths of a frame's head, leaves and details."""
    if len(prefix) < 16 or prefix[:4] != b"FSFR":
        raise Malformed("no frame begins where one should")
    return [int.from_bytes(prefix[i : i + 4], "little") for i in (4, 8, 12)]


def frame_bytes(prefix):
    """How many bytes a whole frame takes."""
    covered = 16 + sum(frame_lengths(prefix)) + SIGNATURE_BYTES + 4
    return covered + -covered % 8


def read_detail(detail, commitment):
    """Ticket, partition and items of a detail, checked against the leaf's commitment, and what of it is
    not there: "all", or the numbers of its items. An item that is not there is None."""
    if not detail:
        return None, ("all" if commitment != NO_DETAIL else [])
    salt, at = part(detail, 0, SALT_BYTES)
    length, at = varint(detail, at)
    head, at = part(detail, at, length)
    if sha256(salt, head) != commitment:
        raise Malformed("a record's detail is not the one it commits to")
    out, tree, items = decode(head, DETAIL_HEAD), Tree(), []
    while at < len(detail):
        salt, at = part(detail, at, SALT_BYTES)
        if salt == REDACTED_SALT:
            leaf_hash, at = part(detail, at, 32)
            tree.append_hash(leaf_hash)
            items.append(None)
            continue
        length, at = varint(detail, at)
        item, at = part(detail, at, length)
        tree.append(salt + item)
        items.append(item)
    root = tree.root() if items else b""
    if root != out["items_root"] or len(items) != out["item_count"]:
        raise Malformed("a record's items are not those it commits to")
    return out | {"items": items}, [n for n, item in enumerate(items) if item is None]


class Archived:
    """What records say was archived: how many of the first records."""

    def __init__(self):
        self.ranges = []

    def add(self, index, record):
        if record["kind"] == 46 and record["outcome"] == 1:
            for one in record["archived"]:
                if one["first"] + one["count"] <= index:
                    self.ranges.append((one["first"], one["first"] + one["count"]))

    def to(self):
        end = 0
        for first, last in sorted(self.ranges):
            if first > end:
                break
            end = max(end, last)
        return end


class Redactions:
    """What records say was erased."""

    def __init__(self):
        # First record and the one behind the last; record, first item and the one behind the last.
        self.records, self.items = [], {}

    def add(self, index, record):
        if record["kind"] != 45 or record["outcome"] != 1:
            return
        for one in record["redactions"]:
            end = one["first"] + one["count"]
            # It speaks of what stands before it.
            if end > index:
                continue
            if one["item_count"] == 0:
                self.records.append((one["first"], end))
            elif one["count"] == 1:
                items = range(one["item"], one["item"] + one["item_count"])
                self.items.setdefault(one["first"], []).append(items)

    def close(self):
        """Puts the ranges in order, those that touch together."""
        merged = []
        for first, end in sorted(self.records):
            if merged and first <= merged[-1][1]:
                merged[-1] = (merged[-1][0], max(merged[-1][1], end))
            else:
                merged.append((first, end))
        self.records = merged

    def allow(self, index, absent):
        """Whether what is not there of a record's detail is named."""
        at = bisect.bisect_right(self.records, (index, 2**64))
        if at and index < self.records[at - 1][1]:
            return True
        named = self.items.get(index, [])
        return absent != "all" and all(any(n in items for items in named) for n in absent)


    def linger(self, index, detail):
        """Whether something is there of a record's detail that is named."""
        there = [n for n, item in enumerate(detail["items"]) if item is not None]
        return self.allow(index, "all") or any(self.allow(index, [n]) for n in there)


def parse_frame(data):
    """Head, signature, leaves and details of a frame that is `data`, whatever its checksum says."""
    lengths = frame_lengths(data[:16])
    head, at = part(data, 16, lengths[0])
    signature, at = part(data, at, SIGNATURE_BYTES)
    leaves, at = part(data, at, lengths[1])
    details, at = part(data, at, lengths[2])
    return decode(head, FRAME_HEAD), signature, leaves, details, at


def whole_frame(data, at):
    """The frame that begins at a place, and what is wrong with its end."""
    frame, _ = part(data, at, frame_bytes(data[at : at + 16]))
    parsed = parse_frame(frame)
    try:
        close(frame, parsed[-1])
    except Malformed as error:
        return frame, parsed, error
    return frame, parsed, None


def was_synced(data, offset):
    """Whether a whole frame behind a place says that the place had been on disk."""
    at = data.find(b"FSFR", offset + 8)
    while at >= 0:
        if at % 8 == 0:
            try:
                _, parsed, damage = whole_frame(data, at)
                if damage is None and parsed[0]["synced"] > offset:
                    return True
            except Malformed:
                pass
        at = data.find(b"FSFR", at + 1)
    return False


def read_checkpoint(text, origin, key, key_hash):
    """Size and root of a checkpoint: a signed note, or its four parts in one line."""
    words = text.split()
    try:
        if len(words) == 4 and len(text.strip().splitlines()) == 1:
            body = "".join(word + "\n" for word in words[:3])
            signatures = [(words[0], base64.b64decode(words[3], validate=True))]
        else:
            body, signed = text.split("\n\n", 1)
            body += "\n"
            signatures = []
            for line in signed.splitlines():
                if not line.startswith("\u2014 "):
                    raise ValueError
                name, signature = line[2:].rsplit(" ", 1)
                signatures.append((name, base64.b64decode(signature, validate=True)))
        claimed, size, root = body.splitlines()[:3]
        root = base64.b64decode(root, validate=True)
        if not re.fullmatch(r"0|[1-9][0-9]*", size) or len(root) != 32:
            raise ValueError
    except (ValueError, binascii.Error):
        raise Malformed("this is no checkpoint") from None
    for name, signature in signatures:
        if claimed == name == origin and signature[:4] == key_hash:
            try:
                key.verify(signature[4:], body.encode())
                return int(size), root
            except InvalidSignature:
                pass
    raise Foreign(f"the checkpoint is of {claimed} and not signed by this key of {origin}")


class Log:
    """A log that is read from its first byte to its last, on beyond what is wrong."""

    def __init__(self, public_key, show=None, checkpoint=None, redactions=None):
        self.origin, self.key, self.key_hash = read_public_key(public_key)
        self.remembered = None
        if checkpoint is not None:
            self.remembered = read_checkpoint(checkpoint, self.origin, self.key, self.key_hash)
        self.show = show
        # What records say was erased. They stand behind those that they are about, so it is not known in
        # the first reading: until then whatever is not there counts as erased, and is noted.
        self.known, self.said, self.absent = redactions, Redactions(), []
        self.archived, self.archives = Archived(), []
        # As far as the leaves were read; whether that is proved; whether the rest of a segment is lost.
        self.tree, self.proved, self.lost = Tree(), True, False
        # The segment before: number, name, and where its frames end.
        self.before = None
        self.change, self.root_then = None, None
        # What is proved.
        self.good, self.signed = Tree(), None
        self.segments = self.signatures = self.details = 0
        self.ranges = []
        # How many records have detail that was to be erased.
        self.lingering = 0

    def verify(self, signature, message):
        try:
            self.key.verify(bytes(signature), message)
        except InvalidSignature:
            raise Malformed("its signature does not verify") from None

    def say(self, verdict, first, end, file, offset, what=""):
        last = self.ranges[-1] if self.ranges else None
        if last and last["verdict"] == verdict and last["end"] == first:
            last["end"] = end
            return
        one = {"verdict": verdict, "first": first, "end": end, "file": file, "offset": offset}
        self.ranges.append(one | {"what": str(what)})

    def lose(self, file, offset, what):
        """The rest of a segment cannot be read from here on."""
        self.lost = True
        self.say("TAMPERED", self.tree.size, self.tree.size, file, offset, what)

    def read(self, directory, archives=()):
        """Reads a log; a segment that is not there is looked for in the archives."""
        found, self.archives = {}, archives
        try:
            for place in (directory, *archives):
                for path in Path(place).iterdir():
                    if name := SEGMENT_NAME.fullmatch(path.name):
                        found.setdefault(int(name[1]), path)
        except FileNotFoundError as error:
            raise NotThere(error) from None
        segments = sorted(found.items())
        if not segments:
            raise NotThere(f"{directory} holds no segment of a log")
        self.segments = len(segments)
        for number, path in segments:
            self.read_segment(path, number, number == segments[-1][0])
        self.compare_with_remembered(segments[0][1].name)
        if self.lost:
            self.ranges[-1]["end"] = None
        self.judge_archived()

    def judge_archived(self):
        """What is not there of the oldest records is archived, as far as records say so."""
        end, gone = self.archived.to(), self.ranges[0] if self.ranges else None
        if self.archives or not end or not gone or (gone["verdict"], gone["first"]) != ("MISSING", 0):
            return
        what = "records are archived, and a record says so"
        archived = gone | {"verdict": "ARCHIVED", "what": what}
        if gone["end"] <= end:
            self.ranges[0] = archived
        else:
            self.ranges.insert(0, archived | {"end": end})
            gone |= {"first": end, "file": f"segment-{end:020}.log"}

    def read_segment(self, path, number, is_last):
        data, end = path.read_bytes(), 0
        try:
            start = self.read_header(data, number, path.name)
        except Malformed as error:
            self.lose(path.name, 0, error)
            self.proved = False
        else:
            end = self.read_frames(data, start, path.name, is_last)
        self.before = (number, path.name, end)

    def read_header(self, data, number, name):
        magic, at = part(data, 0, 8)
        if magic != b"FSLOGSEG":
            raise Malformed("it does not begin like a segment")
        length, at = part(data, at, 4)
        head, at = part(data, at, int.from_bytes(length, "little"))
        signature, at = part(data, at, SIGNATURE_BYTES)
        end = close(data, at)
        if self.before is None:
            # Before any signature: under another log's key none verifies.
            claimed = decode(head, SEGMENT_HEAD)["origin"]
            if claimed != self.origin:
                raise Foreign(f"it says that it belongs to {claimed}, and the key to {self.origin}")
        self.verify(signature, pae(b"fieldseal/v1/log/segment", head))
        head = decode(head, SEGMENT_HEAD)
        if head["format"] > FORMAT:
            sys.exit(f"error: its format is {head['format']}, and this reads {FORMAT}")
        if head["origin"] != self.origin:
            raise Malformed("it belongs to another log")
        if head["first"] != number:
            raise Malformed("its name is not that of its first record")
        peaks = head["peaks"]
        if len(peaks) != number.bit_count() or any(len(peak) != 32 for peak in peaks):
            raise Malformed("its header names no tree")
        change = (head["revision"], head["anchor"], head["changed"])
        change = change if len(head["anchor"]) == 32 else None
        self.follow(head, change, name)
        self.proved, self.lost = True, False
        self.change = change
        self.tree, self.good = Tree(number, peaks), Tree(number, peaks)
        if self.remembered and self.remembered[0] == number:
            self.root_then = self.tree.root()
        return end

    def follow(self, head, change, name):
        """Whether a header continues the log."""
        first, here = head["first"], self.tree.size
        if first > here:
            if self.before and self.before[0] == head["previous"]:
                place = self.before[1:]
            else:
                place = (f"segment-{here:020}.log", 0)
            verdict = "MISSING" if self.proved and not self.lost else "TAMPERED"
            self.say(verdict, here, first, *place, "records are missing")
        elif self.proved:
            previous = self.before[0] if self.before else 0
            # The first segment may go on from where the store was.
            told = change if first == 0 else self.change
            expected = (here, self.tree.peaks, previous, told)
            if (first, head["peaks"], head["previous"], change) != expected:
                raise Malformed("it does not continue the log")
        elif self.ranges and self.ranges[-1]["end"] is not None:
            if first < self.ranges[-1]["first"]:
                raise Malformed("it does not continue the log")
            self.ranges[-1]["end"] = first

    def read_frames(self, data, at, name, is_last):
        """Reads the frames of a segment; returns where they end."""
        while True:
            if not any(data[at : at + 16]):
                if data.count(0, at) == len(data) - at:
                    return at
                what = "bytes where zeroes should be"
                break
            try:
                frame, parsed, damage = whole_frame(data, at)
            except Malformed as error:
                what = error
                break
            if damage and is_last and not was_synced(data, at):
                what = damage
                break
            try:
                self.read_frame(parsed, damage, at, name)
            except Malformed as error:
                self.lose(name, at, error)
                return at
            at += len(frame)
        if is_last and not was_synced(data, at):
            self.say("UNPROVEN-TAIL", self.tree.size, None, name, at, what)
        else:
            self.lose(name, at, what)
        return at

    def read_frame(self, parsed, damage, offset, name):
        head, signature, leaves, details, _ = parsed
        if head["first"] != self.tree.size:
            raise Malformed("a frame does not follow the one before")
        if head["count"] == 0:
            raise Malformed("a frame has no records")
        if head["synced"] != offset:
            raise Malformed("a frame does not stand where it was written")
        leaves = sequence(leaves)
        if len(leaves) != head["count"]:
            raise Malformed("a frame's count is not that of its records")
        try:
            details = sequence(details)
            if len(details) != len(leaves):
                raise Malformed("a frame has not as many details as records")
        except Malformed as error:
            damage, details = damage or error, [b""] * len(leaves)
        tree, wrong, records, absent = Tree(self.tree.size, self.tree.peaks), {}, [], []
        change, root_then = self.change, None
        for index, (leaf, detail) in enumerate(zip(leaves, details), self.tree.size):
            record, content = None, None
            try:
                record = self.read_record(leaf)
                if record["revision"] and len(record["anchor"]) == 32:
                    change = (record["revision"], record["anchor"], index)
                content, missing = read_detail(detail, leaf[-COMMITMENT_BYTES:])
                if missing:
                    absent.append((index, missing))
                    wrong[index] = self.judge_absent(index, missing)
            except Malformed as error:
                wrong[index] = ("TAMPERED", error)
            records.append((index, leaf, record, content))
            tree.append(leaf)
            if self.remembered and self.remembered[0] == tree.size:
                root_then = tree.root()
        first, self.tree = self.tree.size, tree
        try:
            if tree.root() != head["root"]:
                raise Malformed("a frame's records are not those that were signed")
            self.verify(signature, checkpoint_body(self.origin, tree).encode())
            self.proved = True
        except Malformed as error:
            damage, self.proved = damage or error, False
        if damage:
            self.say("TAMPERED", first, tree.size, name, offset, damage)
        else:
            for index in range(first, tree.size):
                verdict, what = wrong.get(index, ("OK", ""))
                self.say(verdict, index, index + 1, name, offset, what)
        if not self.proved:
            return
        self.change, self.root_then = change, self.root_then or root_then
        self.good, self.signed = tree, (tree, signature)
        self.signatures += 1
        # Of a damaged frame nobody knows which of its details are right.
        self.details += 0 if damage else sum(1 for detail in details if detail)
        self.absent += [] if damage else absent
        for index, leaf, record, content in records:
            if record is not None:
                self.said.add(index, record)
                self.archived.add(index, record)
            if self.known and content is not None and wrong.get(index, ("OK",))[0] != "TAMPERED":
                self.lingering += self.known.linger(index, content)
            if self.show and record is not None and wrong.get(index, ("OK",))[0] != "TAMPERED":
                self.show(index, leaf, record, content)

    def judge_absent(self, index, missing):
        if self.known is None or self.known.allow(index, missing):
            return "REDACTED", "personal detail was erased, and a record says so"
        if missing == "all":
            return "TAMPERED", "a record's detail is missing"
        return "TAMPERED", "an item is missing that no record names"

    def read_record(self, leaf):
        if len(leaf) < COMMITMENT_BYTES:
            raise Malformed("a record is too short")
        return decode(leaf[:-COMMITMENT_BYTES], RECORD)

    def compare_with_remembered(self, first_name):
        """A checkpoint that was kept elsewhere says what the log once was."""
        if not self.remembered or self.remembered[0] == 0:
            return
        size, root = self.remembered
        here = self.tree.size
        if self.root_then is not None:
            if self.root_then != root:
                self.lost, self.ranges = False, []
                self.say("TAMPERED", 0, here, first_name, 0, "it was written anew")
            return
        if here >= size or self.lost:
            return
        what = "the checkpoint covers records that are not there"
        if self.ranges and self.ranges[-1]["verdict"] == "UNPROVEN-TAIL":
            self.ranges[-1] |= {"verdict": "TAMPERED", "what": what}
        else:
            self.say("MISSING", here, size, *self.before[1:], what)

    def verdict(self):
        return max((one["verdict"] for one in self.ranges), key=WORSE.index, default="OK")

    def summary(self):
        checkpoint = ""
        if self.signed:
            tree, signature = self.signed
            signed = base64.b64encode(self.key_hash + signature).decode()
            checkpoint = f"{checkpoint_body(self.origin, tree)}\n\u2014 {self.origin} {signed}\n"
        return {
            "verdict": self.verdict(),
            "origin": self.origin,
            "records": self.good.size,
            "signatures": self.signatures,
            "details": self.details,
            # It reads from the beginning, always.
            "resumed_from": 0,
            "segments": self.segments,
            "root": self.good.root().hex(),
            "checkpoint": checkpoint,
            "named_still_there": self.lingering,
            "ranges": self.ranges,
        }


def readable(value, name=""):
    """What JSON can hold; numbers that have a name by it."""
    if isinstance(value, dict):
        return {name: readable(one, name) for name, one in value.items() if one}
    if isinstance(value, list):
        return [readable(one) for one in value]
    if isinstance(value, bytes):
        return value.hex()
    if name in ("time", "first_time"):
        seconds, nanos = divmod(value, 10**9)
        moment = datetime.datetime.fromtimestamp(seconds, datetime.UTC)
        return f"{moment:%Y-%m-%dT%H:%M:%S}.{nanos:09}Z"
    return NAMES.get(name, {}).get(value, value)


def show(index, leaf, record, detail):
    shown = {"index": index, "leaf_hash": sha256(b"\x00", leaf).hex()} | readable(record)
    if detail is not None:
        items = [decode(item, ITEM) for item in detail["items"] if item is not None]
        # The number of a verdict counts from 0, so it is shown even then.
        shown["detail"] = readable(detail | {"items": []})
        shown["detail"]["items"] = [{"verdict": one["verdict"]} | readable(one) for one in items]
        if None in detail["items"]:
            shown["detail"]["redacted"] = detail["items"].count(None)
    print(json.dumps(shown, ensure_ascii=False))


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--log", required=True, metavar="DIR", help="the directory of the segments")
    parser.add_argument("--public-key", required=True, metavar="FILE", help="log.pub")
    parser.add_argument("--checkpoint", metavar="FILE", help="one that was kept elsewhere")
    parser.add_argument("--archive", metavar="DIR", action="append", default=[],
                        help="where segments are that are not in the log")
    parser.add_argument("--records", action="store_true", help="print every record first")
    given = parser.parse_args()
    try:
        public_key = Path(given.public_key).read_bytes().decode("utf-8", "replace")
        checkpoint = given.checkpoint and Path(given.checkpoint).read_text("utf-8")
        log = Log(public_key, show if given.records else None, checkpoint)
        log.read(given.log, given.archive)
        log.said.close()
        if log.absent or log.said.records or log.said.items:
            # Now it can be said what is not there that no record names, and what is there still.
            log = Log(public_key, None, checkpoint, log.said)
            log.read(given.log, given.archive)
    except (Foreign, Malformed, OSError, UnicodeDecodeError, NotThere) as error:
        print(f"error: {error}", file=sys.stderr)
        return 7 if isinstance(error, Foreign) else 3 if isinstance(error, NotThere) else 2
    print(json.dumps(log.summary(), ensure_ascii=False))
    return EXITS[log.verdict()]


if __name__ == "__main__":
    sys.exit(main())
