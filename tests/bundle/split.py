# SPDX-License-Identifier: Apache-2.0
"""
vmimg split: which kernel is taken out of a disk, for every way that disks say so, and the parts byte
for byte. The disks are made by mke2fs and sfdisk; kernel and ramdisks are small stand-ins.
"""

import os

from artifacts import bzimage, cpio
from lib import env, harness, process, qemu
from lib.harness import check, equal, need

MIB = 1 << 20
KERNEL = bzimage(b"6.1.0-2 (right)")
OTHER = bzimage(b"6.1.0-10 (other)")
RAMDISK = cpio([("init", b"#!/bin/sh")])
SECOND = cpio([("more", b"files")])


def tree(folder, files):
    for name, content in files.items():
        path = os.path.join(folder, name)
        os.makedirs(os.path.dirname(path), exist_ok=True)
        if isinstance(content, str) and content.startswith("->"):
            os.symlink(content[2:], path)
        else:
            with open(path, "wb") as file:
                file.write(content if isinstance(content, bytes) else content.encode())
    return folder


def disk(t, *trees, fs="ext4"):
    """A GPT disk with a file system of 16 MiB for each tree, ext4 unless it is named vfat."""
    need("sfdisk", "mke2fs")
    path = t.path("disk.raw")
    with open(path, "wb") as file:
        file.truncate((2 + 16 * len(trees)) * MIB)
    script = "label: gpt\n" + "size=16M, type=linux\n" * len(trees)
    check(process.run(env.find("sfdisk"), "-q", path, stdin=script.encode()).code == 0, "sfdisk")
    for i, files in enumerate(trees):
        with t.folder() as folder:
            result = process.run(env.find("mke2fs"), "-q", "-F", "-t", fs, "-d", tree(folder, files), "-E",
                                 f"offset={(1 + 16 * i) * MIB}", path, "16M")
        check(result.code == 0, str(result))
    return path


def split(t, source, *options):
    result = process.vmimg_ok("split", "--json", source, "--aki", t.path("k"), "--ari", t.path("r"), "--ami",
                              t.path("f"), "--force", *options)
    report = result.json()
    kernel, ramdisk = (open(t.path(name), "rb").read() if os.path.exists(t.path(name)) else None for name in "kr")
    for name in "kr":
        if os.path.exists(t.path(name)):
            os.unlink(t.path(name))
    return report, kernel, ramdisk


ROOT = {"etc/os-release": "ID=x\n"}
BOOT = {"vmlinuz-6.1.0-2": KERNEL, "initrd.img-6.1.0-2": RAMDISK, "vmlinuz-6.1.0-10": OTHER,
        "initrd.img-6.1.0-10": SECOND}
INSIDE = {"boot/" + name: content for name, content in BOOT.items()}
GRUB = """set default="0"
menuentry 'first' {
	linux	/boot/vmlinuz-6.1.0-2 root=UUID=x ro  quiet
	initrd	/boot/initrd.img-6.1.0-2
}
menuentry 'second' {
	linux	/boot/vmlinuz-6.1.0-10 root=UUID=x
}
"""
ENTRY = "title x\nlinux /vmlinuz-6.1.0-2\ninitrd /initrd.img-6.1.0-2 /initrd.img-6.1.0-10\noptions root=x rhgb $tuned\n"
EXTLINUX = """DEFAULT l2
LABEL l1
  LINUX /boot/vmlinuz-6.1.0-10
LABEL l2
  LINUX ../boot/vmlinuz-6.1.0-2
  APPEND initrd=/boot/initrd.img-6.1.0-2 root=/dev/sda1 ro
"""


