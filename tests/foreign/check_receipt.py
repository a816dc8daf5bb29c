#!/usr/bin/env python3
"""Checks a receipt of an erasure with the log's public key alone: the program of docs/shredding.md.

    check_receipt.py RECEIPT LOG.PUB PARTITION
"""

import base64, hashlib, json, struct, sys
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
file, public_key, partition = sys.argv[1:]
origin, _, key = open(public_key, encoding="utf-8").read().strip().split("+", 2)
signed = json.load(open(file, encoding="utf-8"))
said = json.loads(signed["receipt"])
parts = ["fieldseal/v1/statement", "fieldseal.dev/shred-receipt/v1", origin, signed["receipt"]]
parts = [struct.pack("<I", len(part.encode())) + part.encode() for part in parts]
key = Ed25519PublicKey.from_public_bytes(base64.b64decode(key)[1:])
key.verify(bytes.fromhex(signed["signature"]), struct.pack("<I", len(parts)) + b"".join(parts))
digest = hashlib.sha256(bytes.fromhex(said["r"]) + partition.encode()).hexdigest()
assert (said["origin"], said["partition_sha256"]) == (origin, digest), "another log or partition"
print(said["key"], said["erased_at"], said["data_keys"], said["record"])
