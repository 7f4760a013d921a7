# SPDX-License-Identifier: Apache-2.0
"""Sizes of VMDK disks that are split into extents, and of children whose parents have another size: content by
qemu-img and by a model, and what is left of a change that was cut off."""

import glob
import os
import re
import shutil

from lib import disks, env, harness, process, qemu
from lib.harness import check, equal
from lib.process import run, vmimg, vmimg_ok

MIB, GIB = 1 << 20, 1 << 30
EACH = 2146435072  # what VMware splits at
CALLS = ["pwrite64", "ftruncate", "fallocate", "fsync", "fdatasync", "renameat2", "linkat", "unlink", "unlinkat"]


def extents(path):
    """(sectors, type, name) of each line of the descriptor."""
    with open(path, "rb") as file:
        text = file.read().decode()
    return [(int(m[1]), m[2], m[3]) for m in re.finditer(r'^RW (\d+) (\w+) "([^"]*)"', text, re.M)]


def small_split(folder, kind, parts, data=4 * MIB):
    """disk.vmdk of extents of that many bytes, of the first one's kind; and disk.raw."""
    raw = disks.pattern(f"{folder}/disk.raw", sum(parts), seed=11, data=data)
    with open(raw, "r+b") as file:  # data up to the last byte
        file.seek(sum(parts) - 512)
        file.write(b"\xa5" * 512)
    lines, at = [], 0
    letter = "s" if kind.endswith("Sparse") else "f"
    for i, length in enumerate(parts):
        with open(raw, "rb") as file, open(f"{folder}/part", "wb") as part:
            file.seek(at)
            part.write(file.read(length))
        at += length
        vmimg_ok("convert", "-O", "vmdk", "-o", f"subformat={kind}", f"{folder}/part", f"{folder}/part.vmdk")
        with open(f"{folder}/part.vmdk", encoding="utf-8") as file:
            text = file.read()
        line = next(line for line in text.splitlines() if line.startswith("RW "))
        name = f"disk-{letter}{i + 1:03}.vmdk"
        os.rename(f"{folder}/part-{letter}001.vmdk", f"{folder}/{name}")
        lines.append(line.replace(f"part-{letter}001.vmdk", name))
        os.unlink(f"{folder}/part.vmdk")
        os.unlink(f"{folder}/part")
    with open(f"{folder}/disk.vmdk", "w", encoding="utf-8") as file:
        file.write(text.replace(line, "\n".join(lines)))
    return f"{folder}/disk.vmdk", raw


def digest(raw, size, cut=None):
    """Of the raw disk, cut where that is said, as one of that size."""
    copy = raw + ".copy"
    shutil.copyfile(raw, copy)
    if cut is not None:
        os.truncate(copy, min(cut, os.path.getsize(copy)))
    os.truncate(copy, size)
    result = disks.sha256(copy)
    os.unlink(copy)
    return result


def sound(path, what, codes=(0,)):
    result = vmimg("check", "--refs=beside", path)
    check(result.code in codes, f"{what}: {result}{result.text[:500]}")


def agree(path, want, what, folder):
    sound(path, what)
    equal(process.guest_sha256(path), want, f"{what}: vmimg")
    equal(qemu.guest_sha256(path, "vmdk", folder), want, f"{what}: qemu-img")


KINDS = "twoGbMaxExtentSparse", "twoGbMaxExtentFlat"


