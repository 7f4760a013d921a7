# SPDX-License-Identifier: Apache-2.0
"""convert and create: pipes, wrappings, interruptions, and what is left behind when it goes wrong."""

import bz2
import gzip
import json
import lzma
import os
import re
import signal
import subprocess
import time

from lib import disks, env, harness, process, qemu
from lib.harness import check, equal
from lib.process import check_one_line, run, vmimg, vmimg_ok

SIZE = 6 << 20


def source(t):
    return disks.pattern(t.path("disk.raw"), SIZE, seed=3, data=2 << 20)


def has_qcow2():
    return "qcow2" in process.formats(writable=True)


def same(a, b, what="content"):
    equal(disks.sha256(a), disks.sha256(b), what)


def test_raw_to_raw(t):
    raw, out = source(t), t.path("out.raw")
    for options in [], ["-m", "1"], ["--threads=8"], ["-W"], ["-t", "unsafe"], ["-t", "none"], ["-T", "none"], ["-U"]:
        with t.sub(" ".join(options)):
            result = vmimg_ok("convert", "--force", *options, raw, out)
            equal((result.out, result.err), (b"", b""), "output")
            same(raw, out)
            check(os.stat(out).st_blocks * 512 < SIZE, "holes were filled")


def test_exact_size(t):
    for size in 0, 1, 511, 513, 4097, 65537:
        with t.sub(str(size)):
            raw, out = disks.pattern(t.path("odd"), size), t.path("out")
            vmimg_ok("convert", "--force", "-O", "raw", raw, out)
            same(raw, out)
            image = t.path("out.qcow2")
            told = vmimg_ok("convert", "--force", raw, image).errors
            equal("QEMU does not see the last" in told, size % 512 != 0, told)
            equal(vmimg_ok("convert", "-q", "--force", raw, image).errors, "", "asked to be quiet")
            equal(vmimg_ok("info", "--json", image).json()["virtual-size"], size, "size")


def test_keep_zeroes(t):
    with open(t.path("zero"), "wb") as file:
        file.write(bytes(1 << 20))
    vmimg_ok("convert", "-O", "raw", t.path("zero"), t.path("holes"))
    equal(os.stat(t.path("holes")).st_blocks, 0, "blocks")
    vmimg_ok("convert", "-S", "0", "-O", "raw", t.path("zero"), t.path("full"))
    check(os.stat(t.path("full")).st_blocks * 512 >= 1 << 20, "-S 0 left holes")


def test_unsafe_does_not_sync(t):
    harness.need("strace")
    raw = source(t)
    for cache, wanted in ("unsafe", 0), ("writeback", 2):
        log = t.path("log")
        run("strace", "-f", "-e", "trace=fsync,fdatasync", "-o", log, env.VMIMG, "convert", "--force",
            "-t", cache, raw, t.path("out.raw"))
        equal(len(re.findall("(?:fsync|fdatasync)\\(", open(log, encoding="utf-8").read())), wanted,
              f"flushes with -t {cache}")


def test_existing_output(t):
    raw, out = source(t), t.path("out.raw")
    with open(out, "w", encoding="utf-8") as file:
        file.write("precious")
    result = vmimg("convert", raw, out)
    equal(result.code, 5, str(result))
    check("--force" in result.errors, "the next step is not told")
    equal(open(out, encoding="utf-8").read(), "precious", "the old file")
    broken = t.path("broken.raw.gz")
    with open(broken, "wb") as file:
        file.write(gzip.compress(b"x" * 100000)[:-20])
    equal(vmimg("convert", "--force", broken, out).code, 4, "a cut source")
    equal(open(out, encoding="utf-8").read(), "precious", "the old file after a failure")
    vmimg_ok("convert", "--force", raw, out)
    same(raw, out)
    equal(sorted(os.listdir(t.tmp)), ["broken.raw.gz", "disk.raw", "out.raw"], "files")


