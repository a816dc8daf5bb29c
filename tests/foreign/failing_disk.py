#!/usr/bin/env python3
"""Makes system calls of a sidecar at work fail with EIO, and looks for what was acknowledged.

    failing_disk.py --binary FIELDSEAL --work DIRECTORY

While callers are at work (load.py), `strace` lets calls on one file of the log or of the store fail, once
or from then on. docs/operations.md ("When something fails") says what happens: the sidecar ends by itself
with its exit code and reason and never syncs again, or whoever needs the file gets an answer and it goes
on. After each case everything that was acknowledged so far, in all cases before too, must be there.
Exit code 1 if not. Only root may trace a running sidecar.

It needs the Python stubs of `proto/` in PYTHONPATH.
"""

import argparse
import os
import re
import signal
import subprocess
import sys
import threading
import time
from dataclasses import dataclass

import grpc

from load import Check, Load, Told, missing, reason_of, records_of
from sidecar import FIRST, PATIENCE, Failed, Installation

# Facts of a case before its calls fail, and as many as a case without an end has more afterwards.
BEFORE, AFTERWARDS = 60, 120
TRIES = 10
STORE = {"", "STORE_BROKEN", "STORE_UNAVAILABLE", "CHANGE_INDETERMINATE", "CHANGE_UNACKNOWLEDGED",
         "AUDIT_UNAVAILABLE", "STOPPING"}
LOG = {"", "AUDIT_UNAVAILABLE", "CHANGE_UNACKNOWLEDGED", "STOPPING"}
READS = {"store": {"STORE_UNAVAILABLE"}, "log": {"AUDIT_UNREADABLE"}}


@dataclass
class Ends:
    """A case after which the sidecar ends by itself."""
    call: str
    file: str
    reason: str
    answers: set

    def path(self, state):
        return newest_segment(state) if self.file == "log" else database(state)


ENDS = [
    Ends("fdatasync", "log", "AUDIT_UNAVAILABLE", LOG),
    Ends("pwrite64", "log", "AUDIT_UNAVAILABLE", LOG),
    Ends("fdatasync", "store", "STORE_BROKEN", STORE),
    Ends("pwrite64", "store", "STORE_BROKEN", STORE),
    Ends("sync_file_range", "store", "STORE_BROKEN", STORE),
]


def database(state):
    """The database that counts."""
    pointer = os.path.join(state, "store/live")
    if not os.path.exists(pointer):
        return os.path.join(state, "store/db")
    with open(pointer, encoding="ascii") as file:
        return os.path.join(state, "store", file.read().strip(), "db")


def newest_segment(state):
    names = [name for name in os.listdir(os.path.join(state, "audit")) if name.endswith(".log")]
    return os.path.join(state, "audit", max(name for name in names if name.startswith("segment-")))


def newest_generation(state):
    names = os.listdir(os.path.join(state, "generations"))
    return max(int(name.removeprefix("gen-")) for name in names if re.fullmatch(r"gen-\d+", name))


class Tracer:
    """Lets calls of a process on a path fail."""

    def __init__(self, work, process, call, paths, when):
        self.trace = os.path.join(work, "failing")
        paths = [part for path in paths for part in ("-P", path)]
        self.strace = subprocess.Popen(
            ["strace", "-f", "-y", "-s", "0", "-p", str(process.pid), "-o", self.trace, *paths,
             "-e", f"trace={call}", "-e", f"inject={call}:error=EIO:when={when}"],
            stderr=subprocess.PIPE, text=True)
        for line in self.strace.stderr:
            if "attached" in line:
                return
        raise Failed("strace cannot attach; run it as root")

    def injected(self):
        with open(self.trace, encoding="utf-8", errors="replace") as trace:
            return sum("INJECTED" in line for line in trace)

    def end(self):
        if self.strace.poll() is None:
            self.strace.send_signal(signal.SIGINT)
        self.strace.communicate()


