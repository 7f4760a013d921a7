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
            told = blkid(path)
            found = inspect(path)["filesystem"]
            equal((found["type"], found.get("uuid"), found.get("label"), told["TYPE"]),
                  (kind, told.get("UUID"), told.get("LABEL"), kind))


UUID = bytes(range(0x10, 0x20))
SWAP = {4086: b"S2SUSPEND", 1028: struct.pack("<I", 100), 1036: UUID, 1052: b"asleep"}
RAID_0_90 = {  # of a disk of 64 MiB; what makes the identity lies in words 5 and 13 to 15
    (64 << 20) - 65536: struct.pack("<13I", 0xa92b4efc, 0, 90, 0, 0, 0x10111213, 0, 1, 0, 0, 0, 0, 0),
    (64 << 20) - 65536 + 52: struct.pack("<3I", 0x14151617, 0x18191a1b, 0x1c1d1e1f),
    1024 + 56: b"\x53\xef",  # and what looks like a part of ext, which must not be believed
    1024 + 4: struct.pack("<I", 65536),
}
MARKS = {  # type: what lies where; whether blkid asks for no more than that
    "romfs": ({0: b"-rom1fs-\0\0\1\0", 16: b"read only"}, True),
    "reiserfs": ({65536: struct.pack("<3I", 16384, 8000, 8000), 65580: struct.pack("<H", 4096), 65588: b"ReIsEr2Fs",
                  65620: UUID, 65636: b"killer"}, False),
    "reiser4": ({65536: b"ReIsEr4", 65556: UUID, 65572: b"four"}, True),
    "ocfs2": ({2048: b"OCFSV2", 2048 + 0x110: b"cluster", 2048 + 0x150: UUID}, True),
    "swsuspend": (SWAP, True),
    "linux_raid_member": (RAID_0_90, True),
    "jfs": ({32768: b"JFS1" + struct.pack("<IQIHH", 1, 1000, 4096, 12, 3), 32904: UUID, 32920: b"journal"}, False),
    "nilfs2": ({1024: struct.pack("<IHH", 2, 0, 0x3434), 1176: UUID, 1192: b"log"}, False),
    "befs": ({512: b"haiku", 544: b"1SFB"}, False),
    "f2fs": ({1024: struct.pack("<I", 0xf2f52010), 1132: UUID, 1148: "flash \u00e9".encode("utf-16-le")}, False),
    "hfs": ({1024: b"BD", 1024 + 18: struct.pack(">HI", 1000, 512), 1024 + 36: b"\4Mac "}, False),
    "BitLocker": ({0: b"\xeb\x58\x90MSWIN4.1", 424: bytes.fromhex("3bd66749292ed84a8399f6a339e3d001")}, False),
}
LABELS = {"romfs": "read only", "reiserfs": "killer", "reiser4": "four", "ocfs2": "cluster", "swsuspend": "asleep",
          "jfs": "journal", "nilfs2": "log", "befs": "haiku", "f2fs": "flash \u00e9", "hfs": "Mac"}


def blkid(path):
    return dict(line.split("=", 1) for line in text_of("blkid", "-p", "-o", "export", path).splitlines() if "=" in line)


def test_marks(t):
    """File systems that are named and not read: a stray look into them would find the wrong thing unused."""
    need("blkid")
    for kind, (pieces, for_blkid) in MARKS.items():
        with t.sub(kind):
            path = blank(t.path("disk"), 64 << 20)
            with open(path, "r+b") as file:
                for at, piece in pieces.items():
                    file.seek(at)
                    file.write(piece)
            found = inspect(path)["filesystem"]
            identity = "10111213-1415-1617-1819-1a1b1c1d1e1f"
            has_identity = kind == "linux_raid_member" or UUID in pieces.values()
            equal((found["type"], found.get("label"), found.get("uuid")),
                  (kind, LABELS.get(kind), identity if has_identity else None))
            equal(found["readable"], False)
            if for_blkid:
                told = blkid(path)
                label = told.get("LABEL")
                equal((told["TYPE"], label and label.replace("\\ ", " "), told.get("UUID")),
                      (kind, found.get("label"), found.get("uuid")), "as blkid")
    with t.sub("cramfs"):
        need("mkfs.cramfs")
        common.put(t.tmp, "cramfs-tree/x", "x")
        common.tool("mkfs.cramfs", "-n", "pressed", t.path("cramfs-tree"), t.path("cramfs"))
        found = inspect(t.path("cramfs"))["filesystem"]
        equal((found["type"], found["label"]), ("cramfs", blkid(t.path("cramfs"))["LABEL"]))


def test_unlocker_of_bitlocker(t):
    """The FAT before an encrypted volume on a removable drive is not compacted: its free space is not free."""
    path = blank(t.path("disk.raw"), 64 << 20)
    common.tool("mkfs.fat", "-F", "32", "-n", "UNLOCK", path)
    with open(path, "r+b") as file:
        file.seek(424)
        file.write(MARKS["BitLocker"][0][424])
        file.seek(32 << 20)
        file.write(b"encrypted" * 100000)
    vmimg_ok("convert", "-O", "qcow2", path, t.path("disk.qcow2"))
    before = process.guest_sha256(path)
    equal(inspect(path)["filesystem"]["variant"], "To Go")
    vmimg_ok("compact", t.path("disk.qcow2"))
    equal(process.guest_sha256(t.path("disk.qcow2")), before, "content")


def test_labels_of_fat(t):
    """The root folder's entry is the label, and what the boot sector says is not: as Linux and Windows have it."""
    need("blkid")

    def root_entry(path, entry):
        with open(path, "r+b") as file:
            data = file.read()
            file.seek(data.index(b"STALE      \x08"))
            file.write(entry)
    cases = {"kept": (None, "STALE"), "deleted": (b"\xe5", None), "another": (b"FRESH", "FRESH"),
             "begins with what marks a deleted one": (b"\x05BC  ", "\u03c3BC"), "that is one": (b"NO NAME", "NO NAME")}
    for name, (entry, want) in cases.items():
        with t.sub(name):
            path = blank(t.path("disk"), 4 << 20)
            common.tool("mkfs.fat", "-n", "STALE", path)
            if entry:
                root_entry(path, entry)
            equal(inspect(path)["filesystem"].get("label"), want)
            equal("LABEL" in blkid(path), want is not None, "as blkid")


def test_volume_without_times(t):
    """An ISO whose times are all zero has no identity, rather than one that many have."""
    need("blkid")
    path = t.path("disk.iso")
    common.put(t.tmp, "iso-tree/x", "x")
    vmimg_ok("iso", "create", "-o", path, t.path("iso-tree"))
    with open(path, "r+b") as file:
        file.seek(16 * 2048 + 813)
        file.write((b"0" * 16 + b"\0") * 2)
    equal((inspect(path)["filesystem"].get("uuid"), blkid(path).get("UUID")), (None, None))


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
