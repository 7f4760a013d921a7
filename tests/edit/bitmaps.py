# SPDX-License-Identifier: Apache-2.0
"""Persistent bitmaps of QCOW2 changed in place: what they hold by QEMU's word, its texts, a crash at every write."""

import os
import shutil
import subprocess
import time

from lib import disks, env, harness, qemu
from lib.harness import check, equal
from lib.process import run, vmimg, vmimg_ok
from lib.qemu import sound

SIZE = (300 << 20) + 512
VARIANTS = ["cluster_size=64k"], ["cluster_size=512"], ["extended_l2=on,cluster_size=128k"]


def dirty(t, path, name):
    """The ranges that QEMU exports as dirty."""
    harness.need("qemu-nbd")
    socket = t.path("socket")
    with subprocess.Popen(["qemu-nbd", "-r", "-k", socket, "-f", "qcow2", "-B", name, path]) as server:
        while server.poll() is None and not os.path.exists(socket):
            time.sleep(0.01)
        result = run("qemu-img", "map", "--output=json", "--image-opts", "driver=nbd,server.type=unix,"
                     f"server.path={socket},x-dirty-bitmap=qemu:dirty-bitmap:{name}")
        if result.code:
            server.kill()
    equal(result.code, 0, f"map ({result})")  # the server ended with its client
    return [(run["start"], run["length"]) for run in result.json() if not run["data"]]


def make(t, options, size=SIZE):
    return qemu.create(t.path("disk.qcow2"), "qcow2", size, **dict(o.split("=") for o in options[0].split(",")))


def test_actions(t):
    for options in VARIANTS:
        with t.sub(options[0]):
            path = make(t, options)
            vmimg_ok("bitmap", "--add", "-g", "64k", path, "seen")
            sound(path, "added")
            qemu.io(path, "write 1M 3M", "write 200M 4k", f"write {SIZE - 512} 512")
            seen = dirty(t, path, "seen")
            equal(seen[0], (1 << 20, 3 << 20), "what QEMU recorded in a bitmap of ours")
            for unit in "64k", "4k", "1M":
                vmimg_ok("bitmap", "--add", "--disable", "-g", unit, "--merge", "seen", path, "ours" + unit)
                qemu.img("bitmap", "--add", "--disable", "-g", unit, "--merge", "seen", path, "theirs" + unit)
                sound(path, f"merged to {unit}")
                equal(dirty(t, path, "ours" + unit), dirty(t, path, "theirs" + unit), f"merged to {unit}")
            vmimg_ok("bitmap", "--add", "-g", "64k", "--merge", "ours4k", path, "back")
            equal(dirty(t, path, "back"), seen, "merged to a coarser one")
            vmimg_ok("bitmap", "--merge", "ours4k", "-b", path, "-F", "qcow2", path, "back")
            equal(dirty(t, path, "back"), seen, "merged from the same image, by its name")
            other = make_other(t, options)
            vmimg_ok("bitmap", "--merge", "far", "-b", other, "-F", "qcow2", path, "back")
            equal(dirty(t, path, "back"), sorted([*seen, (100 << 20, 2 << 20)]), "merged from another image")
            vmimg_ok("bitmap", "--clear", path, "back")
            equal(dirty(t, path, "back"), [], "cleared")
            equal(dirty(t, path, "seen"), seen, "the others")
            sound(path, "cleared")
            for bitmap in vmimg_ok("bitmap", "list", "--json", path).json()["bitmaps"]:
                vmimg_ok("bitmap", "--remove", path, bitmap["name"])
            sound(path, "all gone")
            equal(vmimg_ok("bitmap", "list", "--json", path).json()["bitmaps"], [], "bitmaps")


def make_other(t, options):
    path = qemu.create(t.path("other.qcow2"), "qcow2", SIZE)
    qemu.img("bitmap", "--add", path, "far")
    qemu.io(path, "write 100M 2M")
    return path


def test_sizes(t):
    """Bits past the new end go, new ones are clear; so QEMU does it."""
    for options in VARIANTS[0], ["cluster_size=4k"], VARIANTS[2]:
        with t.sub(options[0]):
            path, copy = make(t, options), t.path("copy.qcow2")
            for name, unit in ("fine", "4k"), ("coarse", "2M"):
                vmimg_ok("bitmap", "--add", "-g", unit, path, name)
            qemu.io(path, "write 0 2M", "write 70M 1M", f"write 299M {(1 << 20) + 512}")
            for size in SIZE + (900 << 20), (70 << 20) + 512, 1 << 30:
                shutil.copyfile(path, copy)
                vmimg_ok("resize", "--shrink", "--shrink", path, str(size))
                qemu.img("resize", "--shrink", copy, str(size))
                sound(path, f"resized to {size}")
                for name in "fine", "coarse":
                    equal(dirty(t, path, name), dirty(t, copy, name), f"{name} at {size}")


