# SPDX-License-Identifier: Apache-2.0
"""
What file systems declare unused, held against dumpe2fs, xfs_db, fsck.fat and ntfsinfo; what is not at
rest, or contradicts itself, gives nothing.
"""

import os
import random
import re
import shutil
import struct
import sys

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
import common
import exfat
from lib import env, harness, process
from lib.harness import check, equal, skip
from lib.process import vmimg_ok

UNUSED = os.environ.get("VMIMG_UNUSED") or os.path.join(env.BUILD, "tests", "unused-list")


def unused(path, *options):
    """([(at, length)], [what was left alone])"""
    if not os.path.exists(UNUSED):
        skip("the program that lists is not built")
    done = process.run(UNUSED, *options, path)
    equal(done.code, 0, str(done))
    check(done.cpu <= process.TIME_BAR * env.SLACK and done.peak <= process.MEMORY_BAR * env.SLACK,
          f"{done.cpu} s, {done.peak} bytes")
    lines = done.text.splitlines()
    ranges = [tuple(map(int, line.split())) for line in lines if line[0] != "l"]
    end = 0
    for at, length in ranges:
        check(at >= end and length > 0, f"{at} is not after {end}")
        end = at + length
    return ranges, [line for line in lines if line[0] == "l"]


def total(ranges):
    return sum(length for _, length in ranges)


def same(ranges, wanted):
    differ = sorted(set(ranges) ^ set(wanted))
    equal((differ[:5], len(differ)), ([], 0), "ranges")


def left_alone(path, word):
    ranges, left = unused(path)
    equal((ranges, len(left)), ([], 1), "nothing is told")
    check(word in left[0], left[0])


def poke(path, at, data):
    with open(path, "r+b") as file:
        file.seek(at)
        file.write(data)


def peek(path, at, length):
    with open(path, "rb") as file:
        file.seek(at)
        return file.read(length)


def spoil(path, ranges):
    """Nothing that the file system needs may lie in them: both ends of each are overwritten."""
    with open(path, "r+b") as file:
        for at, length in ranges:
            some = b"\xdb" * min(length, 2 << 20)
            for place in (at, at + length - len(some)):
                file.seek(place)
                file.write(some)


def still_whole(t, path, tree):
    with t.folder() as folder:
        vmimg_ok("cp", f"{path}:/", f"{folder}/out")
        if os.path.isdir(f"{folder}/out/lost+found"):
            os.rmdir(f"{folder}/out/lost+found")
        equal(common.same_tree(tree, f"{folder}/out"), "", "files after spoiling what is unused")


def tree_of(t):
    tree = t.path("tree")
    if not os.path.isdir(tree):
        common.files_tree(tree, space="-")
    return tree


# ---- ext ---------------------------------------------------------------------------------------

EXT = {
    "ext2 1k": (["-t", "ext2", "-b", "1024"], 70 << 20),
    "ext3": (["-t", "ext3", "-b", "4096"], 300 << 20),
    "ext4": (["-t", "ext4"], 900 << 20),
    "ext4 32bit": (["-t", "ext4", "-O", "^64bit", "-b", "1024"], 101 << 20),
    "no flex_bg": (["-t", "ext4", "-O", "^flex_bg", "-b", "2048"], 200 << 20),
    "no sums": (["-t", "ext4", "-O", "^metadata_csum,uninit_bg", "-b", "1024"], 100 << 20),
    "meta_bg": (["-t", "ext4", "-O", "meta_bg,^resize_inode", "-b", "1024"], 300 << 20),
    "bigalloc": (["-t", "ext4", "-O", "bigalloc", "-C", "65536"], 600 << 20),
    "bigalloc 1k": (["-t", "ext4", "-O", "bigalloc", "-b", "1024", "-C", "16384"], 301 << 20),
    "sparse_super2": (["-t", "ext4", "-O", "sparse_super2"], 900 << 20),
    "odd end": (["-t", "ext4", "-b", "1024"], (77 << 20) + 5 * 1024),
}


