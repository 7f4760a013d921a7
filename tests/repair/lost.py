# SPDX-License-Identifier: Apache-2.0
"""What a repair gives up, and what it must not: the rest of a block that the file's end cuts, and the parent's
data that is not to appear where a child had its own."""

import os
import shutil
import struct

from lib import harness, process, qemu, vhd
from lib.harness import check, equal
from lib.process import vmimg, vmimg_ok

KIB, MIB = 1 << 10, 1 << 20


def guest(path, length):
    """The disk's first bytes."""
    out = path + ".raw"
    vmimg_ok("convert", "--force", "-O", "raw", path, out)
    with open(out, "rb") as file:
        data = file.read(length)
    os.unlink(out)
    return data


def fill(path, byte, length, at=0):
    with open(path + ".in", "wb") as file:
        file.write(bytes([byte]) * length)
    vmimg_ok("dd", f"if={path}.in", f"of={path}", "bs=4096", f"seek={at // 4096}", "conv=notrunc")
    os.unlink(path + ".in")


def poke(path, at, data):
    with open(path, "r+b") as file:
        file.seek(at)
        file.write(data)


def peek(path, at, form):
    with open(path, "rb") as file:
        file.seek(at)
        return struct.unpack(form, file.read(struct.calcsize(form)))[0]


def gave_up(path, count, *words):
    """Repair in place, or as the words have it, gave up that much and told of it."""
    result = vmimg("repair", "--json", "-q", *(words or ["--in-place"]), path)
    equal(result.code, 2, str(result))
    equal(len([f for f in result.json()["fixed"] if "entry" in f["code"]]), count, f"fixes: {result.text}")
    path = words[1] if words else path
    check(vmimg("check", path).code in (0, 3), f"check: {vmimg('check', path).text}")


def test_cut_block(t):
    """What is there of the last block stays, in place and in a new image."""
    for fmt, lost in ("vhd", 512 + 4096), ("vhd", 512 + 60 * KIB), ("vdi", 4096), ("vdi", 60 * KIB), ("vdi", 61 * KIB + 1):
        with t.sub(f"{fmt} without {lost}"), t.folder() as folder:
            path, new = f"{folder}/x.{fmt}", f"{folder}/new.{fmt}"
            vmimg_ok("create", "-f", fmt, "-o", "block_size=64k", path, "1M")
            fill(path, 0x55, 64 * KIB, 512 * KIB)
            fill(path, 0xaa, 64 * KIB)
            os.truncate(path, os.path.getsize(path) - lost)
            kept = 64 * KIB - (lost - 512 if fmt == "vhd" else lost)
            want = (b"\xaa" * kept).ljust(512 * KIB, b"\0") + b"\x55" * 64 * KIB
            gave_up(path, 1, "-o", new)
            equal(guest(new, len(want)) == want, True, "the new image's content")
            gave_up(path, 1)
            equal(guest(path, len(want)) == want, True, "the content")


def test_qcow2_child(t):
    """A table or a cluster of a child is lost: zeroes, not what the parent has there."""
    for version in "0.10", "1.1":
        for what in "table", "cluster":
            with t.sub(f"{version}, {what}"), t.folder() as folder:
                base, top = f"{folder}/base.qcow2", f"{folder}/top.qcow2"
                qemu.create(base, "qcow2", 64 * MIB)
                qemu.io(base, "write -P 85 0 1M")
                qemu.img("create", "-q", "-f", "qcow2", "-o", f"compat={version}", "-b", "base.qcow2", "-F", "qcow2", top)
                qemu.io(top, "write -P 170 0 64k")
                at = peek(top, 40, ">Q")
                if what == "cluster":
                    at = peek(top, at, ">Q") & (1 << 56) - 1
                poke(top, at, struct.pack(">Q", 1 << 63 | 1 << 40))
                gave_up(top, 1)
                shown = bytes(64 * KIB) + (bytes if what == "table" else lambda n: b"\x55" * n)(MIB - 64 * KIB)
                equal(guest(top, MIB) == shown, True, "content")
                qemu.img("check", "-q", top)
                qemu.io(top, "read -P 0 0 64k")


