# SPDX-License-Identifier: Apache-2.0
"""
What the readers of partition tables, volumes and file systems refuse or warn of, one input for each: it is said, with
the right exit code, and the bars hold.
"""

import os
import re
import shutil
import struct
import sys

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "iso"))
sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "cli"))
import common
import exfat
import gate
import images
import lvm
from lib import harness, process
from lib.harness import check
from lib.process import vmimg, vmimg_ok

MIB, SECTOR = 1 << 20, 2048


def says(result, pattern, code=None):
    process.check_bars(result)
    check(code is None or result.code == code, f"want {code}: {result}")
    check(re.search(pattern, result.text + result.errors), f"nothing says {pattern!r}: {result} {result.text[-300:]!r}")
    if result.code:
        process.check_one_line(result)


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
    with t.sub("a partition that ends before it begins"):
        says(vmimg("inspect", gpt(t, wrong)), "make no sense", 0)
    with t.sub("copies that differ"):
        says(vmimg("inspect", gpt(t, other)), "the two copies of the GPT differ", 0)
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
        ("blocks of 4 KiB", [(16 * SECTOR + 128, struct.pack("<H", 4096))], "logical blocks of"),
    ]
    for name, changes, pattern in rows:
        with t.sub(name):
            says(copied_out(t, spoilt(t, image, *changes)), pattern)
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
    with t.sub("a file longer than the volume"):
        first = struct.unpack_from("<H", data, name + 26)[0]
        reserved = struct.unpack_from("<H", data, 14)[0] * 512
        says(copied_out(t, spoilt(t, image, (name + 28, b"\xff\xff\xff\x7f"),
                                  (reserved + 2 * first, struct.pack("<H", first)))), "longer than the volume|limit|chain|max-output")


if __name__ == "__main__":
    harness.main()
