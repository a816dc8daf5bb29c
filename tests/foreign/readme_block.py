#!/usr/bin/env python3
"""Prints the block of a Markdown file that stands under a mark, as it stands.

    readme_block.py README.md dev sh

finds `<!-- tests/foreign runs: dev -->`; the line below it must open a block of that language. Exit
code 1 if the mark is missing or stands twice, or if its block is empty or another one.
"""

import sys
from pathlib import Path


def block(text, name, language):
    lines = text.splitlines()
    mark = f"<!-- tests/foreign runs: {name} -->"
    marks = [at for at, line in enumerate(lines) if line == mark]
    if len(marks) != 1:
        raise ValueError(f"{mark} stands {len(marks)} times, and once was expected")
    begin = marks[0] + 1
    if lines[begin : begin + 1] != [f"```{language}"]:
        raise ValueError(f"below {mark} must stand ```{language}")
    rest = lines[begin + 1 :]
    if "```" not in rest:
        raise ValueError(f"the block of {mark} has no end")
    found = rest[: rest.index("```")]
    if not any(line.strip() for line in found):
        raise ValueError(f"the block of {mark} is empty")
    return "\n".join(found) + "\n"


def main():
    path, name, language = sys.argv[1:]
    try:
        sys.stdout.write(block(Path(path).read_text("utf-8"), name, language))
    except ValueError as error:
        print(f"error: {path}: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
