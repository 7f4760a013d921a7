# SPDX-License-Identifier: Apache-2.0
"""vmimg dd against coreutils' dd and qemu-img dd, and convert -n into images that are there."""

import os
import random
import shlex
import subprocess

from lib import disks, env, harness, process, qemu
from lib.harness import check, equal, need
from lib.process import check_one_line, run, vmimg, vmimg_ok

KIB, MIB = 1 << 10, 1 << 20
FORMATS = "raw", "qcow2", "vmdk", "vhd", "vhdx", "vdi"
SIZE = 3 * MIB + 1536

STRETCHES = ("", "bs=4k", "bs=4096 skip=3", "bs=1M count=1", "count=7 skip=1001", "bs=64K skip=2 count=5", "count=0",
             "bs=1M skip=3", "ibs=1K obs=512 skip=2 count=3", "bs=2x512 count=4", "bs=1kB skip=3 count=9", "bs=3 skip=11 count=1000",
             "skip=5000B count=70000B", "iflag=skip_bytes,count_bytes skip=777 count=66666", "bs=1KiB count=9999",
             "bs=4K conv=sparse,fsync status=none count=3")


def raw_of(path, fmt, folder):
    target = f"{folder}/guest.raw"
    vmimg_ok("convert", "--force", "-f", fmt, "-O", "raw", path, target)
    with open(target, "rb") as file:
        return file.read()


def content(path):
    with open(path, "rb") as file:
        return file.read()


def test_new(t):
    """A stretch into a new image: what dd makes of the raw disk."""
    raw, want, out = disks.pattern(t.path("disk.raw"), SIZE, seed=1), t.path("want"), t.path("out")
    for fmt in FORMATS:
        vmimg_ok("convert", "-O", fmt, raw, t.path("disk." + fmt)) if fmt != "raw" else None
    for words in STRETCHES:
        with t.sub(words):
            words = words.split()
            run("dd", f"if={raw}", f"of={want}", *words)
            for fmt in FORMATS:
                disk = raw if fmt == "raw" else t.path("disk." + fmt)
                vmimg_ok("dd", "--force", "-f", fmt, f"if={disk}", f"of={out}", *words)
                equal(content(out), content(want), f"{fmt} {words}")
    for words in ("bs=4k", "bs=1M count=2", "bs=64k skip=2"):  # with both qemu-img counts what is skipped
        with t.sub("qemu-img dd " + words):
            words = words.split()
            for fmt, target in ("qcow2", "raw"), ("raw", "qcow2"), ("vmdk", "vdi"):
                disk = raw if fmt == "raw" else t.path("disk." + fmt)
                result = run("qemu-img", "dd", "-f", fmt, "-O", target, *words, f"if={disk}", f"of={want}")
                equal(result.code, 0, str(result))
                vmimg_ok("dd", "--force", "-f", fmt, "-O", target, *words, f"if={disk}", f"of={out}")
                vmimg_ok("compare", "-f", target, "-F", target, out, want)


def test_seek_new(t):
    """Zeroes before, in a new image."""
    raw, want = disks.pattern(t.path("disk.raw"), SIZE, seed=2), t.path("want.raw")
    run("dd", f"if={raw}", f"of={want}", "bs=1K", "skip=5", "count=900", "seek=3333")
    for fmt in FORMATS:
        with t.sub(fmt):
            out = t.path(f"out.{fmt}")
            vmimg_ok("dd", f"if={raw}", f"of={out}", "bs=1K", "skip=5", "count=900", "seek=3333")
            report = vmimg_ok("info", "--json", out).json()
            equal(report["format"], fmt, "by the suffix")
            got = raw_of(out, fmt, t.tmp)
            equal(got[:os.path.getsize(want)], content(want), "content")
            check(not any(got[os.path.getsize(want):]), "padding")


