# SPDX-License-Identifier: Apache-2.0
"""VDI: what vmimg writes read by others, chains found by UUID, old headers, extra data before blocks."""

import os
import struct
import subprocess

from lib import disks, env, harness, process, qemu
from lib.harness import check, equal, need
from lib.process import vmimg, vmimg_ok

MIB = 1 << 20
OPTIONS = ("subformat=dynamic", "static=on", "block_size=64k", "block_size=4k,static=on",
           "block_size=8M")
BY_PEERS = ("subformat=dynamic", "static=on")  # the block size that others know
SIGNATURE = b"<<< test >>>\n".ljust(64, b"\0") + struct.pack("<I", 0xbeda107f)


def by_7zz(path, folder):
    subprocess.run(["7zz", "x", "-y", "-bd", "-tVDI", f"-o{folder}/7z", path], check=True,
                   stdout=subprocess.DEVNULL)
    name, = os.listdir(f"{folder}/7z")
    return disks.sha256(f"{folder}/7z/{name}")


def test_readers(t):
    for size in (65536, 8 * MIB + 512, 33 * MIB + 1024):
        raw = disks.pattern(t.path("a.raw"), size, seed=size)
        want = disks.sha256(raw)
        for options in OPTIONS:
            with t.sub(f"{size} bytes, {options}"), t.folder() as folder:
                image = f"{folder}/a.vdi"
                vmimg_ok("convert", "-o", options, raw, image)
                equal(process.guest_sha256(image), want, "vmimg")
                equal(vmimg("check", image).code, 0, "check")
                if options in BY_PEERS:
                    equal(qemu.guest_sha256(image, "vdi", folder), want, "qemu-img")
                    qemu.img("check", "-q", "-f", "vdi", image)
                if options in BY_PEERS and env.have("7zz"):
                    equal(by_7zz(image, folder), want, "7zz")


