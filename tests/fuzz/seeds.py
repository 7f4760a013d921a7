# SPDX-License-Identifier: Apache-2.0
"""What each fuzz target starts from: images made by recipes, by vmimg and by other tools, kept without their zeroes."""

import bz2
import gzip
import os
import struct
import subprocess
import sys
import tarfile
import zlib

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "inspect"))
import exfat
import lvm
import windows
from lib import disks, env, process, variants, vhdx
from lib.hive import Hive
from lib.recipe import Recipe

VECTORS = os.path.join(env.SOURCE, "tests", "vectors")
BLOCK = 512
LARGEST = 1 << 40  # bytes of an image that a packed one can stand for
TEXTS = {
    "grub": "set default=0\nmenuentry 'Linux' --class x {\n  linux /vmlinuz-6.1.0 root=UUID=1 ro quiet\n"
            "  initrd /initrd.img-6.1.0\n}\n",
    "entry": "title T\nversion 6.1.0\nlinux /vmlinuz-6.1.0\ninitrd /initrd.img-6.1.0\noptions $kernelopts x=1\n",
    "syslinux": "DEFAULT a\nLABEL a\n KERNEL /vmlinuz-6.1.0\n APPEND initrd=/initrd.img-6.1.0 root=/dev/sda1\n",
    "os-release": 'ID=test\nPRETTY_NAME="Test OS 1.0 (\\"quoted\\")"\nVERSION_ID=\'1.0\'\n',
    "fstab": "# comment\nUUID=1234 / ext4 defaults 0 1\n/dev/sda2\t/boot vfat ro\n",
    "manifest": "SHA256(a.ovf)= " + "0" * 64 + "\nSHA1(b b.vmdk)=" + "a" * 40 + "\r\n",
    "options": "cluster_size=64k,,x,compat=v3,lazy_refcounts,size=1.5G",
    "modules": "kernel/drivers/block/virtio_blk.ko.xz: kernel/x.ko\nkernel/drivers/net/vmxnet3.ko:\n",
    "descriptor": '# Disk DescriptorFile\nversion=1\nencoding="windows-1252"\nCID=fffffffe\nparentCID=ffffffff\n'
                  'createType="twoGbMaxExtentSparse"\n\nRW 4194304 SPARSE "d-s001.vmdk"\nRW 63 FLAT "f.vmdk" 128\n'
                  'RDONLY 1 ZERO\n\nddb.adapterType = "ide"\nddb.geometry.heads = "16"\nchangeTrackPath="d-ctk.vmdk"\n',
}


def pack(path, out):
    """An image in the form of packed.h. What a run of sectors repeats is guest data, and left out."""
    parts, last = [], None
    with open(path, "rb") as file:
        size = file.seek(0, os.SEEK_END)
        for start, end in disks.data_ranges(file.fileno()):
            at = start - start % BLOCK
            while at < end:
                file.seek(at)
                block = file.read(BLOCK)
                if any(block) and block != last:
                    if parts and parts[-1][0] + len(parts[-1][1]) == at:
                        parts[-1][1].extend(block)
                    else:
                        parts.append((at, bytearray(block)))
                last, at = block, at + BLOCK
    with open(out, "wb") as file:
        file.write(b"VMIMGPK1" + struct.pack("<Q", size))
        for at, data in parts:
            file.write(struct.pack("<QI", at, len(data)) + data)


def unpack(path, out):
    """The image that a packed one stands for; what is not packed is copied."""
    with open(path, "rb") as file, open(out, "wb") as image:
        data = file.read()
        if data[:8] != b"VMIMGPK1":
            image.write(data)
            return
        size, at = min(struct.unpack_from("<Q", data, 8)[0], LARGEST), 16
        while at + 12 <= len(data):
            place, length = struct.unpack_from("<QI", data, at)
            part = data[at + 12:at + 12 + length]
            if place < size:
                image.seek(place)
                image.write(part[:size - place])
            at += 12 + length
        image.truncate(size)


def recipes(fmt, folder, prefix=""):
    """Assembles every recipe of a format: (name, path)."""
    for name in sorted(os.listdir(os.path.join(VECTORS, fmt))):
        if name.endswith(".vec") and name.startswith(prefix):
            place = os.path.join(folder, f"{fmt}-{name.removesuffix('.vec')}")
            os.mkdir(place)
            yield os.path.basename(place), Recipe(os.path.join(VECTORS, fmt, name)).assemble(place)


