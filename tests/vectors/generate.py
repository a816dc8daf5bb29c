#!/usr/bin/env python3
"""Writes ciphertext-v1.json with the implementation in tests/foreign, which shares no code with
Fieldseal. Run once when the format was fixed; `--check` says whether the file is still what this
writes. The vectors of a released format are never changed: new ones go into a new file.
"""

import hashlib
import json
import sys
from pathlib import Path

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parent / "foreign"))
sys.dont_write_bytecode = True

import open_ciphertext as reader  # noqa: E402

FILE = HERE / "ciphertext-v1.json"
ABOUT = (
    "Test vectors of docs/ciphertext.md, suite 1. Bytes are hexadecimal; names, rows, partitions "
    "and pairs are text. Every key here is public: never use one."
)


def made(name, size=32):
    """Bytes that nobody chose: the start of a hash of their name."""
    return hashlib.sha256(b"fieldseal vectors v1/" + name.encode()).digest()[:size].hex()


BASE = {
    "data_key": made("data key"),
    "key_id": "0123456789abcdef",
    "salt": made("salt", 16),
    "key": "customer-pii",
    "partition": "acme",
    "table": "customers",
    "column": "email",
    "extra": [],
    "row": "42",
}
INSTALLATION = made("installation", 16)


def field(name, content_type=reader.BYTES, value=b"", **changes):
    given = BASE | {"salt": made(name, 16)} | changes | {"content_type": content_type}
    if "value_repeat" not in given:
        given["value"] = value.hex()
    return {"name": name, "in": given, "out": reader.outcome("fields", given)}


def fields():
    uuid = "6f2c1e0a-3b4d-4c5e-8f90-0123456789ab"
    sixteen = [[f"pair{i:02}", f"value {i}"] for i in range(15, -1, -1)]
    order = [["\U0001f600", "3"], ["\uff5e", "2"], ["a", "1"], ["B", "0"]]
    longest = [[f"{i}" + "n" * 127, "v" * 100] for i in range(4)]
    return [
        field("text", 2, b"ada@example.org"),
        field("bytes", 1, bytes(range(256))),
        field("one byte", 1, b"\x00"),
        field("an empty value", 1),
        field("an empty text", 2),
        field("the default partition", 2, b"x", partition=""),
        field("not bound to a row", 2, b"x", row=""),
        field("neither partition nor row", 2, b"x", partition="", row=""),
        field("a row that is a UUID", 2, b"x", row=uuid),
        field("names outside ASCII", 2, "Grüße, Ada 🔑".encode(), partition="Größe-株式会社",
              table="kundén", column="имя", row="ключ/1", extra=[["région", "été"]]),
        field("one extra pair", 2, b"x", extra=[["region", "eu"]]),
        field("a pair with an empty value", 2, b"x", extra=[["region", ""]]),
        field("16 extra pairs, not sorted", 2, b"x", extra=sixteen),
        field("pairs sort by bytes, not by UTF-16", 2, b"x", extra=order),
        field("long names", 1, b"x", key="k" + "-" * 62, table="t" * 128, column="c" * 128,
              partition="p" * 256, row="r" * 1024, extra=longest),
        field("a value that looks like padding", 1, b"\x80\x00\x00"),
        field("a value that looks like a ciphertext", 2, b"fs1.AQ"),
        field("all bits set", 1, b"\xff" * 32, data_key="ff" * 32, salt="ff" * 16,
              key_id="feffffffffffffff"),
        field("all bits clear", 1, bytes(32), data_key="00" * 32, salt="00" * 16,
              key_id="0000000000000000"),
        field("64 KiB", 1, value_repeat={"hex": "00112233445566778899aabbccddeeff",
                                         "times": 4096}),
    ]


