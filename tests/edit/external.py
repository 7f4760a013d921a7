# SPDX-License-Identifier: Apache-2.0
"""Snapshots as files beside the image: what each holds after every step, who refuses, and kills."""

import os
import shutil

from lib import disks, env, harness, qemu
from lib.harness import check, equal
from lib.process import run, vmimg, vmimg_ok

SIZE = 9 << 20
FORMATS = ("qcow2", "vhd", "vhdx", "vdi", "vmdk")


def digest(path):
    return vmimg_ok("digest", path).text.split()[0]


def write(folder, disk, fmt, *commands):
    """The guest writes: into an overlay, which then goes down into the disk."""
    qemu.img("create", "-q", "-u", "-f", "qcow2", "-b", os.path.basename(disk), "-F", qemu.name(fmt), f"{folder}/w.qcow2", SIZE)
    mapped = f"{folder}/w.qcow2"
    # written blind: whole clusters, so that nothing below has to be read
    qemu.io("json:{\"driver\":\"qcow2\",\"backing\":null,\"file.filename\":\"" + mapped + "\"}", *commands)
    vmimg_ok("commit", "-d", mapped)
    os.unlink(mapped)


def make(folder, fmt):
    raw = disks.pattern(f"{folder}/r.raw", SIZE, seed=2, data=3 << 20)
    disk = f"{folder}/disk.{fmt}"
    vmimg_ok("convert", "-O", fmt, raw, disk)
    os.unlink(raw)
    return disk


def test_internal_too(t):
    """A file that goes would take the snapshots inside it along."""
    disk = make(t.tmp, "qcow2")
    vmimg_ok("snapshot", "create", disk, "inside")
    vmimg_ok("snapshot", "--external", "create", disk, "beside")
    vmimg_ok("snapshot", "create", disk, "later")
    for action in ("apply", "delete"):
        result = vmimg("snapshot", "--external", action, disk, "beside")
        check(result.code == 5 and "internal snapshots" in result.errors, str(result))
    vmimg_ok("snapshot", "delete", disk, "later")
    result = vmimg("snapshot", "--external", "delete", disk, "beside")
    check(result.code == 5 and "internal snapshots" in result.errors, str(result))
    equal(names(t.path("disk@beside.qcow2")), ["inside"], "what is inside")
    vmimg_ok("snapshot", "delete", t.path("disk@beside.qcow2"), "inside")
    before = digest(disk)
    vmimg_ok("snapshot", "--external", "delete", disk, "beside")
    equal(digest(disk), before, "content")


def names(disk, *options):
    return [s["name"] for s in vmimg_ok("snapshot", "--json", *options, "list", disk).json()["snapshots"]]


def test_life(t):
    for fmt in FORMATS:
        with t.sub(fmt), t.folder() as folder:
            disk, how = make(folder, fmt), ["--external"] if fmt == "qcow2" else []
            states = [digest(disk)]
            for name in "one", "two":
                vmimg_ok("snapshot", *how, "create", disk, name)
                equal(digest(disk), states[-1], "the active state")
                equal(digest(f"{folder}/disk@{name}.{fmt}"), states[-1], name)
                equal(vmimg("snapshot", *how, "create", disk, name).code, 5, "the same name again")
                write(folder, disk, fmt, f"write -P {len(states)} {len(states)}M 64k", "write -P 7 512k 128k")
                states.append(digest(disk))
            equal(names(disk, *how), ["one", "two"], "the list")
            equal(len(set(states)), 3, "different states")
            with t.sub(f"{fmt}, another child"):
                shutil.copy(disk, f"{folder}/clone.{fmt}")
                equal(vmimg("snapshot", *how, "delete", disk, "two").code, 5, "exit code")
                os.unlink(f"{folder}/clone.{fmt}")
            vmimg_ok("snapshot", *how, "delete", disk, "two")
            equal(digest(disk), states[2], "after one was deleted")
            equal(digest(f"{folder}/disk@one.{fmt}"), states[0], "the other one")
            equal(names(disk, *how), ["one"], "the list")
            vmimg_ok("snapshot", *how, "apply", disk, "one")
            equal(digest(disk), states[0], "back")
            write(folder, disk, fmt, "write -P 9 3M 64k")
            last = digest(disk)
            vmimg_ok("snapshot", *how, "delete", disk, "one")  # the bottom: the child's data goes down
            equal(digest(disk), last, "alone")
            equal(sorted(os.listdir(folder)), [f"disk.{fmt}"], "files")
            equal(qemu.guest_sha256(disk, fmt, t.tmp), last, "by the peer")


def test_refused(t):
    with t.folder() as folder:
        vmimg_ok("create", "-f", "raw", f"{folder}/disk.raw", "1M")
        equal(vmimg("snapshot", "create", f"{folder}/disk.raw", "x").code, 4, "raw")
        disk = make(folder, "vhd")
        for name in "", "a/b", "../x":
            equal(vmimg("snapshot", "create", disk, name).code, 2, name)
        equal(vmimg("snapshot", "apply", disk, "nothing").code, 2, "apply what is not there")
        equal(vmimg("snapshot", "delete", disk, "nothing").code, 2, "delete what is not there")
        equal(sorted(os.listdir(folder)), ["disk.raw", "disk.vhd"], "files")


def test_killed(t):
    """Whatever call is the last one, the disk shows a state that it had."""
    harness.need("strace")
    for fmt in ("qcow2", "vhd", "vdi"):
        with t.sub(fmt), t.folder() as folder:
            disk, how = make(folder, fmt), ["--external"] if fmt == "qcow2" else []
            vmimg_ok("snapshot", *how, "create", disk, "one")
            write(folder, disk, fmt, "write -P 3 1M 64k")
            state, first = digest(disk), digest(f"{folder}/disk@one.{fmt}")
            for words, allowed in (("create", "two"), {state}), (("apply", "one"), {state, first}), (("delete", "one"), {state}):
                for call in ("linkat", "link", "renameat2", "rename", "unlink", "pwrite64", "fsync"):
                    for number in range(1, 60):
                        with t.folder() as other:
                            copy = shutil.copytree(folder, f"{other}/x")
                            result = run("strace", "-f", "-qq", "-o", "/dev/null", "-e", f"trace={call}", "-e",
                                         f"inject={call}:signal=KILL:when={number}", env.VMIMG, "snapshot", *how, words[0],
                                         f"{copy}/disk.{fmt}", words[1])
                            check(digest(f"{copy}/disk.{fmt}") in allowed, f"{words}: killed at {call} {number}")
                        if result.code == 0:
                            break


if __name__ == "__main__":
    harness.main()