def test_texts(t):
    """The same answers as the real program's, and the same bitmaps."""
    face = t.path("qemu-img")
    os.symlink(os.path.abspath(env.VMIMG), face)
    for folder in "theirs", "ours":
        os.mkdir(t.path(folder))
        qemu.create(t.path(f"{folder}/a.qcow2"), "qcow2", 10 << 20)
        qemu.create(t.path(f"{folder}/b.qcow2"), "qcow2", 12 << 20)
        qemu.create(t.path(f"{folder}/old.qcow2"), "qcow2", 12 << 20, compat="0.10")
    for line in ["a.qcow2 x", "--add a.qcow2", "--add --disable a.qcow2 x", "--add a.qcow2 x", "--remove a.qcow2 nope",
                 "--clear a.qcow2 nope", "--enable a.qcow2 nope", "--merge nope a.qcow2 x", "--add -g 1000 a.qcow2 y",
                 "--add -g 256 a.qcow2 y", "--add -g 4G a.qcow2 y", "--clear -g 4k a.qcow2 x", "--add b.qcow2 z",
                 "--merge z -b b.qcow2 -F qcow2 a.qcow2 x", "--add -b b.qcow2 a.qcow2 x", "--enable a.qcow2 x",
                 "--merge z -F qcow2 a.qcow2 x", "--add --clear --merge x -g 1M a.qcow2 n", "--disable a.qcow2 n",
                 "--add --add a.qcow2 m", "--add --remove a.qcow2 q", "--add old.qcow2 x"]:
        theirs = run(env.find("qemu-img"), "bitmap", *line.split(), cwd=t.path("theirs"))
        ours = run(face, "bitmap", *line.split(), cwd=t.path("ours"))
        equal(ours.code, theirs.code, f"exit code of {line} ({ours.errors})")
        if "old" not in line:  # there QEMU names a node of its own
            equal(ours.errors, theirs.errors, line)
    for name in "a.qcow2", "b.qcow2":
        equal(*[qemu.img("info", "--output=json", t.path(f"{folder}/{name}")).json()["format-specific"]["data"]
                for folder in ("ours", "theirs")], name)


WRITES = ["write 1M 3M", "write -z 20M 1M", "write 70M 4k", "write 0 512", f"write {SIZE - 512} 512", "write 200M 64k"]


def make_pair(t, options):
    """An image whose bitmaps record, and an overlay with changes."""
    path, over = "disk.qcow2", "over.qcow2"
    qemu.img("create", "-q", "-f", "qcow2", "-o", options, path, str(SIZE))
    qemu.io(path, "write 0 30M", "write 69M 2M", "write 200M 64k")
    for words in ["-g", "4k", "fine"], ["-g", "2M", "coarse"], ["--disable", "quiet"]:
        qemu.img("bitmap", "--add", *words[:-1], path, words[-1])
    qemu.img("create", "-q", "-f", "qcow2", "-b", path, "-F", "qcow2", over)
    qemu.io(over, *WRITES)
    return path, over


def test_recorded(t):
    """New content is recorded as QEMU records it: the same bits after its commit and after ours."""
    for options in "cluster_size=64k", "cluster_size=512", "extended_l2=on,cluster_size=128k", "data_file=data.raw":
        with t.sub(options), t.folder() as folder:
            os.chdir(folder)
            path, over = make_pair(t, options)
            qemu.img("bitmap", "--clear", path, "fine")
            for name in path, over, *(["data.raw"] if "data_file" in options else []):
                shutil.copyfile(name, name + ".old")
            vmimg_ok("commit", over)
            sound(path, "committed")
            ours = [dirty(t, path, name) for name in ("fine", "coarse", "quiet")]
            for name in path, over, *(["data.raw"] if "data_file" in options else []):
                os.replace(name + ".old", name)
            qemu.img("commit", "-q", over)
            equal(ours, [dirty(t, path, name) for name in ("fine", "coarse", "quiet")], "what is dirty")
            check(len(ours[0]) >= 5 and not ours[2], f"too little: {ours}")


def test_snapshot_applied(t):
    """All of the disk is another one then, and perhaps of another size. QEMU refuses."""
    path = make(t, VARIANTS[0])
    vmimg_ok("snapshot", "create", path, "one")
    vmimg_ok("bitmap", "--add", path, "seen")
    vmimg_ok("bitmap", "--add", "--disable", path, "quiet")
    vmimg_ok("resize", path, "1G")
    vmimg_ok("snapshot", "apply", path, "one")
    sound(path, "applied")
    equal([dirty(t, path, name) for name in ("seen", "quiet")], [[(0, SIZE)], []], "what is dirty")


