# SPDX-License-Identifier: Apache-2.0
"""
info --json as the gate of a service that takes uploads: "safe", and why not. At least as strict as
OpenStack's format inspector, and where that sees nothing (a VHD footer after a qcow2, a fixed VHD, a
GPT that two readers see differently) stricter.
"""

import hashlib
import struct
import zlib

from lib import disks, harness, process, qemu
from lib.harness import check, equal
from lib.process import vmimg, vmimg_ok

MIB = 1 << 20


def verdict(path, *options, code=0):
    """(safe, set of codes), after the promises that hold for each."""
    result = vmimg("info", "--json", *options, path)
    equal(result.code, code, f"exit code ({result})")
    report = result.json()
    reasons = report["unsafe-reasons"]
    equal(report["safe"], not reasons, "safe follows from the reasons")
    check(all(reason["text"] for reason in reasons), f"a reason without words: {reasons}")
    if code:
        process.check_one_line(result)
        equal(report["safe"], False, "what cannot be opened")
    return report["safe"], {reason["code"] for reason in reasons}


def unsafe(path, reason, *options, code=0):
    safe, codes = verdict(path, *options, code=code)
    check(not safe and reason in codes, f"want {reason}, got {codes}")


def poke(path, at, data):
    with open(path, "r+b") as file:
        file.seek(at, 2 if at < 0 else 0)
        file.write(data)
    return path


def fixed_footer(size):
    """A fixed VHD's footer over size bytes."""
    footer = bytearray(struct.pack(">8sIIQI4sI4sQQIII", b"conectix", 2, 0x10000, 2**64 - 1, 0, b"win ", 0x60001,
                                   b"Wi2k", size, size, 0x00300410, 2, 0) + b"\x01" * 16 + bytes(428))
    footer[64:68] = struct.pack(">I", ~sum(footer) & 0xffffffff)
    return bytes(footer)


def test_plain_images(t):
    """What every writer makes without being asked for more is safe."""
    raw = disks.pattern(t.path("disk.raw"), 4 * MIB, seed=30)
    for fmt, options in (("raw", []), ("qcow2", []), ("qcow2", ["-c"]), ("vmdk", []), ("vdi", []), ("vhdx", []),
                         ("vhd", []), ("vhd", ["-o", "subformat=fixed"]), ("vmdk", ["-o", "subformat=streamOptimized"])):
        if fmt not in process.formats(writable=True):
            continue
        with t.sub(f"{fmt} {' '.join(options)}"), t.folder() as folder:
            vmimg_ok("convert", "-O", fmt, *options, raw, f"{folder}/image")
            equal(verdict(f"{folder}/image"), (True, set()))
            check("strangers" not in vmimg_ok("info", f"{folder}/image").text, "a line about nothing")


def test_references(t):
    harness.need("qemu-img")
    qemu.create(t.path("base.qcow2"), "qcow2", MIB)
    qemu.img("create", "-q", "-f", "qcow2", "-b", "base.qcow2", "-F", "qcow2", t.path("over.qcow2"))
    qemu.create(t.path("data.qcow2"), "qcow2", MIB, data_file=t.path("data.raw"))
    for name in "over", "data":
        with t.sub(name):
            unsafe(t.path(f"{name}.qcow2"), "reference")
            check("Not safe to take from strangers: " in vmimg_ok("info", t.path(f"{name}.qcow2")).text, "human report")
    with t.sub("a data file without a name"):
        qemu.create(t.path("nameless.qcow2"), "qcow2", MIB)
        poke(t.path("nameless.qcow2"), 79, b"\x04")
        safe, _ = verdict(t.path("nameless.qcow2"), code=vmimg("info", t.path("nameless.qcow2")).code)
        check(not safe, "the data is said to be elsewhere")
    for fmt in "vhd", "vdi", "vhdx":
        if fmt in process.formats(writable=True):
            with t.sub(f"{fmt} with a parent"):
                vmimg_ok("create", "-f", fmt, t.path(f"parent.{fmt}"), "4M")
                vmimg_ok("create", "-f", fmt, "-b", f"parent.{fmt}", "-F", fmt, t.path(f"child.{fmt}"))
                unsafe(t.path(f"child.{fmt}"), "reference")
    with t.sub("chain"):
        report = vmimg_ok("info", "--json", "--chain", t.path("over.qcow2")).json()
        equal([layer["safe"] for layer in report], [False, True], "layers")


