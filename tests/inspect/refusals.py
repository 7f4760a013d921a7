# SPDX-License-Identifier: Apache-2.0
"""
What the readers of partition tables, volumes and file systems refuse or warn of, one input for each: it is said, with
the right exit code, and the bars hold.
"""

import gzip
import mmap
import os
import re
import shutil
import struct
import sys
import zlib

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "iso"))
sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "cli"))
import common
import exfat
import gate
import hostile
import images
import lvm
import ntfs
import unused
from hostile import spoilt
from ntfs import fixed, unfixed
from lib import disks, harness, process
from lib.harness import check
from lib.process import vmimg, vmimg_ok
from lib.recipe import crc32c

MIB, SECTOR = 1 << 20, 2048


def says(result, pattern, code=None):
    process.check_bars(result)
    check(code is None or result.code == code, f"want {code}: {result}")
    check(re.search(pattern, result.text + result.errors), f"nothing says {pattern!r}: {result} {result.text[-300:]!r}")
    if result.code:
        process.check_one_line(result)


def copied_out(t, path):
    """cp of everything."""
    result = vmimg("cp", "--max-output", "64M", f"{path}:/", t.path("out"))
    shutil.rmtree(t.path("out"), ignore_errors=True)
    return result


# ---- partition tables --------------------------------------------------------------------------


def entry(kind, start, count):
    return struct.pack("<4xB3xII", kind, start, count)


def table(*entries):
    return bytes(446) + b"".join(entries).ljust(64, b"\0") + b"\x55\xaa"


def written(path, *parts, size=4 * MIB):
    with open(path, "wb") as file:
        for at, data in parts:
            file.seek(at)
            file.write(data)
    os.truncate(path, size)
    return path


def test_mbr(t):
    extended = table(entry(5, 64, 8000))
    chain = [(0, extended)] + [((64 + 2 * i) * 512, table(entry(0x83, 1, 1), entry(5, 2 * i + 2, 2))) for i in range(130)]
    rows = [
        ("a table past the end", [(0, table(entry(5, 100000, 64)))], "lies past the end of the disk"),
        ("no table", [(0, extended)], "no table of a logical partition"),
        ("a long chain", chain, "more than .* (logical )?partitions"),
        ("a partition past the end", [(0, table(entry(0x83, 100000, 64)))], "past the disk's end"),
        ("a chain that is a loop", [(0, extended), (64 * 512, table(entry(0x83, 1, 1), entry(5, 2, 2))),
                                    (66 * 512, table(entry(0x83, 1, 1), entry(5, 0, 2)))], "is a loop"),
    ]
    for name, parts, pattern in rows:
        with t.sub(name):
            path = written(t.path("disk"), *parts)
            says(vmimg("ls", f"{path}:1/") if "partition past" in name else vmimg("inspect", path), pattern)


def gpt(t, change=None, tail=None):
    """A disk with two copies; what is changed of entries is summed anew."""
    path = gate.gpt_disk(t.path("gpt"), gate.mbr(gate.GUARD))
    for first, at in ((512, 1024),) if change else ():
        with open(path, "r+b") as file:
            data = bytearray(file.read(1024 + 128 * 128))
            data[at:at + 128] = change
            struct.pack_into("<I", data, first + 88, gate.zlib.crc32(data[at:at + 128 * 128]))
            data[first + 16:first + 20] = bytes(4)
            struct.pack_into("<I", data, first + 16, gate.zlib.crc32(data[first:first + 92]))
            file.seek(0)
            file.write(data)
    return spoilt(t, path, *tail) if tail else path


def test_gpt(t):
    wrong = struct.pack("<16s16sQQQ", b"\x01" * 16, b"\x02" * 16, 400, 40, 0).ljust(128, b"\0")
    other = struct.pack("<16s16sQQQ", b"\x01" * 16, b"\x02" * 16, 40, 400, 0).ljust(128, b"\0")
    endless = struct.pack("<16s16sQQQ", b"\x01" * 16, b"\x02" * 16, (1 << 55) + 2048, (1 << 64) - 1, 0).ljust(128, b"\0")
    with t.sub("a partition that ends in the last of all sectors"):
        says(vmimg("inspect", gpt(t, endless)), "make no sense", 0)
    with t.sub("a partition that ends before it begins"):
        says(vmimg("inspect", gpt(t, wrong)), "make no sense", 0)
    with t.sub("copies that differ"):
        says(vmimg("inspect", gpt(t, other)), "the two copies of the GPT differ", 0)
    with t.sub("no protective MBR"):
        says(vmimg("inspect", gpt(t, tail=[(0, bytes(512))])), "there is no protective MBR", 0)
    with t.sub("both copies damaged"):
        says(vmimg("inspect", gpt(t, tail=[(512 + 20, b"\1"), (4 * MIB - 512 + 20, b"\1")])), "the second copy of the GPT")