def test_output_is_the_source(t):
    raw = source(t)
    before = disks.sha256(raw)
    os.symlink("disk.raw", t.path("link.raw"))
    os.link(raw, t.path("hard.raw"))
    for name in "disk.raw", "link.raw", "hard.raw":
        for options in ["--force"], ["-n"]:
            result = vmimg("convert", *options, raw, t.path(name))
            equal(result.code, 2, str(result))
    equal(disks.sha256(raw), before, "the source")
    if not has_qcow2():
        return
    over = t.path("over.qcow2")
    qemu.img("create", "-q", "-f", "qcow2", "-b", "disk.raw", "-F", "raw", over)
    equal(vmimg("convert", "--force", over, raw).code, 2, "over the backing file")
    equal(disks.sha256(raw), before, "the backing file")


def test_part_of_the_output_is_the_source(t):
    """A flat VMDK's data file of the same name as the raw disk that it is made of."""
    if "vmdk" not in process.formats(writable=True):
        harness.skip("needs vmdk")
    os.rename(source(t), t.path("a-flat.vmdk"))
    before = disks.sha256(t.path("a-flat.vmdk"))
    result = vmimg("convert", "--force", "-f", "raw", "-o", "subformat=monolithicFlat", t.path("a-flat.vmdk"),
                   t.path("a.vmdk"))
    equal(result.code, 2, str(result))
    equal(disks.sha256(t.path("a-flat.vmdk")), before, "the source")
    vmimg_ok("convert", "-f", "raw", "-o", "subformat=monolithicFlat", t.path("a-flat.vmdk"), t.path("b.vmdk"))
    for options in ["--force"], ["-n"]:
        result = vmimg("convert", *options, "-O", "raw", t.path("b.vmdk"), t.path("b-flat.vmdk"))
        equal(result.code, 2, f"over an extent of the source: {result}")
    equal(disks.sha256(t.path("b-flat.vmdk")), before, "the extent")


def test_room_ahead(t):
    """Room for large writes is asked for ahead of them, where that pays: no more than is written, and no harm when
    it is refused."""
    harness.need("strace")
    raw = disks.pattern(t.path("disk.raw"), SIZE, seed=3, data=2 << 20)
    log, out = t.path("log"), t.path("out.raw")
    trace = "trace=fallocate,pwrite64"
    known = run("stat", "-f", "-c", "%T", t.path("")).text.strip() == "ext2/ext3"
    for fault in [], ["-e", "inject=fallocate:error=EOPNOTSUPP"], ["-e", "inject=fallocate:error=ENOSPC:when=2+"]:
        with t.sub(" ".join(fault)):
            done = run("strace", "-f", "-e", trace, *fault, "-o", log, env.VMIMG, "convert", "--force", raw, out)
            equal(done.code, 0, str(done))
            same(raw, out)
            check(os.stat(out).st_blocks <= os.stat(raw).st_blocks, "more was taken than the source takes")
            asked = [int(size) for size in re.findall(r"fallocate\(.*?, (\d+)(?:\)| <)", open(log, encoding="utf-8").read())]
            check(bool(asked) == known, "asked where it pays, and only there")
            check(not asked or min(asked) >= 65536, "asked for small writes")


def test_no_room(t):
    """The system's refusal to write is an error like others, and leaves nothing."""
    raw = source(t)
    for fmt in process.formats(writable=True):
        with t.sub(fmt), t.folder() as folder:
            result = vmimg("convert", "-O", fmt, raw, os.path.join(folder, "out"), file_size=1 << 20)
            equal(result.code, 1, str(result))
            check_one_line(result, "no room")
            equal(os.listdir(folder), [], "files")


def test_in_place(t):
    raw, out = source(t), t.path("disk.bin")
    with open(out, "wb") as file:
        file.write(b"\xff" * (SIZE + 4096))
    inode = os.stat(out).st_ino
    vmimg_ok("convert", "-n", raw, out)
    equal((os.stat(out).st_ino, os.path.getsize(out)), (inode, SIZE + 4096), "the file itself")
    with open(out, "rb") as file:
        equal(file.read(SIZE), open(raw, "rb").read(), "what was written")
        equal(file.read(), b"\xff" * 4096, "what lies after it")
    os.truncate(out, SIZE - 1)
    check(vmimg("convert", "-n", raw, out).code in (1, 2), "into a file that is too small")
    check(vmimg("convert", "-n", raw, t.path("none.raw")).code != 0, "into nothing")


