# SPDX-License-Identifier: Apache-2.0
"""New content for a QCOW2 image that is there: what qemu-img sees afterwards, in the image and in its snapshots."""

import os
import random
import shutil
import struct

from lib import disks, env, harness, qemu
from lib.harness import check, equal
from lib.process import run, vmimg, vmimg_ok
from lib.qemu import content, sound

SIZE = (24 << 20) + 1536
DRIVE = os.environ.get("VMIMG_EDIT_DRIVE", os.path.join(env.BUILD, "tests/edit-drive"))
# options of the image; whether it may have a parent, snapshots
VARIANTS = [("", True, True), ("cluster_size=512", True, True), ("cluster_size=2M", True, True), ("extended_l2=on", True, True),
            ("extended_l2=on,cluster_size=16k", True, True), ("refcount_bits=1", True, False), ("refcount_bits=64", False, True),
            ("cluster_size=4k,lazy_refcounts=on", True, True), ("compat=0.10", True, True), ("compat=0.10", False, True),
            ("compression_type=zstd,cluster_size=4k", True, True), ("data_file=data.raw", True, False),
            ("data_file=data.raw,extended_l2=on", True, False), ("data_file=data.raw,data_file_raw=on", False, False)]


def drive(path, *words):
    result = run(DRIVE, path, *words)
    check(result.code == 0, f"{words}: {result}{result.text[:400]}")
    return result


def scribble(path, seed, unit=4096, count=60):
    """Writes, zeroes and discards all over a disk."""
    rng = random.Random(seed)
    commands = []
    for _ in range(count):
        length = rng.choice([1, 3, 16, 40, 200]) * unit
        at = rng.randrange(0, SIZE - length) // unit * unit
        kind = rng.choice([f"write -P {rng.randrange(1, 255)}"] * 3 + ["write -z", "write -z -u", "discard"])
        commands.append(f"{kind} {at} {length}")
    qemu.io(path, *commands)


def make(t, options, parent, packed):
    """An image with a past, and its parent, in a folder that is the current one: QEMU looks there for data files."""
    folder = t.path("work")
    shutil.rmtree(folder, ignore_errors=True)
    os.mkdir(folder)
    os.chdir(folder)
    raw = disks.pattern("base.raw", SIZE, seed=5, data=8 << 20)
    path = os.path.join(folder, "disk.qcow2")
    if not parent:
        vmimg_ok("convert", "-O", "qcow2", *(["-o", options] if options else []), *packed, raw, path)
    else:
        text = ",".join(filter(None, [options, "backing_file=base.raw,backing_fmt=raw"]))
        qemu.img("create", "-q", "-f", "qcow2", "-o", text, path, str(SIZE))
        if packed:
            qemu.io(path, *[f"write -c -P {at + 1} {at}M {4 if 'size=4k' in options else 64}k" for at in range(12)])
    scribble(path, 1)
    return path


def overlay(t, path):
    """An overlay over a copy of the image, with changes of all kinds, and the content of both together."""
    folder, over = t.path("old"), t.path("over.qcow2")
    shutil.rmtree(folder, ignore_errors=True)
    shutil.copytree(os.path.dirname(path), folder)
    os.chdir(folder)
    qemu.img("create", "-q", "-f", "qcow2", "-b", os.path.join(folder, "disk.qcow2"), "-F", "qcow2",
             "-o", "cluster_size=4k", over)
    scribble(over, 3)
    wanted = content(over)
    os.chdir(os.path.dirname(path))
    return over, wanted


def variants():
    for options, parent, snapshots in VARIANTS:
        for packed in [False, True] if "data_file" not in options and "=512" not in options and "2M" not in options else [False]:
            yield options, parent, snapshots, ["-c"] if packed else []


def test_content(t):
    for options, parent, snapshots, packed in harness.part(variants()):
        with t.sub(f"{options or 'plain'}{' packed' if packed else ''}{' over a parent' if parent else ''}"):
            path = make(t, options, parent, packed)
            if snapshots:
                qemu.img("snapshot", "-c", "one", path)
                scribble(path, 2, count=10)
            first = content(path, "-l", "one") if snapshots else None
            over, wanted = overlay(t, path)
            drive(path, "update", over, "qcow2")
            sound(path, "updated")
            equal(content(path), wanted, "content")
            if snapshots:
                equal(content(path, "-l", "one"), first, "the snapshot")
                qemu.img("snapshot", "-a", "one", path)
                equal(content(path), first, "the snapshot applied")
                sound(path, "applied")
            if "raw=on" in options:
                equal(disks.sha256("data.raw"), wanted, "the raw data file")
                continue
            drive(path, "empty")
            sound(path, "empty")
            if parent:
                equal(content(path), disks.sha256("base.raw"), "what shows")


