# SPDX-License-Identifier: Apache-2.0
"""Raw disks that become QCOW2, VHDX and VDI where they are."""

import fcntl
import os
import random
import re
import struct

from lib import disks, env, harness, qemu
from lib.harness import check, equal, need
from lib.process import run, vmimg, vmimg_ok

KIB, MIB = 1 << 10, 1 << 20
NO_LEAK_CHECK = {"ASAN_OPTIONS": os.environ.get("ASAN_OPTIONS", "") + ":detect_leaks=0"}

WAYS = (
    ("qcow2", ""), ("qcow2", "cluster_size=512"), ("qcow2", "cluster_size=4096,refcount_bits=1"),
    ("qcow2", "cluster_size=2M,lazy_refcounts=on"), ("qcow2", "compat=0.10"), ("qcow2", "extended_l2=on"),
    ("qcow2", "refcount_bits=64,cluster_size=1024"),
    ("vhdx", ""), ("vhdx", "block_size=4M,log_size=2M"), ("vhdx", "logical_sector_size=4096,block_state_zero=on"),
    ("vdi", ""), ("vdi", "block_size=4096"), ("vdi", "block_size=4M"),
)


def digest(path, *words):
    return vmimg_ok("digest", *words, path).text.split()[0]


def padded(path, unit):
    """The digest of the disk as it is when its size is a multiple of unit."""
    copy = path + ".padded"
    disks.copy(path, copy)
    size = os.path.getsize(copy)
    os.truncate(copy, -(-size // unit) * unit)
    got = disks.sha256(copy)
    os.unlink(copy)
    return got


def sprinkle(path, size, seed, *stretches):
    """A disk with data in those (start, length), holes elsewhere."""
    rng = random.Random(seed)
    with open(path, "wb") as file:
        file.truncate(size)
        for at, length in stretches:
            file.seek(at)
            file.write(rng.randbytes(min(length, size - at)))
    return path


def disks_to_try(path):
    yield "pattern", disks.pattern(path, 20 * MIB + 512, seed=1)
    yield "full", sprinkle(path, 3 * MIB, 2, (0, 3 * MIB))
    yield "head only", sprinkle(path, 9 * MIB, 3, (0, 5000))
    yield "no head", sprinkle(path, 9 * MIB, 4, (6 * MIB, 70000))
    yield "islands", sprinkle(path, 300 * MIB, 5, *((at * MIB, 8 * KIB) for at in range(0, 290, 7)))
    yield "end only", sprinkle(path, 40 * MIB + 1536, 6, (40 * MIB, 1536))
    yield "empty", sprinkle(path, 5 * MIB, 7)
    for size in 1, 511, 512, 4096, 64 * KIB, 64 * KIB + 1, MIB - 512, MIB, MIB + 512, 2 * MIB + 1000:
        yield f"{size} bytes", sprinkle(path, size, size, (0, size))


def by_peer(options):
    """QEMU takes no VDI with blocks other than 1 MiB, and no VHDX with sectors other than 512 bytes."""
    return options not in ("block_size=4096", "block_size=4M") and "4096,block_state" not in options


def sound(path, what, peer=True):
    result = vmimg("check", path)
    equal(result.code, 0, f"check {what}: {result.text}")
    if not peer:
        return
    result = run("qemu-img", "check", path)
    equal(result.code, 0, f"qemu-img check {what}: {result}")
    check("eak" not in result.text + result.errors, str(result))


def space(path):
    return os.stat(path).st_blocks * 512


def convert_one(folder, fmt, options, what, raw):
    image = f"{folder}/disk.{fmt}"
    # VirtualBox's and Hyper-V's disks are whole sectors, of 512 or 4096 bytes
    unit = 1 if fmt == "qcow2" else 4096 if "=4096,block_state" in options else 512
    want, inode, size, used = padded(raw, unit), os.stat(raw).st_ino, os.path.getsize(raw), space(raw)
    vmimg_ok("convert", "--in-place", "-f", "raw", "-O", fmt, *(["-o", options] if options else []), raw, image)
    equal(os.listdir(folder), [f"disk.{fmt}"], f"files, {what}")
    equal(os.stat(image).st_ino, inode, "the file")
    sound(image, what, by_peer(options))
    equal(digest(image), want, f"content, {what}")
    report = vmimg_ok("info", "--json", image).json()
    equal((report["format"], report["virtual-size"]), (fmt, -(-size // unit) * unit), what)
    if not size % 512 and by_peer(options):
        equal(qemu.guest_sha256(image, fmt, folder), want, f"content by the peer, {what}")
    check(space(image) <= used + 20 * MIB, f"{what}: {space(image)} bytes of {used} before")


def test_content(t):
    for fmt, options in WAYS:
        for what, raw in disks_to_try(t.path("disk.raw")):
            with t.sub(f"{fmt} {options}: {what}"), t.folder() as folder:
                os.rename(raw, f"{folder}/disk.raw")
                convert_one(folder, fmt, options, f"{fmt} {options}: {what}", f"{folder}/disk.raw")


def test_used_name(t):
    raw = sprinkle(t.path("disk.raw"), 3 * MIB, 8, (0, 2 * MIB))
    want = disks.sha256(raw)
    vmimg_ok("convert", "--in-place", "-O", "qcow2", raw)
    equal(os.listdir(t.tmp), ["disk.raw"], "files")
    equal(digest(raw), want, "content")
    equal(vmimg_ok("info", "--json", raw).json()["format"], "qcow2", "format")


def test_used_seven_zip(t):
    need("7zz")
    for fmt in "qcow2", "vhdx", "vdi":
        raw = disks.pattern(t.path("disk.raw"), 12 * MIB, seed=9)
        want = disks.sha256(raw)
        vmimg_ok("convert", "--in-place", raw, t.path(f"disk.{fmt}"))
        result = run("7zz", "e", "-y", f"-o{t.path('out')}", t.path(f"disk.{fmt}"))
        equal(result.code, 0, str(result))
        (name,) = os.listdir(t.path("out"))
        equal(disks.sha256(t.path("out/" + name)), want, f"{fmt} by 7zz")
        os.unlink(t.path("out/" + name))
        os.unlink(t.path(f"disk.{fmt}"))


def test_used_written(t):
    """Written to by the peer and by vmimg, and grown."""
    for fmt, options in WAYS:
        if not by_peer(options):
            continue
        with t.sub(f"{fmt} {options}"):
            raw = sprinkle(t.path("disk.raw"), 24 * MIB, 10, (0, 3 * MIB), (9 * MIB, 100000), (20 * MIB, MIB))
            model, image = t.path("model.raw"), t.path(f"disk.{fmt}")
            disks.copy(raw, model)
            vmimg_ok("convert", "--in-place", "-O", fmt, *(["-o", options] if options else []), raw, image)
            writes = [f"write -P {7 + i} {at} {length}" for i, (at, length) in enumerate((
                (0, 4096), (64 * KIB, 64 * KIB), (5 * MIB, 70000 // 512 * 512), (9 * MIB + 64 * KIB, 2 * MIB),
                (20 * MIB - 512, 1024), (24 * MIB - 65536, 65536)))]
            qemu.io(image, *writes, fmt=fmt)
            qemu.io(model, *writes, fmt="raw")
            sound(image, "after writes")
            equal(digest(image), disks.sha256(model), "content after writes")
            vmimg_ok("resize", image, str(64 * MIB))
            os.truncate(model, 64 * MIB)
            sound(image, "after growth")
            equal(digest(image), disks.sha256(model), "content after growth")
            vmimg_ok("compact", "--no-fs", image)
            sound(image, "after compaction")
            equal(digest(image), disks.sha256(model), "content after compaction")
            os.unlink(image)
            os.unlink(model)


def test_used_large(t):
    """A sparse TiB, and 100 GiB where all is data, for the file system knows no holes."""
    for fmt in "qcow2", "vhdx", "vdi":
        raw = sprinkle(t.path("disk.raw"), 1 << 40, 11, (0, 100000), (500 << 30, 4096))
        result = vmimg_ok("convert", "--in-place", raw, t.path(f"disk.{fmt}"))
        check(result.cpu < 0.3 * env.SLACK and result.peak < 64 * MIB, f"{fmt}: {result.cpu} s, {result.peak} bytes")
        equal(vmimg_ok("check", t.path(f"disk.{fmt}")).code, 0, "check")
        sprinkle(t.path("same.raw"), 1 << 40, 11, (0, 100000), (500 << 30, 4096))
        vmimg_ok("compare", t.path(f"disk.{fmt}"), t.path("same.raw"))
        os.unlink(t.path(f"disk.{fmt}"))
        os.unlink(t.path("same.raw"))
    need("strace")
    for fmt in "qcow2", "vhdx", "vdi":
        raw = sprinkle(t.path("disk.raw"), 100 << 30, 12, (0, 100000), (50 << 30, 4096))
        result = run("strace", "-f", "-qq", "-o", "/dev/null", "-e", "trace=lseek", "-e", "inject=lseek:error=EINVAL",
                     env.VMIMG, "convert", "--no-sandbox", "--in-place", raw, t.path(f"disk.{fmt}"),
                     extra_env=NO_LEAK_CHECK)
        equal(result.code, 0, str(result))
        check(result.cpu < 1 * env.SLACK, f"{fmt}: {result.cpu} s")
        report = vmimg_ok("check", "--json", t.path(f"disk.{fmt}")).json()
        equal(report["allocated-clusters"], report["total-clusters"], "all is data")
        check(space(t.path(f"disk.{fmt}")) < 20 * MIB, "the tables")
        os.unlink(t.path(f"disk.{fmt}"))


def test_used_refused(t):
    raw = disks.pattern(t.path("disk.raw"), 3 * MIB, seed=13, data=MIB)
    want = disks.sha256(raw)
    with open(t.path("key"), "wb") as file:
        file.write(b"secret")
    new = t.path("new")
    for words, code in (
            (["-O", "qcow2", "-o", "preallocation=full"], 2), (["-O", "qcow2", "-o", "data_file=x"], 2),
            (["-O", "qcow2", "-o", "backing_file=x"], 2), (["-O", "qcow2", "-c"], 2), (["-O", "qcow2", "-o", "what=1"], 2),
            (["-O", "qcow2", "-o", "encrypt.format=luks", "--target-secret-file", t.path("key")], 2),
            (["-O", "qcow2", "-o", "cluster_size=1000"], 2), (["-O", "vhdx", "-o", "subformat=fixed"], 2),
            (["-O", "vhdx", "-o", "block_size=3M"], 2), (["-O", "vdi", "-o", "static=on"], 2),
            (["-O", "vdi", "-o", "subformat=differencing"], 2), (["-O", "ova"], 2), (["-O", "iso"], 2)):
        with t.sub(" ".join(words)):
            result = vmimg("convert", "--in-place", *words, raw, new)
            equal(result.code, code, str(result))
            equal(len(result.errors.splitlines()), 1, str(result))
            equal(disks.sha256(raw), want, "the disk")
            equal(sorted(os.listdir(t.tmp)), ["disk.raw", "key"], "files")
    with t.sub("a fixed VHD"):
        vmimg_ok("convert", "-o", "subformat=fixed", raw, t.path("disk.vhd"))
        result = vmimg("convert", "--in-place", "-O", "qcow2", t.path("disk.vhd"))
        check(result.code == 4 and "raw first" in result.errors, str(result))
    with t.sub("twice"):
        vmimg_ok("convert", "--in-place", raw, t.path("disk.qcow2"))
        result = vmimg("convert", "--in-place", "-f", "raw", "-O", "qcow2", t.path("disk.qcow2"))
        check(result.code == 5 and "already" in result.errors, str(result))
        vmimg_ok("convert", "--in-place", t.path("disk.qcow2"), t.path("other.qcow2"))  # only its name
        equal(digest(t.path("other.qcow2")), want, "content")
        result = vmimg("convert", "--in-place", "-O", "vdi", t.path("other.qcow2"))
        equal(result.code, 4, str(result))


def test_used_locked(t):
    raw = disks.pattern(t.path("disk.raw"), 3 * MIB, seed=14)
    want = disks.sha256(raw)
    with open(raw, "rb") as file:  # the locks of a running machine
        for byte in 100, 101, 103, 201, 203:
            fcntl.fcntl(file, 37, struct.pack("hhqqi4x", fcntl.F_RDLCK, os.SEEK_SET, byte, 1, 0))  # F_OFD_SETLK
        for words in (raw, t.path("disk.qcow2")), ("-O", "vdi", raw):
            result = vmimg("convert", "--in-place", *words)
            equal(result.code, 7, str(result))
    equal(disks.sha256(raw), want, "the disk")
    equal(os.listdir(t.tmp), ["disk.raw"], "files")


def inject(call, how, number, *words):
    return run("strace", "-f", "-qq", "-o", "/dev/null", "-e", f"trace={call}", "-e", f"inject={call}:{how}:when={number}",
               env.VMIMG, "convert", "--no-sandbox", "--in-place", *words, extra_env=NO_LEAK_CHECK)


CALLS = "pwrite64", "ftruncate", "fsync", "fallocate", "unlinkat", "renameat2", "openat"


def make(t, folder):
    raw = sprinkle(f"{folder}/disk.raw", 4 * MIB + 512, 15, (0, 200000), (MIB, 300000), (2 * MIB, 4096))
    return raw, disks.sha256(raw)


def what_is_left(folder, raw, image, want, where):
    """Whatever there is is told to be cut off, or is whole."""
    path = raw if os.path.exists(raw) else image
    result = vmimg("info", "--json", path)
    equal(result.code, 0, f"{where}: {result}")
    report = result.json()
    if os.path.exists(path + ".vmimg-undo") and any("cut off" in text for text in report["warnings"]):
        equal(vmimg("resize", path, "8M").code, 4, f"{where}: a change of what was cut off")
        equal((report["format"], digest(path)), ("raw", want), f"{where}: read before it is undone")
        return True
    equal(digest(path), want, where)
    return False


def test_cut_killed(t):
    need("strace")
    for fmt in "qcow2", "vhdx", "vdi":
        undone = 0
        for call in CALLS:
            for number in range(1, 600, 1 if call != "openat" else 7):
                if fmt == "vhdx" and call == "pwrite64" and 3 < number < 255 and number % 50:
                    continue  # a page of the undo file after the other
                with t.folder() as folder:
                    raw, want = make(t, folder)
                    image = f"{folder}/disk.{fmt}"
                    result = inject(call, "signal=KILL", number, raw, image)
                    where = f"{fmt}: killed at {call} {number}"
                    if result.code == 0:
                        equal(digest(image), want, where)
                        break
                    undone += what_is_left(folder, raw, image, want, where)
                    if number % 2 and os.path.exists(raw + ".vmimg-undo"):
                        vmimg("repair", "--in-place", raw)  # fails where the undo file was not begun
                        check(not os.path.exists(raw + ".vmimg-undo"), f"{where}: the undo file stayed")
                        equal(disks.sha256(raw), want, f"{where}: the raw disk again")
                    again = vmimg("convert", "--in-place", raw if os.path.exists(raw) else image, image)
                    if os.path.exists(image) and not os.path.exists(raw) and again.code == 5:
                        pass  # it had got there
                    else:
                        equal(again.code, 0, f"{where}: {again}")
                    equal(digest(image), want, where)
                    sound(image, where)
                    equal(os.listdir(folder), [f"disk.{fmt}"], where)
        check(undone > 3, f"{fmt}: {undone} undone")


def test_cut_full(t):
    """
    Every call that fails leaves the raw disk as it was, and nothing beside it; but a flush that failed is final, so
    what undoes the change stays, and is used by the same command again.
    """
    need("strace")
    for fmt in "qcow2", "vhdx", "vdi":
        for call in CALLS[:4]:
            for number in range(1, 600):
                if fmt == "vhdx" and call == "pwrite64" and 3 < number < 255 and number % 50:
                    continue
                with t.folder() as folder:
                    raw, want = make(t, folder)
                    result = inject(call, "error=ENOSPC", number, raw, f"{folder}/disk.{fmt}")
                    where = f"{fmt}: no space at {call} {number}: {result}"
                    if result.code == 0:
                        equal(digest(f"{folder}/disk.{fmt}"), want, where)
                        if call != "fallocate" or number > 2:
                            break
                        continue
                    equal(len(re.findall(r"\n", result.errors)), 1, where)
                    if os.path.exists(f"{folder}/disk.{fmt}") or vmimg_ok("info", "--json", raw).json()["format"] == fmt:
                        # the image was whole when the folder could not be flushed
                        equal(call, "fsync", where)
                        continue
                    equal(disks.sha256(raw), want, where)
                    if call == "fsync" and os.path.exists(raw + ".vmimg-undo"):
                        vmimg_ok("convert", "--in-place", raw, f"{folder}/disk.{fmt}")
                        equal(digest(f"{folder}/disk.{fmt}"), want, where)
                        continue
                    equal(os.listdir(folder), ["disk.raw"], where)


def test_cut_large(t):
    """More to be undone than a reader lays over in memory: said, and repair and the same command go on from it."""
    need("strace")
    raw = sprinkle(t.path("disk.raw"), 140 << 30, 16, (0, 200000), (100 * MIB, 300000), (200 * MIB, 70000))
    copy, image = t.path("copy"), t.path("disk.vdi")
    words = "--in-place", "-f", "raw", "-O", "vdi", "-o", "block_size=4096", raw, image
    disks.copy(raw, copy)
    for way in "repair", "convert":
        result = run("strace", "-f", "-qq", "-o", "/dev/null", "-e", "trace=fsync", "-e",
                     "inject=fsync:signal=KILL:when=3", env.VMIMG, "convert", "--no-sandbox", *words, timeout=200)
        check(result.code and os.path.getsize(raw + ".vmimg-undo") > 128 * MIB, f"nothing was cut off: {result}")
        left = raw if os.path.exists(raw) else image
        for verb in ["info", left], ["digest", left], ["convert", "-O", "qcow2", left, t.path("no.qcow2")]:
            result = vmimg(*verb)
            equal(result.code, 0 if verb[0] == "info" else 6, str(result))
            check("repair --in-place first" in result.text + result.errors, str(result))
        equal(vmimg("resize", left, "+1M").code, 4, "a change of what was cut off")
        if way == "repair":
            vmimg_ok("repair", "--in-place", left, timeout=200)
            equal(vmimg("compare", "-f", "raw", raw, copy).code, 0, "the raw disk again")
            equal(os.path.exists(raw + ".vmimg-undo"), False, "the undo file is gone")
    vmimg_ok("convert", *words, timeout=200)
    equal(vmimg("compare", image, copy).code, 0, "the image")
    sound(image, "converted", peer=False)
    equal(sorted(os.listdir(t.tmp)), ["copy", "disk.vdi"], "files")


if __name__ == "__main__":
    harness.main()
