# SPDX-License-Identifier: Apache-2.0
"""Snapshots and sizes of QCOW2 changed in place: content, peers, and a crash at every write."""

import os
import shutil

from lib import disks, env, harness, qemu
from lib.harness import check, equal
from lib.process import run, vmimg, vmimg_ok
from lib.qemu import content, sound

SIZE = (48 << 20) + 512
VARIANTS = [[], ["-o", "cluster_size=512"], ["-o", "cluster_size=2M"], ["-o", "extended_l2=on"], ["-c"],
            ["-o", "refcount_bits=64"], ["-c", "-o", "compression_type=zstd,cluster_size=4k"], ["-o", "compat=0.10"]]


def make(t, options):
    raw = disks.pattern(t.path("disk.raw"), SIZE, seed=5, data=8 << 20)
    path = t.path("disk.qcow2")
    vmimg_ok("convert", "--force", *options, raw, path)
    return path, disks.sha256(raw)


def test_snapshots(t):
    for options in VARIANTS:
        with t.sub(" ".join(options) or "plain"):
            path, first = make(t, options)
            vmimg_ok("snapshot", "create", path, "one")
            sound(path, "create")
            qemu.io(path, "write -P 5 1M 3M", "write -z 20M 2M", "discard 30M 5M")
            second = content(path)
            vmimg_ok("snapshot", "-c", "two", path)
            qemu.io(path, "write -P 6 2M 3M", "write -P 9 40M 100k")
            vmimg_ok("snapshot", "apply", path, "one")
            sound(path, "apply")
            equal(content(path), first, "the state of the first snapshot")
            qemu.img("snapshot", "-a", "two", path)  # qemu applies what we made
            equal(content(path), second, "the state of the second")
            vmimg_ok("snapshot", "delete", path, "one")
            sound(path, "delete")
            qemu.io(path, "write -P 7 10M 3M")
            qemu.img("snapshot", "-c", "three", path)  # and we delete what qemu made
            vmimg_ok("snapshot", "-d", "two", path)
            vmimg_ok("snapshot", "-d", "three", path)
            sound(path, "all gone")
            equal(vmimg_ok("snapshot", "list", "--json", path).json()["snapshots"], [], "snapshots")


def test_machine_state(t):
    """A saved machine's state lies behind the disk's end, and comes back with its snapshot."""
    path, _ = make(t, [])
    qemu.io(path, "write -b -P 17 1T 4k")
    vmimg_ok("snapshot", "create", path, "saved")
    sound(path, "create")
    check("failed" in run("qemu-io", "-c", "read -b -P 17 1T 4k", path).text, "the state was not set aside")
    vmimg_ok("snapshot", "apply", path, "saved")
    sound(path, "apply")
    qemu.io(path, "read -b -P 17 1T 4k")
    vmimg_ok("snapshot", "delete", path, "saved")
    sound(path, "delete")


def test_sizes(t):
    for options in VARIANTS:
        with t.sub(" ".join(options) or "plain"):
            path, _ = make(t, options)
            before = content(path)
            vmimg_ok("resize", path, "+300M")
            sound(path, "grown")
            equal(vmimg_ok("info", "--json", path).json()["virtual-size"], SIZE + (300 << 20), "size")
            qemu.io(path, "write -P 3 200M 1M")
            sound(path, "written")
            equal(vmimg("resize", path, str(SIZE)).code, 5, "shrinking over data, unasked")
            vmimg_ok("resize", "--shrink", path, str(SIZE))
            sound(path, "shrunk")
            equal(content(path), before, "content")


def test_cut_inside_a_cluster(t):
    """What was cut off stays away when the disk grows, and stays where a snapshot has it."""
    for options in [], ["-c"], ["-o", "compat=0.10"], ["-o", "extended_l2=on"], \
            ["-o", "extended_l2=on,cluster_size=1M", "-c"]:
        with t.sub(" ".join(options) or "plain"):
            raw = t.path("disk.raw")
            with open(raw, "wb") as file:
                file.write(b"vmimg cut " * (500 << 10))
            path, size = t.path("disk.qcow2"), os.path.getsize(raw)
            size -= size % 512
            os.truncate(raw, size)
            cut = (3 << 20) + 5 * 512 + (512 << 10)
            vmimg_ok("convert", "--force", *options, raw, path)
            whole = disks.sha256(raw)
            if "compat=0.10" not in options:  # which says nothing of a snapshot's size
                vmimg_ok("snapshot", "create", path, "whole")
            other = t.path("other.qcow2")
            shutil.copyfile(path, other)
            os.truncate(raw, cut)
            short = disks.sha256(raw)
            os.truncate(raw, size)
            if "compat=0.10" not in options:  # a peer cuts, and leaves the rest to show
                qemu.img("snapshot", "-d", "whole", other)
                qemu.img("resize", "--shrink", other, str(cut))
                vmimg_ok("resize", other, str(size))
                sound(other, "cut by a peer, grown")
                equal(content(other), disks.sha256(raw), "cut by a peer, grown")
            vmimg_ok("resize", "--shrink", "--shrink", path, str(cut))
            sound(path, "cut")
            equal(content(path), short, "cut")
            qemu.img("resize", path, str(size))
            equal(content(path), disks.sha256(raw), "grown by a peer")
            vmimg_ok("resize", path, str(size + (80 << 20)))
            sound(path, "grown")
            os.truncate(raw, size + (80 << 20))
            equal(content(path), disks.sha256(raw), "grown")
            if "compat=0.10" not in options:
                vmimg_ok("snapshot", "apply", path, "whole")
                equal(content(path), whole, "the snapshot")


