#!/usr/bin/env python3
"""Tests of open_ciphertext.py as it is used: as a program. Run: python3 test_open_ciphertext.py"""

import copy
import json
import subprocess
import sys
import tempfile
import unittest
from pathlib import Path

HERE = Path(__file__).resolve().parent
PROGRAM = HERE / "open_ciphertext.py"
VECTORS = HERE.parent / "vectors" / "ciphertext-v1.json"
GENERATE = HERE.parent / "vectors" / "generate.py"


def run(*arguments, stdin=b""):
    command = [sys.executable, "-B", *map(str, arguments)]
    return subprocess.run(command, input=stdin, capture_output=True, check=False)


class OpenCiphertext(unittest.TestCase):
    def setUp(self):
        self.directory = tempfile.TemporaryDirectory()
        self.addCleanup(self.directory.cleanup)
        self.vectors = json.loads(VECTORS.read_text("utf-8"))

    def file(self, name, data):
        path = Path(self.directory.name) / name
        path.write_bytes(data)
        return path

    def open(self, given, ciphertext, *more):
        key = self.file("dek.hex", given["data_key"].encode() + b"\n")
        arguments = [PROGRAM, "--data-key-file", key]
        for name in ("key", "table", "column", "partition", "row"):
            arguments += [f"--{name}", given[name]]
        for name, value in given["extra"]:
            arguments += ["--pair", f"{name}={value}"]
        return run(*arguments, *more, stdin=ciphertext)

    def check(self, vectors):
        text = json.dumps(vectors).encode()
        return run(PROGRAM, "--vectors", self.file("vectors.json", text))

    def test_every_vector_agrees(self):
        done = run(PROGRAM, "--vectors", VECTORS)
        self.assertEqual((done.returncode, done.stderr), (0, b""))
        counts = self.vectors["counts"]
        for section, count in counts.items():
            self.assertEqual(len(self.vectors[section]), count)
            self.assertIn(f"{section}: {count} vectors checked", done.stdout.decode())
        self.assertGreaterEqual(sum(counts.values()), 150)

    def test_the_vectors_are_still_what_the_generator_writes(self):
        self.assertEqual(run(GENERATE, "--check").returncode, 0)
        again = run(GENERATE)
        self.assertEqual(again.returncode, 1, "released vectors are never overwritten")

    def test_one_wrong_vector_is_found(self):
        for section in self.vectors["counts"]:
            for name in self.vectors[section][0]["out"]:
                changed = copy.deepcopy(self.vectors)
                changed[section][0]["out"][name] = "00"
                done = self.check(changed)
                self.assertEqual(done.returncode, 1, f"{section} {name}")
                self.assertIn(section.encode(), done.stderr)

    def test_missing_vectors_are_found(self):
        for section in self.vectors["counts"]:
            one_less = copy.deepcopy(self.vectors)
            one_less[section].pop()
            self.assertEqual(self.check(one_less).returncode, 1, section)
            none = copy.deepcopy(self.vectors)
            none[section], none["counts"][section] = [], 0
            self.assertEqual(self.check(none).returncode, 1, section)

    def test_binary_and_text_forms_open_from_a_pipe_and_from_a_file(self):
        opened = 0
        for vector in self.vectors["fields"]:
            if "value_repeat" in vector["in"]:
                continue
            value = bytes.fromhex(vector["in"]["value"])
            binary = bytes.fromhex(vector["out"]["ciphertext"])
            text = vector["out"]["text"].encode() + b"\n"
            path = self.file("ciphertext", text)
            for stdin, more in ((binary, []), (text, []), (b"", [path])):
                done = self.open(vector["in"], stdin, *more)
                self.assertEqual((done.returncode, done.stdout), (0, value), vector["name"])
                opened += 1
        self.assertGreaterEqual(opened, 50)

    def test_a_refused_ciphertext_gives_its_reason_and_nothing_else(self):
        for vector in self.vectors["refused"]:
            given = vector["in"]
            if "line end" in vector["name"]:
                continue  # the program takes a line end off, as files have one
            text = given["text"].encode() if "text" in given else None
            done = self.open(given, text or bytes.fromhex(given["ciphertext"]))
            self.assertEqual((done.returncode, done.stdout), (1, b""), vector["name"])
            self.assertIn(vector["out"]["reason"], done.stderr.decode(), vector["name"])

    def test_a_bad_data_key_file_is_refused_without_showing_it(self):
        given = self.vectors["fields"][0]["in"]
        for bad in ("", "00" * 31, "00" * 33, "secret"):
            done = self.open(given | {"data_key": bad}, b"")
            self.assertEqual(done.returncode, 1)
            self.assertNotIn(b"secret", done.stderr)
            self.assertNotIn(b"Traceback", done.stderr)

    def test_a_pair_given_twice_is_refused(self):
        given = self.vectors["fields"][0]["in"] | {"extra": [["a", "1"], ["a", "2"]]}
        ciphertext = bytes.fromhex(self.vectors["fields"][0]["out"]["ciphertext"])
        done = self.open(given, ciphertext)
        self.assertEqual(done.returncode, 1)
        self.assertIn(b"twice", done.stderr)

    def test_the_data_key_is_no_argument(self):
        help_text = run(PROGRAM, "--help").stdout.decode()
        self.assertIn("--data-key-file", help_text)
        self.assertEqual(run(PROGRAM, "--data-key", "00" * 32, "--key", "k").returncode, 2)


if __name__ == "__main__":
    unittest.main()
