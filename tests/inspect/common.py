# SPDX-License-Identifier: Apache-2.0
"""Disks to look into, made by mke2fs, mkfs.fat, mtools and sfdisk."""

import contextlib
import gzip
import lzma
import os
import random
import subprocess

from lib import env
from lib.harness import need, skip

OS_RELEASE = 'ID=test\nNAME="Test OS"\nPRETTY_NAME="Test OS 1.0 (\\"quoted\\")"\nVERSION_ID=1.0\n'
FSTAB = "# comment\nUUID=1234 / ext4 defaults 0 1\n/dev/sda2\t/boot vfat ro\n"


def tool(*args, **how):
    need(args[0])
    return subprocess.run([env.find(args[0]), *args[1:]], check=True, capture_output=True, **how)


def put(folder, name, content, mode=0o644):
    path = os.path.join(folder, name)
    os.makedirs(os.path.dirname(path), exist_ok=True)
    with open(path, "wb") as file:
        file.write(content if isinstance(content, bytes) else content.encode())
    os.chmod(path, mode)
    return path


def cpio(names):
    """An archive in the new format with empty files."""
    out = b""
    for name in [*names, "TRAILER!!!"]:
        raw = name.encode() + b"\0"
        head = "070701" + "".join("%08x" % v for v in (
            0, 0o100644, 0, 0, 1, 0, 0, 0, 0, 0, 0, len(raw), 0))
        out += head.encode() + raw
        out += b"\0" * (-len(out) % 4)
    return out + b"\0" * (-len(out) % 512)


def system_tree(folder):
    """A small installed system."""
    version = "6.1.0-9-amd64"
    put(folder, "usr/lib/os-release", OS_RELEASE)
    os.makedirs(f"{folder}/etc", exist_ok=True)
    os.symlink("../usr/lib/os-release", f"{folder}/etc/os-release")
    put(folder, "etc/hostname", "guest\n")
    put(folder, "etc/fstab", FSTAB)
    put(folder, "etc/cloud/cloud.cfg", "x\n")
    os.symlink("usr/lib", f"{folder}/lib")
    put(folder, f"usr/lib/modules/{version}/modules.builtin",
        "kernel/drivers/nvme/host/nvme.ko\n")
    put(folder, f"usr/lib/modules/{version}/modules.dep",
        "kernel/drivers/block/virtio_blk.ko.xz: kernel/x.ko\nkernel/drivers/net/vmxnet3.ko:\n")
    put(folder, f"boot/vmlinuz-{version}", b"kernel")
    early = cpio(["kernel/x86/microcode/GenuineIntel.bin"])
    late = cpio(["lib/modules/x/virtio_blk.ko", "lib/modules/x/hv_storvsc.ko.xz"])
    put(folder, f"boot/initrd.img-{version}", early + gzip.compress(late))
    put(folder, "boot/grub/grub.cfg", "x")
    return version


def files_tree(folder, space=" "):
    """Files of many shapes: what a reader must give back byte for byte."""
    rng = random.Random(1)
    put(folder, "etc/hostname", "hello\n")
    put(folder, "bin/big", rng.randbytes(3_000_000))
    put(folder, "empty", b"")
    put(folder, "tiny", "tiny")
    put(folder, "mid", rng.randbytes(130))
    with open(f"{folder}/sparse", "wb") as file:
        file.truncate(5 << 20)
        file.seek(5 << 20)
        file.write(b"end")
    for i in range(300):
        put(folder, f"etc/deep/er/A{space}long{space}name{space}number{space}{i}.txt", str(i))
    return folder


def with_links(folder):
    os.symlink("../etc/hostname", f"{folder}/bin/link")
    os.symlink("x" * 100, f"{folder}/longlink")
    os.symlink("/etc/hostname", f"{folder}/absolute")
    return folder


def mke2fs(path, tree, size, *options):
    with open(path, "wb") as file:
        file.truncate(size)
    tool("mke2fs", "-q", "-F", "-d", tree, *options, path)
    return path


def mkfat(path, tree, size, *options):
    need("mcopy")
    with open(path, "wb") as file:
        file.truncate(size)
    tool("mkfs.fat", *options, path)
    names = sorted(os.listdir(tree))
    tool("mcopy", "-s", "-i", path, *[f"{tree}/{name}" for name in names], "::/",
         env={**os.environ, "MTOOLS_SKIP_CHECK": "1"})
    return path


def mkbtrfs(path, tree, size, *options):
    with open(path, "wb") as file:
        file.truncate(size)
    tool("mkfs.btrfs", "-q", *options, *(["--rootdir", tree] if tree else []), path)
    return path


@contextlib.contextmanager
def mounted(path, folder, *options):
    """By the kernel, where that is allowed: else the test is skipped."""
    os.makedirs(folder, exist_ok=True)
    done = subprocess.run(["mount", "-o", ",".join(["loop", *options]), path, folder], capture_output=True,
                          check=False)
    if done.returncode:
        skip("nothing can be mounted here")
    try:
        yield folder
    finally:
        subprocess.run(["umount", folder], check=True)


def sfdisk(path, script, *options):
    tool("sfdisk", "-q", *options, path, input=script.encode())


def mkxfs(path, tree, size, *options):
    """By a prototype file, which takes no names with spaces."""
    lines = ["/dev/null", "0 0", "d--755 0 0"]

    def emit(folder):
        for name in sorted(os.listdir(folder)):
            below = os.path.join(folder, name)
            if os.path.islink(below):
                lines.append(f"{name} l--777 0 0 {os.readlink(below)}")
            elif os.path.isdir(below):
                lines.append(f"{name} d--755 0 0")
                emit(below)
                lines.append("$")
            else:
                lines.append(f"{name} ---644 0 0 {below}")
    emit(tree)
    with open(path, "wb") as file:
        file.truncate(size)
    with open(path + ".proto", "w", encoding="utf-8") as file:
        file.write("\n".join([*lines, "$", ""]))
    tool("mkfs.xfs", "-q", "-f", *options, "-p", path + ".proto", path)
    return path


def place(disk, at, part):
    with open(part, "rb") as source, open(disk, "r+b") as target:
        target.seek(at)
        target.write(source.read())


def same_tree(a, b):
    """What differs between two folders, links compared as links."""
    done = subprocess.run(["diff", "-r", "--no-dereference", a, b], capture_output=True, check=False)
    return done.stdout.decode(errors="replace")[:400]


def xz(data):
    return lzma.compress(data, check=lzma.CHECK_CRC32)
