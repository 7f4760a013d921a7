# SPDX-License-Identifier: Apache-2.0
"""Space given back, in place and into new images: how much, and that nothing that counts is gone."""

import hashlib
import os
import random
import re
import shutil

from lib import disks, env, harness, qemu
from lib.harness import check, equal
from lib.process import run, vmimg, vmimg_ok

SIZE = 12 << 20
# (format, options): each made with all of its space taken
WAYS = [("raw", []), ("qcow2", []), ("qcow2", ["-o", "extended_l2=on"]), ("qcow2", ["-c"]),
        ("vmdk", []), ("vmdk", ["-o", "subformat=monolithicFlat"]), ("vhd", []), ("vhdx", []), ("vdi", [])]


def space(path):
    return sum(os.stat(os.path.join(os.path.dirname(path), name)).st_blocks * 512
               for name in os.listdir(os.path.dirname(path)))


def holed(path):
    """A disk of random data with zeroes in it that take space: whole megabytes, and odd places."""
    rng = random.Random(5)
    with open(path, "wb") as file:
        for i in range(SIZE >> 20):
            file.write(bytes(1 << 20) if i % 3 else rng.randbytes(1 << 20))
        for at in 4096, (3 << 20) + 70000, (6 << 20) + 512:
            file.seek(at)
            file.write(bytes(200000))
    return path


def make(t, folder, fmt, options):
    raw = holed(f"{folder}.raw")
    image = f"{folder}/image.{fmt}"
    # -S 0: zeroes are written as they are
    vmimg_ok("convert", "-S", "0", "-O", fmt, *options, raw, image)
    return raw, image


def test_zeroes(t):
    for fmt, options in WAYS:
        with t.sub(f"{fmt} {' '.join(options)}"), t.folder() as folder:
            raw, image = make(t, folder, fmt, options)
            before, digest = space(image), disks.sha256(raw)
            report = vmimg_ok("compact", "--json", image).json()
            equal(qemu.guest_sha256(image, fmt, t.tmp), digest, "content")
            check(vmimg("check", image).code in (0, 3, 63), "check finds damage")
            data = SIZE // 3
            if "-c" not in options and fmt != "vhd" and fmt != "vhdx":  # whose blocks are larger than the gaps
                check(space(image) < data * 1.1 + (1 << 20), f"{space(image)} bytes of {before}, {data} are needed")
            check(space(image) <= before, "it grew")
            check(report["bytes-after"] <= report["bytes-before"], str(report))
            again = vmimg_ok("compact", "--json", image).json()
            equal(again["bytes-after"], report["bytes-after"], "a second time")
        with t.sub(f"{fmt} {' '.join(options)} into a new one"), t.folder() as folder:
            raw, image = make(t, folder, fmt, options)
            with t.folder() as other:
                vmimg_ok("compact", "-o", f"{other}/new.{fmt}", image)
                equal(qemu.guest_sha256(f"{other}/new.{fmt}", fmt, t.tmp), disks.sha256(raw), "content")
                check(space(f"{other}/new.{fmt}") <= space(image), "it is larger")
                equal(vmimg("compact", "-o", image, image).code, 2, "over itself")


def test_overlay(t):
    """Zeroes that hide what a parent has stay zeroes, and what is not there stays so."""
    for fmt in ("qcow2", "vhd", "vhdx", "vdi", "vmdk"):
        with t.sub(fmt), t.folder() as folder:
            raw = disks.pattern(f"{folder}/r.raw", SIZE, seed=4, data=SIZE)
            vmimg_ok("convert", "-O", "qcow2", raw, f"{folder}/m0.qcow2")
            qemu.img("create", "-q", "-f", "qcow2", "-b", "m0.qcow2", "-F", "qcow2", f"{folder}/m1.qcow2")
            qemu.io(f"{folder}/m1.qcow2", "write -P 0 1M 5M", "write -P 7 7M 1M", "write -P 0 9100k 70k", fmt="qcow2")
            vmimg_ok("convert", "-O", fmt, raw, f"{folder}/base.{fmt}")
            vmimg_ok("convert", "-S", "0", "-O", fmt, "-B", f"base.{fmt}", "-F", fmt, f"{folder}/m1.qcow2", f"{folder}/top.{fmt}")
            want = qemu.guest_sha256(f"{folder}/m1.qcow2", "qcow2", t.tmp)
            before = os.stat(f"{folder}/top.{fmt}").st_blocks
            vmimg_ok("compact", f"{folder}/top.{fmt}")
            equal(vmimg_ok("digest", f"{folder}/top.{fmt}").text.split()[0], want, "content")
            check(os.stat(f"{folder}/top.{fmt}").st_blocks <= before, "it grew")
            vmimg_ok("compact", "-o", f"{folder}/new.{fmt}", f"{folder}/top.{fmt}")
            equal(vmimg_ok("digest", f"{folder}/new.{fmt}").text.split()[0], want, "content of the new one")
            equal(len(vmimg_ok("chain", "show", "--json", f"{folder}/new.{fmt}").json()["layers"]), 2, "layers")