def test_vmdk_variants(t):
    harness.need("qemu-img")
    for variant in "monolithicFlat", "twoGbMaxExtentSparse", "twoGbMaxExtentFlat":
        with t.sub(variant):
            qemu.create(t.path(f"{variant}.vmdk"), "vmdk", 4 * MIB, subformat=variant)
            unsafe(t.path(f"{variant}.vmdk"), "variant")
            unsafe(t.path(f"{variant}.vmdk"), "reference")
    with t.sub("monolithicSparse that names another file"):
        image = qemu.create(t.path("sparse.vmdk"), "vmdk", 4 * MIB)
        with open(image, "rb") as file:
            head = file.read(64 << 10)
        at = head.index(b"monolithicSparse")
        poke(image, at, b"monolithicFlat\"\n")
        result = vmimg("info", "--json", image)
        equal(result.json()["safe"], False, "safe")


def test_state(t):
    harness.need("qemu-img")
    for name, bit in (("dirty", 1), ("corrupt", 2)):
        with t.sub(name):
            qemu.create(t.path(f"{name}.qcow2"), "qcow2", MIB)
            unsafe(poke(t.path(f"{name}.qcow2"), 79, bytes([bit])), name)
    with t.sub("unknown feature"):
        qemu.create(t.path("future.qcow2"), "qcow2", MIB)
        unsafe(poke(t.path("future.qcow2"), 79, b"\x20"), "unsupported", code=4)
    with t.sub("encrypted"):
        qemu.create(t.path("aes.qcow2"), "qcow2", MIB)
        unsafe(poke(t.path("aes.qcow2"), 35, b"\x01"), "encrypted")
    with t.sub("a table past the end of the file, in what info reads"):
        qemu.create(t.path("l1.qcow2"), "qcow2", MIB)
        unsafe(poke(t.path("l1.qcow2"), 24, b"\xff" * 8), "malformed", code=4)


def test_two_formats(t):
    harness.need("qemu-img")
    image = qemu.create(t.path("tail.qcow2"), "qcow2", 4 * MIB)
    with open(image, "ab") as file:
        file.write(fixed_footer(4 * MIB))
    with t.sub("a qcow2 with a VHD footer"):
        unsafe(image, "refused", code=5)
    with t.sub("the same with -f"):
        unsafe(image, "polyglot", "-f", "qcow2")
    with t.sub("a fixed VHD is none but that"):
        with open(t.path("fixed"), "wb") as file:
            file.write(bytes(4 * MIB) + fixed_footer(4 * MIB))
        equal(verdict(t.path("fixed")), (True, set()))
        equal(vmimg_ok("info", "--json", t.path("fixed")).json()["format"], "vhd")
        unsafe(t.path("fixed"), "format", "-f", "raw")
    with t.sub("a qcow2 as raw"):
        qemu.create(t.path("plain.qcow2"), "qcow2", MIB)
        unsafe(t.path("plain.qcow2"), "format", "-f", "raw")
    with t.sub("gzip"):
        with open(t.path("disk.gz"), "wb") as file:
            file.write(zlib.compress(bytes(MIB), wbits=31))
        unsafe(t.path("disk.gz"), "format", code=4)


def test_every_two_formats(t):
    """Whatever else a raw reader would find at its place in an image makes it one of two things."""
    second = {"iso": [(0x8000, b"\x01CD001\x01"), (0x8800, b"\xffCD001\x01")], "vhd footer": [(None, fixed_footer(4 * MIB))],
              "gpt": [(510, b"\x55\xaa"), (446, mbr(GUARD)[446:462]), (512, gpt(8192)[0])]}
    for fmt in ("qcow2", "vmdk", "vdi", "vhdx", "vhd"):
        for name, pokes in second.items():
            if fmt not in process.formats(writable=True) or (fmt == "vhd" and name == "vhd footer"):
                continue
            with t.sub(f"{fmt} and {name}"), t.folder() as folder:
                vmimg_ok("create", "-q", "-f", fmt, f"{folder}/image", "4M")
                for at, data in pokes:
                    with open(f"{folder}/image", "r+b") as file:
                        file.seek(0 if at is None else at, 2 if at is None else 0)
                        file.write(data)
                result = vmimg("info", "--json", f"{folder}/image")
                check(result.code in (0, 4, 5), str(result))
                equal(result.json()["safe"], False, "safe")


