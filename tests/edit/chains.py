# SPDX-License-Identifier: Apache-2.0
"""
Commit and rebase, of every format that has parents: content by peers, and what stays unwritten.
"""

import os
import subprocess

from lib import disks, harness, qemu
from lib.harness import check, equal
from lib.process import vmimg, vmimg_ok

SIZE = 9 << 20
# (of the images, of the base, options for both)
PAIRS = [("qcow2", "raw", []), ("qcow2", "qcow2", []), ("qcow2", "qcow2", ["-o", "extended_l2=on"]),
         ("qcow2", "qcow2", ["-o", "cluster_size=4k"]),
         ("vmdk", "vmdk", []), ("vhd", "vhd", []), ("vhdx", "vhdx", []), ("vdi", "vdi", [])]
FEW = [pair for pair in PAIRS if not pair[2]][1:]


def label(top, base, options):
    return f"{top} over {base} {' '.join(options[1:])}".strip()


def content(path, fmt):
    """Of the chain, as vmimg reads it, and as the peer does where it reads chains of that format."""
    digest = vmimg_ok("digest", path).text.split()[0]
    if fmt in ("raw", "qcow2"):
        equal(qemu.guest_sha256(path, fmt, os.path.dirname(path)), digest, f"{path} by the peer")
    return digest


def alone(path, fmt, t):
    """Of a disk that stands alone, by the peer."""
    return qemu.guest_sha256(path, fmt, t.tmp)


def sound(*paths):
    for path in paths:
        result = vmimg("check", path)
        check(result.code in (0, 3, 63), f"{result}{result.text[:400]}")


class Chain:
    """base, over it middle, over that top, in folder; names end in the format."""

    def __init__(self, folder, top, base, options, seed=1):
        self.folder, self.top_fmt, self.base_fmt = folder, top, base
        raw = disks.pattern(f"{folder}/r.raw", SIZE, seed=seed, data=3 << 20)
        own = ["-o", options[1]] if options else []
        self.base, self.middle, self.top = (f"{folder}/base.{base}", f"{folder}/middle.{top}", f"{folder}/top.{top}")
        vmimg_ok("convert", "-O", base, *(own if base == top else []), raw, self.base)
        vmimg_ok("convert", "-O", "qcow2", raw, f"{folder}/m0.qcow2")
        below = "m0.qcow2"
        for name, over, over_fmt, writes in (
                ("m1.qcow2", self.base, base,
                 ["write -P 2 1M 300k", "write -z 64k 200k", "write -P 9 3000k 4k", "write -z 4M 2M"]),
                ("m2.qcow2", self.middle, top,
                 ["write -P 3 1200k 3k", "write -P 4 6M 300k", "write -z 1M 64k", "write -P 5 9215k 1k"])):
            path = f"{folder}/{name}"
            qemu.img("create", "-q", "-f", "qcow2", "-b", below, "-F", "qcow2", path)
            qemu.io(path, *writes, fmt="qcow2")
            target = self.middle if name == "m1.qcow2" else self.top
            vmimg_ok("convert", "-O", top, *own, "-B", os.path.basename(over), "-F", over_fmt, path, target)
            below = name
        self.digests = [disks.sha256(raw), *(qemu.guest_sha256(f"{folder}/{name}", "qcow2", folder)
                                             for name in ("m1.qcow2", "m2.qcow2"))]
        for name in ("r.raw", "m0.qcow2", "m1.qcow2", "m2.qcow2"):
            os.unlink(f"{folder}/{name}")
        equal([content(self.middle, top), content(self.top, top)], self.digests[1:], "the chain as made")


def data_of(path):
    """Bytes that the file's own layer has as data."""
    return sum(e["length"] for e in vmimg_ok("map", "--json", path).json() if e["data"] and not e["depth"])


def chains(seed, pairs=tuple(PAIRS)):
    """Makes a test of one chain into one of all kinds of chains."""
    def decorate(function):
        def test(t):
            for top, base, options in harness.part(pairs, start=seed):
                with t.sub(label(top, base, options)), t.folder() as folder:
                    function(t, Chain(folder, top, base, options, seed))
        return test
    return decorate


@chains(seed=1)
def test_commit(t, chain):
    vmimg_ok("commit", chain.middle)
    sound(chain.base, chain.middle, chain.top)
    equal(alone(chain.base, chain.base_fmt, t), chain.digests[1], "the base")
    equal(content(chain.middle, chain.top_fmt), chain.digests[1], "what was emptied")
    equal(content(chain.top, chain.top_fmt), chain.digests[2], "what stands on it")
    equal(data_of(chain.middle), 0, "data left in the image")
    vmimg_ok("commit", chain.middle)
    vmimg_ok("commit", "-d", chain.top)
    check(data_of(chain.top) > 0, "-d has emptied it")
    equal(content(chain.middle, chain.top_fmt), chain.digests[2], "the middle")
    vmimg_ok("commit", chain.middle)
    equal(alone(chain.base, chain.base_fmt, t), chain.digests[2], "the base, after all")


