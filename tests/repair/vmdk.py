# SPDX-License-Identifier: Apache-2.0
"""VMDK extents repaired where they are: the guest's content after each damage, and what qemu-img and 7-Zip make of the
file then. Where a copy was left, nothing is lost."""

import os
import random
import shutil
import struct

from lib import disks, harness, layers, process, qemu
from lib.harness import check, equal
from lib.process import vmimg, vmimg_ok

MIB = 1 << 20
SIZE = 100 * MIB + 1024  # four tables
GRAIN = 65536


class Extent:
    """A hosted sparse extent, taken apart."""

    def __init__(self, path):
        self.path = path
        with open(path, "rb") as file:
            self.bytes = bytearray(file.read())
        self.rgd, self.gd = (512 * at for at in struct.unpack_from("<QQ", self.bytes, 48))
        self.count = -(-struct.unpack_from("<Q", self.bytes, 12)[0] // (512 * 128))

    def u32(self, at):
        return struct.unpack_from("<I", self.bytes, at)[0]

    def put(self, at, value, fmt="<I"):
        struct.pack_into(fmt, self.bytes, at, value)

    def table(self, directory, index):
        return 512 * self.u32(directory + 4 * index)

    def used(self):
        """Grains that are there, and where the entries of the first set stand."""
        return [(i, at) for i in range(4 * 512) for at in [self.table(self.gd, i // 512) + 4 * (i % 512)]
                if i < SIZE // GRAIN and self.u32(at) > 1]

    def other(self, at):
        """The redundant entry of one of the first set."""
        for i in range(self.count):
            first = self.table(self.gd, i)
            if first <= at < first + 2048:
                return self.table(self.rgd, i) + at - first
        raise ValueError(at)

    def save(self):
        with open(self.path, "wb") as file:
            file.write(self.bytes)


def image(folder, **options):
    """a.vmdk and the raw disk that it is."""
    raw = disks.pattern(f"{folder}/a.raw", SIZE, seed=5, data=6 * MIB)
    words = [word for key, value in options.items() for word in ("-o", f"{key}={value}")]
    vmimg_ok("convert", "-q", *words, raw, f"{folder}/a.vmdk")
    return f"{folder}/a.vmdk", raw


def peers_agree(path, want, folder):
    """want: the guest's digest; None: whatever vmimg says."""
    want = want or process.guest_sha256(path)
    equal(process.guest_sha256(path), want, "vmimg")
    layers.peers_agree(path, want, "vmdk", folder)


def mended(path, want, folder, code=0, checked=2):
    """Repaired in place: sound, complete when code is 0, and a second repair has nothing to do."""
    check(vmimg("check", "-q", path).code == checked, "the damage was not noticed")
    result = vmimg("repair", "--json", "--in-place", path)
    equal(result.code, code, f"repair ({result}) {result.text[-600:]}")
    layers.sound(path, "repaired")
    peers_agree(path, want, folder)
    before = disks.sha256(path)
    again = vmimg_ok("repair", "--json", "--in-place", path).json()
    equal(again["fixed"], [], "fixes, the second time")
    equal(disks.sha256(path), before, "the image after a second repair")
    return result.json()


def swap_tables(x):
    """The first directory's entries 0 and 1 are lost; so is another one's of the redundant directory."""
    x.put(x.gd, 0x7fffffff)
    x.put(x.gd + 4, x.u32(x.gd + 8))
    x.put(x.rgd + 12, 5)


def both_entries(x):
    x.put(x.gd + 4, 0xfffffff0)
    x.put(x.rgd + 4, 0xfffffff0)


def both_on_another(x):
    """Both entries lead to tables that are others' already."""
    x.put(x.gd + 4, x.u32(x.gd + 8))
    x.put(x.rgd + 4, x.u32(x.rgd))


def garbage(x, directory, index):
    at = x.table(directory, index)
    x.bytes[at:at + 2048] = random.Random(3).randbytes(2048)


def mix(x):
    """Entries of both tables are bad, of other grains."""
    entries = [at for _, at in x.used()]
    x.put(entries[0], 0x70000000)
    x.put(x.other(entries[1]), 0x70000000)
    x.put(entries[2], 2)  # into the descriptor
    x.put(entries[3], x.u32(entries[4]))  # two on one grain
    x.put(x.other(entries[5]), 0)


COPIED = {
    "first directory": lambda x: x.put(x.gd, 0x7fffffff),
    "redundant directory": lambda x: x.put(x.rgd + 4, 0x7fffffff),
    "entries of both directories, of different tables": swap_tables,
    "the same entry of both directories": both_entries,
    "the same entry of both, on others' tables": both_on_another,
    "a directory of zeroes": lambda x: x.bytes.__setitem__(slice(x.gd, x.gd + 16), bytes(16)),
    "one table for two entries": lambda x: x.put(x.gd + 4, x.u32(x.gd)),
    "an entry that names the other set's table": lambda x: x.put(x.gd, x.u32(x.rgd)),
    "first table of garbage": lambda x: garbage(x, x.gd, 1),
    "redundant table of garbage": lambda x: garbage(x, x.rgd, 0),
    "a table of zeroes": lambda x: x.bytes.__setitem__(slice(x.table(x.gd, 0), x.table(x.gd, 0) + 2048), bytes(2048)),
    "bad entries in both tables": mix,
    "gdOffset past the end": lambda x: x.put(56, 1 << 40, "<Q"),
    "gdOffset into the descriptor": lambda x: x.put(56, 3, "<Q"),
    "rgdOffset past the end": lambda x: x.put(48, 1 << 40, "<Q"),
    "rgdOffset is gdOffset": lambda x: x.put(48, x.gd // 512, "<Q"),
    "line ends": lambda x: x.bytes.__setitem__(slice(73, 77), b"\x12\x34\n\n"),
}


def test_from_the_copy(t):
    for what, damage in COPIED.items():
        with t.sub(what), t.folder() as folder:
            path, raw = image(folder)
            x = Extent(path)
            damage(x)
            x.save()
            shutil.copy(path, f"{folder}/b.vmdk")
            mended(path, disks.sha256(raw), folder, checked=4 if what == "line ends" else 2)
            if what == "gdOffset into the descriptor":
                continue  # what is read there is no directory, but does not tell
            result = vmimg("repair", "-q", "-o", f"{folder}/new.vmdk", f"{folder}/b.vmdk")
            check(result.code in (0, 2), f"into a new image: {result}")


def expected(raw, folder, *grains):
    """The raw disk with zeroes for those grains."""
    return disks.sha256(layers.change(raw, f"{folder}/want.raw", *((i * GRAIN, bytes(GRAIN)) for i in grains)))


def test_lost(t):
    """Bad in both sets: zeroes, said and counted."""
    for what, value in ("past the end", 0x70000000), ("into the header", 1 << 31), ("on another", None):
        with t.sub(what), t.folder() as folder:
            path, raw = image(folder)
            x = Extent(path)
            used = x.used()
            for at in used[7][1], x.other(used[7][1]):
                x.put(at, x.u32(used[6][1]) if value is None else value)
            x.save()
            report = mended(path, expected(raw, folder, used[7][0]), folder, code=2)
            equal(report["entries-given-up"], 1, "entries given up")
    with t.sub("a whole table"), t.folder() as folder:
        path, raw = image(folder)
        x = Extent(path)
        for directory in x.gd, x.rgd:
            garbage(x, directory, 1)
            x.put(directory + 4, 0x7fffffff)
        x.save()
        report = mended(path, expected(raw, folder, *range(512, 1024)), folder, code=2)
        equal(report["lost-bytes"], 512 * GRAIN, "bytes lost")


def test_child(t):
    """Where a grain of a child is lost there are zeroes, not what the parent has."""
    raw = disks.pattern(t.path("p.raw"), SIZE, seed=6, data=6 * MIB)
    vmimg_ok("convert", raw, t.path("p.vmdk"))
    changed = layers.change(raw, t.path("c.raw"), (3 * MIB, b"\x33" * MIB), (50 * MIB, b"\x44" * MIB))
    child = layers.child_of(t.path("p.vmdk"), raw, changed, t.path("c.vmdk"), "vmdk")
    x = Extent(child)
    used = x.used()
    for at in used[2][1], x.other(used[2][1]):
        x.put(at, 0x70000000)
    x.save()
    equal(vmimg("repair", "-q", "--in-place", child).code, 2, "repair")
    layers.sound(child, "the child")
    want = expected(changed, t.tmp, used[2][0])
    equal(process.guest_sha256(child), want, "vmimg")
    qemu.img("check", "-q", "-f", "vmdk", child)
    equal(qemu.guest_sha256(child, "vmdk", t.tmp), want, "qemu-img")


def test_split(t):
    """Extents by their own names; the descriptor says so."""
    path, raw = image(t.tmp, subformat="twoGbMaxExtentSparse")
    extent = t.path("a-s001.vmdk")
    x = Extent(extent)
    x.put(x.used()[-1][1], 0x7fffffff)
    x.put(x.gd, 0x7fffffff)
    x.save()
    result = vmimg("repair", "--in-place", path)
    check(result.code == 4 and "a-s001.vmdk" in result.errors, str(result))
    vmimg_ok("repair", "-q", "--in-place", extent)
    layers.sound(extent, "the extent")
    equal(process.guest_sha256(path), disks.sha256(raw), "vmimg")
    equal(qemu.guest_sha256(path, "vmdk", t.tmp), disks.sha256(raw), "qemu-img")
    vmimg_ok("compact", "--no-fs", path)  # it can be changed again
    equal(process.guest_sha256(path), disks.sha256(raw), "squeezed")


def test_parent_changed(t):
    """A parent with another CID is not what repair looks at: rebase -u takes what it has now."""
    raw = disks.pattern(t.path("p.raw"), SIZE, seed=6, data=6 * MIB)
    vmimg_ok("convert", raw, t.path("p.vmdk"))
    changed = layers.change(raw, t.path("c.raw"), (3 * MIB, b"\x33" * MIB))
    child = layers.child_of(t.path("p.vmdk"), raw, changed, t.path("c.vmdk"), "vmdk")
    vmimg_ok("set", t.path("p.vmdk"), "cid=new")
    equal(vmimg("digest", child).code, 4, "the parent is another")
    before = disks.sha256(child)
    vmimg_ok("repair", "-q", "--in-place", child)
    equal(disks.sha256(child), before, "the child")
    vmimg_ok("rebase", "-u", "-b", "p.vmdk", child)
    equal(process.guest_sha256(child), disks.sha256(changed), "the child")
    equal(qemu.guest_sha256(child, "vmdk", t.tmp), disks.sha256(changed), "qemu-img")


def test_unclean(t):
    """Not closed, with tables that differ: the first ones count, and the mark goes."""
    path, raw = image(t.tmp)
    x = Extent(path)
    used = x.used()
    x.bytes[72] = 1
    x.put(used[0][1], 0)
    x.put(x.other(used[1][1]), 0)
    x.save()
    vmimg_ok("repair", "-q", "--in-place", path)
    equal(vmimg_ok("info", "--json", path).json()["dirty-flag"], False, "the mark")
    layers.sound(path, "repaired")
    peers_agree(path, expected(raw, t.tmp, used[0][0]), t.tmp)
    vmimg_ok("resize", path, "+64M")


def test_text_mode(t):
    """A transfer that changed more than the header is not undone by four bytes."""
    for ends, old, new in (b"\n \n\n", b"\r", b"\n"), (b"\r \r\r", b"\n", b"\r"):
        with t.sub(repr(new)), t.folder() as folder:
            path, raw = image(folder)
            with open(path, "rb") as file:
                data = file.read()
            with open(path, "wb") as file:
                file.write(data.replace(old, new))
            result = vmimg("repair", "-q", "--in-place", path)
            check(result.code in (2, 4), f"repair: {result}")
            with open(path, "wb") as file:
                file.write(data[:73] + ends + data[77:])
            mended(path, disks.sha256(raw), folder, checked=4)


def grains_of(path):
    """Of a stream: (guest offset, place, size of the packed data), by its markers."""
    with open(path, "rb") as file:
        data = file.read()
    at, found = 128 * 512, []
    while at < len(data):
        value, size, kind = struct.unpack_from("<QII", data, at)
        if size:
            found.append((value * 512, at, size))
            at += -(-(12 + size) // 512) * 512
        else:
            at += 512 * (1 + value)
    return found


def stream(folder):
    path, raw = image(folder, subformat="streamOptimized")
    with open(path, "rb") as file:
        return path, raw, file.read()


def save(path, data):
    with open(path, "wb") as file:
        file.write(data)


def test_stream_whole(t):
    """Footer or directory lost: everything is found by the markers."""
    cases = {
        "no end of stream": lambda d: d[:-512],
        "no footer": lambda d: d[:-1024],
        "no footer marker": lambda d: d[:-1536],
        "a footer of zeroes": lambda d: d[:-1024] + bytes(1024),
        "a footer of another disk": lambda d: d[:-1012] + b"\1" + d[-1011:],
        "a footer that leads nowhere": lambda d: d[:-968] + b"\xff\xff\xff\x7f" + d[-964:],
        "a directory that leads nowhere": lambda d: d[:-2048] + b"\xff" * 8 + d[-2040:],
        "something behind it": lambda d: d + b"junk" * 700,
    }
    for what, damage in cases.items():
        with t.sub(what), t.folder() as folder:
            path, raw, data = stream(folder)
            save(path, damage(data))
            shutil.copy(path, f"{folder}/b.vmdk")
            mended(path, disks.sha256(raw), folder)
            vmimg_ok("repair", "-q", "-o", f"{folder}/new.vmdk", f"{folder}/b.vmdk")
            equal(process.guest_sha256(f"{folder}/new.vmdk"), disks.sha256(raw), "a new image")


def test_stream_cut(t):
    """The end is gone: what is there is kept, and the rest of the disk is said to be lost."""
    path, raw, data = stream(t.tmp)
    grains = grains_of(path)
    for keep in 1, len(grains) // 2, len(grains) - 1:
        for extra in 0, 20:
            with t.sub(f"{keep} grains and {extra} bytes"):
                save(path, data[:grains[keep][1] + extra])
                want = layers.change(raw, t.path("want.raw"))
                end = grains[keep - 1][0] + GRAIN
                os.truncate(want, end)
                os.truncate(want, SIZE)
                report = mended(path, disks.sha256(want), t.tmp, code=2)
                equal([(r["start"], r["length"]) for r in report["lost-ranges"]], [(end, SIZE - end)], "lost")
    with t.sub("nothing left"):
        save(path, data[:128 * 512])
        equal(vmimg("repair", "-q", "--in-place", path).code, 4, "repair")


def test_stream_gap(t):
    """A marker in the middle is damaged, and the end is gone as well: what lies around it is found."""
    path, raw, data = stream(t.tmp)
    grains = grains_of(path)
    bad = next(i for i in range(5, len(grains)) if grains[i][0] == grains[i - 1][0] + GRAIN)
    data = bytearray(data[:-1024])
    data[grains[bad][1]:grains[bad][1] + 16] = b"\xee" * 16
    with t.sub("with the directory"):
        save(path, data)
        report = vmimg("repair", "--json", "--in-place", path)
        equal(report.code, 2, "the grain whose marker is bad")
        layers.sound(path, "repaired")
        peers_agree(path, expected(raw, t.tmp, grains[bad][0] // GRAIN), t.tmp)
    with t.sub("without"):
        save(path, data[:grains[-1][1] + 512 * (-(-(12 + grains[-1][2]) // 512))])
        report = mended(path, expected(raw, t.tmp, grains[bad][0] // GRAIN), t.tmp, code=2)
        start, last = grains[bad - 1][0] + GRAIN, grains[-1][0] + GRAIN
        equal([(r["start"], r["start"] + r["length"]) for r in report["lost-ranges"]],
              [(start, grains[bad + 1][0])] + ([(last, SIZE)] if last < SIZE else []), "lost")


def test_stream_of_qemu(t):
    """Directory in front, no footer, grains in any order."""
    raw = disks.pattern(t.path("a.raw"), SIZE, seed=5, data=6 * MIB)
    path = t.path("a.vmdk")
    qemu.img("create", "-q", "-f", "vmdk", "-o", "subformat=streamOptimized", path, str(SIZE))
    with open(raw, "rb") as file:
        data = file.read()
    order = [i for i in range(SIZE // GRAIN) if any(data[i * GRAIN:(i + 1) * GRAIN])]
    random.Random(1).shuffle(order)
    for i in order[:40]:
        with open(t.path("g"), "wb") as file:
            file.write(data[i * GRAIN:(i + 1) * GRAIN])
        qemu.io(path, f"write -q -s {t.path('g')} {i * GRAIN} 64k", fmt="vmdk")
    want = process.guest_sha256(path)
    x = Extent(path)
    last = 512 * max(x.u32(at) for _, at in x.used())
    for directory in x.gd, x.rgd:
        x.bytes[directory:directory + 8] = b"\xff" * 8
    x.save()
    whole = bytes(x.bytes)
    mended(path, want, t.tmp)
    save(path, whole[:last + 100])
    report = mended(path, None, t.tmp, code=2)
    check(report["lost-bytes"] > 90 * MIB, "all that is not found may be lost")


def test_any_damage(t):
    """Whatever stands in directories and tables: what comes out is sound, and stays so."""
    for kind in "monolithicSparse", "streamOptimized":
        with t.folder() as folder:
            path, _ = image(folder, subformat=kind)
            whole = Extent(path)
            first = 512 if kind == "streamOptimized" else whole.rgd
            end = len(whole.bytes) if kind == "streamOptimized" else whole.table(whole.gd, 3) + 2048
            for seed in range(60):
                with t.sub(f"{kind} {seed}"):
                    dice = random.Random(seed)
                    data = bytearray(whole.bytes)
                    for _ in range(dice.choice((1, 3, 20))):
                        at = dice.randrange(first, end - 8)
                        if kind == "streamOptimized" and dice.random() < .7:
                            at = dice.randrange(len(data) - 12000, len(data) - 8)
                        data[at:at + 4] = dice.choice((dice.randbytes(4), bytes(4), b"\1\0\0\0", data[at - 4:at],
                                                       struct.pack("<I", dice.randrange(len(data) // 512))))
                    save(path, data)
                    result = vmimg("repair", "-q", "--in-place", path)
                    check(result.code in (0, 2, 4), str(result))
                    if result.code == 4:
                        check(open(path, "rb").read() == data, "a repair that failed changed it")
                        continue
                    found = vmimg("check", "--json", path)
                    check(found.code in (0, 2), f"check: {found}")
                    if found.code == 0:
                        qemu.img("check", "-q", "-f", "vmdk", path)
                    before = disks.sha256(path)
                    again = vmimg("repair", "--json", "--in-place", path)
                    equal(again.json()["fixed"], [], "fixes, the second time")
                    equal(disks.sha256(path), before, "the image after a second repair")


if __name__ == "__main__":
    harness.main()
