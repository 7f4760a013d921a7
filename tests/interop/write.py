# SPDX-License-Identifier: Apache-2.0
"""What vmimg writes, in every format and with every option, read by qemu-img."""

import os

from lib import disks, harness, process, qemu, variants
from lib.harness import check, equal

CHECKED = {"qcow2", "vdi", "vhdx"}  # formats whose structure qemu-img can check
MIB = 1 << 20


def whole_sectors_sha256(raw, folder):
    """qemu-img copies whole sectors only: the digest of those."""
    cut = disks.copy(raw, f"{folder}/whole-sectors.raw")
    os.truncate(cut, os.path.getsize(cut) // 512 * 512)
    return disks.sha256(cut)


def read_back(raw, fmt, options, folder):
    """Writes raw as fmt, and holds what qemu-img reads against it."""
    image = f"{folder}/image.{fmt}"
    process.vmimg_ok("convert", "-f", "raw", "-O", fmt, *options, raw, image)
    if fmt in CHECKED:
        said = qemu.img("check", "-f", qemu.name(fmt), image, cwd=folder).text
        check("No errors were found" in said, said)
    if fmt != "raw":
        equal(qemu.guest_sha256(image, fmt, folder), whole_sectors_sha256(raw, folder),
              "what qemu-img reads")
    equal(process.guest_sha256(image), disks.sha256(raw), "what vmimg reads")


def test_every_option(t):
    raw = disks.pattern(t.path("disk.raw"), 24 * MIB + 512, seed=2)
    for fmt, label, options in variants.written():
        with t.sub(f"{fmt} {label}"), t.folder() as folder:
            read_back(raw, fmt, options, folder)


def test_sizes(t):
    """Small, odd, and around the edges of tables."""
    sizes = [512, 1024, 65536, 65536 + 512, 2 * MIB - 512, 32 * MIB + 512]
    for fmt, label, options in variants.main_ways():
        odd = [] if fmt in variants.WHOLE_SECTORS else [1, 511, 513, MIB + 1]
        for size in sorted(odd + sizes):
            if fmt in ("vhd", "vdi", "vmdk") and size < 65536:
                continue
            with t.sub(f"{fmt} {label} of {size} bytes"), t.folder() as folder:
                raw = disks.pattern(f"{folder}/disk.raw", size, seed=size, data=2 * MIB)
                read_back(raw, fmt, options, folder)


def test_nothing_but_zeroes(t):
    raw = t.path("zero.raw")
    with open(raw, "wb") as file:
        file.truncate(8 * MIB)
    for fmt, label, options in variants.written():
        with t.sub(f"{fmt} {label}"), t.folder() as folder:
            read_back(raw, fmt, options, folder)


def test_terabyte(t):
    """Virtual size costs nothing: 1 TiB with 8 MiB of data."""
    raw = disks.pattern(t.path("big.raw"), 1 << 40, seed=3, data=8 * MIB)
    want = disks.nz64k(raw)
    for fmt, label, options in variants.main_ways():
        if label in ("fixed", "static", "preallocation"):
            continue
        with t.sub(f"{fmt} {label}"), t.folder() as folder:
            image, back = f"{folder}/image.{fmt}", f"{folder}/back.raw"
            done = process.vmimg_ok("convert", "-f", "raw", "-O", fmt, *options, raw, image)
            check(done.peak < 128 << 20, f"{done.peak >> 20} MiB")
            process.vmimg_ok("convert", "-f", fmt, "-O", "raw", image, back)
            equal(disks.nz64k(back), want, "what vmimg reads")
            # The places where there is data, by qemu-io, which needs not walk the holes.
            with open(raw, "rb") as file:
                for start, end in list(disks.data_ranges(file.fileno()))[:40]:
                    length = min(end - start, 65536)
                    file.seek(start)
                    block = file.read(length)
                    if len(set(block)) == 1:
                        qemu.io(image, f"read -P {block[0]} {start} {length}", fmt=fmt)


def test_empty_images(t):
    """create makes what qemu-img reads as zeroes of the right size."""
    for fmt in process.formats(writable=True):
        for size in (MIB, 100 * MIB + 512, 1 << 40):
            with t.sub(f"{fmt} of {size} bytes"), t.folder() as folder:
                image = f"{folder}/image.{fmt}"
                process.vmimg_ok("create", "-f", fmt, image, size)
                info = qemu.img("info", "--output=json", "-f", qemu.name(fmt), image).json()
                equal(info["virtual-size"], size, "virtual size")
                qemu.io(image, "read -P 0 0 64k", fmt=fmt)


if __name__ == "__main__":
    harness.main()
