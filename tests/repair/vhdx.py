# SPDX-License-Identifier: Apache-2.0
"""VHDX repaired in place: what a reader made from the specification and qemu-img see then, and what is kept."""

import glob
import hashlib
import os
import struct
import uuid

from lib import harness, process, qemu, vhdx
from lib.harness import check, equal
from lib.process import vmimg
from lib.vhdx import MIB


def digest(data):
    return hashlib.sha256(data).hexdigest()


def repair(path, code, *codes):
    """In place; the fixes' codes must be those. A second time there is nothing to do."""
    report = vmimg("repair", "--json", "-q", "--in-place", path)
    equal(report.code, code, str(report))
    equal([fix["code"] for fix in report.json()["fixed"]], list(codes), "fixes")
    with open(path, "rb") as file:
        data = file.read()
    again = vmimg("repair", "--json", "-q", "--in-place", path)
    equal(again.json()["fixed"], [], "fixes, the second time")
    with open(path, "rb") as file:
        check(file.read() == data, "the second time changed the file")
    check(not glob.glob(path + ".vmimg-undo"), "an undo file was left")
    equal(vmimg("check", path).code, 0, "check")
    return report.json()


def sound(t, path, content, parent=None):
    reader = vhdx.Reader(path)
    equal(digest(reader.content(parent or b"")), digest(content), "the reader")
    if parent is None:
        qemu.img("check", "-q", "-f", "vhdx", path)
        equal(qemu.guest_sha256(path, "vhdx", t.tmp), digest(content), "qemu-img")
        equal(process.guest_sha256(path), digest(content), "vmimg")
    return reader


def poke(path, at, data):
    with open(path, "r+b") as file:
        file.seek(at)
        file.write(data)


def plain(t, blocks=6):
    """An image in which every other block is full, and its content."""
    image, content = vhdx.Image(blocks * MIB), bytearray(blocks * MIB)
    for b in range(0, blocks, 2):
        data = bytes([b + 1]) * MIB
        image.add(b, data)
        content[b * MIB:(b + 1) * MIB] = data
    return image, image.write(t.path("image.vhdx")), content


def test_copies(t):
    """Either copy of the headers and of the region tables, and both kinds at once."""
    for places, codes in (([65536 + 100], ["header"]), ([131072], ["header"]), ([196608 + 8], ["region-table"]),
                          ([262144 + 60000], ["region-table"]), ([65536, 262144], ["header", "region-table"])):
        with t.sub(" ".join(map(hex, places))):
            _, path, content = plain(t)
            before = vhdx.Reader(path)
            for at in places:
                poke(path, at, b"\xff\xff")
            repair(path, 0, *codes)
            after = sound(t, path, content)
            equal(after.head["data_write"], before.head["data_write"], "data write GUID")
            check(after.head["file_write"] != before.head["file_write"], "the same file write GUID")
            check(after.head["sequence"] > before.other_head["sequence"], "sequence number")


def test_log(t):
    """A block that only the log knows is in the file; qemu-img, which opens no such image for reading, reads it then."""
    with t.sub("pages"):
        image, content = vhdx.Image(4 * MIB), bytearray(4 * MIB)
        image.add(2, b"\x55" * MIB)
        content[2 * MIB:3 * MIB] = b"\x55" * MIB
        at, sector = image.bat_sector(0)
        image.bat[image.index(2)] = 0
        image.put_log(0, vhdx.log_entry(7, 0, [(at, sector)], image.end, image.end + 2 * MIB))
        path = image.write(t.path("image.vhdx"))
        repair(path, 0, "log-pending")
        sound(t, path, content)
        equal(os.path.getsize(path), image.end + 2 * MIB, "size")
    with t.sub("zeroes over a BAT of 512 MiB"):
        path = t.path("large.vhdx")
        process.vmimg_ok("create", "-o", "block_size=1M", path, "64T")
        reader_at, size = 3 * MIB, os.path.getsize(path)
        with open(path, "r+b") as file:
            file.truncate(size + MIB)
            for index in 5, 1 << 20, 60 << 20:
                file.seek(reader_at + 8 * index)
                file.write(struct.pack("<Q", size | vhdx.PRESENT))
            file.seek(131072)
            header = bytearray(file.read(4096))
            header[48:64] = vhdx.LOG_ID.bytes_le
            file.seek(131072)
            file.write(vhdx.summed(header))
            file.seek(MIB)
            file.write(vhdx.log_entry(9, 0, [(reader_at, size - reader_at)], size + MIB, size + MIB))
        result = vmimg("repair", "--in-place", "-q", path)
        equal(result.code, 0, str(result))
        check(result.peak < 100 << 20, f"{result.peak} bytes of memory")
        equal([(run["length"], run["data"]) for run in process.vmimg_ok("map", "--json", path).json()], [(64 << 40, False)], "map")
        equal(vmimg("check", path).code, 0, "check")
    with t.sub("torn"):
        image, path, content = plain(t)
        image.put_log(0, vhdx.log_entry(9, 0, [(image.bat_at, 4096)], image.end, image.end)[:-100] + bytes(100))
        image.log[0] = bytes(image.log[0][:50]) + b"\xee" + bytes(image.log[0][51:])
        image.write(path)
        repair(path, 0, "log-torn")
        sound(t, path, content)
    with t.sub("nothing in it"):
        image, path, content = plain(t)
        image.log_id = vhdx.LOG_ID
        image.write(path)
        repair(path, 0, "log-unused")
        sound(t, path, content)