def test_small(t):
    """Extents of a few MiB: the last one grows up to the first one's size, and so on."""
    for kind in KINDS:
        with t.sub(kind), t.folder() as folder:
            path, raw = small_split(folder, kind, (5 * MIB, 3 * MIB + 1024))
            old = 8 * MIB + 1024
            letter = "s" if kind.endswith("Sparse") else "f"
            for size, want in ((9 * MIB, [5, 4]), (10 * MIB, [5, 5]), (17 * MIB + 512, [5, 5, 5, 2 + 512 / MIB]),
                               (21 * MIB, [5, 5, 5, 5, 1])):
                vmimg_ok("resize", path, str(size))
                equal([sectors * 512 / MIB for sectors, _, _ in extents(path)], want, f"extents at {size}")
                agree(path, digest(raw, size), f"grown to {size}", folder)
            qemu.io(path, "write -P 7 4M 3M", "write -P 9 12M 8M", fmt="vmdk")
            with open(raw, "r+b") as file:
                file.truncate(21 * MIB)
                for at, length, byte in ((4 * MIB, 3 * MIB, 7), (12 * MIB, 8 * MIB, 9)):
                    file.seek(at)
                    file.write(bytes([byte]) * length)
            agree(path, disks.sha256(raw), "written by a peer", folder)
            equal(vmimg("resize", path, "16M").code, 5, "data would be cut off")
            for size, names in (16 * MIB + 512, 4), (15 * MIB, 3), (7 * MIB, 2), (3 * MIB + 512, 1), (old, 1), (21 * MIB, 1):
                vmimg_ok("resize", "--shrink", path, str(size))
                with open(raw, "r+b") as file:
                    file.truncate(size)
                equal([name for _, _, name in extents(path)], [f"disk-{letter}{i + 1:03}.vmdk" for i in range(names)],
                      f"names at {size}")
                equal(sorted(os.path.basename(p) for p in glob.glob(f"{folder}/disk-*")),
                      [f"disk-{letter}{i + 1:03}.vmdk" for i in range(names)], f"files at {size}")
                agree(path, disks.sha256(raw), f"resized to {size}", folder)


def test_large(t):
    """Extents of VMware's size, as vmimg and as qemu-img make them."""
    for kind in KINDS:
        for maker in "vmimg", "qemu-img":
            with t.sub(f"{kind} by {maker}"), t.folder() as folder:
                path = f"{folder}/disk.vmdk"
                program = [env.VMIMG, "create"] if maker == "vmimg" else ["qemu-img", "create"]
                result = run(*program, "-q", "-f", "vmdk", "-o", f"subformat={kind}", path, str(3 * GIB))
                check(result.code == 0, str(result))
                each = extents(path)[0][0] * 512
                qemu.io(path, "write -P 3 0 64k", f"write -P 4 {each - 4096} 8k", f"write -P 5 {3 * GIB - 65536} 64k", fmt="vmdk")
                vmimg_ok("resize", path, str(7 * GIB))
                equal([sectors * 512 for sectors, _, _ in extents(path)], [each] * 3 + [7 * GIB - 3 * each], "extents")
                sound(path, "grown")
                qemu.io(path, "read -P 3 0 64k", f"read -P 4 {each - 4096} 8k", f"read -P 5 {3 * GIB - 65536} 64k",
                        f"read -P 0 {3 * GIB} 64k", f"write -P 6 {7 * GIB - 4096} 4k", f"write -P 8 {2 * each - 512} 1k",
                        fmt="vmdk")
                equal(qemu.img("info", "--output=json", path).json()["virtual-size"], 7 * GIB, "qemu-img's size")
                sound(path, "written")
                equal(vmimg("compare", path, path).code, 0, "it can be read")
                vmimg_ok("resize", "--shrink", path, str(3 * GIB))
                vmimg_ok("resize", path, str(5 * GIB))
                qemu.io(path, f"read -P 5 {3 * GIB - 65536} 64k", f"read -P 0 {3 * GIB} 64k", f"read -P 0 {2 * each - 4096} 8k",
                        fmt="vmdk")
                sound(path, "grown again")


def test_names(t):
    """Files that are there are not touched, whatever they are."""
    path, raw = small_split(t.tmp, KINDS[0], (2 * MIB, 2 * MIB), data=MIB)
    with open(t.path("disk-s003.vmdk"), "w", encoding="utf-8") as file:
        file.write("not yours")
    vmimg_ok("resize", path, str(7 * MIB))
    equal([name for _, _, name in extents(path)][2:], ["disk-s004.vmdk", "disk-s005.vmdk"], "names")
    with open(t.path("disk-s003.vmdk"), encoding="utf-8") as file:
        equal(file.read(), "not yours", "the file that was there")
    agree(path, digest(raw, 7 * MIB), "grown", t.tmp)
    vmimg_ok("resize", "--shrink", path, str(MIB))
    check(os.path.exists(t.path("disk-s003.vmdk")), "the file that was there is gone")


