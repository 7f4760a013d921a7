# SPDX-License-Identifier: Apache-2.0
"""Partition tables that follow the size of a disk, judged by sgdisk and sfdisk; a kill at every write."""

import json
import os
import shutil
import struct
import uuid
import zlib

from lib import disks, env, harness
from lib.harness import check, equal, skip
from lib.process import run, vmimg, vmimg_ok

MIB = 1 << 20
SIZE = 24 * MIB
GPT = b"label: gpt\nstart=2048,size=8192,name=one\nstart=20480,size=8192,name=two\n"
MBR = b"label: dos\nstart=2048,size=8192,type=83\nstart=20480,size=8192,type=83,bootable\n"


def make(folder, table, fmt="raw"):
    raw = disks.pattern(f"{folder}/disk.raw", SIZE, seed=3, data=2 * MIB)
    with open(raw, "r+b") as file:
        file.write(bytes(MIB))
        file.seek(SIZE - MIB)
        file.write(bytes(MIB))
    harness.need("sfdisk", "sgdisk")
    check(run(env.find("sfdisk"), "-q", raw, stdin=table).code == 0, "sfdisk")
    image = f"{folder}/disk.{fmt}"
    if fmt != "raw":
        vmimg_ok("convert", "-O", fmt, raw, image)
    return image


def resized(*args):
    result = vmimg("resize", *args)
    if result.code == 4 and "takes no new content" in result.errors:
        skip(result.errors.strip())
    check(result.code == 0, str(result))