@chains(seed=2)
def test_commit_to_the_bottom(t, chain):
    vmimg_ok("commit", "-b", os.path.basename(chain.base), chain.top)
    sound(chain.base, chain.top)
    equal(alone(chain.base, chain.base_fmt, t), chain.digests[2], "the base")
    equal(content(chain.top, chain.top_fmt), chain.digests[2], "the top stays as it is")
    equal(vmimg("commit", "-b", chain.top, chain.top).code, 2, "into itself")


def test_commit_sizes(t):
    """A smaller base grows, a larger one keeps its end."""
    for base in ("raw", "qcow2"):
        for size in (5 << 20, (5 << 20) + 512, 20 << 20):
            with t.sub(f"{base} of {size}"), t.folder() as folder:
                raw = disks.pattern(f"{folder}/r.raw", size, seed=4)
                qemu.convert(raw, f"{folder}/base", "raw", base)
                qemu.img("create", "-q", "-f", "qcow2", "-b", "base", "-F", base, f"{folder}/top", str(SIZE + 512))
                qemu.io(f"{folder}/top", "write -P 3 4M 1k", "write -P 4 9216k 512", "write -P 5 100k 300k", fmt="qcow2")
                qemu.img("convert", "-O", "raw", f"{folder}/top", f"{folder}/want")
                if size > SIZE:
                    with open(raw, "rb") as old, open(f"{folder}/want", "r+b") as want:
                        old.seek(SIZE + 512)
                        want.seek(SIZE + 512)
                        want.write(old.read())
                vmimg_ok("commit", "-d", f"{folder}/top")
                equal(alone(f"{folder}/base", base, t), disks.sha256(f"{folder}/want"), "content")


@chains(seed=3)
def test_rebase(t, chain):
    fmt, want = chain.top_fmt, chain.digests[2]
    before = data_of(chain.top)
    # past the middle: what that has moves up, and nothing else
    vmimg_ok("rebase", "-b", os.path.basename(chain.base), "-F", chain.base_fmt, chain.top)
    os.rename(chain.middle, chain.middle + ".away")
    sound(chain.top)
    equal(content(chain.top, fmt), want, "on the base")
    check(before < data_of(chain.top) <= before + (2552 << 10), "more was written than differs")
    # to another disk
    other = disks.pattern(f"{chain.folder}/other.raw", SIZE, seed=9, data=2 << 20)
    if chain.base_fmt != "raw":
        vmimg_ok("convert", "-O", chain.base_fmt, other, f"{chain.folder}/other.{chain.base_fmt}")
    vmimg_ok("rebase", "-b", f"other.{chain.base_fmt}", "-F", chain.base_fmt, chain.top)
    sound(chain.top)
    equal(content(chain.top, fmt), want, "on another disk")
    # to nothing
    vmimg_ok("rebase", "-b", "", chain.top)
    for name in os.listdir(chain.folder):
        if name.startswith(("other", "base")):
            os.unlink(f"{chain.folder}/{name}")
    sound(chain.top)
    equal(alone(chain.top, fmt, t), want, "alone")