def test_refused(t):
    path, raw = small_split(t.tmp, KINDS[0], (2 * MIB, MIB), data=MIB)
    with open(path, encoding="utf-8") as file:
        text = file.read()
    for what, old, new, code in (("a record of changes", "CID=", 'changeTrackPath="x-ctk.vmdk"\nCID=', 4),
                                 ("read only", 'RW 2048 SPARSE "disk-s002', 'RDONLY 2048 SPARSE "disk-s002', 0)):
        with t.sub(what):
            with open(path, "w", encoding="utf-8") as file:
                file.write(text.replace(old, new, 1))
            before = [disks.sha256(p) for p in sorted(glob.glob(t.path("disk-*")))]
            equal(vmimg("resize", path, str(5 * MIB)).code, code, "exit code")
            equal([disks.sha256(p) for p in sorted(glob.glob(t.path("disk-*")))][:2], before[:2], "the extents")
            if not code:
                equal(process.guest_sha256(path), digest(raw, 5 * MIB), "with one more extent")
    with t.sub("damaged"):
        with open(path, "w", encoding="utf-8") as file:
            file.write(text)
        with open(t.path("disk-s002.vmdk"), "r+b") as file:
            file.seek(72)
            file.write(b"\1")
        before = disks.sha256(path)
        equal(vmimg("resize", path, str(9 * MIB)).code, 5, "exit code")
        equal(disks.sha256(path), before, "the descriptor")
        check(not os.path.exists(t.path("disk-s004.vmdk")), "a new extent was left")


def test_no_sectors(t):
    """A last extent of which the disk takes nothing, and whose file has tables of no sectors or of some."""
    path, _ = small_split(t.tmp, KINDS[0], (MIB, 2 * MIB), data=MIB)
    third = t.path("disk-s003.vmdk")
    shutil.copyfile(t.path("disk-s002.vmdk"), third)
    with open(path, encoding="utf-8") as file:
        text = file.read()
    line = [line for line in text.splitlines() if line.startswith("RW ")][-1]
    with open(path, "w", encoding="utf-8") as file:
        file.write(text.replace(line, f'{line}\nRW 0 SPARSE "disk-s003.vmdk"'))
    for capacity in 4096, 0:
        with open(third, "r+b") as file:
            file.seek(12)
            file.write(capacity.to_bytes(8, "little"))
        before = [disks.sha256(p) for p in sorted(glob.glob(t.path("disk*")))]
        for size in "+1M", "+300M":
            result = vmimg("resize", path, size)
            process.check_bars(result, size)
            equal([disks.sha256(p) for p in sorted(glob.glob(t.path("disk*")))] == before, True, f"files: {result}")
            check(result.code in (4, 6), str(result))


def test_killed(t):
    """At every call that changes a file: the old disk or the new one, and it can be resized from there."""
    harness.need("strace")
    for kind in KINDS:
        with t.folder() as folder:
            path, raw = small_split(f"{folder}", kind, (2 * MIB, MIB + 1024), data=MIB)
            os.mkdir(f"{folder}/f")
            for name in glob.glob(f"{folder}/disk*.vmdk"):
                os.rename(name, f"{folder}/f/{os.path.basename(name)}")
            old = 3 * MIB + 1024
            for words, size in ([], 7 * MIB), (["--shrink"], MIB + 512), (["--shrink"], 2 * MIB + 65536):
                with t.sub(f"{kind} to {size}"):
                    allowed = {digest(raw, old): old, digest(raw, size): size}
                    states = 0
                    for call in CALLS:
                        for how in ("signal=KILL", "error=ENOSPC") if call in ("pwrite64", "renameat2") else ("signal=KILL",):
                            for number in range(1, 300):
                                shutil.rmtree(f"{folder}/g", ignore_errors=True)
                                shutil.copytree(f"{folder}/f", f"{folder}/g")
                                copy = f"{folder}/g/disk.vmdk"
                                result = run("strace", "-f", "-qq", "-o", "/dev/null", "-e", f"trace={call}", "-e",
                                             f"inject={call}:{how}:when={number}", env.VMIMG, "resize", *words, copy, str(size))
                                what = f"{how} at {call} {number}"
                                sound(copy, what, (0, 3))
                                found = process.guest_sha256(copy)
                                check(found in allowed, f"{what}: neither old nor new")
                                states += 1
                                if result.code == 0:
                                    break
                                vmimg_ok("resize", "--shrink", copy, str(allowed[found] + 3 * MIB))
                                equal(process.guest_sha256(copy), digest(raw, allowed[found] + 3 * MIB, allowed[found]), what)
                                sound(copy, f"{what}, resized again")
                    check(states > 15, f"only {states} states were tried")


