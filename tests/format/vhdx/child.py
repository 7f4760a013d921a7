# SPDX-License-Identifier: Apache-2.0
"""Differencing VHDX: made from the specification, by vmimg and by Windows; libvhdi is the other reader."""

import os
import random

from lib import corpus, disks, harness, libvhdi, process, qemu, vhdx
from lib.harness import check, equal
from lib.process import guest_sha256, vmimg, vmimg_ok
from lib.vhdx import MIB


def parent_pairs(parent, **paths):
    return [("parent_linkage", "{%s}" % parent.data_write)] + list(paths.items())


def make_parent(t, size, logical=512, name="base.vhdx"):
    """A parent, and the disk that it holds."""
    rng, image = random.Random(size), vhdx.Image(size, logical=logical)
    disk = bytearray(size)
    for block in range(0, image.blocks, 2):
        data = rng.randbytes(min(MIB, size - block * MIB))
        image.add(block, data)
        disk[block * MIB:block * MIB + len(data)] = data
    image.write(t.path(name))
    return image, disk


def add_partial(child, disk, block, rng):
    """A block of which some sectors are here: long and short stretches, at odd places."""
    sectors, data = child.block // child.logical, rng.randbytes(child.block)
    bits, at = bytearray(MIB), 0
    first = block % child.ratio * sectors
    while at < sectors:
        length = min(rng.choice((1, 2, 7, 8, 9, 60, 64, 300)), sectors - at)
        if rng.random() < 0.5:
            for i in range(at, at + length):
                bits[(first + i) // 8] |= 1 << (first + i) % 8
                start = block * child.block + i * child.logical
                disk[start:start + child.logical] = data[i * child.logical:][:child.logical]
        at += length
    child.add(block, data, vhdx.PARTIAL)
    return bits


def combine(*bitmaps):
    return bytes(a | b for a, b in zip(*bitmaps)) if len(bitmaps) > 1 else bytes(bitmaps[0])


def write_raw(t, disk, name="want.raw"):
    with open(t.path(name), "wb") as file:
        file.write(disk)
    return disks.sha256(file.name)


def test_every_state(t):
    """Blocks of every state over a parent that has data there, at both sector sizes."""
    for logical in (512, 4096):
        with t.sub(f"sectors of {logical}"):
            rng = random.Random(logical)
            parent, disk = make_parent(t, 20 * MIB, logical)
            child = vhdx.Image(20 * MIB, logical=logical,
                               pairs=parent_pairs(parent, relative_path=".\\base.vhdx"))
            data = rng.randbytes(MIB)
            child.add(2, data)
            disk[2 * MIB:3 * MIB] = data
            for block, state in ((4, vhdx.ZERO), (6, vhdx.UNMAPPED), (8, vhdx.UNMAPPED_OLD),
                                 (10, vhdx.UNDEFINED)):
                child.set(block, state)
                disk[block * MIB:(block + 1) * MIB] = bytes(MIB)
            child.add_bitmap(0, combine(add_partial(child, disk, 12, rng),
                                        add_partial(child, disk, 15, rng)))
            path = child.write(t.path("child.vhdx"))
            want = write_raw(t, disk)
            equal(guest_sha256(path), want, "vmimg")
            equal(vmimg("check", path).code, 0, "check")
            vmimg_ok("convert", "--force", path, t.path("flat.vhdx"))
            equal(guest_sha256(t.path("flat.vhdx")), want, "flattened")


def test_partial_agrees_with_libvhdi(t):
    """libvhdi reads no zero states, but partial blocks it does."""
    rng = random.Random(5)
    parent, disk = make_parent(t, 6 * MIB)
    child = vhdx.Image(6 * MIB, pairs=parent_pairs(parent, relative_path=".\\base.vhdx"))
    child.add_bitmap(0, combine(*(add_partial(child, disk, block, rng) for block in (1, 2))))
    path = child.write(t.path("child.vhdx"))
    want = write_raw(t, disk)
    equal(guest_sha256(path), want, "vmimg")
    equal(libvhdi.guest_sha256(path, t.path("base.vhdx")), want, "libvhdi")


def test_second_chunk(t):
    """Blocks of 256 MiB are 16 to a chunk: bitmaps beyond the first one."""
    size = 20 << 30
    parent = vhdx.Image(size, block=256 * MIB)
    parent.write(t.path("base.vhdx"))
    child = vhdx.Image(size, block=256 * MIB,
                       pairs=parent_pairs(parent, relative_path="base.vhdx"))
    want = vhdx.Image(size, block=256 * MIB)
    for block, chunk in ((3, 0), (17, 1), (35, 2), (79, 4)):
        child.add(block, b"\xaa" * 3000, vhdx.PARTIAL)
        bits, first = bytearray(MIB), block % 16 * (256 * MIB // 512)
        bits[first // 8] = 0x05  # sectors 0 and 2
        child.add_bitmap(chunk, bytes(bits))
        want.add(block, b"\xaa" * 512 + bytes(512) + b"\xaa" * 512)
    child.write(t.path("child.vhdx"))
    want.write(t.path("want.vhdx"))
    equal(vmimg_ok("compare", t.path("child.vhdx"), t.path("want.vhdx")).code, 0, "compare")
    equal(vmimg("check", t.path("child.vhdx")).code, 0, "check")


def test_parent_paths(t):
    """What of a Windows path is tried, and in which order; the identity decides."""
    parent, disk = make_parent(t, 2 * MIB)
    os.mkdir(t.path("sub"))
    os.link(t.path("base.vhdx"), t.path("sub/deep.vhdx"))
    other = vhdx.Image(2 * MIB)
    other.data_write = vhdx.LOG_ID
    other.write(t.path("other.vhdx"))
    want = write_raw(t, disk)
    for paths in ({"relative_path": ".\\base.vhdx"}, {"relative_path": "sub\\deep.vhdx"},
                  {"absolute_win32_path": "C:\\VMs\\base.vhdx"},
                  {"volume_path": "\\\\?\\Volume{5e0bd954-71b2-4bff-a928-082af7ab0f8f}\\a\\base.vhdx"},
                  {"absolute_win32_path": "\\\\server\\share\\base.vhdx"},
                  {"relative_path": "..\\elsewhere\\base.vhdx"},
                  {"relative_path": ".\\gone.vhdx", "absolute_win32_path": "D:\\x\\base.vhdx"},
                  {"relative_path": ".\\other.vhdx", "absolute_win32_path": "D:\\x\\base.vhdx"}):
        with t.sub(" ".join(paths.values())):
            child = vhdx.Image(2 * MIB, pairs=parent_pairs(parent, **paths))
            equal(guest_sha256(child.write(t.path("child.vhdx"))), want, "content")


def test_many_names(t):
    """A long chain, of which each file names three parents: looked at, and only the one opened that it is."""
    base, disk = make_parent(t, 2 * MIB, name="disk0-0.vhdx")
    for right in True, False:
        parent = base
        for layer in range(1, 25):
            names = [f"disk{layer - 1}-{i}.vhdx" for i in range(3)]
            pairs = parent_pairs(parent, relative_path=names[0], volume_path=names[1], absolute_win32_path="c:\\" + names[2])
            if not right:
                pairs[0] = ("parent_linkage", "{%s}" % vhdx.LOG_ID)
            parent = vhdx.Image(2 * MIB, pairs=pairs)
            parent.data_write = vhdx.uuid.UUID(int=layer)
            parent.write(t.path(f"disk{layer}-0.vhdx"))
            for i in range(6 if right else 0):
                link = t.path(f"disk{layer - i // 3}-{i % 3}.vhdx")
                if not os.path.exists(link):
                    os.link(t.path(f"disk{layer - i // 3}-0.vhdx"), link)
        with t.sub("right" if right else "wrong"):
            result = vmimg("digest", t.path("disk24-0.vhdx"))
            process.check_bars(result, "a chain of 25")
            equal(result.code, 0 if right else 4, str(result))
            if right:
                equal(result.text.split()[0], write_raw(t, disk), "content")


def test_second_linkage(t):
    parent, disk = make_parent(t, 2 * MIB)
    child = vhdx.Image(2 * MIB, pairs=[("parent_linkage", "{%s}" % vhdx.LOG_ID),
                                       ("parent_linkage2", "{%s}" % parent.data_write),
                                       ("relative_path", "base.vhdx")])
    equal(guest_sha256(child.write(t.path("child.vhdx"))), write_raw(t, disk), "content")


def test_wrong_parents(t):
    """Never zeroes where a parent should have answered."""
    parent, _ = make_parent(t, 2 * MIB)
    child, out = t.path("child.vhdx"), t.path("out.raw")
    other = [("parent_linkage", "{%s}" % vhdx.LOG_ID)]
    for name, pairs, code in (
            ("changed since", other + [("relative_path", ".\\base.vhdx")], 4),
            ("no linkage", [("relative_path", ".\\base.vhdx")], 4),
            ("no path", parent_pairs(parent), 4),
            ("missing", parent_pairs(parent, relative_path=".\\gone.vhdx"), 1),
            ("itself", parent_pairs(parent, relative_path=".\\child.vhdx"), 5),
            ("not beside", parent_pairs(parent, relative_path="..\\gone.vhdx"), 5)):
        with t.sub(name):
            vhdx.Image(2 * MIB, pairs=pairs).write(child)
            result = vmimg("convert", child, out)
            equal(result.code, code, str(result))
            check(not os.path.exists(out), "an output is there")
            equal(vmimg("info", child).code, 0, "info opens no parent")
    vhdx.Image(2 * MIB, pairs=parent_pairs(parent, relative_path="base.vhdx")).write(child)
    equal(vmimg("convert", "--refs=none", child, out).code, 5, "--refs=none")


def test_sector_sizes_differ(t):
    parent, _ = make_parent(t, 2 * MIB, logical=4096)
    child = vhdx.Image(2 * MIB, logical=512, pairs=parent_pairs(parent, relative_path="base.vhdx"))
    equal(vmimg("convert", child.write(t.path("child.vhdx")), t.path("o.raw")).code, 4, "exit")
    result = vmimg("check", "--refs=beside", t.path("child.vhdx"))
    check(result.code == 0 and "the parent has sectors of 4096 bytes, this image of 512" in result.errors + result.text, str(result))


def test_full_locator(t):
    """As many entries as are written, none of them known: another identity of the parent does not fit."""
    parent, _ = make_parent(t, 2 * MIB)
    pairs = [(f"k{i}", "v") for i in range(254)] + [("relative_path", "base.vhdx")]
    child = vhdx.Image(2 * MIB, pairs=pairs).write(t.path("child.vhdx"))
    before = disks.sha256(child)
    result = vmimg("rebase", "-u", "-b", "base.vhdx", "-F", "vhdx", child)
    check(result.code == 6 and "more than 255 entries" in result.errors, str(result))
    equal(disks.sha256(child), before, "the image")


def test_create_child(t):
    raw = disks.pattern(t.path("b.raw"), 24 * MIB, seed=4)
    vmimg_ok("convert", raw, t.path("base.vhdx"))
    vmimg_ok("create", "-b", "base.vhdx", "-F", "vhdx", t.path("child.vhdx"))
    equal(guest_sha256(t.path("child.vhdx")), disks.sha256(raw), "content")
    base = vmimg_ok("info", "--json", t.path("base.vhdx")).json()["identity"]
    info = vmimg_ok("info", "--json", t.path("child.vhdx")).json()
    pairs = {p["key"]: p["value"] for p in info["format-specific"]["data"]["parent-locator"]}
    equal(info["identity"]["uuid"], base["uuid"], "the guest's disk id")
    equal(pairs["parent_linkage"], "{%s}" % base["data-write-guid"], "linkage")
    check(info["identity"]["data-write-guid"] != base["data-write-guid"], "one identity for two")
    equal(vmimg("create", "-o", "subformat=fixed", "-b", "base.vhdx", "-F", "vhdx",
                t.path("no.vhdx")).code, 2, "a fixed child")
    equal(vmimg("create", "-b", "b.raw", "-F", "raw", t.path("no.vhdx")).code, 2, "a raw parent")


def test_empty_chain(t):
    """Each layer is an image of its own, though none holds anything, and all are the guest's one disk."""
    vmimg_ok("create", t.path("0.vhdx"), "16M")
    for layer in (1, 2, 3):
        vmimg_ok("create", "-b", f"{layer - 1}.vhdx", "-F", "vhdx", t.path(f"{layer}.vhdx"))
    ids = [vmimg_ok("info", "--json", t.path(f"{i}.vhdx")).json()["identity"] for i in range(4)]
    equal(len({i["data-write-guid"] for i in ids}), 4, "data write GUIDs")
    equal(len({i["uuid"] for i in ids}), 1, "disk ids")
    vmimg_ok("compare", t.path("3.vhdx"), t.path("0.vhdx"))


def test_converted_chain(t):
    """A qcow2 overlay onto a VHDX parent: absent, zero and data stay what they are."""
    for options in ([], ["-o", "block_size=1M"], ["-o", "block_size=256M"]):
        with t.sub(" ".join(options) or "default"), t.folder() as folder:
            base, top = f"{folder}/base.raw", f"{folder}/top.qcow2"
            disks.pattern(base, 40 * MIB, seed=6, data=20 * MIB)
            vmimg_ok("convert", base, f"{folder}/base.vhdx")
            qemu.img("create", "-q", "-f", "qcow2", "-b", "base.raw", "-F", "raw", top)
            qemu.io(top, "write -P 1 0 64k", "write -P 2 1536k 1M", "write -z 4M 2M",
                    "write -z 9M 64k", "write -P 3 20M 4k", "write -P 4 40959k 1k", fmt="qcow2")
            want = qemu.guest_sha256(top, "qcow2", folder)
            child = f"{folder}/child.vhdx"
            vmimg_ok("convert", "-B", "base.vhdx", "-F", "vhdx", *options, top, child)
            equal(guest_sha256(child), want, "vmimg")
            equal(vmimg("check", child).code, 0, "check")
            if "block_size=256M" not in options:
                check(disks_used(child) < 8 * MIB, "the child holds what its parent has")
            again = f"{folder}/again.vhdx"
            vmimg_ok("convert", "-B", "base.vhdx", "-F", "vhdx", "-o", "block_size=2M", child, again)
            equal(guest_sha256(again), want, "a child of a child's content")


def test_child_agrees_with_libvhdi(t):
    """
    libvhdi takes the file's first bytes for a bitmap where a chunk has none, and knows no zero blocks:
    so some sectors of one block, and all of another.
    """
    raw, top = disks.pattern(t.path("base.raw"), 30 * MIB, seed=2), t.path("top.qcow2")
    vmimg_ok("convert", raw, t.path("base.vhdx"))
    qemu.img("create", "-q", "-f", "qcow2", "-b", "base.raw", "-F", "raw", top)
    qemu.io(top, "write -P 1 3M 200k", "write -P 2 8M 8M", "write -P 3 30719k 1k", fmt="qcow2")
    want = qemu.guest_sha256(top, "qcow2", t.tmp)
    for block in ("1M", "8M"):
        with t.sub(f"blocks of {block}"):
            child = t.path(f"child-{block}.vhdx")
            vmimg_ok("convert", "-B", "base.vhdx", "-F", "vhdx", "-o", f"block_size={block}", top,
                     child)
            equal(libvhdi.guest_sha256(child, t.path("base.vhdx")), want, "libvhdi")
            equal(guest_sha256(child), want, "vmimg")


def disks_used(path):
    return os.stat(path).st_blocks * 512


def test_windows_chain(t):
    """A child that Windows made, by both readers."""
    entry = corpus.entry("dfvfs/fat-differential.vhdx")
    parent = corpus.entry("dfvfs/fat-parent.vhdx")
    equal(guest_sha256(entry.file), entry.decoded_sha256, "vmimg")
    equal(libvhdi.guest_sha256(entry.file, parent.file), entry.decoded_sha256, "libvhdi")
    for options in ([], ["-o", "logical_sector_size=512,block_size=8M"]):
        copy = t.path("copy.vhdx")
        vmimg_ok("convert", "--force", *options, entry.file, copy)
        equal(libvhdi.guest_sha256(copy), entry.decoded_sha256, "converted")


if __name__ == "__main__":
    harness.main()