def ext_free(path):
    """Blocks that dumpe2fs lists as free, as bytes."""
    text = common.tool("dumpe2fs", path).stdout.decode()
    block = int(re.search(r"^Block size: +(\d+)", text, re.M).group(1))
    cluster = re.search(r"^Cluster size: +(\d+)", text, re.M)
    ratio = int(cluster.group(1)) // block if cluster else 1
    runs = []
    for line in re.findall(r"^  Free blocks: (.*)$", text, re.M):
        for part in filter(None, line.split(", ")):
            first, _, last = part.partition("-")
            runs.append((int(first), int(last or first) + (1 if last or ratio == 1 else ratio)))
    merged = []
    for first, end in runs:
        if merged and merged[-1][1] == first:
            merged[-1][1] = end
        else:
            merged.append([first, end])
    count = int(re.search(r"^Free blocks: +(\d+)", text, re.M).group(1))
    return [(a * block, (b - a) * block) for a, b in merged], count * block


def test_ext(t):
    tree = tree_of(t)
    for name, (options, size) in EXT.items():
        with t.sub(name):
            path = common.mke2fs(t.path("image"), tree, size, *options)
            ranges, left = unused(path)
            listed, count = ext_free(path)
            equal((left, total(ranges)), ([], count), "bytes")
            if "bigalloc" not in name:  # which dumpe2fs lists by their first blocks
                same(ranges, listed)
            spoil(path, ranges)
            done = process.run("e2fsck", "-f", "-n", path)
            equal(done.code, 0, f"e2fsck ({done.text[-300:]})")
            still_whole(t, path, tree)
            os.unlink(path)


def test_ext_not_at_rest(t):
    tree = tree_of(t)
    for name, command, word in (
            ("journal", "feature needs_recovery", "journal"),
            ("errors", "ssv state 3", "errors"),
            ("not unmounted", "ssv state 0", "unmounted"),
            ("counts", "set_bg 0 free_blocks_count 7\nset_bg 0 checksum calc", "group 0 has 7 free"),
            ("outside", "set_bg 2 block_bitmap 4000000000\nset_bg 2 checksum calc", "outside"),
    ):
        with t.sub(name):
            path = common.mke2fs(t.path("image"), tree, 100 << 20, "-t", "ext4", "-b", "1024")
            common.tool("debugfs", "-w", "-f", "-", path, input=command.encode())
            left_alone(path, word)
    with t.sub("cut"):
        path = common.mke2fs(t.path("image"), tree, 100 << 20, "-t", "ext4", "-b", "1024")
        os.truncate(path, 60 << 20)
        left_alone(path, "larger than where it lies")


# ---- XFS ---------------------------------------------------------------------------------------

XFS = {
    "v5": ([], 400 << 20),
    "v4": (["-m", "crc=0"], 320 << 20),
    "1k blocks": (["-b", "size=1024"], 310 << 20),
    "4k sectors": (["-s", "size=4096"], 320 << 20),
    "log of stripes": (["-d", "su=64k,sw=2,agcount=2", "-l", "su=64k,size=64m"], 400 << 20),
    "reflink, rmap": (["-m", "reflink=1,rmapbt=1"], 400 << 20),
}


def xfs_numbers(path, *commands):
    asked = [word for command in commands for word in ("-c", command)]
    return [int(v) for v in re.findall(r"= (\d+)", common.tool("xfs_db", "-r", *asked, path).stdout.decode())]


def xfs_free(path):
    """What xfs_db finds free, without the blocks that the groups keep for their own trees."""
    group, block, groups = xfs_numbers(path, "sb 0", "p agblocks blocksize agcount")
    kept = set()
    for g in range(groups):
        first, last = xfs_numbers(path, f"agf {g}", "p flfirst fllast")
        listed = common.tool("xfs_db", "-r", "-c", f"agfl {g}", "-c", "p bno", path).stdout.decode()
        kept |= {(g, int(at)) for i, at in re.findall(r"(\d+):(\d+)", listed) if first <= int(i) <= last}
    text = common.tool("xfs_db", "-r", "-c", "freesp -d", path).stdout.decode()
    runs = [tuple(map(int, m)) for m in re.findall(r"^ +(\d+) +(\d+) +(\d+) *$", text, re.M)]
    return sorted(((g * group + at) * block, count * block) for g, at, count in runs if (g, at) not in kept)


