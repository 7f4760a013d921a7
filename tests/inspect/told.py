# SPDX-License-Identifier: Apache-2.0
"""What inspect tells of tables, sizes, members of larger things and loaders, held against whoever else can tell."""

import os
import re
import struct
import subprocess
import sys
import zlib

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
import common
from lib import env, harness, process
from lib.harness import check, equal, need
from lib.process import vmimg_ok


def inspect(path, *options):
    return vmimg_ok("inspect", "--json", *options, path).json()


def blank(path, size):
    if os.path.exists(path):
        os.unlink(path)
    with open(path, "wb") as file:
        file.truncate(size)
    return path


def text_of(*command, **how):
    return common.tool(*command, **how).stdout.decode(errors="replace")


def places(report):
    return sorted((p["index"], p["start"], p["length"]) for p in report["partitions"])


# ---- partition tables ------------------------------------------------------------------------


FDISK = {  # what is typed at fdisk
    "gpt": "g\nn\n1\n\n+10M\nn\n2\n\n\nw\n",
    "mbr": "o\nn\np\n1\n\n+10M\nn\ne\n2\n\n\nn\n\n+5M\nn\n\n+5M\nw\n",
}


def fdisk_parts(path, sector):
    found = []
    for line in text_of("fdisk", "-b", str(sector), "-o", "Device,Start,Sectors", "-l", path).splitlines():
        match = re.fullmatch(re.escape(path) + r"(\d+) +(\d+) +(\d+)", line.strip())
        if match:
            index, start, count = map(int, match.groups())
            found.append((index, start * sector, count * sector))
    return found