def test_first_parent(t):
    """What an image lacks that had no parent is zero, and stays so over one that is full."""
    for top, base, options in PAIRS:
        with t.sub(label(top, base, options)), t.folder() as folder:
            full = disks.pattern(f"{folder}/full.raw", SIZE, seed=14, data=SIZE)
            some = disks.pattern(f"{folder}/some.raw", SIZE, seed=15, data=2 << 20)
            with open(some, "r+b") as file:
                file.write(bytes(SIZE // 2))
            own = ["-o", options[1]] if options else []
            vmimg_ok("convert", "-O", base, *(own if base == top else []), full, f"{folder}/base.{base}")
            vmimg_ok("convert", "-O", top, *own, some, f"{folder}/top.{top}")
            vmimg_ok("rebase", "-b", f"base.{base}", "-F", base, f"{folder}/top.{top}")
            sound(f"{folder}/top.{top}")
            equal(content(f"{folder}/top.{top}", top), disks.sha256(some), "content")
            equal(len(vmimg_ok("chain", "show", "--json", f"{folder}/top.{top}").json()["layers"]), 2, "layers")


@chains(seed=5)
def test_rebase_unsafe(t, chain):
    os.rename(chain.middle, f"{chain.folder}/moved.{chain.top_fmt}")
    vmimg_ok("rebase", "-u", "-b", f"moved.{chain.top_fmt}", "-F", chain.top_fmt, chain.top)
    sound(chain.top)
    equal(content(chain.top, chain.top_fmt), chain.digests[2], "content")


def test_rebase_sizes(t):
    """Backing files that are shorter or longer than the image and than each other."""
    for old in (5 << 20, (5 << 20) + 1536, 20 << 20):
        for new in (3 << 20, (3 << 20) + 512, 15 << 20, 0):
            with t.sub(f"{old} to {new}"), t.folder() as folder:
                disks.pattern(f"{folder}/old", old, seed=6)
                disks.pattern(f"{folder}/new", new, seed=7)
                qemu.img("create", "-q", "-f", "qcow2", "-b", "old", "-F", "raw", f"{folder}/top", str(SIZE + 512))
                qemu.io(f"{folder}/top", "write -P 3 4M 1k", "write -P 4 100k 70k", fmt="qcow2")
                want = content(f"{folder}/top", "qcow2")
                vmimg_ok("rebase", "-b", "new" if new else "", *(["-F", "raw"] if new else []), f"{folder}/top")
                os.unlink(f"{folder}/old")
                sound(f"{folder}/top")
                equal(content(f"{folder}/top", "qcow2"), want, "content")


@chains(seed=10, pairs=FEW)
def test_chain_show(t, chain):
    layers = vmimg_ok("chain", "show", "--json", chain.top).json()
    check(layers["whole"], "not whole")
    equal([layer["format"] for layer in layers["layers"]], [chain.top_fmt, chain.top_fmt, chain.base_fmt], "formats")
    equal(layers["layers"][0]["data-bytes"], data_of(chain.top), "data in the top")
    check(layers["layers"][0]["parent-matches"] is True, "the parent")
    check("which fits" in vmimg_ok("chain", "show", chain.top).text, "the text")
    os.rename(chain.base, chain.base + ".away")
    result = vmimg("chain", "show", "--json", chain.top)
    check(result.code != 0 and not result.json()["whole"], str(result))
    equal(result.json()["layers"][0]["format"], chain.top_fmt, "what is left")


@chains(seed=11, pairs=FEW)
def test_flatten_to(t, chain):
    new = f"{chain.folder}/flat.{chain.top_fmt}"
    vmimg_ok("chain", "flatten", "-o", new, chain.top)
    os.unlink(chain.base)
    equal(alone(new, chain.top_fmt, t), chain.digests[2], "content")


@chains(seed=12, pairs=FEW)
def test_relink(t, chain):
    moved, other = f"{chain.folder}/moved.{chain.base_fmt}", f"{chain.folder}/other.{chain.base_fmt}"
    raw = disks.pattern(f"{chain.folder}/other.raw", SIZE, seed=13)
    if chain.base_fmt != "raw":
        vmimg_ok("convert", "-O", chain.base_fmt, raw, other)
    os.rename(chain.base, moved)
    if chain.base_fmt not in ("raw", "qcow2"):  # which know nobody
        before = disks.sha256(chain.middle)
        check(vmimg("chain", "relink", chain.middle, os.path.basename(other)).code != 0, "to another disk")
        equal(disks.sha256(chain.middle), before, "the image")
    vmimg_ok("chain", "relink", chain.middle, os.path.basename(moved))
    equal(content(chain.top, chain.top_fmt), chain.digests[2], "content")


def test_relink_in_another_format(t):
    raw = disks.pattern(t.path("base.raw"), SIZE, seed=14)
    vmimg_ok("convert", raw, t.path("base.qcow2"))
    top = t.path("top.qcow2")
    vmimg_ok("create", "-b", "base.qcow2", "-F", "qcow2", top)
    check(vmimg("chain", "relink", top, "base.raw").code != 0, "it is no qcow2")
    check(vmimg("chain", "relink", "-F", "vmdk", top, "base.raw").code != 0, "it is no vmdk")
    vmimg_ok("chain", "relink", "-F", "raw", top, "base.raw")
    equal(vmimg_ok("info", "--json", top).json()["backing-filename-format"], "raw", "format")
    equal(content(top, "qcow2"), disks.sha256(raw), "content")


def test_internal_snapshots(t):
    """They read through to the backing file: what changes that under them is refused."""
    raw, other = disks.pattern(t.path("base.raw"), SIZE, seed=15), disks.pattern(t.path("other.raw"), SIZE, seed=16)
    top = t.path("top.qcow2")
    vmimg_ok("create", "-b", "base.raw", "-F", "raw", top)
    vmimg_ok("snapshot", "create", top, "seen")
    vmimg_ok("dd", f"if={other}", f"of={top}", "bs=64k", "count=3", "conv=notrunc")
    before = disks.sha256(top), disks.sha256(raw)
    for words in (("rebase", "-b", ""), ("rebase", "-b", "other.raw", "-F", "raw"), ("commit",), ("chain", "flatten")):
        with t.sub(" ".join(words)):
            result = vmimg(*words, top, "--refs=any")
            check(result.code == 5 and "internal snapshots" in result.errors, str(result))
            equal((disks.sha256(top), disks.sha256(raw)), before, "files")
    equal(vmimg_ok("digest", "--refs=any", "-l", "seen", top).text.split()[0], before[1], "the snapshot")
    vmimg_ok("snapshot", "delete", top, "seen")
    vmimg_ok("rebase", "--refs=any", "-b", "", top)


def test_keep_chain(t):
    with t.folder() as folder:
        chain = Chain(folder, "qcow2", "raw", [])
        for fmt in ("qcow2", "vmdk", "vhd", "vhdx", "vdi"):
            with t.sub(fmt):
                os.mkdir(f"{folder}/{fmt}")
                vmimg_ok("convert", "--keep-chain", chain.top, f"{folder}/{fmt}/new.{fmt}")
                equal(sorted(os.listdir(f"{folder}/{fmt}")), [f"base.{fmt}", f"middle.{fmt}", f"new.{fmt}"], "files")
                for name, want in zip(("base", "middle", "new"), chain.digests):
                    equal(content(f"{folder}/{fmt}/{name}.{fmt}", fmt), want, name)
                equal(alone(f"{folder}/{fmt}/base.{fmt}", fmt, t), chain.digests[0], "the base, by the peer")
                sizes = [vmimg_ok("chain", "show", "--json", path).json()["layers"][0]["data-bytes"]
                         for path in (chain.top, f"{folder}/{fmt}/new.{fmt}")]
                check(sizes[1] < 3 * sizes[0] + (8 << 20), f"the top has taken in its parents: {sizes}")
        with t.sub("back"):
            os.mkdir(f"{folder}/back")
            vmimg_ok("convert", "--keep-chain", f"{folder}/vmdk/new.vmdk", f"{folder}/back/x.qcow2")
            equal(content(f"{folder}/back/x.qcow2", "qcow2"), chain.digests[2], "content")
        with t.sub("a format without parents"):
            os.mkdir(f"{folder}/no")
            check(vmimg("convert", "--keep-chain", chain.top, f"{folder}/no/x.raw").code, "done all the same")
            equal(os.listdir(f"{folder}/no"), [], "files")
        with t.sub("a layer that is there already"):
            os.mkdir(f"{folder}/full")
            with open(f"{folder}/full/middle.vmdk", "wb"):
                pass
            equal(vmimg("convert", "--keep-chain", chain.top, f"{folder}/full/x.vmdk").code, 5, "exit code")
            equal(os.listdir(f"{folder}/full"), ["middle.vmdk"], "files")


def test_refused(t):
    with t.folder() as folder:
        chain = Chain(folder, "qcow2", "raw", [])
        with t.sub("a base that is in use"):
            with qemu_holds(chain.base):
                equal(vmimg("commit", "-d", chain.middle).code, 7, "exit code")
        with t.sub("a base elsewhere"):
            os.mkdir(f"{folder}/sub")
            qemu.img("create", "-q", "-f", "qcow2", "-b", chain.base, "-F", "raw", f"{folder}/sub/x.qcow2")
            equal(vmimg("commit", "-d", f"{folder}/sub/x.qcow2").code, 5, "exit code")
            equal(vmimg("commit", "-d", "--refs=any", f"{folder}/sub/x.qcow2").code, 0, "exit code")
        with t.sub("no base"):
            equal(vmimg("commit", chain.base).code, 2, "exit code")
        with t.sub("a loop"):
            result = vmimg("rebase", "-b", os.path.basename(chain.top), "-F", "qcow2", chain.middle)
            check(result.code in (4, 5, 7), str(result))


class qemu_holds:
    """qemu-io that has an image open for writing."""

    def __init__(self, path):
        self.child = subprocess.Popen(["qemu-io", "-f", "raw", path], stdin=subprocess.PIPE, stdout=subprocess.PIPE)
        self.child.stdin.write(b"write -P 1 0 512\n")
        self.child.stdin.flush()
        self.child.stdout.readline()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.child.communicate(b"quit\n")


if __name__ == "__main__":
    harness.main()
