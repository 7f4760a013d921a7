# SPDX-License-Identifier: Apache-2.0
"""Kernels and ramdisks as files of their own: what info tells of them, and that they are no disks."""

import gzip
import bz2
import lzma
import os
import struct

from lib import env, harness, process
from lib.harness import check, equal


def cpio(files):
    """A newc archive of (name, content) pairs."""
    out = b""
    for name, content in [*files, ("TRAILER!!!", b"")]:
        name = name.encode() + b"\0"
        fields = (1, 0o100644, 0, 0, 1, 0, len(content), 0, 0, 0, 0, len(name), 0)
        head = b"070701" + b"".join(b"%08X" % field for field in fields) + name
        out += head + bytes(-len(head) % 4) + content + bytes(-len(content) % 4)
    return out


def bzimage(version=b"6.1.0-test (me@here) #1 SMP", protocol=0x20f, payload=b"\x1f\x8b\x08" + bytes(997)):
    """The header of a kernel for x86_64, and a payload that only begins like one."""
    head = bytearray(512 * 2)
    head[0:2] = b"MZ"
    head[0x1f1] = 1
    head[0x1fe:0x200] = b"\x55\xaa"
    head[0x202:0x206] = b"HdrS"
    struct.pack_into("<H", head, 0x206, protocol)
    struct.pack_into("<H", head, 0x20e, 0x100)
    head[0x211] = 1
    struct.pack_into("<H", head, 0x236, 1)
    struct.pack_into("<II", head, 0x248, 0, len(payload))
    struct.pack_into("<I", head, 0x1f4, len(payload) // 16)
    head[0x300:0x300 + len(version)] = version
    return bytes(head) + payload


def write(t, name, content):
    with open(t.path(name), "wb") as file:
        file.write(content)
    return t.path(name)


def info(path):
    return process.vmimg_ok("info", "--json", path).json()


def test_bzimage(t):
    report = info(write(t, "vmlinuz", bzimage()))
    equal(report["format"], "aki")
    data = report["format-specific"]["data"]
    equal((data["type"], data["architecture"], data["boot-protocol"], data["compression"]),
          ("bzImage", "x86_64", "2.15", "gzip"))
    equal(data["version"], "6.1.0-test (me@here) #1 SMP")
    check(data["efi-stub"] and not data["cut-short"], data)


def test_bzimage_hostile(t):
    """Cut short, a version that points nowhere, a version with control characters."""
    report = info(write(t, "short", bzimage()[:1500]))
    check(report["format-specific"]["data"]["cut-short"] and report["warnings"], report)
    image = bytearray(bzimage())
    struct.pack_into("<H", image, 0x20e, 0xffff)
    check("version" not in info(write(t, "nowhere", image))["format-specific"]["data"], "a version")
    result = process.vmimg("info", write(t, "escape", bzimage(b"\x1b[31mred\xff")))
    process.check_bars(result)
    check("\\x1b[31mred\\xff" in result.text, result.text)


def test_other_kernels(t):
    def flat(magic):
        head = bytearray(4096)
        head[0x38:0x3c] = magic
        return bytes(head) + b"..Linux version %s;Linux version 6.6.1-flat (x)\n" + bytes(999)

    zboot = bytearray(0x200)
    zboot[0:2], zboot[4:8], zboot[24:29] = b"MZ", b"zimg", b"zstd\0"
    struct.pack_into("<II", zboot, 8, 0x100, 0x80)
    struct.pack_into("<I", zboot, 0x3c, 0x40)
    zboot[0x40:0x46] = b"PE\0\0" + struct.pack("<H", 0xaa64)
    arm = bytearray(0x100)
    struct.pack_into("<III", arm, 0x24, 0x016f2818, 0, 0x100)
    elf = b"\x7fELF\2\1" + bytes(12) + b"\x3e\0" + bytes(200)
    xen = elf + struct.pack("<III", 4, 6, 6) + b"Xen\0linux\0\0\0" + bytes(100)
    cases = {
        "arm64": (flat(b"ARM\x64"), "arm64 Image", "aarch64", "6.6.1-flat (x)"),
        "riscv": (flat(b"RSC\x05"), "RISC-V Image", "riscv64", "6.6.1-flat (x)"),
        "zboot": (bytes(zboot), "EFI zboot image", "aarch64", None),
        "arm": (bytes(arm), "ARM zImage", "arm", None),
        "xen": (xen, "ELF", "x86_64", None),
        "vmlinux": (elf + b"Linux version 5.4.0\n" + bytes(300), "ELF", "x86_64", "5.4.0"),
    }
    for name, (content, kind, architecture, version) in cases.items():
        with t.sub(name):
            report = info(write(t, name, content))
            data = report["format-specific"]["data"]
            equal((report["format"], data["type"], data["architecture"], data.get("version")),
                  ("aki", kind, architecture, version))
            equal(data["xen-guest"], name == "xen")
    with t.sub("a program is no kernel"):
        equal(process.vmimg("info", write(t, "program", elf)).code, 4)
        equal(process.vmimg("info", env.VMIMG).code, 4)


def test_ramdisk(t):
    modules = cpio([("init", b"#!/bin/sh\n"), ("usr/lib/modules/6.1.0-7/modules.dep", b"")])
    packers = {"gzip": gzip.compress, "bzip2": bz2.compress,
               "xz": lambda b: lzma.compress(b, check=lzma.CHECK_CRC32)}
    microcode = cpio([("kernel/x86/microcode/GenuineIntel.bin", b"x" * 1000)])
    for name, pack in packers.items():
        with t.sub(name):
            path = write(t, name, microcode + bytes(300) + pack(modules))
            report = info(path)
            equal(report["format"], "ari")
            first, second = report["format-specific"]["data"]["segments"]
            equal((first["files"], first["microcode"], first["length"]), (1, True, len(microcode)))
            equal((second["compression"], second["offset"]), (name, len(microcode) + 300))
            equal(report["format-specific"]["data"]["kernel-version"], "6.1.0-7")
    with t.sub("lzma"):
        packed = lzma.compress(modules, format=lzma.FORMAT_ALONE)
        equal(info(write(t, "lzma", packed))["format"], "ari")
    with t.sub("plain"):
        report = info(write(t, "plain", modules))
        equal(report["format-specific"]["data"]["segments"][0]["files"], 2)
    with t.sub("anything packed is no ramdisk"):
        for name, pack in packers.items():
            code = process.vmimg("info", write(t, name, pack(b"words " * 9999))).code
            check(code == 4, f"{name}: exit {code}")


def test_ramdisk_hostile(t):
    whole = cpio([("a" * 200, b"y" * 5000)])
    cases = {
        "cut": whole[:3000],
        "header only": whole[:110],
        "no hex": whole[:54] + b"zzzzzzzz" + whole[62:],
        "endless file": whole[:54] + b"FFFFFFFF" + whole[62:],
        "no name": whole[:94] + b"00000000" + whole[102:],
        "many": cpio([("", b"")] * 9)[:-124] * 9000,
        "half a gzip": whole + gzip.compress(os.urandom(9999))[:500],
    }
    for name, content in cases.items():
        with t.sub(name):
            result = process.vmimg("info", "--json", write(t, "hostile", content))
            process.check_bars(result, name)
            check(result.code in (0, 4), str(result))


def test_no_disk(t):
    """Neither is ever taken for a raw disk."""
    for name, content in (("kernel", bzimage()), ("ramdisk", cpio([("init", b"")]))):
        result = process.vmimg("convert", write(t, name, content), t.path("out.qcow2"))
        equal(result.code, 4, name)
        check("not a disk image" in result.errors, result.errors)
        check(not os.path.exists(t.path("out.qcow2")), "an output")


if __name__ == "__main__":
    harness.main()
