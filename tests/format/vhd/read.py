# SPDX-License-Identifier: Apache-2.0
"""What is particular to reading VHD: sector bitmaps, parents by every kind of name, split images, the
sizes of disks whose guests went by geometry, and the other copy of a damaged footer."""

import os
import struct

from lib import disks, harness, process, qemu
from lib.harness import check, equal
from lib.recipe import FIXES

MIB = 1 << 20
BLOCK = 2 * MIB
UNUSED = 0xffffffff


def patch(path, at, data, *fixes):
    """Pokes, then repairs the checksums named: (kind, at)."""
    with open(path, "r+b") as file:
        file.seek(at, os.SEEK_SET if at >= 0 else os.SEEK_END)
        file.write(data)
        for kind, place in fixes:
            length, fix = FIXES[kind]
            file.seek(place, os.SEEK_SET if place >= 0 else os.SEEK_END)
            block = bytearray(file.read(length))
            fix(block)
            file.seek(place, os.SEEK_SET if place >= 0 else os.SEEK_END)
            file.write(block)


def patch_footers(path, at, data):
    patch(path, at, data, ("vhd-footer", 0))
    patch(path, at - 512, data, ("vhd-footer", -512))


def dynamic(path, size=6 * MIB, seed=1):
    """A dynamic VHD and the raw disk it was made from; every sector of the disk is in use."""
    raw = path + ".raw"
    with open(raw, "wb") as file:
        for at in range(0, size, 512):
            file.write(struct.pack("<QQ", seed, at + 1) * 32)
    process.vmimg_ok("convert", "--force", "-f", "raw", "-O", "vhd", raw, path)
    return raw


def bat(path):
    with open(path, "rb") as file:
        file.seek(16 + 512)
        at, = struct.unpack(">Q", file.read(8))
        file.seek(at)
        return struct.unpack(">3I", file.read(12))


def convert(path, t, *options):
    raw = t.path("out.raw")
    process.vmimg_ok("convert", "--force", *options, "-O", "raw", path, raw)
    with open(raw, "rb") as file:
        return file.read()


def test_sector_bitmap(t):
    """A sector whose bit is clear is zero, whatever lies in its place."""
    path = t.path("a.vhd")
    with open(dynamic(path), "rb") as file:
        want = bytearray(file.read())
    bits = {0: [(0, 0x7f)], 1: [(3, 0x00), (4, 0x00), (511, 0xfe)], 2: [(7, 0xe7), (100, 0x55)]}
    for block, changes in bits.items():
        for byte, value in changes:
            patch(path, bat(path)[block] * 512 + byte, bytes([value]))
            for bit in range(8):
                if not value >> (7 - bit) & 1:
                    at = block * BLOCK + (byte * 8 + bit) * 512
                    want[at:at + 512] = bytes(512)
    check(convert(path, t) == want, "clear bits are not honoured")
    runs = process.vmimg_ok("map", "--json", path).json()
    equal(sum(run["length"] for run in runs), 6 * MIB, "map covers the disk")


def chain(t, name):
    """A parent and an empty child in a folder of their own; the child's names are wiped."""
    folder = t.path(name)
    os.mkdir(folder)
    raw = dynamic(f"{folder}/parent.vhd")
    process.vmimg_ok("create", "-f", "vhd", "-b", "parent.vhd", "-F", "vhd", f"{folder}/child.vhd")
    patch(f"{folder}/child.vhd", 0x240, bytes(512 + 192), ("vhd-header", 512))
    return folder, disks.sha256(raw)


def set_locator(path, platform, text):
    """One locator, its text at the end of the file before the footer."""
    with open(path, "rb") as file:
        whole = file.read()
    at = len(whole) - 512
    with open(path, "wb") as file:
        file.write(whole[:at] + text.ljust(512, b"\0") + whole[at:])
    entry = struct.pack(">4sIIIQ", platform, 512, len(text), 0, at)
    patch(path, 0x240 + 512 + 24, entry, ("vhd-header", 512))


def test_parent_locators(t):
    utf16 = lambda text: text.encode("utf-16-le")
    for number, (platform, text) in enumerate([
            (b"W2ru", utf16(".\\parent.vhd")), (b"W2ru", utf16("parent.vhd")),
            (b"W2ku", utf16("C:\\machines\\one\\parent.vhd")),
            (b"W2ku", utf16("\\\\server\\share\\parent.vhd")),
            (b"Wi2r", b".\\parent.vhd"), (b"Wi2k", b"D:\\parent.vhd"),
            (b"MacX", b"file://localhost/Volumes/d/parent.vhd"),
            (b"MacX", b"file://./parent.vhd"), (b"MacX", b"file:///p%61rent.vhd")]):
        with t.sub(f"{platform.decode()} {text}"):
            folder, want = chain(t, f"locator{number}")
            set_locator(f"{folder}/child.vhd", platform, text)
            equal(process.guest_sha256(f"{folder}/child.vhd"), want, "content")


