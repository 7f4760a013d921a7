# SPDX-License-Identifier: Apache-2.0
"""VDI changed in place, layer by layer: what qemu-img and 7-Zip read then, and what is left of a change that was
cut off."""

import os
import struct

from lib import disks, harness, layers, process, qemu
from lib.harness import check, equal
from lib.layers import MIB, SIZE
from lib.process import vmimg, vmimg_ok

def chain(folder, *options):
    """base.vdi and child.vdi on it; the raw disks that they are."""
    return layers.chain(folder, "vdi", *options)


def all_agree(path, want, folder):
    """Of an image without a parent, in blocks of 1 MiB."""
    layers.sound(path, os.path.basename(path))
    equal(process.guest_sha256(path), want, "vmimg")
    layers.peers_agree(path, want, "vdi", folder)


def field(path, at, form):
    with open(path, "rb") as file:
        file.seek(at)
        return struct.unpack(form, file.read(struct.calcsize(form)))[0]


def test_empty_child(t):
    raw, _ = chain(t.tmp)
    vmimg_ok("create", "-f", "vdi", "-b", "base.vdi", t.path("new.vdi"))
    layers.sound(t.path("new.vdi"), "a child")
    equal(process.guest_sha256(t.path("new.vdi")), disks.sha256(raw), "content")


def test_commit(t):
    _, changed = chain(t.tmp)
    vmimg_ok("commit", t.path("child.vdi"))
    all_agree(t.path("base.vdi"), disks.sha256(changed), t.tmp)
    layers.sound(t.path("child.vdi"), "the child")
    equal(process.guest_sha256(t.path("child.vdi")), disks.sha256(changed), "the child")
    equal(field(t.path("child.vdi"), 388, "<I"), 0, "blocks of the child")
    equal(field(t.path("child.vdi"), 340, "<I"), 512, "where its map is again")


def test_commit_extra_data(t):
    """A base of small blocks, with bytes of somebody else's before each."""
    raw, changed = chain(t.tmp, "-o", "block_size=64k")
    base, extra = t.path("base.vdi"), 1024
    with open(base, "rb") as file:
        data = file.read()
    start, used = struct.unpack_from("<I", data, 344)[0], struct.unpack_from("<I", data, 388)[0]
    head = bytearray(data[:start])
    struct.pack_into("<I", head, 380, extra)
    with open(base, "wb") as file:
        file.write(head)
        for i in range(used):
            file.write(b"\xee" * extra + data[start + i * 65536:start + (i + 1) * 65536].ljust(65536, b"\0"))
    vmimg_ok("commit", t.path("child.vdi"))
    layers.sound(base, "the base")
    equal(process.guest_sha256(base), disks.sha256(changed), "content")


def test_other_parents(t):
    raw, changed = chain(t.tmp)
    child, want = t.path("child.vdi"), disks.sha256(changed)
    other = layers.change(raw, t.path("c.raw"), (3 * MIB, b"other" * 1000))
    vmimg_ok("convert", other, t.path("other.vdi"))
    vmimg_ok("rebase", "-b", "other.vdi", child)
    os.rename(t.path("base.vdi"), t.path("away"))
    layers.sound(child, "on another parent")
    equal(process.guest_sha256(child), want, "on another parent")
    equal(field(child, 424, "16s"), field(t.path("other.vdi"), 392, "16s"), "the parent's UUID")
    vmimg_ok("rebase", "-b", "", child)
    os.unlink(t.path("other.vdi"))
    all_agree(child, want, t.tmp)
    os.rename(t.path("away"), t.path("base.vdi"))
    vmimg_ok("rebase", "-b", "base.vdi", child)
    layers.sound(child, "on a parent again")
    equal(process.guest_sha256(child), want, "on a parent again")


def test_squeezed(t):
    equal(layers.squeezed(t.tmp, "vdi", all_agree)[1], 6 * MIB + 4096, "size")


