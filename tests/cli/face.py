# SPDX-License-Identifier: Apache-2.0
"""
The program called qemu-img: the command lines of existing callers, run by it and by the real one in
two folders that are alike; exit codes, texts, JSON and disks must be the same. What differs on
purpose is in doc/qemu-img-face.md.
"""

import functools
import os
import re
import shutil

from lib import disks, env, harness, qemu
from lib.harness import check, equal
from lib.process import run

OPENSTACK = 1 << 30  # bytes of address space that Nova, Glance and Cinder allow qemu-img


class Pair:
    """Two folders with the same images, one for each program."""

    def __init__(self, t, changes=True):
        """Without changes one folder serves both: space on storage is the same, too."""
        harness.need("qemu-img", "qemu-io")
        self.theirs = self.ours = t.path("theirs")
        self.program = t.path("qemu-img")
        os.symlink(os.path.abspath(env.VMIMG), self.program)
        os.mkdir(self.theirs)
        make_images(self.theirs)
        if changes:
            self.ours = t.path("ours")
            shutil.copytree(self.theirs, self.ours)

    def run(self, *args, **how):
        """Results of both, after the exit codes were compared."""
        theirs = qemu.attempt(*args, cwd=self.theirs, **how)
        ours = run(self.program, *args, cwd=self.ours, **how)
        equal(ours.code, theirs.code, f"exit code of {' '.join(args)} ({ours.errors}{theirs.errors})")
        if theirs.code and theirs.errors:
            check(ours.errors.startswith("qemu-img: "), f"{ours}: does not say qemu-img")
        return theirs, ours

    def same(self, *args, **how):
        """The same text on standard output."""
        theirs, ours = self.run(*args, **how)
        space = re.compile(r"^disk size: .*$", re.M)  # copies of a file may take more or less
        equal(space.sub("", ours.text), space.sub("", theirs.text), " ".join(args))
        return ours

    def same_disk(self, name, fmt):
        """What both have made under that name holds the same, and is of that format."""
        result = run(env.find("qemu-img"), "compare", "-f", fmt, "-F", fmt,
                     f"{self.theirs}/{name}", f"{self.ours}/{name}")
        equal(result.code, 0, str(result))


def make_images(folder):
    def path(name):
        return os.path.join(folder, name)

    raw = disks.pattern(path("disk.raw"), 5 << 20, seed=3, data=1 << 20)
    qemu.convert(raw, path("disk.qcow2"), "raw", "qcow2")
    qemu.convert(raw, path("packed.qcow2"), "raw", "qcow2", "-c")
    for fmt in ("vmdk", "vdi", "vpc", "vhdx"):
        qemu.convert(raw, path(f"disk.{fmt}"), "raw", fmt)
    qemu.convert(raw, path("stream.vmdk"), "raw", "vmdk", subformat="streamOptimized")
    qemu.img("create", "-q", "-f", "qcow2", "-b", "disk.qcow2", "-F", "qcow2", path("over.qcow2"))
    qemu.io(path("over.qcow2"), "write -P 7 65536 65536", "write -z 262144 65536", fmt="qcow2")
    shutil.copy(path("disk.qcow2"), path("snap.qcow2"))
    qemu.img("snapshot", "-c", "first", path("snap.qcow2"))
    with open(path("archive.gz"), "wb") as file:  # raw to qemu-img, whatever it is
        file.write(b"\x1f\x8b\x08" + bytes(1021))


ALL = ("disk.raw", "disk.qcow2", "packed.qcow2", "disk.vmdk", "disk.vdi", "disk.vpc", "disk.vhdx",
       "over.qcow2", "snap.qcow2", "archive.gz")


def test_reports(t):
    pair = Pair(t, changes=False)
    for name in ALL:
        with t.sub(f"info {name}"):
            theirs, ours = pair.run("info", name)
            if name != "disk.vmdk":  # 7.2 leaves the format of extents blank
                equal(ours.text, theirs.text, "text")
        with t.sub(f"info --output=json {name}"):
            theirs, ours = (r.json() for r in pair.run("info", "--output=json", name))
            for key, value in theirs.items():
                if key == "snapshots":
                    for mine, other in zip(ours[key], value, strict=True):
                        equal({k: mine.get(k) for k in other}, other, "a snapshot")
                elif (name, key) != ("disk.vmdk", "format-specific"):
                    equal(ours.get(key), value, key)
        with t.sub(f"map {name}"):
            if name != "disk.vhdx":  # not done by 7.2
                pair.same("map", name)
                pair.same("map", "--output", "json", name)
        with t.sub(f"snapshot -l {name}"):
            pair.same("snapshot", "-l", name)
    for name in ("disk.raw", "disk.qcow2", "packed.qcow2", "over.qcow2", "snap.qcow2", "disk.vmdk"):
        with t.sub(f"check {name}"):
            pair.same("check", name)
    with t.sub("the whole chain"):
        pair.same("info", "--backing-chain", "over.qcow2")
    with t.sub("compare"):
        pair.same("compare", "disk.raw", "packed.qcow2")
        pair.same("compare", "-s", "disk.raw", "over.qcow2")
        pair.same("compare", "-f", "raw", "-F", "qcow2", "disk.raw", "over.qcow2")
        pair.run("compare", "disk.raw", "nothing")
    with t.sub("measure"):
        pair.same("measure", "-O", "qcow2", "disk.raw")
        theirs, ours = pair.run("measure", "--size", "10G", "-O", "qcow2", "--output=json")
        equal({key: ours.json().get(key) for key in theirs.json()}, theirs.json(), "sizes")


def test_create(t):
    pair = Pair(t)
    for args in (("-f", "qcow2", "x", "10G"), ("x", "1M"), ("-f", "vmdk", "x", "64M"),
                 ("-f", "vdi", "x", "64M"), ("-f", "vpc", "x", "64M"), ("-f", "vhdx", "x", "64M"),
                 ("-f", "qcow2", "-o", "cluster_size=4k,preallocation=metadata", "x", "1M"),
                 ("-f", "qcow2", "-b", "disk.qcow2", "-F", "qcow2", "x"),
                 ("-f", "vmdk", "-o", "subformat=streamOptimized,adapter_type=lsilogic", "x", "1M"),
                 ("-q", "-f", "qcow2", "x", "1M"), ("x", "1M", "-f", "qcow2")):
        with t.sub(" ".join(args)):  # each over the one before it
            ours = pair.run("create", *args)
            line = ours[0].text.replace("size=67125248", "size=67108864")
            equal(ours[1].text, line, "the line on what is made")
    for args in (("-f", "qcow2", "x"), ("-f", "nonsense", "x", "1M"), ("x", "much"),
                 ("-f", "qcow2", "-b", "disk.qcow2", "x")):
        with t.sub("refused: " + " ".join(args)):
            pair.run("create", *args)


