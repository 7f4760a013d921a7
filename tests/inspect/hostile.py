# SPDX-License-Identifier: Apache-2.0
"""File systems that lead readers in circles or promise more than there is: ls, cp and inspect keep the bars."""

import os
import random
import re
import shutil
import struct
import sys

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
import common
from lib import harness, process
from lib.harness import check
from lib.process import check_one_line, vmimg

FREE = 4000  # a block that nothing uses, as the two after it


def keeps_bars(t, path, codes=(0, 1, 4, 6)):
    for verb in (["ls", "-R", "--json", f"{path}:/"], ["cp", "--max-output", "64M", f"{path}:/", t.path("out")],
                 ["inspect", path]):
        result = vmimg(*verb)
        shutil.rmtree(t.path("out"), ignore_errors=True)
        check(result.code in codes, f"{verb[0]}: {result}")
        process.check_bars(result, verb[0])
        if result.code:
            check_one_line(result)


def spoilt(t, image, *changes, size=None):
    """A copy with bytes at other places."""
    path = shutil.copy(image, t.path("spoilt"))
    with open(path, "r+b") as file:
        for at, data in changes:
            file.seek(at)
            file.write(data)
    if size:
        os.truncate(path, size)
    return path


def variant(t, base, edits, size=None):
    keeps_bars(t, spoilt(t, base, *edits, size=size))


def ext(t, name, *options):
    tree = t.path("tree")
    if not os.path.isdir(tree):
        rng = random.Random(3)
        for i in range(40):
            common.put(tree, f"folder/file{i}", rng.randbytes(rng.randrange(4000)))
        common.put(tree, "big", rng.randbytes(600000))
        os.symlink("big", f"{tree}/link")
        os.symlink("x" * 100, f"{tree}/long")
    return common.mke2fs(t.path(name), tree, 6 << 20, "-b", "1024", *options)


def inode_at(image, path):
    text = common.tool("debugfs", "-R", f"imap {path}", image).stdout.decode()
    block, offset = re.search(r"located at block (\d+), offset 0x([0-9a-f]+)", text).groups()
    return int(block) * 1024 + int(offset, 16)


def test_ext_circles(t):
    four, two = ext(t, "ext4", "-t", "ext4"), ext(t, "ext2", "-t", "ext2")
    long = struct.pack("<I", 0x7fffffff)

    def node(count, most, depth):
        entries = b"".join(struct.pack("<IIHH", i, FREE, 0, 0) for i in range(count))
        return struct.pack("<HHHHI", 0xf30a, count, most, depth, 0) + entries
    for target in ("/big", "/folder"):
        inode = inode_at(four, target)
        for depth in (5, 6, 65535):
            with t.sub(f"extents of {target}, {depth} deep"):
                variant(t, four, [(inode + 0x28, node(4, 4, depth)), (FREE * 1024, node(84, 84, depth - 1)),
                                  (inode + 4, long)])
        inode = inode_at(two, target)
        with t.sub(f"indirect blocks of {target}"):
            variant(t, two, [(inode + 0x28, struct.pack("<15I", *[FREE] * 15)),
                             (FREE * 1024, struct.pack("<I", FREE) * 256), (inode + 4, long)])
    inode = inode_at(two, "/folder")
    name = struct.pack("<IHBB", 11, 12, 1, 1) + b"a\0\0\0"
    blocks = {
        "one name": struct.pack("<IHBB", 11, 1024, 1, 1) + b"a",
        "names": name * 84 + struct.pack("<IHBB", 11, 16, 1, 1) + b"a",
        "no names": struct.pack("<IHBB", 0, 8, 0, 1) * 128,
    }
    for kind, block in blocks.items():
        with t.sub(f"a folder of one block again and again: {kind}"):
            variant(t, two, [
                (inode + 0x28, struct.pack("<15I", *[FREE + 3] * 12, FREE, FREE + 1, FREE + 2)), (inode + 4, long),
                *[((FREE + i) * 1024, struct.pack("<I", FREE + to) * 256) for i, to in enumerate((3, 0, 1))],
                ((FREE + 3) * 1024, block.ljust(1024, b"\0"))])


def test_ext_promises(t):
    image = ext(t, "ext4", "-t", "ext4")
    meta = ext(t, "meta", "-t", "ext4", "-O", "meta_bg,^resize_inode")

    def field(at, value, width=4):
        return 1024 + at, value.to_bytes(width, "little")
    for name, base, size, *fields in (
            ("tiny groups", image, 1 << 42, (0x20, 8), (0x24, 8), (4, 0xffffffff)),
            ("small groups", image, 1 << 43, (0x20, 256), (0x24, 256), (4, 0xffffffff), (0x150, 255)),
            ("many blocks", image, 1 << 43, (4, 0xffffffff), (0x150, 1)),
            ("many inodes", image, None, (0x28, 0xfffffff8), (0, 0xfffffff8)),
            ("large inodes", image, None, (0x58, 0x8000, 2)),
            ("large blocks", image, None, (0x18, 6)),
            ("meta groups", meta, None, (0x104, 0xffffffff)),
            ("descriptors", image, None, (0xfe, 1024, 2)),
            ("small descriptors", image, None, (0xfe, 32, 2)),
    ):
        with t.sub(name):
            variant(t, base, [field(*f) for f in fields], size)


def noise(t, base, places, rounds, seed):
    """Numbers that break readers, put where structures lie."""
    rng = random.Random(seed)
    values = (0, 1, 5, 0xff, 0xffff, 0xffffffff, 0x7fffffff, 0x80000000)
    for _ in range(rounds):
        edits = []
        for _ in range(rng.randrange(1, 6)):
            at, length = rng.choice(places)
            width = rng.choice((1, 2, 4))
            value = rng.choice(values) if rng.random() < 0.6 else rng.randrange(6000)
            edits.append((at + rng.randrange(length) // width * width,
                          (value % (1 << 8 * width)).to_bytes(width, "little")))
        variant(t, base, edits)


def test_ext_noise(t):
    for name, options in (("ext2", ["-t", "ext2"]), ("ext4", ["-t", "ext4"]),
                          ("inline", ["-t", "ext4", "-I", "256", "-O", "inline_data"])):
        with t.sub(name):
            image = ext(t, name, *options)
            with open(image, "rb") as file:
                data = file.read()
            places = [(1024, 300), (2048, 1024)] + [(inode_at(image, "/big") // 1024 * 1024, 4096)] * 4
            places += [(at, 300) for at in range(0, len(data), 1024)
                       if data[at:at + 2] == b"\x0a\xf3" or data[at + 6:at + 9] == b"\1\2."]
            noise(t, image, places, 20, name)


if __name__ == "__main__":
    harness.main()