# ---- ISO 9660 -------------------------------------------------------------------------------------


def test_iso(t):
    plain = images.hostile(t)
    image = t.path("image.iso")
    root = images.root_of(plain)
    recs = list(images.records(plain, root))
    file = next(r for r in recs[2:] if plain[r + 33:r + 37] == b"NNNN")
    folder = next(r for r in recs[2:] if plain[r + 25] & 2)
    goes_on = plain.index(b"CE\x1c\x01", root)
    rows = [
        ("a record of an impossible length", [(file, b"\x20")], "impossible length"),
        ("a name longer than its record", [(file + 32, b"\xff")], "longer than the record"),
        ("a folder of 4 GiB", [(folder + 10, b"\xff\xff\xff\xff")], "a folder of [0-9]+ bytes|past the end"),
        ("a file that goes on behind the folder", [(recs[-1] + 25, b"\x80")], "extents are not all there"),
        ("an area that goes on for 2 MiB", [(goes_on + 20, struct.pack("<I", 2 * MIB))], "goes on for 2097152 bytes"),
        ("pieces of two sectors with gaps", [(file + 26, b"\2\3")], "interleaved with another"),
        ("gaps in a second extent", [(file + 25, b"\x80"), (recs[recs.index(file) + 1] + 26, b"\2\3")], "interleaved with another"),
        ("blocks of 4 KiB", [(16 * SECTOR + 128, struct.pack("<H", 4096))], "logical blocks of"),
    ]
    for name, changes, pattern in rows:
        with t.sub(name):
            says(copied_out(t, spoilt(t, image, *changes)), pattern)
    with t.sub("a root without records"):  # of which Joliet has another
        says(copied_out(t, spoilt(t, image, (root, bytes(SECTOR)))), "", 0)
    with t.sub("compressed"):
        attributes = plain.rindex(b"PX", 0, plain.index(b"NM\x0b\x01\0second"))
        length = plain[attributes + 2]
        packed = struct.pack("<2sBB2sBBII", b"ZF", 16, 1, b"pz", 4, 15, 1, 1 << 24) + struct.pack("<2sBB", b"XX", length - 16, 1)
        says(vmimg("cat", f"{spoilt(t, image, (attributes, packed))}:/second"), "zisofs")
    with t.sub("a boot catalogue that is none"):
        boot = t.path("boot.img")
        with open(boot, "wb") as file_:
            file_.write(b"x" * 2048)
        common.tool("xorriso", "-as", "mkisofs", "-quiet", "-o", t.path("boot.iso"), "-b", "boot.img", "-no-emul-boot",
                    "-c", "boot.cat", os.path.join(t.path("tree")), boot) if os.path.exists(t.path("tree")) else None
        with open(t.path("boot.iso"), "rb") as file_:
            data = file_.read()
        catalogue = struct.unpack_from("<I", data, 17 * SECTOR + 71)[0] * SECTOR
        says(vmimg("inspect", spoilt(t, t.path("boot.iso"), (catalogue, b"\x02"))), "iso9660", 0)


# ---- LVM ----------------------------------------------------------------------------------------------


