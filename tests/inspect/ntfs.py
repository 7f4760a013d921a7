# SPDX-License-Identifier: Apache-2.0
"""NTFS and exFAT: written by ntfs-3g and its tools, by the tests' own writer of exFAT, and damaged."""

import contextlib
import os
import random
import re
import struct
import subprocess
import sys
import time

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
import common
import exfat
from lib import env, harness
from lib.harness import check, equal, need, skip
from lib.process import check_bars, check_one_line, vmimg, vmimg_ok


def make(path, size, *options):
    with open(path, "wb") as file:
        file.truncate(size)
    common.tool("mkntfs", "-q", "-F", "-f", *options, path)
    return path


@contextlib.contextmanager
def mounted(t, image, options="compression"):
    """The volume through ntfs-3g, which needs a kernel that lets us."""
    need("ntfs-3g", "fusermount", "setfattr")
    folder = t.path("mnt")
    os.makedirs(folder, exist_ok=True)
    server = subprocess.Popen([env.find("ntfs-3g"), "-o", ",".join(filter(None, ("no_detach", options))),
                               image, folder], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    while not os.path.ismount(folder):
        if server.poll() is not None:
            skip("ntfs-3g cannot mount here")
        time.sleep(0.01)
    try:
        yield folder
    finally:
        subprocess.run([env.find("fusermount"), "-u", folder], check=True)
        server.wait(timeout=60)  # it writes on after the folder is gone
        os.rmdir(folder)


def grub_same(image, path, content_file):
    done = subprocess.run([env.find("grub-fstest"), image, "cmp", f"(loop0){path}", content_file],
                          capture_output=True, check=False)
    equal(done.returncode, 0, done.stderr.decode())


def copied(t, image, tree):
    with t.folder() as folder:
        vmimg_ok("cp", f"{image}:/", f"{folder}/out")
        equal(common.same_tree(tree, f"{folder}/out"), "", "diff of the trees")


SHAPES = {
    "clusters of 4 KiB": ["-c", "4096"],
    "clusters of 512 bytes": ["-c", "512"],
    "clusters of 64 KiB": ["-c", "65536"],
    "sectors of 4 KiB": ["-s", "4096"],
}


def test_trees(t):
    tree = common.files_tree(t.path("tree"))
    common.put(tree, "Ünïcode ☃ 𝄞 name.txt", "x")
    for i in range(500):
        common.put(tree, f"many/file number {i}", str(i))
    for name, options in SHAPES.items():
        with t.sub(name):
            image = make(t.path("image"), 96 << 20, *options)
            with mounted(t, image) as folder:
                subprocess.run(["cp", "-r", "--sparse=always", f"{tree}/.", folder], check=True)
            copied(t, image, tree)
            equal(vmimg_ok("cat", f"{image}:/ETC/hostNAME").text, "hello\n", "any case")
            equal(vmimg_ok("cat", f"{image}:/MANY/FILE NUMBER 477").text, "477")
            equal(vmimg("cat", f"{image}:/many/file number 500").code, 1)
            os.unlink(image)


def test_flat(t):
    """What needs no mount, with GRUB as a second reader."""
    need("mkntfs", "ntfscp", "grub-fstest", "ntfsinfo")
    rng = random.Random(3)
    texts = {
        "words": b" ".join(rng.choice((b"alpha", b"beta", b"gamma", b"delta\n")) for _ in range(200000)),
        "noise": rng.randbytes(700001),
        "mixed": b"".join(rng.randbytes(70000) + bytes([i]) * 90000 for i in range(8)),
        "small": b"resident",
        "zeroes": bytes(300000),
    }
    for options in ([], ["-C"]):  # plain, and packed
        with t.sub(" ".join(options) or "plain"):
            image = make(t.path("image"), 32 << 20, *options)
            for name, content in texts.items():
                common.tool("ntfscp", "-f", image, common.put(t.tmp, name, content), name)
            for name, content in texts.items():
                equal(vmimg_ok("cat", f"{image}:/{name}").out == content, True, name)
                grub_same(image, f"/{name}", t.path(name))
            info = common.tool("ntfsinfo", "-f", "-m", image).stdout.decode()
            found = vmimg_ok("inspect", "--json", image).json()["filesystem"]
            free = int(re.search(r"Free Clusters: *(\d+)", info).group(1))
            equal((found["size"] - found["used"]) // found["block-size"], free, "free clusters")
            equal(vmimg_ok("ls", f"{image}:/").text.split(), sorted(texts))
            equal(vmimg_ok("cat", f"{image}:/$UpCase").out[:4], b"\0\0\1\0", "named, it is there")


def reparse(path, tag, data):
    value = struct.pack("<IHH", tag, len(data), 0) + data
    subprocess.run([env.find("setfattr"), "-n", "system.ntfs_reparse_data", "-v", "0x" + value.hex(),
                    path], check=True)


def names(first, second, *more):
    a, b = first.encode("utf-16-le"), second.encode("utf-16-le")
    return struct.pack("<HHHH", 0, len(a), len(a), len(b)) + b"".join(more) + a + b


def test_links(t):
    image = make(t.path("image"), 32 << 20)
    with mounted(t, image) as folder:
        common.put(folder, "Users/All/file.txt", "content\n")
        os.link(f"{folder}/Users/All/file.txt", f"{folder}/hard.txt")
        for name in ("sym", "out"):
            common.put(folder, name, "")
        for name in ("junction", "volume"):
            os.mkdir(f"{folder}/{name}")
        relative = struct.pack("<I", 1)
        reparse(f"{folder}/sym", 0xA000000C, names("Users\\All\\file.txt", "x", relative))
        reparse(f"{folder}/out", 0xA000000C, names("..\\..\\etc\\passwd", "x", relative))
        reparse(f"{folder}/junction", 0xA0000003, names("\\??\\C:\\Users\\All", "C:\\Users\\All"))
        common.put(folder, "packed by windows", "0")
        reparse(f"{folder}/packed by windows", 0x80000017, bytes(16))
    with mounted(t, image, "special_files=wsl") as folder:
        os.symlink("Users/All", f"{folder}/wsl")
    for path in ("/hard.txt", "/sym", "/junction/file.txt", "/wsl/file.txt"):
        equal(vmimg_ok("cat", f"{image}:{path}").text, "content\n", path)
    entries = {e["path"]: e for e in vmimg_ok("ls", "-R", "--json", f"{image}:/").json()["entries"]}
    equal({p: e["target"] for p, e in entries.items() if "target" in e},
          {"/sym": "Users/All/file.txt", "/out": "../../etc/passwd", "/junction": "/Users/All",
           "/wsl": "Users/All"})
    equal(vmimg("cat", f"{image}:/out").code, 1, "no passwd in the image")
    result = vmimg("cat", f"{image}:/packed by windows")
    equal(result.code, 4, str(result))
    check("0x80000017" in result.errors, str(result))


def test_continued_records(t):
    """So many names and pieces that a record needs an attribute list."""
    image = make(t.path("image"), 64 << 20, "-c", "512")
    rng = random.Random(5)
    content = rng.randbytes(1 << 20)
    with mounted(t, image, "") as folder:
        common.put(folder, "named/first", "many names")
        for i in range(300):
            os.link(f"{folder}/named/first", f"{folder}/named/link {i} " + "n" * 60)
        with open(f"{folder}/pieces", "wb") as pieces, open(f"{folder}/other", "wb") as other:
            for at in range(0, len(content), 512):
                pieces.write(content[at:at + 512])
                pieces.flush()
                other.write(b"x" * 512)
                other.flush()
                if at % 65536 == 0:
                    os.fsync(other.fileno())
    info = common.tool("ntfsinfo", "-f", "-F", "pieces", image).stdout.decode()
    equal(vmimg_ok("cat", f"{image}:/pieces").out == content, True)
    equal(vmimg_ok("cat", f"{image}:/named/link 299 " + "n" * 60).text, "many names")
    check("$ATTRIBUTE_LIST" in common.tool(
        "ntfsinfo", "-f", "-F", "named/first", image).stdout.decode(), info[:400])


# ---- damage ----

def mft_at(image):
    with open(image, "rb") as file:
        boot = file.read(512)
    return struct.unpack_from("<Q", boot, 48)[0] * boot[13] * 512


def attribute(record, kind):
    at = struct.unpack_from("<H", record, 20)[0]
    while struct.unpack_from("<I", record, at)[0] != 0xFFFFFFFF:
        if struct.unpack_from("<I", record, at)[0] == kind:
            return at
        at += struct.unpack_from("<I", record, at + 4)[0]
    raise KeyError(kind)


def fixed(record):
    """A record with check numbers that fit: the last two bytes of each sector are kept apart."""
    at, count = struct.unpack_from("<HH", record, 4)
    for i in range(1, count):
        record[at + 2 * i:at + 2 * i + 2] = record[512 * i - 2:512 * i]
        record[512 * i - 2:512 * i] = record[at:at + 2]
    return record


def unfixed(record):
    at, count = struct.unpack_from("<HH", record, 4)
    for i in range(1, count):
        record[512 * i - 2:512 * i] = record[at + 2 * i:at + 2 * i + 2]
    return record


@contextlib.contextmanager
def record_of(image, number):
    """A record to be changed; what the check numbers cover is not touched by these tests."""
    at = mft_at(image) + number * 1024
    with open(image, "r+b") as file:
        file.seek(at)
        record = bytearray(file.read(1024))
        yield record
        file.seek(at)
        file.write(record)


def runs_at(record, kind):
    at = attribute(record, kind)
    return at + struct.unpack_from("<H", record, at + 32)[0]


def damage_fixup(image):
    with record_of(image, 64) as record:
        record[510] ^= 0xFF


def damage_run_end(image):
    with record_of(image, 64) as record:
        at = runs_at(record, 0x80)
        record[at:at + 9] = b"\x44" + struct.pack("<II", 200, 0x7FFFFFF0)


def damage_run_cut(image):
    with record_of(image, 64) as record:
        record[runs_at(record, 0x80)] = 0x88


def damage_run_backwards(image):
    with record_of(image, 64) as record:
        at = runs_at(record, 0x80)
        record[at:at + 4] = b"\x11\xff\x01\x00"


def damage_size(image):
    with record_of(image, 64) as record:
        struct.pack_into("<QQQ", record, attribute(record, 0x80) + 40, 1 << 62, 1 << 62, 1 << 62)


def damage_not_in_use(image):
    with record_of(image, 64) as record:
        record[22] &= 0xFE


def damage_attribute_length(image):
    with record_of(image, 64) as record:
        struct.pack_into("<I", record, attribute(record, 0x30) + 4, 8)


def damage_mft(image):
    with record_of(image, 0) as record:
        struct.pack_into("<I", record, attribute(record, 0x80) + 4, 0x7FFFFFFF)


def damage_mft_place(image):
    with open(image, "r+b") as file:
        file.seek(48)
        file.write(struct.pack("<Q", 1 << 60))


def damage_index_size(image):
    with record_of(image, 5) as record:
        at = attribute(record, 0x90)
        struct.pack_into("<I", record, at + struct.unpack_from("<H", record, at + 20)[0] + 8, 3)


DAMAGE = [f for name, f in sorted(globals().items()) if name.startswith("damage_")]


def test_hostile(t):
    need("mkntfs", "ntfscp")
    sound = make(t.path("sound"), 8 << 20)
    common.tool("ntfscp", "-f", sound, common.put(t.tmp, "data", random.Random(1).randbytes(100000)), "data")
    with open(sound, "rb") as file:
        start = file.read()
    for damage in DAMAGE:
        with t.sub(damage.__name__):
            image = common.put(t.tmp, "image", start)
            damage(image)
            for words in (("cat", f"{image}:/data"), ("cp", f"{image}:/", t.path("out"))):
                result = vmimg(*words)
                check(result.code == 4 or (damage is damage_size and result.code == 6), str(result))
                check_one_line(result)
                check_bars(result)
            equal(vmimg("inspect", image).code, 0)
            subprocess.run(["rm", "-rf", t.path("out")], check=True)


def test_hostile_index(t):
    """A node of a folder that is its own child, and names that lead out."""
    image = make(t.path("image"), 16 << 20)
    with mounted(t, image) as folder:
        for i in range(200):
            common.put(folder, f"a long enough name for several nodes {i}", "x")
    with open(image, "rb") as file:
        data = bytearray(file.read())
    nodes = [m.start() for m in re.finditer(rb"INDX", bytes(data)) if m.start() % 4096 == 0]
    with t.sub("loop"):
        changed = bytearray(data)
        for at in nodes:  # every entry gets a node below: this one
            head = at + 24
            entry = head + struct.unpack_from("<I", data, head)[0]
            if struct.unpack_from("<H", data, entry + 12)[0] & 1:
                length = struct.unpack_from("<H", data, entry + 8)[0]
                struct.pack_into("<Q", changed, entry + length - 8,
                                 struct.unpack_from("<Q", data, at + 16)[0])
        with record_of(image, 5) as record:
            root = attribute(record, 0x90)
            value = root + struct.unpack_from("<H", record, root + 20)[0]
            check(record[value + 28] & 1, "a folder of several nodes")
            node = nodes[0]
        entry = node + 24 + struct.unpack_from("<I", data, node + 24)[0]
        struct.pack_into("<H", changed, entry + 12, struct.unpack_from("<H", data, entry + 12)[0] | 1)
        length = struct.unpack_from("<H", data, entry + 8)[0]
        struct.pack_into("<Q", changed, entry + length - 8, struct.unpack_from("<Q", data, node + 16)[0])
        result = vmimg("ls", f"{common.put(t.tmp, 'loop', bytes(changed))}:/")
        equal(result.code, 4, str(result))
        check_bars(result)
    with t.sub("names"):
        changed = bytes(data)
        for i, bad in ((7, "../"), (8, "..")):
            old = f"a long enough name for several nodes {i}".encode("utf-16-le")
            new = (bad * 40)[:len(old) // 2].encode("utf-16-le")
            changed = changed.replace(old, new)
        result = vmimg("cp", f"{common.put(t.tmp, 'names', changed)}:/", t.path("out"))
        check(not [n for n in os.listdir(t.path("out")) if ".." in n and "/" in n], str(result))
        check(b"left out" in result.err or b"skipped" in result.err or result.code == 4, str(result))


# ---- exFAT ----

def test_exfat(t):
    need("fsck.exfat", "grub-fstest")
    rng = random.Random(9)
    tree = {"Ünï ☃.txt": b"unicode", "empty": b"", "big.bin": rng.randbytes(1 << 20),
            "folder": {f"a rather long name, number {i}": str(i).encode() for i in range(300)}}
    for name, how in (("chains", {"chained": True}), ("stretches", {"chained": False}),
                      ("clusters of 512 bytes", {"chained": True, "cluster": 512}),
                      ("sectors of 4 KiB", {"chained": False, "sector": 4096, "cluster": 32768})):
        with t.sub(name):
            image = t.path("image")
            used = exfat.write(image, 32 << 20, tree, **how)
            common.tool("fsck.exfat", "-n", image)
            with t.folder() as folder:
                vmimg_ok("cp", f"{image}:/", f"{folder}/out")
                out = f"{folder}/out"
                equal(sorted(os.listdir(out)), sorted(tree))
                equal(sorted(os.listdir(f"{out}/folder")), sorted(tree["folder"]))
                for path in ("Ünï ☃.txt", "empty", "big.bin"):
                    equal(open(f"{out}/{path}", "rb").read() == tree[path], True, path)
                if how.get("sector", 512) == 512:
                    grub_same(image, "/big.bin", f"{out}/big.bin")
            entry = vmimg_ok("ls", "--json", f"{image}:/").json()["entries"]
            equal({e["mtime"] for e in entry}, {exfat.TIME}, "time")
            equal(vmimg_ok("cat", f"{image}:/FOLDER/A RATHER LONG NAME, NUMBER 7").text, "7")
            found = vmimg_ok("inspect", "--json", image).json()["filesystem"]
            equal(found["size"] - found["used"], used["free"], "free bytes")


def test_exfat_hostile(t):
    image = t.path("image")
    where = exfat.write(image, 8 << 20, {"a": b"x" * 100000, "b": b"y", "d": {"e": b""}}, chained=True)
    with open(image, "rb") as file:
        data = file.read()

    def poke(at, value):
        return data[:at] + value + data[at + len(value):]

    fat = where["fat"]
    cases = {
        "chain past the end": (poke(fat + 4 * where["first"]["a"], struct.pack("<I", 0x7FFFFFF0)), "cat", "/a", 4),
        "chain cut": (poke(fat + 4 * where["first"]["a"], b"\xff\xff\xff\xff"), "cat", "/a", 4),
        "root in a loop": (poke(fat + 4 * where["root"], struct.pack("<I", where["root"]))
                           .replace(bytes(32), b"\x05" + bytes(31)), "ls", "/", 4),
        "sum": (data.replace("a".encode("utf-16-le") + bytes(28), "..".encode("utf-16-le") + bytes(26)), "ls", "/", 4),
        "shift": (poke(109, b"\x40"), "ls", "/", 4),
    }
    for name, (content, verb, path, code) in cases.items():
        with t.sub(name):
            result = vmimg(verb, f"{common.put(t.tmp, 'bad', content)}:{path}")
            equal(result.code, code, str(result))
            check_one_line(result)
            check_bars(result)
    with t.sub("names that lead out"):
        for bad in ("../x", "..", ".", "a\0b"):
            exfat.write(image, 8 << 20, {bad: b"evil", "good": b"good"}, chained=True)
            result = vmimg("cp", f"{image}:/", t.path("out"))
            equal(result.code, 0, str(result))
            equal(os.listdir(t.path("out")), ["good"])
            subprocess.run(["rm", "-r", t.path("out")], check=True)


if __name__ == "__main__":
    harness.main()
