# SPDX-License-Identifier: Apache-2.0
"""Formats exchanged around data that stays where it is."""

import fcntl
import os
import struct

from lib import disks, env, harness, qemu
from lib.harness import check, equal
from lib.process import run, vmimg, vmimg_ok

SIZE = (20 << 20) + 512


def digest(path):
    return vmimg_ok("digest", path).text.split()[0]


def test_vhd(t):
    raw = disks.pattern(t.path("disk.raw"), SIZE, seed=1)
    want, inode = disks.sha256(raw), os.stat(raw).st_ino
    vmimg_ok("convert", "--in-place", "-O", "vhd", raw, t.path("disk.vhd"))
    equal(os.listdir(t.tmp), ["disk.vhd"], "files")
    equal(os.stat(t.path("disk.vhd")).st_ino, inode, "the file")
    vmimg_ok("check", t.path("disk.vhd"))
    equal(digest(t.path("disk.vhd")), want, "content")
    report = vmimg_ok("info", "--json", t.path("disk.vhd")).json()
    equal((report["format"], report["virtual-size"], report["variant"]), ("vhd", SIZE, "fixed"), "kind")
    equal(qemu.guest_sha256(t.path("disk.vhd"), "vhd", t.tmp, ), want, "by the peer")
    vmimg_ok("convert", "--in-place", "-O", "raw", t.path("disk.vhd"))  # under the same name
    equal(disks.sha256(t.path("disk.vhd")), want, "the raw disk")


def test_vmdk(t):
    raw = disks.pattern(t.path("disk.raw"), SIZE, seed=2)
    want, inode = disks.sha256(raw), os.stat(raw).st_ino
    vmimg_ok("convert", "--in-place", raw, t.path("new.vmdk"))
    equal(sorted(os.listdir(t.tmp)), ["new-flat.vmdk", "new.vmdk"], "files")
    equal(os.stat(t.path("new-flat.vmdk")).st_ino, inode, "the file")
    equal(digest(t.path("new.vmdk")), want, "content")
    equal(qemu.guest_sha256(t.path("new.vmdk"), "vmdk", t.tmp), want, "by the peer")
    vmimg_ok("convert", "--in-place", t.path("new.vmdk"), t.path("back.raw"))
    equal(sorted(os.listdir(t.tmp)), ["back.raw"], "files")
    equal(disks.sha256(t.path("back.raw")), want, "the raw disk")


def test_large(t):
    """100 GiB cost nothing."""
    with open(t.path("large.raw"), "wb") as file:
        file.truncate(100 << 30)
        file.write(b"begin")
    for source, target in ("large.raw", "large.vhd"), ("large.vhd", "large.raw"), ("large.raw", "large.vmdk"):
        result = vmimg_ok("convert", "--in-place", t.path(source), t.path(target))
        check(result.cpu < 0.05 * env.SLACK, f"{source}: {result.cpu} s")


def test_refused(t):
    raw = disks.pattern(t.path("disk.raw"), SIZE, seed=3)
    want = disks.sha256(raw)
    vmimg_ok("convert", raw, t.path("disk.qcow2"))
    for words, code in ((["-O", "raw", t.path("disk.qcow2")], 4), (["-O", "vmdk", raw], 2),
                        ([raw, t.path("disk.qcow2")], 5)):
        equal(vmimg("convert", "--in-place", *words).code, code, str(words))
    equal(disks.sha256(raw), want, "the disk")
    equal(sorted(os.listdir(t.tmp)), ["disk.qcow2", "disk.raw"], "files")


def test_killed(t):
    """The disk is there under the old name or the new."""
    harness.need("strace")
    for target in "disk.vhd", "disk.vmdk":
        for how in ("signal=KILL", "error=ENOSPC"):
            for call in ("pwrite64", "ftruncate", "fsync", "link", "linkat", "unlink", "renameat2"):
                for number in range(1, 40):
                    with t.folder() as folder:
                        raw = disks.pattern(f"{folder}/disk.raw", 2 << 20, seed=4)
                        want = disks.sha256(raw)
                        result = run("strace", "-f", "-qq", "-o", "/dev/null", "-e", f"trace={call}", "-e",
                                     f"inject={call}:{how}:when={number}", env.VMIMG, "convert", "--in-place", raw,
                                     f"{folder}/{target}")
                        where = f"{how} at {call} {number}"
                        if os.path.exists(raw):
                            equal(digest(raw), want, where)
                        else:
                            equal(digest(f"{folder}/{target}"), want, where)
                        if os.path.exists(f"{folder}/{target}"):
                            equal(digest(f"{folder}/{target}"), want, where)
                    if result.code == 0:
                        break


def test_refused_early(t):
    """A base that takes no content does not become larger for it either."""
    base, top = t.path("base.qcow1"), t.path("top.qcow2")
    qemu.create(base, "qcow", 1 << 20)
    qemu.img("create", "-q", "-f", "qcow2", "-u", "-b", os.path.basename(base), "-F", "qcow", top, str(2 << 20))
    before = disks.sha256(base)
    result = vmimg("commit", "-d", top)
    equal(result.code != 0, True, "refused")
    check("takes no new content" in result.errors, str(result))
    equal(disks.sha256(base), before, "the base")


def test_strangers_base(t):
    """What an overlay names is written only where the policy lets it be read, and its format is stated."""
    os.chdir(t.tmp)
    victim, top = t.path("victim"), t.path("top.qcow2")
    with open(victim, "wb") as file:
        file.write(b"root::0:0:::\n" * 1000)
    before = disks.sha256(victim)
    os.symlink("victim", "link")
    for name, fmt in (victim, "raw"), ("./link", "raw"), ("../" + os.path.basename(t.tmp) + "/victim", "raw"), ("victim", None):
        qemu.create(top, "qcow2", 64 << 10)
        qemu.io(top, "write -P 1 0 64k")
        vmimg_ok("rebase", "-u", "-b", name, "-F", "raw", top)
        if not fmt:
            with open(top, "r+b") as file:
                head = file.read(4096)
                file.seek(head.index(struct.pack(">I", 0xe2792aca)))
                file.write(struct.pack(">I", 0x12345678))
        for words in [], ["-d"], ["-b", name], ["--untrusted"]:
            result = vmimg("commit", *words, top)
            equal(result.code, 5, str(result))
            equal(disks.sha256(victim), before, f"{name} after {words}")


def test_data_file_in_use(t):
    """The file that holds the data is written, and so must have no reader either."""
    os.chdir(t.tmp)
    qemu.img("create", "-q", "-f", "qcow2", "-o", "data_file=d.data", "d.qcow2", "64k")
    qemu.img("create", "-q", "-f", "qcow2", "-b", "d.qcow2", "-F", "qcow2", "u.qcow2")
    qemu.io("u.qcow2", "write -P 1 0 64k")
    with open("d.data", "rb") as file:  # the locks of qemu-img convert, which lets nobody write
        for byte in 100, 201, 203:
            fcntl.fcntl(file, 37, struct.pack("hhqqi4x", fcntl.F_RDLCK, os.SEEK_SET, byte, 1, 0))  # F_OFD_SETLK
        for words in ("commit", "u.qcow2"), ("compact", "--no-fs", "d.qcow2"):
            result = vmimg(*words)
            check(result.code == 7 and "d.data is" in result.errors, str(result))
    vmimg_ok("commit", "u.qcow2")


if __name__ == "__main__":
    harness.main()
