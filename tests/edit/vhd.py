# SPDX-License-Identifier: Apache-2.0
"""VHD changed in place, layer by layer: what qemu-img, 7-Zip and libvhdi read then, and what is left of a change
that was cut off."""

import os
import struct

from lib import disks, env, harness, layers, libvhdi, process, qemu, recipe, vhd
from lib.harness import check, equal
from lib.layers import MIB, SIZE
from lib.process import vmimg, vmimg_ok

def chain(folder):
    """base.vhd and child.vhd on it; the raw disks that they are."""
    return layers.chain(folder, "vhd")


def all_agree(path, want, folder, *parents):
    """parents: nearest first; qemu-img reads images that have none."""
    layers.sound(path, os.path.basename(path))
    equal(process.guest_sha256(path), want, "vmimg")
    equal(libvhdi.guest_sha256(path, *parents), want, "libvhdi")
    if not parents:
        layers.peers_agree(path, want, "vhd", folder)
    elif env.have("7zz"):
        equal(layers.by_7zz(path, "vhd", folder), want, "7zz")


def test_empty_child(t):
    raw, _ = chain(t.tmp)
    vmimg_ok("create", "-f", "vhd", "-b", "base.vhd", t.path("new.vhd"))
    all_agree(t.path("new.vhd"), disks.sha256(raw), t.tmp, t.path("base.vhd"))


def test_commit(t):
    raw, changed = chain(t.tmp)
    vmimg_ok("commit", t.path("child.vhd"))
    all_agree(t.path("base.vhd"), disks.sha256(changed), t.tmp)
    all_agree(t.path("child.vhd"), disks.sha256(changed), t.tmp, t.path("base.vhd"))
    check(os.path.getsize(t.path("child.vhd")) < 65536, "the child is not empty")


def test_other_parents(t):
    raw, changed = chain(t.tmp)
    want = disks.sha256(changed)
    other = layers.change(raw, t.path("c.raw"), (3 * MIB, b"other" * 1000))
    vmimg_ok("convert", other, t.path("a longer name than before.vhd"))
    vmimg_ok("rebase", "-b", "a longer name than before.vhd", t.path("child.vhd"))
    os.rename(t.path("base.vhd"), t.path("away"))
    all_agree(t.path("child.vhd"), want, t.tmp, t.path("a longer name than before.vhd"))
    vmimg_ok("rebase", "-b", "", t.path("child.vhd"))
    os.unlink(t.path("a longer name than before.vhd"))
    all_agree(t.path("child.vhd"), want, t.tmp)
    os.rename(t.path("away"), t.path("base.vhd"))
    vmimg_ok("rebase", "-b", "base.vhd", t.path("child.vhd"))
    all_agree(t.path("child.vhd"), want, t.tmp, t.path("base.vhd"))


def test_header_moves_back(t):
    """The header ends where it was, whoever made the locators: they may lie where nobody else looks."""
    raw, changed = chain(t.tmp)
    with open(t.path("child.vhd"), "rb") as file:
        equal(struct.unpack(">Q", file.read(24)[16:])[0], 512, "the header's place")
    before = os.path.getsize(t.path("child.vhd"))
    for _ in range(3):
        vmimg_ok("rebase", "-u", "-b", "base.vhd", t.path("child.vhd"))
        equal(os.path.getsize(t.path("child.vhd")), before, "size")
    with open(t.path("child.vhd"), "r+b") as file:  # as if made elsewhere: the room is in sectors
        file.seek(512)
        header = bytearray(file.read(1024))
        for slot in range(2):
            struct.pack_into(">I", header, 576 + 24 * slot + 4, 8)
        header[36:40] = bytes(4)
        struct.pack_into(">I", header, 36, ~sum(header) & 0xffffffff)
        file.seek(512)
        file.write(header)
    vmimg_ok("rebase", "-u", "-b", "base.vhd", t.path("child.vhd"))
    all_agree(t.path("child.vhd"), disks.sha256(changed), t.tmp, t.path("base.vhd"))


def test_squeezed(t):
    """Blocks that became zero are given up, and the others move into their places."""
    before, after = layers.squeezed(t.tmp, "vhd", all_agree)
    check(before - after >= 4 * MIB, "it is not smaller")