def test_settings(t):
    raw, changed = chain(t.tmp)
    base, child = t.path("base.vdi"), t.path("child.vdi")
    text = vmimg_ok("set", base).text
    check(all(f"  {key}=<" in text for key in ("uuid", "parent-uuid", "geometry")), text)
    uuid = "01234567-89ab-cdef-0123-456789abcdef"
    vmimg_ok("set", base, f"uuid={uuid}", "geometry=100/16/63")
    equal(vmimg_ok("info", "--json", base).json()["identity"]["uuid"], uuid, "uuid")
    equal(field(base, 348, "<I"), 100, "cylinders")
    all_agree(base, disks.sha256(raw), t.tmp)
    equal(vmimg("convert", "-O", "raw", child, t.path("no.raw")).code, 5, "its child knows another")
    vmimg_ok("set", child, f"parent-uuid={uuid}")
    equal(process.guest_sha256(child), disks.sha256(changed), "the child, led to it again")
    before = disks.sha256(base)
    for words in ["uuid=12"], ["geometry=1/2"], [f"parent-uuid={uuid}"], ["creator=x"]:
        equal(vmimg("set", base, *words).code, 2, words[0])
        equal(disks.sha256(base), before, f"the image after {words[0]}")
    vmimg_ok("set", base, "uuid=new", "geometry=auto")
    check(vmimg_ok("info", "--json", base).json()["identity"]["uuid"] != uuid, "the same uuid")


def test_children_grow(t):
    child, changed = layers.child_resized(t.tmp, "vdi")
    vmimg_ok("resize", child, str(SIZE))
    os.truncate(changed, SIZE)
    equal(process.guest_sha256(child), disks.sha256(changed), "grown over what the parent has")


def test_shrunk_without_gaps(t):
    """The blocks that stay move to where those were that go."""
    raw, path = t.path("disk.raw"), t.path("disk.vdi")
    with open(raw, "wb") as file:
        for i in range(12):
            file.write(bytes([i + 1]) * MIB)
    vmimg_ok("create", "-q", "-f", "vdi", path, "12M")
    for i in (11, 0, 10, 3, 9, 8, 7, 6, 5, 4, 2, 1):
        qemu.io(path, f"write -P {i + 1} {i}M 1M", fmt="vdi")
    all_agree(path, disks.sha256(raw), t.tmp)
    for size in 8 * MIB, 5 * MIB + 512, 1024:
        vmimg_ok("resize", "--shrink", "--shrink", path, str(size))
        os.truncate(raw, size)
        all_agree(path, disks.sha256(raw), t.tmp)
        used = -(-size // MIB)
        equal(field(path, 388, "<I"), used, "blocks by the header")
        check(os.path.getsize(path) <= field(path, 344, "<I") + used * MIB, "the file's size")


def by_hand(path, entries, data_at, extra, blocks):
    """A VDI of 1 MiB blocks; blocks: {offset: byte}."""
    head = bytearray(b"<<< by hand >>>\n".ljust(512, b"\0"))
    struct.pack_into("<IHH", head, 64, 0xbeda107f, 1, 1)
    struct.pack_into("<II", head, 72, 400, 1)
    struct.pack_into("<II", head, 340, 512, data_at)
    struct.pack_into("<I4xQIIII16s16s", head, 360, 512, len(entries) * MIB, MIB, extra, len(entries), 2, b"u" * 16, b"m" * 16)
    with open(path, "wb") as file:
        file.write(head + struct.pack(f"<{len(entries)}I", *entries))
        for at, byte in blocks.items():
            file.seek(at)
            file.write(byte * MIB)
    return path


def test_first_block_over_tables(t):
    """Where block 0 would be the header itself, a new block must not become it."""
    with open(t.path("in"), "wb") as file:
        file.write(b"x" * 4096)
    absent = 0xffffffff
    for data_at, extra in (0, 0), (0, MIB), (512, 0):
        with t.sub(f"data at {data_at}, {extra} bytes before each"):
            path = by_hand(t.path("c.vdi"), [absent, 1, absent], data_at, extra, {data_at + MIB + 2 * extra: b"\x55"})
            before = disks.sha256(path)
            equal(process.guest_sha256(path), process.guest_sha256(path), "content")
            for words in ["dd", "conv=notrunc", f"if={t.path('in')}", f"of={path}"], ["resize", path, "9M"], \
                    ["compact", "--no-fs", path], ["set", path, "uuid=new"]:
                result = vmimg(*words)
                check(result.code == 4 and "block map" in result.errors, f"{words[0]}: {result}")
                equal(disks.sha256(path), before, words[0])


def test_cut_off(t):
    _, changed = chain(t.tmp)
    os.mkdir(t.path("f"))
    for name in "base.vdi", "child.vdi":
        os.rename(t.path(name), t.path("f/" + name))
    for words in (["set", "IMAGE", "geometry=10/16/63"], ["rebase", "-u", "-b", "base.vdi", "IMAGE"],
                  ["compact", "--threads=1", "IMAGE"]):
        with t.sub(words[0]):
            layers.cut_off(t.path("f"), "child.vdi", (disks.sha256(changed),), *words)


if __name__ == "__main__":
    harness.main()