def written(fmt, folder):
    """A small disk in every way the format is written."""
    raw = os.path.join(folder, "disk.raw")
    if not os.path.exists(raw):
        disks.pattern(raw, (2 << 20) + 5 * BLOCK, seed=7, data=60000)
    for label, options in variants.WAYS.get(fmt, {}).items():
        path = os.path.join(folder, f"written-{label}")
        os.mkdir(path)
        if not process.vmimg("convert", "-O", fmt, *options, raw, f"{path}/disk.{fmt}").code:
            yield f"written-{label}", f"{path}/disk.{fmt}"


def logged(folder):
    """A VHDX with entries in its log, one of them torn; and one with a parent and blocks in part."""
    image = vhdx.Image(3 << 20)
    image.add(0, b"\x11" * 4096)
    at, sector = image.bat_sector(0)
    image.put_log(0, vhdx.log_entry(5, 0, [(at, sector), (image.end - 8192, 4096)], image.end, image.end))
    image.put_log(8192, vhdx.log_entry(6, 0, [(at, sector)], image.end, image.end))
    image.put_log(16384, vhdx.log_entry(7, 0, [(at, sector)], image.end, image.end)[:-4096] + bytes(4096))
    image.write(os.path.join(folder, "logged"))
    yield "logged", os.path.join(folder, "logged")
    child = vhdx.Image(3 << 20, pairs=[("parent_linkage", "{" + str(vhdx.LOG_ID) + "}"), ("relative_path", ".\\p.vhdx")])
    child.add(1, b"\x22" * 4096, vhdx.PARTIAL)
    child.add_bitmap(0, b"\x0f" * 4096)
    child.write(os.path.join(folder, "child"))
    yield "child", os.path.join(folder, "child")


def cpio(*names):
    out = b""
    for name in [*names, "TRAILER!!!"]:
        raw = name.encode() + b"\0"
        fields = (1, 0o100644, 0, 0, 1, 0, 0, 0, 0, 0, 0, len(raw), 0)
        out += b"070701" + b"".join(b"%08X" % field for field in fields) + raw
        out += bytes(-len(out) % 4)
    return out


def kernel():
    """What a bzImage begins with."""
    head = bytearray(4096)
    head[0:2], head[0x1fe:0x200], head[0x202:0x206] = b"MZ", b"\x55\xaa", b"HdrS"
    struct.pack_into("<H", head, 0x206, 0x20f)
    struct.pack_into("<H", head, 0x20e, 0x100)
    struct.pack_into("<II", head, 0x248, 0, 1024)
    head[0x1f1], head[0x300:0x306] = 1, b"6.1.0 "
    return bytes(head)


def tree(folder):
    """The files of a small system, for the file systems."""
    root = os.path.join(folder, "tree")
    files = {"boot/grub/grub.cfg": TEXTS["grub"], "loader/entries/a.conf": TEXTS["entry"], "etc/fstab": TEXTS["fstab"],
             "etc/os-release": TEXTS["os-release"], "etc/hostname": "guest\n", "a file with a long name.txt": "x" * 700,
             "usr/lib/modules/6.1.0/modules.dep": TEXTS["modules"], "boot/vmlinuz-6.1.0": kernel(),
             "boot/initrd.img-6.1.0": cpio("kernel/x86/microcode/GenuineIntel.bin") +
             gzip.compress(cpio("lib/modules/x/virtio_blk.ko"), mtime=0)}
    for name, content in files.items():
        path = os.path.join(root, name)
        os.makedirs(os.path.dirname(path), exist_ok=True)
        with open(path, "wb") as file:
            file.write(content if isinstance(content, bytes) else content.encode())
    return root


def tool(folder, name, *words, size=None):
    """(name, path) of what a tool makes of a file of size bytes ("@" in its words); nothing without the tool."""
    path = os.path.join(folder, name)
    program = env.find(words[0])
    if not program:
        return
    if size:
        with open(path, "wb") as file:
            file.truncate(size)
    if not process.run(program, *[path if word == "@" else word for word in words[1:]]).code and os.path.exists(path):
        yield name, path