def test_flushed(t):
    """All that was written is in storage before the descriptor that speaks of it is."""
    harness.need("strace")
    for kind in KINDS:
        for words, size in ([], 7 * MIB), (["--shrink"], MIB):
            with t.sub(f"{kind} to {size}"), t.folder() as folder:
                path, _ = small_split(folder, kind, (2 * MIB, MIB + 1024), data=MIB)
                log = f"{folder}/log"
                run("strace", "-f", "-y", "-o", log, "-e", "trace=pwrite64,ftruncate,fallocate,fsync,fdatasync,renameat2,rename,"
                    "renameat,linkat,unlink,unlinkat", env.VMIMG, "resize", *words, path, str(size))
                waiting, changed = set(), False
                with open(log, encoding="utf-8") as file:
                    for line in file:
                        call = re.search(r"(\w+)\((?:(\d+)<([^>]*)>)?", line)
                        if not call or " = -1 " in line:
                            continue
                        if call[1] in ("pwrite64", "ftruncate", "fallocate"):
                            waiting.add(call[3])
                        elif call[1] in ("fsync", "fdatasync"):
                            waiting.discard(call[3])
                        elif call[1].startswith("rename") and '"disk.vmdk"' in line:
                            check(not waiting, f"not flushed before the descriptor: {waiting}")
                            changed = True
                        elif call[1].startswith("unlink") and "disk-" in line:
                            check(changed, "an extent went before the descriptor changed")
                check(changed and not waiting, f"at the end: {changed} {waiting}")


def test_children(t):
    """What is added to a child is zero, though its parent has something there."""
    for kind in "monolithicSparse", "twoGbMaxExtentSparse":
        for below in 6 * MIB, 40 * MIB + 512, 3 * MIB:
            with t.sub(f"{kind} on {below}"), t.folder() as folder:
                own = 4 * MIB + 1024 if below > 4 * MIB else 3 * MIB
                parent = disks.pattern(f"{folder}/p.raw", below, seed=2, data=below)
                vmimg_ok("convert", parent, f"{folder}/p.vmdk")
                child, raw = f"{folder}/c.vmdk", f"{folder}/c.raw"
                vmimg_ok("create", "-q", "-f", "vmdk", "-o", f"subformat={kind}", "-b", "p.vmdk", child)
                shutil.copyfile(parent, raw)
                vmimg_ok("resize", "--shrink", "--shrink", child, str(own))
                os.truncate(raw, own)
                qemu.io(child, "write -P 5 1M 200k", fmt="vmdk")
                with open(raw, "r+b") as file:
                    file.seek(MIB)
                    file.write(b"\5" * (200 << 10))
                for size in 5 * MIB + 512, 38 * MIB, 3 * MIB, 70 * MIB:
                    vmimg_ok("resize", "--shrink", "--shrink", child, str(size))
                    os.truncate(raw, size)
                    agree(child, disks.sha256(raw), f"at {size}", folder)
                qemu.io(child, f"write -P 6 {60 * MIB} 1M", fmt="vmdk")
                with open(raw, "r+b") as file:
                    file.seek(60 * MIB)
                    file.write(b"\6" * MIB)
                agree(child, disks.sha256(raw), "written by a peer", folder)
                vmimg_ok("rebase", "-b", "", child)
                os.unlink(f"{folder}/p.vmdk")
                agree(child, disks.sha256(raw), "without its parent", folder)