def test_cut_file(t):
    """What is there of the block that is cut stays; blocks behind it are zero."""
    image, _, content = plain(t, 8)
    for keep in 70000, 4096, MIB - 512:
        with t.sub(f"{keep} bytes of a block"):
            path = image.write(t.path("cut.vhdx"))
            os.truncate(path, image.bat[image.index(4)] // MIB * MIB + keep)
            want = bytearray(content)
            keep = keep // 512 * 512
            want[4 * MIB + keep:] = bytes(4 * MIB - keep)
            report = vmimg("repair", "--json", "-q", "-o", t.path("new.vhdx"), "--force", path)
            equal(process.guest_sha256(t.path("new.vhdx")), digest(want), f"into a new one: {report}")
            report = repair(path, 2, "bat-entry-past-end", "bat-entry-past-end")
            sound(t, path, want)
            equal(sum(lost["length"] for lost in report["lost-ranges"]), 2 * MIB - keep, "what is said to be lost")


def test_entries(t):
    image, path, content = plain(t, 8)
    for block, entry, code in ((1, 4, "bat-entry-state"), (2, 1 << 40 | vhdx.PRESENT, "bat-entry-past-end"),
                               (3, MIB | vhdx.PRESENT, "bat-entry-overlap"), (4, vhdx.PARTIAL | image.bat[0], "bat-entry-state"),
                               (5, image.bat[0], "bat-entry-overlap"), (6, vhdx.PRESENT, "bat-entry-in-headers")):
        with t.sub(f"block {block}: {entry:#x}"):
            image.write(path)
            poke(path, image.bat_at + 8 * image.index(block), struct.pack("<Q", entry))
            want = bytearray(content)
            want[block * MIB:(block + 1) * MIB] = bytes(MIB)
            result = vmimg("repair", "--json", "-q", "--in-place", path)
            equal(result.code, 2, str(result))
            check(code in [fix["code"] for fix in result.json()["fixed"]], str(result.json()["fixed"]))
            sound(t, path, want)
            equal(vmimg("check", path).code, 0, "check")


def test_child(t):
    """A bitmap that is lost takes its blocks with it, whole blocks and other chunks stay."""
    parent_image, parent = vhdx.Image(10 * MIB, block=2 * MIB), b"\x99" * (10 * MIB)
    for b in range(5):
        parent_image.add(b, b"\x99" * (2 * MIB))
    parent_image.write(t.path("base.vhdx"))
    child = vhdx.Image(10 * MIB, block=2 * MIB, pairs=[
        ("parent_linkage", "{%s}" % parent_image.data_write), ("relative_path", "base.vhdx")])
    child.add(0, b"\x11" * (2 * MIB))
    child.add(1, b"\x22" * (2 * MIB), vhdx.PARTIAL)
    child.add(3, b"\x33" * (2 * MIB), vhdx.PARTIAL)
    child.add_bitmap(0, bytes(512) + b"\xf0" * 512)
    want = bytearray(parent)
    want[:2 * MIB] = b"\x11" * (2 * MIB)
    for b in 1, 3:
        want[b * 2 * MIB:(b + 1) * 2 * MIB] = bytes(2 * MIB)
    for entry in 1 << 40 | vhdx.PRESENT, MIB | vhdx.PRESENT, 5, 0:
        with t.sub(f"{entry:#x}"):
            path = child.write(t.path("child.vhdx"))
            poke(path, child.bat_at + 8 * child.ratio, struct.pack("<Q", entry))
            result = vmimg("repair", "--json", "-q", "--in-place", path)
            equal(result.code, 2, str(result))
            sound(t, path, want, parent)
            equal(process.guest_sha256(path), digest(want), "vmimg")
            equal(vmimg("check", path).code, 0, "check")


def test_metadata(t):
    """Items that the content does not depend on, wrong or gone, with others behind them."""
    image, path, content = plain(t)
    table = image.metadata_at
    for name, pokes, codes in (
            ("sector size", [(table + 65536 + 8 + 8 + 16 + 8, struct.pack("<I", 3))], ["physical-sector-size"]),
            ("no disk id", [(table + 32 + 64, b"\xee" * 16 + bytes(4) + bytes(4) + struct.pack("<I", 0))], ["disk-id"]),
            ("neither", [(table + 32 + 64, b"\xee" * 28 + bytes(4)), (table + 32 + 64 + 16, struct.pack("<III", 65536 + 512, 16, 0)),
                         (table + 10, b"\x04")], ["physical-sector-size", "disk-id"])):
        with t.sub(name):
            image.write(path)
            for at, data in pokes:
                poke(path, at, data)
            equal(vmimg("convert", "-O", "raw", path, t.path("o.raw")).code, 4, "unrepaired")
            equal(vmimg("resize", path, "20M").code, 4, "a change, unrepaired")
            repair(path, 0, *codes)
            reader = vhdx.Reader(path)
            equal(digest(reader.content()), digest(content), "content")
            check(reader.disk_id != uuid.UUID(int=0) and reader.physical == 4096, "metadata")
            equal(process.guest_sha256(path), digest(content), "vmimg")
            if name == "sector size":
                sound(t, path, content)


if __name__ == "__main__":
    harness.main()
