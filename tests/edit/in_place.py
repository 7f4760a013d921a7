# SPDX-License-Identifier: Apache-2.0
"""Formats exchanged around data that stays where it is."""

import os

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
    for words, code in ((["-O", "qcow2", raw], 4), (["-O", "raw", t.path("disk.qcow2")], 4), (["-O", "vmdk", raw], 2),
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
    for fmt in "qcow", "vmdk":
        qemu.create(base, fmt, 1 << 20)
        qemu.img("create", "-q", "-f", "qcow2", "-u", "-b", os.path.basename(base), "-F", fmt, top, str(2 << 20))
        before = disks.sha256(base)
        result = vmimg("commit", "-d", top)
        if result.code == 0:
            skip(f"{fmt} takes new content")
        check("takes no new content" in result.errors, str(result))
        equal(disks.sha256(base), before, "the base")


if __name__ == "__main__":
    harness.main()
