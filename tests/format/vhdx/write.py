# SPDX-License-Identifier: Apache-2.0
"""VHDX images that vmimg writes, read by vmimg itself and by every other reader that is here."""

import os
import subprocess

from lib import disks, env, harness, libvhdi, qemu
from lib.harness import check, equal, need
from lib.process import run, vmimg, vmimg_ok

MIB = 1 << 20
OPTIONS = ("subformat=dynamic", "subformat=fixed", "block_size=1M", "block_size=256M",
           "block_state_zero=on,block_size=2M", "logical_sector_size=4096",
           "log_size=4M,physical_sector_size=512,block_size=2M")


def padded(raw, sector):
    """The raw disk, filled up to whole sectors, as a VHDX has to be. Returns its digest."""
    os.truncate(raw, -(-os.path.getsize(raw) // sector) * sector)
    return disks.sha256(raw)


def by_vmimg(path, t):
    raw = t.path("by-vmimg.raw")
    vmimg_ok("convert", "--force", "-f", "vhdx", path, raw)
    return disks.sha256(raw)


def by_7zz(path, t):
    raw = t.path("by-7zz.raw")
    with open(raw, "wb") as out:
        subprocess.run(["7zz", "e", "-y", "-so", "-tvhdx", path], stdout=out, check=True)
    return disks.sha256(raw)


def readers_agree(t, path, want, sector, size):
    equal(by_vmimg(path, t), want, "vmimg")
    if sector == 512 and env.have("qemu-img"):  # it reads no other
        equal(qemu.guest_sha256(path, "vhdx", t.tmp), want, "qemu-img")
        qemu.img("check", "-q", "-f", "vhdx", path)
    # 7-Zip takes no disk with an odd number of sectors, whoever made it.
    if env.have("7zz") and size // sector % 2 == 0:
        equal(by_7zz(path, t), want, "7zz")
    if size < 100 * MIB:
        equal(libvhdi.guest_sha256(path), want, "libvhdi")


def test_sizes_and_options(t):
    for size in (1, 511, 1000, 4096, MIB, 8 * MIB + 512, 33 * MIB + 1000, 80 * MIB):
        for options in OPTIONS:
            sector = 4096 if "logical_sector_size=4096" in options else 512
            with t.sub(f"{size} bytes, {options}"):
                raw, image = disks.pattern(t.path("a.raw"), size, seed=size), t.path("a.vhdx")
                vmimg_ok("convert", "--force", "-o", options, raw, image)
                want = padded(raw, sector)
                readers_agree(t, image, want, sector, os.path.getsize(raw))
                equal(vmimg("check", image).code, 0, "check")


def test_empty(t):
    for size in (0, 512, 64 * MIB):
        with t.sub(f"{size} bytes"):
            image = t.path("e.vhdx")
            vmimg_ok("create", "--force", image, str(size))
            equal(vmimg_ok("info", "--json", image).json()["virtual-size"], size, "size")
            open(t.path("e.raw"), "wb").close()
            os.truncate(t.path("e.raw"), size)
            equal(by_vmimg(image, t), disks.sha256(t.path("e.raw")), "content")


def test_huge_and_empty(t):
    """64 TiB: made, converted and checked in no time and little memory, whatever the block size."""
    for block in ("", "block_size=1M", "block_size=256M"):
        with t.sub(block or "default"):
            image, copy = t.path("h.vhdx"), t.path("i.vhdx")
            for args in (("create", "--force", *(["-o", block] if block else []), image, "64T"),
                         ("convert", "--force", image, copy), ("check", image),
                         ("map", "--json", image)):
                result = vmimg_ok(*args)
                check(result.seconds < 2 * env.SLACK, f"{args[0]}: {result.seconds:.1f} s")
                check(result.peak < (64 << 20) * env.SLACK, f"{args[0]}: {result.peak >> 20} MiB")
            check(os.stat(image).st_blocks * 512 < 2 * MIB, "an empty image takes much space")
    result = vmimg("create", t.path("x.vhdx"), str((64 << 40) + 512))
    equal(result.code, 2, "65 TiB")


def test_large_and_sparse(t):
    """Data at both ends of 64 TiB."""
    raw, image = t.path("l.raw"), t.path("l.vhdx")
    with open(raw, "wb") as file:
        try:
            file.truncate(8 << 40)
        except OSError:
            harness.skip("no file of 8 TiB can be made here")
        file.write(b"first")
        file.seek((8 << 40) - 4)
        file.write(b"last")
    result = vmimg_ok("convert", "-o", "block_size=1M", raw, image)
    check(result.peak < (64 << 20) * env.SLACK, f"{result.peak >> 20} MiB")
    equal(vmimg_ok("compare", raw, image).code, 0, "compare")


def test_deterministic(t):
    """The same bytes on any number of threads, and from another format; random only on request."""
    raw = disks.pattern(t.path("d.raw"), 70 * MIB + 512, seed=3, data=30 * MIB)
    images = []
    for threads in (1, 2, 8):
        images.append(t.path(f"d{threads}.vhdx"))
        vmimg_ok("convert", "-m", str(threads), "-o", "block_size=1M", raw, images[-1])
    again = t.path("again.vhdx")
    vmimg_ok("convert", "-o", "block_size=1M", images[0], again)
    digests = {disks.sha256(image) for image in images}
    equal(len(digests), 1, "different outputs of 1, 2 and 8 threads")
    unique = [t.path("u1.vhdx"), t.path("u2.vhdx")]
    for image in unique:
        vmimg_ok("convert", "--unique", raw, image)
    ids = {vmimg_ok("info", "--json", image).json()["identity"]["uuid"] for image in unique + images}
    equal(len(ids), 3, "identities")


def test_identity_follows_content(t):
    ids = set()
    for seed in range(4):
        raw, image = disks.pattern(t.path("c.raw"), 3 * MIB, seed=seed), t.path("c.vhdx")
        vmimg_ok("convert", "--force", raw, image)
        identity = vmimg_ok("info", "--json", image).json()["identity"]
        ids.update((identity["uuid"], identity["data-write-guid"], identity["file-write-guid"]))
    equal(len(ids), 12, "distinct GUIDs")


def test_info(t):
    image = t.path("i.vhdx")
    vmimg_ok("create", "-o", "subformat=fixed,block_size=4M,physical_sector_size=512", image, "9M")
    info = vmimg_ok("info", "--json", image).json()
    data = info["format-specific"]["data"]
    equal(info["variant"], "fixed", "variant")
    equal(data["block-size"], 4 * MIB, "block size")
    equal(data["physical-sector-size"], 512, "physical sector")
    equal(data["log"]["state"], "clean", "log")
    check(info["creator"].startswith("vmimg "), info["creator"])
    need("vhdiinfo")
    check("fixed" in run("vhdiinfo", image).text.lower(), "libvhdi sees another kind of disk")


def test_bad_options(t):
    raw = disks.pattern(t.path("o.raw"), MIB)
    for options in ("block_size=3M", "block_size=512M", "block_size=512K", "log_size=1500K",
                    "logical_sector_size=1024", "physical_sector_size=8192", "subformat=both"):
        with t.sub(options):
            result = vmimg("convert", "-o", options, raw, t.path("o.vhdx"))
            equal(result.code, 2, str(result))
            check(not os.path.exists(t.path("o.vhdx")), "an output is there")
    equal(vmimg("convert", "-O", "vhdx", raw, "-").code, 2, "to a pipe")


def test_space(t):
    """Measure says what convert then takes; a fixed disk has its space."""
    raw = disks.pattern(t.path("s.raw"), 40 * MIB, seed=9, data=12 * MIB)
    for options in ("subformat=fixed", "subformat=dynamic"):
        with t.sub(options):
            image = t.path(f"s-{options[10:]}.vhdx")
            vmimg_ok("convert", "-o", options, raw, image)
            measured = vmimg_ok("measure", "--json", "-O", "vhdx", "-o", options, raw).json()
            size = os.path.getsize(image)
            check(measured["required"] >= size, f"{measured} < {size}")
            equal(measured["fully-allocated"] >= size, True, "fully allocated")
    check(os.stat(t.path("s-fixed.vhdx")).st_blocks * 512 >= 40 * MIB, "no space was set aside")


if __name__ == "__main__":
    harness.main()