def test_into(t):
    """Single stretches written into an image that is there, of which the rest stays."""
    rng = random.Random(3)
    raw, source = disks.pattern(t.path("disk.raw"), SIZE, seed=4), disks.pattern(t.path("source.raw"), MIB, seed=5)
    packed = t.path("source.qcow2")
    vmimg_ok("convert", "-c", source, packed)
    for fmt in FORMATS:
        with t.sub(fmt):
            out, model = t.path(f"out.{fmt}"), t.path("model")
            vmimg_ok("convert", "-f", "raw", "-O", fmt, *(["-o", "force_size=on"] if fmt == "vhd" else []), raw, out)
            disks.copy(raw, model)
            for number in range(12):
                block = rng.choice((1, 512, 1000, 4096, 65536))
                skip, count = rng.randrange(MIB // block), rng.randrange(200000 // block + 2)
                seek = rng.randrange((SIZE - min(count * block, MIB - skip * block)) // block)
                words = [f"bs={block}", f"skip={skip}", f"count={count}", f"seek={seek}", "conv=notrunc"]
                run("dd", f"if={source}", f"of={model}", *words)
                vmimg_ok("dd", f"if={packed if number % 2 else source}", f"of={out}", *words)
                equal(raw_of(out, fmt, t.tmp)[:SIZE], content(model), f"after {number}: {words}")
            equal(vmimg("check", out).code in (0, 63), True, "check")
            if fmt != "raw":
                equal(qemu.guest_sha256(out, fmt, t.tmp), disks.sha256(model), "by the peer")


def test_into_layers(t):
    """Over a backing file, which stays what it is; and encrypted."""
    raw, source = disks.pattern(t.path("disk.raw"), 2 * MIB, seed=6), disks.pattern(t.path("source.raw"), MIB, seed=7)
    before, model = disks.sha256(raw), t.path("model")
    disks.copy(raw, model)
    run("dd", f"if={source}", f"of={model}", "bs=1000", "count=300", "seek=77", "conv=notrunc")
    with t.sub("overlay"):
        top = t.path("top.qcow2")
        qemu.img("create", "-q", "-f", "qcow2", "-b", "disk.raw", "-F", "raw", top)
        vmimg_ok("dd", f"if={source}", f"of={top}", "bs=1000", "count=300", "seek=77", "conv=notrunc")
        equal(vmimg_ok("digest", top).text.split()[0], disks.sha256(model), "content")
        equal(disks.sha256(raw), before, "the backing file")
        result = vmimg("dd", f"if={top}", f"of={raw}", "count=1", "conv=notrunc")
        check(result.code in (5, 7), str(result))
        equal(disks.sha256(raw), before, "the backing file")
    with t.sub("encrypted"):
        with open(t.path("key"), "wb") as file:
            file.write(b"secret")
        sealed = t.path("sealed.qcow2")
        vmimg_ok("convert", "-o", "encrypt.format=luks,encrypt.iter-time=10", "--target-secret-file", t.path("key"), raw, sealed)
        vmimg_ok("dd", "--secret-file", t.path("key"), f"if={source}", f"of={sealed}", "bs=1000", "count=300", "seek=77",
                 "conv=notrunc")
        equal(vmimg_ok("digest", "--secret-file", t.path("key"), sealed).text.split()[0], disks.sha256(model), "content")


def test_ends(t):
    """Past the end of the input is an error, past that of a disk too; a raw file grows, as dd has it grow."""
    raw, small = disks.pattern(t.path("disk.raw"), MIB, seed=8), t.path("small.raw")
    disks.pattern(small, 64 * KIB, seed=9)
    model = t.path("model")
    disks.copy(small, model)
    for words in (["bs=1K", "seek=60", "count=9"], ["bs=1K", "seek=200", "count=3"], ["seek=1000", "count=0"]):
        run("dd", f"if={raw}", f"of={model}", "conv=notrunc", *words)
        vmimg_ok("dd", f"if={raw}", f"of={small}", "conv=notrunc", *words)
        if words[-1] != "count=0":
            equal(content(small), content(model), str(words))
    vmimg_ok("create", "-q", t.path("small.qcow2"), "64k")
    before = content(t.path("small.qcow2"))
    for words, code in ((["of=small.qcow2", "conv=notrunc"], 2), (["of=small.qcow2", "seek=127", "count=2", "conv=notrunc"], 2),
                        (["of=new.raw", "skip=2049"], 2), (["of=new.raw", "bs=1M", "skip=2"], 2),
                        (["of=small.qcow2"], 5), (["of=none.raw", "conv=nocreat"], 2),
                        (["of=small.qcow2", "bs=9E", "seek=9", "conv=notrunc"], 2)):
        with t.sub(" ".join(words)):
            result = vmimg("dd", f"if={raw}", *words, cwd=t.tmp)
            equal(result.code, code, str(result))
            check_one_line(result)
            equal(content(t.path("small.qcow2")), before, "the image")
            equal(sorted(os.listdir(t.tmp)), ["disk.raw", "model", "small.qcow2", "small.raw"], "files")
    vmimg_ok("dd", f"if={raw}", f"of={t.path('new.raw')}", "conv=notrunc")  # not there: it is made
    equal(content(t.path("new.raw")), content(raw), "a new file")


def test_operands(t):
    raw = disks.pattern(t.path("disk.raw"), 64 * KIB, seed=10)
    for word in ("bs=0", "bs=", "bs=x", "bs=1b", "bs=1Q", "bs=-1", "bs=1.5K", "bs=3G", "bs=2x", "bs=xK", "count=1,2", "count=99999999999999999999",
                 "bs=1M count=99999999999999", "conv=ucase", "conv=", "conv=notrunc,swab", "iflag=append", "oflag=append", "status=all",
                 "cbs=3", "skip", "file", "=3", "averyverylongoperand=3", "--in-place", "--keep-chain"):
        with t.sub(word):
            result = vmimg("dd", f"if={raw}", f"of={t.path('out')}", *word.split())
            equal(result.code, 2, str(result))
            check_one_line(result)
            equal(os.listdir(t.tmp), ["disk.raw"], "files")


def test_pipes(t):
    raw = disks.pattern(t.path("disk.raw"), SIZE, seed=11)
    vmimg_ok("convert", raw, t.path("disk.qcow2"))
    tool, disk = shlex.quote(env.VMIMG), shlex.quote(t.path("disk.qcow2"))
    for words in ("bs=1K skip=7 count=99", "bs=1M", "count=3"):
        want = subprocess.run(["dd", f"if={raw}", *words.split()], capture_output=True, check=True).stdout
        for line in (f"{tool} dd if={disk} {words} | cat", f"cat {disk} | {tool} dd -f qcow2 -O raw {words} | cat",
                     f"cat {disk} | {tool} dd if=- of=- {words} | cat"):
            got = subprocess.run(line, shell=True, capture_output=True, check=True)
            equal(got.stdout, want, line)
            equal(got.stderr, b"", line)
    got = subprocess.run(f"head -c 5000 {shlex.quote(raw)} | {tool} dd of={disk} seek=3 conv=notrunc", shell=True,
                         capture_output=True, check=True)
    run("dd", f"if={raw}", f"of={raw}.new", "bs=5000", "count=1")
    disks.copy(raw, t.path("model"))
    run("dd", f"if={raw}.new", f"of={t.path('model')}", "seek=3", "conv=notrunc")
    equal(vmimg_ok("digest", t.path("disk.qcow2")).text.split()[0], disks.sha256(t.path("model")), "from a pipe, in place")
    equal(vmimg("dd", f"if={raw}", "of=-", "conv=notrunc").code, 0, "a pipe cannot be other than new")
    report = vmimg_ok("dd", "--json", f"if={raw}", f"of={t.path('disk.qcow2')}", "count=5", "conv=notrunc").json()
    equal((report["virtual-size"], report["target"]["format"], report["schema"]), (SIZE, "qcow2", "vmimg.convert/1"), "JSON")


def test_convert_into(t):
    """convert -n, which qemu-img has for every format."""
    raw = disks.pattern(t.path("disk.raw"), SIZE, seed=12)
    for fmt in FORMATS[1:]:
        with t.sub(fmt):
            out = t.path(f"out.{fmt}")
            vmimg_ok("create", "-q", "-f", fmt, out, str(4 * MIB))
            vmimg_ok("convert", "-n", "-O", fmt, raw, out)
            got = raw_of(out, fmt, t.tmp)
            equal(got[:SIZE], content(raw), "content")
            check(len(got) >= 4 * MIB and not any(got[SIZE:]), "the rest")
            vmimg_ok("create", "-q", "--force", "-f", fmt, out, str(MIB))
            result = vmimg("convert", "-n", "-O", fmt, raw, out)
            check(result.code == 2 and "past the disk" in result.errors, str(result))
            equal(vmimg("convert", "-n", "-O", fmt, raw, t.path("none")).code, 1, "into nothing")
            if fmt != "vmdk":  # qemu-img convert -n, and ours under its name
                face = t.path("qemu-img")
                if not os.path.exists(face):
                    os.symlink(env.VMIMG, face)
                for number, program in enumerate((face, "qemu-img")):
                    qemu.create(t.path(f"{number}.{fmt}"), fmt, 4 * MIB)
                    qemu.io(t.path(f"{number}.{fmt}"), "write -P 3 0 4M", fmt=qemu.name(fmt))
                    result = run(program, "convert", "-n", "-f", "raw", "-O", qemu.name(fmt), raw, t.path(f"{number}.{fmt}"))
                    equal(result.code, 0, str(result))
                equal(*(qemu.guest_sha256(t.path(f"{number}.{fmt}"), fmt, t.tmp) for number in (0, 1)), "by both")
            equal(vmimg("convert", "-n", "-O", "raw" if fmt == "qcow2" else "qcow2", raw, out).code in (2, 4, 1), True, "format")


def test_cut(t):
    """Killed while it writes into an image: each part as before or as given."""
    need("strace")
    raw, source = disks.pattern(t.path("disk.raw"), MIB, seed=13), disks.pattern(t.path("source.raw"), 512 * KIB, seed=14)
    for fmt in FORMATS[1:]:
        with t.sub(fmt), t.folder() as folder:
            vmimg_ok("convert", "-O", fmt, raw, f"{folder}/base")
            old = raw_of(f"{folder}/base", fmt, folder)
            new = bytearray(old)
            new[100000:100000 + 512 * KIB] = content(source)
            for number in range(1, 60):
                disks.copy(f"{folder}/base", f"{folder}/out")
                result = run("strace", "-f", "-qq", "-o", "/dev/null", "-e", "trace=pwrite64", "-e",
                             f"inject=pwrite64:signal=KILL:when={number}", env.VMIMG, "dd", "--no-sandbox", "-m", "1",
                             f"if={source}", f"of={folder}/out", "-O", fmt, "oflag=seek_bytes", "seek=100000", "conv=notrunc")
                check(vmimg("check", "-f", fmt, f"{folder}/out").code in (0, 3), f"write {number}")
                got = raw_of(f"{folder}/out", fmt, folder)
                if result.code == 0:
                    equal(got, bytes(new), "the end")
                    break
                for at in range(0, len(old), 512):
                    check(got[at:at + 512] in (old[at:at + 512], bytes(new[at:at + 512])), f"write {number}: sector at {at}")


if __name__ == "__main__":
    harness.main()