def within(seconds, look, what):
    end = time.monotonic() + seconds
    while not (found := look()):
        if time.monotonic() > end:
            raise Failed(f"{what}: it did not happen")
        time.sleep(0.01)
    return found


class Run:
    """One installation for all cases, so that each case is a test of what came before, too."""

    def __init__(self, given):
        self.work = given.work
        self.installation = Installation(given.binary, os.path.join(given.work, "failing-disk"))
        self.told, self.looked_at, self.cases, self.failed_calls = Told(), 0, 0, 0

    def load(self, address):
        """Callers at work beside this thread."""
        self.cases += 1
        load = Load(self.installation, address, self.told, f"{self.cases}-")
        before = len(self.told.facts)
        working = threading.Thread(target=load.run, args=(before + BEFORE + AFTERWARDS,))
        working.start()
        within(PATIENCE, lambda: len(self.told.facts) >= before + BEFORE or not working.is_alive(),
               "the load")
        return load, working

    def check(self):
        lost = missing(self.installation, self.told, stop=stopped)
        self.looked_at += len(self.told.facts)
        if lost:
            raise Failed("; ".join(lost[:5]))

    def injected(self, tracer):
        count = tracer.injected()
        if not count:
            raise Failed("no call failed")
        self.failed_calls += count
        return count

    def struck(self, case, when):
        """A sidecar whose calls fail while callers are at work, and what became of it. While its store is
        written anew, another file takes the place of the one whose calls fail: then all was well, and it is
        done again."""
        for _ in range(TRIES):
            process, address = self.installation.start()
            load, working = self.load(address)
            path = case.path(self.installation.state)
            tracer = Tracer(self.work, process, case.call, [path], when)
            try:
                working.join(PATIENCE)
                if load.failures or case.path(self.installation.state) == path:
                    return process.wait(PATIENCE), load, tracer
                stopped(process)
            except subprocess.TimeoutExpired:
                raise Failed(f"{case.call} of {path}, {when}: {tracer.injected()} calls failed, and it "
                             f"does not end: {self.installation.said()[-600:]}") from None
            finally:
                tracer.end()
            self.check()
        raise Failed(f"the {case.file} was another one {TRIES} times")

    def ends(self, case, when):
        code, load, tracer = self.struck(case, when)
        said = self.installation.said()
        if code != 5 or f"\nreason  {case.reason}\n" not in said:
            raise Failed(f"it ended with {code}: {said[-600:]}")
        answers = {reason_of(failure) for failure in load.failures}
        if not answers or not answers <= case.answers:
            raise Failed(f"callers were told {answers}")
        count = self.injected(tracer)
        if case.call == "fdatasync" and count != 1:
            raise Failed(f"it was synced {count} times")
        self.check()
        return f"{case.call} of the {case.file}, {when}: exit code 5, {case.reason}, {sorted(answers)}"

    def rewrite_goes_on(self, call, when, paths):
        """What writes the store anew fails: the sidecar goes on, and does it again later."""
        process, address = self.installation.start()
        load, working = self.load(address)
        paths = paths(self.installation.state)
        tracer = Tracer(self.work, process, call, paths, when)
        partition = f"rewrite-{self.cases}"
        key = f"own-{self.cases}-0"
        load.seal(key, partition, f"value of {partition}")
        load.shred(key, partition, f"{partition}-shred", True)
        try:
            within(PATIENCE, lambda: tracer.injected(), f"{call} of {paths[0]}")
            within(PATIENCE, lambda: '"job":"rewrite"' in self.installation.said(), "job_failed")
        finally:
            tracer.end()
        working.join(PATIENCE)
        if load.failures:
            raise Failed(f"a call failed: {load.failures[0].details()}")
        # It is tried again within half a minute, or as soon as something else is shredded.
        within(2 * PATIENCE, lambda: load.look(key, partition), "the erasure")
        stopped(process)
        if process.wait():
            raise Failed(f"it ended with {process.returncode}")
        count = self.injected(tracer)
        self.check()
        return f"{call} of {os.path.relpath(paths[0], self.installation.state)}, {when}: " \
               f"{count} failed, it goes on and writes the store anew later"

    def rename_fails(self):
        """The new files count or not, and nobody knows: that is the end."""
        process, address = self.installation.start()
        load, working = self.load(address)
        store = os.path.join(self.installation.state, "store")
        tracer = Tracer(self.work, process, "fsync", [store], "1")
        try:
            working.join(PATIENCE)
            code = process.wait(PATIENCE)
        finally:
            tracer.end()
        if not load.failures or code != 5 or "\nreason  STORE_BROKEN\n" not in self.installation.said():
            raise Failed(f"it ended with {code}: {self.installation.said()[-600:]}")
        self.injected(tracer)
        self.check()
        return "fsync of the store's directory: exit code 5, STORE_BROKEN"

    def reads(self, file):
        """Reads that fail for a while; then the disk is well again, and the same process has everything.
        Without the scrub, nobody has read what the callers ask for."""
        process, address = self.installation.start(environment={"FIELDSEAL_STORE_SCRUB_MINUTES": "0"})
        path = database(self.installation.state) if file == "store" else \
            os.path.join(self.installation.state, FIRST)
        tracer = Tracer(self.work, process, "pread64", [path], "1+")
        try:
            reasons = self.failing_reads(address, file)
        finally:
            tracer.end()
        count = self.injected(tracer)
        if reasons != READS[file]:
            raise Failed(f"callers were told {reasons}")
        within(PATIENCE, lambda: not self.failing_reads(address, file), "the reads are well")
        stopped(process)
        if process.returncode:
            raise Failed(f"it ended with {process.returncode}: {self.installation.said()[-300:]}")
        self.check()
        return f"pread64 of the {file}: {count} failed, {sorted(reasons)}, and it goes on"

    def failing_reads(self, address, file):
        """The reasons of what is refused when everything is read."""
        try:
            if file == "log":
                list(records_of(self.installation, address))
                return set()
            check = Check(self.installation, address, self.told)
            return {found.split(": ")[1].split(",")[0] for found in check.values()}
        except grpc.RpcError as error:
            return {reason_of(error)}