def test_sizes_and_options(t):
    """The command lines of QEMU's own test 049: what is a size, an option, a value."""
    pair = Pair(t)
    for size in ("1024", "1024b", "1k", "1K", "1M", "1T", "1024.0", "1.5k", "1.5G", "0", "-1024",
                 "-1k", "1kilobyte", "foobar", "", "1e3"):
        with t.sub(f"size '{size}'"):
            pair.same("create", "-f", "qcow2", "x", "--", size)
            pair.same("create", "-f", "qcow2", "-o", f"size={size}", "x")
    for text in ("lazy_refcounts=on", "cluster_size=64k", "cluster_size=4k,lazy_refcounts=on",
                 "compat=0.10", "compat=1.1", "preallocation=off"):
        with t.sub(text):
            pair.same("create", "-f", "qcow2", "-o", text, "x", "64M")
    for text in ("cluster_size=1234", "compat=1234", "preallocation=1234", "nonsense=1", "help", "?",
                 "cluster_size=4k,help"):
        with t.sub(text):
            pair.run("create", "-f", "qcow2", "-o", text, "x", "64M")
    with t.sub("-o more than once"):
        pair.same("create", "-f", "qcow2", "-o", "cluster_size=4k", "-o", "lazy_refcounts=on", "x", "1M")
        pair.run("create", "-f", "raw", "x", "1M", "-o", "size=2M")


def test_kubevirt(t):
    """CDI: sizes from info, a conversion with progress, then the resize to the volume's size."""
    pair = Pair(t)
    report = pair.run("info", "--output=json", "disk.qcow2")[1].json()
    for key in ("virtual-size", "actual-size", "format"):
        check(key in report, key)
    ours = pair.run("convert", "-t", "writeback", "-p", "-O", "raw", "disk.qcow2", "disk.img")[1]
    found = re.findall(r"\((\d?\d\.\d\d)/100%\)", ours.text)
    check(found and found[0] == "0.00", ours.text)
    check("(100.00/100%)" in ours.text, ours.text)
    pair.same_disk("disk.img", "raw")
    pair.same("resize", "-f", "raw", "--preallocation=falloc", "disk.img", str(6 << 20))
    pair.same("resize", "-f", "raw", "disk.img", "7M")
    equal(os.stat(f"{pair.ours}/disk.img").st_size, 7 << 20, "size")
    pair.run("create", "-f", "raw", "blank.img", "8388608")
    pair.run("info", "--output=json", "nothing.img")


def test_openstack(t):
    """Nova, Glance and Cinder, which cap the memory."""
    pair = Pair(t)
    pair.run("info", "disk.qcow2", "--force-share", "--output=json", memory=OPENSTACK)
    for fmt in ("qcow2", "vmdk", "vdi", "vhdx"):
        with t.sub(fmt):
            pair.run("convert", "-O", "raw", "-t", "none", "-f", fmt, f"disk.{fmt}", "part.raw",
                     memory=OPENSTACK)
            pair.same_disk("part.raw", "raw")
    with t.sub("back to qcow2, compressed"):
        pair.run("convert", "-f", "raw", "-O", "qcow2", "-c", "-W", "-m", "8", "disk.raw", "x.qcow2")
        pair.same_disk("x.qcow2", "qcow2")
    with t.sub("a snapshot of a snapshot"):
        pair.run("convert", "-l", "snapshot.name=first", "-O", "raw", "snap.qcow2", "s.raw")
        pair.same_disk("s.raw", "raw")
    with t.sub("descriptions of local files"):
        pair.same("info", 'json:{"driver": "qcow2", "file": {"driver": "file", "filename": '
                  '"disk.qcow2"}}')
        pair.same("info", "--image-opts", "driver=qcow2,file.filename=disk.qcow2")
        pair.run("info", "json:{")
        pair.run("info", "nowhere:disk")


def test_packer(t):
    pair = Pair(t)
    pair.same("create", "-f", "qcow2", "box.qcow2", "40960M")
    pair.same("resize", "-f", "qcow2", "disk.qcow2", "+1G")
    pair.run("convert", "-O", "qcow2", "-c", "disk.qcow2", "box.qcow2")
    pair.same_disk("box.qcow2", "qcow2")


def test_libguestfs(t):
    pair = Pair(t)
    help_text, version = pair.run("--help")[1].text, pair.run("--version")[1].text
    check(re.match(r"qemu-img version \d+\.\d+", version), version)
    formats = re.search(r"^Supported formats: (.*)$", help_text, re.M)[1].split()
    for fmt in ("qcow2", "raw", "vmdk", "vdi", "vpc", "vhdx"):
        check(fmt in formats, f"{fmt} in {formats}")
    pair.run("info", "--output", "json", "disk.raw")
    pair.run("create", "-f", "qcow2", "-o", "backing_file=disk.raw,backing_fmt=raw", "over", "-q")
    equal(pair.run("info", "--output", "json", "over")[1].json()["backing-filename-format"], "raw",
          "format of the backing file")
    pair.same_disk("over", "qcow2")


def test_proxmox_and_lima(t):
    pair = Pair(t)
    for folder in (pair.theirs, pair.ours):
        with open(f"{folder}/volume", "wb") as file:
            file.truncate(5 << 20)
    pair.run("convert", "-p", "-n", "-f", "qcow2", "-O", "raw", "over.qcow2", "volume")
    pair.same_disk("volume", "raw")
    pair.run("convert", "-O", "raw", "disk.qcow2", "lima")
    pair.same("resize", "-f", "raw", "lima", "20G")
    pair.same_disk("lima", "raw")
    with t.sub("snapshots"):
        pair.same("snapshot", "-c", "second", "disk.qcow2")
        pair.same("snapshot", "-a", "second", "disk.qcow2")
        pair.same("snapshot", "-d", "second", "disk.qcow2")
        pair.same("snapshot", "-l", "disk.qcow2")