def test_many_tables(t):
    """More tables are lost than a cluster's refcount can count."""
    for options, lost in ("compat=0.10", 30), ("refcount_bits=1", 30), ("refcount_bits=4", 30), ("compat=0.10,cluster_size=512", 3000):
        with t.sub(options), t.folder() as folder:
            base, top = f"{folder}/base.qcow2", f"{folder}/top.qcow2"
            size = 32 * MIB if "=512" in options else 32 << 30
            stretch = 32 * KIB if "=512" in options else 512 * MIB
            qemu.create(base, "qcow2", 32 << 30)
            for at in range(0, min(lost, 20) * stretch, stretch):
                qemu.io(base, f"write -P 85 {at} 512")
            qemu.img("create", "-q", "-f", "qcow2", "-o", options, "-b", "base.qcow2", "-F", "qcow2", top, str(size))
            qemu.io(top, "write -P 170 0 512")
            at = peek(top, 40, ">Q")
            count = min(lost, peek(top, 36, ">I"))
            poke(top, at, struct.pack(">Q", 1 << 63 | 1 << 40) * count)
            gave_up(top, min(count, 100))  # as many are listed
            qemu.img("check", "-q", top)
            # all that the base has lies in what was lost: the whole disk reads as zeroes
            check(min(lost, 20) <= count, "data behind what was lost")
            qemu.create(f"{folder}/empty.qcow2", "qcow2", size)
            qemu.img("compare", "-q", top, f"{folder}/empty.qcow2")


def test_vhd_child(t):
    """A BAT entry, or two on one block, of a child: a block of zeroes takes the place."""
    for size in 64 * KIB, 2 * MIB:
        for what in "past the end", "twice":
            with t.sub(f"{what}, blocks of {size}"), t.folder() as folder:
                base, top = f"{folder}/base.vhd", f"{folder}/top.vhd"
                vmimg_ok("create", "-f", "vhd", "-o", f"block_size={size}", base, 4 * size)
                fill(base, 0x55, 4 * size)
                vmimg_ok("create", "-f", "vhd", "-b", "base.vhd", "-F", "vhd", "-o", f"block_size={size}", top)
                fill(top, 0xaa, 2 * size)
                entry = 0x1000000 if what == "past the end" else peek(top, 1536, ">I")
                poke(top, 1540, struct.pack(">I", entry))
                gave_up(top, 1)
                want = b"\xaa" * size + bytes(size) + b"\x55" * (2 * size)
                equal(guest(top, 4 * size) == want, True, "content")
                again = vmimg("repair", "--json", "-q", "--in-place", top)
                equal(again.json()["fixed"], [], "fixes, the second time")
                fill(top, 0x77, size, 2 * size)
                equal(guest(top, 4 * size) == want[:2 * size] + b"\x77" * size + want[3 * size:], True, "written again")


def test_many_wrong_entries(t):
    """A VDI's map of 2^18 entries that follow each other, and all lie behind the file's end."""
    path, copy, count = t.path("x.vdi"), t.path("y.vdi"), 1 << 18
    vmimg_ok("create", "-f", "vdi", "-o", "block_size=4096", path, count * 4096)
    at = peek(path, 340, "<I")
    poke(path, at, struct.pack(f"<{count}I", *range(count)))
    poke(path, 388, struct.pack("<I", count))
    shutil.copyfile(path, copy)
    for words in ["check", path], ["repair", "-n", "--in-place", path], ["repair", "--in-place", path], \
            ["repair", "-o", t.path("z.vdi"), copy]:
        result = vmimg(*words)
        process.check_bars(result, words[0])
        check(result.code in (1, 2), str(result))
    equal(vmimg("check", path).code, 0, "check")
    equal(vmimg("check", t.path("z.vdi")).code, 0, "check of the new one")


def test_scattered(t):
    """As many blocks as a table of 400 KiB names, all over a file that is nearly all hole."""
    count, path = 100000, t.path("x.vhd")
    foot = vhd.footer(count * 64 * KIB, 512)
    vhd.write(path, {512: vhd.header(count, 1536, 64 * KIB),
                     1536: struct.pack(f">{count}I", *(4096 + i * 32768 for i in range(count)))}, foot, count << 24)
    other = t.path("x.vdi")
    vmimg_ok("create", "-f", "vdi", "-o", "block_size=4096", other, count * 4096)
    poke(other, peek(other, 340, "<I"), struct.pack(f"<{count}I", *(i * 30000 for i in range(count))))
    os.truncate(other, peek(other, 344, "<I") + (count - 1) * 30000 * 4096 + 4096)
    for image in path, other:
        for words in ["check"], ["repair", "-n", "--in-place"], ["repair", "--in-place"]:
            result = vmimg(*words, image)
            process.check_bars(result, words[0])
            check(result.code in ((1, 2, 3) if words[0] == "check" else (0,)), str(result))


