# SPDX-License-Identifier: Apache-2.0
"""VMDK files that vmimg writes: their structure, taken apart here, and what every other reader makes of them."""

import os
import struct
import subprocess
import zlib

from lib import disks, env, harness, process, qemu
from lib.harness import check, equal, need
from lib.process import vmimg, vmimg_ok

MIB = 1 << 20
SUBFORMATS = ("monolithicSparse", "streamOptimized", "twoGbMaxExtentSparse", "twoGbMaxExtentFlat",
              "monolithicFlat", "vmfs")


def source(t, size, **how):
    """A raw disk of whole sectors, and its digest."""
    raw = disks.pattern(t.path("src.raw"), size, **how)
    return raw, disks.sha256(raw)


def by_7zz(image):
    """SHA-256 of the guest's bytes, as 7-Zip reads them."""
    need("7zz", "sha256sum")
    with subprocess.Popen([env.find("7zz"), "x", "-so", image], stdout=subprocess.PIPE,
                          stderr=subprocess.DEVNULL) as unpack:
        total = subprocess.run(["sha256sum"], stdin=unpack.stdout, stdout=subprocess.PIPE, check=True)
        check(unpack.wait() == 0, f"7zz refuses {image}")
    return total.stdout.decode().split()[0]


def text_of(image):
    """The descriptor, wherever it is."""
    with open(image, "rb") as file:
        head = file.read(64 << 10)
    if head.startswith(b"KDMV"):
        at, length = struct.unpack_from("<QQ", head, 28)
        head = head[at * 512:(at + length) * 512]
    return head.rstrip(b"\0").decode()


def keys_of(image):
    pairs = [line.split("=", 1) for line in text_of(image).splitlines() if "=" in line]
    return {key.strip(): value.strip().strip('"') for key, value in pairs}


def test_readers(t):
    """Every sub-format, sizes that are even and odd, by four readers."""
    for size in (96 * MIB, 3 * MIB + 512 * 7):
        raw, want = source(t, size, seed=size, data=12 * MIB)
        for subformat in SUBFORMATS:
            with t.sub(f"{subformat}, {size} bytes"), t.folder() as folder:
                image = os.path.join(folder, "d.vmdk")
                vmimg_ok("convert", "-f", "raw", "-o", f"subformat={subformat}", raw, image)
                equal(process.guest_sha256(image), want, "content by vmimg")
                equal(vmimg("check", "--refs=beside", image).code, 0, "vmimg check")
                equal(qemu.guest_sha256(image, "vmdk", folder), want, "content by qemu-img")
                qemu.img("check", "-q", "-f", "vmdk", image)
                if env.have("7zz"):
                    equal(by_7zz(image), want, "content by 7-Zip")
                if env.have("vmdkinfo"):
                    result = process.run("vmdkinfo", image)
                    check(result.code == 0 and f"({size} bytes)" in result.text, str(result))


def test_split(t):
    """Extents of 2047 MiB, named as VMware names them."""
    raw, want = source(t, 5 * 1024 * MIB, data=8 * MIB)
    for subformat, letter in (("twoGbMaxExtentSparse", "s"), ("twoGbMaxExtentFlat", "f")):
        with t.sub(subformat), t.folder() as folder:
            image = os.path.join(folder, "d.vmdk")
            vmimg_ok("convert", "-f", "raw", "-o", f"subformat={subformat}", raw, image)
            equal(sorted(os.listdir(folder)),
                  [f"d-{letter}00{n}.vmdk" for n in (1, 2, 3)] + ["d.vmdk"], "files")
            sizes = [int(line.split()[1]) for line in text_of(image).splitlines()
                     if line.startswith("RW")]
            equal(sizes, [4192256, 4192256, 10485760 - 2 * 4192256], "sectors")
            equal(qemu.guest_sha256(image, "vmdk", folder), want, "content by qemu-img")