def noise(path, size):
    with open(path, "wb") as file:
        file.write(random.Random(7).randbytes(size))
    return path


def file_system(folder, kind, size):
    """One with a file in it, whose free space is full of noise; and how many bytes are free."""
    path = noise(f"{folder}/fs.raw", size)
    tree = f"{folder}/tree"
    os.makedirs(tree, exist_ok=True)
    with open(f"{tree}/file", "wb") as file:
        file.write(random.Random(8).randbytes(3 << 20))
    if kind == "ext4":
        harness.need("mkfs.ext4", "dumpe2fs")
        run(env.find("mkfs.ext4"), "-q", "-E", "nodiscard", "-d", tree, path)
        return path, free_blocks(path)
    harness.need("mkfs.vfat", "mcopy")
    run(env.find("mkfs.vfat"), "-F", "32", "-s", "1", path)
    run("mcopy", "-i", path, f"{tree}/file", "::file")
    return path, size - (5 << 20)


def free_blocks(path):
    told = run(env.find("dumpe2fs"), "-h", path).text
    return int(re.search(r"Free blocks: +(\d+)", told)[1]) * int(re.search(r"Block size: +(\d+)", told)[1])


def scattered(folder):
    """A file system of small files without every other one; and how many bytes were theirs."""
    rng, path, tree = random.Random(9), f"{folder}/fs.raw", f"{folder}/tree"
    os.makedirs(tree, exist_ok=True)
    for i in range(1200):
        with open(f"{tree}/{i:04}", "wb") as file:
            file.write(rng.randbytes(rng.randrange(1, 12) * 4096))
    run(env.find("mkfs.ext4"), "-q", "-b", "4096", "-d", tree, path, "64M")
    full = free_blocks(path)
    names = "".join(f"rm {i:04}\n" for i in range(0, 1200, 2))
    run(env.find("debugfs"), "-w", "-f", "-", path, stdin=names.encode())
    return path, free_blocks(path) - full


def test_small_files(t):
    """What was deleted lies between what was not, in pieces smaller than a block of the image."""
    harness.need("mkfs.ext4", "dumpe2fs", "debugfs")
    with t.folder() as made:
        plain, freed = scattered(made)
        check(freed > 10 << 20, f"only {freed} bytes were freed")
        for fmt, options in WAYS:
            if options == ["-c"]:
                continue
            with t.sub(f"{fmt} {' '.join(options)}"), t.folder() as folder:
                image = f"{folder}/image.{fmt}"
                vmimg_ok("convert", "-O", fmt, *options, plain, image)
                before = space(image)
                vmimg_ok("compact", "-q", image)
                check(before - space(image) >= 0.95 * freed, f"{before - space(image)} of {freed} bytes were given back")
                check(vmimg("check", "-q", image).code in (0, 63), "check")
                vmimg_ok("convert", "-O", "raw", image, f"{folder}/out.raw")
                fsck("ext4", f"{folder}/out.raw")
                equal(vmimg_ok("cat", f"{image}:/0007").out, open(f"{made}/tree/0007", "rb").read(), "a file")


def fsck(kind, path):
    tool = ["e2fsck", "-fn"] if kind == "ext4" else ["fsck.vfat", "-n"]
    harness.need(tool[0])
    result = run(env.find(tool[0]), *tool[1:], path)
    equal(result.code, 0, str(result) + result.text)


