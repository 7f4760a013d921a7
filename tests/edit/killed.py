# SPDX-License-Identifier: Apache-2.0
"""QCOW2 changed in place by what a kill or a full disk ends: at any moment what is read is old or new."""

import os
import shutil

from lib import disks, harness, qemu
from lib.harness import check, equal
from lib.process import run

from update import DRIVE, content, sound


def injected(words, restore):
    """Where a kill, or a full disk, has ended the command: at writes, holes and changes of length, the first forty each."""
    harness.need("strace")
    for how in "signal=KILL", "error=ENOSPC":
        for call in "pwrite64", "ftruncate", "fallocate":
            for number in [*range(1, 41), *range(41, 1000, 23)]:
                restore()
                result = run("strace", "-f", "-o", "/dev/null", "-e", f"trace={call}", "-e",
                             f"inject={call}:{how}:when={number}", DRIVE, *words)
                yield f"{how} at {call} {number}"
                if result.code == 0:
                    break
            check(result.code == 0, "it never ends")


def test_layers(t):
    """New content, another parent, gaps closed."""
    for options in "cluster_size=16k", "extended_l2=on,cluster_size=16k", "compat=0.10,cluster_size=16k":
        with t.sub(options), t.folder() as folder:
            os.chdir(folder)
            path = os.path.join(folder, "disk.qcow2")
            disks.pattern("base.raw", 1 << 20, seed=5)
            qemu.img("create", "-q", "-f", "qcow2", "-o", options + ",backing_file=base.raw,backing_fmt=raw", path, str(1 << 20))
            qemu.io(path, "write -P 1 0 300k", "write -c -P 2 512k 16k", "write -z 600k 80k", "write -P 9 800k 200k")
            qemu.img("snapshot", "-c", "one", path)
            qemu.io(path, "write -P 3 100k 64k", "write -P 4 528k 16k")
            qemu.img("snapshot", "-c", "two", path)
            qemu.img("create", "-q", "-f", "qcow2", "-b", path, "-F", "qcow2", "over.qcow2")
            qemu.io("over.qcow2", "write -P 5 0 64k", "write -z 128k 128k", "write -P 6 520k 4k", "write -P 7 700k 200k")
            qemu.img("convert", "-O", "raw", path, "old.raw")
            qemu.img("convert", "-O", "raw", "over.qcow2", "new.raw")
            qemu.img("snapshot", "-d", "one", path)
            shutil.copyfile(path, "old")

            def restore():
                shutil.copyfile("old", path)
            for words in ["update", "over.qcow2", "qcow2"], ["parent", "base.raw", "raw"], ["parent", "./base.raw", "raw"], ["squeeze"]:
                for where in injected([path, *words], restore):
                    sound(path, f"{words[0]}, {where}")
                    qemu.img("convert", "-O", "raw", path, "now.raw")
                    check(each_old_or_new(words[0] == "update"), f"{words[0]}, {where}: the content")
                    equal(content(path, "-l", "two"), disks.sha256("old.raw"), f"{words[0]}, {where}: the snapshot")


def each_old_or_new(may_be_new):
    with open("old.raw", "rb") as old, open("new.raw", "rb") as new, open("now.raw", "rb") as now:
        for piece in iter(lambda: now.read(512), b""):
            was, shall = old.read(512), new.read(512)
            if piece != was and not (may_be_new and piece == shall):
                return False
    return True


if __name__ == "__main__":
    harness.main()