def test_partition_grown(t):
    harness.need("sfdisk")
    raw, path = t.path("disk.raw"), t.path("disk.qcow2")
    disks.pattern(raw, 24 << 20, seed=3, data=2 << 20)
    check(run(env.find("sfdisk"), "-q", raw, stdin=b"label: gpt\nstart=2048,size=8192\n").code == 0, "sfdisk")
    vmimg_ok("convert", raw, path)
    qemu.img("bitmap", "--add", "-g", "4k", path, "seen")
    vmimg_ok("resize", "--grow-part=1", path, "40M")
    sound(path, "grown")
    seen = dirty(t, path, "seen")
    check(seen[0][0] == 0 and seen[-1][0] + seen[-1][1] == 40 << 20 and sum(n for _, n in seen) < 1 << 20, str(seen))


def recorded(t, path, old, folder):
    """Whether the bitmap can be relied on; then each granule that is not as it was is dirty."""
    listed = vmimg_ok("bitmap", "list", "--json", path).json()["bitmaps"]
    if any("in-use" in bitmap["flags"] for bitmap in listed):
        return "in use"
    equal([b["name"] for b in listed], ["fine", "coarse", "quiet"], "names")
    vmimg_ok("convert", "--force", "-O", "raw", path, f"{folder}/now.raw")
    with open(old, "rb") as was, open(f"{folder}/now.raw", "rb") as now:
        ranges = dirty(t, path, "fine")
        for at in range(0, SIZE, 4096):
            if was.read(4096) != now.read(4096):
                check(any(start <= at < start + length for start, length in ranges), f"{at} has changed unrecorded")
    return len(ranges) > 0


def test_recording_killed(t):
    """At every moment a change is recorded, or the bitmap says that it is not to be relied on."""
    harness.need("strace")
    with t.folder() as folder:
        os.chdir(folder)
        path, over = make_pair(t, "cluster_size=64k")
        qemu.img("bitmap", "--clear", path, "fine")
        vmimg_ok("convert", "-O", "raw", path, "old.raw")
        shutil.copyfile(path, "base")
        shutil.copyfile(over, "top")
        for injected in "signal=KILL", "error=ENOSPC":
            seen = set()
            for number in range(1, 100):
                shutil.copyfile("base", path)
                shutil.copyfile("top", over)
                result = run("strace", "-f", "-o", "/dev/null", "-e", f"inject=pwrite64:{injected}:when={number}",
                             env.VMIMG, "commit", "-d", over)
                sound(path, f"{injected} at write {number}")
                seen.add(recorded(t, path, "old.raw", folder))
                if result.code == 0:
                    break
            check(3 < number < 99, f"{number} writes")
            equal(seen, {False, "in use", True}, "states")


def test_killed_at_every_write(t):
    harness.need("strace")
    path, copy = make(t, ["cluster_size=4k"]), t.path("copy.qcow2")
    qemu.img("bitmap", "--add", path, "one")
    qemu.io(path, "write 1M 9M")
    qemu.img("bitmap", "--add", path, "two")
    content = disks.sha256(path)
    for words in ["--add", "IMAGE", "three"], ["--merge", "one", "IMAGE", "two"], ["--remove", "IMAGE", "one"]:
        with t.sub(" ".join(words)):
            seen = set()
            for injected in "signal=KILL", "error=ENOSPC":
                for number in range(1, 100):
                    shutil.copyfile(path, copy)
                    result = run("strace", "-f", "-o", "/dev/null", "-e", f"inject=pwrite64:{injected}:when={number}",
                                 env.VMIMG, "bitmap", *[copy if word == "IMAGE" else word for word in words])
                    sound(copy, f"{injected} at write {number}")
                    bitmaps = vmimg_ok("bitmap", "list", "--json", copy).json()["bitmaps"]
                    seen.add((result.code == 0, *[b["name"] for b in bitmaps],
                              len(dirty(t, copy, "two")) if words[0] == "--merge" else 0))
                    if result.code == 0:
                        break
                check(3 < number < 99, f"{number} writes")
            check(len({state[1:] for state in seen}) == 2, f"old and new: {seen}")
    equal(disks.sha256(path), content, "the image")


def test_refused(t):
    path = make(t, ["compat=0.10"])
    before = disks.sha256(path)
    equal(vmimg("bitmap", "--add", path, "x").code, 4, "version 2 has none")
    equal(vmimg("bitmap", path, "x").code, 2, "no action")
    raw = disks.pattern(t.path("disk.raw"), 1 << 20, seed=2)
    equal(vmimg("bitmap", "--add", "-f", "raw", raw, "x").code, 4, "raw has none")
    equal(disks.sha256(path), before, "the image")


if __name__ == "__main__":
    harness.main()
