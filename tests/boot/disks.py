# SPDX-License-Identifier: Apache-2.0
"""
Disks that vmimg boot-disk makes, started for real: under SeaBIOS and under OVMF, from every format
that QEMU reads, with GPT and MBR. The guest tells which file system it found, and by which name.
"""

import os

from lib import disks, guest, harness, process
from lib.harness import check, equal, need

NEEDS = "syslinux", "qemu-system-x86_64", "mke2fs"
STUB = "/usr/lib/systemd/boot/efi/linuxx64.efi.stub"


def get():
    need(*NEEDS)
    if not os.path.exists(STUB):
        harness.skip(f"{STUB} is not installed (systemd-boot-efi)")
    return guest.get()


def make(t, g, name, *options, ramdisk=True):
    path = t.path(name)
    process.vmimg_ok("boot-disk", "--aki", g.kernel, "--ami", g.root, *(["--ari", g.ramdisk] if ramdisk else []),
                     *options, path)
    return path


def test_single_direct(t):
    """The triple itself, as a hypervisor starts it: what the disks are compared with."""
    g = get()
    root = f"UUID={guest.UUID}"
    result = guest.boot(t.tmp, g.root, direct=(g.kernel, g.ramdisk, f"root={root} console=ttyS0"))
    guest.check_boot(result, root)


def test_formats(t):
    g = get()
    firmwares = {"raw": "bios", "qcow2": "efi", "vmdk": "bios", "vhd": "efi", "vhdx": "bios", "vdi": "efi"}
    for fmt in harness.part(process.formats(writable=True)):
        if fmt not in firmwares:
            continue
        with t.sub(f"{fmt} under {firmwares[fmt]}"):
            disk = make(t, g, f"disk.{fmt}", "-O", fmt)
            result = guest.boot(t.tmp, disk, fmt, firmwares[fmt])
            guest.check_boot(result, f"UUID={guest.UUID}", firmwares[fmt])
            os.unlink(disk)


def test_single_raw_efi(t):
    g = get()
    guest.check_boot(guest.boot(t.tmp, make(t, g, "disk.raw"), "raw", "efi"), f"UUID={guest.UUID}", "efi")


def test_single_mbr(t):
    g = get()
    disk = make(t, g, "disk.qcow2", "--mbr", "-c")
    guest.check_boot(guest.boot(t.tmp, disk, "qcow2"), f"UUID={guest.UUID}")


def test_single_without_ramdisk(t):
    """The kernel finds the partition by its identity, on a controller whose driver is built in."""
    g = get()
    disk = make(t, g, "disk.qcow2", ramdisk=False)
    raw = t.path("disk.raw")
    process.vmimg_ok("convert", disk, raw)
    listing = process.run("sfdisk", "--json", raw).json()["partitiontable"]["partitions"]
    uuid = next(p["uuid"] for p in listing if p["node"].endswith("1") and p["type"].startswith("4F68BCE3")).lower()
    guest.check_boot(guest.boot(t.tmp, disk, "qcow2", "efi", drive="nvme"), f"PARTUUID={uuid}", "efi")


def test_single_split(t):
    """A disk taken apart and put together again: the same three files, and it starts."""
    g = get()
    disk = make(t, g, "disk.vmdk")
    parts = {name: t.path(name) for name in ("aki", "ari", "ami")}
    process.vmimg_ok("split", disk, *(word for name, path in parts.items() for word in (f"--{name}", path)))
    for name, original in (("aki", g.kernel), ("ari", g.ramdisk), ("ami", g.root)):
        equal(disks.sha256(parts[name]), disks.sha256(original), name)
    again = t.path("again.qcow2")
    process.vmimg_ok("boot-disk", *(word for name, path in parts.items() for word in (f"--{name}", path)), again)
    guest.check_boot(guest.boot(t.tmp, again, "qcow2"), f"UUID={guest.UUID}")


def test_single_wrong_format(t):
    """What proves the others: the same disk taken for something else does not start."""
    g = get()
    result = guest.boot(t.tmp, make(t, g, "disk.qcow2"), "raw")
    check(guest.MARKER not in result.out.decode(errors="replace"), "it started all the same")


def test_single_same_bytes(t):
    """Made twice, at different times and with one thread and several: the same bytes."""
    g = get()
    one = make(t, g, "one.raw", "-m", "1")
    process.run("sleep", "2.1")  # the times in a FAT file system count in twos
    two = make(t, g, "two.raw", "-m", "2")
    equal(disks.sha256(two), disks.sha256(one))


if __name__ == "__main__":
    harness.main()
