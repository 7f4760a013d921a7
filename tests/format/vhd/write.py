# SPDX-License-Identifier: Apache-2.0
"""VHD images that vmimg writes, read by every other reader that is here."""

import os
import subprocess

from lib import disks, env, harness, libvhdi, process, qemu
from lib.harness import check, equal, need
from lib.process import vmimg, vmimg_ok

MIB = 1 << 20
OPTIONS = ("subformat=dynamic", "subformat=fixed", "block_size=512k", "block_size=16M",
           "block_size=4k")


def by_7zz(path, folder):
    subprocess.run(["7zz", "x", "-y", "-bd", "-tVHD", f"-o{folder}/7z", path], check=True,
                   stdout=subprocess.DEVNULL)
    name, = os.listdir(f"{folder}/7z")
    return disks.sha256(f"{folder}/7z/{name}")


def readers_agree(path, want, folder, options=""):
    equal(process.guest_sha256(path), want, "vmimg")
    equal(qemu.guest_sha256(path, "vhd", folder), want, "qemu-img")
    if env.have("7zz"):
        equal(by_7zz(path, folder), want, "7zz")
    # libvhdi does not round the bitmaps of smaller blocks up to a sector.
    if options not in ("block_size=4k", "block_size=512k"):
        equal(libvhdi.guest_sha256(path), want, "libvhdi")


def test_readers(t):
    for size in (65536, 8 * MIB + 512, 33 * MIB + 1024):
        raw = disks.pattern(t.path("a.raw"), size, seed=size)
        for options in OPTIONS:
            with t.sub(f"{size} bytes, {options}"), t.folder() as folder:
                image = f"{folder}/a.vhd"
                vmimg_ok("convert", "-o", options, raw, image)
                readers_agree(image, disks.sha256(raw), folder, options)
                equal(vmimg("check", image).code, 0, "check")


def test_fixed_is_never_raw(t):
    for size in (512, MIB, 8 * MIB):
        with t.sub(f"{size} bytes"):
            raw, image = disks.pattern(t.path("f.raw"), size), t.path("f.vhd")
            vmimg_ok("convert", "--force", "-o", "subformat=fixed", raw, image)
            os.rename(image, t.path("f.img"))
            info = vmimg_ok("info", "--json", t.path("f.img")).json()
            equal((info["format"], info["virtual-size"]), ("vhd", size), "detected")


def test_fixed_to_a_pipe(t):
    raw = disks.pattern(t.path("p.raw"), 5 * MIB + 512, seed=4)
    piped = vmimg_ok("convert", "-O", "vhd", "-o", "subformat=fixed", raw, "-")
    vmimg_ok("convert", "-O", "vhd", "-o", "subformat=fixed", raw, t.path("p.vhd"))
    with open(t.path("p.vhd"), "rb") as file:
        check(file.read()[:-512] == piped.out[:-512], "a pipe gets other bytes than a file")
    equal(vmimg("convert", "-O", "vhd", raw, "-").code in (2, 4), True, "dynamic to a pipe")


def test_geometry_rounding(t):
    """force_size=off gives the sizes of qemu-img."""
    for size in (MIB, 100 * MIB, 1000 * MIB, 3 << 30, 130 << 30):
        with t.sub(f"{size} bytes"), t.folder() as folder:
            vmimg_ok("create", "-o", "force_size=off", f"{folder}/a.vhd", size)
            qemu.img("create", "-q", "-f", "vpc", f"{folder}/b.vhd", size)
            sizes = [vmimg_ok("info", "--json", f"{folder}/{name}.vhd").json()["virtual-size"]
                     for name in "ab"]
            equal(sizes[0], sizes[1], "size")


def overlay(t, base, changed):
    """A qcow2 that has what differs between two raw disks."""
    qemu.img("create", "-q", "-f", "qcow2", "-b", changed, "-F", "raw", "overlay.qcow2", cwd=t.tmp)
    qemu.img("rebase", "-f", "qcow2", "-b", base, "-F", "raw", "overlay.qcow2", cwd=t.tmp)
    return t.path("overlay.qcow2")


def change(raw, target):
    """Some bytes, and some zeroes over data."""
    disks.copy(raw, target)
    with open(target, "r+b") as file:
        for at, data in ((0, bytes(3000)), (100000, b"new" * 100), (5 * MIB, bytes(3 * MIB)),
                         (9 * MIB + 512, b"\x11" * 70000)):
            file.seek(at)
            file.write(data)
    return target


