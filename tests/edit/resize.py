# SPDX-License-Identifier: Apache-2.0
"""Sizes changed in place, of every format but QCOW2: content, peers, and a crash at every write."""

import os
import shutil

from lib import disks, env, harness, qemu
from lib.harness import check, equal
from lib.process import run, vmimg, vmimg_ok

SIZE = (21 << 20) + 1536
CALLS = ["pwrite64", "ftruncate", "fallocate", "fsync", "fdatasync", "renameat2", "linkat"]


def sound(path, what):
    result = vmimg("check", path)
    check(result.code in (0, 3), f"{what}: {result}{result.text[:400]}")


def digest_of(path, out, *program):
    result = run(*program, path, out)
    check(result.code == 0, f"{program}: {result.text[:300]}")
    digest = disks.sha256(out)
    os.unlink(out)
    return digest


def ours(t, path):
    return digest_of(path, t.path("ours.raw"), env.VMIMG, "convert", "-O", "raw")


def theirs(t, path, driver):
    return digest_of(path, t.path("theirs.raw"), "qemu-img", "convert", "-f", driver, "-O", "raw")


def expected(t, raw, size):
    copy = t.path("expected.raw")
    shutil.copyfile(raw, copy)
    os.truncate(copy, size)
    digest = disks.sha256(copy)
    os.unlink(copy)
    return digest


def make(t, options, suffix):
    """An image of SIZE bytes, and the raw disk that is in it."""
    raw = disks.pattern(t.path("disk.raw"), SIZE, seed=7, data=6 << 20)
    with open(raw, "r+b") as file:  # data up to the last byte
        file.seek(SIZE - 512)
        file.write(b"\xa5" * 512)
    path = t.path("disk." + suffix)
    vmimg_ok("convert", "--force", *options, raw, path)
    return path, raw


def states(t, path, words):
    """The image as it is after a kill at every call that changes it, and after none."""
    for call in CALLS:
        for number in range(1, 500):
            folder = t.path("copy")
            shutil.rmtree(folder, ignore_errors=True)
            shutil.copytree(os.path.dirname(path), folder, ignore=lambda d, names: [
                n for n in names if not n.startswith("disk") or n.endswith(".raw")])
            copy = os.path.join(folder, os.path.basename(path))
            result = run("strace", "-f", "-qq", "-o", "/dev/null", "-e", f"trace={call}",
                         "-e", f"inject={call}:signal=KILL:when={number}", env.VMIMG, "resize", *words, copy, t.target)
            yield f"killed at {call} {number}", copy
            if result.code == 0:
                break
            check(number < 499, f"it never ends: {result.text[:300]}")


def both_ways(t, options, suffix, driver, sizes, plain=True):
    """Grows, lets a peer write, shrinks, grows again. sizes: (size, where qemu-io writes). A disk that is not plain
    is too large to be looked at as a whole."""
    path, raw = make(t, options, suffix)
    for size, where in sizes:
        vmimg_ok("resize", path, str(size))
        sound(path, f"grown to {size}")
        if plain:
            equal(ours(t, path), expected(t, raw, size), f"content at {size}")
        if driver:
            equal(theirs(t, path, driver), expected(t, raw, size), f"content at {size}, as the peer sees it")
            qemu.io(path, f"write -P 77 {where} 128k", fmt=driver)
            sound(path, f"written to at {size}")
            equal(vmimg("resize", path, str(SIZE)).code, 5, "shrinking over data, unasked")
        vmimg_ok("resize", "--shrink", path, str(SIZE))
        sound(path, "shrunk")
        equal(ours(t, path), expected(t, raw, SIZE), "content after shrinking")
    cut = (5 << 20) + 512
    vmimg_ok("resize", "--shrink", path, str(cut))
    os.truncate(raw, cut)
    sound(path, "cut")
    equal(ours(t, path), expected(t, raw, cut), "content, cut")
    vmimg_ok("resize", path, str(SIZE))
    equal(ours(t, path), expected(t, raw, SIZE), "what was cut stays away")
    sound(path, "whole again")


def crashes(t, options, suffix, targets, calls=5):
    harness.need("strace")
    path, raw = make(t, options, suffix)
    for words, size in targets:
        with t.sub(f"{' '.join(options)} to {size}"):
            t.target, count = str(size), 0
            allowed = expected(t, raw, SIZE), expected(t, raw, size)
            for what, copy in states(t, path, words):
                sound(copy, what)
                check(ours(t, copy) in allowed, f"{what}: neither old nor new")
                count += 1
            check(count >= calls + len(CALLS), f"only {count} states were tried")