def test_several_sources_and_dd(t):
    pair = Pair(t)
    pair.run("convert", "disk.raw", "over.qcow2", "-O", "qcow2", "both.qcow2")
    pair.same_disk("both.qcow2", "qcow2")
    for args in (("bs=1M",), ("bs=64k", "skip=3"), ("bs=4k", "count=100"), ("count=0",)):
        with t.sub("dd " + " ".join(args)):
            pair.run("dd", "-f", "qcow2", "-O", "raw", *args, "if=packed.qcow2", "of=part")
            pair.same_disk("part", "raw")
    with t.sub("dd: count is counted from where it begins"):
        run(pair.program, "dd", "-f", "raw", "bs=4k", "skip=2", "count=10", "if=disk.raw", "of=part",
            cwd=pair.ours)
        with open(f"{pair.ours}/disk.raw", "rb") as whole, open(f"{pair.ours}/part", "rb") as part:
            equal(part.read(), whole.read()[8192:8192 + 40960], "bytes")
    for args in (("bs=0",), ("nonsense=1",), ("of=x",)):
        with t.sub("refused: dd " + " ".join(args)):
            pair.run("dd", "if=disk.raw", *args)


def test_commit(t):
    pair = Pair(t)
    for folder in (pair.theirs, pair.ours):
        qemu.img("create", "-q", "-f", "qcow2", "-b", "disk.raw", "-F", "raw", f"{folder}/thin.qcow2")
        qemu.io(f"{folder}/thin.qcow2", "write -P 3 1M 100k", "write -z 64k 64k", fmt="qcow2")
    for args in (("-d", "thin.qcow2"), ("-b", "disk.raw", "-q", "thin.qcow2"), ("-r", "1G", "thin.qcow2"),
                 ("-f", "qcow2", "-t", "none", "thin.qcow2")):
        with t.sub(" ".join(args)):
            pair.same("commit", *args)
            pair.same_disk("disk.raw", "raw")
            pair.same_disk("thin.qcow2", "qcow2")
    for args in (("disk.raw",), ("-b", "nothing", "thin.qcow2"), ("nothing",), (), ("a", "b"), ("-t", "bad", "thin.qcow2"),
                 ("-r", "x", "thin.qcow2"), ("-b", "thin.qcow2", "thin.qcow2")):
        with t.sub("refused: " + " ".join(args)):
            theirs, ours = pair.run("commit", *args)
            if "-b" in args or args == ("disk.raw",):
                equal(ours.errors.splitlines()[0], [line for line in theirs.errors.splitlines()
                                                    if line.startswith("qemu-img")][0], "the error")


def leak(path):
    """Adds a cluster that nobody uses."""
    with open(path, "r+b") as file:
        head = file.read(64 << 10)
        file.seek(int.from_bytes(head[48:56], "big"))
        block = int.from_bytes(file.read(8), "big")
        index = os.path.getsize(path) // 65536
        file.seek(block + 2 * index)
        file.write(b"\0\1")
        file.truncate((index + 1) * 65536)


def test_check_repair(t):
    pair = Pair(t)
    for args in (("-r", "leaks", "disk.qcow2"), ("-r", "all", "disk.qcow2")):
        with t.sub(" ".join(args)):
            for folder in (pair.theirs, pair.ours):
                leak(f"{folder}/{args[-1]}")
            fixed = pair.same("check", *args)
            check("    1 leaked clusters\n    0 corruptions\n" in fixed.text, fixed.text)
            pair.same("check", *args)
            pair.same_disk(args[-1], "qcow2")
    with t.sub("JSON"):
        for folder in (pair.theirs, pair.ours):
            leak(f"{folder}/snap.qcow2")
        theirs, ours = (r.json() for r in pair.run("check", "-r", "all", "--output=json", "snap.qcow2"))
        equal({key: ours.get(key) for key in theirs}, theirs, "fields")
    with t.sub("refcounts of clusters that the file does not have"):
        for name, what in (("disk.qcow2", "leaks"), ("over.qcow2", "all")):
            leak(f"{pair.ours}/{name}")
            os.truncate(f"{pair.ours}/{name}", os.path.getsize(f"{pair.ours}/{name}") - 65536)
            before = os.path.getsize(f"{pair.ours}/{name}")
            equal(run(pair.program, "check", name, cwd=pair.ours).code, 3, "check")
            fixed = run(pair.program, "check", "-r", what, name, cwd=pair.ours)
            check(fixed.code == 0 and "    1 leaked clusters\n    0 corruptions\n" in fixed.text, fixed.text)
            equal(os.path.getsize(f"{pair.ours}/{name}"), before, "size: nothing is built anew")
            pair.same_disk(name, "qcow2")
    with t.sub("nothing to check"):
        pair.run("check", "-r", "all", "disk.raw")
    pair.run("check", "-r", "some", "disk.qcow2")
    with t.sub("something worse"):
        for folder in (pair.theirs, pair.ours):
            with open(f"{folder}/disk.qcow2", "r+b") as file:
                head = file.read(64 << 10)
                file.seek(int.from_bytes(head[48:56], "big"))
                file.seek(int.from_bytes(file.read(8), "big") + 2 * 6)
                file.write(b"\0\0")
            leak(f"{folder}/disk.qcow2")
        result = run(pair.program, "check", "-r", "leaks", "disk.qcow2", cwd=pair.ours)
        check(result.code == 2 and "fixed" not in result.text, f"{result}{result.text}")  # qemu-img exits 1
        pair.run("check", "-r", "all", "disk.qcow2")
        pair.run("check", "disk.qcow2")
        pair.same_disk("disk.qcow2", "qcow2")
    with t.sub("an entry that leads out of the file, and leaks"):
        for folder in (pair.theirs, pair.ours):
            with open(f"{folder}/disk.qcow2", "r+b") as file:
                file.seek(40)
                file.seek(int.from_bytes(file.read(8), "big"))
                table = int.from_bytes(file.read(8), "big") & ~(1 << 63)
                file.seek(table)
                entries = file.read(65536)
                at = next(i for i in range(0, 65536, 8) if not any(entries[i:i + 8]))
                file.seek(table + at)
                file.write((1 << 63 | 1 << 40).to_bytes(8, "big"))
            leak(f"{folder}/disk.qcow2")
            leak(f"{folder}/disk.qcow2")
        native = run(env.VMIMG, "check", "-r", "leaks", f"{pair.ours}/disk.qcow2")
        check(native.code == 2 and "2 leaked" in native.text, f"{native}{native.text}")
        for program, folder in ((env.find("qemu-img"), pair.theirs), (pair.program, pair.ours)):
            fixed = run(program, "check", "-r", "leaks", "disk.qcow2", cwd=folder)
            check(fixed.code == 2 and "    2 leaked clusters\n    0 corruptions\n" in fixed.text, f"{fixed}{fixed.text}")
        left = run("qemu-img", "check", "disk.qcow2", cwd=pair.ours)
        check(left.code == 2 and "leaked" not in left.text, str(left)[:500])