def stopped(process):
    process.send_signal(signal.SIGTERM)
    process.wait(PATIENCE)


def new_database(state):
    """Where the next rewrites put the store."""
    last = re.search(r"live-(\d+)/db$", database(state))
    last = int(last[1]) if last else 0
    return [os.path.join(state, f"store/live-{last + n}/db") for n in range(1, 30)]


def new_generation(state):
    newest = newest_generation(state)
    return [os.path.join(state, f"generations/gen-{newest + n}.tmp") for n in range(1, 30)]


def main():
    arguments = argparse.ArgumentParser()
    for name in ("binary", "work"):
        arguments.add_argument("--" + name, required=True)
    run = Run(arguments.parse_args())
    cases = [(case, when) for case in ENDS for when in ("2", "1+")]
    work = [lambda case=case, when=when: run.ends(case, when) for case, when in cases]
    work += [
        lambda: run.rewrite_goes_on("pwrite64", "1..5", new_database),
        lambda: run.rewrite_goes_on("fdatasync", "1", new_database),
        lambda: run.rewrite_goes_on("write", "1", new_generation),
        run.rename_fails,
        lambda: run.reads("store"),
        lambda: run.reads("log"),
    ]
    for case in work:
        print(case(), flush=True)
    print(f"{len(work)} cases, {run.failed_calls} calls failed, acknowledged {len(run.told.facts)}, "
          f"looked at {run.looked_at}, lost 0")


if __name__ == "__main__":
    try:
        main()
    except Failed as failed:
        sys.exit(f"error: {failed}")
