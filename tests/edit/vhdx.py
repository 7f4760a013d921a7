# SPDX-License-Identifier: Apache-2.0
"""VHDX changed in place, layer by layer: what qemu-img, 7-Zip, libvhdi and a reader made from the specification
read then, and what is left of a change that was cut off."""

import hashlib
import os
import subprocess

from lib import disks, env, harness, layers, libvhdi, process, qemu, vhdx
from lib.harness import check, equal
from lib.process import vmimg, vmimg_ok

MIB = 1 << 20
SIZE = 9 * MIB + 1024
PATCHES = (100000, b"new" * 100), (5 * MIB, bytes(2 * MIB)), (8 * MIB + 512, b"\x11" * 70000)
SMALL = "-o", "block_size=1M"


def by_7zz(path, folder):
    subprocess.run(["7zz", "x", "-y", "-bd", "-tVHDX", f"-o{folder}/7z", path], check=True, stdout=subprocess.DEVNULL)
    name, = os.listdir(f"{folder}/7z")
    digest = disks.sha256(f"{folder}/7z/{name}")
    os.unlink(f"{folder}/7z/{name}")
    return digest


def chain(folder, *options):
    """base.vhdx and child.vhdx on it; the raw disks that they are."""
    raw = disks.pattern(f"{folder}/a.raw", SIZE, seed=3, data=3 * MIB)
    changed = layers.change(raw, f"{folder}/b.raw", *PATCHES)
    vmimg_ok("convert", *options, raw, f"{folder}/base.vhdx")
    layers.child_of(f"{folder}/base.vhdx", raw, changed, f"{folder}/child.vhdx", "vhdx", *options)
    return raw, changed


def by_reader(path, *parents):
    content = b""
    for layer in (*reversed(parents), path):
        content = vhdx.Reader(layer).content(content)
    return hashlib.sha256(content).hexdigest()


def all_agree(path, want, folder, *parents):
    """parents: nearest first; qemu-img reads images that have none, and libvhdi knows no blocks of zeroes."""
    layers.sound(path, os.path.basename(path))
    equal(process.guest_sha256(path), want, "vmimg")
    equal(by_reader(path, *parents), want, "the reader")
    if not any(state in (vhdx.ZERO, vhdx.ABSENT) for state, _ in vhdx.Reader(path).blocks):
        equal(libvhdi.guest_sha256(path, *parents), want, "libvhdi")
    if not parents:
        qemu.img("check", "-q", "-f", "vhdx", path)
        equal(qemu.guest_sha256(path, "vhdx", folder), want, "qemu-img")
        if env.have("7zz"):
            equal(by_7zz(path, folder), want, "7zz")


def test_empty_child(t):
    raw, _ = chain(t.tmp)
    vmimg_ok("create", "-f", "vhdx", "-b", "base.vhdx", t.path("new.vhdx"))
    all_agree(t.path("new.vhdx"), disks.sha256(raw), t.tmp, t.path("base.vhdx"))


def test_commit(t):
    for options in (), SMALL:
        with t.sub(" ".join(options) or "plain"), t.folder() as folder:
            _, changed = chain(folder, *options)
            base, child = f"{folder}/base.vhdx", f"{folder}/child.vhdx"
            vmimg_ok("commit", child)
            all_agree(base, disks.sha256(changed), folder)
            all_agree(child, disks.sha256(changed), folder, base)
            equal(os.path.getsize(child), 4 * MIB, "the child's size")
            head = vhdx.Reader(base)
            head.head.pop("sequence"), head.other_head.pop("sequence")
            equal(head.head, head.other_head, "the headers")


def test_other_parents(t):
    for options in (), SMALL:
        with t.sub(" ".join(options) or "plain"), t.folder() as folder:
            raw, changed = chain(folder, *options)
            base, child, want = f"{folder}/base.vhdx", f"{folder}/child.vhdx", disks.sha256(changed)
            layers.change(raw, f"{folder}/c.raw", (3 * MIB, b"other" * 1000))
            other = f"{folder}/a longer name than before.vhdx"
            vmimg_ok("convert", f"{folder}/c.raw", other)
            disk_id = vhdx.Reader(child).disk_id
            vmimg_ok("rebase", "-b", os.path.basename(other), child)
            os.rename(base, f"{folder}/away")
            all_agree(child, want, folder, other)
            equal(vhdx.Reader(child).pairs, {
                "parent_linkage": "{%s}" % vhdx.Reader(other).head["data_write"],
                "relative_path": ".\\" + os.path.basename(other)}, "the locator")
            equal(vhdx.Reader(child).disk_id, disk_id, "what the guest knows the disk by")
            vmimg_ok("rebase", "-b", "", child)
            os.unlink(other)
            all_agree(child, want, folder)
            os.rename(f"{folder}/away", base)
            vmimg_ok("rebase", "-b", "base.vhdx", child)
            all_agree(child, want, folder, base)