def test_errors(t):
    pair = Pair(t)
    for args in ((), ("nonsense",), ("convert",), ("convert", "--nonsense", "a", "b"),
                 ("convert", "-O"), ("info",), ("info", "a", "b"), ("info", "--output=x", "disk.raw"),
                 ("resize", "-f", "raw", "disk.raw", "1M"), ("resize", "disk.raw"),
                 ("resize", "-f", "raw", "disk.raw", "--", "-1M"),
                 ("info", "-f", "nonsense", "disk.raw"), ("convert", "-O", "nonsense", "disk.raw", "x"),
                 ("convert", "disk.raw", "nowhere/x"), ("check", "nothing"), ("measure",),
                 ("snapshot", "-c", "x", "disk.raw"), ("rebase", "disk.qcow2"), ("rebase", "-b", "disk.raw"),
                 ("rebase", "-b", "disk.raw", "over.qcow2"), ("rebase", "-b", "disk.raw", "-F", "x", "over.qcow2"),
                 ("rebase", "-b", "nothing", "-F", "raw", "over.qcow2"), ("rebase", "-b", "", "disk.raw")):
        with t.sub(" ".join(args) or "nothing"):
            pair.run(*args)
    with t.sub("bundled, abbreviated and late options"):
        pair.same("info", "disk.qcow2", "--out", "human", "-U")
        pair.run("convert", "-pqO", "raw", "disk.qcow2", "x")
    with t.sub("a failed conversion leaves what was there"):
        before = disks.sha256(f"{pair.ours}/disk.vdi")
        with open(f"{pair.ours}/broken.qcow2", "wb") as file:
            file.write(open(f"{pair.ours}/disk.qcow2", "rb").read()[:400000])
        result = run(pair.program, "convert", "-O", "raw", "broken.qcow2", "disk.vdi", cwd=pair.ours)
        equal(result.code, 1, str(result))
        equal(disks.sha256(f"{pair.ours}/disk.vdi"), before, "the old file")
    with t.sub("a link's target is replaced"):
        os.symlink("disk.vdi", f"{pair.ours}/link")
        os.chmod(f"{pair.ours}/disk.vdi", 0o640)
        result = run(pair.program, "convert", "-O", "raw", "disk.qcow2", "link", cwd=pair.ours)
        equal(result.code, 0, str(result))
        check(os.path.islink(f"{pair.ours}/link"), "the link is gone")
        equal(os.stat(f"{pair.ours}/disk.vdi").st_size, 5 << 20, "size of the target")
        equal(os.stat(f"{pair.ours}/disk.vdi").st_mode & 0o777, 0o640, "mode of the target")


def header(path):
    with open(path, "rb") as file:
        return file.read(104)


def test_preallocated_overlays(t):
    """Clusters have their places, and the backing file shows through."""
    pair = Pair(t)
    for mode in ("metadata", "falloc", "full"):
        for more in ("", ",cluster_size=2M"):
            with t.sub(mode + more):
                pair.same("create", "-f", "qcow2", "-o", f"extended_l2=on,preallocation={mode}{more}", "-b", "disk.qcow2",
                          "-F", "qcow2", "x.qcow2")
                pair.same("map", "--output=json", "x.qcow2")
                pair.same("check", "x.qcow2")
                pair.same_disk("x.qcow2", "qcow2")
                for folder in {pair.theirs, pair.ours}:
                    qemu.io(f"{folder}/x.qcow2", "write -P 7 1000k 3k", "write -z 100k 50k")
                pair.same_disk("x.qcow2", "qcow2")
                pair.same("convert", "-O", "qcow2", "-B", "disk.qcow2", "-F", "qcow2", "-o",
                          f"extended_l2=on,preallocation={mode}{more}", "over.qcow2", "y.qcow2")
                pair.same_disk("y.qcow2", "qcow2")
                equal(run(env.find("qemu-img"), "check", "y.qcow2", cwd=pair.ours).code, 0, "check")


def test_layout(t):
    """Where things lie in a new QCOW2 image: some callers know."""
    pair = Pair(t)
    for options in ("cluster_size=64k", "cluster_size=512", "compat=0.10", "refcount_bits=1",
                    "cluster_size=2M,extended_l2=on", "preallocation=metadata"):
        with t.sub("create -o " + options):
            pair.same("create", "-f", "qcow2", "-o", options, "x.qcow2", "64M")
            equal(header(f"{pair.ours}/x.qcow2"), header(f"{pair.theirs}/x.qcow2"), "header")
    for words in ((), ("-S", "0"), ("-S", "0", "-c"), ("-c",), ("-o", "cluster_size=4k")):
        with t.sub("convert " + " ".join(words)):
            pair.same("convert", "-m", "1", "-O", "qcow2", *words, "disk.raw", "x.qcow2")
            pair.same_disk("x.qcow2", "qcow2")
            pair.same("map", "--output=json", "x.qcow2")
            if "-c" not in words:  # their deflate is another one
                pair.same("check", "x.qcow2")


def test_last_sector(t):
    """A disk that does not end with a sector: QEMU sees whole sectors of an image."""
    pair = Pair(t)
    for folder in {pair.theirs, pair.ours}:
        disks.pattern(f"{folder}/odd.raw", (1 << 20) + 1001, seed=9)
    pair.run("convert", "-O", "qcow2", "odd.raw", "x.qcow2")
    pair.same_disk("x.qcow2", "qcow2")
    pair.same("info", "x.qcow2")
    pair.run("compare", "odd.raw", "x.qcow2")
    pair.same("create", "-f", "raw", "x.raw", "1001")
    equal(os.path.getsize(f"{pair.ours}/x.raw"), os.path.getsize(f"{pair.theirs}/x.raw"), "size of a raw disk")


