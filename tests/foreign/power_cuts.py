#!/usr/bin/env python3
"""Cuts the power of a sidecar at work, many times over, and looks for what was acknowledged.

    power_cuts.py --binary FIELDSEAL --work DIRECTORY [--cuts 30] [--seed 1]

The sidecar works once, under `strace`, for callers who keep what they are told and when: they encrypt
and decrypt, rotate and rewrap, shred, restore and erase, disable and enable (load.py). From the trace
the files are made as a power cut at some moment may have left them (disk_trace.py); the binary is
started on them, and everything that had been acknowledged by then must be so, once, and nothing that
was erased may be back. In the end the same is done as if no `fdatasync` of the log, or of the store,
had ever been made: that must lose something. Exit code 1 if not, and if too little was done.

It needs the Python stubs of `proto/` in PYTHONPATH.
"""

import argparse
import json
import os
import random
import shutil
import signal
import sys
import time

import grpc

from disk_trace import CALLS, Choice, Disk
from load import DISABLED, GOING, OPEN, SHREDDED, Load, missing
from sidecar import PATIENCE, Failed, Installation

ACKNOWLEDGED = 1500
# A run that did less than this of something shows too little of it.
LEAST = {"rotations": 30, "rewraps": 20, SHREDDED: 15, GOING: 15, OPEN: 5, DISABLED: 10, "erased": 8}


def record(installation, work):
    """One run under strace: the trace on disk, what callers were told, and the files from before."""
    base, trace = os.path.join(work, "power-base"), os.path.join(work, "power-trace")
    # The life before was killed, so that the traced one settles what it finds.
    process, address = installation.start()
    load = Load(installation, address)
    load.create("first", "first")
    process.kill()
    process.wait()
    shutil.copytree(installation.state, base)
    # -D: the tracer stands aside, so that the sidecar is the one that is stopped.
    tracer = ["strace", "-D", "-f", "-ttt", "-xx", "-s", "8388608", "-o", trace, "-e", "trace=" + CALLS]
    process, address = installation.start(tracer)
    load = Load(installation, address, load.told)
    load.run(ACKNOWLEDGED)
    if load.failures:
        raise Failed(f"{load.failures[0].code()}: {load.failures[0].details()}")
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
    for where, directories, names in os.walk(directory):
        for name in directories:
            found[os.path.relpath(os.path.join(where, name), directory)] = None
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
    os.makedirs(directory, mode=0o700)
    for path, content in sorted(files.items()):
        path = os.path.join(directory, path)
        if content is None:
            os.makedirs(path, mode=0o700, exist_ok=True)
            continue
        with open(path, "wb") as file:
            file.write(content)
        os.chmod(path, 0o600)


class Moments:
    """Lines of the trace to cut at: while the store is written anew, right after an answer, and
    around anything else that was done to the files."""

    def __init__(self, disk, told, chance):
        self.disk, self.told, self.chance = disk, told, chance
        self.rewrites = disk.rewrites()
        self.of_rewrites = [line for line in disk.interesting if self.in_a_rewrite(line)]

    def in_a_rewrite(self, line):
        return any(begun < line < gone for begun, _, gone in self.rewrites)

    def lines(self, cuts):
        for cut in range(cuts):
            if cut % 3 == 0 and self.of_rewrites:
                yield self.chance.choice(self.of_rewrites) + self.chance.randint(0, 1)
            elif cut % 3 == 1:
                moment = self.chance.choice(self.told.facts)[0]
                times = self.disk.times
                yield next((at for at, t in enumerate(times) if t > moment), len(times))
            else:
                yield self.chance.choice(self.disk.interesting) + self.chance.randint(0, 1)


def cut(installation, disk, told, line, choice, ignored=lambda path, call: False):
    """How many facts were known, and what of them is gone."""
    moment = disk.times[line] if line < len(disk.times) else float("inf")
    put(disk.image(line, choice, ignored), installation.state)
    try:
        gone = missing(installation, told, moment)
    except Failed as failed:
        gone = [str(failed)]
    except grpc.RpcError as error:
        gone = [f"a call fails: {error.details()}"]
    return len(told.at(moment)), gone


def without_syncs(installation, disk, told, moments, chance):
    """The same without the syncs: whatever the test would not notice shows here."""
    for file in ("audit/", "store/"):
        found = 0
        for line in moments.lines(10):
            ignored = lambda path, call, file=file: path.startswith(file) and call == "fdatasync"
            found += len(cut(installation, disk, told, line, Choice("dropped", chance), ignored)[1])
        print(f"without fdatasync in {file}: lost {found}")
        if not found:
            yield f"nobody notices that {file} is not synced"


def main():
    arguments = argparse.ArgumentParser()
    for name, kind, default in [
        ("binary", str, None), ("work", str, None), ("cuts", int, 30), ("seed", int, 1),
    ]:
        arguments.add_argument("--" + name, type=kind, default=default, required=default is None)
    given = arguments.parse_args()
    installation = Installation(given.binary, os.path.join(given.work, "power"))
    disk, told = record(installation, given.work)
    chance = random.Random(given.seed)
    moments = Moments(disk, told, chance)
    counts, losses, checked, in_rewrites = dict.fromkeys(Choice.HOW, 0), [], 0, 0
    for number, line in enumerate(moments.lines(given.cuts)):
        # Not in step with the moments.
        how = Choice.HOW[number // 3 % len(Choice.HOW)]
        known, gone = cut(installation, disk, told, line, Choice(how, chance))
        counts[how], checked = counts[how] + 1, checked + known
        in_rewrites += moments.in_a_rewrite(line)
        losses += [f"cut at line {line}, {how}: {what}" for what in gone]
    print(f"acknowledged {len(told.facts)}: {json.dumps(dict(told.done))}; "
          f"the store was written anew {len(moments.rewrites)} times")
    print(f"cuts {given.cuts} {json.dumps(counts)}, {in_rewrites} while the store was written anew, "
          f"looked at {checked}, lost {len(losses)}")
    for loss in losses[:10]:
        print(f"error: {loss}")
    found = list(without_syncs(installation, disk, told, moments, chance))
    if len(told.facts) < ACKNOWLEDGED or checked < len(told.facts):
        found.append("too little was acknowledged")
    found += [f"too few {name}: {told.done[name]}" for name, least in LEAST.items()
              if told.done[name] < least]
    if in_rewrites < given.cuts / 6:
        found.append("too few cuts while the store was written anew")
    for what in found:
        print(f"error: {what}")
    return bool(losses or found)


if __name__ == "__main__":
    sys.exit(main())