def test_first_parent(t):
    """What an image lacks that never had a parent is zero over one, too; and a BAT whose last entry has no room for a
    bitmap's moves."""
    with t.sub("empty"):
        raw, _ = chain(t.tmp)
        vmimg_ok("create", "-o", "block_size=1M", t.path("own.vhdx"), str(SIZE))
        vmimg_ok("rebase", "-b", "base.vhdx", t.path("own.vhdx"))
        all_agree(t.path("own.vhdx"), hashlib.sha256(bytes(SIZE)).hexdigest(), t.tmp, t.path("base.vhdx"))
        vmimg_ok("create", "-o", "block_size=1M", t.path("shows.vhdx"), str(SIZE))
        vmimg_ok("rebase", "-u", "-b", "base.vhdx", t.path("shows.vhdx"))
        all_agree(t.path("shows.vhdx"), disks.sha256(raw), t.tmp, t.path("base.vhdx"))
    with t.sub("a full BAT"):
        entries = MIB // 8  # 31 chunks of 4096 blocks and their bitmaps, but one entry
        blocks = entries - (entries // 4097)
        size = blocks * MIB
        while blocks + (blocks - 1) // 4096 != entries:
            blocks, size = blocks + 1, size + MIB
        vmimg_ok("create", "-o", "block_size=1M", t.path("full.vhdx"), str(size))
        qemu.io(t.path("full.vhdx"), f"write -P 7 {size - 65536} 64k", fmt="vhdx")
        layers.sound(t.path("full.vhdx"), "full")
        vmimg_ok("rebase", "-u", "-b", "base.vhdx", t.path("full.vhdx"))
        layers.sound(t.path("full.vhdx"), "with a parent")
        reader = vhdx.Reader(t.path("full.vhdx"))
        equal(reader.regions[vhdx.BAT_ID][1], 2 * MIB, "the BAT's length")
        equal(reader.blocks[-1][0], vhdx.PRESENT, "the last block")
        raw = vmimg_ok("map", "--json", t.path("full.vhdx")).json()
        equal((raw[-1]["start"] + raw[-1]["length"], raw[-1]["depth"]), (size, 0), "the end of the disk")


def test_traces(t):
    """Entries of bitmaps that QEMU before 8.1 left in a disk without a parent do not become bitmaps."""
    raw, _ = chain(t.tmp)
    image = vhdx.Image(5000 * MIB)
    image.add(1, b"\x42" * MIB)
    image.bat[4096] = 0x300000 | vhdx.PRESENT  # inside the BAT's own region
    path = image.write(t.path("noise.vhdx"))
    before = process.guest_sha256(path)
    vmimg_ok("rebase", "-u", "-b", "base.vhdx", path)
    equal(vhdx.Reader(path).bitmaps, [None, None], "bitmaps")
    vmimg_ok("rebase", "-u", "-b", "", path)
    layers.sound(path, "alone again")
    equal(process.guest_sha256(path), before, "content")


def test_old_places(t):
    """Blocks that were given up and still say where they lay, over the log and over others: nothing there is touched."""
    image = vhdx.Image(12 * MIB)
    live = image.add(3, b"\x33" * MIB)
    for block, at in ((5, live), (6, MIB), (7, image.bat_at), (11, live)):
        image.bat[image.index(block)] = at | vhdx.UNMAPPED
    path = image.write(t.path("old.vhdx"))
    want = bytes(3 * MIB) + b"\x33" * MIB + bytes(8 * MIB)
    vmimg_ok("resize", "--shrink", path, str(10 * MIB))
    equal(vhdx.Reader(path).content(), want[:10 * MIB], "smaller")
    vmimg_ok("resize", path, str(12 * MIB))
    all_agree(path, hashlib.sha256(want).hexdigest(), t.tmp)
    vmimg_ok("compact", path)
    all_agree(path, hashlib.sha256(want).hexdigest(), t.tmp)
    check(all(not place or state == vhdx.PRESENT for state, place in vhdx.Reader(path).blocks), "places of blocks given up")


def test_squeezed(t):
    raw = t.path("full.raw")
    with open(raw, "wb") as file:
        for i in range(10):
            file.write(bytes([i + 1]) * MIB)
    path = t.path("a.vhdx")
    vmimg_ok("convert", *SMALL, raw, path)
    qemu.io(path, "write -P 0 2M 4M", fmt="vhdx")
    layers.change(raw, raw + ".z", (2 * MIB, bytes(4 * MIB)))
    vmimg_ok("compact", path)
    equal(os.path.getsize(path), 10 * MIB, "size")
    all_agree(path, disks.sha256(raw + ".z"), t.tmp)
    qemu.io(path, "write -P 9 3M 1M", fmt="vhdx")  # a peer goes on with it
    layers.change(raw + ".z", raw, (3 * MIB, b"\x09" * MIB))
    all_agree(path, disks.sha256(raw), t.tmp)
    with t.sub("a BAT that had moved"):
        vmimg_ok("resize", path, str(200 << 30))
        vmimg_ok("resize", "--shrink", path, str(10 * MIB))
        qemu.io(path, "write -P 0 0 4M", fmt="vhdx")
        layers.change(raw, raw + ".z", (0, bytes(4 * MIB)))
        before = vhdx.Reader(path).regions[vhdx.BAT_ID]
        vmimg_ok("compact", path)
        after = vhdx.Reader(path).regions[vhdx.BAT_ID]
        check(after[0] < before[0] and after[1] == before[1], f"the BAT's place: {before}, {after}")
        equal(os.path.getsize(path), 4 * MIB + after[1] - MIB + 4 * MIB, "size")
        all_agree(path, disks.sha256(raw + ".z"), t.tmp)


def test_squeezed_child(t):
    """Bitmaps move as well; of two chunks here, with blocks of 64 MiB."""
    size, base, child = 5 << 30, t.path("base.vhdx"), t.path("child.vhdx")
    options = "-o", "block_size=64M"
    with open(t.path("m0.raw"), "wb") as file:
        file.truncate(size)
        for at in range(0, 5120, 512):
            file.seek(at * MIB)
            file.write(b"\x77" * 70000)
    vmimg_ok("convert", *options, t.path("m0.raw"), base)
    vmimg_ok("create", *options, "-b", "base.vhdx", child)
    for commands in (["write -P 1 0 64k", "write -P 2 600M 64k", "write -P 3 4200M 1M"],
                     ["write -z 0 64M", "write -z 576M 64M", "write -P 4 5000M 64k"]):
        overlay = t.path("over.qcow2")
        qemu.img("create", "-q", "-f", "qcow2", "-b", "m0.raw", "-F", "raw", overlay)
        qemu.io(overlay, *commands, fmt="qcow2")
        qemu.img("rebase", "-q", "-u", "-b", "child.vhdx", "-F", "vhdx", overlay)
        vmimg_ok("commit", "-d", overlay)
    before, digest = vhdx.Reader(child), process.guest_sha256(child)
    equal(os.path.getsize(child), (4 + 64 * 4 + 2) * MIB, "size before")
    vmimg_ok("compact", "--no-fs", child)
    after = vhdx.Reader(child)
    equal(os.path.getsize(child), (4 + 64 * 2 + 2) * MIB, "size")
    check(max(after.bitmaps) < max(before.bitmaps), f"bitmaps: {before.bitmaps}, {after.bitmaps}")
    layers.sound(child, "compacted")
    equal(process.guest_sha256(child), digest, "content")


def test_settings(t):
    raw, changed = chain(t.tmp)
    base, child = t.path("base.vhdx"), t.path("child.vhdx")
    text = vmimg_ok("set", base).text
    check(all(f"  {key}=<" in text for key in (
        "uuid", "data-write-guid", "parent", "parent-linkage", "physical_sector_size", "creator")), text)
    one, two = "01234567-89ab-cdef-0123-456789abcdef", "11111111-2222-3333-4444-555555555555"
    vmimg_ok("set", base, f"uuid={one}", f"data-write-guid={two}", "physical_sector_size=512", "creator=d2v é")
    reader = vhdx.Reader(base)
    equal((str(reader.disk_id), reader.physical, str(reader.head["data_write"])), (one, 512, two), "settings")
    equal(reader.file[8:24], "d2v é\0\0\0".encode("utf-16-le"), "creator")
    info = vmimg_ok("info", "--json", base).json()
    equal((info["identity"]["uuid"], info["creator"]), (one, "d2v é"), "as info tells them")
    check(one in process.run("vhdiinfo", base).text or two in process.run("vhdiinfo", base).text, "as vhdiinfo tells them")
    all_agree(base, disks.sha256(raw), t.tmp)
    equal(vmimg("convert", "-O", "raw", child, t.path("no.raw")).code, 4, "its child knows another")
    vmimg_ok("set", child, f"parent-linkage={two}")
    all_agree(child, disks.sha256(changed), t.tmp, base)
    os.rename(base, t.path("elsewhere, and longer.vhdx"))
    vmimg_ok("set", child, "parent=elsewhere, and longer.vhdx")
    equal(vhdx.Reader(child).pairs, {"parent_linkage": "{%s}" % two, "relative_path": ".\\elsewhere, and longer.vhdx"}, "pairs")
    all_agree(child, disks.sha256(changed), t.tmp, t.path("elsewhere, and longer.vhdx"))
    os.rename(t.path("elsewhere, and longer.vhdx"), base)
    before = disks.sha256(base)
    for words in ["uuid=12"], ["parent=x"], [f"parent-linkage={one}"], ["physical_sector_size=1024"], ["geometry=auto"], \
            ["creator=" + 252 * "x"], ["data-write-guid=00000000-0000-0000-0000-000000000000"], ["uuid"]:
        equal(vmimg("set", base, *words).code, 2, words[0])
        equal(disks.sha256(base), before, f"the image after {words[0]}")
    for creator in "x" * 251, "short":
        vmimg_ok("set", base, "creator=" + creator)
        equal(vmimg_ok("info", "--json", base).json()["creator"], creator, "creator")
    vmimg_ok("set", base, "uuid=new")
    check(one not in str(vhdx.Reader(base).disk_id), "the same uuid")
    check(str(vhdx.Reader(base).head["data_write"]) != two, "children go on knowing a disk that the guest does not")
    all_agree(base, disks.sha256(raw), t.tmp)


def test_pairs_stay(t):
    """What a locator says beside the names and the identity is kept."""
    raw, _ = chain(t.tmp)
    base = t.path("base.vhdx")
    linkage = "{%s}" % vhdx.Reader(base).head["data_write"]
    child = vhdx.Image(SIZE, pairs=[("parent_linkage", "{%s}" % vhdx.LOG_ID), ("parent_linkage2", linkage),
                                    ("relative_path", "gone.vhdx"), ("volume_path", "\\\\?\\Volume\\base.vhdx"),
                                    ("absolute_win32_path", "D:\\x\\base.vhdx"), ("some_key", "kept")])
    path = child.write(t.path("pairs.vhdx"))
    equal(process.guest_sha256(path), disks.sha256(raw), "content")
    os.rename(base, t.path("new.vhdx"))
    vmimg_ok("set", path, "parent=new.vhdx")
    equal(vhdx.Reader(path).pairs, {"parent_linkage": "{%s}" % vhdx.LOG_ID, "parent_linkage2": linkage,
                                    "relative_path": ".\\new.vhdx", "some_key": "kept"}, "by name")
    all_agree(path, disks.sha256(raw), t.tmp, t.path("new.vhdx"))
    vmimg_ok("chain", "relink", path, "new.vhdx")
    equal(vhdx.Reader(path).pairs, {"parent_linkage": linkage, "relative_path": ".\\new.vhdx", "some_key": "kept"}, "relinked")


def test_children_resize(t):
    for options in (), SMALL:
        with t.sub(" ".join(options) or "plain"), t.folder() as folder:
            _, changed = chain(folder, *options)
            base, child = f"{folder}/base.vhdx", f"{folder}/child.vhdx"
            for size in (SIZE + 5 * MIB, 5 * MIB, 5 * MIB + 512, SIZE, MIB - 512, SIZE + 5 * MIB, 9 << 30, 3 * MIB):
                vmimg_ok("resize", "--shrink", child, str(size))
                os.truncate(changed, size)
                layers.sound(child, f"of {size} bytes")
                if size < 1 << 30:  # what the parent has there must not come back
                    all_agree(child, disks.sha256(changed), folder, base)


def test_cut_off(t):
    raw, changed = chain(t.tmp, *SMALL)
    os.mkdir(t.path("f"))
    for name in "base.vhdx", "child.vhdx":
        os.rename(t.path(name), t.path("f/" + name))
    both = disks.sha256(changed), disks.sha256(raw)
    for words in (["set", "IMAGE", "uuid=new", "physical_sector_size=512", "parent=base.vhdx"], ["rebase", "-u", "-b", "base.vhdx", "IMAGE"], ["rebase", "--threads=1", "-b", "", "IMAGE"],
                  ["compact", "--threads=1", "IMAGE"]):
        with t.sub(" ".join(words)):
            layers.cut_off(t.path("f"), "child.vhdx", both[:1], *words)


if __name__ == "__main__":
    harness.main()