def test_settings(t):
    raw, _ = chain(t.tmp)
    base, want = t.path("base.vhd"), disks.sha256(raw)
    text = vmimg_ok("set", base).text
    check(all(f"  {key}=<" in text for key in ("uuid", "creator", "geometry", "timestamp")), text)
    uuid = "01234567-89ab-cdef-0123-456789abcdef"
    vmimg_ok("set", base, f"uuid={uuid}", "creator=d2v", "geometry=100/16/63", "timestamp=1700000000")
    info = vmimg_ok("info", "--json", base).json()
    equal(info["identity"]["uuid"], uuid, "uuid")
    equal(info["creator"].split()[0], "d2v", "creator")
    check(uuid in process.run("vhdiinfo", base).text, "vhdiinfo sees another identifier")
    with open(base, "rb") as file:
        head = file.read(512)
        file.seek(-512, 2)
        equal(head, file.read(), "the copies of the footer")
    equal(struct.unpack(">HBB", head[56:60]), (100, 16, 63), "geometry")
    equal(struct.unpack(">I", head[24:28])[0], 1700000000 - 946684800, "time stamp")
    all_agree(base, want, t.tmp)
    vmimg_ok("set", base, "uuid=new", "geometry=auto")
    check(vmimg_ok("info", "--json", base).json()["identity"]["uuid"] != uuid, "the same uuid")
    equal(vmimg("convert", "-O", "raw", t.path("child.vhd"), t.path("no.raw")).code, 5, "its child knows another")
    before = disks.sha256(base)
    for words, code in ((["uuid=12"], 2), (["creator=long one"], 2), (["geometry=1/2"], 2), (["timestamp=1"], 2),
                        (["adapter=ide"], 2), (["uuid"], 2), (["creator=qemu"], 5)):
        equal(vmimg("set", base, *words).code, code, words[0])
        equal(disks.sha256(base), before, f"the image after {words[0]}")
    fixed = t.path("fixed.vhd")
    vmimg_ok("convert", "-o", "subformat=fixed", raw, fixed)
    vmimg_ok("set", fixed, f"uuid={uuid}")
    equal(vmimg_ok("info", "--json", fixed).json()["identity"]["uuid"], uuid, "uuid of a fixed disk")
    equal(process.guest_sha256(fixed), want, "a fixed disk")


def test_children_grow(t):
    """What is added is zero, though the parent has something there, and wherever the old end was."""
    child, changed = layers.child_resized(t.tmp, "vhd")
    for size in 5 * MIB + 512, 7 * MIB + 512, SIZE, SIZE + 5 * MIB:
        vmimg_ok("resize", child, str(size))
        os.truncate(changed, size)
        layers.sound(child, f"grown to {size}")
        equal(process.guest_sha256(child), disks.sha256(changed), f"grown to {size}")
        if size == SIZE:
            all_agree(child, disks.sha256(changed), t.tmp, t.path("base.vhd"))
    vmimg_ok("rebase", "-b", "", child)
    layers.sound(child, "without a parent")
    layers.peers_agree(child, disks.sha256(changed), "vhd", t.tmp)  # libvhdi takes the original size


def grown_children(t, block):
    """A parent full of data, and children of other sizes with nothing in them: (child, raw disk that it is)."""
    parent = disks.pattern(t.path("p.raw"), 12 * MIB, seed=2, data=12 * MIB)
    vmimg_ok("convert", "--force", "-o", f"block_size={block}", parent, t.path("p.vhd"))
    for own in 3 * MIB, 3 * MIB + 1024, 512:
        child, raw = t.path("c.vhd"), t.path("c.raw")
        vmimg_ok("create", "-q", "--force", "-f", "vhd", "-o", f"block_size={block}", "-b", "p.vhd", child)
        disks.copy(parent, raw)
        vmimg_ok("resize", "--shrink", child, str(own))
        os.truncate(raw, own)
        yield own, child, raw