def padding():
    contents = [
        ("bytes, one mark", "81 616263 80", "616263"),
        ("bytes, mark and zeroes", "81 616263 80 0000000000", "616263"),
        ("text, mark and zeroes", "82 616263 80 0000", "616263"),
        ("padded to 256 bytes", "82 616263 80" + "00" * 251, "616263"),
        ("an empty value, one mark", "81 80", ""),
        ("an empty text, mark and zeroes", "82 80 0000", ""),
        ("a value that ends in a mark", "81 6180 80 00", "6180"),
        ("a value that ends in zeroes", "81 610000 80 00", "610000"),
        ("a value that ends in mark and zeroes", "81 61800000 80 0000", "61800000"),
        ("text outside ASCII before the mark", "82 c3a9 80", "c3a9"),
        ("not padded, so the mark belongs to the value", "01 616263 80", "61626380"),
        ("not padded, so the zeroes belong to the value", "01 616263 800000", "616263800000"),
        ("no mark", "81 616263", None),
        ("no mark but zeroes", "81 616263 0000", None),
        ("only zeroes", "81 000000", None),
        ("padded type and nothing after it", "81", None),
        ("something after the mark", "81 616263 80 01", None),
        ("something after the zeroes", "81 616263 80 0000 7f", None),
        ("type 0", "00 616263", None),
        ("type 0, padded", "80 616263 80", None),
        ("type 3", "03 616263", None),
        ("type 3, padded", "83 616263 80", None),
        ("type 127, padded", "ff 616263 80", None),
        ("text that is not UTF-8", "02 ff", None),
        ("text that is not UTF-8, padded", "82 ff 80", None),
        ("text whose last character lost its end to the mark", "82 c3 80", None),
        ("text with a surrogate", "02 eda080", None),
        ("text with an overlong character", "02 c080", None),
    ]
    vectors = []
    for name, content, value in contents:
        given = BASE | {"salt": made(name, 16), "content": bytes.fromhex(content).hex()}
        sealed = reader.seal(
            bytes.fromhex(given["data_key"]), bytes.fromhex(given["key_id"]),
            bytes.fromhex(given["salt"]), reader.place_of(given), bytes.fromhex(content),
        )
        given["ciphertext"] = sealed.hex()
        out = {"reason": "CONTENT_INVALID"}
        if value is not None:
            out = {"content_type": int(content[:2], 16) & 0x7F, "value": value}
        vectors.append({"name": name, "in": given, "out": out})
    return vectors


