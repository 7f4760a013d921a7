# SPDX-License-Identifier: Apache-2.0
"""
How a QCOW2 image is kept, changed in place: the width of refcounts, the version, the size where the data is in another file.
Held against qemu-img's check, info and content, and its own amend; a kill and a full disk at every write.
"""

import os
import shutil

from lib import disks, env, harness, qemu
from lib.harness import check, equal
from lib.process import run, vmimg, vmimg_ok
from lib.qemu import content, sound

SIZE = (12 << 20) + 512
KEY = "--object", "secret,id=s,data=pass"


def kept(path):
    """The version and the width of refcounts, by qemu-img's word."""
    data = qemu.img("info", "--output=json", path).json()["format-specific"]["data"]
    return data["compat"], data["refcount-bits"]


def make(options, parent=False):
    """In the current folder, with zeroes of all kinds and a snapshot that shares some of them."""
    if parent:
        disks.pattern("base.raw", SIZE, seed=9)
    backing = ",backing_file=base.raw,backing_fmt=raw" if parent else ""
    qemu.img("create", "-q", "-f", "qcow2", "-o", options + backing, "disk.qcow2", str(SIZE))
    size = 4096 if "=4k" in options else 65536
    qemu.io("disk.qcow2", "write -P 1 0 3M", "write -z 1M 512k", "write -z -u 2M 256k", "write -z 5M 1M", f"write -c -P 3 7M {size}")
    qemu.img("snapshot", "-c", "one", "disk.qcow2")
    qemu.io("disk.qcow2", "write -P 4 512k 1M", "write -z 0 256k", "write -z -u 6M 64k", "write -P 5 5120k 64k")
    return "disk.qcow2"


def contents(path):
    return content(path), content(path, "-l", "one")


def test_width(t):
    """From each width to each that can hold the counts."""
    for cluster in "64k", "512", "4k":
        with t.sub(cluster), t.folder() as folder:
            os.chdir(folder)
            path = make(f"cluster_size={cluster}")
            want = contents(path)
            least = 2 if cluster != "512" else 8  # there compressed clusters share a host cluster
            for bits in 64, 8, least, 4 if least < 4 else 16, 32, least, 16:
                vmimg_ok("amend", "-o", f"refcount_bits={bits}", path)
                sound(path, f"{bits} bits")
                equal(kept(path), ("1.1", bits), "what qemu-img says")
            equal(contents(path), want, "contents")
            before = disks.sha256(path)
            result = vmimg("amend", "-o", "refcount_bits=1", path)
            check(result.code == 4 and "has a refcount of 2" in result.errors, str(result))
            for options, code in ("refcount_bits=3", 2), ("refcount_bits=128", 2), ("compat=0.10,refcount_bits=8", 2):
                equal(vmimg("amend", "-o", options, path).code, code, options)
            equal(disks.sha256(path), before, "the image")
            vmimg_ok("snapshot", "delete", path, "one")
            if least < 8:
                vmimg_ok("amend", "-o", "refcount_bits=1", path)
                sound(path, "1 bit")
            qemu.io(path, "write -P 6 0 1M")
            sound(path, "written")


def test_down(t):
    """Zeroes that version 2 cannot say are holes, or zeroes over the backing file; snapshots keep theirs."""
    for parent in False, True:
        for options in "cluster_size=64k", "cluster_size=4k,lazy_refcounts=on", "cluster_size=512", "refcount_bits=8":
            with t.sub(f"{options}{' over a parent' if parent else ''}"), t.folder() as folder:
                os.chdir(folder)
                path = make(options, parent)
                want = contents(path)
                vmimg_ok("amend", "-o", "compat=0.10,refcount_bits=16", path)
                sound(path, "amended")
                equal(kept(path), ("0.10", 16), "what qemu-img says")
                equal(contents(path), want, "contents")
                qemu.img("snapshot", "-a", "one", path)
                equal(content(path), want[1], "the snapshot applied")
                vmimg_ok("amend", "-o", "compat=1.1", path)
                sound(path, "and up again")
                equal(contents(path), (want[1], want[1]), "contents")


