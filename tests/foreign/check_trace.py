#!/usr/bin/env python3
"""Checks in a trace of system calls that nothing is answered before it is on disk.

    check_trace.py TRACE decrypt | rotate

TRACE is what `strace -f -yy` wrote about a sidecar that answered one Decrypt of more than 16 KiB and
one RotateKey, each on a connection of its own. Exit code 1 if an answer left before the log (and for
a rotation the store) was synced, or if the trace does not show what it must.
"""

import re
import sys
from dataclasses import dataclass

# A descriptor with its file: `14</path>`, `16<TCP:[address->address]>`.
FILE = r"\d+<((?:[^>]|(?<=-)>)*)>"
CALL = re.compile(r"(\d+) +(\w+)\(" + FILE)
RESUMED = re.compile(r"(\d+) +<\.\.\. (\w+) resumed>")
RESULT = re.compile(r"\) += (-?\d+)(?:<((?:[^>]|(?<=-)>)*)>)?")
SENDS = {"write", "writev", "sendto", "sendmsg"}
SEGMENT = re.compile(r"/audit/segment-\d{20}\.log$")
STORE = re.compile(r"/store/(live-[0-9]+/)?db$")
# A reply to Decrypt holds the value; nothing else that the sidecar sends is as long.
LARGE = 8192
# A reply with a key in it is longer than what HTTP/2 sends by itself (settings, windows, pings).
REPLY = 100


class Failed(Exception):
    """The trace does not show what it must."""


@dataclass
class Call:
    name: str
    file: str
    entered: int
    left: int = -1
    result: int = -1
    made: str = ""  # of accept4: the connection


def read(lines):
    """The calls in the order in which they began; the number of a line is its time."""
    calls, pending = [], {}
    for at, line in enumerate(lines):
        if begun := CALL.match(line):
            call = Call(begun[2], begun[3], at)
            calls.append(call)
            pending[begun[1]] = call
        elif resumed := RESUMED.match(line):
            call = pending.get(resumed[1])
            if call is None or call.name != resumed[2]:
                continue
        else:
            continue
        if result := RESULT.search(line):
            call.left, call.result, call.made = at, int(result[1]), result[2] or ""
    return calls


def of(calls, names, file):
    return [call for call in calls if call.name in names and re.search(file, call.file)]


def on_connection(calls, accepted):
    """What was sent on a connection."""
    return of(calls, SENDS, re.escape(accepted.made) + "$")


def conversations(calls):
    """For each connection the moment of its start and of the next one's, and what was sent on it."""
    accepted = [call for call in calls if call.name == "accept4" and call.made]
    for at, call in enumerate(accepted):
        ends = accepted[at + 1].left if at + 1 < len(accepted) else float("inf")
        yield call.left, ends, on_connection(calls, call)


def written(calls, file, began, ended):
    writes = of(calls, {"pwrite64"}, file)
    return [call for call in writes if began < call.entered < ended and call.result > 0]


def synced(calls, file, write, before):
    """A successful sync of a file that began after a write was done and was over before a moment."""
    syncs = of(calls, {"fdatasync"}, file)
    between = [call for call in syncs if write.left < call.entered and -1 < call.left < before]
    return next((call for call in between if call.result == 0), None)


def check_log(calls, began, answer):
    """The record was written, then synced, then the answer left."""
    records = written(calls, SEGMENT, began, answer.entered)
    if not records:
        raise Failed("the answer left before any record was written")
    sync = synced(calls, SEGMENT, records[-1], answer.entered)
    if sync is None:
        raise Failed("the answer left before the record was synced")
    return records[-1]


def check_decrypt(calls):
    found = 0
    for began, _, sent in conversations(calls):
        answer = next((call for call in sent if call.result > LARGE), None)
        if answer is not None:
            check_log(calls, began, answer)
            found += 1
    if found != 1:
        raise Failed(f"the trace has {found} large answers, and 1 was expected")
    return "the record was synced before the value left"


def check_rotation(calls):
    found = 0
    for began, ended, sent in conversations(calls):
        if any(call.result > LARGE for call in sent):
            continue
        changes = written(calls, STORE, began, ended)
        if not changes:
            continue
        # The largest write is the transaction; the others are marks of the store's own.
        change = max(changes, key=lambda call: call.result)
        answer = next((c for c in sent if c.result > REPLY and c.entered > change.entered), None)
        if answer is None:
            raise Failed("nothing was answered after the store was written")
        record = check_log(calls, began, answer)
        if synced(calls, STORE, change, record.entered) is None:
            raise Failed("the record was written before the store was synced")
        found += 1
    if found != 1:
        raise Failed(f"the trace has {found} changes of the store, and 1 was expected")
    return "the store was synced before the record, and the record before the answer"


def main():
    path, what = sys.argv[1:]
    try:
        with open(path, encoding="utf-8", errors="replace") as trace:
            calls = read(trace)
        print({"decrypt": check_decrypt, "rotate": check_rotation}[what](calls))
    except Failed as failed:
        print(f"error: {failed}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