def test_backing_formats(t):
    """The header names them as QEMU does, or it could not open the image."""
    pair = Pair(t)
    for fmt in ("vpc", "vmdk", "vdi", "vhdx", "raw"):
        with t.sub(fmt):
            pair.same("create", "-f", "qcow2", "-b", f"disk.{fmt}", "-F", fmt, "x.qcow2")
            pair.same("info", "x.qcow2")
            pair.same_disk("x.qcow2", "qcow2")
            pair.same("rebase", "-u", "-b", "disk.vpc", "-F", "vpc", "x.qcow2")
            pair.same("info", "x.qcow2")
    with t.sub("a word of QEMU's"):
        pair.same("rebase", "-u", "-b", "/dev/sda", "-F", "host_device", "x.qcow2")
        pair.same("info", "x.qcow2")
        pair.run("rebase", "-u", "-b", "/dev/sda", "-F", "nonsense", "x.qcow2")
    with t.sub("a loop"):
        pair.same("rebase", "-u", "-b", "disk.qcow2", "-F", "qcow2", "disk.qcow2")
        pair.same("info", "disk.qcow2")
        pair.same("info", "--backing-chain", "disk.qcow2")


def test_descriptions(t):
    """QEMU's JSON has strings in single quotes, too."""
    pair = Pair(t)
    for text in ("{'driver':'qcow2','file':{'driver':'file','filename':'disk.qcow2'}}",
                 "{'driver':'raw', \"file.filename\": 'it\\'s \"odd\"'}"):
        with t.sub(text):
            for folder in {pair.theirs, pair.ours}:
                shutil.copy(f"{folder}/disk.raw", f"{folder}/it's \"odd\"")
            pair.run("convert", "-O", "raw", "json:" + text, "x")
            pair.same_disk("x", "raw")
    for text in ("{'driver':'qcow2'", "{'driver':'qcow2\"}", "{driver:qcow2}"):
        pair.run("info", "json:" + text)
    pair.same("check", "--image-opts", "driver=qcow2,l2-cache-entry-size=4096,overlap-check=none,"
              "file.driver=file,file.filename=disk.qcow2")


def test_without_backing(t):
    """What oVirt asks for: an overlay as if there were nothing below it, which need not be there."""
    pair = Pair(t)
    bare = 'json:{"driver": "qcow2", "backing": null, "file": {"driver": "file", "filename": "over.qcow2"}}'
    for folder in {pair.theirs, pair.ours}:
        os.unlink(f"{folder}/disk.qcow2")
    pair.same("measure", "-O", "qcow2", bare)
    pair.same("map", "--output=json", bare)
    pair.same("check", bare)
    pair.run("convert", "-O", "raw", bare, "x")
    pair.same_disk("x", "raw")
    pair.run("convert", "-O", "raw", "--image-opts", "driver=qcow2,backing=,file.filename=over.qcow2", "x")
    pair.same_disk("x", "raw")
    pair.same("compare", bare, bare)
    check(run(pair.program, "compare", bare, "disk.raw", cwd=pair.ours).code == 2, "one of two")
    pair.run("compare", "nowhere:disk", "disk.raw")
    check(run(pair.program, "resize", bare, "7M", cwd=pair.ours).code == 1, "changed")


def test_compare_sizes(t):
    pair = Pair(t)
    for folder in {pair.theirs, pair.ours}:
        shutil.copy(f"{folder}/disk.raw", f"{folder}/longer.raw")
        os.truncate(f"{folder}/longer.raw", 6 << 20)
    pair.same("compare", "disk.raw", "longer.raw")
    for at in (5 << 20, 70000):
        with t.sub(f"a difference at {at}"):
            for folder in {pair.theirs, pair.ours}:
                with open(f"{folder}/longer.raw", "r+b") as file:
                    file.seek(at)
                    file.write(b"\x55\xaa\x55")
            pair.same("compare", "disk.raw", "longer.raw")
            pair.same("compare", "longer.raw", "disk.raw")


def test_measure_all(t):
    pair = Pair(t, changes=False)
    qemu.img("bitmap", "--add", f"{pair.theirs}/disk.qcow2", "b0")
    qemu.img("bitmap", "--add", "-g", "2M", f"{pair.theirs}/disk.qcow2", "another")
    for words in (("--size", "1G"), ("--size", "20T"), ("disk.qcow2",), ("over.qcow2",), ("disk.raw",)):
        for options in ("preallocation=off", "preallocation=metadata", "preallocation=falloc", "preallocation=full",
                        "cluster_size=2M", "extended_l2=on", "compat=0.10"):
            with t.sub(" ".join(words) + " " + options):
                pair.same("measure", "-O", "qcow2", "-o", options, *words)
    theirs, ours = (r.json() for r in pair.run("measure", "-O", "qcow2", "--output=json", "disk.qcow2"))
    equal({key: ours.get(key) for key in theirs}, theirs, "JSON")
    for words in ((), ("--size", "1M", "disk.raw"), ("-f", "raw"), ("-l", "x")):
        theirs, ours = pair.run("measure", *words)
        equal(ours.errors, theirs.errors, "the error of " + " ".join(words))


def test_create_more(t):
    pair = Pair(t)
    for fmt in ("raw", "qcow2", "vdi", "vmdk", "vpc"):
        with t.sub("options of the file below: " + fmt):
            line = pair.run("create", "-f", fmt, "-o", "nocow=on", "x", "64M")
            equal(line[1].text, line[0].text.replace("67125248", "67108864"), "line")
    pair.run("convert", "-O", "qcow2", "-o", "nocow=on,extent_size_hint=1M", "disk.raw", "x")
    pair.same_disk("x", "qcow2")
    for words in (("-o", "cluster_size=100", "x", "1M"), ("-o", "refcount_bits=3", "x", "1M"),
                  ("-o", "cluster_size=512", "x", "1P"), ("-b", "disk.qcow2", "x"), ("x",),
                  ("-b", "nothing", "-F", "qcow2", "x"), ("-o", "nonsense=1", "x", "1M")):
        with t.sub("refused: " + " ".join(words)):
            theirs, ours = pair.run("create", "-f", "qcow2", *words)
            equal(ours.text, theirs.text, "what was understood")
            check(ours.errors.startswith("qemu-img: x: "), ours.errors)
    with t.sub("a data file by its whole name"):
        for program, folder in ((env.find("qemu-img"), pair.theirs), (pair.program, pair.ours)):
            result = run(program, "create", "-f", "qcow2", "-o", f"data_file={folder}/data", "x", "1M", cwd=folder)
            equal(result.code, 0, str(result))
            qemu.io(f"{folder}/x", "write -P 7 64k 4k")
            run(program, "convert", "-O", "raw", "x", "y", cwd=folder)
        pair.same_disk("y", "raw")
    for words in (("-o", "backing_file=disk.raw,backing_fmt=raw", "over.qcow2"), ("-o", "nonsense=1", "disk.qcow2"),
                  ("-o", "cluster_size=4k", "disk.qcow2"), ("-o", "compat=1.1", "disk.raw")):
        with t.sub("refused: amend " + " ".join(words)):
            pair.run("amend", *words)
    with t.sub("-n takes no -o"):
        theirs, ours = pair.run("convert", "-n", "-O", "raw", "-o", "size=1", "disk.raw", "x")
        equal(ours.errors, theirs.errors, "the error")


