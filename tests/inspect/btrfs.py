# SPDX-License-Identifier: Apache-2.0
"""btrfs: trees that mkfs.btrfs and the kernel wrote come back byte for byte; trees that lie keep the bars."""

import os
import random
import shutil
import struct
import sys

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
import common
from hostile import keeps_bars
from lib import harness, process
from lib.harness import check, equal, need
from lib.process import vmimg, vmimg_ok

SUPER = 65536
SHAPES = {
    "usual": [],
    "small nodes": ["-n", "4096", "-m", "single"],
    "mixed": ["-M", "-n", "4096", "-s", "4096"],
    "holes": ["-O", "^no-holes"],
    "other sums": ["--csum", "xxhash"],
}


def same(t, image, tree, where="/"):
    with t.folder() as folder:
        vmimg_ok("cp", f"{image}:{where}", f"{folder}/out")
        equal(common.same_tree(tree, f"{folder}/out"), "")


def big_tree(t):
    tree = t.path("tree")
    if not os.path.isdir(tree):
        common.files_tree(tree)
        os.symlink("../etc/hostname", f"{tree}/bin/link")
        for i in range(700):
            common.put(tree, f"many/file {i}", str(i))
    return tree


def test_shapes(t):
    tree = big_tree(t)
    for name, options in harness.part(SHAPES.items()):
        with t.sub(name):
            image = common.mkbtrfs(t.path("image"), tree, 130 << 20, *options)
            same(t, image, tree)
            equal(vmimg_ok("cat", f"{image}:/bin/link").text, "hello\n")
            equal(vmimg("cat", f"{image}:/etc/nothing").code, 1)
            entries = {e["path"]: e for e in vmimg_ok("ls", "-R", "--json", f"{image}:/").json()["entries"]}
            equal(entries["/bin/big"]["mtime"], int(os.stat(f"{tree}/bin/big").st_mtime))
            if name == "usual":
                need("grub-fstest")
                done = process.run("grub-fstest", image, "cat", "(loop0)/etc/hostname")
                equal(done.text, "hello\n", "grub")


def fill(folder):
    rng = random.Random(4)
    for way in ("zlib", "lzo", "zstd"):
        os.mkdir(f"{folder}/{way}")
        common.tool("btrfs", "property", "set", f"{folder}/{way}", "compression", way)
        common.put(folder, f"{way}/large", "".join(f"{i}\n" for i in range(150000)))
        common.put(folder, f"{way}/small", "tiny " * 20)
        common.put(folder, f"{way}/random", rng.randbytes(300000))
    with open(f"{folder}/hole", "wb") as file:
        file.truncate(5 << 20)
        file.seek(6 << 20)
        file.write(b"end")
    with open(f"{folder}/set-aside", "wb") as file:
        os.posix_fallocate(file.fileno(), 0, 1 << 20)
        file.seek(300000)
        file.write(b"x" * 10000)
    for name in ("outer", "outer/inner"):
        common.tool("btrfs", "subvolume", "create", f"{folder}/{name}")
        common.put(folder, f"{name}/file", name)
    common.tool("btrfs", "subvolume", "snapshot", f"{folder}/outer", f"{folder}/snapshot")


def test_kernel(t):
    image = common.mkbtrfs(t.path("image"), None, 130 << 20)
    with common.mounted(image, t.path("mount")) as folder:
        fill(folder)
        shutil.copytree(folder, t.path("want"), symlinks=True)
        listed = common.tool("btrfs", "subvolume", "list", folder).stdout.decode().splitlines()
    same(t, image, t.path("want"))
    with t.sub("parts of a file"):
        with open(t.path("want/zstd/large"), "rb") as file:
            want = file.read()
        equal(vmimg_ok("cat", f"{image}:/zstd/large").out, want)
    with t.sub("default subvolume"):
        number = next(line.split()[1] for line in listed if line.endswith(" path outer"))
        with common.mounted(image, t.path("mount")) as folder:
            common.tool("btrfs", "subvolume", "set-default", number, folder)
        same(t, image, t.path("want/outer"))
        check(vmimg("ls", f"{image}:/snapshot").code == 1, "what is above is not seen")


# ---- lies ------------------------------------------------------------------------------------------

TABLE = []
for number in range(256):
    for _ in range(8):
        number = number >> 1 ^ (0x82f63b78 if number & 1 else 0)
    TABLE.append(number)


def crc32c(data):
    value = 0xffffffff
    for byte in data:
        value = value >> 8 ^ TABLE[(value ^ byte) & 255]
    return value ^ 0xffffffff


def seal(block):
    return struct.pack("<I", crc32c(block[32:])) + block[4:]