def test_sectors(t):
    """A table of 4096-byte sectors in an image that does not say how long its sectors are."""
    for sector in (512, 4096):
        for scheme, typed in FDISK.items():
            with t.sub(f"{scheme}, sectors of {sector}"):
                path = blank(t.path("disk"), 64 << 20)
                common.tool("fdisk", "-b", str(sector), path, input=typed.encode())
                report = inspect(path)
                table = report["partition-table"]
                equal((table["scheme"], table["sector-size"], table["warnings"]), (scheme, sector, []))
                equal(places(report), fdisk_parts(path, sector))
    with t.sub("mbr, sectors of 4096, told by a file system"):
        path = blank(t.path("disk"), 64 << 20)
        common.tool("fdisk", "-b", "4096", path, input=b"o\nn\np\n1\n\n+20M\nw\n")
        common.tool("mkfs.fat", "-S", "4096", "-n", "LARGE", "--offset", str((1 << 20) // 4096), path, "20480")
        (part,) = inspect(path)["partitions"]
        equal((part["start"], part["filesystem"]["label"]), (1 << 20, "LARGE"))


def test_kinds_of_gpt(t):
    need("sgdisk")
    path = blank(t.path("disk"), 64 << 20)
    common.tool("sgdisk", "-n", "1:2048:8191", "-n", "2:8192:20479", "-c", "2:name é", "-A", "2:set:2", path)
    with t.sub("protective"):
        report = inspect(path)
        table = report["partition-table"]
        equal((table["protective-mbr"], table["hybrid-mbr"], table["warnings"]), (True, False, []))
        equal((report["partitions"][1]["name"], report["partitions"][1]["attributes"]), ("name é", 4))
        told = text_of("sgdisk", "-i", "2", path)
        for key, wanted in (("guid", "Partition unique GUID"), ("type", "Partition GUID code")):
            check(f"{wanted}: {report['partitions'][1][key].upper()}" in told, told)
        check(f"Disk identifier (GUID): {table['guid'].upper()}" in text_of("sgdisk", "-p", path), table)
    for name, at in (("header", -512), ("sum", -512 + 16), ("entries", -33 * 512)):
        with t.sub(f"the second copy's {name} damaged"):
            damaged = t.path("damaged")
            with open(path, "rb") as file:
                data = bytearray(file.read())
            data[at] ^= 0xff
            common.put(t.tmp, "damaged", bytes(data))
            other = inspect(damaged)
            equal(other["partitions"], report["partitions"])
            check(other["partition-table"]["warnings"], "no word of it")
            check("corrupt GPT" in (said := text_of("sgdisk", "-v", damaged)) or "backup" in said, said)
    with t.sub("hybrid"):
        common.tool("sgdisk", "-h", "1:2", path)
        table = inspect(path)["partition-table"]
        equal((table["scheme"], table["protective-mbr"], table["hybrid-mbr"]), ("gpt", False, True))


def test_apple(t):
    need("parted")
    path = blank(t.path("disk"), 64 << 20)
    common.tool("parted", "-s", path, "mklabel", "mac", "mkpart", "primary", "hfs", "1MiB", "20MiB",
                "mkpart", "primary", "ext2", "20MiB", "40MiB")
    lines = text_of("parted", "-s", "-m", path, "unit", "B", "print").splitlines()[2:]
    want = [(int(i), int(start[:-1]), int(size[:-1])) for i, start, _, size, *_ in (x.split(":") for x in lines)]
    report = inspect(path)
    equal(report["partition-table"]["scheme"], "apm")
    equal([p for p in places(report) if p[0] in {w[0] for w in want}], want)
    equal([p["type"] for p in report["partitions"]][:3], ["Apple_partition_map", "Apple_HFS", "Apple_UNIX_SVR2"])


# ---- sizes -----------------------------------------------------------------------------------


def number(pattern, text):
    match = re.search(pattern, text, re.M)
    check(match, f"{pattern} in {text}")
    return int(match[1])


def ext_space(path):
    told = text_of("dumpe2fs", "-h", path)
    block = number(r"^Block size: +(\d+)", told)
    count, free = number(r"^Block count: +(\d+)", told), number(r"^Free blocks: +(\d+)", told)
    return count * block, (count - free) * block


def xfs_space(path):
    told = text_of("xfs_db", "-r", "-c", "sb 0", "-c", "print", path)
    block, count, free = (number(rf"^{name} = (\d+)", told) for name in ("blocksize", "dblocks", "fdblocks"))
    return count * block, (count - free) * block


def btrfs_space(path):
    told = text_of("btrfs", "inspect-internal", "dump-super", path)
    return number(r"^total_bytes\s+(\d+)", told), number(r"^bytes_used\s+(\d+)", told)


def udf_space(path):
    told = text_of("udfinfo", path)
    block = number(r"^blocksize=(\d+)", told)
    return number(r"blocks=(\d+), type=PSPACE", told) * block, number(r"^usedblocks=(\d+)", told) * block


def ntfs_space(path):
    told = text_of("ntfsinfo", "-m", path)
    cluster = number(r"Cluster Size: (\d+)", told)
    count, free = number(r"Volume Size in Clusters: (\d+)", told), number(r"Free Clusters: (\d+)", told)
    return count * cluster, (count - free) * cluster


def fat_space(path):
    told = text_of("fsck.fat", "-n", "-v", path)
    cluster = number(r"(\d+) bytes per cluster", told)
    used = number(r"(\d+)/\d+ clusters", told)
    return None, used * cluster


SPACE = {
    "ext2": (["mke2fs", "-q", "-F", "-t", "ext2", "-b", "1024"], ext_space),
    "ext4": (["mke2fs", "-q", "-F", "-t", "ext4", "-O", "64bit", "-b", "4096"], ext_space),
    "xfs": (["mkfs.xfs", "-q"], xfs_space),
    "xfs of 4096-byte sectors": (["mkfs.xfs", "-q", "-s", "size=4096"], xfs_space),
    "btrfs": (["mkfs.btrfs", "-q"], btrfs_space),
    "FAT16": (["mkfs.fat", "-F", "16", "-s", "16"], fat_space),
    "FAT32": (["mkfs.fat", "-F", "32"], fat_space),
    "FAT of 4096-byte sectors": (["mkfs.fat", "-S", "4096"], fat_space),
    "NTFS": (["mkntfs", "-q", "-F", "-f"], ntfs_space),
    "NTFS of 4096-byte sectors": (["mkntfs", "-q", "-F", "-f", "-s", "4096"], ntfs_space),
    "UDF": (["mkudffs"], udf_space),
    "UDF of 4096-byte sectors": (["mkudffs", "-b", "4096"], udf_space),
}


def test_space(t):
    for name, (command, told) in SPACE.items():
        with t.sub(name):
            path = blank(t.path("disk"), 320 << 20)
            common.tool(*command, path)
            found = inspect(path)["filesystem"]
            size, used = told(path)
            block = found["block-size"]  # what is left of the last block counts for some
            equal(found["used"] // block, used // block, "blocks used")
            if size:
                equal(found["size"] // block, size // block, "blocks")


# ---- members of larger things ----------------------------------------------------------------


def test_members(t):
    """Held against blkid, which wants of ZFS four uberblocks and a list of properties."""
    def squashfs(path):
        os.unlink(path)
        common.put(t.tmp, "tree/x", "x")
        common.tool("mksquashfs", t.path("tree"), path, "-quiet")

    def zfs(path):
        with open(path, "r+b") as file:
            for at in range(4):
                file.seek((128 + at) << 10)
                file.write(struct.pack("<QQQQ", 0x00bab10c, 5000, 7 + at, 1))
    makers = {
        "squashfs": squashfs,
        "zfs_member": zfs,
        "bcache": lambda path: common.tool("make-bcache", "-B", path),
        "swap": lambda path: common.tool("mkswap", "-p", "65536", "-L", "pages", path),
        "crypto_LUKS": lambda path: common.tool(
            "cryptsetup", "luksFormat", "--batch-mode", "--type", "luks1", "--pbkdf-force-iterations", "1000", path,
            input=b"secret"),
    }
    need("blkid")
    for kind, make in makers.items():
        with t.sub(kind):
            path = blank(t.path("disk"), 64 << 20)
            make(path)
            told = dict(line.split("=", 1) for line in text_of("blkid", "-p", "-o", "export", path).splitlines()
                        if "=" in line)
            found = inspect(path)["filesystem"]
            equal((found["type"], found.get("uuid"), found.get("label"), told["TYPE"]),
                  (kind, told.get("UUID"), told.get("LABEL"), kind))


# ---- what starts -----------------------------------------------------------------------------


def test_boot_code(t):
    codes = {
        "GRUB": "/usr/lib/grub/i386-pc/boot.img",
        "SYSLINUX": "/usr/lib/syslinux/mbr/mbr.bin",
        "SYSLINUX, of a GPT": "/usr/lib/syslinux/mbr/gptmbr.bin",
        "isohybrid (isolinux)": "/usr/lib/ISOLINUX/isohdpfx.bin",
    }
    for name, file in codes.items():
        with t.sub(name):
            if not os.path.exists(file):
                harness.skip(f"no {file} here")
            path = blank(t.path("disk"), 16 << 20)
            common.sfdisk(path, "label: dos\n2048,,83,*\n")
            with open(file, "rb") as source, open(path, "r+b") as disk:
                disk.write(source.read()[:440])
            boot = inspect(path)["boot"]
            equal((boot["methods"], boot["bios"]["boot-code"], boot["bios"]["active-partition"]),
                  (["bios"], True, True))
            check(name.split(",")[0] in boot["bios"].get("loader", ""), boot)
    with t.sub("BIOS boot partition"):
        path = blank(t.path("disk"), 16 << 20)
        common.sfdisk(path, "label: gpt\n2048,2048,21686148-6449-6E6F-744E-656564454649\n,,L\n")
        equal(inspect(path)["boot"]["bios"]["bios-boot-partition"], True)


STUB = "/usr/lib/systemd/boot/efi/linuxx64.efi.stub"


def test_loaders(t):
    need("objcopy")
    if not os.path.exists(STUB):
        harness.skip(f"no {STUB} here")
    tree = t.path("tree")
    for name in ("kernel", "initrd", "cmdline"):
        common.put(t.tmp, name, name)
    os.makedirs(f"{tree}/EFI/Linux")
    common.tool("objcopy", *[word for i, name in enumerate(("cmdline", "linux", "initrd")) for word in (
        "--add-section", f".{name}={t.path('kernel' if name == 'linux' else name)}",
        "--change-section-vma", f".{name}={0x100000 * (i + 1):#x}")], STUB, f"{tree}/EFI/Linux/unified.efi")
    common.put(tree, "EFI/BOOT/BOOTX64.EFI", b"MZ")
    common.put(tree, "EFI/debian/grubx64.efi", b"MZ")
    common.put(tree, "loader/entries/test.conf", "title x\nlinux /vmlinuz-1\ninitrd /initrd.img-1\n")
    common.put(tree, "vmlinuz-1", "kernel")
    common.put(tree, "initrd.img-1", "ramdisk")
    esp = common.mkfat(t.path("esp"), tree, 40 << 20)
    disk = blank(t.path("disk"), 64 << 20)
    common.sfdisk(disk, "label: gpt\nstart=2048,size=81920,type=U\n")
    common.place(disk, 1 << 20, esp)
    boot = inspect(disk)["boot"]
    equal(boot["methods"], ["uefi", "kernel"])
    equal({x["path"]: (x.get("uki", False), x.get("default", False)) for x in boot["efi-loaders"]}, {
        "/EFI/Linux/unified.efi": (True, False), "/EFI/BOOT/BOOTX64.EFI": (False, True),
        "/EFI/debian/grubx64.efi": (False, False)})
    for what, want in (("kernels", "/vmlinuz-1"), ("initrds", "/initrd.img-1"), ("entries", "/loader/entries/test.conf")):
        equal([x["path"] for x in boot[what]], [want], what)
    told = text_of("grub-fstest", disk, "ls", "(loop0,gpt1)/EFI/")
    equal(sorted(told.lower().split()), ["boot/", "debian/", "linux/"], "by GRUB")


def test_every_format(t):
    """What is said of a disk does not depend on what it is stored in."""
    esp_tree = t.path("esp-tree")
    common.put(esp_tree, "EFI/BOOT/BOOTX64.EFI", b"MZ")
    esp = common.mkfat(t.path("esp"), esp_tree, 8 << 20)
    common.system_tree(t.path("tree"))
    root = common.mke2fs(t.path("root"), t.path("tree"), 20 << 20, "-t", "ext4", "-L", "rootfs")
    for sector in (512, 4096):
        disk = blank(t.path("disk.raw"), 40 << 20)
        common.tool("fdisk", "-b", str(sector), disk,
                    input=b"g\nn\n1\n\n+8M\nn\n2\n\n+20M\nt\n1\n1\nw\n")
        for part, content in zip(inspect(disk)["partitions"], (esp, root)):
            common.place(disk, part["start"], content)
        want = inspect(disk, "--deep")
        equal([p["filesystem"]["type"] for p in want["partitions"]], ["vfat", "ext4"])
        equal(len(want["operating-systems"]), 1)
        for fmt in process.formats(writable=True):
            with t.sub(f"{fmt}, sectors of {sector}"):
                image = t.path(f"image.{fmt}")
                vmimg_ok("convert", "--force", "-O", fmt, disk, image)
                found = inspect(image, "--deep")
                for key in ("filename", "format"):
                    found[key] = want[key]
                equal(found, want)


if __name__ == "__main__":
    harness.main()