def test_grow_over_backing(t):
    """A backing file that is larger does not show through when the image grows."""
    pair = Pair(t)
    for options in ("cluster_size=64k", "extended_l2=on", "cluster_size=4k"):
        for size in ("520k", "1M", "4k"):
            with t.sub(f"{options} {size}"):
                pair.run("create", "-f", "qcow2", "-o", options, "-b", "disk.raw", "-F", "raw", "x.qcow2")
                pair.same("resize", "--shrink", "-q", "x.qcow2", size)
                for larger in ("567k" if size == "520k" else "2M", "3M", "7M"):
                    pair.same("resize", "x.qcow2", larger)
                    pair.same_disk("x.qcow2", "qcow2")
                    equal(run(env.find("qemu-img"), "check", "x.qcow2", cwd=pair.ours).code, 0, "check")


def test_check_words(t):
    """Refcounts that are wrong, in the words of qemu-img, on the same stream."""
    pair = Pair(t)
    for folder in {pair.theirs, pair.ours}:
        leak(f"{folder}/disk.qcow2")
        with open(f"{folder}/disk.qcow2", "r+b") as file:
            head = file.read(64 << 10)
            file.seek(int.from_bytes(head[48:56], "big"))
            file.seek(int.from_bytes(file.read(8), "big") + 2 * 6)
            file.write(b"\0\0")
    theirs = run(env.find("qemu-img"), "check", "disk.qcow2", cwd=pair.theirs)
    ours = run(pair.program, "check", "disk.qcow2", cwd=pair.ours)
    equal((ours.code, ours.text), (theirs.code, theirs.text), "totals")
    equal(sorted(ours.errors.splitlines()), sorted(theirs.errors.splitlines()), "findings")
    pair.run("check", "-r", "all", "disk.qcow2")
    pair.run("check", "disk.qcow2")


def test_check_flags(t):
    """Entries whose COPIED flag says something else than the refcount, in the words of qemu-img."""
    pair = Pair(t)
    for folder in {pair.theirs, pair.ours}:
        qemu.create(f"{folder}/disk.qcow2", "qcow2", "2G")
        qemu.io(f"{folder}/disk.qcow2", "write 0 128k", "write 1G 64k")
        with open(f"{folder}/disk.qcow2", "r+b") as file:
            file.seek(40)
            tables = int.from_bytes(file.read(8), "big")
            file.seek(tables)
            first = int.from_bytes(file.read(8), "big") & (1 << 56) - 1
            for at in tables + 16, first + 8:
                file.seek(at)
                flags = file.read(1)[0]
                check(flags & 0x80, "the flag is not there")
                file.seek(at)
                file.write(bytes([flags & 0x7f]))
    theirs = run(env.find("qemu-img"), "check", "disk.qcow2", cwd=pair.theirs)
    ours = run(pair.program, "check", "disk.qcow2", cwd=pair.ours)
    equal((ours.code, ours.text), (theirs.code, theirs.text), "totals")
    equal(sorted(ours.errors.splitlines()), sorted(theirs.errors.splitlines()), "findings")


def test_resize_preallocated(t):
    pair = Pair(t)
    for options in ("cluster_size=64k", "cluster_size=512", "extended_l2=on"):
        for mode in ("metadata", "falloc", "full", "off"):
            with t.sub(f"{options} {mode}"):
                pair.same("create", "-q", "-f", "qcow2", "-o", options, "x.qcow2", "1000k")
                for folder in {pair.theirs, pair.ours}:
                    qemu.io(f"{folder}/x.qcow2", "write -P 5 900k 100k")
                pair.same("resize", f"--preallocation={mode}", "x.qcow2", "20M")
                pair.same_disk("x.qcow2", "qcow2")
                for program in (env.find("qemu-img"), pair.program):
                    equal(run(program, "check", "x.qcow2", cwd=pair.ours).code, 0, "check")
                theirs, ours = (os.stat(f"{folder}/x.qcow2") for folder in (pair.theirs, pair.ours))
                check(ours.st_size >= 19 << 20 or mode == "off", f"{ours.st_size} bytes")
                equal(ours.st_blocks * 512 >= 19 << 20, mode in ("falloc", "full"), "space is held")
                for folder in {pair.theirs, pair.ours}:
                    qemu.io(f"{folder}/x.qcow2", "write -P 6 999k 5k", "write -P 7 10M 70k")
                pair.same_disk("x.qcow2", "qcow2")
    pair.run("resize", "--preallocation=metadata", "-f", "raw", "disk.raw", "7M")
    pair.run("resize", "--preallocation=nonsense", "disk.qcow2", "7M")