def test_scattered_clusters(t):
    """The same of QCOW2's, in a file of almost 16 TiB."""
    for cluster in 64 * KIB, 512:
        with t.sub(f"clusters of {cluster}"), t.folder() as folder:
            path, first = f"{folder}/x.qcow2", 1 << 30
            tables = 100000 // (cluster // 8)
            count = tables * cluster // 8
            step = ((15 << 40) // count) // cluster * cluster
            qemu.create(path, "qcow2", count * cluster, cluster_size=cluster)
            at, end = peek(path, 40, ">Q"), -(-os.path.getsize(path) // cluster) * cluster
            poke(path, at, struct.pack(f">{tables}Q", *(1 << 63 | end + i * cluster for i in range(tables))))
            poke(path, end, struct.pack(f">{count}Q", *(1 << 63 | first + i * step for i in range(count))))
            os.truncate(path, first + count * step)
            for words in ["check"], ["repair", "-n", "--in-place"], ["repair", "--in-place"], ["check", "--json"]:
                result = vmimg(*words, path)
                process.check_bars(result, words[0])
                check(result.code in ((2,) if words[0] == "check" else (0, 6)), str(result))


def test_tables_of_nothing(t):
    """An L1 table of 2^32 entries, all in a hole; an encryption header of terabytes."""
    for cluster in 64 * KIB, 512:
        path = t.path(f"{cluster}.qcow2")
        qemu.create(path, "qcow2", MIB, cluster_size=cluster)
        vmimg_ok("snapshot", "create", path, "one")
        at, end = peek(path, 64, ">Q"), -(-os.path.getsize(path) // 65536) * 65536
        poke(path, at, struct.pack(">QI", end, 0xffffffff))
        os.truncate(path, end + (33 << 30))
    other = t.path("y.qcow2")
    qemu.create(other, "qcow2", 64 * MIB)
    at, end = peek(other, 100, ">I"), -(-os.path.getsize(other) // 65536) * 65536
    poke(other, at, struct.pack(">IIQQQ", 0x0537be77, 16, end, 14 << 40, 0))
    os.truncate(other, end + (14 << 40))
    active = t.path("active.qcow2")
    qemu.create(active, "qcow2", MIB, cluster_size=512)
    poke(active, 24, struct.pack(">QIIQ", 0xffffffff * 32 * KIB, 0, 0xffffffff, 65536 * 16))
    os.truncate(active, 33 << 30)
    for words in ["map"], ["info"], ["measure", "-O", "qcow2"], ["check"]:
        with t.sub(f"{' '.join(words)} of the active state"):
            result = vmimg(*words, active)
            process.check_bars(result, words[0])
    for image in path, t.path("65536.qcow2"), other:
        for words in ["check"], ["repair", "-n", "--in-place"], ["repair", "--in-place"]:
            with t.sub(f"{' '.join(words)} {os.path.basename(image)}"):
                result = vmimg(*words, image)
                process.check_bars(result, words[0])
                check(result.code in ((2,) if words[0] == "check" else (0, 2, 6)), str(result))


def test_many_counts(t):
    """A bit says that a cluster is in use: forty blocks of them, of a file of more than a TiB with nothing in it."""
    path, blocks = t.path("x.qcow2"), 40
    qemu.create(path, "qcow2", 64 * MIB, refcount_bits=1)
    end = -(-os.path.getsize(path) // 65536) * 65536
    first = peek(path, peek(path, 48, ">Q"), ">Q")
    poke(path, peek(path, 48, ">Q"), struct.pack(f">{blocks}Q", *(end + i * 65536 for i in range(blocks))))
    poke(path, end, b"\xff" * (65536 * blocks))
    os.truncate(path, blocks * 524288 * 65536)
    for words in ["check"], ["repair", "-n", "--in-place"], ["repair", "--in-place"], ["check"]:
        result = vmimg(*words, path)
        process.check_bars(result, words[0])
        check(result.code in ((0, 3) if words[0] == "check" else (0,)), str(result))
    qemu.img("check", "-q", path)
    check(first != end, "the old block stayed")


if __name__ == "__main__":
    harness.main()