def test_cluster_in_use_twice(t):
    """Repair keeps it, with a refcount of two; when the disk's end takes one use, the other is the only one."""
    path = t.path("disk.qcow2")
    qemu.create(path, "qcow2", 4 << 20)
    qemu.io(path, "write -P 1 0 64k", "write -P 2 3M 64k")
    with open(path, "r+b") as file:
        file.seek(40)
        file.seek(int.from_bytes(file.read(8), "big"))
        table = int.from_bytes(file.read(8), "big") & (1 << 56) - 1
        file.seek(table)
        entry = file.read(8)
        file.seek(table + 48 * 8)
        file.write(entry)
    vmimg_ok("repair", "--in-place", path)
    vmimg_ok("resize", "--shrink", "--shrink", path, "1M")
    sound(path, "shrunk")
    qemu.io(path, "read -P 1 0 64k")


def test_large(t):
    """A hundred gigabytes of data: work is by ranges of clusters, and tables make no holes."""
    harness.need("strace")
    path, calls = t.path("disk.qcow2"), t.path("calls")
    qemu.img("create", "-q", "-f", "qcow2", "-o", "preallocation=metadata", path, "100G")
    for words in ("create", path, "one"), ("apply", path, "one"), ("delete", path, "one"):
        equal(run("strace", "-f", "-o", calls, "-e", "trace=pwrite64,fallocate", env.VMIMG, "snapshot", *words).code, 0, words[0])
        with open(calls, encoding="ascii") as file:
            count = len(file.readlines())
        check(count < 150, f"{words[0]}: {count} writes and holes")
        sound(path, words[0])


def test_cut_short(t):
    """An image that lacks data is left as it is: the file would grow over it, and show zeroes instead."""
    path, copy = t.path("disk.qcow2"), t.path("copy.qcow2")
    qemu.create(path, "qcow2", 64 << 20)
    qemu.io(path, "write -P 1 0 4M", "write -P 2 4M 64k")
    qemu.img("create", "-q", "-f", "qcow2", "-u", "-b", "none.raw", "-F", "raw", t.path("other.qcow2"), "64M")
    for lost in 1 << 20, 64 << 10, 512:
        shutil.copyfile(path, copy)
        os.truncate(copy, os.path.getsize(copy) - lost)
        before = disks.sha256(copy)
        for words in ["resize", copy, "1G"], ["bitmap", "--add", copy, "x"], ["snapshot", "create", copy, "x"], \
                ["amend", "-o", "lazy_refcounts=on", copy], ["rebase", "-u", "-b", "none.raw", "-F", "raw", copy], \
                ["compact", "--no-fs", copy]:
            result = vmimg(*words)
            check(result.code == 4 and "past the end of the file" in result.errors, f"{words} without {lost}: {result}")
        equal(disks.sha256(copy), before, "the image")


def test_counted_past_the_end(t):
    """A refcount that QEMU has written before the data, and then nothing more: a leak, and no obstacle."""
    path = t.path("disk.qcow2")
    qemu.create(path, "qcow2", 64 << 20)
    qemu.io(path, "write -P 1 0 1M")
    end = os.path.getsize(path) // 65536
    with open(path, "r+b") as file:
        file.seek(48)
        file.seek(int.from_bytes(file.read(8), "big"))
        file.seek(int.from_bytes(file.read(8), "big") + end * 2)
        file.write(b"\0\1")
    vmimg_ok("snapshot", "create", path, "one")
    vmimg_ok("resize", path, "1G")
    check(run("qemu-img", "check", path).code in (0, 3), "a leak at worst")
    qemu.io(path, "read -P 1 0 1M", "read -P 0 1M 63M")