def test_differencing(t):
    raw = disks.pattern(t.path("a.raw"), 20 * MIB, seed=5, data=8 * MIB)
    changed = change(raw, t.path("b.raw"))
    base = t.path("base.vhd")
    vmimg_ok("convert", raw, base)
    with t.sub("empty child"):
        vmimg_ok("create", "-b", "base.vhd", "-F", "vhd", t.path("empty.vhd"))
        equal(process.guest_sha256(t.path("empty.vhd")), disks.sha256(raw), "content")
        check(os.path.getsize(t.path("empty.vhd")) < 65536, "it is large")
    with t.sub("changed child"):
        child = t.path("child.vhd")
        vmimg_ok("convert", "-B", "base.vhd", "-F", "vhd", overlay(t, "a.raw", "b.raw"), child)
        equal(process.guest_sha256(child), disks.sha256(changed), "content")
        equal(vmimg("check", child).code, 0, "check")
        check(os.stat(child).st_blocks * 512 < MIB, "what the parent has is in the child")
    with t.sub("7zz follows it"):
        need("7zz")
        equal(by_7zz(child, t.tmp), disks.sha256(changed), "content")
    with t.sub("grandchild"):
        vmimg_ok("create", "-b", "child.vhd", "-F", "vhd", t.path("grand.vhd"))
        equal(process.guest_sha256(t.path("grand.vhd")), disks.sha256(changed), "content")
    with t.sub("without the parent"):
        os.rename(base, t.path("elsewhere.vhd"))
        result = vmimg("convert", "-O", "raw", child, t.path("no.raw"))
        check(result.code != 0 and not os.path.exists(t.path("no.raw")), "zeroes for a parent")
        vmimg_ok("info", child)
        equal(vmimg("check", child).code, 0, "check alone")


def test_huge_and_empty(t):
    image = t.path("h.vhd")
    for args in (("create", "--force", image, "2040G"), ("check", image), ("map", image),
                 ("convert", "--force", image, t.path("i.vhd"))):
        result = vmimg_ok(*args)
        check(result.seconds < 2 * env.SLACK, f"{args[0]}: {result.seconds:.1f} s")
        check(result.peak < (64 << 20) * env.SLACK, f"{args[0]}: {result.peak >> 20} MiB")
    equal(vmimg("create", t.path("x.vhd"), "2041G").code, 2, "more than a VHD holds")


def test_uuid_and_time(t):
    image, uuid = t.path("u.vhd"), "01234567-89ab-cdef-0123-456789abcdef"
    vmimg_ok("create", "-o", f"uuid={uuid}", image, "1M", extra_env={"SOURCE_DATE_EPOCH": "1700000000"})
    info = vmimg_ok("info", "--json", image).json()
    equal(info["identity"]["uuid"], uuid, "uuid")
    equal(info["format-specific"]["data"]["timestamp"], "2023-11-14T22:13:20Z", "time")


def test_bad_options(t):
    for options in ("block_size=3M", "block_size=512M", "uuid=1", "creator=toolong",
                    "subformat=differencing", "subformat=sparse"):
        with t.sub(options):
            equal(vmimg("create", "-o", options, t.path("x.vhd"), "1M").code, 2, "exit code")
            check(not os.path.exists(t.path("x.vhd")), "an output is there")


def test_measure(t):
    raw = disks.pattern(t.path("m.raw"), 40 * MIB, seed=9, data=12 * MIB)
    for options in OPTIONS:
        with t.sub(options):
            image = t.path("m.vhd")
            vmimg_ok("convert", "--force", "-o", options, raw, image)
            measured = vmimg_ok("measure", "--json", "-O", "vhd", "-o", options, raw).json()
            check(measured["required"] >= os.path.getsize(image), f"{measured}")


def test_written_by_qemu(t):
    """A block that QEMU adds lies where the footer was, and shows nothing of it."""
    need("qemu-io")
    for data in (0, 12 * MIB):
        for options in OPTIONS[:1] + OPTIONS[3:4]:
            with t.sub(f"{data} bytes of data, {options}"):
                raw = disks.pattern(t.path("w.raw"), 40 * MIB, seed=9, data=data)
                os.truncate(raw, 2048 * MIB)
                image = t.path("w.vhd")
                vmimg_ok("convert", "--force", "-o", options, raw, image)
                qemu.io(image, "write -P 5 1024M 512", fmt="vhd")
                with open(raw, "r+b") as file:
                    file.seek(1024 * MIB)
                    file.write(b"\5" * 512)
                qemu.img("compare", "-f", "raw", "-F", "vpc", raw, image)


def test_empty_child_of_a_long_name(t):
    """What follows the locators of a child without blocks is the footer, not the other way round."""
    image = t.path("child.vhd")
    vmimg_ok("create", "-f", "vhd", t.path("parent.vhd"), "64M")
    vmimg_ok("create", "-f", "vhd", "-b", "./" * 900 + "parent.vhd", image)
    equal(vmimg_ok("check", image).errors, "", "what check says")
    equal(qemu.img("info", "-f", "vpc", image).code, 0, "qemu-img info")


if __name__ == "__main__":
    harness.main()
