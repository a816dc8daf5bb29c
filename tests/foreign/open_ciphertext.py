#!/usr/bin/env python3
"""Opens a Fieldseal ciphertext with its data key, without Fieldseal.

Written from docs/ciphertext.md alone. Needs Python 3.11 and the package `cryptography`.

    open_ciphertext.py --data-key-file dek.hex --key customer-pii --table customers \\
        --column email --partition acme --row 42 --pair region=eu < ciphertext > value

The ciphertext is binary or the text form (`fs1.…`). The data key is 64 hexadecimal digits in a
file: an argument could be read by every user of the machine.
"""

import argparse
import base64
import hashlib
import hmac
import json
import re
import sys
from dataclasses import dataclass, field
from pathlib import Path

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import ChaCha20Poly1305
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDFExpand

SUITE = 0x01
# The hexadecimal inputs of a vector.
RAW = {"data_key", "key_id", "salt", "content", "ciphertext"}
RAW |= {"wrapping_key", "wrapped", "token_key"}
HEADER_BYTES = 1 + 8 + 16 + 32
TAG_BYTES = 16
NONCE = bytes(12)
BYTES, TEXT = 1, 2
# A vector file with fewer is not the one that this script was written for.
LEAST = {
    "pae": 6,
    "fields": 15,
    "padding": 20,
    "refused": 40,
    "wraps": 9,
    "wraps_refused": 15,
    "tokens": 5,
}


class Refused(Exception):
    """A ciphertext that does not open; `reason` is a name from docs/ciphertext.md."""

    def __init__(self, reason):
        super().__init__(reason)
        self.reason = reason


@dataclass
class Place:
    """What a value is bound to."""

    key: str
    table: str
    column: str
    partition: str = ""
    row: str = ""
    extra: list = field(default_factory=list)


def pae(parts):
    out = [len(parts).to_bytes(4, "little")]
    for part in parts:
        out += [len(part).to_bytes(4, "little"), part]
    return b"".join(out)


def field_context(key_id, place):
    pairs = sorted((name.encode(), value.encode()) for name, value in place.extra)
    if len({name for name, _ in pairs}) != len(pairs):
        raise ValueError("an extra pair's name occurs twice")
    parts = [b"fieldseal/v1/field", bytes([SUITE]) + key_id, place.key.encode()]
    parts += [place.partition.encode(), place.table.encode(), place.column.encode()]
    parts += [part for pair in pairs for part in pair]
    parts.append(place.row.encode())
    return hashlib.sha256(pae(parts)).digest()


def wrap_context(kind, installation, name=b"", version=b"", partition=b"", generation=b"", id=b""):
    label = b"fieldseal/v1/wrap/" + kind.encode()
    parts = [label, installation, name, version, partition, generation, id]
    return hashlib.sha256(pae(parts)).digest()


def derive(key, salt, context):
    """The message key and the commitment."""
    infos = [label + salt + context for label in (b"fs1k", b"fs1c")]
    return [HKDFExpand(SHA256(), 32, info).derive(key) for info in infos]


def decode_text(ciphertext):
    """The binary form, whichever of the two forms came in."""
    if not ciphertext.startswith(b"fs1."):
        return ciphertext
    text = ciphertext[4:]
    if not re.fullmatch(rb"[A-Za-z0-9_-]*", text) or len(text) % 4 == 1:
        raise Refused("CIPHERTEXT_TEXT_INVALID")
    binary = base64.urlsafe_b64decode(text + b"=" * (-len(text) % 4))
    if base64.urlsafe_b64encode(binary).rstrip(b"=") != text:
        raise Refused("CIPHERTEXT_TEXT_INVALID")  # unused bits that are not zero
    return binary


def looks_like_text(data):
    try:
        data.decode()
    except UnicodeDecodeError:
        return False
    return all(byte >= 0x20 or byte in b"\t\r\n" for byte in data)


def parse(ciphertext):
    """Key id, salt, commitment, C and tag of a binary ciphertext."""
    if not ciphertext:
        raise Refused("CIPHERTEXT_EMPTY")
    if ciphertext[0] != SUITE:
        not_sealed = looks_like_text(ciphertext)
        raise Refused("CIPHERTEXT_NOT_SEALED" if not_sealed else "CIPHERTEXT_SUITE_UNKNOWN")
    if len(ciphertext) < HEADER_BYTES + 1 + TAG_BYTES:
        raise Refused("CIPHERTEXT_TRUNCATED")
    if ciphertext[1] == 0xFF:
        raise Refused("TEST_CIPHERTEXT")
    return ciphertext[1:9], ciphertext[9:25], ciphertext[25:57], ciphertext[57:]