def test_empty_children_grow(t):
    for block in "2M", "64k":
        for own, child, raw in grown_children(t, block):
            for size in own + 512, 5 * MIB + 512, 40 * MIB, 3000 * MIB:
                with t.sub(f"blocks of {block}, {own} to {size}"):
                    vmimg_ok("resize", child, str(size))
                    layers.sound(child, f"grown to {size}")
                    if size < 1000 * MIB:
                        os.truncate(raw, size)
                        equal(process.guest_sha256(child), disks.sha256(raw), "content")
            vmimg_ok("resize", "--shrink", child, str(12 * MIB))
            os.truncate(raw, 12 * MIB)
            all_agree(child, disks.sha256(raw), t.tmp, t.path("p.vhd"))
            check(os.stat(child).st_blocks * 512 < 4 * MIB, "zeroes take space")


def test_children_grow_killed(t):
    """Whatever moment a kill picks, the child shows the old disk or the new one."""
    for own, child, raw in grown_children(t, "64k"):
        os.makedirs(t.path("f"), exist_ok=True)
        for name in "p.vhd", "c.vhd":
            disks.copy(t.path(name), t.path("f/" + name))
        old = disks.sha256(raw)
        os.truncate(raw, own + 300 * 1024)
        with t.sub(f"{own}"):
            layers.cut_off(t.path("f"), "c.vhd", (old, disks.sha256(raw)), "resize", "IMAGE", str(own + 300 * 1024))


