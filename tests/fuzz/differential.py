# SPDX-License-Identifier: Apache-2.0
"""
Damaged variations of small images given to qemu-img too: what both accept must have the same content,
or one of the reasons in EXPLAINED. `differential.py MINUTES` goes on with new ones for so long; as a test,
the first few of each format are the same on every run. Words on the command line choose formats.
"""

import os
import random
import struct
import sys
import time

import corpus
from lib import disks, env, harness, process
from lib.harness import Failure, check

FEW = 25  # of each format by default
FORMATS = {"qcow2": "qcow2", "vmdk": "vmdk", "vdi": "vdi", "vhdx": "vhdx", "vhd": "vpc"}
LARGEST = 64 << 20  # bytes of a disk that is compared


def size_by_qemu(path, fmt):
    result = process.run("qemu-img", "info", "--output=json", "-f", FORMATS[fmt], path, timeout=20)
    return result.json()["virtual-size"] if result.code == 0 else None


def sizes_differ(sizes, same_start, *_):
    """QEMU takes a VHD's size from its geometry and makes others whole sectors; what both have is equal."""
    return sizes[0] != sizes[1] and same_start


def sector_bitmap(_, __, fmt, path):
    """QEMU does not look at the bitmaps of a VHD's sectors: the same with all their bits set is equal."""
    if fmt != "vhd":
        return False
    with open(path, "r+b") as file:
        head = file.read(1536)
        entries, block = struct.unpack_from(">II", head, 512 + 28)
        file.seek(struct.unpack_from(">Q", head, 512 + 16)[0])
        table = file.read(4 * min(entries, 1024))
        for entry in struct.unpack(f">{len(table) // 4}I", table):
            if entry != 0xffffffff and entry * 512 < os.path.getsize(path):
                file.seek(entry * 512)
                file.write(b"\xff" * min(512, block // 4096))
    done = process.vmimg("digest", "--json", "-q", "-f", fmt, path)
    return done.code == 0 and done.json()["sha256"] == disks.sha256(path + ".raw")


def redundant_directory(_, __, fmt, path):
    """Where a VMDK's grain directory is damaged, QEMU does not look at the redundant one."""
    return fmt == "vmdk" and "the redundant one at" in process.vmimg_ok("info", "--json", "-f", fmt, path).text


EXPLAINED = (sizes_differ, sector_bitmap, redundant_directory)


def make(fmt, folder):
    raw = disks.pattern(f"{folder}/disk.raw", 2 << 20, seed=5, data=200 << 10)
    path = f"{folder}/seed.{fmt}"
    process.vmimg_ok("convert", "-O", fmt, raw, path)
    with open(path, "rb") as file:
        return file.read()


def compare(path, fmt):
    """None: one of the two does not accept it. Else how they agree: "equal", or a reason's name."""
    done = process.vmimg("digest", "--json", "-q", "-f", fmt, "--untrusted", "--max-virtual-size", str(LARGEST), path, timeout=20)
    check(done.code >= 0, f"ended by signal {-done.code}: {done}")
    if done.code:
        return None
    size = size_by_qemu(path, fmt)
    if size is None or size > LARGEST:
        return None
    try:
        out = process.run("qemu-img", "convert", "-f", FORMATS[fmt], "-O", "raw", path, path + ".raw", timeout=20)
    except Failure:  # qemu-img runs on and on
        return None
    if out.code:
        return None
    ours = done.json()
    if disks.sha256(path + ".raw") == ours["sha256"]:
        return "equal"
    sizes = process.vmimg_ok("info", "--json", "-f", fmt, path).json()["virtual-size"], size
    process.vmimg_ok("convert", "-q", "-f", fmt, "-O", "raw", path, path + ".ours")
    same_start = not process.run("cmp", "-s", "-n", min(sizes), path + ".raw", path + ".ours").code
    os.unlink(path + ".ours")
    for reason in EXPLAINED:
        if reason(sizes, same_start, fmt, path):
            return reason.__name__
    raise Failure(f"{fmt}: sizes {sizes}, contents differ: {path}")


def one(data, fmt, number, folder):
    path = f"{folder}/{fmt}-{number}"
    with open(path, "wb") as file:
        file.write(corpus.vary(data, random.Random(f"{fmt}-{number}")))
    try:
        how = compare(path, fmt)
    except Failure:
        if "VMIMG_DIFFERENTIAL_KEEP" in os.environ:
            disks.copy(path, os.path.join(os.environ["VMIMG_DIFFERENTIAL_KEEP"], os.path.basename(path)))
        raise
    for end in "", ".raw":
        if os.path.exists(path + end):
            os.unlink(path + end)
    return how


def test_differential(t, until=None, formats=()):
    harness.need("qemu-img")
    for fmt in formats or FORMATS:
        if fmt not in process.formats(writable=True):
            continue
        with t.sub(fmt), t.folder() as folder:
            data, found, failures, number = make(fmt, folder), {}, [], 0
            stop = time.monotonic() + until if until else None
            while time.monotonic() < stop if stop else number < FEW:
                try:
                    how = one(data, fmt, number, folder)
                except Failure as failure:
                    failures.append(f"{number}: {failure}")
                    how = "different"
                found[how or "not accepted by both"] = found.get(how or "not accepted by both", 0) + 1
                number += 1
            print(f"# differential {fmt}: " + ", ".join(f"{n} {how}" for how, n in sorted(found.items())), flush=True)
            check(not failures, "\n".join(failures))
            check(found.get("equal"), "none was accepted by both")


if __name__ == "__main__":
    if sys.argv[1:2] and sys.argv[1].isdigit():
        NAMES = sys.argv[2:] or list(FORMATS)
        SHARE = int(sys.argv[1]) * 60 / len(NAMES)
        sys.exit(harness.run([("differential", lambda t: test_differential(t, SHARE, NAMES))]))
    harness.main()