def test_lvm(t):
    good = lvm.group("vg", (4,), [lvm.volume("root", [lvm.segment(1, 0, 2, [("pv0", 0)])])])
    rows = [
        ("a number of 30 digits", good.replace(b"max_lv = 0", b"max_lv = " + b"9" * 30)),
        ("no number", good.replace(b"max_lv = 0", b"max_lv = ;")),
        ("no key", good.replace(b"max_lv = 0", b"= 0")),
        ("a key alone", good.replace(b"max_lv = 0", b"max_lv 0")),
        ("a closing brace too many", good.replace(b"# Generated", b"}\n# Generated")),
        ("extents past the end", good.replace(b"pe_start = 2048", b"pe_start = %d" % (1 << 62))),
        ("huge extents", good.replace(b"extent_size = %d" % (lvm.EXTENT // 512), b"extent_size = %d" % (1 << 62))),
        ("no segments", good.replace(b"extent_count = 2\ntype", b"extents = 2\ntype")),
    ]
    for name, text in rows:
        with t.sub(name):
            check(text != good, "nothing is changed")
            disk = lvm.make(t, text, (4,), {})
            result = vmimg("ls", f"{disk}:vg/root/")
            process.check_bars(result)
            check(result.code in (2, 4), str(result))
            process.check_one_line(result)
            vmimg_ok("inspect", disk)
    rows = [
        ("few stripes", good.replace(b"stripe_count = 1", b"stripe_count = 2\nstripe_size = 128"), [], "too few stripes"),
        ("many stripes", good.replace(b"stripe_count = 1", b"stripe_count = 200"), [], "too many segments or stripes"),
        ("another disk", good.replace(b'"pv0", 0', b'"pv1", 0'), [], "a part of it is on 'pv1', which is not on this disk"),
        ("another type", good.replace(b'"striped"', b'"thin-pool"'), [], "of type 'thin-pool' is not seen through"),
        ("a gap", good.replace(b"start_extent = 0", b"start_extent = 1"), [], "its segments make no sense"),
        ("past the end", good.replace(b'"pv0", 0', b'"pv0", 900'), [], "past the end of its physical volume"),
        ("no group", b"contents = 1\n\0", [], "has no volume group"),
        ("no header", good, [(MIB + 4096 + 4, b"XXXX")], "has no header"),
        ("text outside", good, [(MIB + 4096 + 40, struct.pack("<Q", 1 << 40))], "lies outside its area"),
        ("another sum", good, [(MIB + 4096 + 56, b"\1\2\3\4")], "checksum of LVM's metadata is wrong"),
        ("half a text", good[:300], [], "makes no sense at byte"),
    ]
    for name, text, changes, pattern in rows:
        with t.sub(name):
            disk = lvm.make(t, text, (4,), {})
            says(vmimg("inspect", spoilt(t, disk, *changes)), pattern, 0)
    with t.sub("a label that is not there"):
        disk = lvm.make(t, good, (4,), {})
        result = vmimg("inspect", "--json", spoilt(t, disk, (MIB + 512, b"LABELTWO")))
        check(result.code == 0 and result.json()["logical-volumes"] == [], str(result))


# ---- exFAT, FAT ------------------------------------------------------------------------------------------


def test_exfat(t):
    files = {"file": b"content" * 3000, "folder": {"another": b"more"}}
    where = exfat.write(t.path("exfat"), 256 << 10, files, chained=False, cluster=512)
    with open(t.path("exfat"), "rb") as file:
        data = file.read()
    set_at = data.index(b"\x85", 24 * 512 + 2048)
    heap = struct.unpack_from("<I", data, 88)[0] * 512
    root = heap + (where["root"] - 2) * 512
    rows = [
        ("a file past the last cluster", [(data.index(b"\xc0", root) + 20, struct.pack("<I", 0x7fffffff))],
         "lies in cluster|damaged|checksum"),
        ("a set of one entry", [(root + 96, b"\x85\x00")], "a file has 1 entries"),
        ("a table that is too short", [(84, struct.pack("<I", 1))], "a table of 512 bytes"),
        ("a volume that is too short", [(72, struct.pack("<Q", 100))], "do not fit into a volume of 100 sectors"),
    ]
    check(set_at > 0, "no set")
    for name, changes, pattern in rows:
        with t.sub(name):
            says(copied_out(t, spoilt(t, t.path("exfat"), *changes)), pattern)


def test_fat(t):
    tree = t.path("tree")
    common.put(tree, "file", "x" * 5000)
    image = common.mkfat(t.path("fat"), tree, 8 << 20, "-F", "16", "-s", "1")
    with open(image, "rb") as file:
        data = file.read()
    name = data.index(b"FILE       ")
    with t.sub("a chain that begins past the last cluster"):
        says(copied_out(t, spoilt(t, image, (name + 26, b"\xfe\xff"))), "a chain begins at cluster")
    with open(image, "rb") as file:
        table_at = struct.unpack_from("<H", file.read(32), 14)[0] * 512
    place = table_at + 2 * struct.unpack_from("<H", data, name + 26)[0]
    for what, value, pattern in (("leads past the last cluster", 0xfff0, "FAT entry of cluster [0-9]+ points to cluster 65520"),
                                 ("leads to no cluster", 1, "points to cluster 1 of"),
                                 ("ends early", 0xffff, "ends before its file does")):
        with t.sub(f"a chain that {what}"):
            says(copied_out(t, spoilt(t, image, (place, struct.pack("<H", value)))), pattern)
    with t.sub("a file longer than the volume"):
        first = struct.unpack_from("<H", data, name + 26)[0]
        reserved = struct.unpack_from("<H", data, 14)[0] * 512
        says(copied_out(t, spoilt(t, image, (name + 28, b"\xff\xff\xff\x7f"),
                                  (reserved + 2 * first, struct.pack("<H", first)))), "longer than the volume|limit|chain|max-output")


# ---- what is unused -----------------------------------------------------------------------------------


def test_unused(t):
    """A map of free space that cannot be relied on: nothing of that volume is given up."""
    files = {"file": b"content" * 3000}
    where = exfat.write(t.path("exfat"), 256 << 10, files, chained=False, cluster=512)
    with open(t.path("exfat"), "rb") as file:
        data = file.read()
    root = (struct.unpack_from("<I", data, 88)[0] + where["root"] - 2) * 512
    bitmap = (struct.unpack_from("<I", data, 88)[0] + struct.unpack_from("<I", data, root + 32 + 20)[0] - 2) * 512
    tree = t.path("tree")
    common.put(tree, "file", "x" * 5000)
    small = common.mkfat(t.path("fat16"), tree, 8 << 20, "-F", "16", "-s", "1")
    large = common.mkfat(t.path("fat32"), tree, 40 << 20, "-F", "32", "-s", "1")
    with open(large, "rb") as file:
        boot = file.read(512)
    fat, length = struct.unpack_from("<H", boot, 14)[0] * 512, struct.unpack_from("<I", boot, 36)[0] * 512
    with open(small, "rb") as file:
        head = file.read(32)
    first, other = struct.unpack_from("<H", head, 14)[0] * 512, struct.unpack_from("<H", head, 22)[0] * 512
    xfs = common.mkxfs(t.path("xfs"), tree, 300 * MIB)
    both = [(fat + i * length + 8, bytes(length - 8)) for i in range(2)]
    rows = [
        ("exFAT whose root is free", t.path("exfat"), [(bitmap + (where["root"] - 2) // 8, bytes(1))], "of exFAT is said to be free"),
        ("exFAT with a bitmap of zeroes", t.path("exfat"), [(bitmap, bytes(64))], "of exFAT is said to be free"),
        ("exFAT in use", t.path("exfat"), [(106, b"\2")], "marked dirty"),
        ("exFAT without a bitmap", t.path("exfat"), [(root + 32, b"\1")], "there is no bitmap"),
        ("a FAT that begins with something else", small, [(first, b"\x11"), (first + other, b"\x11")], "does not begin as one does"),
        ("a FAT without a root", large, both, "not even the root folder"),
        ("a root that is free", large, [(fat + i * length + 8, bytes(4)) for i in range(2)], "not even the root folder"),
        ("a root that lies nowhere", large, [(44, bytes(4))], "not even the root folder"),
        ("FATs that are no copies", large, [(40, b"\x80\0")], "its tables are not copies"),
        ("XFS that is written in another way", xfs, [(212, b"\1\0\0\5")], "features 0x[0-9a-f]+, 0x1000005 is not known"),
        ("XFS that needs repair", xfs, [(216, b"\0\0\0\x1b")], "needs repair|not read here"),
        ("a log outside", xfs, [(48, struct.pack(">Q", 1 << 40))], "the log lies outside|log"),
    ]
    for name, image, changes, pattern in rows:
        with t.sub(name):
            ranges, left = unused.unused(spoilt(t, image, *changes))
            check(not ranges and len(left) == 1 and re.search(pattern, left[0]), f"{len(ranges)} ranges, {left}")


def test_exfat_cluster(t):
    """A set of entries with a sum that is right, and a file that lies nowhere."""
    exfat.write(t.path("exfat"), 256 << 10, {"file": b"content" * 3000}, chained=False, cluster=512)
    with open(t.path("exfat"), "rb") as file:
        data = bytearray(file.read())
    at = next(i for i in range(24 * 512, len(data), 32) if data[i] == 0x85 and data[i + 32] == 0xc0)
    size = 32 * (1 + data[at + 1])
    data[at + 52:at + 56] = struct.pack("<I", 0x7fffffff)
    data[at + 2:at + 4] = struct.pack("<H", exfat.rotate_sum(data[at:at + size], 16, (2, 3)))
    says(copied_out(t, common.put(t.tmp, "moved", bytes(data))), "lies in cluster")


# ---- ext, initial ramdisks ------------------------------------------------------------------------------


def test_encrypted(t):
    tree = t.path("ext-tree")
    common.put(tree, "file", "x" * 5000)
    os.symlink("x" * 100, f"{tree}/link")
    image = common.mke2fs(t.path("ext"), tree, 8 << 20, "-b", "1024", "-t", "ext4")
    for name, words in ("file", ["cat"]), ("link", ["cp"]):
        with t.sub(name):
            at = hostile.inode_at(image, f"/{name}")
            with open(image, "rb") as file:
                file.seek(at + 0x20)
                flags = struct.unpack("<I", file.read(4))[0] | 0x800
            path = spoilt(t, image, (at + 0x20, struct.pack("<I", flags)))
            says(vmimg(*words, f"{path}:/{name}", *([t.path("out")] if words == ["cp"] else [])), "encrypted")


def test_links(t):
    """Links that lead to longer and longer paths."""
    tree = t.path("links")
    os.makedirs(tree)
    for i in range(9):
        os.symlink("./" * 500 + f"l{i + 1}" + "/x" * 450, f"{tree}/l{i}")
    image = common.mke2fs(t.path("ext"), tree, 8 << 20, "-b", "4096", "-t", "ext4")
    says(vmimg("cat", f"{image}:/l0"), "links lead to a path", 1)


def bomb(begin, count):
    """gzip of that and so many megabytes of zeroes. (What this process takes, its children are measured with.)"""
    packer = zlib.compressobj(1, zlib.DEFLATED, 31)
    return packer.compress(begin) + b"".join(packer.compress(bytes(MIB)) for _ in range(count)) + packer.flush()


def test_ramdisks(t):
    """What is in one is left out of the report, which is there."""
    archive = common.cpio(["lib/modules/x/virtio_blk.ko"])
    packed = gzip.compress(archive)
    large = archive[:54] + b"ffffffff" + archive[62:140]  # a file of 4 GiB
    rows = {"damaged": (archive[:140] + b"XXXXXX" + archive[146:], "the archive is damaged"), "cut": (packed[:-20], "ends early"),
            "no archive": (gzip.compress(b"x" * 5000), "what is packed is no cpio archive"),
            "packed in an unknown way": (b"UNKN" * 1000, "way"), "a bomb": (bomb(large, 1100), "unpacks to more than 1 GiB")}
    for name, (content, pattern) in rows.items():
        with t.sub(name):
            tree = t.path("tree-" + name.replace(" ", "-"))
            version = common.system_tree(tree)
            common.put(tree, f"boot/initrd.img-{version}", content)
            image = common.mke2fs(t.path("ext"), tree, 16 << 20, "-t", "ext4")
            result = vmimg("inspect", "--deep", "--json", image)
            process.check_bars(result)
            check(result.code == 0 and re.search(pattern, str(result.json()["operating-systems"])), str(result))
    with t.sub("40 GiB of zeroes"):
        os.truncate(f"{tree}/boot/initrd.img-{version}", 40 << 30)
        image = common.mke2fs(t.path("ext"), tree, 16 << 20, "-t", "ext4")
        says(vmimg("inspect", "--deep", image), "initrd: it is larger than 1 GiB", 0)


# ---- XFS -------------------------------------------------------------------------------------------


class Xfs:
    """What lies where in an image of XFS version 5 with inodes of 512 bytes and blocks of 4 KiB."""

    def __init__(self, t):
        tree = t.path("xfs-tree")
        common.put(tree, "file", b"x" * 20000)
        for i in range(60):
            common.put(tree, f"folder/a-file-with-a-name-of-some-length-{i}", "x")
        os.symlink("a-target", f"{tree}/link")
        self.path = common.mkxfs(t.path("xfs"), tree, 300 * MIB)
        with open(self.path, "rb") as file:
            self.data = mmap.mmap(file.fileno(), 0, prot=mmap.PROT_READ)
            ranges = list(disks.data_ranges(file.fileno()))
        self.inodes, self.root = {}, struct.unpack_from(">Q", self.data, 56)[0]
        for at in (at for start, end in ranges for at in range(start - start % 512, end, 512)):
            if self.data[at:at + 2] == b"IN" and self.data[at + 4] == 3:
                self.inodes[struct.unpack_from(">Q", self.data, at + 152)[0]] = at

    def of(self, kind, form):
        """An inode of a kind (the top of its mode) whose content is kept in that form, and has content."""
        return next(at for number, at in self.inodes.items() if number > self.root + 2 and self.data[at + 5] == form
                    and struct.unpack_from(">H", self.data, at + 2)[0] >> 12 == kind
                    and struct.unpack_from(">Q", self.data, at + 56)[0])


def record(first, start, count):
    return struct.pack(">QQ", first << 9 | start >> 43, (start << 21 & (1 << 64) - 1) | count)


def test_xfs(t):
    xfs = Xfs(t)
    root, file, link, folder = xfs.inodes[xfs.root], xfs.of(8, 2), xfs.of(10, 1), xfs.of(4, 2)
    block = xfs.data.find(b"XDB3")
    tree = struct.pack(">HH", 1, 1) + bytes(8)  # level, count, the first key
    middle = 176 + 4 + (512 - 176 - 4) // 16 * 8  # of the fork: where the tree's places begin, with a fork to the end
    alone = [(file + 82, b"\0")]  # no attributes
    rows = [
        ("an inode past the end", [(56, struct.pack(">Q", 1 << 40))], "there is no inode"),
        ("no magic number", [(root, b"XX")], "has no magic number"),
        ("no room", [(file + 82, b"\xff")], "no room for its content"),
        ("on another device", [(file + 90, b"\0\1")], "realtime device"),
        ("a long link", [(link + 56, struct.pack(">Q", 1000))], "longer than it may be"),
        ("a feature", [(216, b"\x40\0\0\0")], "is not read here"),
        ("inodes of a block that cannot be", [(123, b"\x43")], "contradicts itself"),
        ("a super block", [(84, bytes(4))], "contradicts itself|no file system"),
        ("a root that is a file", [(root + 2, b"\x81\xa4")], "root of XFS is no folder"),
        ("a root without names", [(root + 176, b"\xff")], "longer than it may be|past its end"),
        ("a count of hashes", [(block + 4088, b"\xff\xff\xff\xff")], "hashes"),
        ("a block that is none", [(block, b"XXXX")], "no magic number"),
        ("a gap", [(block + 64, b"\xff\xff\0\7")], "a gap of 7 bytes"),
        ("an entry without a name", [(block + 64 + 8, b"\0")], "past its end"),
        ("half a block", [(192, b"\1")], "half of a folder's block|no magic|hashes|past"),
        ("an extent past the end", [(file + 176, record(0, 1 << 40, 5))], "past the end of the file system"),
        ("more extents than room", [(file + 76, struct.pack(">I", 1000))], "more extents than room"),
        ("no extents", [(file + 5, b"\1"), (file + 56, struct.pack(">Q", 100000))], "has no extents|longer"),
        ("a tree without room", [(file + 5, b"\3"), (file + 82, b"\1")], "no room for its (extent tree|content)"),
        ("a tree of no levels", [*alone, (file + 5, b"\3"), (file + 176, bytes(4))], "makes no sense"),
        ("a tree past the end", [*alone, (file + 5, b"\3"), (file + 176, tree), (file + middle, b"\xff" * 8)], "past the end"),
        ("a tree without blocks", [*alone, (file + 5, b"\3"), (file + 176, tree), (file + middle, bytes(8))], "makes no sense"),
        ("an empty block of a tree", [*alone, (file + 5, b"\3"), (file + 176, struct.pack(">HH", 2, 1) + bytes(8)),
                                      (file + middle, struct.pack(">Q", 1000)), (1000 * 4096, b"BMA3\0\1\0\0")], "is empty"),
        ("a folder of 2 GiB", [(folder + 76, struct.pack(">I", 1)), (folder + 176, record(0, block // 4096, 1 << 19)),
                               (folder + 56, struct.pack(">Q", 1 << 31))], "more than [0-9]+ MiB|no magic number|past"),
    ]
    for name, changes, pattern in rows:
        with t.sub(name):
            says(copied_out(t, spoilt(t, xfs.path, *changes)), pattern)


# ---- NTFS -------------------------------------------------------------------------------------------


def test_ntfs(t):
    harness.need("mkntfs", "ntfscp")
    image = ntfs.make(t.path("ntfs"), 8 << 20)
    common.tool("ntfscp", "-f", image, common.put(t.tmp, "data", b"0123456789" * 10000), "data")
    mft = ntfs.mft_at(image)
    with open(image, "rb") as file:
        data = file.read()
    node = next(at for at in range(0, len(data), 512) if data[at:at + 4] == b"INDX" and "data".encode("utf-16-le") in data[at:at + 4096])
    first = node + 24 + struct.unpack_from("<I", data, node + 24)[0]

    def change(number, act):
        """The pokes that make a record what act makes of it."""
        with open(image, "rb") as file:
            file.seek(mft + number * 1024)
            record = unfixed(bytearray(file.read(1024)))
        act(record)
        return [(mft + number * 1024, bytes(fixed(record)))]

    def put(kind, at, data):
        def act(record):
            place = ntfs.attribute(record, kind) + at
            record[place:place + len(data)] = data
        return act

    def value(kind, at, data):
        def act(record):
            place = ntfs.attribute(record, kind)
            place += struct.unpack_from("<H", record, place + 20)[0] + at
            record[place:place + len(data)] = data
        return act

    def words(at, data):
        def act(record):
            record[at:at + len(data)] = data
        return act
    rows = [
        ("a record that was another", change(64, words(16, b"\x99\x99")), "earlier"),
        ("no data", change(64, put(0x80, 16, b"\5")), "has no data"),
        ("encrypted", change(64, put(0x80, 13, b"\x40")), "encrypted"),
        ("an MFT past the end", [(48, struct.pack("<Q", 1 << 40))], "the MFT lies at cluster"),
        ("an attribute of one byte", change(64, put(0x30, 4, b"\1\0\0\0")), "an attribute of 1 bytes"),
        ("a list of runs that is cut off", change(64, put(0x80, 64, b"\x88")), "list of runs is cut off"),
        ("clusters of 3 sectors", [(13, b"\3")], "clusters of|no file system"),
        ("a root that is a file", change(5, words(22, b"\1\0")), "root of NTFS is no folder"),
        ("a table of capitals", change(10, put(0x80, 48, struct.pack("<Q", 1000))), "table of capitals"),
        ("an entry past the end of its node", [(first + 10, b"\xff\xff")], "past its end"),
        ("a node with other check numbers", [(node + 510, b"\x99\x99")], "check numbers do not fit"),
        ("a node past the end", [(first + 12, b"\1"), (first + struct.unpack_from("<H", data, first + 8)[0] - 8, b"\xff" * 8)],
         "points past its end|has a loop|past its end"),
        ("a node that is too long", change(5, value(0x90, 16 + 4, b"\xff\xff\xff\0")), "longer than it may be"),
        ("an entry of no length", change(5, value(0x90, 32 + 8, b"\1\0")), "impossible length"),
        ("no root", change(5, put(0x90, 16, b"\4\0\0\0")), "has no root|past its end"),
        ("an attribute past the end", change(64, put(0x30, 16, b"\xff\xff\0\0")), "reaches past its end"),
        ("units of 2^9 clusters", change(64, put(0x80, 34, b"\x09")), "units of"),
        ("the first record", [(mft + 510, b"\x99\x99")], "first MFT record"),
        ("an MFT without a place", change(0, put(0x80, 0, b"\x70")), "does not say where it lies|attribute"),
    ]
    for name, changes, pattern in rows:
        with t.sub(name):
            path = spoilt(t, image, *changes)
            with open(t.path("both"), "w", encoding="utf-8") as said:  # by whoever gets there
                for command in ("cat", f"{path}:/data"), ("cat", f"{path}:/DATA"), ("cp", f"{path}:/", t.path("out")):
                    result = vmimg(*command)
                    process.check_bars(result)
                    said.write(result.errors)
            shutil.rmtree(t.path("out"), ignore_errors=True)
            with open(t.path("both"), encoding="utf-8") as said:
                text = said.read()
            check(re.search(pattern, text), f"nothing says {pattern!r}: {text}")


# ---- btrfs -------------------------------------------------------------------------------------------

INODE, DIR_ITEM, DIR_INDEX, EXTENT_DATA, CHUNK = 1, 84, 96, 108, 228
SUPER = 64 << 10


class Btrfs:
    """The items of the leaves of an image; what is changed is summed anew."""

    def __init__(self, t):
        tree = t.path("btrfs-tree")
        common.put(tree, "long", os.urandom(100000))
        common.put(tree, "short", "x" * 100)
        self.path = common.mkbtrfs(t.path("btrfs"), tree, 120 * MIB, "-m", "single", "-n", "4096", "-s", "4096")
        with open(self.path, "rb") as file:
            self.data = file.read()
        fsid = self.data[SUPER + 32:SUPER + 48]
        newest, self.items = {}, {}
        for at in range(MIB, len(self.data), 4096):
            if self.data[at + 32:at + 48] == fsid and self.data[at + 100] == 0:
                generation, tree_id = struct.unpack_from("<QQ", self.data, at + 80)
                first = self.data[at + 101:at + 118]
                if newest.get((tree_id, first), (0, 0))[0] <= generation:
                    newest[tree_id, first] = (generation, at)
        for (tree_id, _), (_, at) in newest.items():
            for i in range(struct.unpack_from("<I", self.data, at + 96)[0]):
                item = at + 101 + 25 * i
                number, kind, _, where, size = struct.unpack_from("<QBQII", self.data, item)
                self.items.setdefault((tree_id, kind), []).append((number, at, item, at + 101 + where, size))

    def item(self, tree_id, kind, fits=lambda number, size: True):
        """(its leaf, the item, its data)"""
        return next(found[1:4] for found in self.items[tree_id, kind] if fits(found[0], found[4]))

    def change(self, block, at, data):
        """Pokes of a leaf or the super block, with the sum."""
        raw = bytearray(self.data[block:block + 4096])
        raw[at - block:at - block + len(data)] = data
        raw[0:4] = struct.pack("<I", crc32c(bytes(raw[32:])))
        return [(block, bytes(raw))]


def test_btrfs(t):
    disk = Btrfs(t)
    leaf, item, data = disk.item(5, EXTENT_DATA, lambda number, size: size == 53)
    small, small_item, _ = disk.item(5, EXTENT_DATA, lambda number, size: size != 53)
    index, _, name = disk.item(5, DIR_INDEX)
    root, _, inode = disk.item(5, INODE, lambda number, size: number == 256)
    chunks, chunk = next((at, data) for _, at, _, data, _ in disk.items[3, CHUNK] if disk.data[data + 24] & 1)  # of data
    lowest = min((c for c in disk.items[3, CHUNK] if not disk.data[c[3] + 24] & 2), key=lambda c: disk.data[c[2] + 9:c[2] + 17][::-1])
    lookup, _, hashed = disk.item(5, DIR_ITEM)
    rows = [
        ("packed in an unknown way", disk.change(leaf, data + 16, b"\x09"), "packed in a way"),
        ("encrypted", disk.change(leaf, data + 17, b"\1"), "is encrypted"),
        ("a short extent", disk.change(leaf, item + 21, b"\x0a\0\0\0"), "makes no sense"),
        ("nothing inside", disk.change(small, small_item + 21, b"\x15\0\0\0"), "makes no sense"),
        ("a kind of its own", disk.change(leaf, data + 20, b"\7"), "makes no sense"),
        ("an extent without end", disk.change(leaf, data + 45, b"\xff" * 8), "makes no sense"),
        ("a packed extent of nothing", disk.change(leaf, data + 16, b"\1" + disk.data[data + 17:data + 29] + bytes(8)),
         "a packed extent of btrfs has"),
        ("a name past its item", disk.change(index, name + 27, b"\xff\xff"), "folder"),
        ("a feature", disk.change(SUPER, SUPER + 188, b"\xff" * 8), "is not read here"),
        ("a sum", [(SUPER, b"\x99" * 4)], "wrong checksum"),
        ("a root that is a file", disk.change(root, inode + 52, struct.pack("<I", 0o100644)), "is no folder"),
        ("a chunk on another device", disk.change(chunks, chunk + 48, struct.pack("<Q", 9)), "is on another device"),
        ("a chunk past the end", disk.change(chunks, chunk + 56, struct.pack("<Q", (1 << 64) - 4096)), "past the end"),
        ("a tree of nine levels", disk.change(SUPER, SUPER + 198, b"\x09"), "is too far up"),
        ("a chunk of nothing", disk.change(chunks, chunk, bytes(8)), "the chunk of btrfs at 0x[0-9a-f]+ makes no sense"),
        ("chunks that overlap", disk.change(lowest[1], lowest[3], struct.pack("<Q", 1 << 60)), "chunks of btrfs overlap"),
        ("a node elsewhere", disk.change(leaf, leaf + 48, struct.pack("<Q", 7)), "is another one"),
        ("an item past its leaf", disk.change(leaf, item + 17, b"\xff\xff\xff\0"), "item past its end|makes no sense"),
    ]
    for number, changes, pattern in rows:
        with t.sub(number):
            says(copied_out(t, spoilt(t, disk.path, *changes)), pattern)
    with t.sub("a name past its item, looked up"):
        says(vmimg("cat", f"{spoilt(t, disk.path, *disk.change(lookup, hashed + 27, bytes([255, 255])))}:/long"),
             "folder|no such")


if __name__ == "__main__":
    harness.main()