def refused():
    pair = [["region", "eu"]]
    base = field("what the refused ones are made from", 2, b"ada@example.org", extra=pair)
    good = bytes.fromhex(base["out"]["ciphertext"])
    text = base["out"]["text"]
    inputs = ("data_key", "key", "partition", "table", "column", "extra", "row")
    place = {name: base["in"][name] for name in inputs}
    vectors = []

    def refuse(name, reason, ciphertext=good, **changes):
        given = place | changes
        if "text" not in changes:
            given["ciphertext"] = ciphertext.hex()
        vectors.append({"name": name, "in": given, "out": {"reason": reason}})

    def flip(index, bit=1):
        changed = bytearray(good)
        changed[index] ^= bit
        return bytes(changed)

    other = "COMMITMENT_MISMATCH"
    refuse("another data key", other, data_key=made("another data key"))
    refuse("one bit of the data key", other, data_key=f"{int(place['data_key'], 16) ^ 1:064x}")
    refuse("another key name", other, key="customer-pi")
    refuse("another partition", other, partition="acme2")
    refuse("the default partition", other, partition="")
    refuse("another table", other, table="customer")
    refuse("another column", other, column="phone")
    refuse("another case", other, column="Email")
    refuse("another row", other, row="43")
    refuse("no row", other, row="")
    refuse("a space after the row", other, row="42 ")
    refuse("the pair left out", other, extra=[])
    refuse("another pair name", other, extra=[["regio", "eu"]])
    refuse("another pair value", other, extra=[["region", "us"]])
    refuse("one pair more", other, extra=[*pair, ["a", ""]])
    refuse("name and value exchanged", other, extra=[["eu", "region"]])
    refuse("a letter moved from the name to the value", other, extra=[["regio", "neu"]])
    refuse("a letter moved from the table to the column", other, table="customer", column="semail")
    refuse("a letter moved from the partition to the table", other, partition="acm",
           table="ecustomers")
    refuse("a letter moved from the value to the row", other, extra=[["region", "e"]], row="u42")
    refuse("table and column exchanged", other, table="email", column="customers")
    refuse("partition and row exchanged", other, partition="42", row="acme")
    refuse("another key id", other, flip(1))
    refuse("the key id's last byte", other, flip(8))
    refuse("another salt", other, flip(9))
    refuse("the salt's last byte", other, flip(24, 0x80))
    refuse("another commitment", other, flip(25))
    refuse("the commitment's last byte", other, flip(56, 0x80))
    refuse("another content type", "TAG_MISMATCH", flip(57, 3))
    refuse("one bit of C", "TAG_MISMATCH", flip(60))
    refuse("the first byte of the tag", "TAG_MISMATCH", flip(-16))
    refuse("the last byte of the tag", "TAG_MISMATCH", flip(-1, 0x80))
    refuse("the last byte cut off", "TAG_MISMATCH", good[:-1])
    refuse("one byte more", "TAG_MISMATCH", good + b"\x00")
    refuse("cut to 74 bytes", "TAG_MISMATCH", good[:74])
    refuse("cut to 73 bytes", "CIPHERTEXT_TRUNCATED", good[:73])
    refuse("cut to the header", "CIPHERTEXT_TRUNCATED", good[:57])
    refuse("cut to the suite", "CIPHERTEXT_TRUNCATED", good[:1])
    refuse("nothing", "CIPHERTEXT_EMPTY", b"")
    refuse("suite 0", "CIPHERTEXT_SUITE_UNKNOWN", b"\x00" + good[1:])
    refuse("suite 2", "CIPHERTEXT_SUITE_UNKNOWN", b"\x02" + good[1:])
    refuse("suite 0x66, the letter f", "CIPHERTEXT_SUITE_UNKNOWN", b"\x66" + good[1:])
    refuse("plain text", "CIPHERTEXT_NOT_SEALED", b"ada@example.org")
    refuse("plain text outside ASCII", "CIPHERTEXT_NOT_SEALED", "Zoë\tÅ\r\n".encode())
    refuse("text with a zero byte", "CIPHERTEXT_SUITE_UNKNOWN", b"ada\x00")
    refuse("a test double's key id", "TEST_CIPHERTEXT", good[:1] + b"\xff" + good[2:])
    refuse("a test double's key id, too short", "CIPHERTEXT_TRUNCATED", b"\x01\xff")
    invalid = "CIPHERTEXT_TEXT_INVALID"
    refuse("text form, padded", invalid, text=text + "=")
    refuse("text form, a line end", invalid, text=text + "\n")
    refuse("text form, standard alphabet", invalid, text=text[:8] + "+/" + text[10:])
    refuse("text form, a length that does not exist", invalid, text="fs1.AAAAA")
    refuse("text form, unused bits set", invalid, text="fs1.AR")
    refuse("text form, nothing after the prefix", "CIPHERTEXT_EMPTY", text="fs1.")
    refuse("text form, too short", "CIPHERTEXT_TRUNCATED", text="fs1.AQ")
    refuse("text form, prefix in upper case", "CIPHERTEXT_NOT_SEALED", text="FS1." + text[4:])
    refuse("text form, a space before", "CIPHERTEXT_NOT_SEALED", text=" " + text)
    refuse("text form, one letter changed", "TAG_MISMATCH",
           text=text[:90] + ("A" if text[90] != "A" else "B") + text[91:])
    refuse("content type 0", "CONTENT_INVALID", sealed(place, "00"))
    data_key, key_id = (bytes.fromhex(base["in"][name]) for name in ("data_key", "key_id"))
    context = reader.field_context(key_id, reader.place_of(place))
    salt = bytes.fromhex(made("forged", 16))
    refuse("another commitment under a right tag", other,
           forged(data_key, salt, context, b"\x01" + key_id, b"\x01x"))
    return vectors


def forged(key, salt, context, start, plaintext):
    """A tag that is right over a header that is not: only the comparison finds it."""
    message_key, commitment = reader.derive(key, salt, context)
    header = start + salt + bytes([commitment[0] ^ 1]) + commitment[1:]
    return header + reader.ChaCha20Poly1305(message_key).encrypt(reader.NONCE, plaintext, header)


def sealed(place, content):
    return reader.seal(
        bytes.fromhex(place["data_key"]), bytes.fromhex(BASE["key_id"]),
        bytes.fromhex(made("content", 16)), reader.place_of(place), bytes.fromhex(content),
    )


def wrap(what, kind, wrapping, inner, **names):
    given = {"kind": kind, "wrapping_key": made(wrapping), "installation": INSTALLATION} | names
    salt = bytes.fromhex(made(what, 16))
    message_key, commitment = reader.derive(
        bytes.fromhex(given["wrapping_key"]), salt, reader.wrap_context_of(given)
    )
    header = b"\x01" + salt + commitment
    cipher = reader.ChaCha20Poly1305(message_key)
    body = cipher.encrypt(reader.NONCE, bytes.fromhex(made(inner)), header)
    given["wrapped"] = (header + body).hex()
    return {"name": what, "in": given, "out": reader.outcome("wraps", given)}


DEK = {"name": "customer-pii", "version": 3, "partition": "acme", "generation": 7,
       "key_id": "0123456789abcdef"}