def table(image, folder):
    """The partitions by sfdisk, after sgdisk has found nothing wrong."""
    raw = f"{folder}/check.raw"
    vmimg_ok("convert", "--force", "-O", "raw", image, raw)
    listed = json.loads(run(env.find("sfdisk"), "-J", raw).text)["partitiontable"]
    if listed["label"] == "gpt":
        text = run(env.find("sgdisk"), "-v", raw).text
        check("No problems found" in text, text)
        with open(raw, "rb") as file:
            guard = file.read(512)
        equal(int.from_bytes(guard[458:462], "little"), os.path.getsize(raw) // 512 - 1, "the protective MBR")
    with open(raw, "rb") as file:
        file.seek(MIB)
        content = file.read(SIZE - 2 * MIB)
    os.unlink(raw)
    return [(p["start"], p["size"]) for p in listed["partitions"]], content


def test_formats(t):
    for fmt in ("raw", "qcow2", "vhd", "vdi", "vhdx", "vmdk"):
        with t.sub(fmt), t.folder() as folder:
            image = make(folder, GPT, fmt)
            content = table(image, folder)[1]
            resized("--fix-gpt", image, "40M")
            equal(table(image, folder), ([(2048, 8192), (20480, 8192)], content), "grown")
            resized("--grow-part=2", image, "50M")
            equal(table(image, folder), ([(2048, 8192), (20480, (50 << 11) - 33 - 20480)], content), "to the end")
            resized("--grow-part=1", image, "+0")
            equal(table(image, folder)[0][0], (2048, 18432), "to the next one")


def test_shrink(t):
    for fmt in ("raw", "qcow2"):
        with t.sub(fmt), t.folder() as folder:
            image = make(folder, GPT, fmt)
            content = table(image, folder)[1]
            for words in (["--shrink"], ["--shrink", "--fix-gpt"], ["--shrink", "--shrink", "--fix-gpt"]):
                result = vmimg("resize", *words, image, "13M")
                equal(result.code, 5, str(words))
                check("partition 2" in result.errors, result.errors)
            equal(table(image, folder)[1], content, "what was refused")
            resized("--shrink", "--fix-gpt", image, "16M")
            equal(table(image, folder)[0], [(2048, 8192), (20480, 8192)], "partitions")
            resized("--shrink", "--shrink", image, "13M")


def test_mbr(t):
    with t.folder() as folder:
        image = make(folder, MBR)
        content = table(image, folder)[1]
        resized("--grow-part=2", image, "40M")
        equal(table(image, folder), ([(2048, 8192), (20480, (40 << 11) - 20480)], content), "to the end")
        resized("--grow-part=1", image, "+0")
        equal(table(image, folder)[0][0], (2048, 18432), "to the next one")
        for number, code in (3, 2), (5, 4):
            equal(vmimg("resize", f"--grow-part={number}", image, "+0").code, code, f"partition {number}")
        vmimg_ok("create", "-f", "raw", f"{folder}/blank.raw", "1M")
        equal(vmimg("resize", "--fix-gpt", f"{folder}/blank.raw", "+0").code, 2, "no table")


def gpt_of_4096(path):
    """A disk of 4096 sectors of 4096 bytes, which no tool of the system writes into a file."""
    name = "one".encode("utf-16-le").ljust(72, b"\0")
    kind = uuid.UUID("0fc63daf-8483-4772-8e79-3d69d8477de4").bytes_le
    entries = (kind + bytes([1] * 16) + struct.pack("<QQQ", 256, 1279, 0) + name).ljust(16384, b"\0")

    def header(at, other, table):
        raw = struct.pack("<8sIIIIQQQQ16sQIII", b"EFI PART", 0x10000, 92, 0, 0, at, other, 6, 4090, bytes([2] * 16), table,
                          128, 128, zlib.crc32(entries))
        return raw[:16] + struct.pack("<I", zlib.crc32(raw)) + raw[20:]

    with open(path, "wb") as file:
        file.truncate(4096 * 4096)
        file.write(bytes(446) + struct.pack("<4B4BII", 0, 0, 2, 0, 0xee, 255, 255, 255, 1, 4095) + bytes(48) + b"\x55\xaa")
        for at, data in ((1, header(1, 4095, 2)), (2, entries), (256, b"content"), (4091, entries), (4095, header(4095, 1, 4091))):
            file.seek(at * 4096)
            file.write(data)
    return path


def test_long_sectors(t):
    """A raw disk does not say how long its sectors are; its table does."""
    image = gpt_of_4096(t.path("disk.raw"))
    resized("--fix-gpt", image, "20M")
    resized("--grow-part=1", image, "24M")
    report = vmimg_ok("inspect", "--json", image).json()
    equal(report["partition-table"]["sector-size"], 4096, "sectors")
    equal([(p["start"], p["length"]) for p in report["partitions"]], [(MIB, 24 * MIB - MIB - 5 * 4096)], "partition")
    equal(report["partition-table"]["warnings"], [], "what is odd")
    with open(image, "rb") as file:
        data = file.read()
    equal(struct.unpack_from("<I", data, 458), (24 * MIB // 4096 - 1,), "the protective MBR")
    for at, other in ((4096, len(data) - 4096), (len(data) - 4096, 4096)):
        head = data[at:at + 92]
        equal(head[:8], b"EFI PART", f"copy at {at}")
        equal(zlib.crc32(head[:16] + bytes(4) + head[20:]), struct.unpack_from("<I", head, 16)[0], "checksum")
        equal(struct.unpack_from("<QQ", head, 24), (at // 4096, other // 4096), "places")
    equal(data[MIB:MIB + 7], b"content", "content")
    result = vmimg("resize", "--shrink", image, "2M")
    check(result.code == 5 and "partition 1" in result.errors, str(result))


def test_found_before(t):
    """What keeps the table from being changed keeps the disk from being resized."""
    for fmt in ("raw", "qcow2", "vhd"):
        with t.sub(fmt), t.folder() as folder:
            image = make(folder, GPT, fmt)
            before = disks.sha256(image)
            equal(vmimg("resize", "--grow-part=7", image, "40M").code, 2, "no such partition")
            equal(disks.sha256(image), before, "the image")
            if fmt == "qcow2":
                vmimg_ok("convert", "-q", "--object", "secret,id=s,data=x", "-o",
                         "encrypt.format=luks,encrypt.key-secret=s,encrypt.iter-time=10", image, f"{folder}/x.qcow2")
                before = disks.sha256(f"{folder}/x.qcow2")
                equal(vmimg("resize", "--grow-part=2", f"{folder}/x.qcow2", "40M").code, 5, "no secret")
                equal(disks.sha256(f"{folder}/x.qcow2"), before, "the encrypted image")


def test_killed(t):
    """At any moment one copy of the table is sound, and the partitions are the old ones or the new."""
    harness.need("strace", "sgdisk")
    old, new = [(2048, 8192), (20480, 8192)], [(2048, 8192), (20480, (40 << 11) - 33 - 20480)]
    for fmt in ("raw", "qcow2"):
        with t.sub(fmt), t.folder() as folder:
            image = make(folder, GPT, fmt)
            for how in ("signal=KILL", "error=ENOSPC"):
                for call in ("pwrite64", "ftruncate", "fallocate", "fsync"):
                    for number in range(1, 200):
                        copy = f"{folder}/copy.{fmt}"
                        shutil.copy(image, copy)
                        result = run("strace", "-f", "-qq", "-o", "/dev/null", "-e", f"trace={call}", "-e",
                                     f"inject={call}:{how}:when={number}", env.VMIMG, "resize", "--grow-part=2", copy, "40M")
                        check(vmimg("check", copy).code in (0, 3, 63), f"{how} at {call} {number}")
                        report = vmimg_ok("inspect", "--json", copy).json()
                        found = [(p["start"] // 512, p["length"] // 512) for p in report["partitions"]]
                        check(found in (old, new), f"{how} at {call} {number}: {found}")
                        if result.code == 0:
                            break
                    check(number < 199, "it never ends")


if __name__ == "__main__":
    harness.main()