def file_systems(folder):
    root = tree(folder)
    yield from tool(folder, "ext4", "mke2fs", "-q", "-F", "-t", "ext4", "-d", root, "@", size=1 << 20)
    yield from tool(folder, "ext2", "mke2fs", "-q", "-F", "-t", "ext2", "-b", "1024", "-d", root, "@", size=1 << 20)
    yield from tool(folder, "ext4-small", "mke2fs", "-q", "-F", "-t", "ext4", "-O", "^64bit,^extent,inline_data,meta_bg,^resize_inode",
                    "-I", "256", "-d", root, "@", size=2 << 20)
    yield from tool(folder, "iso", env.VMIMG, "iso", "create", "-o", "@", root)
    yield from tool(folder, "iso-plain", "xorriso", "-as", "mkisofs", "-quiet", "-J", "-R", "-o", "@", root)
    for bits, size in (12, 1), (16, 9), (32, 34):
        for name, path in tool(folder, f"fat{bits}", "mkfs.vfat", "-F", str(bits), "-s", "1", "@", size=size << 20):
            for entry in sorted(os.listdir(root)) if env.have("mcopy") else ():
                process.run("mcopy", "-s", "-i", path, f"{root}/{entry}", "::/", extra_env={"MTOOLS_SKIP_CHECK": "1"})
            yield name, path
    yield from tool(folder, "xfs", "mkfs.xfs", "-q", "-f", "-p", _prototype(folder, root), "@", size=300 << 20)
    yield from ntfs(folder, root)
    files = {"file": b"content" * 500, "folder": {"another": b"more"}}
    for chained in False, True:
        exfat.write(f"{folder}/exfat-{chained}", 256 << 10, files, chained=chained, cluster=512)
        yield f"exfat-{chained}", f"{folder}/exfat-{chained}"
    yield from tool(folder, "btrfs", "mkfs.btrfs", "-q", "--rootdir", root, "@", size=120 << 20)
    for version in "luks1", "luks2":
        for name, path in tool(folder, version, "cryptsetup", "-q", "luksFormat", "--type", version, "--pbkdf", "pbkdf2",
                               "--pbkdf-force-iterations", "1000", "@", __file__, size=20 << 20):
            os.truncate(path, 64 << 10)  # without the keys, which are random
            os.truncate(path, 20 << 20)
            yield name, path
    yield from tool(folder, "gpt", "sgdisk", "-o", "-n", "1:40:1400", "-c", "1:name", "@", size=1 << 20)
    yield from tables(folder)
    if os.path.exists(f"{folder}/ext4"):
        yield from volume_group(folder)


def ntfs(folder, root):
    for name, path in tool(folder, "ntfs", "mkntfs", "-q", "-F", "-f", "-c", "512", "@", size=2 << 20):
        copy = env.find("ntfscp")
        for source in ("etc/fstab", "boot/initrd.img-6.1.0", "usr/lib/modules/6.1.0/modules.dep"):
            if copy:
                process.run(copy, path, f"{root}/{source}", os.path.basename(source))
        yield name, path


def _prototype(folder, root):
    """mkfs.xfs takes a tree as a text; names with spaces are left out."""
    lines = ["/dev/null", "0 0", "d--755 0 0"]

    def emit(place):
        for name in sorted(os.listdir(place)):
            below = os.path.join(place, name)
            if os.path.isdir(below):
                lines.append(f"{name} d--755 0 0")
                emit(below)
                lines.append("$")
            elif " " not in name:
                lines.append(f"{name} ---644 0 0 {below}")
    emit(root)
    with open(os.path.join(folder, "prototype"), "w", encoding="utf-8") as file:
        file.write("\n".join([*lines, "$", ""]))
    return os.path.join(folder, "prototype")


def tables(folder):
    """An MBR with logical partitions, with a file system in one of them."""
    path = os.path.join(folder, "mbr")
    program = env.find("sfdisk")
    if not program:
        return
    with open(path, "wb") as file:
        file.truncate(4 << 20)
    subprocess.run([program, "-q", path], check=True, capture_output=True,
                   input=b"start=64,size=2048\nstart=2200,size=5000,type=5\nstart=2300,size=500\nstart=3000,size=500\n")
    if os.path.exists(f"{folder}/ext4"):
        with open(f"{folder}/ext4", "rb") as source, open(path, "r+b") as target:
            target.seek(64 * 512)
            target.write(source.read())
    yield "mbr", path