def test_foreign_formats(t):
    """What QEMU would detect, and is not read here; OpenStack's inspector bans QED and knows LUKS 1 alone."""
    starts = {"qed": b"QED\0", "parallels": b"WithoutFreeSpace", "parallels 2": b"WithouFreSpacExt",
              "bochs": b"Bochs Virtual HD Image\0", "luks2": b"LUKS\xba\xbe\0\2"}
    for name, start in starts.items():
        with t.sub(name), open(t.path("image"), "wb") as file:
            file.write(start.ljust(MIB, b"\0"))
            file.flush()
            if name == "luks2":
                unsafe(t.path("image"), "encrypted")
                continue
            unsafe(t.path("image"), "unsupported", code=4)
            unsafe(t.path("image"), "format", "-f", "raw")


def test_vmdk_descriptors(t):
    """An extent that is a path, one that is not the file itself, a type that is not on the list."""
    for number, (kind, extent) in enumerate((("monolithicSparse", 'RW 8192 SPARSE "/etc/passwd"'),
                                             ("monolithicFlat", 'RW 8192 FLAT "/dev/sda" 0'), ("custom", 'RW 8192 ZERO'),
                                             ("streamOptimized", 'RW 8192 SPARSE "../x.vmdk"'), ("vmfs", 'RW 1 VMFS "a" 0'))):
        with t.sub(f"{kind} {extent}"), open(t.path(f"{number}.vmdk"), "w", encoding="ascii") as file:
            file.write(f'# Disk DescriptorFile\nversion=1\nCID=fffffffe\nparentCID=ffffffff\ncreateType="{kind}"\n\n{extent}\n')
            file.flush()
            equal(vmimg("info", "--json", t.path(f"{number}.vmdk")).json()["safe"], False, "safe")


def test_vmdk_embedded(t):
    """What the descriptor inside a sparse file may say."""
    vmimg_ok("create", "-q", "-f", "vmdk", t.path("plain.vmdk"), "4M")
    equal(verdict(t.path("plain.vmdk")), (True, set()))
    with open(t.path("plain.vmdk"), "rb") as file:
        data = file.read()
    text = data[512:512 + 10240].rstrip(b"\0")
    extent = next(line for line in text.split(b"\n") if line.startswith(b"RW "))
    rows = {"a line of other words": text + b"strange words here\n", "a key of two words": text + b"strange key = 1\n",
            "bytes beyond ASCII": text + b"# \xff\xfe\n",
            "a path": text.replace(extent, extent.split(b'"')[0] + b'"/etc/passwd"'),
            "a path of Windows": text.replace(extent, extent.split(b'"')[0] + b'"c:\\x"')}
    for name, words in rows.items():
        with t.sub(name):
            check(words != text, "nothing is changed")
            with open(t.path("changed.vmdk"), "wb") as file:
                file.write(data[:512] + words.ljust(10240, b"\0") + data[512 + 10240:])
            unsafe(t.path("changed.vmdk"), "descriptor")
    vmimg_ok("create", "-q", "-f", "vmdk", "-o", "subformat=streamOptimized", t.path("stream.vmdk"), "4M")
    for name, at in (("another descriptor in the footer", -1024 + 28), ("a footer's marker", -1536 + 20), ("an end", -512 + 12)):
        with t.sub(name):
            with open(t.path("stream.vmdk"), "rb") as file, open(t.path("changed.vmdk"), "wb") as copy:
                copy.write(file.read())
            unsafe(poke(t.path("changed.vmdk"), at, b"\7"), "warning")


def test_nameless_backing(t):
    """A place for a name of no bytes: nothing to us, and a backing file to some."""
    harness.need("qemu-img")
    qemu.create(t.path("nameless.qcow2"), "qcow2", MIB)
    unsafe(poke(t.path("nameless.qcow2"), 8, struct.pack(">Q", 512)), "warning")


def mbr(*entries, chs=b"\0\2\0"):
    table = b"".join(struct.pack("<B3sB3sII", boot, chs, kind, b"", start, count) for boot, kind, start, count in entries)
    return bytes(446) + table.ljust(64, b"\0") + b"\x55\xaa"


def gpt(sectors, sector=512, here=1, other=None, first=2):
    entries = bytearray(128 * 128)
    entries[:128] = struct.pack("<16s16sQQQ", b"\x01" * 16, b"\x02" * 16, 40, sectors - 40, 0).ljust(128, b"\0")
    other = sectors - 1 if other is None else other
    head = bytearray(struct.pack("<8sIIIIQQQQ16sQIII", b"EFI PART", 0x10000, 92, 0, 0, here, other, 34, sectors - 34,
                                 b"\x03" * 16, first, 128, 128, zlib.crc32(entries)))
    head[16:20] = struct.pack("<I", zlib.crc32(head))
    return bytes(head).ljust(sector, b"\0"), bytes(entries)