class Image:
    """The nodes of a small file system with nodes of 4 KiB, to be changed and sealed again."""

    def __init__(self, path):
        self.path = path
        with open(path, "rb") as file:
            self.data = file.read()
        self.super = self.data[SUPER:SUPER + 4096]
        fsid = self.super[32:48]
        self.nodes = [at for at in range(0, len(self.data), 4096) if at != SUPER and
                      self.data[at + 32:at + 48] == fsid and self.data[at + 64:at + 72] != b"_BHRfS_M"]
        places = {}
        for at in self.nodes:
            address, = struct.unpack_from("<Q", self.data, at + 48)
            places.setdefault(address, []).append(at)
        self.places = places

    def node(self, address):
        at = self.places[address][0]
        return at, bytearray(self.data[at:at + 4096])

    def root(self, field):
        return self.node(struct.unpack_from("<Q", self.super, field)[0])


def lying(t, image, changes):
    """changes: {place: block}; undone afterwards."""
    def write(blocks):
        with open(image.path, "r+b") as file:
            for at, block in blocks.items():
                file.seek(at)
                file.write(block)
    write({at: seal(bytes(block)) for at, block in changes.items()})
    keeps_bars(t, image.path)
    write({at: image.data[at:at + 4096] for at in changes})


def test_lies(t):
    tree = t.path("small")
    for i in range(400):
        common.put(tree, f"folder/a file with a rather long name, number {i}", str(i) * 20)
    common.put(tree, "large", random.Random(1).randbytes(400000))
    image = Image(common.mkbtrfs(t.path("image"), tree, 120 << 20, "-n", "4096", "-m", "single"))
    same(t, image.path, tree)
    inner = [at for at in image.nodes if image.data[at + 100] > 0]
    check(inner, "a tree with levels")
    at = inner[0]
    block = bytearray(image.data[at:at + 4096])
    own, = struct.unpack_from("<Q", block, 48)

    def put(offset, fmt, *values):
        changed = bytearray(block)
        struct.pack_into("<" + fmt, changed, offset, *values)
        return {at: changed}
    for name, changes in (
            ("a node that leads to itself", put(101 + 17, "Q", own)),
            ("all to one", {at: block[:101] + b"".join(
                block[101 + 33 * i:118 + 33 * i] + block[118:134] for i in range(121)) + block[4094:]}),
            ("too many", put(96, "I", 0xffffffff)), ("none", put(96, "I", 0)), ("level", put(100, "B", 7)),
            ("address", put(48, "Q", 5)), ("key", put(101, "Q", 77))):
        with t.sub(name):
            lying(t, image, changes)
    for name, offset, fmt, value in (
            ("root", 80, "Q", 1 << 60), ("root of another kind", 80, "Q", struct.unpack_from("<Q", image.super, 88)[0]),
            ("chunks", 88, "Q", 12345), ("level", 198, "B", 255), ("nodes", 148, "I", 1 << 30), ("array", 160, "I", 2048),
            ("array cut", 160, "I", 30), ("chunk of nothing", 811 + 17, "Q", 0), ("chunk of all", 811 + 17, "Q", 1 << 63),
            ("stripes", 811 + 17 + 44, "H", 65535), ("chunk far away", 811 + 17 + 48 + 8, "Q", 1 << 62)):
        with t.sub(f"super block: {name}"):
            block_of_super = bytearray(image.super)
            struct.pack_into("<" + fmt, block_of_super, offset, value)
            lying(t, image, {SUPER: block_of_super})
    rng = random.Random(9)
    with t.sub("noise"):
        for _ in harness.part(range(40)):
            changes = {}
            for _ in range(rng.randrange(1, 4)):
                at = rng.choice(image.nodes)
                node = changes.setdefault(at, bytearray(image.data[at:at + 4096]))
                where, width = rng.randrange(96, 4090), rng.choice((1, 2, 4))
                value = rng.choice((0, 1, 0xffffffff, 0x7fffffff, rng.randrange(1 << 32))) % (1 << 8 * width)
                node[where:where + width] = value.to_bytes(width, "little")
            lying(t, image, changes)


def test_damage(t):
    """The copy serves when a node is damaged; without one, the checksum tells."""
    tree = t.path("small")
    common.put(tree, "file", "content\n")
    for name, options, code in (("copies", ["-m", "dup"], 0), ("no copies", ["-m", "single"], 4)):
        with t.sub(name):
            image = Image(common.mkbtrfs(t.path("image"), tree, 130 << 20, "-n", "4096", *options))
            at, _ = image.root(80)
            with open(image.path, "r+b") as file:
                file.seek(at + 2000)
                file.write(b"\xff\xfe")
            result = vmimg("cat", f"{image.path}:/file")
            equal(result.code, code, str(result))


if __name__ == "__main__":
    harness.main()
