# SPDX-License-Identifier: Apache-2.0
"""
What the readers of partition tables, volumes and file systems refuse when there is too much of it, or when one field of
a super block or a folder is another: sound ones made by their own tools, and changed.
"""

import os
import struct
import sys
import zlib

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
import common
import lvm
import ntfs
import refusals
import unused
from hostile import spoilt
from refusals import copied_out, says
from lib import harness
from lib.harness import check, need
from lib.process import vmimg

MIB, SECTOR = 1 << 20, 2048


def test_partitions(t):
    """A GPT of 1100 entries."""
    need("sfdisk")
    path = refusals.written(t.path("gpt"))
    common.sfdisk(path, "label: gpt\ntable-length: 1100\nstart=2048,size=1\n")
    for count, pattern, code in (1024, "1024 +1572352 +512 B", 0), (1025, "more than 1024 partitions", 6):
        with t.sub(str(count)), open(path, "r+b") as file:
            entries = b"".join(struct.pack("<16s16sQQQ72x", b"\1" * 16, b"%016d" % i, 2048 + i, 2048 + i, 0)
                               for i in range(count)).ljust(1100 * 128, b"\0")
            for at in 512, 4 * MIB - 512:
                file.seek(at)
                head = bytearray(file.read(92))
                struct.pack_into("<I", head, 88, zlib.crc32(entries))
                head[16:20] = bytes(4)
                struct.pack_into("<I", head, 16, zlib.crc32(head))
                for place, data in (at, head), (struct.unpack_from("<Q", head, 72)[0] * 512, entries):
                    file.seek(place)
                    file.write(data)
            file.flush()
            says(vmimg("inspect", path), pattern, code)


def test_lvm(t):
    """Five physical volumes, each with another text of nearly one MiB."""
    text = lvm.group("vg", (4,), [lvm.volume("root", [lvm.segment(1, 0, 2, [("pv0", 0)])])])
    for count, pattern, code in (4, "LVM2_member", 0), (5, "more than 4194304 bytes of LVM's metadata", 0):
        with t.sub(f"{count} texts"):
            disk = lvm.make(t, text, (4,) * count, {})
            at = MIB
            with open(disk, "r+b") as file:
                for i in range(count):
                    own = text[:-1] + b"#" + b"%d" % i * 1000000 + b"\n\0"
                    file.seek(at)
                    file.write(lvm.label(0, 5 * MIB, own))
                    at += 5 * MIB
            says(vmimg("inspect", disk), pattern, code)


def test_ext(t):
    tree = t.path("tree")
    common.put(tree, "file", "x" * 5000)
    image = common.mke2fs(t.path("ext"), tree, 8 << 20, "-b", "1024", "-t", "ext4")
    with open(image, "rb") as file:
        known = struct.unpack_from("<II", file.read(2048), 1024 + 0x60)

    def field(at, value, width=4):
        return [(1024 + at, value.to_bytes(width, "little"))]
    unknown = field(0x60, known[0] | 1 << 31)
    wrong = "the super block of the ext file system contradicts itself"
    rows = [
        ("a feature", unknown, r"features that are not known here \(0x80000000\)"),
        ("no inodes in a group", field(0x28, 0), wrong), ("no blocks in a group", field(0x20, 0), wrong),
        ("inodes of 100 bytes", field(0x58, 100, 2), wrong), ("descriptors of 16", field(0xfe, 16, 2), wrong),
    ]
    for name, changes, pattern in rows:
        with t.sub(name):
            says(vmimg("ls", f"{spoilt(t, image, *changes)}:/"), pattern, 4)
    rows = [
        ("a feature of who writes", field(0x64, known[1] | 1 << 31), r"features that are not known here \(0x80000000\)"),
        ("a first block of 5", field(0x14, 5), "its groups make no sense"),
        ("groups of more blocks than bits", field(0x20, 8193), "its groups make no sense"),
        ("clusters of 32 MiB", field(0x64, known[1] | 0x200) + field(0x1c, 15), "its groups make no sense"),
        ("a super block", field(0x28, 0), wrong),
    ]
    for name, changes, pattern in rows:
        with t.sub(f"unused: {name}"):
            ranges, left = unused.unused(spoilt(t, image, *changes))
            check(not ranges and len(left) == 1 and refusals.re.search(pattern, left[0]), f"{len(ranges)} ranges, {left}")


def test_unused(t):
    """Of a FAT that is cut off, and of an NTFS whose bitmap is no plain file."""
    tree = t.path("tree")
    common.put(tree, "file", "x" * 5000)
    fat = common.mkfat(t.path("fat"), tree, 8 << 20, "-F", "16", "-s", "1")
    rows = [("FAT that is cut off", spoilt(t, fat, size=4 << 20), r"the file system \(0x800000 bytes\) is larger than where it lies")]
    for name, pattern, *changes in (
            ("sparse", "file 6 of NTFS has no plain attribute 0x80 of [0-9]+ bytes", (12, b"\0\x80")),
            ("too short", "file 6 of NTFS has no plain attribute 0x80 of [0-9]+ bytes", (48, struct.pack("<QQ", 8, 8))),
            ("not written", "file 6 of NTFS has no plain attribute 0x80 of [0-9]+ bytes", (56, bytes(8)))):
        need("mkntfs")
        path = ntfs.make(t.path(name), 8 << 20)
        with ntfs.record_of(path, 6) as raw:
            for at, data in changes:
                at += ntfs.attribute(raw, 0x80)
                raw[at:at + len(data)] = data
        rows.append((f"NTFS whose bitmap is {name}", path, pattern))
    for name, path, pattern in rows:
        with t.sub(name):
            ranges, left = unused.unused(path)
            check(not ranges and len(left) == 1 and refusals.re.search(pattern, left[0]), f"{len(ranges)} ranges, {left}")


def test_iso(t):
    """Folders that were moved since they would lie too deep."""
    need("genisoimage")
    tree = t.path("tree")
    common.put(tree, "d1/d2/d3/d4/d5/d6/d7/d8/d9/deep", "deep")
    image = t.path("image.iso")
    common.tool("genisoimage", "-quiet", "-R", "-o", image, tree)
    with open(image, "rb") as file:
        data = file.read()
    link = data.index(b"CL\x0c\x01")
    moved = struct.unpack_from("<I", data, link + 4)[0]
    with t.sub("as it is"):
        says(vmimg("cat", f"{image}:/d1/d2/d3/d4/d5/d6/d7/d8/d9/deep"), "^deep$", 0)
    rows = [
        ("nothing there", [(link + 4, struct.pack("<I", 1))], "a moved folder is not where it should be"),
        ("a file there", [(moved * SECTOR + 25, b"\0")], "a moved folder is not where it should be"),
        ("a root without records", [(struct.unpack_from("<I", data, 16 * SECTOR + 158)[0] * SECTOR, bytes(SECTOR))], "the folder at 0x[0-9a-f]+ does not begin with itself"),
    ]
    for name, changes, pattern in rows:
        with t.sub(name):
            says(copied_out(t, spoilt(t, image, *changes)), pattern, 4)


if __name__ == "__main__":
    harness.main()