def test_file_systems(t):
    """At least 95 % of what is free is given back; the file systems are sound and hold what they held."""
    for kind in ("ext4", "vfat"):
        for fmt in ("raw", "qcow2", "vdi"):
            with t.sub(f"{kind} in {fmt}"), t.folder() as folder:
                plain, free = file_system(folder, kind, 40 << 20)
                image = f"{folder}/x.{fmt}"
                vmimg_ok("convert", "-O", fmt, plain, image)
                before = os.stat(image).st_blocks * 512
                report = vmimg_ok("compact", "--json", image).json()
                equal(report["left-alone"], [], "left alone")
                given = before - os.stat(image).st_blocks * 512
                share = 0.95 if fmt != "vdi" else 0.8  # blocks of 1 MiB
                check(given >= share * free, f"{given} bytes of {free} that are free were given back")
                vmimg_ok("convert", "--force", "-O", "raw", image, f"{folder}/out.raw")
                fsck(kind, f"{folder}/out.raw")
                equal(vmimg_ok("cat", f"{image}:/file").out, open(f"{folder}/tree/file", "rb").read(), "the file")


def test_partitions(t):
    """File systems in partitions; one that was not unmounted is left alone, and --no-fs leaves all."""
    harness.need("sfdisk", "debugfs")
    with t.folder() as folder:
        plain, free = file_system(folder, "ext4", 20 << 20)
        disk = f"{folder}/disk.raw"
        with open(disk, "wb") as file:
            file.truncate(44 << 20)
        run(env.find("sfdisk"), "-q", disk, stdin=b"label: gpt\nstart=2048,size=40960\nstart=43008,size=40960\n")
        with open(disk, "r+b") as file, open(plain, "rb") as fs:
            content = fs.read()
            file.seek(2048 * 512)
            file.write(content)
            run(env.find("debugfs"), "-w", "-R", "ssv state 0", plain)
            fs.seek(0)
            file.seek(43008 * 512)
            file.write(fs.read())
        second = hashlib.sha256(open(disk, "rb").read()[43008 * 512:63 << 20]).hexdigest()
        shutil.copy(disk, f"{folder}/copy.raw")
        with t.sub("--no-fs"):
            vmimg_ok("compact", "--no-fs", f"{folder}/copy.raw")
            equal(disks.sha256(f"{folder}/copy.raw"), disks.sha256(disk), "content")
        with t.sub("one is left alone"):
            before = os.stat(disk).st_blocks * 512
            report = vmimg_ok("compact", "--json", disk).json()
            equal([item["partition"] for item in report["left-alone"]], [2], "left alone")
            check(0.95 * free <= before - os.stat(disk).st_blocks * 512 < 1.2 * free, "space")
            equal(hashlib.sha256(open(disk, "rb").read()[43008 * 512:63 << 20]).hexdigest(), second, "the second one")
        with t.sub("in an overlay"):
            qemu.img("create", "-q", "-f", "qcow2", "-b", "copy.raw", "-F", "raw", f"{folder}/over.qcow2")
            qemu.io(f"{folder}/over.qcow2", "write -P 3 16M 2M", fmt="qcow2")
            vmimg_ok("compact", f"{folder}/over.qcow2")
            check(os.stat(f"{folder}/over.qcow2").st_blocks * 512 < 1 << 20, "it still has what is unused")


def test_killed(t):
    """Whatever call is the last one: the same content, and nothing worse than leaks."""
    harness.need("strace")
    for fmt, options in WAYS:
        if options == ["-c"]:
            continue
        with t.sub(f"{fmt} {' '.join(options)}"), t.folder() as folder:
            raw, image = make(t, folder, fmt, options)
            digest = disks.sha256(raw)
            with t.folder() as trial:
                shutil.copytree(folder, f"{trial}/x")
                vmimg_ok("compact", f"{trial}/x/{os.path.basename(image)}")
            for call in ("pwrite64", "fallocate", "fsync", "ftruncate", "renameat2"):
                number, step = 1, 1
                while number < 4000:
                    with t.folder() as trial:
                        shutil.copytree(folder, f"{trial}/x")
                        copy = f"{trial}/x/{os.path.basename(image)}"
                        result = run("strace", "-f", "-qq", "-o", "/dev/null", "-e", f"trace={call}", "-e",
                                     f"inject={call}:signal=KILL:when={number}", env.VMIMG, "compact", "--threads=1", copy)
                        check(vmimg("check", copy).code in (0, 3, 63), f"killed at {call} {number}")
                        equal(vmimg_ok("digest", copy).text.split()[0], digest, f"killed at {call} {number}")
                    if result.code == 0:
                        break
                    number, step = number + step, step * 3


if __name__ == "__main__":
    harness.main()