def test_relative_name_comes_first(t):
    """The relative name leads to the parent, the absolute one to an impostor; and the reverse."""
    folder, want = chain(t, "order")
    dynamic(f"{folder}/impostor.vhd", seed=2)
    child = f"{folder}/child.vhd"
    set_locator(child, b"W2ru", "impostor.vhd".encode("utf-16-le"))
    refused = process.vmimg("convert", "-O", "raw", child, t.path("no.raw"))
    equal(refused.code, 5, "a wrong unique id is refused")
    check("unique id" in refused.errors, refused.errors)
    with open(child, "rb") as file:
        file.seek(0x240 + 512 + 24)
        entry = file.read(24)
    set_locator(child, b"W2ku", "C:\\parent.vhd".encode("utf-16-le"))
    patch(child, 0x240 + 512 + 48, entry, ("vhd-header", 512))
    equal(process.guest_sha256(child), want, "the next name is tried")


def test_parent_time(t):
    folder, want = chain(t, "time")
    child = f"{folder}/child.vhd"
    set_locator(child, b"W2ru", "parent.vhd".encode("utf-16-le"))
    patch(child, 0x238, struct.pack(">I", 12345), ("vhd-header", 512))
    equal(process.guest_sha256(child), want, "content")
    said = process.vmimg_ok("convert", "-O", "raw", child, t.path("time.raw")).errors
    check("time stamp" in said, f"no warning: {said!r}")


def test_split(t):
    """disk.vhd, disk.v01, disk.v02 are one image."""
    raw = dynamic(t.path("whole.vhd"))
    with open(t.path("whole.vhd"), "rb") as file:
        whole = file.read()
    for number, start in enumerate(range(0, len(whole), 2500000)):
        name = "disk.vhd" if not number else f"disk.v{number:02}"
        with open(t.path(name), "wb") as file:
            file.write(whole[start:start + 2500000])
    equal(process.guest_sha256(t.path("disk.vhd")), disks.sha256(raw), "content")
    parts = {name: disks.sha256(t.path(name)) for name in os.listdir(t.tmp) if name.startswith("disk.v")}
    result = process.vmimg_ok("check", t.path("disk.vhd"))
    check("No errors" in result.text and not result.errors, f"{result}{result.text}")
    process.vmimg_ok("map", t.path("disk.vhd"))
    process.vmimg_ok("compare", raw, t.path("disk.vhd"))
    process.vmimg_ok("check", "-r", "all", t.path("disk.vhd"))
    for words in ["--in-place"], ["-o", t.path("new.vhd")]:
        result = process.vmimg("repair", *words, t.path("disk.vhd"))
        check(result.code in (1, 4) and "several files" in result.errors, str(result))
    equal({name: disks.sha256(t.path(name)) for name in parts}, parts, "the parts")
    os.unlink(t.path("disk.v02"))
    cut = process.vmimg("convert", "-O", "raw", t.path("disk.vhd"), t.path("no.raw"))
    equal(cut.code, 4, "a missing part is an error")
    equal(process.vmimg("check", t.path("disk.vhd")).code, 2, "and a finding")


def virtual_size(path):
    return process.vmimg_ok("info", "--json", path).json()["virtual-size"]


def test_sizes_by_creator(t):
    """Current size, but for guests that saw more by their geometry, where the image has room."""
    path = t.path("c.vhd")
    dynamic(path, size=5 * MIB)
    larger = struct.pack(">HBB", 150, 4, 17)   # 5222400 bytes
    too_large = struct.pack(">HBB", 400, 4, 17)
    smaller = struct.pack(">HBB", 100, 4, 17)
    for creator, geometry, want in [
            (b"win ", larger, 5 * MIB), (b"qem2", larger, 5 * MIB), (b"none", larger, 5 * MIB),
            (b"vpc ", smaller, 5 * MIB), (b"qemu", smaller, 5 * MIB),
            (b"vpc ", too_large, 5 * MIB), (b"tap\0", too_large, 5 * MIB)]:
        with t.sub(f"{creator} {geometry.hex()}"):
            patch_footers(path, 28, creator)
            patch_footers(path, 56, geometry)
            equal(virtual_size(path), want, "size")
    with t.sub("room for more"):
        patch_footers(path, 48, struct.pack(">Q", 5 * MIB - 65536))
        patch_footers(path, 28, b"qemu")
        patch_footers(path, 56, larger)
        equal(virtual_size(path), 5222400, "size")


def test_qemu_sizes(t):
    """qemu-img rounds to geometry unless told not to: both sizes are read as they are meant."""
    for force in ("on", "off"):
        for subformat in ("dynamic", "fixed"):
            with t.sub(f"{subformat} force_size={force}"):
                path = t.path("q.vhd")
                qemu.img("create", "-q", "-f", "vpc", "-o",
                         f"subformat={subformat},force_size={force}", path, "100M")
                info = qemu.img("info", "--output=json", "-f", "vpc", path).json()
                equal(virtual_size(path), info["virtual-size"], "size")


if __name__ == "__main__":
    harness.main()