def test_sources(t):
    cases = {
        "grub.cfg": ([{**ROOT, **INSIDE, "boot/grub/grub.cfg": GRUB}], KERNEL, RAMDISK, "ro quiet", 1),
        "grub.cfg, separate boot": (
            [{**BOOT, "grub/grub.cfg": GRUB.replace("/boot/", "/")}, ROOT], KERNEL, RAMDISK, "ro quiet", 2),
        "boot loader entry": (
            [{**BOOT, "loader/entries/a.conf": ENTRY}, ROOT], KERNEL,
            RAMDISK + bytes(-len(RAMDISK) % 4) + SECOND, "rhgb $tuned", 2),
        "boot loader entry, default": (
            [{**BOOT, "loader/entries/a-1.conf": ENTRY,
              "loader/entries/z-9.conf": "linux /vmlinuz-6.1.0-10\n", "loader/loader.conf": "default a-*\n"}, ROOT],
            KERNEL, RAMDISK + SECOND, "rhgb $tuned", 2),
        "syslinux configuration": (
            [{**ROOT, **INSIDE, "boot/extlinux/extlinux.conf": EXTLINUX.replace("../boot", "/boot")}],
            KERNEL, RAMDISK, "ro", 1),
        "link": ([{**ROOT, **INSIDE, "vmlinuz": "->boot/vmlinuz-6.1.0-2", "initrd.img": "->/boot/initrd.img-6.1.0-2"}],
                 KERNEL, RAMDISK, "", 1),
        "newest": ([{**ROOT, **INSIDE}], OTHER, SECOND, "", 1),
        "newest, no ramdisk": ([{**ROOT, "boot/vmlinuz-1": KERNEL}], KERNEL, None, "", 1),
    }
    for name, (trees, kernel, ramdisk, options, root) in cases.items():
        with t.sub(name):
            source = disk(t, *trees)
            report, got_kernel, got_ramdisk = split(t, source)
            equal(report["chosen-by"], name.split(",")[0], "chosen by")
            check(got_kernel == kernel, "another kernel")
            check(got_ramdisk == ramdisk, "another ramdisk")
            equal(report["command-line"], options)
            equal(report["root"]["partition"], root, "root partition")
            with open(source, "rb") as file:
                file.seek((1 + 16 * (root - 1)) * MIB)
                want = file.read(16 * MIB)
            check(open(t.path("f"), "rb").read() == want, "the root file system differs")


def test_formats(t):
    """Out of a qcow2, into a qcow2."""
    source = disk(t, {**ROOT, **INSIDE})
    packed = t.path("disk.qcow2")
    qemu.convert(source, packed, "raw", "qcow2")
    _, kernel, _ = split(t, packed, "-O", "qcow2")
    check(kernel == OTHER, "another kernel")
    with open(source, "rb") as file, open(t.path("want"), "wb") as want:
        file.seek(MIB)
        want.write(file.read(16 * MIB))
    equal(process.guest_sha256(t.path("f")), process.guest_sha256(t.path("want")))


def test_file_system_alone(t):
    with t.folder() as folder:
        process.run(env.find("mke2fs"), "-q", "-t", "ext4", "-d", tree(folder, {**ROOT, **INSIDE}), t.path("fs"), "16M")
    report, kernel, _ = split(t, t.path("fs"))
    check(kernel == OTHER and report["root"]["partition"] == 0, report)


def refused(t, source, *words):
    result = process.vmimg("split", source, "--aki", t.path("k"), "--ari", t.path("r"), "--ami", t.path("f"))
    process.check_one_line(result)
    equal(result.code, 4, str(result))
    for word in words:
        check(word in result.errors, result.errors)
    check(not any(os.path.exists(t.path(name)) for name in "krf"), "an output was left")


def test_refusals(t):
    with t.sub("no kernel"):
        refused(t, disk(t, ROOT), "no kernel")
    with t.sub("no root"):
        refused(t, disk(t, BOOT), "no root")
    with t.sub("a kernel that is none"):
        refused(t, disk(t, {**ROOT, "boot/vmlinuz-1": b"text" * 999}), "not a kernel")
    for name, magic, at in (("LUKS", b"LUKS\xba\xbe\0\1", 0), ("LVM", b"LABELONE" + bytes(16) + b"LVM2 001", 512)):
        with t.sub(name):
            source = disk(t, BOOT, {})
            with open(source, "r+b") as file:
                file.seek(17 * MIB)
                file.write(bytes(16 * MIB))
                file.seek(17 * MIB + at)
                file.write(magic)
            refused(t, source, name, "partition 2")


def test_hostile(t):
    """Configurations that loop, lie or go on for ever."""
    long = "linux /" + "x" * 5000 + " " + "y" * 100000 + "\n"
    cases = {
        "link to itself": {**ROOT, "vmlinuz": "->vmlinuz"},
        "link out": {**ROOT, "vmlinuz": "->../../../../../../etc/passwd"},
        "long lines": {**ROOT, **INSIDE, "boot/grub/grub.cfg": long * 5},
        "binary": {**ROOT, **INSIDE, "boot/grub/grub.cfg": bytes(range(256)) * 400},
        "empty entry": {**ROOT, **INSIDE, "loader/entries/x.conf": ""},
    }
    for name, files in cases.items():
        with t.sub(name):
            result = process.vmimg("split", disk(t, files), "--aki", t.path("k"), "--ari", t.path("r"), "--ami",
                                   t.path("f"), "--force")
            process.check_bars(result, name)
            equal(result.code, 0 if "boot/vmlinuz-6.1.0-2" in files else 4, str(result))


if __name__ == "__main__":
    harness.main()