def test_vhd(t):
    for options, grown in ([], SIZE + (100 << 20)), (["-o", "block_size=512k,creator=qemu"], 1 << 30), \
            (["-o", "subformat=fixed"], 99 << 20):
        with t.sub(" ".join(options) or "dynamic"):
            both_ways(t, ["-O", "vhd", *options], "vhd", "vpc", [(grown, "90M")])


def test_vhd_killed(t):
    small = ["-O", "vhd", "-o", "block_size=64k"]
    crashes(t, small, "vhd", [([], 100 << 20), ([], SIZE + 4096), (["--shrink"], 3 << 20)])
    crashes(t, ["-O", "vhd", "-o", "subformat=fixed"], "vhd",
            [([], 100 << 20), ([], SIZE + 512), (["--shrink"], 3 << 20), (["--shrink"], SIZE - 512)], 3)


def test_vdi(t):
    for options, grown, driver in ([], SIZE + (100 << 20), "vdi"), ([], 2 << 40, None), \
            (["-o", "block_size=4k"], 3 << 30, None), (["-o", "static=on"], 99 << 20, "vdi"):
        with t.sub(f"{' '.join(options) or 'dynamic'} to {grown}"):
            both_ways(t, ["-O", "vdi", *options], "vdi", driver, [(grown, "90M")], plain=grown < 1 << 40)


def test_vdi_killed(t):
    crashes(t, ["-O", "vdi"], "vdi", [([], 100 << 20), (["--shrink"], 3 << 20)], 1)
    crashes(t, ["-O", "vdi", "-o", "block_size=64k"], "vdi", [([], 300 << 20), (["--shrink"], 3 << 20)], 1)
    crashes(t, ["-O", "vdi", "-o", "static=on"], "vdi", [([], 30 << 20)], 1)


def test_vhdx(t):
    for options, grown, driver in ([], SIZE + (100 << 20), "vhdx"), (["-o", "block_size=1M"], 1 << 40, None), \
            (["-o", "subformat=fixed,block_size=1M"], 99 << 20, "vhdx"):
        with t.sub(f"{' '.join(options) or 'dynamic'} to {grown}"):
            both_ways(t, ["-O", "vhdx", *options], "vhdx", driver, [(grown, "90M")], plain=grown < 1 << 39)


def test_vhdx_moved_table(t):
    """A block table that moved is found by a peer, which goes on writing."""
    path, raw = make(t, ["-O", "vhdx", "-o", "block_size=1M"], "vhdx")
    vmimg_ok("resize", path, str(1 << 40))
    qemu.io(path, "write -P 77 900G 128k", "read -P 77 900G 128k", fmt="vhdx")
    sound(path, "written")
    vmimg_ok("resize", "--shrink", path, str(SIZE))
    equal(theirs(t, path, "vhdx"), expected(t, raw, SIZE), "content")


def test_vhdx_killed(t):
    crashes(t, ["-O", "vhdx", "-o", "block_size=1M"], "vhdx", [([], 100 << 20), (["--shrink"], 3 << 20)], 1)
    crashes(t, ["-O", "vhdx", "-o", "block_size=1M,subformat=fixed"], "vhdx", [([], 30 << 20)], 1)
    path, raw = make(t, ["-O", "vhdx", "-o", "block_size=1M"], "vhdx")
    t.target = str(200 << 30)  # more than the table has room for
    for what, copy in states(t, path, []):
        sound(copy, what)
        vmimg_ok("resize", "--shrink", copy, str(SIZE))
        equal(ours(t, copy), expected(t, raw, SIZE), what)


def test_vmdk(t):
    for options, grown in ([], SIZE + (100 << 20)), ([], 9 << 30), (["-o", "subformat=monolithicFlat"], 99 << 20), \
            (["-o", "subformat=vmfs"], 99 << 20):
        with t.sub(f"{' '.join(options) or 'sparse'} to {grown}"):
            both_ways(t, ["-O", "vmdk", *options], "vmdk", "vmdk", [(grown, "90M")], plain=grown < 1 << 30)


def test_vmdk_killed(t):
    crashes(t, ["-O", "vmdk"], "vmdk", [([], 100 << 20), (["--shrink"], 3 << 20)], 1)
    crashes(t, ["-O", "vmdk", "-o", "subformat=monolithicFlat"], "vmdk", [([], 30 << 20), (["--shrink"], 3 << 20)], 1)


def test_vmdk_refused(t):
    path, _ = make(t, ["-O", "vmdk", "-o", "subformat=streamOptimized"], "vmdk")
    before = disks.sha256(path)
    equal(vmimg("resize", path, "1G").code, 4, "a stream")
    equal(disks.sha256(path), before, "the image")


if __name__ == "__main__":
    harness.main()