def test_squeeze(t):
    for options, _, snapshots, packed in harness.part(variants(), start=1):
        if options not in ("", "extended_l2=on", "refcount_bits=1", "cluster_size=4k,lazy_refcounts=on"):
            continue
        with t.sub(f"{options or 'plain'}{' packed' if packed else ''}"):
            path = make(t, options, False, packed)
            if snapshots:
                for number in range(3):
                    qemu.img("snapshot", "-c", str(number), path)
                    scribble(path, number, count=15)
                qemu.img("snapshot", "-d", "1", path)
            qemu.io(path, *[f"discard {at}M 512k" for at in range(0, 24, 2)])
            states = [["-l", str(number)] for number in (0, 2)] if snapshots else []
            before = [content(path, *state) for state in [[]] + states]
            size = os.path.getsize(path)
            saved = int(drive(path, "squeeze").out)
            sound(path, "squeezed")
            equal(size - os.path.getsize(path), saved, "what it says it saved")
            equal([content(path, *state) for state in [[]] + states], before, "contents")
            check(saved > 400 << 10, f"{saved} bytes saved of {size}")
            equal(int(drive(path, "squeeze").out), 0, "again")


def extensions(path):
    """The header extensions, and where they begin."""
    with open(path, "rb") as file:
        head = file.read(65536)
    at = start = struct.unpack(">I", head[100:104])[0] if head[7] == 3 else 72
    found = []
    while True:
        kind, length = struct.unpack(">II", head[at:at + 8])
        if not kind:
            return found, start
        found.append((kind, head[at + 8:at + 8 + length]))
        at += 8 + (length + 7) // 8 * 8


def test_parent(t):
    for options in harness.part(("", "compat=0.10", "cluster_size=512", "cluster_size=1k", "extended_l2=on", "data_file=data.raw"), start=2):
        with t.sub(options or "plain"):
            path = make(t, options, False, [])
            if not options:  # an extension that nobody knows
                with open(path, "r+b") as file:
                    file.seek(112)
                    rest = file.read(1000)
                    file.seek(112)
                    file.write(struct.pack(">II", 0x12345678, 5) + b"hello\0\0\0" + rest)
            before = content(path)
            for length, fmt in (5, "raw"), (60, "qcow2"), (900, "raw"), (1023, None), (3, "raw"), (None, None), (1000, "vmdk"):
                if length and length > 300 and "=512" in options or length and length >= 900 and "=1k" in options:
                    continue
                name = ("ab/" * 400)[:length] if length else None
                drive(path, "parent", *[word for word in (name, fmt) if word])
                info = qemu.img("info", "--output=json", path).json()
                equal(info.get("backing-filename"), name, "name")
                equal(info.get("backing-filename-format"), fmt if name else None, "format")
                vmimg_ok("check", path)
                found, start = extensions(path)
                equal((0x12345678, b"hello") in found, not options, "the unknown extension")
                check(start in (72, 104, 112), f"extensions begin at {start}")
                if not options:
                    check(any(kind == 0x6803f857 for kind, _ in found), "names of features")
            drive(path, "parent")
            equal(content(path), before, "content")


def test_amend(t):
    path = make(t, "compat=0.10", False, ["-c"])
    qemu.img("snapshot", "-c", "one", path)
    scribble(path, 4, count=10)
    before, first = content(path), content(path, "-l", "one")
    for options, key, value in ("compat=1.1,lazy_refcounts=on", "lazy-refcounts", True), ("compat=v3", "compat", "1.1"), \
            ("lazy_refcounts=off", "lazy-refcounts", False):
        vmimg_ok("amend", "-o", options, path)
        sound(path, options)
        data = qemu.img("info", "--output=json", path).json()["format-specific"]["data"]
        equal(data[key], value, options)
        equal((content(path), content(path, "-l", "one")), (before, first), "contents")
    vmimg_ok("amend", "-o", f"size={SIZE + (64 << 20)}", path)
    sound(path, "grown")
    equal(vmimg_ok("info", "--json", path).json()["virtual-size"], SIZE + (64 << 20), "size")
    qemu.img("snapshot", "-a", "one", path)
    equal(content(path), first, "the snapshot, which knows its size")
    for options, code in ("data_file=x", 2), ("data_file_raw=on", 4), ("cluster_size=4k", 2), ("encrypt.x=1", 2):
        digest = disks.sha256(path)
        equal(vmimg("amend", "-o", options, path).code, code, options)
        equal(disks.sha256(path), digest, f"the image after {options}")


