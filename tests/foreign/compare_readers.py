#!/usr/bin/env python3
"""Compares read_log.py with `fieldseal audit verify`, on a whole log and on damaged copies of it.

    compare_readers.py --binary fieldseal --log STATE/audit --public-key log.pub --segments 2

Both must say the same of the whole log, both must find every bit that was flipped, wherever it is,
and both must miss a segment that is gone. The seed of the random places is printed, and `--seed`
repeats them.
"""

import argparse
import json
import os
import random
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

READER = Path(__file__).resolve().parent / "read_log.py"
# Bits that are flipped where something stands, and in the zeroes behind it.
USED_FLIPS = 8
ZERO_FLIPS = 2
# Exit codes. A bit of the last frame, or behind it, leaves an end that nothing proves.
FOUND = {"TAMPERED": 7, "UNPROVEN-TAIL": 13}
MISSING = 12


def ours(given, log):
    command = [given.binary, "--output", "json", "audit", "verify"]
    return subprocess.run(
        [*command, "--log", log, "--public-key", given.public_key], capture_output=True, check=False
    )


def theirs(given, log):
    command = [sys.executable, "-B", READER, "--log", log, "--public-key", given.public_key]
    return subprocess.run(command, capture_output=True, check=False)


def both_agree(given, log):
    """The summary that both give of a whole log."""
    found = []
    for done in (ours(given, log), theirs(given, log)):
        if done.returncode != 0:
            sys.exit(f"the whole log does not verify: {done.stderr.decode()}")
        found.append(said(done))
    if found[0] != found[1]:
        sys.exit(f"fieldseal says {found[0]}\nread_log.py says {found[1]}")
    if found[0]["segments"] < given.segments:
        sys.exit(f"the log has {found[0]['segments']} segments, and {given.segments} are needed")
    return found[0]


def said(done):
    """What was found, without the words for it, which are each one's own."""
    found = json.loads(done.stdout)
    # The reader verifies each signature by itself.
    found.pop("signatures_by_header", None)
    for one in found["ranges"]:
        one.pop("what")
    return found


def both_find(given, log, what, exits):
    """Both end with one of these exit codes, and say the same of every range."""
    found = []
    for name, done in (("fieldseal", ours(given, log)), ("read_log.py", theirs(given, log))):
        if done.returncode not in exits:
            words = done.stdout.decode() + done.stderr.decode()
            sys.exit(f"{what}: {name} ends with {done.returncode}, not {exits}: {words}")
        found.append((done.returncode, said(done)))
    if found[0] != found[1]:
        sys.exit(f"{what}: fieldseal says {found[0]}\nread_log.py says {found[1]}")


def flip(path, offset, bit):
    """Flips a bit; the same call again puts it back."""
    with open(path, "r+b") as file:
        file.seek(offset)
        byte = file.read(1)[0]
        file.seek(offset)
        file.write(bytes([byte ^ (1 << bit)]))


def places(chance, segments):
    """Where to flip: some places where something stands, and some in the zeroes."""
    found = []
    for _ in range(USED_FLIPS):
        path = chance.choice(segments)
        found.append((path, chance.randrange(len(path.read_bytes().rstrip(b"\0")))))
    last = segments[-1]
    used = len(last.read_bytes().rstrip(b"\0"))
    # Behind the padding of the last frame, whose last bytes may be zero too.
    zeroes = range(used + 16, os.path.getsize(last))
    return found + [(last, chance.choice(zeroes)) for _ in range(ZERO_FLIPS if zeroes else 0)]


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--binary", required=True)
    parser.add_argument("--log", required=True, metavar="DIR")
    parser.add_argument("--public-key", required=True, metavar="FILE")
    parser.add_argument("--segments", type=int, default=1, help="the fewest that the log must have")
    parser.add_argument("--seed", type=int, default=random.randrange(2**32))
    given = parser.parse_args()
    print(f"seed {given.seed}")
    with tempfile.TemporaryDirectory() as directory:
        log = Path(directory) / "log"
        shutil.copytree(given.log, log)
        summary = both_agree(given, log)
        segments = sorted(log.glob("segment-*.log"))
        for path, offset in places(random.Random(given.seed), segments):
            bit = offset % 8
            flip(path, offset, bit)
            what = f"bit {bit} of byte {offset} of {path.name} was flipped"
            both_find(given, log, what, FOUND.values())
            flip(path, offset, bit)
        if len(segments) > 1:
            segments[-2].rename(log / "aside")
            both_find(given, log, f"{segments[-2].name} is gone", [MISSING])
            (log / "aside").rename(segments[-2])
        both_agree(given, log)
    print(f"{summary['records']} records in {summary['segments']} files: both agree")


if __name__ == "__main__":
    main()
