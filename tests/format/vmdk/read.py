# SPDX-License-Identifier: Apache-2.0
"""Reading the kinds of VMDK that no tool at hand writes (made.py), and descriptors of every spelling."""

import os
import random

import made
from lib import harness, process, qemu
from lib.harness import check, equal


def write(path, data):
    with open(path, "wb") as file:
        file.write(data.encode() if isinstance(data, str) else data)
    return path


def content(t, image, *options):
    """The guest's bytes."""
    out = t.path("out.raw")
    process.vmimg_ok("convert", "--force", "-O", "raw", *options, image, out)
    with open(out, "rb") as file:
        return file.read()


def some_grains(seed, count, size, chosen=8):
    """A few grains of random bytes, the first and the last among them."""
    rng = random.Random(seed)
    numbers = {0, count - 1} | {rng.randrange(count) for _ in range(chosen)}
    return {n: rng.randbytes(size) for n in sorted(numbers)}


def test_cowd(t):
    """Grains of one sector and of more, as the only layer and over a parent."""
    for grain in (1, 8):
        with t.sub(f"{grain} sectors a grain"):
            capacity = 4096 * grain * 3 + 5
            count = -(-capacity // grain)
            grains = some_grains(grain, count, grain * 512)
            write(t.path("d-delta.vmdk"), made.cowd(capacity, grains, grain))
            image = write(t.path("d.vmdk"), made.descriptor(
                f'RW {capacity} VMFSSPARSE "d-delta.vmdk"', kind="vmfsSparse"))
            want = made.raw(capacity * 512, grain * 512, grains)
            check(content(t, image) == want, "content differs")
            check(content(t, t.path("d-delta.vmdk")) == want, "content through the extent differs")
            result = process.vmimg("check", "--refs=beside", image)
            equal(result.code, 0, f"check: {result}{result.text}")
    with t.sub("over a parent"):
        base = bytes(range(256)) * (capacity * 2)
        write(t.path("base-flat.vmdk"), base)
        write(t.path("base.vmdk"), made.descriptor(
            f'RW {capacity} VMFS "base-flat.vmdk"', cid="0badcafe", kind="vmfs"))
        write(t.path("d.vmdk"), made.descriptor(
            f'RW {capacity} VMFSSPARSE "d-delta.vmdk"', parent="0badcafe", kind="vmfsSparse",
            extra=['parentFileNameHint="base.vmdk"']))
        check(content(t, t.path("d.vmdk")) == made.raw(capacity * 512, grain * 512, grains, base),
              "content differs")


def test_cowd_agrees_with_qemu(t):
    """QEMU reads COWD too."""
    harness.need("qemu-img")
    capacity = 4096 * 4
    write(t.path("d-delta.vmdk"), made.cowd(capacity, some_grains(3, capacity, 512)))
    write(t.path("d.vmdk"), made.descriptor(
        f'RW {capacity} VMFSSPARSE "d-delta.vmdk"', kind="vmfsSparse"))
    equal(process.guest_sha256(t.path("d.vmdk")),
          qemu.guest_sha256(t.path("d.vmdk"), "vmdk", t.tmp), "content")


def test_sesparse(t):
    """Data, zero, unmapped and absent grains, over a parent."""
    capacity = 8 * 4096 * 2 + 24
    size, count = capacity * 512, -(-capacity // 8)
    grains = some_grains(7, count, 4096)
    grains[2] = None
    unmapped = [n for n in (4, 4100) if n not in grains]
    base = bytes([0x5a]) * size
    write(t.path("base-flat.vmdk"), base)
    write(t.path("base.vmdk"), made.descriptor(
        f'RW {capacity} VMFS "base-flat.vmdk"', cid="00000001", kind="vmfs"))
    write(t.path("d-sesparse.vmdk"), made.sesparse(capacity, grains, unmapped))
    write(t.path("d.vmdk"), made.descriptor(
        f'RW {capacity} SESPARSE "d-sesparse.vmdk"', parent="00000001", kind="seSparse",
        extra=['parentFileNameHint="base.vmdk"']))
    want = made.raw(size, 4096, {**grains, **{n: None for n in unmapped}}, base)
    check(content(t, t.path("d.vmdk")) == want, "content differs")
    result = process.vmimg("check", t.path("d-sesparse.vmdk"))
    equal(result.code, 0, f"check: {result}")
    with t.sub("agrees with qemu"):
        equal(process.guest_sha256(t.path("d.vmdk")),
              qemu.guest_sha256(t.path("d.vmdk"), "vmdk", t.tmp), "content")
    with t.sub("a journal that waits"):
        write(t.path("d-sesparse.vmdk"), made.sesparse(capacity, grains, replay=1))
        result = process.vmimg("convert", "-O", "raw", t.path("d.vmdk"), t.path("no.raw"))
        equal(result.code, 4, str(result))
        check("journal" in result.errors, str(result))


def test_streams(t):
    """The directory at either end, markers or none, a last grain that is short."""
    capacity = 128 * 512 * 2 + 128 * 3 + 5
    count = -(-capacity // 128)
    grains = {n: bytes([n % 251 + 1]) * 40000 for n in (0, 5, 511, 512, 1024, count - 1)}
    grains[7] = random.Random(1).randbytes(65536)  # larger when packed
    last = (capacity % 128) * 512
    grains[count - 1] = random.Random(2).randbytes(last)
    want = made.raw(capacity * 512, 65536, grains)
    for name, how in (("footer", {}), ("directory named in the header", {"at_end": False}),
                      ("no markers", {"at_end": False, "markers": False, "flags": 0x10001}),
                      ("a short last grain", {"short": True})):
        with t.sub(name):
            here = dict(grains)
            if "short" in how:
                here = {n: data if n == count - 1 else data.ljust(65536, b"\0")
                        for n, data in grains.items()}
            image = write(t.path("s.vmdk"), made.stream(capacity, here, **how))
            check(content(t, image) == want, "content differs")
            result = process.vmimg("check", image)
            equal(result.code, 0, f"check: {result}{result.text}")
    with t.sub("a short grain that is not the last"):
        image = write(t.path("s.vmdk"), made.stream(capacity, {0: bytes(1000)}, short=True))
        result = process.vmimg("convert", "-O", "raw", image, t.path("no.raw"))
        equal(result.code, 4, str(result))
        equal(process.vmimg("check", image).code, 2, "check")


def test_extents_of_every_type(t):
    """ZERO, RDONLY, NOACCESS and FLAT with an offset keep their places."""
    write(t.path("a.bin"), b"\1" * 2048)
    write(t.path("b.bin"), b"\2" * 1024 + b"\3" * 1024)
    image = write(t.path("d.vmdk"), made.descriptor(
        "RW 2 ZERO", 'RW 4 FLAT "a.bin" 0', "RDONLY 1 ZERO", 'RDONLY 2 FLAT "b.bin" 2',
        'NOACCESS 3 FLAT "nowhere.bin" 0', 'RW 1 FLAT "b.bin" 1'))
    want = bytes(1024) + b"\1" * 2048 + bytes(512) + b"\3" * 1024 + bytes(1536) + b"\2" * 512
    equal(content(t, image), want, "content")


def test_old_spellings(t):
    """2GbMaxExtent*, and descriptors that are spelled oddly."""
    write(t.path("d-f001.vmdk"), b"\7" * 65536)
    texts = {
        "2GbMaxExtentFlat": made.descriptor('RW 128 FLAT "d-f001.vmdk" 0', kind="2GbMaxExtentFlat"),
        "order": 'version=1\nparentCID=ffffffff\nRW 128 FLAT "d-f001.vmdk" 0\ncreateType="custom"\nCID=1a2b3c4d\n',
        "blanks": "\n\n # Disk DescriptorFile \r\n\tCID  =  1A2B3C4D \r\nPARENTcid=FFFFFFFF\r\n"
                  "rw   128\tflat  d-f001.vmdk\r\n",
        "byte order mark": "\ufeff" + made.descriptor('RW 128 FLAT "d-f001.vmdk"', cid="1a2b3c4d"),
    }
    for name, text in texts.items():
        with t.sub(name):
            image = write(t.path("d.vmdk"), text)
            equal(content(t, image), b"\7" * 65536, "content")
            info = process.vmimg_ok("info", "--json", image).json()
            data = info["format-specific"]["data"]
            equal(data["parent-cid"], 0xffffffff, "parent-cid")
            if name != "2GbMaxExtentFlat":
                equal(data["cid"], 0x1a2b3c4d, "cid")


def test_encodings(t):
    """Names in the code pages that VMware's products write."""
    names = {"UTF-8": "päck-磁盘", "windows-1252": "Küche-£", "windows-1251": "диск", "Shift_JIS": "仮想ディスク-ソ",
             "GBK": "虚拟磁盘", "Big5": "虛擬磁碟-功"}
    for encoding, name in names.items():
        with t.sub(encoding):
            write(t.path(name + ".bin"), b"\7" * 1024)
            text = made.descriptor(f'RW 2 FLAT "{name}.bin" 0', extra=[f'encoding="{encoding}"'])
            image = write(t.path("d.vmdk"), text.encode(
                {"Shift_JIS": "cp932", "windows-1252": "cp1252", "windows-1251": "cp1251"}.get(
                    encoding, encoding)))
            equal(content(t, image), b"\7" * 1024, "content")
    with t.sub("an encoding that is not known"):
        raw_name = b"d\xff\xfe.bin"
        with open(os.path.join(t.tmp.encode(), raw_name), "wb") as file:
            file.write(b"\7" * 1024)
        text = made.descriptor('RW 2 FLAT "NAME" 0', extra=['encoding="klingon"']).encode()
        image = write(t.path("d.vmdk"), text.replace(b"NAME", raw_name))
        equal(content(t, image), b"\7" * 1024, "content")


def test_an_extent_leads_to_its_descriptor(t):
    """Given a part, the whole disk is read; without a descriptor that is an error that says so."""
    harness.need("qemu-img")
    for subformat, part in (("twoGbMaxExtentSparse", "d-s002.vmdk"), ("monolithicFlat", "d-flat.vmdk")):
        with t.sub(subformat), t.folder() as folder:
            image = os.path.join(folder, "d.vmdk")
            qemu.create(image, "vmdk", 3 << 30, subformat=subformat)
            qemu.io(image, "write -P 7 1M 64k", "write -P 8 2500M 64k", fmt="vmdk")
            part = os.path.join(folder, part)
            equal(process.guest_sha256(part, "-f", "vmdk"), process.guest_sha256(image), "content")
            os.unlink(image)
            result = process.vmimg("digest", "-f", "vmdk", part)
            check(result.code == 4 and "descriptor" in result.errors, str(result))


def test_missing_extents_are_told_together(t):
    image = write(t.path("d.vmdk"), made.descriptor(
        *[f'RW 2 FLAT "part-{n}.bin" 0' for n in range(200)]))
    write(t.path("part-3.bin"), bytes(1024))
    result = process.vmimg("digest", image)
    process.check_one_line(result)
    check(result.code == 1 and "199" in result.errors and "part-0.bin" in result.errors and
          "part-3.bin" not in result.errors, str(result))


def test_redundant_directory(t):
    """A directory that is destroyed wholly is replaced by its copy."""
    harness.need("qemu-img")
    image = qemu.create(t.path("d.vmdk"), "vmdk", 64 << 20)
    qemu.io(image, "write -P 7 40M 1M", fmt="vmdk")
    want = process.guest_sha256(image)
    with open(image, "r+b") as file:
        file.seek(56)
        file.seek(int.from_bytes(file.read(8), "little") * 512)
        file.write(b"\xee" * 8)
    result = process.vmimg_ok("digest", image)
    check("redundant" in result.errors, str(result))
    equal(result.text.split()[0], want, "content")


if __name__ == "__main__":
    harness.main()