def test_amend_names(t):
    path = make(t, "data_file=data.raw,data_file_raw=on", False, [])
    before = content(path)
    os.rename("data.raw", "other.raw")
    vmimg_ok("amend", "-o", "data_file=other.raw,data_file_raw=off", path)
    sound(path, "amended")
    equal(content(path), before, "content")
    vmimg_ok("amend", "-o", "backing_file=base.raw,backing_fmt=raw", path)
    info = qemu.img("info", "--output=json", path).json()
    equal((info["backing-filename"], info["backing-filename-format"]), ("base.raw", "raw"), "backing file")
    vmimg_ok("amend", "-o", "backing_file=", path)
    check("backing-filename" not in qemu.img("info", "--output=json", path).json(), "no backing file")


def active_l2(path):
    """Where the first L2 table is."""
    with open(path, "rb") as file:
        head = file.read(1 << 20)
    l1 = struct.unpack(">Q", head[40:48])[0]
    return struct.unpack(">Q", head[l1:l1 + 8])[0] & ((1 << 56) - 512)


def poke(path, at, data):
    with open(path, "r+b") as file:
        file.seek(at)
        file.write(data)


def test_shared_by_damage(t):
    """Clusters that two places show, and one is counted for: neither loses what it shows through the other."""
    base, top, other = t.path("base.qcow2"), t.path("top.qcow2"), t.path("other.qcow2")
    for options in "", "extended_l2=on", "cluster_size=4k,refcount_bits=1":
        with t.sub(options or "plain"):
            for path in base, top:
                if os.path.exists(path):
                    os.unlink(path)
            qemu.create(base, "qcow2", 1 << 20, **dict(pair.split("=") for pair in options.split(",") if pair))
            qemu.io(base, "write -P 1 0 512k")
            qemu.img("create", "-q", "-f", "qcow2", "-b", base, "-F", "qcow2", top)
            qemu.io(top, "write -P 9 0 64k")
            width, cluster = (16 if "ext" in options else 8), qemu.img("info", "--output=json", base).json()["cluster-size"]
            slot = (512 << 10) // cluster
            table = active_l2(base)
            with open(base, "rb") as file:
                file.seek(table)
                entry = file.read(width)
            poke(base, table + slot * width, entry)  # both at 0 and at 512 KiB
            before = disks.sha256(base)
            for words in ("commit", "-d", "--refs=any", top), ("compact", "--no-fs", base), ("resize", "--shrink", base, "512k"):
                result = vmimg(*words)
                check(result.code and "repair the image first" in result.errors, str(result))
                equal(disks.sha256(base), before, f"the image after {words[0]}")
    with t.sub("a snapshot"):
        os.unlink(base)
        qemu.create(base, "qcow2", 1 << 20)
        qemu.io(base, "write -P 1 0 64k")
        qemu.img("snapshot", "-c", "one", base)
        qemu.io(base, "write -P 2 64k 64k")
        with open(base, "rb") as file:
            head = file.read(1 << 20)
        at = struct.unpack(">Q", head[active_l2(base):][:8])[0] & ((1 << 56) - 512)
        block = struct.unpack(">Q", head[struct.unpack(">Q", head[48:56])[0]:][:8])[0]
        poke(base, block + at // 65536 * 2, b"\0\1")
        result = vmimg("snapshot", "delete", base, "one")
        check(result.code and "repair the image first" in result.errors, str(result))
        shutil.copy(base, other)
        result = run(DRIVE, other, "update", top, "qcow2")
        check(result.code and "repair the image first" in result.text + result.errors, str(result))


def test_far_refcounts(t):
    """A refcount block for clusters past the end of the file, which a shorter file leaves, is not lost."""
    path = t.path("far.qcow2")
    qemu.create(path, "qcow2", 256 << 10, cluster_size="1k", refcount_bits=64)
    qemu.io(path, "write -P 1 0 256k", "write -z -u 0 192k")
    for words in ("compact", "--no-fs", path), ("snapshot", "create", path, "one"), ("resize", path, "3M"):
        vmimg_ok(*words)
        sound(path, words[0])


def test_far_reference(t):
    """An entry that names a place far past the end of the file costs a line, not memory as long as the way there."""
    path = t.path("far.qcow2")
    qemu.create(path, "qcow2", 64 << 20)
    qemu.io(path, "write 0 64k")
    with open(path, "r+b") as file:
        file.seek(40)
        file.seek(int.from_bytes(file.read(8), "big"))
        file.seek((int.from_bytes(file.read(8), "big") & 0x00fffffffffffe00) + 8)
        file.write((1 << 63 | 1 << 54).to_bytes(8, "big"))
    done = run(env.VMIMG, "resize", "--shrink", path, "32K")
    equal(done.code, 4, "exit code")
    check("past the end" in done.errors and done.peak < 64 << 20, str(done))


if __name__ == "__main__":
    harness.main()
