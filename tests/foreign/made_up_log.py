"""Logs that are signed with a key of this file's own, and their archives: what a sidecar rarely does, a clock
that was set or a call that took hours, stands in them, and what somebody says who has an older checkpoint.
"""

import base64
import hashlib
import json
import os

ORIGIN = "made.up/log"
HOUR = 3600 * 10**9
# 2026-01-01
BEGIN = 1_767_225_600 * 10**9
START, CALL, DECRYPT, OK = 16, 1, 2, 1


class Signer:
    """RFC 8032, section 5.1.6, for a key that everybody may know."""

    def __init__(self, verifier):
        digest = hashlib.sha512(bytes([7] * 32)).digest()
        self.verifier, self.prefix = verifier, digest[32:]
        self.scalar = int.from_bytes(digest[:32], "little") & (1 << 254) - 8 | 1 << 254
        self.key = self.compress(self.scalar)
        self.hash = verifier.sha256(ORIGIN.encode(), b"\n", b"\x01" + self.key)[:4]

    def compress(self, scalar):
        prime = self.verifier.P
        x, y, z, _ = self.verifier.times(scalar, self.verifier.BASE)
        inverse = pow(z, prime - 2, prime)
        return (y * inverse % prime | (x * inverse % prime & 1) << 255).to_bytes(32, "little")

    def number(self, *parts):
        return int.from_bytes(hashlib.sha512(b"".join(parts)).digest(), "little") % self.verifier.ORDER

    def sign(self, message):
        nonce = self.number(self.prefix, message)
        point = self.compress(nonce)
        scalar = (nonce + self.number(point, self.key, message) * self.scalar) % self.verifier.ORDER
        return point + scalar.to_bytes(32, "little")

    def public_key(self):
        key = base64.b64encode(b"\x01" + self.key).decode()
        return "%s+%s+%s\n" % (ORIGIN, self.hash.hex(), key)


def leaf(kind, hours, more):
    time = (BEGIN + hours * HOUR).to_bytes(8, "little", signed=True)
    return bytes([1 << 3, kind]) + b"\x11" + time + b"\x28" + bytes([OK]) + more + bytes(32)


class Log:
    """A START and then calls, at these hours."""

    def __init__(self, verifier, hours, who="app"):
        self.verifier, self.signer = verifier, Signer(verifier)
        who = b"\x1a" + bytes([len(who)]) + who.encode() + b"\x20" + bytes([DECRYPT])
        policy = b"\x72\x20" + bytes([9] * 32)
        self.leaves = [leaf(START, hours[0], policy)] + [leaf(CALL, at, who) for at in hours[1:]]

    def root(self, start, end):
        return self.verifier.root_of([self.verifier.sha256(b"\0", leaf) for leaf in self.leaves[start:end]])

    def checkpoint(self):
        size = len(self.leaves)
        body = "%s\n%d\n%s\n" % (ORIGIN, size, base64.b64encode(self.root(0, size)).decode())
        signed = base64.b64encode(self.signer.hash + self.signer.sign(body.encode())).decode()
        return "%s\n\u2014 %s %s\n" % (body, ORIGIN, signed)

    def write(self, directory, first, end, since, until):
        """An archive of first to end, in which only the rest is missing that follows from these."""
        size = len(self.leaves)
        ranges = ([[0, 1]] if first else []) + [[first, end]]

        def prove(start, stop):
            if not any(a < stop and start < b for a, b in ranges):
                return [base64.b64encode(self.root(start, stop)).decode()]
            if stop - start == 1:
                return []
            middle = start + self.verifier.split(stop - start)
            return prove(start, middle) + prove(middle, stop)

        def moment(hour):
            return None if hour is None else self.verifier.instant(BEGIN + hour * HOUR)

        records = [self.leaves[at] for a, b in ranges for at in range(a, b)]
        manifest = {
            "format": 1, "origin": ORIGIN, "since": moment(since), "until": moment(until),
            "first": first, "end": end, "records": end - first, "policy_record": 0 if first else None,
            "redaction_records": [], "tree_size": size, "root": self.root(0, size).hex(),
        }
        os.mkdir(directory)
        for name, data in (
            ("log.pub", self.signer.public_key().encode()),
            ("checkpoint", self.checkpoint().encode()),
            ("proof.json", json.dumps(
                {"tree_size": size, "ranges": ranges, "hashes": prove(0, size)}).encode()),
            ("records.bin", b"".join(len(r).to_bytes(4, "little") + r + bytes(4) for r in records)),
            ("manifest.json", json.dumps(manifest).encode()),
        ):
            with open(os.path.join(directory, name), "wb") as file:
                file.write(data)