def wraps():
    services = ["storage", "path", "token", "anchor", "log-signing"]
    most = {"version": 2**32 - 1, "generation": 2**32 - 1, "partition": "株式会社"}
    return [
        wrap("the root key", "root", "provider key", "root key"),
        *(wrap(f"the {s} key", "service", "root key", f"{s} key", name=s) for s in services),
        wrap("a KEK", "kek", "root key", "kek", name="customer-pii", version=3),
        wrap("a KEK of version 1", "kek", "root key", "kek 1", name="a", version=1),
        wrap("a data key", "dek", "kek", "data key", **DEK),
        wrap("a data key of the default partition", "dek", "kek", "data key 2",
             **DEK | {"partition": "", "generation": 0}),
        wrap("a data key, largest numbers", "dek", "kek", "data key 3", **DEK | most),
    ]


def wraps_refused():
    vectors = []

    def refuse(what, base, wrapped=None, **changes):
        given = base["in"] | changes
        if wrapped is not None:
            given["wrapped"] = wrapped.hex()
        vectors.append({"name": what, "in": given, "out": {"reason": "UNWRAP_FAILED"}})

    dek, kek, root = wraps()[8], wraps()[6], wraps()[0]
    good = bytes.fromhex(dek["in"]["wrapped"])
    refuse("another wrapping key", dek, wrapping_key=made("another key"))
    refuse("another installation", dek, installation=made("another installation", 16))
    refuse("another key name", dek, name="customer-pi")
    refuse("another version", dek, version=4)
    refuse("another partition", dek, partition="acm")
    refuse("another generation", dek, generation=8)
    refuse("another key id", dek, key_id="0123456789abcdee")
    refuse("version and generation exchanged", dek, version=7, generation=3)
    for index, where in [(0, "format"), (1, "salt"), (17, "commitment"), (49, "C"), (81, "tag")]:
        changed = bytearray(good)
        changed[index] ^= 1
        refuse(f"another {where}", dek, bytes(changed))
    refuse("the last byte cut off", dek, good[:-1])
    refuse("one byte more", dek, good + b"\x00")
    refuse("nothing", dek, b"")
    wrapping_key = bytes.fromhex(dek["in"]["wrapping_key"])
    context = bytes.fromhex(dek["out"]["context"])
    refuse("another commitment under a right tag", dek,
           forged(wrapping_key, bytes.fromhex(made("forged", 16)), context, b"\x01", bytes(32)))
    refuse("another KEK version", kek, version=2)
    refuse("a KEK taken for a service key", kek, kind="service")
    refuse("another provider key", root, wrapping_key=made("another key"))
    return vectors


def pae():
    lists = [[], [""], ["", ""], ["ab"], ["ab", "c"], ["a", "bc"], ["abc"], ["0000", "", "\x01"]]
    given = [{"parts": [part.encode().hex() for part in parts]} for parts in lists]
    return [
        {"name": f"{len(g['parts'])} parts, {i}", "in": g, "out": reader.outcome("pae", g)}
        for i, g in enumerate(given)
    ]


def tokens():
    lists = [["partition", "acme"], ["partition", ""], ["row", "customers", "42"],
             ["row", "customers", ""], ["row", "kundén", "ключ/1"], ["row", "customer", "s42"]]
    given = [{"token_key": made("token key"), "parts": parts} for parts in lists]
    return [
        {"name": " ".join(g["parts"]), "in": g, "out": reader.outcome("tokens", g)} for g in given
    ]


def render():
    sections = {
        "pae": pae(), "fields": fields(), "padding": padding(), "refused": refused(),
        "wraps": wraps(), "wraps_refused": wraps_refused(), "tokens": tokens(),
    }

    def line(value):
        return json.dumps(value, ensure_ascii=False)

    counts = {name: len(vectors) for name, vectors in sections.items()}
    out = ["{", f'"about": {line(ABOUT)},', f'"counts": {line(counts)},']
    for name, vectors in sections.items():
        rows = [
            f'{{"name": {line(v["name"])},\n "in": {line(v["in"])},\n "out": {line(v["out"])}}}'
            for v in vectors
        ]
        last = name == list(sections)[-1]
        out.append(f'"{name}": [\n' + ",\n".join(rows) + ("\n]" if last else "\n],"))
    return "\n".join(out) + "\n}\n"


if __name__ == "__main__":
    text = render()
    if sys.argv[1:] == ["--check"]:
        same = FILE.read_text("utf-8") == text
        print("the file is what this writes" if same else "the file is another")
        sys.exit(not same)
    if FILE.exists():
        sys.exit("the vectors are there already; those of a released format are never changed")
    FILE.write_text(text, "utf-8")