def test_down_refused(t):
    with t.folder() as folder:
        os.chdir(folder)
        for options in "extended_l2=on", "data_file=d.raw", "compression_type=zstd", "refcount_bits=8":
            qemu.img("create", "-q", "-f", "qcow2", "-o", options, "x.qcow2", "1M")
            before = disks.sha256("x.qcow2")
            result = vmimg("amend", "-o", "compat=0.10", "x.qcow2")
            check(result.code in (2, 4) and "compat=" in result.errors, f"{options}: {result}")
            equal(disks.sha256("x.qcow2"), before, options)
        path = make("cluster_size=64k")
        qemu.img("bitmap", "--add", path, "b")
        check("remove them first" in vmimg("amend", "-o", "compat=0.10", path).errors, "bitmaps")
        qemu.img("bitmap", "--remove", path, "b")
        vmimg_ok("resize", path, "+1M")
        check("another size" in vmimg("amend", "-o", "compat=0.10", path).errors, "a snapshot of another size")


def test_down_encrypted(t):
    """Zeroes over a backing file are encrypted ones."""
    harness.need("qemu-io")
    with t.folder() as folder:
        os.chdir(folder)
        raw = disks.pattern("base.raw", 4 << 20, seed=2)
        vmimg_ok("create", "-q", *KEY, "-f", "qcow2", "-b", raw, "-F", "raw", "-o",
                 "encrypt.format=luks,encrypt.key-secret=s,encrypt.iter-time=10", "x.qcow2", "4M")
        qemu_io = ["qemu-io", *KEY, "--image-opts", "driver=qcow2,encrypt.key-secret=s,file.filename=x.qcow2"]
        check(run(*qemu_io, "-c", "write -z 1M 1M", "-c", "write -P 7 3M 64k").code == 0, "qemu-io")
        result = vmimg("amend", "-o", "compat=0.10", "x.qcow2")
        check(result.code == 5 and "secret" in result.errors, str(result))
        vmimg_ok("amend", *KEY, "-o", "compat=0.10", "x.qcow2")
        equal(vmimg("check", "x.qcow2").code, 0, "check")
        result = run(*qemu_io, "-c", "read -P 0 1M 1M", "-c", "read -P 7 3M 64k")
        check(result.code == 0 and "verification failed" not in result.text, result.text)


def inject(words, restore):
    """Where a kill, or a full disk, has ended the command: at every write, hole and change of length."""
    harness.need("strace")
    for how in "signal=KILL", "error=ENOSPC":
        for call in "pwrite64", "ftruncate", "fallocate":
            for number in range(1, 400):
                restore()
                result = run("strace", "-f", "-o", "/dev/null", "-e", f"trace={call}", "-e",
                             f"inject={call}:{how}:when={number}", env.VMIMG, *words)
                yield f"{how} at {call} {number}"
                if result.code == 0:
                    break
            check(number < 399, "it never ends")


def test_killed(t):
    for parent, options in (False, "refcount_bits=64"), (False, "refcount_bits=2"), (True, "compat=0.10"), (True, "compat=0.10,refcount_bits=16"):
        with t.sub(options), t.folder() as folder:
            os.chdir(folder)
            path = make("cluster_size=64k" + (",refcount_bits=4" if "=16" in options else ""), parent)
            want, states = contents(path), set()
            shutil.copyfile(path, "old")
            for where in inject(["amend", "-o", options, path], lambda: shutil.copyfile("old", "disk.qcow2")):
                sound(path, where)
                states.add(kept(path))
                if len(states) < 2 or "KILL" in where:
                    equal(contents(path), want, where)
            check(len(states) == (3 if "=16" in options else 2), f"states {states}")


