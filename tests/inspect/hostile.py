# SPDX-License-Identifier: Apache-2.0
"""File systems that lead readers in circles or promise more than there is: ls, cp and inspect keep the bars."""

import os
import random
import re
import shutil
import struct
import sys
import zlib

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
import common
import ntfs
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


def test_ext_root_of_one_block(t):
    """A report asks for some hundred names, each of which would be looked for in all of it."""
    two = ext(t, "ext2", "-t", "ext2")
    inode = inode_at(two, "/")
    name = struct.pack("<IHBB", 11, 12, 1, 1) + b"a\0\0\0"
    variant(t, two, [
        (inode + 0x28, struct.pack("<15I", *[FREE + 3] * 12, FREE, FREE + 1, FREE + 2)), (inode + 4, struct.pack("<I", 0x7fffffff)),
        *[((FREE + i) * 1024, struct.pack("<I", FREE + to) * 256) for i, to in enumerate((3, 0, 1))],
        ((FREE + 3) * 1024, name * 84 + struct.pack("<IHBB", 11, 16, 1, 1) + b"a")])
    result = vmimg("inspect", t.path("spoilt"))
    check("the file system: its structures lead in circles, or on and on: not all was looked at" in result.text, str(result))


def test_fat_folder_in_itself(t):
    """What looks for programs of the firmware goes a few folders down: each may lead to the same one again."""
    clusters = 20
    chain = [0xfff8, 0xffff, *range(3, 2 + clusters), 0xffff]
    boot = struct.pack("<3s8sHBHBHHBH", b"\xeb\x3c\x90", b"MSDOS5.0", 512, 1, 1, 1, 16, 8192 + 42, 0xf8, 40)

    def folder(name):
        return name.ljust(11).encode() + b"\x10" + bytes(14) + struct.pack("<HI", 2, 0)
    data = boot.ljust(510, b"\0") + b"\x55\xaa" + struct.pack(f"<{len(chain)}H", *chain).ljust(40 * 512, b"\0")
    data += folder("EFI").ljust(512, b"\0") + b"".join(folder(f"D{i}") for i in range(clusters * 16))
    path = common.put(t.tmp, "fat", data.ljust((8192 + 42) * 512, b"\0"))
    keeps_bars(t, path)