def test_xfs(t):
    tree = tree_of(t)
    for name, (options, size) in XFS.items():
        with t.sub(name):
            path = common.mkxfs(t.path("image"), tree, size, *options)
            ranges, left = unused(path)
            equal(left, [])
            same(ranges, xfs_free(path))
            spoil(path, ranges)
            done = process.run("xfs_repair", "-n", path)
            equal(done.code, 0, f"xfs_repair ({done.errors[-300:]})")
            still_whole(t, path, tree)
            os.unlink(path)


def xfs_log(path):
    """Where the log begins and how long it is."""
    start, group, shift, block, blocks = xfs_numbers(
        path, "sb 0", "p logstart agblocks agblklog blocksize logblocks")
    return ((start >> shift) * group + start % (1 << shift)) * block, blocks * block


def test_xfs_log(t):
    """Logs that xfs_db wrote for a later round, and what stands where an unmount should."""
    path = common.mkxfs(t.path("image"), tree_of(t), 320 << 20)
    before = unused(path)[0]
    at, length = xfs_log(path)
    common.tool("xfs_db", "-x", "-c", "logformat -c 7", path)
    equal(peek(path, at + length - 512, 4), b"\0\0\0\6", "the round before at the end")
    equal(unused(path), (before, []), "a log that went round")
    with t.sub("no unmount"):
        flags = at + 512 + 9
        equal(peek(path, flags, 1), b"\x20")
        poke(path, flags, b"\0")
        left_alone(path, "log")
        poke(path, flags, b"\x20")
    with t.sub("more after the unmount"):
        poke(path, at + 1024, b"\0\0\0\7")
        left_alone(path, "log")
        poke(path, at + 1024, b"\0\0\0\6")
    with t.sub("zeroes"):
        poke(path, at, bytes(length))
        left_alone(path, "log")


