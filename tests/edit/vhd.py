# SPDX-License-Identifier: Apache-2.0
"""VHD changed in place, layer by layer: what qemu-img, 7-Zip and libvhdi read then, and what is left of a change
that was cut off."""

import os
import struct

from lib import disks, env, harness, layers, libvhdi, process, recipe
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
    child, _ = layers.child_resized(t.tmp, "vhd")
    equal(vmimg("resize", child, str(SIZE)).code, 4, "growing over what the parent has")


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