def block_data(number, size):
    return struct.pack("<QQ", number + 1, 0x5a5a5a5a) * (size // 16)


def write_v1(path, entries, block, extra, header=400, **fields):
    """A version 1.1 image by hand: entries of the map; the blocks follow in the order of numbers."""
    used = max((e for e in entries if e < 0xfffffffe), default=-1) + 1
    head = struct.pack("<IIII256sII", 0x10001, header, fields.get("type", 1), 0, b"",
                       512, 4096)
    head += struct.pack("<IIIIIQIIII", 0, 0, 0, 512, 0, block * len(entries), block, extra,
                        len(entries), used)
    head += fields.get("uuid", b"\x01" * 16) + fields.get("modified", b"\x02" * 16)
    head += fields.get("link", bytes(16)) + fields.get("parent_modified", bytes(16))
    with open(path, "wb") as file:
        file.write((SIGNATURE + head).ljust(512, b"\0"))
        file.write(struct.pack(f"<{len(entries)}I", *entries).ljust(4096 - 512, b"\0"))
        for number in range(used):
            file.write(b"\xee" * extra + block_data(number, block))


def guest_bytes(path, t, *options):
    vmimg_ok("convert", "--force", *options, "-O", "raw", path, t.path("out.raw"))
    with open(t.path("out.raw"), "rb") as file:
        return file.read()


def test_blocks(t):
    """Any block size and order, extra data before blocks, absent and discarded blocks, old headers."""
    entries = [2, 0xffffffff, 0, 1, 0xfffffffe]
    for block, extra, header in ((MIB, 0, 400), (MIB, 512, 400), (65536, 0, 384), (1536, 512, 400),
                                 (4096, 4096, 384), (3 * MIB, 0, 1000)):
        with t.sub(f"block {block}, extra {extra}, header {header}"):
            write_v1(t.path("b.vdi"), entries, block, extra, min(header, 400))
            want = b"".join(bytes(block) if e >= 0xfffffffe else block_data(e, block)
                            for e in entries)
            check(guest_bytes(t.path("b.vdi"), t) == want, "content")
            equal(vmimg("check", t.path("b.vdi")).code, 0, "check")


def test_version_0(t):
    entries = [0xffffffff, 1, 0]
    head = struct.pack("<III256sIIIIQIII", 1, 1, 0, b"old", 0, 0, 0, 512, 3 * MIB, MIB, 3, 2)
    with open(t.path("old.vdi"), "wb") as file:
        file.write(SIGNATURE + head + b"\x07" * 16 + b"\x08" * 16 + bytes(16))
        file.write(struct.pack("<3I", *entries) + block_data(0, MIB) + block_data(1, MIB))
    want = bytes(MIB) + block_data(1, MIB) + block_data(0, MIB)
    check(guest_bytes(t.path("old.vdi"), t) == want, "content")
    info = vmimg_ok("info", "--json", t.path("old.vdi")).json()
    equal(info["format-specific"]["data"]["version"], "0.1", "version")


def test_child_by_hand(t):
    """Absent blocks are the parent's, discarded ones are zero whatever it has."""
    write_v1(t.path("base.vdi"), [0, 1, 2, 3], MIB, 0, uuid=b"\x0a" * 16, modified=b"\x0b" * 16)
    for kind in (3, 4):
        with t.sub(f"type {kind}"):
            write_v1(t.path("child.vdi"), [0xffffffff, 0, 0xfffffffe, 0xffffffff], MIB, 0,
                     type=kind, link=b"\x0a" * 16, parent_modified=b"\x0b" * 16)
            want = (block_data(0, MIB) + block_data(0, MIB) + bytes(MIB) + block_data(3, MIB))
            check(guest_bytes(t.path("child.vdi"), t) == want, "content")


def overlay(t, base, changed):
    """A qcow2 that has what differs between two raw disks."""
    qemu.img("create", "-q", "-f", "qcow2", "-b", changed, "-F", "raw", "overlay.qcow2", cwd=t.tmp)
    qemu.img("rebase", "-f", "qcow2", "-b", base, "-F", "raw", "overlay.qcow2", cwd=t.tmp)
    return t.path("overlay.qcow2")


def test_differencing(t):
    raw = disks.pattern(t.path("a.raw"), 20 * MIB, seed=5, data=8 * MIB)
    changed = disks.copy(raw, t.path("b.raw"))
    with open(changed, "r+b") as file:
        for at, data in ((0, bytes(3000)), (5 * MIB, bytes(3 * MIB)), (9 * MIB + 512, b"\x11" * 70000)):
            file.seek(at)
            file.write(data)
    base, child = t.path("base.vdi"), t.path("child.vdi")
    vmimg_ok("convert", raw, base)
    vmimg_ok("convert", "-B", "base.vdi", "-F", "vdi", overlay(t, "a.raw", "b.raw"), child)
    vmimg_ok("create", "-b", "child.vdi", "-F", "vdi", t.path("top.vdi"))
    for name in ("child.vdi", "top.vdi"):
        equal(process.guest_sha256(t.path(name)), disks.sha256(changed), name)
        equal(vmimg("check", t.path(name)).code, 0, "check")
    # As VirtualBox lays them out: snapshots in a folder of their own.
    os.mkdir(t.path("Snapshots"))
    os.rename(child, t.path("Snapshots/child.vdi"))
    away = t.path("Snapshots/child.vdi")
    equal(vmimg("convert", "-O", "raw", away, t.path("no.raw")).code, 5, "not beside")
    check(not os.path.exists(t.path("no.raw")), "zeroes for a parent")
    vmimg_ok("convert", "--refs=any", "-O", "raw", away, t.path("yes.raw"))
    equal(disks.sha256(t.path("yes.raw")), disks.sha256(changed), "in the folder above")
    equal(vmimg("convert", "--refs=none", "-O", "raw", away, t.path("no.raw")).code, 5, "none")


def test_huge_and_empty(t):
    image = t.path("h.vdi")
    for args in (("create", "--force", image, "8T"), ("check", image), ("map", image),
                 ("convert", "--force", image, t.path("i.vdi"))):
        result = vmimg_ok(*args)
        check(result.seconds < 2 * env.SLACK, f"{args[0]}: {result.seconds:.1f} s")
        check(result.peak < (64 << 20) * env.SLACK, f"{args[0]}: {result.peak >> 20} MiB")


def test_bad_options(t):
    for options in ("block_size=3M", "block_size=512M", "uuid=1", "static=maybe",
                    "static=on,subformat=dynamic", "subformat=differencing"):
        with t.sub(options):
            equal(vmimg("create", "-o", options, t.path("x.vdi"), "1M").code, 2, "exit code")
            check(not os.path.exists(t.path("x.vdi")), "an output is there")


def test_measure(t):
    need("qemu-img")
    raw = disks.pattern(t.path("m.raw"), 40 * MIB, seed=9, data=12 * MIB)
    for options in OPTIONS:
        with t.sub(options):
            image = t.path("m.vdi")
            vmimg_ok("convert", "--force", "-o", options, raw, image)
            measured = vmimg_ok("measure", "--json", "-O", "vdi", "-o", options, raw).json()
            check(measured["required"] >= os.path.getsize(image), f"{measured}")


if __name__ == "__main__":
    harness.main()