def test_xfs_trees(t):
    """A tree of free space with two levels, made by hand from one leaf; then loops and lies in it."""
    path = common.mkxfs(t.path("image"), tree_of(t), 320 << 20, "-m", "crc=0")
    root, free, length = xfs_numbers(path, "agf 0", "p bnoroot freeblks length")
    leaf = peek(path, root * 4096, 4096)
    count = int.from_bytes(leaf[6:8], "big")
    last, size = (int.from_bytes(leaf[16 + 8 * (count - 1) + i:][:4], "big") for i in (0, 4))
    check(size > 2000, "one large piece at the end")
    # every other block of the first 1000 of that piece, in two leaves under a new root
    records = [leaf[16 + 8 * i:][:8] for i in range(count - 1)]
    records += [(last + 2 * i).to_bytes(4, "big") + b"\0\0\0\1" for i in range(500)]
    halves, places = (records[:300], records[300:]), (last + 1001, last + 1002)

    def node(level, left, right, body):
        number = len(body) // 8
        return (b"ABTB" + level.to_bytes(2, "big") + number.to_bytes(2, "big") +
                left.to_bytes(4, "big") + right.to_bytes(4, "big") + body)
    none = 0xffffffff
    top = node(1, none, none, halves[0][0] + halves[1][0])
    top = top.ljust(16 + 8 * ((4096 - 16) // 12), b"\0") + b"".join(p.to_bytes(4, "big") for p in places)
    poke(path, root * 4096, top)
    poke(path, places[0] * 4096, node(0, none, places[1], b"".join(halves[0])))
    poke(path, places[1] * 4096, node(0, places[0], none, b"".join(halves[1])))
    poke(path, 512 + 28, b"\0\0\0\2")
    poke(path, 512 + 52, (free - size + 500).to_bytes(4, "big"))
    ranges, left = unused(path)
    equal(left, [])
    same(ranges, xfs_free(path))
    for name, at, data, word in (
            ("a loop", places[1] * 4096 + 12, places[0].to_bytes(4, "big"), "overlaps"),
            ("outside", places[0] * 4096 + 12, (length + 5).to_bytes(4, "big"), "outside"),
            ("too many", places[0] * 4096 + 6, b"\xff\xff", "makes no sense"),
            ("empty", places[1] * 4096 + 6, b"\0\0", "empty"),
            ("empty root", root * 4096 + 6, b"\0\0", "a block of its tree of free space is empty"),
            ("level", places[1] * 4096 + 4, b"\0\1", "makes no sense"),
            ("deep", 512 + 28, b"\xff\0\0\0", "too deep"),
            ("count", 512 + 52, b"\0\0\0\1", "not as many"),
    ):
        with t.sub(name):
            was = peek(path, at, len(data))
            poke(path, at, data)
            left_alone(path, word)
            poke(path, at, was)


# ---- FAT ---------------------------------------------------------------------------------------

FAT = {
    "FAT12": (["-F", "12", "-s", "16"], 20 << 20),
    "FAT16": (["-F", "16"], 60 << 20),
    "FAT32": (["-F", "32", "-s", "1"], 80 << 20),
    "FAT32 one copy": (["-F", "32", "-s", "8", "-f", "1"], 400 << 20),
}


def test_fat(t):
    tree = tree_of(t)
    for name, (options, size) in FAT.items():
        with t.sub(name):
            path = common.mkfat(t.path("image"), tree, size, *options)
            ranges, left = unused(path)
            text = process.run("fsck.fat", "-n", path).text
            used, clusters = map(int, re.search(r"(\d+)/(\d+) clusters", text).groups())
            shape = peek(path, 0, 32)
            cluster = shape[13] * int.from_bytes(shape[11:13], "little")
            equal((left, total(ranges)), ([], (clusters - used) * cluster))
            spoil(path, ranges)
            equal(process.run("fsck.fat", "-n", path).code, 0, "fsck.fat")
            still_whole(t, path, tree)
            os.unlink(path)


def test_fat_not_at_rest(t):
    tree = tree_of(t)
    for name, (options, size) in FAT.items():
        if "copy" in name:
            continue
        path = common.mkfat(t.path("image"), tree, size, *options)
        reserved = int.from_bytes(peek(path, 14, 2), "little") * 512
        bits = int(name[3:])
        with t.sub(f"{name} dirty"):
            poke(path, 65 if bits == 32 else 37, b"\1")
            left_alone(path, "unmounted")
            poke(path, 65 if bits == 32 else 37, b"\0")
        if bits > 12:
            at = reserved + bits // 8 * 2 - 1
            copy = int.from_bytes(peek(path, 36, 4) if bits == 32 else peek(path, 22, 2), "little") * 512
            was = peek(path, at, 1)
            with t.sub(f"{name} entry"):
                for place in (at, at + copy):
                    poke(path, place, bytes([was[0] & (0xf7 if bits == 32 else 0x7f)]))
                left_alone(path, "unmounted")
                for place in (at, at + copy):
                    poke(path, place, was)
        with t.sub(f"{name} copies"):
            poke(path, reserved + 600, b"\1")
            left_alone(path, "copies")


# ---- NTFS --------------------------------------------------------------------------------------

def mkntfs(t, *options):
    path = t.path("image")
    with open(path, "wb") as file:
        file.truncate(60 << 20)
    common.tool("mkntfs", "-q", "-F", "-f", *options, path)
    if "not read here" in process.vmimg("ls", f"{path}:/").errors:
        skip("files of NTFS are not read in this build, and so it is not known whether it is hibernated")
    return path


def ntfs_put(t, path, name, content):
    with open(t.path("content"), "wb") as file:
        file.write(content)
    common.tool("ntfscp", "-q", "-f", path, t.path("content"), name)


def test_ntfs(t):
    rng = random.Random(2)
    for name, options in (("plain", []), ("small clusters", ["-c", "512"]), ("large", ["-c", "65536"])):
        with t.sub(name):
            path = mkntfs(t, *options)
            files = {f"file{i}": rng.randbytes(rng.randrange(300000)) for i in range(12)}
            for file, content in files.items():
                ntfs_put(t, path, file, content)
            ranges, left = unused(path)
            text = common.tool("ntfsinfo", "-m", path).stdout.decode()
            cluster, free = (int(re.search(rf"{key}: (\d+)", text).group(1))
                             for key in ("Cluster Size", "Free Clusters"))
            equal((left, total(ranges)), ([], free * cluster), "bytes")
            spoil(path, ranges)
            for file, content in files.items():
                check(common.tool("ntfscat", path, file).stdout == content, file)


def ntfs_record(path, number):
    """Where a file's record lies."""
    boot = peek(path, 0, 80)
    cluster = boot[13] * 512
    return int.from_bytes(boot[48:56], "little") * cluster + number * 1024


def test_ntfs_not_at_rest(t):
    with t.sub("hibernated"):
        path = mkntfs(t)
        ntfs_put(t, path, "hiberfil.sys", b"wake" + bytes(5000))
        check(unused(path)[0], "it was started again")
        ntfs_put(t, path, "hiberfil.sys", b"hibr" + bytes(5000))
        left_alone(path, "hibernated")
    path = mkntfs(t)
    volume, bitmap = (ntfs_record(path, n) for n in (3, 6))
    record = peek(path, volume, 1024)
    at = record.index((0x70).to_bytes(4, "little"), 0x38)
    flags = volume + at + int.from_bytes(record[at + 20:at + 22], "little") + 10
    record = peek(path, bitmap, 1024)
    at = record.index((0x80).to_bytes(4, "little"), 0x38)
    runs = bitmap + at + int.from_bytes(record[at + 32:at + 34], "little")
    low, high = record[runs - bitmap] & 15, record[runs - bitmap] >> 4
    bits = int.from_bytes(peek(path, runs + 1 + low, high), "little") * 4096
    record = peek(path, ntfs_record(path, 2), 1024)
    at = record.index((0x80).to_bytes(4, "little"), 0x38)
    first = at + int.from_bytes(record[at + 32:at + 34], "little")
    low, high = record[first] & 15, record[first] >> 4
    log = int.from_bytes(record[first + 1 + low:first + 1 + low + high], "little") * 4096
    page = b"RSTR" + bytes(20) + (48).to_bytes(2, "little") + b"\1\0\1\0" + bytes(18)
    closed, opened = (page + bytes(12) + client + flag + b"\0" for client, flag in
                      ((b"\xff\xff", b"\2"), (b"\0\0", b"\0")))
    for name, changes, word in (
            ("dirty", [(flags, b"\1")], "dirty"),
            ("log open", [(log, opened), (log + 4096, opened)], "log was not closed"),
            ("log of fast start", [(log, closed), (log + 28, b"\2"), (log + 4096, closed), (log + 4124, b"\2")],
             "log was not closed"),
            ("its own table free", [(bits, b"\0")], "said to be free"),
            ("record", [(bitmap, b"FALE")], "is damaged"),
            ("runs end", [(runs, b"\0")], "no cluster"),
            ("runs outside", [(runs + 3, b"\x7f")], "clusters at"),
            ("run of nothing", [(runs, b"\x0f")], "cut off"),
    ):
        with t.sub(name):
            was = [(at, peek(path, at, len(data))) for at, data in changes]
            for at, data in changes:
                poke(path, at, data)
            left_alone(path, word)
            for at, data in reversed(was):
                poke(path, at, data)
    with t.sub("log closed"):
        poke(path, log, closed)
        poke(path, log + 4096, closed)
        check(unused(path)[0], "it is at rest")
    with t.sub("cut"):
        os.truncate(path, 55 << 20)
        left_alone(path, "larger than where it lies")


SHADOW = bytes.fromhex("6b87083876c1484eb7ae04046e6cc752")


def shadow_block(kind, at, following, *entries):
    return (SHADOW + struct.pack("<IIQQQ", 1, kind, 0, at, following)).ljust(128, b"\0") + \
        b"".join(entry.ljust(128, b"\0") for entry in entries).ljust(16384 - 128, b"\0")


def test_ntfs_shadow_copies(t):
    """What they need lies in clusters that are free by now, until somebody writes there."""
    path = mkntfs(t)
    at = 40 << 20
    before = unused(path)[0]
    copies = [struct.pack("<QQ16sQQQ", 2, 60 << 20, b"I" * 16, 1, 0x40, 0x01d0000000000000),
              struct.pack("<QQ16sQQQQ", 3, at + 0x14000, b"I" * 16, at + 0x10000, at + 0x18000, at + 0x1c000, 0)]
    store = (at + 0x10000, shadow_block(4, at + 0x10000, 0))
    for name, catalogue, blocks, count, word in (
            ("none any more", 0, [], 0, None),
            ("an empty catalogue", at, [(at, shadow_block(2, at, 0))], 0, None),
            ("one", at, [(at, shadow_block(2, at, 0, *copies)), store], 1, "shadow copies"),
            ("one in the second block", at, [(at, shadow_block(2, at, at + 16384)),
                                             (at + 16384, shadow_block(2, at + 16384, 0, *copies)), store], 1, "shadow copies"),
            ("a loop", at, [(at, shadow_block(2, at, at))], None, "shadow copies"),
            ("no catalogue", at, [(at, bytes(16384))], None, "catalogue"),
            ("outside", 1 << 60, [], None, "past the end")):
        with t.sub(name):
            poke(path, 0x1e00, (SHADOW + struct.pack("<IIQQQQQ", 1, 1, 0x1e00, 0x1e00, 0, catalogue, 0)).ljust(512, b"\0"))
            for place, block in blocks:
                poke(path, place, block)
            if word:
                left_alone(path, word)
            else:
                equal(unused(path), (before, []))
            if count is not None and env.find("vshadowinfo"):
                told = re.search(r"Number of stores:\s+(\d+)", process.run("vshadowinfo", path).text)
                equal(int(told.group(1)) if told else 0, count, "as vshadowinfo")


# ---- exFAT -------------------------------------------------------------------------------------

def test_exfat_second_table(t):
    """Of two tables and two bitmaps the boot sector says which are kept up."""
    files = {"file": b"content" * 30000, "folder": {"another": b"more" * 5000}}
    for second in False, True:
        with t.sub("second" if second else "first"):
            where = exfat.write(t.path("exfat"), 8 << 20, files, chained=True, second=second)
            ranges, left = unused(t.path("exfat"))
            equal((left, total(ranges)), ([], where["free"]))
            spoil(t.path("exfat"), ranges)
            check(process.vmimg("cat", f"{t.path('exfat')}:/file").out == files["file"], "the file")
    with t.sub("cut"):
        os.truncate(t.path("exfat"), 7 << 20)
        left_alone(t.path("exfat"), "larger than where it lies")


# ---- disks -------------------------------------------------------------------------------------

def test_partitions(t):
    tree = tree_of(t)
    disk = t.path("disk")
    with open(disk, "wb") as file:
        file.truncate(200 << 20)
    common.sfdisk(disk, "label: gpt\nstart=2048,size=40960,type=U\nstart=51200,size=204800,type=L\n"
                        "start=262144,size=40960,type=S\n")
    fat = common.mkfat(t.path("fat"), tree, 20 << 20)
    ext = common.mke2fs(t.path("ext"), tree, 100 << 20, "-t", "ext4")
    want = [(at + (1 << 20), n) for at, n in unused(fat)[0]] + [(at + 51200 * 512, n) for at, n in unused(ext)[0]]
    common.place(disk, 1 << 20, fat)
    common.place(disk, 51200 * 512, ext)
    ranges, left = unused(disk)
    equal(ranges, want)
    equal([line.split()[:3] for line in left], [["left", "3", "-"]])
    gaps = [(43008 * 512, 8192 * 512), (256000 * 512, 6144 * 512), (303104 * 512, (199 << 20) - 303104 * 512)]
    equal(sorted(set(unused(disk, "gaps")[0]) - set(ranges)), gaps, "gaps")
    with t.sub("overlap"):
        common.sfdisk(disk, "label: dos\nstart=2048,size=40960,type=c\nstart=51200,size=204800,type=83\n")
        poke(disk, 446 + 12, (60000).to_bytes(4, "little"))  # the first one made longer
        ranges, left = unused(disk)
        equal((ranges, len(left)), ([], 2))
        check(all("overlaps" in line for line in left), str(left))
    with t.sub("logical"):
        common.sfdisk(disk, "label: dos\nstart=2048,size=40960,type=c\nstart=45056,size=300000,type=5\n"
                            "start=51200,size=204800,type=83\n")
        equal(unused(disk)[0], want)
    with t.sub("past the end"):
        os.truncate(disk, 100 << 20)
        ranges, left = unused(disk)
        check(ranges and ranges[-1][0] < 51200 * 512 and "past the end" in left[0], str(left))


def test_two_marks(t):
    """A file system and what is left of another, or the other way round: which of them lives is not known."""
    tree = tree_of(t)
    zfs = b"".join(struct.pack("<QQQQ", 0x00bab10c, 5000, i, 0).ljust(1024, b"\0") for i in range(128))
    for name, make, at, marks, word in (
            ("ext4 below ZFS", lambda p: common.mke2fs(p, tree, 300 << 20, "-t", "ext4"), 128 << 10, zfs, "zfs_member"),
            ("ext4 and a FAT", lambda p: common.mke2fs(p, tree, 100 << 20, "-t", "ext4"), 0, None, "vfat"),
            ("XFS and UFS", lambda p: common.mkxfs(p, tree, 320 << 20), 66908, b"\x19\x01\x54\x19", "ufs")):
        with t.sub(name):
            path = make(t.path("image"))
            if marks is None:
                marks = peek(common.mkfat(t.path("fat"), tree, 100 << 20, "-F", "32"), 0, 512)
            before = unused(path)
            check(before[0] and not before[1], "it is told what is unused")
            was = peek(path, at, len(marks))
            poke(path, at, marks)
            left_alone(path, f"marks of {word}")
            poke(path, at, was)
            equal(unused(path), before)


def test_mounted(t):
    """What the kernel leaves: in use nothing is told, and at rest what the tools count."""
    for name, make in (("xfs", ["mkfs.xfs", "-q"]), ("ext4", ["mke2fs", "-q", "-F", "-t", "ext4"])):
        with t.sub(name):
            path = t.path(name)
            with open(path, "wb") as file:
                file.truncate(320 << 20)
            common.tool(*make, path)
            with common.mounted(path, t.path("mount")) as folder:
                for i in range(800):
                    common.put(folder, f"folder/file{i}", str(i) * 1000)
                for i in range(0, 800, 3):
                    os.unlink(f"{folder}/folder/file{i}")
                common.tool("sync", "-f", folder)
                live = shutil.copy(path, t.path("live"))
            left_alone(live, "")
            ranges, left = unused(path)
            equal(left, [])
            same(ranges, xfs_free(path) if name == "xfs" else ext_free(path)[0])


def test_noise(t):
    """File systems with bytes changed at random: ranges that make sense, or none."""
    rng = random.Random(5)
    tree = t.path("small")
    common.put(tree, "file", "x" * 5000)
    makers = {
        "ext4": lambda p: common.mke2fs(p, tree, 8 << 20, "-t", "ext4"),
        "xfs": lambda p: common.mkxfs(p, tree, 310 << 20),
        "fat": lambda p: common.mkfat(p, tree, 2 << 20),
    }
    for name, make in makers.items():
        with t.sub(name):
            path = make(t.path(name))
            for _ in range(60):
                places = [(rng.randrange(4096), bytes([rng.randrange(256)])) for _ in range(3)]
                was = [(at, peek(path, at, 1)) for at, _ in places]
                for at, data in places:
                    poke(path, at, data)
                unused(path)
                for at, data in reversed(was):
                    poke(path, at, data)


if __name__ == "__main__":
    harness.main()