def unpad(content):
    """Content type and value of `type | value | padding`."""
    kind, value = content[0], content[1:]
    if kind & 0x7F not in (BYTES, TEXT):
        raise Refused("CONTENT_INVALID")
    if kind & 0x80:
        value = value.rstrip(b"\x00")
        if not value.endswith(b"\x80"):
            raise Refused("CONTENT_INVALID")
        value = value[:-1]
    if kind & 0x7F == TEXT:
        try:
            value.decode()
        except UnicodeDecodeError:
            raise Refused("CONTENT_INVALID") from None
    return kind & 0x7F, value


def decrypt(key, salt, context, commitment, header, body):
    message_key, expected = derive(key, salt, context)
    if not hmac.compare_digest(commitment, expected):
        raise Refused("COMMITMENT_MISMATCH")
    try:
        return ChaCha20Poly1305(message_key).decrypt(NONCE, body, header)
    except InvalidTag:
        raise Refused("TAG_MISMATCH") from None


def open_field(data_key, place, ciphertext):
    """Content type and value."""
    binary = decode_text(ciphertext)
    key_id, salt, commitment, body = parse(binary)
    context = field_context(key_id, place)
    return unpad(decrypt(data_key, salt, context, commitment, binary[:HEADER_BYTES], body))


def unwrap(wrapping_key, context, wrapped):
    """The key inside a wrap."""
    if len(wrapped) != 97 or wrapped[0] != 0x01:
        raise Refused("UNWRAP_FAILED")
    salt, commitment = wrapped[1:17], wrapped[17:49]
    try:
        return decrypt(wrapping_key, salt, context, commitment, wrapped[:49], wrapped[49:])
    except Refused:
        raise Refused("UNWRAP_FAILED") from None


def token(token_key, *parts):
    return hmac.digest(token_key, pae(list(parts)), "sha256")[:16]


def seal(data_key, key_id, salt, place, content):
    """For checking vectors only: outside them a salt must be random and never used again."""
    message_key, commitment = derive(data_key, salt, field_context(key_id, place))
    header = bytes([SUITE]) + key_id + salt + commitment
    return header + ChaCha20Poly1305(message_key).encrypt(NONCE, content, header)


def place_of(given):
    names = ("key", "table", "column", "partition", "row", "extra")
    return Place(**{name: given[name] for name in names})


def value_of(given):
    if "value_repeat" in given:
        return bytes.fromhex(given["value_repeat"]["hex"]) * given["value_repeat"]["times"]
    return bytes.fromhex(given["value"])


def wrap_context_of(given):
    def le32(name):
        return given[name].to_bytes(4, "little") if name in given else b""

    return wrap_context(
        given["kind"],
        bytes.fromhex(given["installation"]),
        given.get("name", "").encode(),
        le32("version"),
        given.get("partition", "").encode(),
        le32("generation"),
        bytes.fromhex(given.get("key_id", "")),
    )