def bundles(folder):
    """Archives of every kind; what a manifest names lies beside it, and is not looked for."""
    raw = disks.pattern(os.path.join(folder, "raw"), 256 << 10, seed=3, data=64 << 10)
    yield from tool(folder, "ova", env.VMIMG, "pack", "-O", "ova", "-o", "@", raw)
    if os.path.exists(f"{folder}/ova"):
        with tarfile.open(f"{folder}/ova") as tar:
            name = next(n for n in tar.getnames() if n.endswith(".ovf"))
            text = tar.extractfile(name).read()
        for label, data in ("ovf", text), ("ovf-gz", zlib.compress(text, wbits=31)):
            with open(os.path.join(folder, label), "wb") as file:
                file.write(data)
            yield label, os.path.join(folder, label)
    for label, words in ("gnu", ["--format=gnu", "-S"]), ("pax", ["--format=pax", "-S"]), ("old", ["--format=v7"]):
        yield from tool(folder, f"tar-{label}", "tar", "-c", *words, "-f", "@", "-C", folder, "raw")
    parts = {"kernel": kernel(), "ramdisk": cpio("init"), "ramdisk-gz": gzip.compress(cpio("usr/lib/modules/6.1.0/x"), mtime=0),
             "ramdisk-bz": cpio("a") + bytes(300) + bz2.compress(cpio("init")), "ec2": EC2.encode()}
    for label, data in parts.items():
        with open(os.path.join(folder, label), "wb") as file:
            file.write(data)
        yield label, os.path.join(folder, label)


EC2 = ("<?xml version='1.0'?><manifest><version>2007-10-10</version><bundler><name>test</name><version>1</version><release>1"
       "</release></bundler><machine_configuration><architecture>x86_64</architecture><kernel_id>aki-1</kernel_id>"
       "</machine_configuration><image><name>i</name><user>1</user><type>machine</type><digest algorithm='SHA1'>" + "0" * 40 +
       "</digest><size>1024</size><bundled_size>512</bundled_size><user_encrypted_key algorithm='AES-128-CBC'>" + "0" * 512 +
       "</user_encrypted_key><user_encrypted_iv>" + "0" * 512 + "</user_encrypted_iv><parts count='1'><part index='0'><filename>"
       "i.part.0</filename><digest algorithm='SHA1'>" + "0" * 40 + "</digest></part></parts></image><signature>00</signature>"
       "</manifest>")


def texts(folder):
    for name, text in TEXTS.items():
        with open(os.path.join(folder, name), "w", encoding="utf-8") as file:
            file.write(text)
        yield name, os.path.join(folder, name)


def hives(folder):
    """The two that are asked, with lists of each kind."""
    for label, how in (("lf", {}), ("lh", {"lists": "lh", "wide": True}), ("ri", {"lists": "ri"})):
        for name, tree in ("software", windows.SOFTWARE), ("system", windows.SYSTEM):
            path = os.path.join(folder, f"{name}-{label}")
            with open(path, "wb") as file:
                file.write(Hive(tree, **how).bytes())
            yield f"{name}-{label}", path


def volume_group(folder):
    """A logical volume in two stretches of a physical one."""
    path = os.path.join(folder, "lvm")
    text = lvm.group("vg", (4,), [lvm.volume("root", [lvm.segment(1, 0, 1, [("pv0", 2)]), lvm.segment(2, 1, 1, [("pv0", 0)])])])
    with open(path, "wb") as file:
        file.write(lvm.label(0, lvm.START + 4 * lvm.EXTENT, text))
        file.truncate(lvm.START + 4 * lvm.EXTENT)
        file.seek(lvm.START + 2 * lvm.EXTENT)
        with open(f"{folder}/ext4", "rb") as content:
            file.write(content.read(lvm.EXTENT))
    yield "lvm", path


def formats():
    """Formats that have recipes and are in this build."""
    known = process.formats()
    return [fmt for fmt in sorted(os.listdir(VECTORS)) if fmt in known and os.path.isdir(os.path.join(VECTORS, fmt))]


def targets():
    return [*formats(), "probe", "inspect", "hive", "bundle", "repair", "texts"]


def of(target, folder):
    """(name, path) of everything a target starts from, made in folder."""
    if target in formats():
        yield from recipes(target, folder)
        yield from written(target, folder)
        if target == "vhdx":
            yield from logged(folder)
    elif target == "probe":
        yield from recipes("probe", folder)
        for fmt in formats():
            yield from recipes(fmt, folder, "good")
    elif target == "repair":
        for fmt in formats():
            yield from recipes(fmt, folder, "damaged")
            yield from recipes(fmt, folder, "good")
    else:
        yield from {"inspect": file_systems, "hive": hives, "bundle": bundles, "texts": texts}[target](folder)