def gpt_disk(path, guard, size=4 * MIB):
    sectors = size // 512
    head, entries = gpt(sectors)
    tail, _ = gpt(sectors, here=sectors - 1, other=1, first=sectors - 33)
    with open(path, "wb") as file:
        file.write(guard + head + entries)
        file.seek((sectors - 33) * 512)
        file.write(entries + tail)
    return path


GUARD = (0, 0xee, 1, 8191)


def test_partition_tables(t):
    good = {
        "empty": bytes(512),
        "mbr": mbr((0x80, 0x83, 2048, 4096)),
        "fat boot sector": b"\xeb\x3c\x90mkfs.fat".ljust(54, b"\x11") + b"FAT16   ".ljust(448, b"\x77") + b"\x55\xaa",
    }
    for name, sector in good.items():
        with t.sub(name), open(t.path("good.raw"), "wb") as file:
            file.write(sector.ljust(4 * MIB, b"\0"))
            file.flush()
            equal(verdict(t.path("good.raw")), (True, set()))
    with t.sub("gpt"):
        equal(verdict(gpt_disk(t.path("gpt.raw"), mbr(GUARD))), (True, set()))
    bad = {
        "an invalid boot flag": mbr((0x80, 0x83, 2048, 2048), (0x11, 0x83, 4096, 2048)),
        "a guard without a GPT": mbr(GUARD),
        "no partitions": mbr(),
    }
    for name, sector in bad.items():
        with t.sub(name), open(t.path("bad.raw"), "wb") as file:
            file.write(sector.ljust(4 * MIB, b"\0"))
            file.flush()
            unsafe(t.path("bad.raw"), "partition-table")
    with t.sub("a GPT whose MBR names partitions as well"):
        unsafe(gpt_disk(t.path("hybrid.raw"), mbr(GUARD, (0x80, 0x83, 2048, 2048))), "partition-table")
    with t.sub("a GPT without a guard"):
        unsafe(gpt_disk(t.path("bare.raw"), bytes(512)), "partition-table")
    for name, guard in {"at another place": mbr((0, 0xee, 2, 8190)), "at another cylinder": mbr(GUARD, chs=b"\1\2\0"),
                        "in another entry": mbr((0, 0, 0, 0), GUARD)}.items():
        with t.sub(f"a guard {name}"):
            unsafe(gpt_disk(t.path("guard.raw"), guard), "partition-table")
    with t.sub("a wrong checksum"):
        unsafe(poke(gpt_disk(t.path("sum.raw"), mbr(GUARD)), 512 + 72, b"\x09"), "partition-table")


def footer_rows():
    """Changes of a stream's last three sectors, from the end: (place, bytes)."""
    return {"a footer with another signature": (-1024, b"leak"), "a footer of another version": (-1024 + 4, b"\2"),
            "a longer descriptor": (-1024 + 36, b"\x40"), "a descriptor elsewhere": (-1024 + 28, b"\3"),
            "another footer": (-1024 + 56, b"\xff" * 8), "a marker of another type": (-1536 + 12, b"\7"),
            "a marker with a size": (-1536 + 8, b"\1"), "a marker with content": (-1536 + 16, b"\1"),
            "an end of another type": (-512 + 12, b"\7"), "an end with a size": (-512 + 8, b"\1"), "an end with content": (-512 + 16, b"\1")}


def test_openstack(t):
    """What the tests of OpenStack's inspector feed it and want refused, row by row."""
    harness.need("qemu-img")

    def refused(name, path):
        with t.sub(name):
            result = vmimg("info", "--json", path)
            equal(result.json()["safe"], False, str(result))

    for name, (at, data) in footer_rows().items():
        vmimg_ok("create", "-q", "--force", "-f", "vmdk", "-o", "subformat=streamOptimized", t.path("image"), "4M")
        refused(name, poke(t.path("image"), at, data))
    vmdk = {"a descriptor past the end": (28, b"\0\0\1"), "no descriptor": (28, bytes(8)), "version 0": (4, bytes(4))}
    qcow2 = {"version 1 with a header of version 3": (7, b"\1"), "version 4": (7, b"\4"), "the highest feature": (72, b"\1"),
             "a feature that has no meaning yet": (79, b"\x80")}
    for fmt, rows in ("vmdk", vmdk), ("qcow2", qcow2):
        for name, (at, data) in rows.items():
            qemu.create(t.path("image"), fmt, 10 * MIB)
            refused(f"{fmt}: {name}", poke(t.path("image"), at, data))
    lines = {"no type": "createType monolithicFlat", "a flat one": 'createType="monolithicFlat"',
             "a mode that is none": 'createType="monolithicSparse"\nwronly 2048 somefile2.vmdk',
             "an extent that is a path": 'createType="monolithicSparse"\nrw 2048 /etc/hosts',
             "no extents": 'createType="monolithicSparse"'}
    for name, text in lines.items():
        qemu.create(t.path("image"), "vmdk", 10 * MIB)
        refused(f"a descriptor with {name}", poke(t.path("image"), 512, f"# Disk DescriptorFile\n{text}\n".encode().ljust(10240, b"\0")))
    with t.sub("a QCOW2 in an ISO's system area"):
        vmimg_ok("iso", "create", "-o", t.path("iso"), t.tmp)
        qemu.create(t.path("head"), "qcow2", 10 * MIB)
        with open(t.path("head"), "rb") as file:
            head = file.read(32768)
        unsafe(poke(t.path("iso"), 0, head), "refused", code=5)


