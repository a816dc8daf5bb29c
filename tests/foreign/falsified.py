#!/usr/bin/env python3
"""Lets two verifiers judge falsified logs: `fieldseal audit verify` and read_log.py.

    falsified.py --binary fieldseal --cases DIR

DIR is what the test `falsified` of src/audit wrote: a directory for each log and `cases.tsv`, which
says what must be found. Both must find it, end with its exit code, and say the same of every range.
"""

import argparse
import json
import subprocess
import sys
from pathlib import Path

READER = Path(__file__).resolve().parent / "read_log.py"
EXITS = {"OK": 0, "REDACTED": 10, "ARCHIVED": 11, "TAMPERED": 7, "MISSING": 12, "UNPROVEN-TAIL": 13}
EXITS |= {"AUDIT_LOG_FOREIGN": 7, "CHECKPOINT_FOREIGN": 7, "LOG_NOT_FOUND": 3}
FEWEST = 40


def judged(command, log, key, beside):
    """Exit code, ranges, and how much is there that was to be erased; what is wrong is said in words of each one's own."""
    given = ["--log", log, "--public-key", key]
    if beside == "checkpoint":
        given += ["--checkpoint", log.parent / "checkpoint"]
    if beside == "archive":
        given += ["--archive", log.with_name(f"{log.name}.archive")]
    done = subprocess.run([*command, *given], capture_output=True, text=True, check=False)
    found = json.loads(done.stdout) if done.stdout else {}
    ranges = found.get("ranges", [])
    for one in ranges:
        one.pop("what")
    return done.returncode, ranges, found.get("named_still_there")


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--binary", required=True)
    parser.add_argument("--cases", required=True, type=Path, metavar="DIR")
    given = parser.parse_args()
    verifiers = {
        "fieldseal": [given.binary, "--output", "json", "audit", "verify"],
        "read_log.py": [sys.executable, "-B", READER],
    }
    wrong = []
    lines = (given.cases / "cases.tsv").read_text("utf-8").splitlines()
    for line in lines:
        name, key, beside, verdict, *place = line.split("\t")
        log = given.cases / name
        key = (log if key == "log" else given.cases) / "log.pub"
        said = {who: judged(by, log, key, beside) for who, by in verifiers.items()}
        for who, (exit_code, ranges, _) in said.items():
            found = [one for one in ranges if one["verdict"] == verdict][:1]
            found = [str(found[0][part]) for part in ("first", "file", "offset")] if found else []
            expected = [part for part in place if part != "-"]
            if exit_code != EXITS[verdict] or expected and found != expected:
                wrong.append(f"{who}: {line}: {exit_code}, {ranges}")
        if said["fieldseal"] != said["read_log.py"]:
            wrong.append(f"not the same: {line}: {said}")
    for one in wrong:
        print(one)
    print(f"{len(lines)} falsified logs, {len(wrong)} disagreements")
    return 1 if wrong or len(lines) < FEWEST else 0


if __name__ == "__main__":
    sys.exit(main())
