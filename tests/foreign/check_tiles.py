#!/usr/bin/env python3
"""Verifies a log in the layout of C2SP tlog-tiles, without Fieldseal and without its own format.

    check_tiles.py DIRECTORY LOG.PUB [INDEX]

Written from c2sp.org/tlog-tiles, tlog-checkpoint and signed-note. Every hash is looked at: leaves
against tiles, tiles against the tiles above, and the root against the signed checkpoint. INDEX is a
record to be proved from the tiles alone (default: the middle one). Exit code 1: something is wrong.
"""

import base64
import hashlib
import pathlib
import struct
import sys

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

WIDTH = 256


def leaf_hash(leaf):
    return hashlib.sha256(b"\0" + leaf).digest()


def node_hash(left, right):
    return hashlib.sha256(b"\1" + left + right).digest()


def root_of(hashes):
    """MTH of RFC 6962, section 2.1, over hashes of complete subtrees of one size."""
    if len(hashes) == 1:
        return hashes[0]
    half = 1 << (len(hashes) - 1).bit_length() - 1
    return node_hash(root_of(hashes[:half]), root_of(hashes[half:]))


def read_checkpoint(directory, public_key):
    origin, key_hash, key = public_key.strip().split("+", 2)
    key = base64.b64decode(key)
    assert key[0] == 1, "an Ed25519 key"
    computed = hashlib.sha256(origin.encode() + b"\n" + key).digest()[:4]
    assert computed.hex() == key_hash, "the key's hash"
    text, signatures = (directory / "checkpoint").read_text(encoding="utf-8").split("\n\n", 1)
    name, signature = signatures.splitlines()[0].removeprefix("\u2014 ").split(" ")
    signature = base64.b64decode(signature)
    assert (name, signature[:4]) == (origin, computed), "the signer"
    Ed25519PublicKey.from_public_bytes(key[1:]).verify(signature[4:], text.encode() + b"\n")
    named, size, root = text.split("\n")
    assert named == origin, "the origin"
    return int(size), base64.b64decode(root)


class Tiles:
    def __init__(self, directory, size):
        self.directory, self.size = directory, size

    def path(self, kind, number, width):
        elements = [f"{number % 1000:03}"]
        while number := number // 1000:
            elements.insert(0, f"x{number % 1000:03}")
        partial = f".p/{width}" if width < WIDTH else ""
        return self.directory / "tile" / kind / ("/".join(elements) + partial)

    def widths(self, level):
        """How many hashes each tile of a level has."""
        full, partial = divmod(self.size // WIDTH**level, WIDTH)
        return [WIDTH] * full + [partial] * (partial > 0)

    def hashes(self, level, number):
        width = self.widths(level)[number]
        data = self.path(str(level), number, width).read_bytes()
        assert len(data) == 32 * width, f"level {level}, tile {number}: its length"
        return [data[at : at + 32] for at in range(0, len(data), 32)]

    def leaves(self, number):
        """The leaves of a bundle; None if it was left out."""
        path = self.path("entries", number, self.widths(0)[number])
        if not path.exists():
            return None
        data, at, found = path.read_bytes(), 0, []
        while at < len(data):
            (length,) = struct.unpack_from(">H", data, at)
            found.append(data[at + 2 : at + 2 + length])
            at += 2 + length
        assert at == len(data), f"bundle {number}: its length"
        return found

    def levels(self):
        level = 0
        while self.widths(level):
            yield level
            level += 1

    def subtree(self, start, end):
        """The root over records that stand under one tile, or under several whole ones."""
        level = 0
        while start % WIDTH ** (level + 1) == 0 and end % WIDTH ** (level + 1) == 0:
            level += 1
        each, found = WIDTH**level, []
        for at in range(start // each, end // each):
            found.append(self.hashes(level, at // WIDTH)[at % WIDTH])
        return root_of(found)

    def ragged(self, start, end):
        """The root over records up to the end of the tree."""
        if start == end - 1 or end % (1 << (end - start - 1).bit_length()) == 0:
            return self.subtree(start, end)
        half = 1 << (end - start - 1).bit_length() - 1
        return node_hash(self.ragged(start, start + half), self.ragged(start + half, end))


def verify(tiles):
    left_out = 0
    for number in range(len(tiles.widths(0))):
        leaves = tiles.leaves(number)
        left_out += leaves is None
        hashes = tiles.hashes(0, number)
        assert leaves is None or [leaf_hash(leaf) for leaf in leaves] == hashes, f"bundle {number}"
    for level in list(tiles.levels())[1:]:
        above = [h for n in range(len(tiles.widths(level))) for h in tiles.hashes(level, n)]
        below = [root_of(tiles.hashes(level - 1, n)) for n in range(len(above))]
        assert above == below, f"level {level}"
    return left_out


def prove(tiles, index):
    """The path of a record, and the root to which it leads (RFC 6962, section 2.1.1)."""
    def path(start, end):
        if end - start == 1:
            return tiles.hashes(0, index // WIDTH)[index % WIDTH], 0
        half = 1 << (end - start - 1).bit_length() - 1
        if index < start + half:
            (node, length), other = path(start, start + half), tiles.ragged(start + half, end)
            return node_hash(node, other), length + 1
        (node, length), other = path(start + half, end), tiles.ragged(start, start + half)
        return node_hash(other, node), length + 1
    return path(0, tiles.size)


def main():
    directory = pathlib.Path(sys.argv[1])
    size, root = read_checkpoint(directory, pathlib.Path(sys.argv[2]).read_text(encoding="utf-8"))
    index = int(sys.argv[3]) if len(sys.argv) > 3 else size // 2
    tiles = Tiles(directory, size)
    left_out = verify(tiles)
    assert tiles.ragged(0, size) == root, "the tiles do not lead to the checkpoint's root"
    found, length = prove(tiles, index)
    assert found == root, f"record {index} is not under the checkpoint's root"
    print(f"{size} records, {left_out} bundles left out; record {index} proved by {length} hashes")


if __name__ == "__main__":
    main()