def test_shrunk_child_keeps_its_parent(t):
    """The names of a parent that came later lie behind the blocks."""
    os.mkdir(t.path("sub"))
    raw = disks.pattern(t.path("p.raw"), MIB, seed=2, data=MIB)
    vmimg_ok("convert", raw, t.path("sub/p.vhd"))
    child = t.path("c.vhd")
    vmimg_ok("create", "-q", "-f", "vhd", "-o", "block_size=64k", child, "1M")
    qemu.io(child, "write -P 5 960k 64k", fmt="vpc")
    vmimg_ok("rebase", "-u", "-b", "sub/p.vhd", child)
    vmimg_ok("resize", "--shrink", child, "512k")
    os.truncate(raw, MIB // 2)
    layers.sound(child, "shrunk")
    equal(process.guest_sha256(child), disks.sha256(raw), "content")


def test_locators_over_data(t):
    """The texts of a new parent go where no block is, whatever the header says of the old ones."""
    vmimg_ok("create", "-q", "-f", "vhd", "-o", "block_size=64k", t.path("p.vhd"), "1M")
    vmimg_ok("create", "-q", "-f", "vhd", "-o", "block_size=64k", t.path("other.vhd"), "1M")
    name, block_at = ".\\p.vhd".encode("utf-16-le"), 16384
    for what, at in ("a block", block_at + 512 + 4096), ("the footer", 0), ("the header", 512), ("the block table", 1536):
        with t.sub(what):
            texts = {place: name for place in (at, at + 4096) if at > block_at}
            head = vhd.header(16, 1536, 65536, vhd.uuid_of(t.path("p.vhd")), "p.vhd",
                              ((vhd.W2RU, 4096, len(name), at), (vhd.W2KU, 4096, len(name), at + 4096)))
            path = vhd.write(t.path("c.vhd"), {
                512: head, 1536: struct.pack(">16I", block_at // 512, *[vhd.UNUSED] * 15).ljust(512, b"\xff"),
                block_at: b"\xff" * 512 + b"\x55" * 65536, **texts}, vhd.footer(MIB, 512, 4), block_at + 512 + 65536)
            before = process.guest_sha256(path)
            for parent in "other.vhd", "p.vhd":
                vmimg_ok("rebase", "-u", "-b", parent, path)
                layers.sound(path, parent)
                equal(process.guest_sha256(path), before, "content")


def test_tables_behind_the_last_block(t):
    """A disk that ends inside its last block has nothing behind that: growing would make it zero."""
    size, block, block_at = 65536 + 4096, 65536, 8192
    for header_at in block_at + 512 + 4096, 131072:
        path = vhd.write(t.path("c.vhd"), {
            header_at: vhd.header(2, header_at + 1024, block), block_at: b"\xff" * 512 + b"\x66" * 4096,
            header_at + 1024: struct.pack(">2I", vhd.UNUSED, block_at // 512).ljust(512, b"\xff")},
            vhd.footer(size, header_at), header_at + 2048)
        if header_at < 131072:
            equal(vmimg("check", path).code, 2, "check")
            equal(vmimg("resize", path, "1M").code, 4, "resize")
            continue
        before = qemu.guest_sha256(path, "vpc", t.tmp)
        equal(process.guest_sha256(path), before, "as it is")
        vmimg_ok("resize", path, "1M")
        layers.sound(path, "grown")
        with open(t.path("want.raw"), "wb") as file:
            file.truncate(MIB)
            file.seek(65536)
            file.write(b"\x66" * 4096)
        equal(process.guest_sha256(path), disks.sha256(t.path("want.raw")), "content")


def test_batmap_over_a_block(t):
    """Changes keep the batmap true: they do not write over a block that lies where it is."""
    path = recipe.Recipe(f"{env.SOURCE}/tests/vectors/vhd/damaged-bat-in-batmap.vec").assemble(t.tmp)
    before = disks.sha256(path)
    with open(t.path("in"), "wb") as file:
        file.write(b"x" * 4096)
    for words in ["dd", "conv=notrunc", f"if={t.path('in')}", f"of={path}"], ["compact", "--no-fs", path], \
            ["rebase", "-b", "", path]:
        result = vmimg(*words)
        check(result.code == 4 or not words[0] == "dd", str(result))
        equal(disks.sha256(path), before, words[0])


def test_split(t):
    """An image in several files is told from a damaged one before anything is done."""
    raw = disks.pattern(t.path("disk.raw"), 4 * MIB, seed=5, data=4 * MIB)
    vmimg_ok("convert", raw, t.path("whole.vhd"))
    with open(t.path("whole.vhd"), "rb") as file:
        data = file.read()
    for name, part in ("disk.vhd", data[:3 * MIB]), ("disk.v01", data[3 * MIB:]):
        with open(t.path(name), "wb") as file:
            file.write(part)
    equal(process.guest_sha256(t.path("disk.vhd")), disks.sha256(raw), "content")
    for words in ["set", t.path("disk.vhd"), "uuid=new"], ["resize", t.path("disk.vhd"), "+1M"], \
            ["compact", t.path("disk.vhd")]:
        result = vmimg(*words)
        check(result.code == 4 and "split into several files" in result.errors, f"{words[0]}: {result}")
    os.unlink(t.path("disk.v01"))
    result = vmimg("set", t.path("disk.vhd"), "uuid=new")
    check(result.code == 5 and "repair it" in result.errors, str(result))


def test_batmap(t):
    """A Xen image's map of full blocks grows with its BAT, and forgets what may not be true any more."""
    image = recipe.Recipe(f"{env.SOURCE}/tests/vectors/vhd/good-batmap.vec").assemble(t.tmp)
    before = process.guest_sha256(image)
    vmimg_ok("resize", image, "30G")
    layers.sound(image, "grown")
    with open(image, "rb") as file:
        file.seek(512)
        at, = struct.unpack(">Q", file.read(24)[16:])
        file.seek(at + 4 * 15360)
        equal(file.read(8), b"tdbatmap", "what follows the BAT")
    vmimg_ok("resize", "--shrink", image, "64M")
    equal(process.guest_sha256(image), before, "content")
    vmimg_ok("compact", image)
    layers.sound(image, "compacted")
    equal(process.guest_sha256(image), before, "content")


def test_cut_off(t):
    raw, changed = chain(t.tmp)
    both = disks.sha256(changed), disks.sha256(raw)
    os.mkdir(t.path("f"))
    for name in "base.vhd", "child.vhd":
        os.rename(t.path(name), t.path("f/" + name))
    for words in (["set", "IMAGE", "uuid=new"], ["rebase", "-u", "-b", "base.vhd", "IMAGE"],
                  ["compact", "--threads=1", "IMAGE"]):
        with t.sub(words[0]):
            layers.cut_off(t.path("f"), "child.vhd", both[:1], *words)


if __name__ == "__main__":
    harness.main()