def outcome(section, given):
    """What a vector's `out` must be, worked out from its `in`."""
    raw = {name: bytes.fromhex(given[name]) for name in given if name in RAW}
    if section == "pae":
        return {"encoded": pae([bytes.fromhex(part) for part in given["parts"]]).hex()}
    if section == "tokens":
        parts = [part.encode() for part in given["parts"]]
        return {"token": token(raw["token_key"], *parts).hex()}
    if section in ("wraps", "wraps_refused"):
        context = wrap_context_of(given)
        wrapped_key = unwrap(raw["wrapping_key"], context, raw["wrapped"])
        return {"context": context.hex(), "wrapped_key": wrapped_key.hex()}
    place = place_of(given)
    if section == "refused":
        data = given["text"].encode() if "text" in given else raw["ciphertext"]
        kind, value = open_field(raw["data_key"], place, data)
        return {"content_type": kind, "value": value.hex()}
    if section == "padding":
        content = raw["content"]
    else:
        content = bytes([given["content_type"]]) + value_of(given)
    ciphertext = seal(raw["data_key"], raw["key_id"], raw["salt"], place, content)
    if section == "padding":
        if ciphertext != raw["ciphertext"]:
            return {"reason": "the ciphertext is another"}
        kind, value = open_field(raw["data_key"], place, ciphertext)
        return {"content_type": kind, "value": value.hex()}
    context = field_context(raw["key_id"], place)
    text = "fs1." + base64.urlsafe_b64encode(ciphertext).decode().rstrip("=")
    for form in (ciphertext, text.encode()):
        if open_field(raw["data_key"], place, form) != (content[0], content[1:]):
            return {"reason": "the ciphertext opens to something else"}
    message_key, _ = derive(raw["data_key"], raw["salt"], context)
    out = {"context": context.hex(), "message_key": message_key.hex()}
    if "value_repeat" in given:
        return out | {
            "ciphertext_start": ciphertext[:HEADER_BYTES].hex(),
            "ciphertext_end": ciphertext[-TAG_BYTES:].hex(),
            "ciphertext_sha256": hashlib.sha256(ciphertext).hexdigest(),
            "text_sha256": hashlib.sha256(text.encode()).hexdigest(),
        }
    return out | {"ciphertext": ciphertext.hex(), "text": text}


def check(vectors):
    """Prints how many vectors agree; 1 if one does not or some are missing."""
    failures = []
    for section, least in LEAST.items():
        checked = 0
        for vector in vectors.get(section, []):
            try:
                got = outcome(section, vector["in"])
            except Refused as refused:
                got = {"reason": refused.reason}
            if got != vector["out"]:
                failures.append(f"{section}: {vector['name']}: {got} is not {vector['out']}")
            checked += 1
        expected = max(least, vectors.get("counts", {}).get(section, least))
        if checked < expected:
            failures.append(f"{section}: {checked} vectors, and {expected} were expected")
        print(f"{section}: {checked} vectors checked")
    for failure in failures:
        print(failure, file=sys.stderr)
    return 1 if failures else 0


def read_key_file(path):
    """A data key: 64 hexadecimal digits and perhaps a line end."""
    digits = Path(path).read_text("ascii").strip()
    if not re.fullmatch(r"[0-9a-fA-F]{64}", digits):
        raise ValueError("the data key's file must hold 64 hexadecimal digits")
    return bytes.fromhex(digits)


def arguments():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("file", nargs="?", help="the ciphertext; standard input if left out")
    parser.add_argument("--data-key-file", help="file with the data key, 64 hexadecimal digits")
    parser.add_argument("--key", help="the key's bare name, for example customer-pii")
    parser.add_argument("--table")
    parser.add_argument("--column")
    parser.add_argument("--partition", default="")
    parser.add_argument("--row", default="")
    parser.add_argument("--pair", action="append", default=[], metavar="NAME=VALUE")
    parser.add_argument("--vectors", metavar="FILE", help="check every vector of a file instead")
    parsed = parser.parse_args()
    needed = ("data_key_file", "key", "table", "column")
    if not parsed.vectors and not all(getattr(parsed, name) for name in needed):
        parser.error("--data-key-file, --key, --table and --column are needed")
    if not all("=" in pair[1:] for pair in parsed.pair):
        parser.error("an extra pair is written NAME=VALUE")
    return parsed


def main():
    given = arguments()
    if given.vectors:
        return check(json.loads(Path(given.vectors).read_text("utf-8")))
    try:
        pairs = [pair.split("=", 1) for pair in given.pair]
        place = Place(given.key, given.table, given.column, given.partition, given.row, pairs)
        data_key = read_key_file(given.data_key_file)
        data = Path(given.file).read_bytes() if given.file else sys.stdin.buffer.read()
        if data.startswith(b"fs1."):
            data = data.rstrip(b"\r\n")  # a text file ends with a line end
        _, value = open_field(data_key, place, data)
    except Refused as refused:
        print(f"the ciphertext does not open: {refused.reason}", file=sys.stderr)
        return 1
    except (OSError, ValueError) as error:
        print(f"{error}", file=sys.stderr)
        return 1
    sys.stdout.buffer.write(value)
    return 0


if __name__ == "__main__":
    sys.exit(main())
