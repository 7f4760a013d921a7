# SPDX-License-Identifier: Apache-2.0
"""VMDK changed in place, in one file and in several: what qemu-img and 7-Zip read then, and what is left of a
change that was cut off."""

import contextlib
import os
import shutil
import struct
import subprocess

from lib import disks, harness, layers, process, qemu
from lib.harness import check, equal
from lib.process import vmimg, vmimg_ok

MIB = 1 << 20
SIZE = 9 * MIB + 1024
HALF = 5 * MIB  # where the second extent of a split disk begins
KINDS = "monolithicSparse", "monolithicFlat", "twoGbMaxExtentSparse", "twoGbMaxExtentFlat"


PATCHES = ((100000, b"new" * 100), (HALF - 70000, b"\x11" * 140000), (8 * MIB, b"\x22" * 5000), (2 * MIB, bytes(MIB)))


def split(raw, kind, path):
    """A disk of two extents, which are those of two disks: writers begin a new one after 2 GiB."""
    lines = []
    for i, (start, length) in enumerate(((0, HALF), (HALF, SIZE - HALF))):
        with open(raw, "rb") as file, open(f"{raw}.{i}", "wb") as part:
            file.seek(start)
            part.write(file.read(length))
        vmimg_ok("convert", "-o", f"subformat={kind}", f"{raw}.{i}", path.replace(".vmdk", f"{i}.vmdk"))
        with open(path.replace(".vmdk", f"{i}.vmdk"), encoding="utf-8") as file:
            text = file.read()
        lines.append(next(line for line in text.splitlines() if line.startswith("RW ")))
        os.unlink(path.replace(".vmdk", f"{i}.vmdk"))
    with open(path, "w", encoding="utf-8") as file:
        file.write(text.replace(lines[1], "\n".join(lines)))


def chain(folder, kind, child="monolithicSparse"):
    """base.vmdk and child.vmdk on it; the raw disks that they are."""
    raw = disks.pattern(f"{folder}/a.raw", SIZE, seed=3, data=3 * MIB)
    changed = layers.change(raw, f"{folder}/b.raw", *PATCHES)
    if kind.startswith("two"):
        split(raw, kind, f"{folder}/base.vmdk")
    else:
        vmimg_ok("convert", "-o", f"subformat={kind}", raw, f"{folder}/base.vmdk")
    layers.child_of(f"{folder}/base.vmdk", raw, changed, f"{folder}/child.vmdk", "vmdk", "-o", f"subformat={child}")
    return raw, changed


def all_agree(path, raw, folder):
    want = disks.sha256(raw)
    layers.sound(path, os.path.basename(path))
    equal(process.guest_sha256(path), want, "vmimg")
    layers.peers_agree(path, want, "vmdk", folder)