def take_stream_apart(data):
    """Walks a stream from marker to marker, as one who reads a pipe. Returns {grain: bytes}."""
    magic, version, flags, capacity, grain, _, _, entries, rgd, gd, overhead = struct.unpack_from(
        "<4sIIQQQQIQQQ", data)
    equal((magic, version, flags, grain, entries, rgd, gd),
          (b"KDMV", 3, 0x30001, 128, 512, 0, 2**64 - 1), "header")
    grains, tables, at, last, pending = {}, {}, overhead * 512, -1, {}
    directory_at = None
    while True:
        value, size, kind = struct.unpack_from("<QII", data, at)
        if size:
            number = value // 128
            check(number > last, "grains out of order")
            unpacker = zlib.decompressobj()
            grains[number] = unpacker.decompress(data[at + 12:at + 12 + size])
            check(unpacker.eof and not unpacker.unused_data, "grain is not one zlib stream")
            pending[number], last = at // 512, number
            at += -(-(12 + size) // 512) * 512
        elif kind == 1:
            table = struct.unpack_from("<512I", data, at + 512)
            base = min(pending) // 512 * 512
            equal({base + i: place for i, place in enumerate(table) if place}, pending, "grain table")
            tables[base // 512], pending = at // 512 + 1, {}
            at += 512 + value * 512
        elif kind == 2:
            check(not pending, "grains without a table")
            directory_at = at // 512 + 1
            count = -(-capacity // (128 * 512))
            directory = struct.unpack_from(f"<{count}I", data, at + 512)
            equal({i: place for i, place in enumerate(directory) if place}, tables, "directory")
            at += 512 + value * 512
        elif kind == 3:
            footer = data[at + 512:at + 1024]
            equal(footer[:56] + footer[64:], data[:56] + data[64:512], "footer but for its gdOffset")
            equal(struct.unpack_from("<Q", footer, 56)[0], directory_at, "footer's gdOffset")
            at += 512 + value * 512
        else:
            check(directory_at and at + 512 == len(data), "end of stream is not the end of the file")
            return grains


def test_stream(t):
    """Marker by marker; through a pipe the same bytes."""
    size = 70 * MIB + 512
    raw, _ = source(t, size, data=9 * MIB)
    image = t.path("d.vmdk")
    vmimg_ok("convert", "-f", "raw", "-o", "subformat=streamOptimized", raw, image)
    with open(image, "rb") as file:
        data = file.read()
    grains = take_stream_apart(data)
    with open(raw, "rb") as file:
        guest = file.read()
    for number in range(-(-size // 65536)):
        want = guest[number * 65536:(number + 1) * 65536].ljust(65536, b"\0")
        check(grains.get(number, bytes(65536)) == want, f"grain {number} differs")
    check(all(any(grain) for grain in grains.values()), "a grain of zeroes was written")
    with t.sub("pipe"):
        piped = vmimg_ok("convert", "-f", "raw", "-O", "vmdk", raw, "-").out
        check(piped == data, "the pipe got other bytes")
    with t.sub("packed grains are taken over"):
        vmimg_ok("convert", "-o", "subformat=streamOptimized", image, t.path("again.vmdk"))
        with open(t.path("again.vmdk"), "rb") as file:
            check(file.read() == data, "another file")
    with t.sub("empty"):
        vmimg_ok("create", "-q", "-f", "vmdk", "-o", "subformat=streamOptimized", t.path("e.vmdk"), "3G")
        with open(t.path("e.vmdk"), "rb") as file:
            equal(take_stream_apart(file.read()), {}, "grains")


def test_pipe_refuses_what_cannot_stream(t):
    raw, _ = source(t, MIB)
    result = vmimg("convert", "-f", "raw", "-O", "vmdk", "-o", "subformat=monolithicSparse", raw, "-")
    check(result.code == 4 and "streamOptimized" in result.errors and not result.out, str(result))


def test_descriptor(t):
    """Options, geometry and identities arrive in the descriptor."""
    cases = (
        ("", "100M", {"ddb.adapterType": "ide", "ddb.geometry.heads": "16", "ddb.geometry.cylinders": "203",
                      "ddb.virtualHWVersion": "4", "ddb.toolsVersion": "2147483647", "parentCID": "ffffffff"}),
        ("adapter_type=lsilogic,hwversion=19", "1G",
         {"ddb.geometry.heads": "64", "ddb.geometry.sectors": "32", "ddb.geometry.cylinders": "1024",
          "ddb.virtualHWVersion": "19", "ddb.adapterType": "lsilogic"}),
        ("adapter_type=buslogic", "2G", {"ddb.geometry.heads": "128", "ddb.geometry.sectors": "32"}),
        ("adapter_type=legacyESX", "20G", {"ddb.geometry.heads": "255", "ddb.geometry.cylinders": "2610"}),
        ("", "200G", {"ddb.geometry.cylinders": "16383"}),
        ("compat6=on,tools_version=10240", "1M", {"ddb.virtualHWVersion": "6", "ddb.toolsVersion": "10240"}),
        ("cid=00c0ffee,uuid=6000c291-1122-3344-5566-778899aabbcc", "1M",
         {"CID": "00c0ffee", "ddb.uuid": "60 00 c2 91 11 22 33 44-55 66 77 88 99 aa bb cc"}),
    )
    for subformat in ("monolithicSparse", "streamOptimized", "monolithicFlat"):
        for options, size, want in cases:
            with t.sub(f"{subformat} {options} {size}"), t.folder() as folder:
                image = os.path.join(folder, "d.vmdk")
                words = f"subformat={subformat}" + ("," + options if options else "")
                vmimg_ok("create", "-q", "-f", "vmdk", "-o", words, image, size)
                keys = keys_of(image)
                equal({key: keys.get(key) for key in want}, want, "descriptor")
                equal(keys["createType"], subformat, "createType")
                check(keys["ddb.longContentID"].endswith(keys["CID"]), "longContentID")
    for options in ("cid=xyz", "uuid=12", "hwversion=a\"b", "adapter_type=scsi", "subformat=flat",
                    "compat6=on,hwversion=4"):
        with t.sub(f"refuses {options}"):
            result = vmimg("create", "-f", "vmdk", "-o", options, t.path("no.vmdk"), "1M")
            equal(result.code, 2, str(result))


def test_identities(t):
    """Derived from the content, or random."""
    raw, _ = source(t, 4 * MIB)
    ids = []
    for name, words in (("a", ()), ("b", ()), ("u", ("--unique",)), ("v", ("--unique",))):
        vmimg_ok("convert", "-f", "raw", "-O", "vmdk", *words, raw, t.path(name + ".vmdk"))
        ids.append((keys_of(t.path(name + ".vmdk"))["CID"], keys_of(t.path(name + ".vmdk"))["ddb.uuid"]))
    equal(ids[0], ids[1], "identities of the same content")
    check(len(set(ids[1:])) == 3, f"unique identities: {ids}")
    with open(raw, "r+b") as file:
        file.write(b"changed")
    vmimg_ok("convert", "-f", "raw", "-O", "vmdk", raw, t.path("c.vmdk"))
    check(keys_of(t.path("c.vmdk"))["CID"] != ids[0][0], "the CID did not change with the content")


def test_delta(t):
    """A disk on top of another: absent, data and zeroes apart, and the parent's CID."""
    raw, _ = source(t, 8 * MIB, data=4 * MIB)
    vmimg_ok("convert", "-f", "raw", "-O", "vmdk", raw, t.path("base.vmdk"))
    want = process.guest_sha256(t.path("base.vmdk"))
    vmimg_ok("create", "-q", "-f", "vmdk", "-b", "base.vmdk", "-F", "vmdk", t.path("child.vmdk"))
    keys = keys_of(t.path("child.vmdk"))
    equal(keys["parentCID"], keys_of(t.path("base.vmdk"))["CID"], "parentCID")
    equal(keys["parentFileNameHint"], "base.vmdk", "parentFileNameHint")
    equal(process.guest_sha256(t.path("child.vmdk")), want, "content of an empty child")
    qemu.io(t.path("child.vmdk"), "write -P 9 1M 70k", "write -P 3 7M 64k", fmt="vmdk")
    changed = process.guest_sha256(t.path("child.vmdk"))
    equal(qemu.guest_sha256(t.path("child.vmdk"), "vmdk", t.tmp), changed, "content by qemu-img")
    for option in ("zeroed_grain=on", "zeroed_grain=off"):
        with t.sub(f"zeroes over a parent, {option}"):
            overlay = t.path("over.qcow2")
            qemu.img("create", "-q", "-f", "qcow2", "-b", t.path("base.vmdk"), "-F", "vmdk", overlay)
            qemu.io(overlay, "write -z 0 3M", "write -P 5 4M 64k", fmt="qcow2")
            vmimg_ok("convert", "--force", "--refs=any", "-O", "vmdk", "-B", "base.vmdk", "-F", "vmdk",
                     "-o", option, overlay, t.path("carried.vmdk"))
            equal(process.guest_sha256(t.path("carried.vmdk")),
                  qemu.guest_sha256(overlay, "qcow2", t.tmp), "content")
            equal(qemu.guest_sha256(t.path("carried.vmdk"), "vmdk", t.tmp),
                  process.guest_sha256(t.path("carried.vmdk")), "content by qemu-img")
            equal(vmimg("check", t.path("carried.vmdk")).code, 0, "check")
            os.unlink(overlay)
    with t.sub("a parent that was changed"):
        qemu.io(t.path("base.vmdk"), "write -P 1 0 512", fmt="vmdk")
        result = vmimg("digest", t.path("child.vmdk"))
        check(result.code == 4 and "CID" in result.errors, str(result))


def test_measure(t):
    """measure never promises less than convert takes."""
    raw, _ = source(t, 40 * MIB, data=10 * MIB)
    for subformat in SUBFORMATS:
        with t.sub(subformat), t.folder() as folder:
            words = ("-f", "raw", "-O", "vmdk", "-o", f"subformat={subformat}", raw)
            said = vmimg_ok("measure", "--json", *words).json()["required"]
            vmimg_ok("convert", *words, os.path.join(folder, "d.vmdk"))
            took = sum(os.path.getsize(os.path.join(folder, name)) for name in os.listdir(folder))
            check(took <= said <= took * 2 + (12 * MIB if subformat == "streamOptimized" else MIB),
                  f"said {said}, took {took}")


if __name__ == "__main__":
    harness.main()
