# SPDX-License-Identifier: Apache-2.0
"""Chains of images whose parents are known by identity, and changes cut off at every call that writes."""

import os
import shutil

from lib import disks, env, harness, process, qemu
from lib.harness import check, equal
from lib.process import run, vmimg, vmimg_ok

MIB = 1 << 20
SIZE = 9 * MIB + 1024
PATCHES = (100000, b"new" * 100), (5 * MIB, bytes(2 * MIB)), (8 * MIB + 512, b"\x11" * 70000)
CALLS = ["pwrite64", "ftruncate", "fallocate", "fsync", "fdatasync"]


def change(source, target, *patches):
    """A copy of a raw disk with other bytes at some places: (offset, bytes)."""
    disks.copy(source, target)
    with open(target, "r+b") as file:
        for at, data in patches:
            file.seek(at)
            file.write(data)
    return target


def child_of(base, raw, changed, path, fmt, *options):
    """A child that has what differs between two raw disks: made of all, and emptied of what the base has."""
    folder = os.path.dirname(path)
    vmimg_ok("convert", "-O", fmt, *options, raw, f"{folder}/same.{fmt}")
    overlay = f"{folder}/overlay.qcow2"
    run("qemu-img", "create", "-q", "-f", "qcow2", "-b", os.path.basename(changed), "-F", "raw", overlay)
    result = run("qemu-img", "rebase", "-f", "qcow2", "-b", os.path.basename(raw), "-F", "raw", overlay)
    check(result.code == 0, str(result))
    vmimg_ok("convert", "-B", os.path.basename(base), *options, overlay, path)
    os.unlink(overlay)
    os.unlink(f"{folder}/same.{fmt}")
    equal(process.guest_sha256(path), disks.sha256(changed), "the child")
    return path


def chain(folder, fmt, *options):
    """base.FMT of SIZE bytes and child.FMT on it, which has the PATCHES; the raw disks that they are."""
    raw = disks.pattern(f"{folder}/a.raw", SIZE, seed=3, data=3 * MIB)
    changed = change(raw, f"{folder}/b.raw", *PATCHES)
    vmimg_ok("convert", *options, raw, f"{folder}/base.{fmt}")
    child_of(f"{folder}/base.{fmt}", raw, changed, f"{folder}/child.{fmt}", fmt, *options)
    return raw, changed


def by_7zz(path, fmt, folder):
    """The digest of what 7-Zip unpacks."""
    shutil.rmtree(f"{folder}/7z", ignore_errors=True)
    result = run("7zz", "x", "-y", "-bd", f"-t{fmt.upper()}", f"-o{folder}/7z", path)
    check(result.code == 0, f"7zz: {result}")
    name, = os.listdir(f"{folder}/7z")
    digest = disks.sha256(f"{folder}/7z/{name}")
    os.unlink(f"{folder}/7z/{name}")
    return digest


def peers_agree(path, want, fmt, folder):
    """qemu-img, whose check has to be content where it knows the format, and 7-Zip read content with that digest."""
    if fmt != "vhd":
        qemu.img("check", "-q", "-f", fmt, path)
    equal(qemu.guest_sha256(path, fmt, folder), want, "qemu-img")
    if env.have("7zz"):
        equal(by_7zz(path, fmt, folder), want, "7zz")


def squeezed(folder, fmt, all_agree):
    """10 MiB of data, 4 of which become zero, are compacted; then a peer goes on with the image. all_agree(path,
    digest, folder) holds each step against content. Returns the sizes of the file before and after."""
    raw, path = f"{folder}/full.raw", f"{folder}/a.{fmt}"
    with open(raw, "wb") as file:
        for i in range(10):
            file.write(bytes([i + 1]) * MIB)
    vmimg_ok("convert", raw, path)
    before = os.path.getsize(path)
    qemu.io(path, "write -P 0 2M 4M", fmt=fmt)
    change(raw, raw + ".z", (2 * MIB, bytes(4 * MIB)))
    vmimg_ok("compact", path)
    after = os.path.getsize(path)
    all_agree(path, disks.sha256(raw + ".z"), folder)
    qemu.io(path, "write -P 9 3M 1M", fmt=fmt)
    change(raw + ".z", raw, (3 * MIB, b"\x09" * MIB))
    all_agree(path, disks.sha256(raw), folder)
    return before, after


def child_resized(folder, fmt):
    """The child of a chain, grown and cut; it and the raw disk that it is then."""
    _, changed = chain(folder, fmt)
    child = f"{folder}/child.{fmt}"
    for words, size in ([], SIZE + 5 * MIB), (["--shrink"], 5 * MIB):
        vmimg_ok("resize", *words, child, str(size))
        os.truncate(changed, size)
        sound(child, f"at {size}")
        equal(process.guest_sha256(child), disks.sha256(changed), f"at {size}")
    return child, changed


def sound(path, what, leaks=False):
    result = vmimg("check", path)
    check(result.code in ((0, 3) if leaks else (0,)), f"{what}: {result}{result.text[:400]}")


def cut_off(folder, name, allowed, *words):
    """
    Kills vmimg, and lets storage fail, at every call that changes a copy of folder/name. What is left
    must have a digest among allowed, and be sound but for leaks. IMAGE in words is the copy's path.
    """
    harness.need("strace")
    count = 0
    for how in "signal=KILL", "error=ENOSPC":
        for call in CALLS:
            for number in range(1, 200):
                copy = folder + ".copy"
                shutil.rmtree(copy, ignore_errors=True)
                shutil.copytree(folder, copy)
                image = f"{copy}/{name}"
                result = run("strace", "-f", "-qq", "-o", "/dev/null", "-e", f"trace={call}", "-e",
                             f"inject={call}:{how}:when={number}", env.VMIMG,
                             *[image if word == "IMAGE" else word for word in words])
                what = f"{how} at {call} {number}"
                sound(image, what, leaks=True)
                check(process.guest_sha256(image) in allowed, f"{what}: neither old nor new")
                count += 1
                if result.code == 0:
                    break
            else:
                raise harness.Failure("it never ends")
    shutil.rmtree(folder + ".copy", ignore_errors=True)
    check(count > 2 * len(CALLS) + 1, f"only {count} states were tried")