FOREIGN = {  # what a file begins with
    "Bochs": b"Bochs Virtual HD Image\0", "Expert Witness": b"EVF\x09\x0d\x0a\xff\0\1", "AFF": b"AFF10\r\n\0",
    "Android sparse": b"\x3a\xff\x26\xed\1\0\0\0\x1c\0\x0c\0", "WIM": b"MSWIM\0\0\0", "CHD": b"MComprHD",
    "Partclone": b"partclone-image\0", "ntfsclone": b"\0ntfsclone-image",
    "raw sectors": b"\0" + b"\xff" * 10 + b"\0\0\2\0\1", "CISO": b"CISO\x18\0\0\0", "Apple sparse": b"sprs\0\0\0\3",
    "ASIF": b"shdw\0\0\0\1", "cloop": b"#!/bin/sh\n#V2.0 Format\nmodprobe cloop",
}
PACKED = {"lz4": b"\x04\x22\x4d\x18\x64", "lzip": b"LZIP\1\x0c", "lzop": b"\x89LZO\0\r\n\x1a\n", "RAR": b"Rar!\x1a\x07\1\0",
          "cabinet": b"MSCF\0\0\0\0", "Debian package": b"!<arch>\ndebian-binary   ", "RPM": b"\xed\xab\xee\xdb\3\0"}
TEXTS = {"XML": b'<?xml version="1.0"?>\n<VirtualBox/>\n', "VMware configuration": b'.encoding = "UTF-8"\n',
         "XML document": '<?xml version="1.0"?>\n'.encode("utf-16"),
         "VMDK descriptor in UTF-16": "# Disk DescriptorFile\nversion=1\n".encode("utf-16")}


def refused(t, name, path, code):
    """As no disk, unless -f raw says so; and it then is one, byte for byte."""
    unsafe(path, code, code=4)
    for verb in (("convert", "-O", "raw", path, t.path("out")), ("inspect", path), ("digest", path)):
        result = vmimg(*verb)
        equal(result.code, 4, str(result))
        process.check_one_line(result)
        check(name.encode() in result.err and b"-f raw" in result.err, str(result))
    with open(path, "rb") as file:
        equal(process.guest_sha256(path, "-f", "raw"), hashlib.sha256(file.read()).hexdigest())


def test_disks_of_other_formats(t):
    """A disk in a format that is not read would be a raw disk with the wrong content."""
    for name, head in FOREIGN.items():
        with t.sub(name):
            path = t.path(f"{name}.img")
            poke(disks.pattern(path, MIB, seed=31), 0, head)
            refused(t, name, path, "unsupported")
    with t.sub("Apple's, told by its end"):
        path = disks.pattern(t.path("apple.dmg"), MIB, seed=32)
        poke(path, MIB - 512, b"koly\0\0\0\4\0\0\2\0")
        refused(t, "UDIF", path, "unsupported")
    for name, fmt in (("QED", "qed"), ("Parallels", "parallels")):
        with t.sub(f"{name}, made by qemu-img"):
            path = t.path(f"disk.{fmt}")
            qemu.create(path, fmt, 8 * MIB)
            refused(t, name, path, "unsupported")


def test_packed_in_other_ways(t):
    for name, head in PACKED.items():
        with t.sub(name):
            path = t.path(f"{name}.bin")
            poke(disks.pattern(path, MIB, seed=33), 0, head)
            refused(t, name, path, "format")


def test_texts(t):
    """What lies beside a machine's disks, and is none."""
    for name, text in TEXTS.items():
        with t.sub(name):
            path = t.path(f"{name}.txt")
            with open(path, "wb") as file:
                file.write(text)
            refused(t, name, path, "format")


if __name__ == "__main__":
    harness.main()