def test_pipes(t):
    raw = source(t)
    result = vmimg_ok("convert", "-O", "raw", raw, "-")
    equal(result.out, open(raw, "rb").read(), "through standard output")
    with open(raw, "rb") as file:
        vmimg_ok("convert", "-", t.path("a.raw"), stdin=file)
    same(raw, t.path("a.raw"))
    feed = subprocess.Popen(["cat", raw], stdout=subprocess.PIPE)
    vmimg_ok("convert", "-", t.path("b.raw"), stdin=feed.stdout)
    feed.wait()
    same(raw, t.path("b.raw"))
    check(os.stat(t.path("b.raw")).st_blocks * 512 < SIZE, "holes were filled")
    result = vmimg_ok("convert", "--json", "-p", "-O", "raw", raw, "-")
    equal(result.out, open(raw, "rb").read(), "nothing but the image on standard output")
    check("vmimg.convert/1" in result.errors, "the summary")
    equal(vmimg("info", "-").code, 2, "info of a pipe")


def test_closed_pipe(t):
    child = subprocess.Popen([env.VMIMG, "convert", "-O", "raw", source(t), "-"],
                             stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    child.stdout.read(1000)
    child.stdout.close()
    errors = child.stderr.read().decode()
    equal(child.wait(), 1, "exit code")
    check(re.fullmatch(r"vmimg: [^\n]*Broken pipe\n", errors), errors)


def packed(name, data):
    """data in the packer's format, in two members, or None when there is no packer."""
    half = len(data) // 2
    if name == "zst":
        if not env.have("zstd"):
            return None
        return b"".join(subprocess.run(["zstd", "-q", "-c"], input=part, capture_output=True,
                                       check=True).stdout for part in (data[:half], data[half:]))
    pack = {"gz": gzip.compress, "xz": lzma.compress, "bz2": bz2.compress}[name]
    return pack(data[:half]) + pack(data[half:])


def test_wrapped_sources(t):
    raw = source(t)
    data = open(raw, "rb").read()
    for name in "gz", "xz", "zst", "bz2":
        with t.sub(name):
            wrapped = packed(name, data)
            if wrapped is None:
                harness.skip(f"nothing that makes .{name}")
            path, out = t.path("disk.raw." + name), t.path("out.raw")
            with open(path, "wb") as file:
                file.write(wrapped + (b"" if name == "zst" else bytes(512)))
            vmimg_ok("convert", "--force", path, out)
            same(raw, out)
            with open(path, "rb") as file:
                vmimg_ok("convert", "--force", "-", out, stdin=file)
            same(raw, out)
            equal(vmimg_ok("digest", path).text.split()[0], disks.sha256(raw), "digest")
            vmimg_ok("convert", "--force", "-f", "raw", path, out)
            same(path, out, "-f raw")
            equal(vmimg("convert", "--force", "--max-virtual-size=1M", path, out).code, 6, "limit")
            equal(vmimg("convert", "--force", "--max-output=1M", path, out).code, 6, "limit")
            for damaged, what in ((wrapped[:-9], "cut"), (wrapped + b"and more", "longer"),
                                  (wrapped[:5000] + bytes(64) + wrapped[5064:], "changed")):
                with open(path, "wb") as file:
                    file.write(damaged)
                result = vmimg("convert", path, t.path("never.raw"))
                equal(result.code, 4, f"{what}: {result}")
                check_one_line(result, what)
            os.unlink(path)
    equal(sorted(os.listdir(t.tmp)), ["disk.raw", "out.raw"], "files")


def test_bomb(t):
    """A small file that unpacks to much more is stopped at the limit, holes or not."""
    path = t.path("bomb.raw.gz")
    with open(path, "wb") as file:
        for _ in range(64):
            file.write(gzip.compress(bytes(16 << 20)))
    result = vmimg("convert", "--max-virtual-size=100M", path, t.path("out.raw"))
    equal(result.code, 6, str(result))
    process.check_bars(result)
    vmimg_ok("convert", path, t.path("out.raw"))
    equal((os.path.getsize(t.path("out.raw")), os.stat(t.path("out.raw")).st_blocks), (1 << 30, 0), "out")


def test_limits_come_first(t):
    raw = source(t)
    for option in f"--max-virtual-size={SIZE - 1}", f"--max-output={SIZE - 1}":
        result = vmimg("convert", option, raw, t.path("out.raw"))
        equal(result.code, 6, str(result))
        check_one_line(result, option)
    for option in f"--max-virtual-size={SIZE}", f"--max-output={SIZE}":
        vmimg_ok("convert", "--force", option, raw, t.path("out.raw"))
    if has_qcow2():
        equal(vmimg("convert", "--max-output=1M", raw, t.path("out.qcow2")).code, 6, "qcow2")
        vmimg_ok("convert", "--max-output=10M", raw, t.path("out.qcow2"))


def test_interrupted(t):
    """A signal leaves no file, named or hidden, and the old one as it was."""
    for number in signal.SIGINT, signal.SIGTERM, signal.SIGHUP:
        for old in (False, True):
            with t.sub(f"{number.name}{', replacing' if old else ''}"), t.folder() as folder:
                out = os.path.join(folder, "out.raw")
                if old:
                    with open(out, "w", encoding="utf-8") as file:
                        file.write("precious")
                child = subprocess.Popen([env.VMIMG, "convert", "--force", "-", out],
                                         stdin=subprocess.PIPE, stderr=subprocess.PIPE,
                                         env=dict(os.environ, TMPDIR=folder))
                child.stdin.write(b"x" * 1000000)
                child.stdin.flush()
                time.sleep(0.1)
                child.send_signal(number)
                errors = child.stderr.read().decode()
                equal(child.wait(timeout=10), 1, "exit code")
                check(re.fullmatch(r"vmimg: [^\n]*interrupted\n", errors), errors)
                equal(os.listdir(folder), ["out.raw"] if old else [], "files")
                if old:
                    equal(open(out, encoding="utf-8").read(), "precious", "the old file")
                child.stdin.close()


def test_interrupted_while_converting(t):
    raw = t.path("large.raw")
    with open(raw, "wb") as file:
        file.truncate(1 << 30)
        for at in range(0, 1 << 30, 16 << 20):
            file.seek(at)
            file.write(os.urandom(1 << 20))
    with t.folder() as folder:
        out = os.path.join(folder, "out.raw")
        child = subprocess.Popen([env.VMIMG, "convert", "--progress=json", "-O", "raw", raw, out],
                                 stderr=subprocess.PIPE)
        child.stderr.readline()
        child.send_signal(signal.SIGINT)
        code = child.wait(timeout=10)
        child.stderr.read()
        check(code == 1 and not os.listdir(folder) or code == 0, f"exit {code}, {os.listdir(folder)}")


def test_progress(t):
    raw = source(t)
    result = vmimg_ok("convert", "-p", raw, t.path("a.raw"))
    check(re.fullmatch(r"(    \(\d+\.\d\d/100%\)\r)+\n", result.text), result.text)
    check(result.text.startswith("    (0.00/100%)\r") and result.text.endswith("    (100.00/100%)\r\n"),
          result.text)
    equal(vmimg_ok("convert", "-p", "-q", raw, t.path("b.raw")).out, b"", "quiet")
    lines = vmimg_ok("convert", "--progress=json", raw, t.path("c.raw")).errors.splitlines()
    steps = [json.loads(line) for line in lines]
    equal((steps[-1]["done"], steps[-1]["total"], steps[-1]["percent"]), (SIZE, SIZE, 100.0), "the end")
    equal(sorted(s["done"] for s in steps), [s["done"] for s in steps], "order")
    equal({s["schema"] for s in steps}, {"vmimg.progress/1"}, "schema")
    check("\r[" in vmimg_ok("convert", "--progress=bar", raw, t.path("d.raw")).errors, "bar")
    equal(vmimg_ok("convert", raw, t.path("e.raw")).err, b"", "no bar where there is no terminal")


def test_summary(t):
    raw = source(t)
    report = vmimg_ok("convert", "--json", "--digest=sha256", raw, t.path("a.raw")).json()
    equal(report["schema"], "vmimg.convert/1", "schema")
    equal(report["virtual-size"], SIZE, "size")
    equal((report["source"]["format"], report["target"]["format"]), ("raw", "raw"), "formats")
    equal(report["digest"], {"sha256": disks.sha256(raw)}, "digest")
    equal(report["bytes-read"] + report["bytes-cloned"] + report["bytes-zero"] >= SIZE, True, "bytes")
    equal(report["lost"], [], "lost")
    check("digest" not in vmimg_ok("convert", "--json", raw, t.path("b.raw")).json(), "a digest unasked for")


def test_losses(t):
    if not has_qcow2():
        harness.skip("needs qcow2")
    raw = source(t)
    image = qemu.convert(raw, t.path("a.qcow2"), "raw", "qcow2")
    qemu.img("snapshot", "-c", "one", image)
    qemu.img("bitmap", "--add", image, "since")
    result = vmimg_ok("convert", "--json", image, t.path("a.raw"))
    equal([x["what"] for x in result.json()["lost"]], ["snapshots", "bitmaps"], "lost")
    check("not carried over: 1 internal snapshot" in result.errors, result.errors)
    equal(vmimg_ok("convert", "-q", image, t.path("b.raw")).err, b"", "quiet")
    qemu.io(image, "write -P 9 0 1M", fmt="qcow2")
    vmimg_ok("convert", "-q", "-l", "one", image, t.path("one.raw"))
    same(raw, t.path("one.raw"), "the snapshot")
    vmimg_ok("convert", "-q", "-l", "snapshot.name=one", image, t.path("two.raw"))
    same(raw, t.path("two.raw"), "the snapshot, in qemu's words")
    check(vmimg("convert", "-l", "none", image, t.path("c.raw")).code != 0, "no such snapshot")


def test_backing_file(t):
    if not has_qcow2():
        harness.skip("needs qcow2")
    raw = source(t)
    over = t.path("over.qcow2")
    vmimg_ok("create", "-q", "-b", "disk.raw", "-F", "raw", over)
    equal(vmimg_ok("info", "--json", over).json()["virtual-size"], SIZE, "size of the backing file")
    qemu.io(over, "write -P 7 1M 128k", fmt="qcow2")
    whole = qemu.convert(over, t.path("whole.raw"), "qcow2", "raw")
    vmimg_ok("convert", over, t.path("ours.raw"))
    same(whole, t.path("ours.raw"), "through the chain")
    vmimg_ok("convert", "-B", "disk.raw", "-F", "raw", over, t.path("thin.qcow2"))
    check(os.path.getsize(t.path("thin.qcow2")) < 1 << 20, "the backing file was copied")
    qemu.img("compare", over, t.path("thin.qcow2"))
    equal(vmimg("convert", "-B", "disk.raw", over, t.path("x.qcow2")).code, 2, "no -F")
    for options, code in ([], 5), (["--refs=beside"], 5), (["--refs=any"], 0):
        os.makedirs(t.path("sub"), exist_ok=True)
        far = t.path("sub/far.qcow2")
        qemu.img("create", "-q", "-f", "qcow2", "-b", "../disk.raw", "-F", "raw", far)
        equal(vmimg("convert", "--force", *options, far, t.path("y.raw")).code, code, str(options))
    vmimg_ok("create", "-q", "-u", "-b", "later.raw", "-F", "raw", t.path("u.qcow2"), "1M")
    equal(vmimg("create", "-b", "later.raw", "-F", "raw", t.path("v.qcow2"), "1M").code, 1, "without -u")
    equal(vmimg("create", "-u", "-b", "later.raw", "-F", "raw", t.path("v.qcow2")).code, 2, "no size")
    # a raw source has all of its disk: nothing may shine through from below
    with open(t.path("ff.raw"), "wb") as file:
        file.write(b"\xff" * SIZE)
    vmimg_ok("convert", "-B", "ff.raw", "-F", "raw", raw, t.path("solid.qcow2"))
    qemu.img("compare", raw, t.path("solid.qcow2"))


def test_disguise(t):
    """A guest whose own first bytes are an image: allowed, and said."""
    if not has_qcow2():
        harness.skip("needs qcow2")
    inner = qemu.create(t.path("inner.qcow2"), "qcow2", 1 << 20)
    result = vmimg_ok("convert", "-f", "raw", inner, t.path("outer.qcow2"))
    check("read as a raw disk" in result.errors, result.errors)
    result = vmimg_ok("convert", t.path("outer.qcow2"), t.path("again.raw"))
    check("state -f raw" in result.errors, result.errors)
    equal(disks.sha256(t.path("again.raw")), disks.sha256(inner), "content")


def test_salvage(t):
    if not has_qcow2():
        harness.skip("needs qcow2")
    raw = disks.pattern(t.path("disk.raw"), 8 << 20, seed=4, data=6 << 20)
    vmimg_ok("convert", "-O", "qcow2", raw, t.path("cut"))
    size = os.path.getsize(t.path("cut"))
    os.truncate(t.path("cut"), size - (1 << 20))
    check(vmimg("convert", "-O", "raw", t.path("cut"), t.path("out")).code != 0, "a cut image was converted")
    result = vmimg_ok("convert", "--salvage", "-O", "raw", t.path("cut"), t.path("out"))
    found = re.search(r"warning: error while reading offset (\d+)", result.errors)
    check(found, result.errors)
    lost = int(found[1])
    with open(raw, "rb") as file, open(t.path("out"), "rb") as out:
        want, got = file.read(), out.read()
    equal(len(got), len(want), "size")
    equal(got[:lost], want[:lost], "what comes before the hole")
    check(all(a == b or not a for a, b in zip(got, want)), "neither what was there nor zero")


def test_create(t):
    vmimg_ok("create", t.path("a.raw"), "1.5M")
    equal((os.path.getsize(t.path("a.raw")), os.stat(t.path("a.raw")).st_blocks), (3 << 19, 0), "a hole")
    vmimg_ok("create", "-o", "preallocation=full", t.path("b.raw"), "1M")
    check(os.stat(t.path("b.raw")).st_blocks * 512 >= 1 << 20, "preallocation")
    equal(vmimg("create", t.path("a.raw"), "1M").code, 5, "existing file")
    vmimg_ok("create", "--force", t.path("a.raw"), "0")
    equal(os.path.getsize(t.path("a.raw")), 0, "an empty disk")
    check("preallocation" in vmimg_ok("create", "-f", "raw", "-o", "help").text, "-o help")
    report = vmimg_ok("create", "--json", "-f", "raw", t.path("c"), "64k").json()
    equal((report["virtual-size"], report["format"], report["schema"]), (65536, "raw", "vmimg.create/1"), "JSON")
    for fmt in process.formats(writable=True):
        with t.sub(fmt):
            path = t.path("new." + fmt)
            vmimg_ok("create", "-f", fmt, path, "8M")
            report = vmimg_ok("info", "--json", path).json()
            equal((report["format"], report["virtual-size"]), (fmt, 8 << 20), "info")
            equal(vmimg_ok("digest", path).text.split()[0],
                  "2daeb1f36095b44b318410b3f4e8b5d989dcc7bb023d1426c492dab0a3053e74", "content")


def test_threads_and_reruns(t):
    """The same bytes from any number of threads, in every format."""
    raw = source(t)
    for fmt in process.formats(writable=True):
        for options in [], ["-c"]:
            with t.sub(f"{fmt} {' '.join(options)}"):
                digests = set()
                for count in "1", "2", "8", "8":
                    out = t.path("out." + fmt)
                    result = vmimg("convert", "--force", "-m", count, *options, "-O", fmt, raw, out)
                    if options and result.code == 2:
                        harness.skip("cannot be compressed")
                    equal(result.code, 0, str(result))
                    digests.add(disks.sha256(out))
                equal(len(digests), 1, "different files")
                equal(vmimg_ok("digest", out).text.split()[0], disks.sha256(raw), "content")


def test_epoch(t):
    equal(vmimg("create", t.path("a.raw"), "1M", extra_env={"SOURCE_DATE_EPOCH": "soon"}).code, 2, "epoch")
    vmimg_ok("create", t.path("a.raw"), "1M", extra_env={"SOURCE_DATE_EPOCH": "1700000000"})


if __name__ == "__main__":
    harness.main()
