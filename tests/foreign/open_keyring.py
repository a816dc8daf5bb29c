#!/usr/bin/env python3
"""Opens the service keys of a keyring with its root key, without Fieldseal.

Written from docs/ciphertext.md alone, on the unwrapping of open_ciphertext.py.

    open_keyring.py --keyring STATE/keyring.json --root ROOT --public-key STATE/audit/log.pub

ROOT is a file with the 32 bytes that the `age` program makes of the keyring's recovery wrapper; while
a rotation of the root key is under way, there are two wrappers, and either will do. Says
which service keys open and that the log's signing key is the one of log.pub; prints no key. With
`--provider-key FILE` (the root provider's 32 bytes) it also says that the provider wraps the same
root key. `--token-for PART…` prints a token, to look for a row or a partition in the log.
"""

import argparse
import base64
import hashlib
import json
import sys
from pathlib import Path

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDFExpand
from open_ciphertext import Refused, token, unwrap, wrap_context

FORMAT = 1
SERVICES = ("anchor", "log-signing", "path", "storage", "token")


def read_key(path):
    key = Path(path).read_bytes()
    if len(key) != 32:
        raise ValueError(f"{path} has {len(key)} bytes; a key has 32")
    return key


def check_sum(keyring):
    """The file is as it was written."""
    unsigned = json.dumps({**keyring, "checksum": ""}, separators=(",", ":"), ensure_ascii=False)
    if hashlib.sha256(unsigned.encode()).hexdigest() != keyring["checksum"]:
        raise ValueError("the keyring's checksum does not fit")


def service_keys(keyring, root):
    """Every service key, by its name."""
    installation = bytes.fromhex(keyring["installation"])
    if keyring["format"] != FORMAT or sorted(keyring["services"]) != list(SERVICES):
        raise ValueError("this is no keyring of format 1")
    if "pending" in keyring:
        # The same service keys, under the other root key.
        other = {**keyring, "services": keyring["pending"]["services"]}
        del other["pending"]
        try:
            return service_keys(other, root)
        except Refused:
            pass
    keys = {}
    for name, wrapped in keyring["services"].items():
        context = wrap_context("service", installation, name.encode())
        keys[name] = unwrap(root, context, base64.b64decode(wrapped, validate=True))
    return keys


def check_provider(keyring, provider_key, root):
    context = wrap_context("root", bytes.fromhex(keyring["installation"]))
    wrapped = base64.b64decode(keyring["root"]["wrapped"], validate=True)
    if unwrap(provider_key, context, wrapped) != root:
        raise ValueError("the root provider wraps another root key")
    fingerprint = HKDFExpand(SHA256(), 8, b"fsid").derive(provider_key)
    if keyring["root"]["id"] != fingerprint.hex():
        raise ValueError("the provider's id is not that of its key")


def check_signing_key(seed, public_key):
    """The seed's public key is the one of `origin+hash+base64(0x01 | key)`."""
    key = base64.b64decode(public_key.strip().split("+", 2)[2], validate=True)
    if b"\x01" + Ed25519PrivateKey.from_private_bytes(seed).public_key().public_bytes_raw() != key:
        raise ValueError("the log is signed with another key")


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--keyring", required=True, metavar="FILE")
    parser.add_argument("--root", required=True, metavar="FILE", help="the root key, 32 bytes")
    parser.add_argument("--public-key", required=True, metavar="FILE", help="log.pub")
    parser.add_argument("--provider-key", metavar="FILE", help="the root provider's key file")
    parser.add_argument("--token-for", nargs="+", metavar="PART", help="row TABLE ROW, for example")
    given = parser.parse_args()
    try:
        keyring = json.loads(Path(given.keyring).read_text("utf-8"))
        check_sum(keyring)
        root = read_key(given.root)
        keys = service_keys(keyring, root)
        check_signing_key(keys["log-signing"], Path(given.public_key).read_text("utf-8"))
        if given.provider_key:
            check_provider(keyring, read_key(given.provider_key), root)
    except Refused:
        print("error: a wrap does not open: this is not the root key", file=sys.stderr)
        return 1
    except (OSError, ValueError, KeyError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    if given.token_for:
        print(token(keys["token"], *(one.encode() for one in given.token_for)).hex())
    else:
        print(f"opened: {', '.join(sorted(keys))}; the log is signed with the key in it")
    return 0


if __name__ == "__main__":
    sys.exit(main())