def test_many_long_folders(t):
    """Partitions that are all the same FAT, with a root of 65,535 files and no free cluster."""
    entries, clusters, tables = 65535, 65000, 256
    used = 1 + tables + -(-entries * 32 // 512)
    boot = struct.pack("<3s8sHBHBHHBH8xI", b"\xeb\x3c\x90", b"MSDOS5.0", 512, 1, 1, 1, entries, 0, 0xf8, tables, used + clusters)
    fat = boot.ljust(510, b"\0") + b"\x55\xaa" + b"\xff" * (tables * 512) + b"".join(
        b"F%07d   \x20" % i + bytes(20) for i in range(entries))
    for name, count in ("one", 1), ("a thousand", 1000):
        with t.sub(name):
            size = 1 + 512 + used + clusters
            disk = bytearray(512 * 513)
            disk[446:462], disk[510:512] = struct.pack("<4xB3xII", 0xee, 1, size), b"\x55\xaa"
            parts = b"".join(struct.pack("<16s16sQQQ", b"\1" * 16, b"%016d" % i, 513, 512 + used + clusters, 0).ljust(128, b"\0")
                             for i in range(count)).ljust(128 * 1000, b"\0")
            head = bytearray(struct.pack("<8sIIIIQQQQ16sQIII", b"EFI PART", 0x10000, 92, 0, 0, 1, size, 513, size, b"\3" * 16, 2, 1000,
                                         128, zlib.crc32(parts)))
            struct.pack_into("<I", head, 16, zlib.crc32(head))
            disk[512:604], disk[1024:1024 + len(parts)] = head, parts
            path = common.put(t.tmp, "disk", bytes(disk) + fat)
            os.truncate(path, 512 * (size + 100))
            for words in ["inspect", path], ["ls", f"{path}:/"], ["info", path], ["split", path, "--aki", t.path("k"), "--ami", t.path("f")]:
                result = vmimg(*words)
                process.check_bars(result, words[0])
                check(result.code in (0, 2, 4, 6), str(result))
            check(("no more than 128 volumes of a disk are looked into" in vmimg("inspect", path).text) == (count > 128), "not told")


def test_fat_of_too_many_clusters(t):
    """Entries of 16 bits for more clusters than those can tell apart: no FAT, and nobody counts them."""
    sectors = 65535 * 4096 // 2
    boot = struct.pack("<3s8sHBHBHHBH8xI", b"\xeb\x3c\x90", b"MSDOS5.0", 4096, 1, 1, 1, 128, 0, 0xf8, 65535, sectors)
    path = common.put(t.tmp, "fat", boot.ljust(510, b"\0") + b"\x55\xaa")
    os.truncate(path, sectors * 4096)
    for verb in "inspect", "info":
        result = vmimg(verb, path)
        process.check_bars(result, verb)
        check(result.code == 0 and "vfat" not in result.text, str(result))


def ntfs_folder(t, size):
    """A volume whose root has nodes of so many bytes: 16 of them in the clusters from 1500 on, the rest a hole."""
    image = ntfs.make(t.path("ntfs"), 8 << 20)
    with ntfs.record_of(image, 5) as raw:
        record = ntfs.unfixed(bytearray(raw))
        at = ntfs.attribute(record, 0xa0)
        struct.pack_into("<QQQ", record, at + 40, size, size, size)
        pairs, length = struct.unpack_from("<H", record, at + 32)[0], struct.unpack_from("<I", record, at + 4)[0]
        runs = b"\x21\x10" + struct.pack("<H", 1500) + b"\x05" + struct.pack("<Q", size // 4096 - 16)[:5] + b"\0"
        grown = (pairs + len(runs) + 7) // 8 * 8
        record[at:] = (record[at:at + pairs] + runs.ljust(grown - pairs, b"\0") + record[at + length:])[:1024 - at]
        struct.pack_into("<I", record, at + 4, grown)
        struct.pack_into("<I", record, 24, struct.unpack_from("<I", record, 24)[0] + grown - length)
        raw[:] = ntfs.fixed(record)
    return image


def test_ntfs_nodes(t):
    """A folder whose nodes all lead to the same next one, many times each."""
    harness.need("mkntfs")
    with t.sub("too many"):
        image = ntfs_folder(t, 1 << 48)
        keeps_bars(t, image)
        check("has more than 1048576 nodes" in vmimg("ls", f"{image}:/").errors, "no limit")
    image = ntfs_folder(t, 1 << 30)

    def entry(below, key=b"", flags=1):
        size = (16 + len(key) + 7) // 8 * 8 + 8
        return struct.pack("<QHHHH", 5, size, len(key), flags, 0) + key.ljust(size - 24, b"\0") + struct.pack("<Q", below)
    key = struct.pack("<Q56xBB", 5, 1, 3) + "x".encode("utf-16-le")
    for name, own in ("each in its place", True), ("one everywhere", False):
        with t.sub(name), open(image, "r+b") as file:
            for i in range(16):
                body = entry(i + 1, key) * 40 + entry(i + 1, flags=3) if i < 14 else struct.pack("<QHHHH", 0, 16, 0, 2, 0)
                node = bytearray(struct.pack("<4sHHQQIIII", b"INDX", 40, 9, 0, i if own else 0, 40, 40 + len(body), 4072, 1))
                node = (node + b"\1\0" + bytes(22) + body).ljust(4096, b"\0")
                for k in range(1, 9):
                    node[40 + 2 * k:42 + 2 * k] = node[512 * k - 2:512 * k]
                    node[512 * k - 2:512 * k] = b"\1\0"
                file.seek((1500 + i) * 4096)
                file.write(node)
            file.flush()
            keeps_bars(t, image)
            says = vmimg("ls", f"{image}:/").errors
            check(("has a loop" if own else "in the place of another") in says, says)


def test_iso_areas(t):
    """Thousands of records that go on in the same 2 MiB."""
    sector, root, records = 2048, 20, 32

    def record(name, start, size, flags, area):
        head = struct.pack("<BBI4xI4x7xBBBHHB", 33 + len(name) + 1 - len(name) % 2 + len(area), 0, start, size, flags, 0, 0, 0, 0, len(name))
        return head + name + bytes(1 - len(name) % 2) + area + bytes(len(area) % 2)

    def on(at):
        return struct.pack("<2sBBI4xI4xI4x", b"CE", 28, 1, at, 0, 65536)
    area = root + records
    dot = record(b"\0", root, records * sector, 2, b"SP\7\1\xbe\xef\0RR\5\1\1")
    folder = (dot + record(b"\1", root, records * sector, 2, b"")).ljust(sector, b"\0")
    for i in range(1, records):
        folder += b"".join(record(b"F%03d%02d" % (i, k), 0, 0, 0, on(area)) for k in range(28)).ljust(sector, b"\0")
    more = b"".join((b"XX\4\1" * 16377 + on(area + 32 * (i + 1))) for i in range(31)) + b"XX\4\1" * 16384
    volume = bytearray(sector)
    volume[:7], volume[128:130], volume[156:190] = b"\1CD001\1", struct.pack("<H", sector), dot[:34]
    data = bytes(16 * sector) + volume + b"\xffCD001\1".ljust(sector, b"\0")
    path = common.put(t.tmp, "iso", data.ljust(root * sector, b"\0") + folder + more)
    keeps_bars(t, path)
    says = vmimg("ls", f"{path}:/").errors
    check("System Use areas of a folder are longer" in says, says)


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