def test_split_children(t):
    """New extents of a child hide the parent as well."""
    parent = disks.pattern(t.path("p.raw"), 30 * MIB, seed=2, data=30 * MIB)
    vmimg_ok("convert", parent, t.path("p.vmdk"))
    path, raw = small_split(t.tmp, KINDS[0], (2 * MIB, MIB + 1024), data=MIB)
    with open(path, encoding="utf-8") as file:
        text = file.read()
    cid = re.search(r"^CID=(\w+)", open(t.path("p.vmdk"), "rb").read(4096).decode("latin-1"), re.M)[1]
    with open(path, "w", encoding="utf-8") as file:
        file.write(text.replace("parentCID=ffffffff", f'parentCID={cid}\nparentFileNameHint="p.vmdk"'))
    before = qemu.guest_sha256(path, "vmdk", t.tmp)
    equal(process.guest_sha256(path), before, "the child")
    vmimg_ok("convert", "-O", "raw", path, t.path("c.raw"))
    for size in 3 * MIB + 65536, 11 * MIB, 35 * MIB:
        vmimg_ok("resize", path, str(size))
        agree(path, digest(t.path("c.raw"), size), f"at {size}", t.tmp)
    check(len(extents(path)) > 10, "it was not split")


def test_files_of_others(t):
    """A file of which an extent takes a part holds more than the disk: it is neither cut nor removed."""
    for at, length in (8, 1), (0, 1), (8, 2000):
        for left in (1024, 512) if length == 1 else (1025, 1024, 512):
            with t.sub(f"{length} sectors at {at}, {left} left"), t.folder() as folder:
                path, book, before = f"{folder}/k.vmdk", f"{folder}/book.txt", b"precious" * 131072
                with open(book, "wb") as file:
                    file.write(before)
                with open(f"{folder}/k-f001.vmdk", "wb") as file:
                    file.truncate(1024 * 512)
                with open(path, "w", encoding="utf-8") as file:
                    file.write("# Disk DescriptorFile\nversion=1\nCID=12345678\nparentCID=ffffffff\n"
                               'createType="twoGbMaxExtentFlat"\nRW 1024 FLAT "k-f001.vmdk" 0\n'
                               f'RW {length} FLAT "book.txt" {at}\n')
                vmimg_ok("resize", "--shrink", path, str(left * 512))
                with open(book, "rb") as file:
                    equal(file.read() == before, True, "the file is what it was")
                equal(sum(sectors for sectors, _, _ in extents(path)), left, "sectors")
                sound(path, "shrunk")


def test_odd_texts(t):
    """What ends lines for a reader and not for whoever changes them, or the other way round: no change is only told of."""
    path, _ = small_split(t.tmp, KINDS[1], (MIB, MIB), data=MIB)
    second = t.path("disk-f002.vmdk")
    with open(path, encoding="utf-8") as file:
        text = file.read()
    with open(second, "rb") as file:
        extent = file.read()
    line = [line for line in text.splitlines() if line.startswith("RW ")][1]
    for what, now in (("form feed", text.replace(line, "\f" + line)), ("vertical tab", text.replace("CID=", "\vCID=", 1)),
                      ("carriage returns", text.replace("\n", "\r")), ("both", text.replace("\n", "\r\n"))):
        for words, want in ((["resize", path, "3M"], ("virtual-size", 3 * MIB)),
                            (["resize", "--shrink", path, "1M"], ("virtual-size", MIB)),
                            (["set", path, "cid=abcdef01"], ("cid", 0xabcdef01))):
            with t.sub(f"{what}: {' '.join(words[:-2])} {words[-1]}"):
                for name, content in (path, now.encode()), (second, extent):
                    with open(name, "wb") as file:
                        file.write(content)
                result = vmimg(*words)
                if result.code:
                    with open(path, "rb") as file:
                        equal(file.read(), now.encode(), f"the descriptor: {result}")
                    continue
                after = vmimg_ok("info", "--json", path).json()
                equal({**after, **after["format-specific"]["data"]}[want[0]], want[1], f"{want[0]}: {result}")
                sound(path, "changed")


if __name__ == "__main__":
    harness.main()