def test_luks(t):
    """A volume's size, and its key slots by their names without a prefix."""
    pair = Pair(t)
    secrets = [word for i in range(3) for word in ("--object", f"secret,id=s{i},data=word{i}")]

    def image(i):
        return ["--image-opts", f"driver=luks,key-secret=wrong,file.filename=x.luks,key-secret=s{i}"]

    for program, folder in ((qemu.attempt, pair.theirs), (functools.partial(run, pair.program), pair.ours)):
        made = program("create", *secrets, "-f", "luks", "-o", "key-secret=s0,iter-time=10", "x.luks", "4M", cwd=folder)
        equal(made.text, "Formatting 'x.luks', fmt=luks size=4194304 key-secret=s0 iter-time=10\n", "line")
    pair.same("resize", *secrets, *image(0), "+3M")
    theirs, ours = (r.json() for r in pair.run("info", "--output=json", "x.luks"))
    equal(ours["virtual-size"], theirs["virtual-size"], "size")
    pair.same("amend", *secrets, *image(0), "-o", "state=active,new-secret=s1,iter-time=10")
    pair.same("amend", *secrets, *image(1), "-o", "state=inactive,old-secret=s0")
    for folder in {pair.theirs, pair.ours}:
        for i, code in (0, 1), (1, 0):
            opened = run("qemu-io", *secrets, "-c", "read 0 7M", *image(i), cwd=folder)
            equal(opened.code, code, str(opened))
    for words in (("-o", "state=inactive,old-secret=s1"), ("-o", "state=active"), ("-o", "nonsense=1")):
        pair.run("amend", *secrets, *image(1), *words)


def test_option_help(t):
    """Callers look for options in it: the same, in the same lines; what they mean is said in other words."""
    pair = Pair(t, changes=False)
    listed = re.compile(r"^(  \S+=<[^>]*>) *- .+$", re.M)

    def same_list(*words):
        theirs, ours = pair.run(*words)
        equal(listed.sub(r"\1", ours.text), listed.sub(r"\1", theirs.text), " ".join(words))

    for words in (("-f", "qcow2"), ("-f", "luks"), ("-f", "raw"), (), ("-f", "nonsense")):
        same_list("amend", *words, "-o", "help")
    for fmt in ("qcow2", "raw", "vmdk", "vdi", "vpc", "vhdx", "luks"):
        for words in (("create", "-f", fmt), ("create", "-f", fmt, "x"), ("convert", "-O", fmt),
                      ("convert", "-O", fmt, "disk.raw"), ("convert", "-O", fmt, "disk.raw", "x")):
            with t.sub(" ".join(words)):
                same_list(*words, "-o", "help")
                same_list(*words, "-o", "?")


def test_options_that_exclude_each_other(t):
    pair = Pair(t)
    described = "driver=qcow2,file.filename=disk.qcow2"
    for words in (("convert", "--target-is-zero", "disk.raw", "x"), ("convert", "-C", "-c", "-O", "qcow2", "disk.raw", "x"),
                  ("convert", "-C", "-S", "4k", "disk.raw", "x"), ("info", "--image-opts", "-f", "qcow2", described),
                  ("convert", "--target-image-opts", "disk.raw", described),
                  ("convert", "--target-image-opts", "-n", "-O", "qcow2", "disk.raw", described),
                  ("convert", "-B", "disk.raw", "-F", "raw", "-O", "qcow2", "disk.raw", "disk.vdi", "x"),
                  ("convert", "--bitmaps", "-O", "qcow2", "disk.raw", "x"),
                  ("convert", "--bitmaps", "-O", "qcow2", "disk.qcow2", "snap.qcow2", "x"),
                  ("convert", "--skip-broken-bitmaps", "-O", "qcow2", "disk.qcow2", "x"),
                  ("measure", "-f", "qcow2", "--size", "1M"), ("resize", "--shrink", "disk.qcow2", "0"), ("create",)):
        with t.sub(" ".join(words)):
            theirs, ours = pair.run(*words)
            equal(ours.errors, theirs.errors.split("Try '")[0], "the error")
    pair.run("convert", "--target-image-opts", "-n", "disk.raw", described)
    pair.run("dd", "--image-opts", "if=" + described, "of=x", "bs=1M")
    pair.same_disk("x", "raw")
    pair.same("convert", "-O", "qcow2", "-o", "size=1G", "disk.raw", "x")
    pair.same("info", "x")
    pair.same("rebase", "-u", "over.qcow2")
    pair.same("info", "over.qcow2")


def test_texts(t):
    """The first line of an error, whole."""
    pair = Pair(t)
    create = ("create", "-f", "qcow2")
    for words in ((*create, "-o", "cluster_size=3k", "x", "1M"), (*create, "-o", "refcount_bits=3", "x", "1M"),
                  (*create, "-o", "compat=0.10,refcount_bits=1", "x", "1M"),
                  (*create, "-o", "compat=0.10,lazy_refcounts=on", "x", "1M"), (*create, "-o", "compat=0.42", "x", "1M"),
                  (*create, "-o", "compat=0.10,compression_type=zstd", "x", "1M"),
                  (*create, "-o", "compression_type=lz4", "x", "1M"), (*create, "-o", "lazy_refcounts=maybe", "x", "1M"),
                  (*create, "-o", "extended_l2=on,cluster_size=8k", "x", "1M"), (*create, "-o", "data_file_raw=on", "x", "1M"),
                  (*create, "-o", "encrypt.format=luks", "x", "1M"),
                  (*create, "-o", "preallocation=full", "-b", "disk.raw", "-F", "raw", "x"),
                  (*create, "-o", "data_file=y,data_file_raw=on", "-b", "disk.raw", "-F", "raw", "x"), (*create, "-o", "cluster_size=512", "x", "1T"),
                  (*create, "-F", "raw", "x", "1M"), (*create, "-o", "size=1M", "x", "2M"), (*create, "-o", "nonsense=1", "x", "1M"),
                  ("create", "-f", "vmdk", "-o", "subformat=x", "x", "1M"), ("create", "-f", "vpc", "-o", "subformat=x", "x", "1M"),
                  ("create", "-f", "vmdk", "-o", "compat6=on,hwversion=6", "x", "1M"), ("create", "-f", "vpc", "x", "3T"),
                  ("create", "-f", "vmdk", "-b", "disk.raw", "-F", "raw", "x"), ("create", "-f", "raw", "-o", "preallocation=x", "x", "1M"),
                  ("create", "-f", "raw", "-b", "disk.raw", "-F", "raw", "x"), ("create", "-f", "vdi", "-b", "disk.raw", "-F", "raw", "x"),
                  ("convert", "-c", "-O", "raw", "disk.raw", "x"), ("convert", "-c", "-O", "vdi", "disk.raw", "x"),
                  ("convert", "-c", "-O", "qcow2", "-o", "preallocation=metadata", "disk.raw", "x"),
                  ("convert", "-n", "-O", "qcow2", "snap.qcow2", "small"), ("convert", "-S", "1000", "disk.raw", "x"),
                  ("convert", "-t", "x", "disk.raw", "x"), ("convert", "-T", "x", "disk.raw", "x"),
                  ("convert", "-l", "x", "snap.qcow2", "x"), ("convert", "--bitmaps", "-O", "raw", "disk.qcow2", "x"), ("convert", "-f", "x", "disk.raw", "x"), ("convert", "nothing", "x"),
                  ("info", "nothing"), *(("info", "-f", fmt, "disk.raw") for fmt in ("qcow2", "qcow", "vmdk", "vpc", "luks")), ("info", "--output=x", "disk.raw"),
                  ("snapshot", "-a", "x", "snap.qcow2"), ("snapshot", "-d", "x", "snap.qcow2"), ("compare", "disk.raw", "nothing"),
                  ("rebase", "-b", "nothing", "-F", "raw", "over.qcow2"),
                  ("check", "-r", "x", "disk.qcow2"), ("resize", "disk.qcow2", "-1G"),
                  ("resize", "--preallocation=x", "disk.qcow2", "+1M"), ("resize", "-f", "raw", "--preallocation=metadata", "disk.raw", "+1M"),
                  ("amend", "-o", "cluster_size=4k", "disk.qcow2"), ("amend", "-o", "compat=9", "disk.qcow2")):
        with t.sub(" ".join(words)):
            for folder in {pair.theirs, pair.ours}:
                qemu.img("create", "-q", "-f", "qcow2", f"{folder}/small", "512k")
            theirs, ours = pair.run(*words)
            equal(ours.errors.splitlines()[-1], next(
                line for line in theirs.errors.splitlines() if line.startswith("qemu-img: ")), "the error")
    for words in (("create", "x", "1X"), (*create, "-o", "size=1X", "x"), (*create, "-o", "cluster_size=x", "x", "1M"),
                  (*create, "-o", "preallocation=x", "x", "1M"), (*create, "-o", "refcount_bits=-1", "x", "1M"),
                  (*create, "-b", "", "x", "1M"), ("convert", "-B", "disk.raw", "-O", "qcow2", "disk.raw", "x"),
                  ("convert", "-S", "x", "disk.raw", "x"), ("convert", "-r", "x", "disk.raw", "x"), ("map", "-s", "x", "disk.raw"),
                  ("map", "-l", "x", "disk.raw"), ("measure", "--size", "x"), ("resize", "disk.qcow2", "x"), ("resize", "disk.qcow2", "+x"),
                  ("dd", "bs=x", "if=disk.raw", "of=x"), ("amend", "-o", "size=x", "disk.qcow2")):
        with t.sub(" ".join(words)):
            theirs, ours = pair.run(*words)
            equal(ours.errors, theirs.errors, "all of the error")