def test_in_use_and_counted_free(t):
    """Data in a cluster whose refcount is 0 would be overwritten by whatever is allocated next."""
    path, copy, data = t.path("disk.qcow2"), t.path("copy.qcow2"), t.path("data")
    for version in "0.10", "1.1":
        qemu.create(path, "qcow2", 64 << 20, compat=version)
        qemu.io(path, "write -P 85 0 64k")
        with open(path, "r+b") as file:
            file.seek(48)
            blocks = int.from_bytes(file.read(8), "big")
            file.seek(blocks)
            counts = int.from_bytes(file.read(8), "big")
            file.seek(counts + (os.path.getsize(path) // 65536 - 1) * 2)
            equal(file.read(2), b"\0\1", "the last cluster's refcount")
            file.seek(-2, os.SEEK_CUR)
            file.write(b"\0\0")
        with open(data, "wb") as file:
            file.write(b"\xaa" * 131072)
        before = disks.sha256(path)
        for words in ["dd", f"if={data}", f"of={copy}", "bs=64k", "seek=20", "conv=notrunc"], \
                ["snapshot", "create", copy, "s"], ["resize", copy, "4T"], ["compact", "--no-fs", copy], \
                ["bitmap", "--add", copy, "x"]:
            if version == "0.10" and words[0] == "bitmap":
                continue  # it has none
            with t.sub(f"{version}: {words[0]}"):
                shutil.copyfile(path, copy)
                result = vmimg(*words)
                if result.code:
                    check("repair" in result.errors, str(result))
                    equal(disks.sha256(copy), before, "the image")
                qemu.io(copy, "read -P 85 0 64k")
        vmimg_ok("repair", "--in-place", path)
        vmimg_ok("snapshot", "create", path, "s")
        sound(path, "repaired")
        qemu.io(path, "read -P 85 0 64k")


def test_snapshot_with_a_long_table(t):
    """As many L1 entries as would be 2^64 bytes of disk, nearly all of them a hole."""
    path, out = t.path("disk.qcow2"), t.path("out.raw")
    qemu.create(path, "qcow2", 1 << 30, cluster_size="2M")
    vmimg_ok("snapshot", "create", path, "one")
    end = -(-os.path.getsize(path) >> 21) << 21
    with open(path, "r+b") as file:
        file.seek(64)
        file.seek(int.from_bytes(file.read(8), "big"))
        file.write(end.to_bytes(8, "big") + (1 << 25).to_bytes(4, "big"))
        file.truncate(end + (1 << 28))
    vmimg_ok("convert", "-l", "one", "-O", "raw", path, out)
    equal((os.path.getsize(out), os.stat(out).st_blocks), (1 << 30, 0), "bytes, and those that are not a hole")


def test_raw(t):
    path = disks.pattern(t.path("disk.raw"), 1 << 20, seed=2)
    vmimg_ok("resize", "-f", "raw", path, "3M")
    equal(os.path.getsize(path), 3 << 20, "size")
    equal(vmimg("resize", "-f", "raw", path, "-3000k").code, 5, "shrinking over data, unasked")
    vmimg_ok("resize", "-f", "raw", "--shrink", path, "-2M")
    equal(os.path.getsize(path), 1 << 20, "size")


def test_refused(t):
    path, _ = make(t, [])
    before = disks.sha256(path)
    equal(vmimg("snapshot", "apply", path, "none").code, 2, "no such snapshot")
    equal(vmimg("snapshot", "create", path, "").code, 2, "no name")
    equal(vmimg("snapshot", "create", t.path("disk.raw"), "x").code, 4, "raw has none")
    equal(disks.sha256(path), before, "the image")


def crash_states(t, words, path):
    """The image as it is after a kill at every write, and after the last one."""
    for number in range(1, 1000):
        copy = t.path("copy.qcow2")
        shutil.copyfile(path, copy)
        result = run("strace", "-f", "-o", "/dev/null", "-e", f"inject=pwrite64:signal=KILL:when={number}", env.VMIMG,
                     *[copy if word == "IMAGE" else word for word in words])
        yield number, copy
        if result.code == 0:
            return
    raise harness.Failure("it never ends")


def test_killed_at_every_write(t):
    harness.need("strace")
    path, first = make(t, ["-o", "cluster_size=4k"])
    vmimg_ok("snapshot", "create", path, "one")
    qemu.io(path, "write -P 5 1M 3M")
    now = content(path)
    for words, new in (["snapshot", "create", "IMAGE", "two"], now), (["snapshot", "apply", "IMAGE", "one"], first), \
            (["snapshot", "delete", "IMAGE", "one"], now), (["resize", "IMAGE", "+900M"], None), \
            (["resize", "--shrink", "IMAGE", "10M"], None):
        with t.sub(" ".join(words)):
            count = 0
            for number, copy in crash_states(t, words, path):
                sound(copy, f"killed at write {number}")
                if new:
                    check(content(copy) in (now, new), f"killed at write {number}: neither old nor new")
                count = number
            check(count > 3, f"only {count} states were tried")


if __name__ == "__main__":
    harness.main()
