# SPDX-License-Identifier: Apache-2.0
"""What is packed with LZO and is none, keys out of order and too many chunks in btrfs, half a block of a folder in XFS."""

import os
import struct
import sys

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
import common
import refusals
from hostile import spoilt
from refusals import copied_out, says
from lib import harness
from lib.process import vmimg

MIB = 1 << 20


def test_btrfs(t):
    disk = refusals.Btrfs(t)
    leaf, _, data = disk.item(5, refusals.EXTENT_DATA, lambda number, size: size == 53)
    with open(t.path("btrfs-tree/long"), "rb") as file:
        place = disk.data.index(file.read(4096))
    lzo = disk.change(leaf, data + 16, b"\2")
    first, second = (disk.data[at:at + 17] for at in (leaf + 126, leaf + 151))
    rows = [
        ("LZO of 2 GiB", lzo + [(place, b"\xff\xff\xff\x7f")], "what is packed with LZO is cut off"),
        ("LZO of a piece past its end", lzo + [(place, struct.pack("<II", 100, 97))], "what is packed with LZO makes no sense"),
        ("LZO that is none", lzo + [(place, struct.pack("<II", 100, 92) + b"\xff" * 92)], "what is packed with LZO makes no sense"),
        ("keys that are the same", disk.change(leaf, leaf + 101 + 50, first), "the node of btrfs at 0x[0-9a-f]+ has keys out of order"),
        ("keys that descend", disk.change(leaf, leaf + 101 + 25, second + disk.data[leaf + 101 + 42:leaf + 101 + 50] + first),
         "the node of btrfs at 0x[0-9a-f]+ has keys out of order"),
    ]
    for name, changes, pattern in rows:
        with t.sub(name):
            says(copied_out(t, spoilt(t, disk.path, *changes)), pattern, 4)


def test_btrfs_chunks(t):
    """A tree of 264,000 chunks, all told by the same bytes of each leaf. (Its sums are of a kind that is not verified.)"""
    tree, node, at, place = t.path("tree"), 65536, 1 << 40, 200 * MIB
    common.put(tree, "file", "x")
    image = common.mkbtrfs(t.path("btrfs"), tree, 130 * MIB, "-n", str(node), "-s", "4096", "--csum", "xxhash")
    with open(image, "rb") as file:
        file.seek(refusals.SUPER)
        block = file.read(4096)
    device = struct.unpack_from("<Q", block, 201)[0]

    def chunk(size, where):
        return struct.pack("<QQQQIIIHHQQ16x", size, 2, 65536, 2, 4096, 4096, 4096, 1, 1, device, where)

    def key(offset):
        return struct.pack("<QBQ", 256, 228, offset)

    def head(number, count, level):
        return struct.pack("<32x16sQQ16xQQIB", block[32:48], at + number * node, 1, 1, 3, count, level)
    most = (node - 101 - 80) // 25
    for count, pattern, code in ((1 << 18) - 1, "no chunk of btrfs has address", 4), (1 << 18, "more than 262144 chunks", 6):
        leaves, pointers = [], []
        for first in range(0, count, most):
            some = [(1 << 50) + 4096 * i for i in range(first, min(first + most, count))]
            pointers.append(key(some[0]) + struct.pack("<QQ", at + (1 + len(leaves)) * node, 1))
            items = b"".join(key(offset) + struct.pack("<II", node - 101 - 80, 80) for offset in some)
            leaves.append((head(1 + len(leaves), len(some), 0) + items).ljust(node - 80, b"\0") + chunk(4096, MIB))
        array = key(at) + chunk(64 * MIB, place)
        with t.sub(str(count + 1)):
            path = spoilt(t, image, (refusals.SUPER + 88, struct.pack("<Q", at)), (refusals.SUPER + 199, b"\1"),
                          (refusals.SUPER + 160, struct.pack("<I", len(array))), (refusals.SUPER + 811, array),
                          (place, (head(0, len(leaves), 1) + b"".join(pointers)).ljust(node, b"\0") + b"".join(leaves)))
            says(vmimg("ls", f"{path}:/"), pattern, code)


def test_xfs(t):
    xfs = refusals.Xfs(t)
    with t.sub("half a block"):
        says(copied_out(t, spoilt(t, xfs.path, (192, b"\1"))), "half of a folder's block is missing", 4)


if __name__ == "__main__":
    harness.main()