def redundant_equal(path):
    """Both sets of grain tables of a sparse extent, and the byte that says they may differ."""
    with open(path, "rb") as file:
        head = file.read(512)
        capacity, grain = struct.unpack_from("<QQ", head, 12)
        per, = struct.unpack_from("<I", head, 44)
        places = struct.unpack_from("<QQ", head, 48)
        sets = []
        for place in places:
            file.seek(place * 512)
            directory = file.read(4 * (-(-capacity // (grain * per))))
            tables = b""
            for at, in struct.iter_unpack("<I", directory):
                file.seek(at * 512)
                tables += file.read(4 * per) if at else bytes(4 * per)
            sets.append(tables)
    check(sets[0] == sets[1], "the tables differ")
    equal(head[72], 0, "the mark of a change")


def test_commit(t):
    for kind in KINDS:
        with t.sub(kind), t.folder() as folder:
            _, changed = chain(folder, kind)
            before = disks.sha256(f"{folder}/base.vmdk") if kind != "monolithicSparse" else None
            vmimg_ok("commit", f"{folder}/child.vmdk")
            all_agree(f"{folder}/base.vmdk", changed, folder)
            equal(process.guest_sha256(f"{folder}/child.vmdk"), disks.sha256(changed), "the child")
            if before:
                equal(disks.sha256(f"{folder}/base.vmdk"), before, "the descriptor")
            for name in os.listdir(folder):
                if name.endswith(".vmdk") and open(f"{folder}/{name}", "rb").read(4) == b"KDMV":
                    redundant_equal(f"{folder}/{name}")


def test_children(t):
    """Rebased onto other disks and to none; children in one file and in several."""
    for kind in "monolithicSparse", "twoGbMaxExtentSparse":
        with t.sub(kind), t.folder() as folder:
            raw, changed = chain(folder, "monolithicSparse", kind)
            child = f"{folder}/child.vmdk"
            other = layers.change(raw, f"{folder}/c.raw", (3 * MIB, b"other" * 1000))
            vmimg_ok("convert", other, f"{folder}/other.vmdk")
            vmimg_ok("rebase", "-b", "other.vmdk", child)
            os.rename(f"{folder}/base.vmdk", f"{folder}/away")
            layers.sound(child, "on another parent")
            equal(process.guest_sha256(child), disks.sha256(changed), "on another parent")
            vmimg_ok("rebase", "-b", "", child)
            os.unlink(f"{folder}/other.vmdk")
            all_agree(child, changed, folder)
            os.rename(f"{folder}/away", f"{folder}/base.vmdk")
            vmimg_ok("rebase", "-b", "base.vmdk", child)
            equal(process.guest_sha256(child), disks.sha256(changed), "on a parent again")


def test_squeezed(t):
    raw = t.path("full.raw")
    with open(raw, "wb") as file:
        for i in range(10):
            file.write(bytes([i + 1]) * MIB)
    for kind in "monolithicSparse", "twoGbMaxExtentSparse":
        with t.sub(kind), t.folder() as folder:
            path = f"{folder}/a.vmdk"
            vmimg_ok("convert", "-o", f"subformat={kind}", raw, path)
            qemu.io(path, "write -P 0 2M 4M", fmt="vmdk")
            layers.change(raw, raw + ".z", (2 * MIB, bytes(4 * MIB)))
            vmimg_ok("compact", path)
            file = path if kind == "monolithicSparse" else f"{folder}/a-s001.vmdk"
            equal(os.path.getsize(file), 6 * MIB + 65536, "size")
            redundant_equal(file)
            all_agree(path, raw + ".z", folder)
            qemu.io(path, "write -P 9 3M 1M", fmt="vmdk")  # a peer goes on with it
            layers.change(raw + ".z", raw + ".y", (3 * MIB, b"\x09" * MIB))
            all_agree(path, raw + ".y", folder)


def test_settings(t):
    for kind in "monolithicSparse", "monolithicFlat":
        with t.sub(kind), t.folder() as folder:
            raw, changed = chain(folder, kind)
            base, child = f"{folder}/base.vmdk", f"{folder}/child.vmdk"
            vmimg_ok("set", base, "adapter=lsilogic", "hwversion=14", "geometry=100/16/63", "ddb.thinProvisioned=1",
                     "uuid=6000c29fe40c8733ea3ec31b2b4352e9")
            text = open(base, "rb").read(20000)
            for line in (b'ddb.adapterType = "lsilogic"', b'ddb.virtualHWVersion = "14"', b'ddb.thinProvisioned = "1"',
                         b'ddb.geometry.cylinders = "100"', b'ddb.uuid = "60 00 c2 9f e4 0c 87 33-ea 3e c3 1b 2b 43 52 e9"'):
                equal(text.count(line + b"\n"), 1, str(line))
            all_agree(base, raw, folder)
            equal(process.guest_sha256(child), disks.sha256(changed), "the child")
            vmimg_ok("set", base, "cid=new")
            equal(vmimg("convert", "-O", "raw", child, f"{folder}/no.raw").code, 4, "its child knows another")
            before = disks.sha256(base)
            for words in ["uuid=12"], ["geometry=1/2"], ["cid=ffffffff"], ["adapter=x"], ["creator=x"]:
                equal(vmimg("set", base, *words).code, 2, words[0])
                equal(disks.sha256(base), before, f"the image after {words[0]}")


def test_refused(t):
    raw, _ = chain(t.tmp, "streamOptimized")
    before = disks.sha256(t.path("base.vmdk"))
    result = vmimg("commit", t.path("child.vmdk"))
    check(result.code != 0 and "streamOptimized" in result.errors, str(result))
    equal(disks.sha256(t.path("base.vmdk")), before, "the image")


def poke(path, at, data):
    with open(path, "r+b") as file:
        file.seek(at)
        file.write(data)


def first_tables(path):
    """Where the tables are that the first entries of both directories lead to: redundant, first."""
    with open(path, "rb") as file:
        places = struct.unpack_from("<QQ", file.read(512), 48)
        tables = []
        for place in places:
            file.seek(place * 512)
            tables.append(struct.unpack("<I", file.read(4))[0] * 512)
    return tables


def test_shared_by_damage(t):
    """Two entries on one grain, a grain on a table, a table named twice: a change would change more than it is to."""
    for kind in "monolithicSparse", "twoGbMaxExtentSparse":
        with t.sub(kind), t.folder() as folder:
            chain(folder, kind)
            base, child = f"{folder}/base.vmdk", f"{folder}/child.vmdk"
            extent = base if kind == "monolithicSparse" else f"{folder}/base0-s001.vmdk"
            redundant, first = first_tables(extent)
            with open(extent, "rb") as file:
                content = file.read()
            used = [i for i in range(80) if any(content[first + 4 * i:first + 4 * i + 4])]
            entry = content[first + 4 * used[0]:first + 4 * used[0] + 4]
            directory, = struct.unpack_from("<Q", content, 56)
            for what, at, data in (("two entries", first + 4 * used[1], entry),
                                   ("a grain on a table", first + 4 * used[1], struct.pack("<I", redundant // 512)),
                                   ("past the end", first + 4 * used[1], b"\0\0\0\x70"),
                                   ("one table for both", directory * 512, struct.pack("<I", redundant // 512))):
                poke(extent, at, data)
                before = [disks.sha256(f"{folder}/{name}") for name in sorted(os.listdir(folder))]
                for words in ["commit", child], ["compact", "--no-fs", base], ["resize", base, "+1G"]:
                    if words[0] == "resize" and kind != "monolithicSparse":
                        continue
                    result = vmimg(*words)
                    check(result.code == 4 and ("repair it first" in result.errors or "outside the file" in result.errors),
                          f"{what}: {result}")
                    equal([disks.sha256(f"{folder}/{name}") for name in sorted(os.listdir(folder))], before, what)
                with open(extent, "wb") as file:
                    file.write(content)
            vmimg_ok("commit", child)


@contextlib.contextmanager
def holding(path, *options):
    """A qemu-io that has the disk open."""
    with subprocess.Popen(["qemu-io", "-f", "vmdk", *options, path], stdin=subprocess.PIPE,
                          stdout=subprocess.PIPE) as holder:
        holder.stdin.write(b"length\n")  # answered once it is open, and locked
        holder.stdin.flush()
        holder.stdout.readline()
        try:
            yield
        finally:
            holder.stdin.close()
            holder.wait()


def test_extents_locked(t):
    """Every file that would be written is locked for writing: who reads one extent is in the way, by whatever
    descriptor."""
    for kind in "twoGbMaxExtentSparse", "twoGbMaxExtentFlat":
        with t.sub(kind), t.folder() as folder:
            chain(folder, kind)
            base, child, other = f"{folder}/base.vmdk", f"{folder}/child.vmdk", f"{folder}/other.vmdk"
            with open(base, encoding="utf-8") as file:
                lines = file.readlines()
            extents = [line for line in lines if line.startswith("RW ")]
            for extent in extents:
                with open(other, "w", encoding="utf-8") as file:
                    file.writelines(line for line in lines if line not in extents or line == extent)
                for options in [], ["-r"]:
                    with holding(other, *options):
                        for words in ["commit", child], ["compact", "--no-fs", base]:
                            result = vmimg(*words)
                            check(result.code == 7 and " by process " in result.errors, f"{extent} {options}: {result}")
                with holding(other, "-r"):
                    vmimg_ok("digest", child)
            vmimg_ok("commit", child)


def test_cut_off(t):
    for kind in "monolithicSparse", "twoGbMaxExtentSparse":
        with t.folder() as folder:
            _, changed = chain(folder, "monolithicSparse", kind)
            os.mkdir(f"{folder}/f")
            for name in os.listdir(folder):
                if name.endswith(".vmdk"):
                    os.rename(f"{folder}/{name}", f"{folder}/f/{name}")
            shutil.copy(f"{folder}/f/base.vmdk", f"{folder}/f/another-base.vmdk")
            for words in (["set", "IMAGE", "geometry=10/16/63"], ["rebase", "-u", "-b", "another-base.vmdk", "IMAGE"],
                          ["compact", "--threads=1", "IMAGE"]):
                with t.sub(f"{kind}: {words[0]}"):
                    layers.cut_off(f"{folder}/f", "child.vmdk", (disks.sha256(changed),), *words)


def test_many_small_grains(t):
    """Grains of a sector, more than 2^32 of them: the numbers of two do not become one."""
    path, part = t.path("many.vmdk"), t.path("part")
    grains = (1 << 32) + 1024
    directory = 32
    table = directory + (grains // 512 * 4 + 511) // 512
    with open(path, "wb") as file:
        file.write(struct.pack("<IIIQQQQIQQQB4sH", 0x564d444b, 1, 1, grains, 1, 0, 0, 512, 0, directory, table, 0,
                               b"\n \r\n", 0).ljust(512, b"\0"))
        for at, data in (directory, struct.pack("<I", table)), (table, struct.pack("<I", table + 4)), (table + 4, b"\x55" * 512):
            file.seek(at * 512)
            file.write(data)
        file.truncate((table + 5) * 512)

    def sector(number):
        with contextlib.suppress(FileNotFoundError):
            os.unlink(part)
        vmimg_ok("dd", f"if={path}", f"of={part}", "bs=512", "count=1", f"skip={number}", "-O", "raw")
        with open(part, "rb") as file:
            return file.read(1)

    with open(t.path("in"), "wb") as file:
        file.write(b"\xaa" * 512)
    result = vmimg("dd", f"if={t.path('in')}", f"of={path}", "bs=512", f"seek={1 << 32}", "conv=notrunc")
    equal(sector(0), b"\x55", f"the first sector: {result}")
    equal(sector(1 << 32), b"\0" if result.code else b"\xaa", f"the one that was written: {result}")
    process.check_bars(result, "dd")


if __name__ == "__main__":
    harness.main()