def test_data_file(t):
    """The disk's end moves in the data file as well: what lay past it shows to nobody, and a raw one is the disk."""
    for raw in False, True:
        for more in "", ",extended_l2=on", ",encrypt.format=luks,encrypt.key-secret=s,encrypt.iter-time=10":
            if raw and "luks" in more:
                continue
            with t.sub(f"{'raw' if raw else 'not raw'}{more[:9]}"), t.folder() as folder:
                os.chdir(folder)
                disk = disks.pattern("disk.raw", SIZE, seed=4, data=8 << 20)
                vmimg_ok("convert", "-q", *KEY, "-O", "qcow2", "-o", f"data_file=d.raw,data_file_raw={'on' if raw else 'off'}{more}", disk, "x.qcow2")
                size = SIZE
                for new in 5 << 20, (3 << 20) + 1536, 9 << 20, (8 << 20) + 512, (20 << 20) + 512:
                    vmimg_ok("bitmap", "--add", "x.qcow2", str(new))
                    vmimg_ok("resize", *KEY, "--shrink", "--shrink", "x.qcow2", str(new))
                    os.truncate(disk, min(size, new))
                    os.truncate(disk, new)
                    size = new
                    result = vmimg("compare", *KEY, "x.qcow2", disk)
                    equal(result.code, 0, f"content at {new}: {result.text}")
                    equal(vmimg("check", "x.qcow2").code, 0, f"check at {new}")
                    check(not raw or disks.sha256("d.raw") == disks.sha256(disk), f"the data file at {new}")
                    if "luks" not in more:
                        sound("x.qcow2", str(new))
                        equal(content("x.qcow2"), disks.sha256(disk), f"content by QEMU at {new}")
        with t.folder() as folder:
            os.chdir(folder)
            qemu.img("create", "-q", "-f", "qcow2", "-o", "data_file=d.raw,data_file_raw=on", "x.qcow2", "1M")
            os.truncate("d.raw", 4096)
            equal(vmimg("resize", "x.qcow2", "2M").code, 4, "a data file that was cut")


def test_data_file_killed(t):
    for options, new in ("data_file_raw=on", 3 << 20), ("data_file_raw=off", (3 << 20) + 512), ("data_file_raw=off", 20 << 20):
        with t.sub(f"{options} {new}"), t.folder() as folder:
            os.chdir(folder)
            disk = disks.pattern("disk.raw", SIZE, seed=4, data=8 << 20)
            vmimg_ok("convert", "-q", "-O", "qcow2", "-o", f"data_file=d.raw,{options},cluster_size=4k", disk, "x.qcow2")
            old = content("x.qcow2")
            os.truncate(disk, new)
            for name in "x.qcow2", "d.raw":
                shutil.copyfile(name, name + ".old")

            def restore():
                for name in "x.qcow2", "d.raw":
                    shutil.copyfile(name + ".old", name)
            for where in inject(["resize", "--shrink", "--shrink", "x.qcow2", str(new)], restore):
                sound("x.qcow2", where)
                check(content("x.qcow2") in (old, disks.sha256(disk)), where)


def test_version_2_with_snapshots(t):
    """A snapshot states its size, so the disk can have another one; QEMU goes back to it once the image is of version 3."""
    path = t.path("disk.qcow2")
    qemu.create(path, "qcow2", 4 << 20, compat="0.10")
    qemu.io(path, "write -P 1 0 4M")
    qemu.img("snapshot", "-c", "one", path)
    qemu.io(path, "write -P 2 1M 1M")
    first = content(path, "-l", "one")
    for size in "8M", "1536k", "6M":
        vmimg_ok("resize", "--shrink", "--shrink", path, size)
        sound(path, size)
    qemu.io(path, "read -P 2 1M 512k", "read -P 0 1536k 4608k")
    copy = t.path("copy.qcow2")
    shutil.copyfile(path, copy)
    vmimg_ok("snapshot", "apply", copy, "one")
    equal(content(copy), first, "applied")
    vmimg_ok("amend", "-o", "compat=1.1", path)
    qemu.img("snapshot", "-a", "one", path)
    sound(path, "applied by QEMU")
    equal(content(path), first, "applied by QEMU")


if __name__ == "__main__":
    harness.main()
