#!/usr/bin/env python3
"""Falsifies an archive of `fieldseal audit pack` in many ways; its verify.py must find each of them.

    check_pack.py --archive PACK.TAR --public-key LOG.PUB --verifier src/cli/src/pack/verify.py

The archive has records on both sides of its range, a policy with files, and a record with items. Whoever
falsifies it here knows verify.py: afterwards everything is made to fit that can be made to fit without the
log's key (records.csv, figures, policies.json, the hashes of the manifest, and the proof where the tree
allows it). Exit code 1: something was not found, or an archive that is whole was refused.
"""

import argparse
import base64
import csv
import datetime
import hashlib
import importlib.util
import json
import math
import os
import shutil
import subprocess
import sys
import tarfile
import tempfile

import made_up_log

sys.dont_write_bytecode = True


def load(path):
    spec = importlib.util.spec_from_file_location("verifier", path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def read_loosely(moment):
    """As somebody reads it who does not look at what it is."""
    if not isinstance(moment, str):
        return moment
    at = datetime.datetime.strptime(moment[:19], "%Y-%m-%dT%H:%M:%S") - datetime.datetime(1970, 1, 1)
    return (at.days * 86400 + at.seconds) * 10**9 + int(moment[20:29])


class Pack:
    """An archive that was unpacked, with its records."""

    def __init__(self, directory, verifier):
        self.at, self.verifier = directory, verifier
        self.manifest, self.proof = self.json("manifest.json"), self.json("proof.json")
        data, at, parts = self.read("records.bin"), 0, []
        while at < len(data):
            end = at + 4 + int.from_bytes(data[at : at + 4], "little")
            parts.append(data[at + 4 : end])
            at = end
        self.records = [list(pair) for pair in zip(parts[::2], parts[1::2])]

    def path(self, name):
        return os.path.join(self.at, name)

    def read(self, name):
        with open(self.path(name), "rb") as file:
            return file.read()

    def write(self, name, data):
        os.makedirs(os.path.dirname(self.path(name)), exist_ok=True)
        with open(self.path(name), "wb") as file:
            file.write(data if isinstance(data, bytes) else data.encode())

    def json(self, name):
        return json.loads(self.read(name))

    def indices(self):
        ranges = self.proof["ranges"]
        return [index for a, b in ranges for index in range(math.floor(a), math.ceil(b))]

    def save(self):
        """Records, proof and manifest as they are now."""
        parts = [part for record in self.records for part in record]
        self.write("records.bin", b"".join(len(p).to_bytes(4, "little") + p for p in parts))
        self.write("proof.json", json.dumps(self.proof))
        self.write("manifest.json", json.dumps(self.manifest))

    def mend(self):
        """Makes everything fit that needs no key: what is wrong now is wrong with what was signed."""
        # Only to count: what is in the manifest now it may refuse to read.
        self.write("manifest.json", "{}")
        counted, rows = self.verifier.Archive(self.at), self.verifier.HEADER
        since, until = read_loosely(self.manifest["since"]), read_loosely(self.manifest["until"])
        deciding = []
        for index, (leaf, detail) in zip(self.indices(), self.records):
            try:
                record = self.verifier.Record(index, leaf, detail)
            except (self.verifier.Wrong, ValueError, LookupError):
                break
            at = record.public["time"]
            in_scope = self.manifest["first"] <= index < self.manifest["end"]
            in_scope = in_scope and at >= since and (until is None or at < until)
            rows += "".join(record.rows(in_scope))
            if in_scope:
                counted.count(record)
            digest = record.public["policy_digest"]
            if record.decides() and (not deciding or deciding[-1].public["policy_digest"] != digest):
                deciding.append(record)
        else:
            self.write("records.csv", rows)
            self.manifest["figures"] = counted.figures
            self.list_policies(deciding)
        self.hash()

    def list_policies(self, deciding):
        """Those of these records, and the files of no other one."""
        listed = []
        for record in deciding:
            digest, at = record.public["policy_digest"].hex(), record.public["time"]
            listed.append({
                "digest": digest, "record": record.index, "time": self.verifier.instant(at),
                "kind": self.verifier.KINDS[record.public["kind"]],
                "included": os.path.isdir(self.path("policies/" + digest)),
            })
        self.write("policies.json", json.dumps({"policies": listed}))
        there = os.listdir(self.path("policies")) if os.path.isdir(self.path("policies")) else []
        for digest in set(there) - {policy["digest"] for policy in listed}:
            shutil.rmtree(self.path("policies/" + digest))

    def hash(self):
        """The manifest lists the files as they are."""
        listed = []
        for at, _, names in os.walk(self.at):
            for name in names:
                name = os.path.relpath(os.path.join(at, name), self.at)
                if name != "manifest.json":
                    data = self.read(name)
                    digest = hashlib.sha256(data).hexdigest()
                    listed.append({"name": name, "bytes": len(data), "sha256": digest})
        self.manifest["files"] = listed
        self.write("manifest.json", json.dumps(self.manifest))

    def narrow(self, first, end, keep=None):
        """Leaves records of the range out, with a proof that is right: its hashes follow from the rest."""
        sha256, split = self.verifier.sha256, self.verifier.split
        given = iter(base64.b64decode(text) for text in self.proof["hashes"])
        leaves, nodes, old = dict(zip(self.indices(), self.records)), {}, self.proof["ranges"]

        def walk(start, stop):
            if not any(a < stop and start < b for a, b in old):
                nodes[start, stop] = next(given)
            elif stop - start == 1:
                nodes[start, stop] = sha256(b"\0", leaves[start][0])
            else:
                middle = start + split(stop - start)
                nodes[start, stop] = sha256(b"\1", walk(start, middle), walk(middle, stop))
            return nodes[start, stop]

        def prove(start, stop):
            if not any(a < stop and start < b for a, b in self.proof["ranges"]):
                return [base64.b64encode(nodes[start, stop]).decode()]
            if stop - start == 1:
                return []
            middle = start + split(stop - start)
            return prove(start, middle) + prove(middle, stop)

        walk(0, self.proof["tree_size"])
        self.proof["ranges"] = keep or old[:1] + [[first, end]] + old[2:]
        self.proof["hashes"] = prove(0, self.proof["tree_size"])
        self.records = [leaves[index] for index in self.indices()]
        self.manifest.update(first=first, end=end, records=end - first)


def flipped(data, at):
    return data[:at] + bytes([data[at] ^ 1]) + data[at + 1 :]


def with_items(pack):
    """Two records whose details are whole and have items."""
    found = [pack.verifier.Record(at, *record) for at, record in enumerate(pack.records)]
    found = [r.index for r in found if r.detail == "whole" and r.fields[0]["item"]]
    return found[len(found) // 2], found[-1]


def policy_file(pack):
    return next(file["name"] for file in pack.manifest["files"] if "/files/" in file["name"])


def altered_record(pack, place):
    leaf = pack.records[place][0]
    pack.records[place][0] = flipped(leaf, len(leaf) // 2)


def altered_commitment(pack):
    one, _ = with_items(pack)
    leaf = pack.records[one][0]
    pack.records[one][0] = flipped(leaf, len(leaf) - 1)


def record_without_detail(pack):
    """A detail that is gone, and a record that says that it never had one."""
    one, _ = with_items(pack)
    pack.records[one] = [pack.records[one][0][:-32] + bytes(32), b""]


def swapped(values, one, other):
    values[one], values[other] = values[other], values[one]


def swapped_details(pack):
    one, other = with_items(pack)
    pack.records[one][1], pack.records[other][1] = pack.records[other][1], pack.records[one][1]


def altered_detail(pack, place):
    one, _ = with_items(pack)
    detail = pack.records[one][1]
    pack.records[one][1] = flipped(detail, place % len(detail))


def detail_gone(pack):
    """As if it had been redacted."""
    pack.records[with_items(pack)[0]][1] = b""


def item_gone(pack):
    """The same of its last item: zeroes, and the leaf hash behind them."""
    one, _ = with_items(pack)
    leaf, detail = pack.records[one]
    length, at = pack.verifier.varint(detail, 16)
    at = start = at + length
    while at < len(detail):
        start, (length, at) = at, pack.verifier.varint(detail, at + 16)
        at += length
    item = detail[start + 16 :]
    _, behind = pack.verifier.varint(item, 0)
    digest = pack.verifier.sha256(b"\0", detail[start : start + 16], item[behind:])
    pack.records[one][1] = detail[:start] + bytes(16) + digest
    found = pack.verifier.Record(0, *pack.records[one])
    assert found.detail == "partly" and leaf == pack.records[one][0]


def no_redactions(pack):
    """The records that say what was redacted, left out with their proof."""
    first, end = pack.manifest["first"], pack.manifest["end"]
    policy = pack.proof["ranges"][0]
    pack.narrow(first, end, keep=[policy, [first, end]])
    pack.manifest["redaction_records"] = []


def longer_detail(pack):
    one, _ = with_items(pack)
    pack.records[one][1] += bytes(17)


def detail_for_none(pack):
    bare = next(at for at, (leaf, _) in enumerate(pack.records) if leaf[-32:] == bytes(32))
    pack.records[bare][1] = bytes(16) + b"\0"


def dropped(pack, place):
    del pack.records[place]


def left_out(pack, first, end):
    pack.narrow(pack.manifest["first"] + first, pack.manifest["end"] - end)


def left_out_between(pack):
    """The same as a third range: the middle of three records."""
    first, end = pack.manifest["first"], pack.manifest["end"]
    middle = (first + end) // 2
    del pack.records[pack.indices().index(middle)]
    pack.proof["ranges"][1:2] = [[first, middle], [middle + 1, end]]


def between_the_numbers(pack):
    """The edges left out, with their proof; the range begins and ends at no record."""
    first, end = pack.manifest["first"] + 1, pack.manifest["end"] - 1
    pack.narrow(first, end)
    first, end = first + 0.5, end - 0.5
    pack.manifest.update(first=first, end=end, records=end - first)
    pack.proof["ranges"] = [[first, end] if at == 1 else r for at, r in enumerate(pack.proof["ranges"])]


def no_time(until):
    """The edges left out, with their proof, and a time in which nothing is."""
    def falsify(pack):
        left_out(pack, 1, 1)
        pack.manifest["until"] = until

    return falsify


def written_behind(name, text):
    """A moment that is read as before, and shown as something else."""
    def falsify(pack):
        pack.manifest[name] += text

    return falsify


def time_ends_first(pack):
    left_out(pack, 1, 1)
    pack.manifest["until"] = pack.manifest["since"]


def figure_of_another_kind(change):
    def falsify(pack):
        figures = pack.manifest["figures"]
        name = next(name for name, value in figures.items() if value == 1)
        figures[name] = change(figures[name])
        pack.write("manifest.json", json.dumps(pack.manifest))

    return falsify


def manifest_text(change):
    def falsify(pack):
        pack.write("manifest.json", change(pack.read("manifest.json").decode(), pack))

    return falsify


def size_as_fraction(pack):
    pack.manifest["files"][0]["bytes"] += 0.0
    pack.write("manifest.json", json.dumps(pack.manifest))


def proof_hash(pack, change):
    change(pack.proof["hashes"])


def in_manifest(name, value, is_other=True):
    def falsify(pack):
        assert (pack.manifest.get(name) != value) == is_other, name
        pack.manifest[name] = value

    return falsify


def earlier_place(pack):
    """The same records one place before, in the manifest and in the proof."""
    for name in ("first", "end"):
        pack.manifest[name] -= 1
    pack.proof["ranges"][1] = [pack.manifest["first"], pack.manifest["end"]]


def in_one_line(note):
    """As `audit anchor` prints it: origin, size, root and signature."""
    body, signed = note.split("\n\n")
    return " ".join(body.split("\n") + [signed.split()[-1]]) + "\n"


def checkpoint(change):
    def falsify(pack):
        text = pack.read("checkpoint").decode()
        lines = text.splitlines(keepends=True)
        pack.write("checkpoint", change(lines, pack))

    return falsify


def signature(change):
    def falsify(lines, pack):
        head, data = lines[4].rsplit(" ", 1)
        data = base64.b64encode(change(base64.b64decode(data), pack)).decode()
        return "".join(lines[:4]) + "%s %s\n" % (head, data)

    return checkpoint(falsify)


def malleable(data, pack):
    """The same signature with a scalar that is out of range: RFC 8032, section 8.4."""
    scalar = int.from_bytes(data[-32:], "little") + pack.verifier.ORDER
    return data[:-32] + scalar.to_bytes(32, "little")


def no_policy(pack):
    """The policy before the range, as if there had been none, with its proof."""
    pack.narrow(pack.manifest["first"], pack.manifest["end"], keep=pack.proof["ranges"][1:])
    pack.manifest["policy_record"] = None


def policies(change):
    def falsify(pack):
        listed = pack.json("policies.json")
        change(listed["policies"])
        pack.write("policies.json", json.dumps(listed))

    return falsify


def moved_policy(pack):
    """Another policy's files under a digest that was in force."""
    at = os.path.dirname(os.path.dirname(policy_file(pack)))
    pack.write(at + "/files/more.cedar", "permit (principal, action, resource);\n")


def beside_policy(name):
    """What no digest covers, among what a digest covers."""
    def falsify(pack):
        at = os.path.dirname(os.path.dirname(policy_file(pack)))
        pack.write(at + "/" + name, "permit (principal, action, resource);\n")

    return falsify


def beside_policies(pack):
    at = os.path.dirname(os.path.dirname(policy_file(pack)))
    os.makedirs(pack.path(at + "/empty"))


def csv_row(pack):
    text = pack.read("records.csv").decode()
    pack.write("records.csv", text.replace(",OK,", ",DENIED,", 1))


def csv_dropped(pack):
    lines = pack.read("records.csv").splitlines(keepends=True)
    pack.write("records.csv", b"".join(lines[:-1]))


def csv_more(pack):
    lines = pack.read("records.csv").splitlines(keepends=True)
    pack.write("records.csv", b"".join(lines + lines[-1:]))


def binary_more(pack):
    pack.write("records.bin", pack.read("records.bin") + bytes(8))


def binary_less(pack):
    pack.write("records.bin", pack.read("records.bin")[:-1])


def extra(pack):
    pack.write("notes.txt", "x")


def link(pack):
    os.remove(pack.path("summary.html"))
    os.symlink("README.txt", pack.path("summary.html"))


# What is done to the records, the proof or the manifest; everything else is made to fit afterwards.
MENDED = {
    "a record altered": lambda p: altered_record(p, len(p.records) // 2),
    "the first record altered": lambda p: altered_record(p, 0),
    "the last record altered": lambda p: altered_record(p, -1),
    "a commitment altered": altered_commitment,
    "a detail gone and the commitment with it": record_without_detail,
    "two records swapped": lambda p: swapped(p.records, 2, len(p.records) - 2),
    "a record twice": lambda p: p.records.insert(3, p.records[3]),
    "a record in the place of another": lambda p: p.records.__setitem__(3, p.records[4]),
    "the first record dropped": lambda p: dropped(p, 0),
    "a record dropped": lambda p: dropped(p, len(p.records) // 2),
    "the last record dropped": lambda p: dropped(p, -1),
    "the beginning left out, with its proof": lambda p: left_out(p, 1, 0),
    "more of the beginning left out, with its proof": lambda p: left_out(p, 5, 0),
    "the end left out, with its proof": lambda p: left_out(p, 0, 1),
    "more of the end left out, with its proof": lambda p: left_out(p, 0, 5),
    "the middle left out, as two ranges": left_out_between,
    "all records one place before": earlier_place,
    "details swapped": swapped_details,
    "the salt of a detail altered": lambda p: altered_detail(p, 3),
    "the head of a detail altered": lambda p: altered_detail(p, 20),
    "the last item of a detail altered": lambda p: altered_detail(p, -1),
    "a detail longer": longer_detail,
    "a detail gone": detail_gone,
    "an item of a detail gone": item_gone,
    "a detail where there was none": detail_for_none,
    "a hash of the proof altered": lambda p: proof_hash(
        p, lambda h: h.__setitem__(0, base64.b64encode(flipped(base64.b64decode(h[0]), 5)).decode())),
    "a hash of the proof missing": lambda p: proof_hash(p, list.pop),
    "a hash more": lambda p: proof_hash(p, lambda h: h.append(h[0])),
    "two hashes swapped": lambda p: proof_hash(p, lambda h: swapped(h, 0, -1)),
    "a hash that is none": lambda p: proof_hash(p, lambda h: h.__setitem__(0, "AAAA")),
    "another tree size in the proof": lambda p: p.proof.update(tree_size=p.proof["tree_size"] + 1),
    "another tree size": in_manifest("tree_size", 1),
    "another root": in_manifest("root", "00" * 32),
    "another number of records": in_manifest("records", 1),
    "another origin": in_manifest("origin", "fieldseal.dev/other/main"),
    "another policy's record": lambda p: p.manifest.update(policy_record=p.manifest["policy_record"] + 1),
    "the policy before the range left out": no_policy,
    "a range between the numbers": between_the_numbers,
    "an end of nothing": no_time(0),
    "an end that is false": no_time(False),
    "an end before the beginning": time_ends_first,
    "a beginning that goes on": written_behind("since", "\rasked for  from 1999-01-01T00:00:00.000000000Z"),
    "an end that goes on": written_behind("until", " and later"),
    "an end with a control character": written_behind("until", "\x1b[2K"),
    "a format that is true": in_manifest("format", True, is_other=False),
    "no number": in_manifest("more", math.nan),
    "a number without end": in_manifest("more", math.inf),
    "a fraction": in_manifest("more", 0.5),
}
# What is done to other files; the manifest lists them as they are then.
HASHED = {
    "a row of the CSV altered": csv_row,
    "a row of the CSV dropped": csv_dropped,
    "a row of the CSV twice": csv_more,
    "bytes behind the records": binary_more,
    "the records cut off": binary_less,
    "the size in the checkpoint altered": checkpoint(lambda l, _: "".join([l[0], "9" + l[1]] + l[2:])),
    "the root in the checkpoint altered": checkpoint(
        lambda l, _: "".join(l[:2] + [base64.b64encode(bytes(32)).decode() + "\n"] + l[3:])),
    "another origin in the checkpoint": checkpoint(lambda l, _: "".join(l).replace("fieldseal.dev", "x", 1)),
    "a checkpoint without a signature": checkpoint(lambda l, _: "".join(l[:4])),
    "a checkpoint that is none": checkpoint(lambda l, _: "x"),
    "an altered signature": signature(lambda data, _: flipped(data, 20)),
    "an altered scalar": signature(lambda data, _: flipped(data, -2)),
    "a scalar out of range": signature(malleable),
    "a short signature": signature(lambda data, _: data[:-1]),
    "a policy's file altered": lambda p: p.write(policy_file(p), p.read(policy_file(p)) + b" "),
    "a policy's file gone": lambda p: os.remove(p.path(policy_file(p))),
    "a file added to a policy": moved_policy,
    "a policy's digest altered": policies(lambda l: l[0].update(digest="00" * 32)),
    "a policy's record altered": policies(lambda l: l[0].update(record=l[0]["record"] + 1)),
    "a policy left out": policies(lambda l: l.pop()),
    "policies that are said not to be there": policies(lambda l: [p.update(included=False) for p in l]),
    "a file beside a policy's": beside_policy("permit.cedar"),
    "a directory among a policy's files": beside_policy("files/more/permit.cedar"),
    "an empty directory beside a policy's files": beside_policies,
    "a policy that is there once": policies(
        lambda l: next(p for p in l if p["included"]).update(included=1)),
    "a policy's record as a fraction": policies(lambda l: l[0].update(record=l[0]["record"] + 0.0)),
    "a file of another name": extra,
    "a proof that is no JSON": lambda p: p.write("proof.json", "{"),
    "policies of another form": lambda p: p.write("policies.json", "[]"),
}
# What the manifest finds, unless it is made anew as well.
PLAIN = {
    "the summary altered": lambda p: p.write("summary.html", p.read("summary.html") + b" "),
    "the verifier altered": lambda p: p.write("verify.py", p.read("verify.py") + b"#"),
    "a file gone": lambda p: os.remove(p.path("README.txt")),
    "a file that writes over what is told": lambda p: p.write("\x1b[1A\rVERIFIED", "x"),
    "a link in the place of a file": link,
    "a figure altered": lambda p: (
        p.manifest["figures"].update(fields_read=0), p.write("manifest.json", json.dumps(p.manifest))),
    "a figure that is true": figure_of_another_kind(bool),
    "a figure as a fraction": figure_of_another_kind(float),
    "a size as a fraction": size_as_fraction,
    "a member twice": manifest_text(lambda text, p: '{"until": null,' + text.lstrip()[1:]),
    "a number beyond all numbers": manifest_text(lambda text, p: '{"more": 1e400,' + text.lstrip()[1:]),
    "a manifest that is no JSON": lambda p: p.write("manifest.json", "x"),
    "a manifest without files": lambda p: p.write("manifest.json", '{"format": 1}'),
}


def run(verifier, directory, key, more=()):
    command = [sys.executable, "-I", "-B", verifier, directory, *more]
    command += ["--public-key", key] if key else []
    done = subprocess.run(command, capture_output=True, check=False)
    return done.returncode, (done.stdout + done.stderr).decode()


def archive_runs_nothing(whole, copy, key):
    """Modules in the archive, before which its verify.py is run without -I: none of them is."""
    shutil.copytree(whole, copy)
    for module in ("argparse", "base64", "datetime", "hashlib", "json", "os", "re"):
        with open(os.path.join(copy, module + ".py"), "w", encoding="utf-8") as file:
            file.write('import sys\nprint("VERIFIED   by the archive")\nsys.exit(0)\n')
    command = [sys.executable, "-B", "verify.py", "--public-key", key]
    done = subprocess.run(command, cwd=copy, capture_output=True, text=True, check=False)
    shutil.rmtree(copy)
    return done.returncode == 7 and "by the archive" not in done.stdout


class MadeUp:
    """Archives of logs that no sidecar wrote, and what is told of them: nothing in them is wrong, but not all
    that was asked for need be there."""

    def __init__(self, work, verifier, expect):
        self.work, self.verifier, self.expect = work, verifier, expect
        self.key = self.file("made-up.pub", made_up_log.Signer(verifier).public_key())

    def file(self, name, text):
        path = os.path.join(self.work, name)
        with open(path, "w", encoding="utf-8") as file:
            file.write(text)
        return path

    def tells(self, name, log, asked, code=0, says=(), never=(), kept=None):
        directory = os.path.join(self.work, "made-up")
        log.write(directory, *asked)
        Pack(directory, self.verifier).mend()
        more = ["--checkpoint", self.file("kept", kept)] if kept is not None else []
        self.expect(name, directory, code, given=self.key, says=says, never=never, more=more)
        shutil.rmtree(directory)

    def check(self):
        rising, verifier = list(range(12)), self.verifier
        log, older = made_up_log.Log(verifier, rising), made_up_log.Log(verifier, rising[:6])
        other = made_up_log.Log(verifier, rising, who="thief")
        # Asked for from 3 until 8 o'clock: the edges are records 2 and 8.
        asked, within = (2, 9, 3, 8), (2, 6, 3, 8)
        quiet = ("WARNING", "backward", "ends ")
        self.tells("a log that rises", log, asked, says=("VERIFIED",), never=quiet)
        self.tells("from the log's beginning", log, (0, 9, 0, 8), says=("VERIFIED",), never=quiet)
        self.tells("up to the log's end", log, (2, 12, 3, None), never=("WARNING",),
                   says=("ends       at 2026-01-01T11:00:00.000000000Z",))
        self.tells("an older checkpoint", older, within, says=(
            "WARNING    the log of this checkpoint ends within the time",
            "2026-01-01T05:00:00.000000000Z to 2026-01-01T08:00:00.000000000Z"))
        self.tells("an older checkpoint than the one that was kept", older, within, code=7,
                   says=("of 6 records, and 12 were signed",), kept=log.checkpoint())
        self.tells("a newer checkpoint than the one that was kept", log, asked,
                   says=("kept       6 records, fewer than here",), kept=older.checkpoint())
        self.tells("the checkpoint that was kept", log, asked,
                   says=("kept       the same size and the same root",), kept=log.checkpoint())
        self.tells("a log of two pasts", log, asked, code=7, says=("two pasts",), kept=other.checkpoint())
        self.tells("the line of `audit anchor` that was kept", log, asked,
                   says=("kept       the same size and the same root",), kept=in_one_line(log.checkpoint()))
        self.tells("the line of a log of two pasts", log, asked, code=7, says=("two pasts",),
                   kept=in_one_line(other.checkpoint()))
        line = in_one_line(log.checkpoint()).replace(" 12 ", " 13 ")
        self.tells("a line that was kept badly", log, asked, code=7,
                   says=("of the checkpoint that was kept: this key did not sign",), kept=line)
        for kept in ("", "x", line + " x"):
            self.tells("a checkpoint that is none, %r" % kept[-4:], log, asked, code=2,
                       says=("UNUSABLE   what was kept is neither",), kept=kept)
        altered = log.checkpoint().replace("\n12\n", "\n13\n")
        self.tells("a checkpoint that was kept badly", log, asked, code=7,
                   says=("of the checkpoint that was kept: this key did not sign",), kept=altered)
        # Record 5 is of a call that began at 1 o'clock. An edge it may be, and 6 and 7 are not there.
        late = made_up_log.Log(verifier, rising[:5] + [1] + rising[6:])
        self.tells("an edge that is no edge", late, within, says=(
            "WARNING    record 5, behind the range, is of an earlier time", "backward   by 10800.000000000 s"))
        early = made_up_log.Log(verifier, rising[:2] + [9] + rising[3:])
        self.tells("an edge of a clock that was set", early, asked, says=(
            "WARNING    record 2, before the range, is of a later time", "backward   by 21600.000000000 s"))


def signatures_are_checked(verifier):
    """RFC 8032, section 7.1, tests 1 to 3."""
    for key, message, signed in (
        ("d75a980182b10ab7d54bfed3c964073a0ee172f3daa62325af021a68f707511a", "",
         "e5564300c360ac729086e2cc806e828a84877f1eb8e5d974d873e065224901555fb8821590a33bacc61e39701cf9b46b"
         "d25bf5f0595bbe24655141438e7a100b"),
        ("3d4017c3e843895a92b70aa74d1b7ebc9c982ccf2ec4968cc0cd55f12af4660c", "72",
         "92a009a9f0d4cab8720e820b5f642540a2b27b5416503f8fb3762223ebdb69da085ac1e43e15996e458f3613d0f11d8c"
         "387b2eaeb4302aeeb00d291612bb0c00"),
        ("fc51cd8e6218a1a38da47ed00230f0580816ed13ba3303ac5deb911548908025", "af82",
         "6291d657deec24024827e69c3abe01a30ce548a284743a445e3680d7db5ac3ac18ff9b538d16f290ae67f760984dc659"
         "4a7c15e9716ed28dc027beceea1ec40a"),
    ):
        key, message, signed = map(bytes.fromhex, (key, message, signed))
        assert verifier.is_signed(key, message, signed)
        assert not verifier.is_signed(key, message + b"x", signed)
        assert not verifier.is_signed(key, message, flipped(signed, 40))


def rows_are_the_records(pack):
    """Another reader of CSV sees every record of the range, in order."""
    with open(pack.path("records.csv"), encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    seen = list(dict.fromkeys(int(row["index"]) for row in rows))
    assert seen == pack.indices(), "records.csv has other records"
    in_scope = {row["index"] for row in rows if row["in_scope"] == "yes"}
    assert len(in_scope) == pack.manifest["figures"]["records"]


def main():
    parser = argparse.ArgumentParser()
    for name in ("--archive", "--public-key", "--verifier"):
        parser.add_argument(name, required=True)
    arguments = parser.parse_args()
    key, verifier = arguments.public_key, load(arguments.verifier)
    signatures_are_checked(verifier)
    work = tempfile.mkdtemp()
    bad = []
    try:
        with tarfile.open(arguments.archive) as archive:
            names = archive.getnames()
            assert all(name.split("/")[0] == names[0] for name in names), names
            archive.extractall(work)
        whole = os.path.join(work, names[0])
        pack = Pack(whole, verifier)
        with open(arguments.verifier, "rb") as file:
            assert file.read() == pack.read("verify.py"), "the archive has another verify.py"
        rows_are_the_records(pack)
        assert pack.manifest["first"] > 0 and pack.manifest["policy_record"] is not None
        assert 1 in pack.manifest["figures"].values()
        assert pack.manifest["end"] < pack.manifest["tree_size"]

        def expect(name, directory, code, given=key, says=(), never=(), more=()):
            ended, told = run(arguments.verifier, directory, given, more)
            good = ended == code and all(text in told for text in says)
            good = good and not any(text in told for text in ("Traceback", *never))
            if not good or not all(line.isprintable() for line in told.split("\n")):
                bad.append(name)
                print("NOT FOUND  %s: exit code %s\n%r" % (name, ended, told))

        def falsified(name, change, after, code=7):
            copy = os.path.join(work, "copy")
            shutil.copytree(whole, copy)
            altered = Pack(copy, verifier)
            change(altered)
            after(altered)
            expect(name, copy, code)
            shutil.rmtree(copy)

        code, says = (10, "REDACTED") if pack.manifest["redaction_records"] else (0, "VERIFIED")
        expect("nothing", whole, code, says=[says])
        expect("nothing, with the archive's own key", whole, code, given=None, says=["WARNING    no --public-key"])
        if code == 10:
            MENDED["redactions left out"] = no_redactions
        for name, change in MENDED.items():
            falsified(name, change, lambda p: p.save())
            falsified(name + ", and all made to fit", change, lambda p: (p.save(), p.mend()))
        for name, change in HASHED.items():
            falsified(name, change, lambda p: None)
            falsified(name + ", and listed so", change, lambda p: p.hash())
        for name, change in PLAIN.items():
            falsified(name, change, lambda p: None)

        # Made to fit and nothing else done: that is no falsification.
        falsified("mended", lambda p: None, lambda p: (p.save(), p.mend()), code=code)
        other = os.path.join(work, "other.pub")
        origin, _, _ = verifier.read_key(pack.read("log.pub").decode())
        point = b"\x01" + bytes.fromhex("3d4017c3e843895a92b70aa74d1b7ebc9c982ccf2ec4968cc0cd55f12af4660c")
        digits = verifier.sha256(origin.encode(), b"\n", point)[:4].hex()
        text = "%s+%s+%s\n" % (origin, digits, base64.b64encode(point).decode())
        with open(other, "w", encoding="utf-8") as file:
            file.write(text)
        expect("another key", whole, 7, given=other)
        falsified("the archive's key altered", lambda p: p.write("log.pub", text), lambda p: p.hash())
        if not archive_runs_nothing(whole, os.path.join(work, "copy"), os.path.abspath(key)):
            bad.append("modules in the archive")
            print("NOT FOUND  modules in the archive")
        MadeUp(work, verifier, expect).check()
        expect("no directory", os.path.join(work, "nothing"), 2)
        expect("no key", whole, 2, given=os.path.join(work, "nothing"))
        expect("a key that is none", whole, 2, given=os.path.join(whole, "README.txt"))
    finally:
        shutil.rmtree(work)
    ways = 2 * len(MENDED) + 2 * len(HASHED) + len(PLAIN) + 3
    print("%s; %d falsifications, %d not found" % (says, ways, len(bad)))
    sys.exit(1 if bad else 0)


if __name__ == "__main__":
    main()