def test_bitmaps(t):
    """One that was not closed is an error, or left out."""
    pair = Pair(t)
    for folder in {pair.theirs, pair.ours}:
        for name in ("b0", "b1"):
            qemu.img("bitmap", "--add", f"{folder}/disk.qcow2", name)
    pair.same("info", "disk.qcow2")
    for folder in {pair.theirs, pair.ours}:
        with open(f"{folder}/disk.qcow2", "r+b") as file:
            data = file.read()
            at = -1
            while (at := data.find(b"b0", at + 1)) >= 0:
                file.seek(at - 9)  # the flags before type, granularity and sizes
                file.write(bytes([data[at - 9] | 1]))
    for words in ((), ("--skip-broken-bitmaps",)):
        with t.sub(" ".join(words)):
            theirs, ours = pair.run("convert", "--bitmaps", *words, "-O", "qcow2", "disk.qcow2", "x")
            equal(ours.errors.split("(")[0].strip(), theirs.errors.split("\n")[0], "what is said")
    pair.same("info", "x")
    native = run(env.VMIMG, "convert", "--json", f"{pair.ours}/disk.qcow2", t.path("y.qcow2")).json()
    equal(native["lost"], [{"what": "bitmaps", "text": "1 bitmap"}], "what is told to be lost")


def test_short_parents(t):
    """Behind a parent's end its child answers, with zeroes."""
    pair = Pair(t)
    for folder in {pair.theirs, pair.ours}:
        for name, below, fmt, size in (("middle", "disk.qcow2", "qcow2", "6M"), ("top", "middle", "qcow2", "7M")):
            qemu.img("create", "-q", "-f", "qcow2", "-b", below, "-F", fmt, f"{folder}/{name}", size)
        qemu.io(f"{folder}/top", "write 6400k 64k", fmt="qcow2")
    pair.same("map", "--output=json", "top")
    pair.same("map", "packed.qcow2")


def test_not_closed(t):
    """An image that was not closed is repaired before it is changed."""
    pair = Pair(t)
    for words in (("resize", "x.qcow2", "7M"), ("snapshot", "-c", "s", "x.qcow2"), ("bitmap", "--add", "x.qcow2", "b"),
                  ("amend", "-o", "compat=0.10", "x.qcow2"), ("rebase", "-u", "-b", "disk.raw", "-F", "raw", "x.qcow2")):
        with t.sub(" ".join(words)):
            for folder in {pair.theirs, pair.ours}:
                qemu.img("create", "-q", "-f", "qcow2", "-o", "lazy_refcounts=on", f"{folder}/x.qcow2", "5M")
                qemu.io(f"{folder}/x.qcow2", "write -P 5 64k 64k")
                with open(f"{folder}/x.qcow2", "r+b") as file:
                    file.seek(72)
                    file.write((1).to_bytes(8, "big"))  # dirty, and the refcount of the data is not written
                    file.seek(0x20000 + 2 * 5)
                    file.write(b"\0\0")
            pair.same("snapshot", "-l", "x.qcow2")
            equal(pair.run("info", "--output=json", "x.qcow2")[1].json()["dirty-flag"], True, "listing repairs nothing")
            size = os.path.getsize(f"{pair.ours}/x.qcow2")
            with open(f"{pair.ours}/x.qcow2", "rb") as file:
                before = file.read()
            run(pair.program, "resize", "-f", "raw", "x.qcow2", "1M", cwd=pair.ours)
            with open(f"{pair.ours}/x.qcow2", "rb") as file:
                equal(file.read()[:size], before, "what is said to be raw")
            pair.run(*words)
            pair.same_disk("x.qcow2", "qcow2")
            equal(run(env.find("qemu-img"), "check", "x.qcow2", cwd=pair.ours).code, 0, "check")


if __name__ == "__main__":
    harness.main()
