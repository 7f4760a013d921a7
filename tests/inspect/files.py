# SPDX-License-Identifier: Apache-2.0
"""vmimg ls, cat and cp: what comes out is what went in, and nothing gets out of the target."""

import os
import sys

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
import common
from lib import harness
from lib.harness import check, equal
from lib.process import check_one_line, vmimg, vmimg_ok

EXT = {
    "ext2": ["-t", "ext2", "-b", "1024"],
    "ext3": ["-t", "ext3", "-b", "4096"],
    "ext4": ["-t", "ext4"],
    "ext4 inline": ["-t", "ext4", "-I", "256", "-O", "inline_data"],
    "ext4 meta_bg": ["-t", "ext4", "-O", "meta_bg,^resize_inode", "-b", "1024"],
    "ext4 bigalloc": ["-t", "ext4", "-O", "bigalloc"],
    "ext4 128-byte inodes": ["-t", "ext4", "-I", "128"],
}
FAT = {
    "FAT12": (["-F", "12", "-s", "16"], 20),
    "FAT16": (["-F", "16"], 30),
    "FAT32": (["-F", "32", "-s", "1"], 80),
}


def copy_back(t, image, tree, dropped=()):
    with t.folder() as folder:
        target = f"{folder}/out"
        vmimg_ok("cp", f"{image}:/", target)
        for name in ("lost+found",):
            if os.path.isdir(f"{target}/{name}"):
                os.rmdir(f"{target}/{name}")
        differs = common.same_tree(tree, target)
        for name in dropped:
            differs = differs.replace(f"Only in {tree}: {name}\n", "")
        equal(differs, "", "diff of the trees")


def test_ext(t):
    tree = common.with_links(common.files_tree(t.path("tree")))
    for name, options in EXT.items():
        with t.sub(name):
            image = common.mke2fs(t.path("image"), tree, 48 << 20, *options)
            copy_back(t, image, tree, dropped=("absolute",))
            equal(vmimg_ok("cat", f"{image}:/bin/link").text, "hello\n")
            equal(vmimg_ok("cat", f"{image}:/absolute").text, "hello\n", "from the image's root")
            equal(vmimg_ok("cat", f"{image}:/../../etc/./hostname").text, "hello\n")
            os.unlink(image)


def test_fat(t):
    tree = common.files_tree(t.path("tree"))
    common.put(tree, "Ünïcode ☃ name.txt", "x")
    for name, (options, size) in FAT.items():
        with t.sub(name):
            image = common.mkfat(t.path("image"), tree, size << 20, *options)
            copy_back(t, image, tree)
            equal(vmimg_ok("cat", f"{image}:/ETC/HOSTNAME").text, "hello\n", "any case")
            os.unlink(image)


XFS = {
    "version 5": [],
    "version 4": ["-m", "crc=0"],
    "folders of 8 KiB, inodes of 1 KiB": ["-n", "size=8192", "-i", "size=1024"],
    "blocks of 1 KiB": ["-b", "size=1024"],
    "no big times": ["-m", "bigtime=0,inobtcount=0,reflink=0"],
}


def test_xfs(t):
    tree = common.with_links(common.files_tree(t.path("tree"), space="_"))
    for i in range(3000):
        common.put(tree, f"many/file_number_{i}", str(i))
    os.symlink("abcdefghi/" * 90, f"{tree}/very_long_link")
    for name, options in XFS.items():
        with t.sub(name):
            image = common.mkxfs(t.path("image"), tree, 400 << 20, *options)
            copy_back(t, image, tree, dropped=("absolute",))
            equal(vmimg_ok("cat", f"{image}:/absolute").text, "hello\n")
            os.unlink(image)


def test_xfs_wide_numbers(t):
    """Inodes from 2^32 on: a folder of a few names has some that need eight bytes, and some that do not."""
    tree = t.path("tree")
    for name in "abcdefgh":
        common.put(tree, f"{name}/file", name)
    common.put(tree, "file", "x")
    image = common.mkxfs(t.path("image"), tree, 4 << 40, "-l", "size=64m")
    shape = common.tool("xfs_db", "-r", "-c", "inode 128", "-c", "p u3.sfdir3.hdr.count", "-c", "p u3.sfdir3.hdr.i8count",
                        image).stdout.decode()
    count, wide = (int(line.split()[-1]) for line in shape.splitlines())
    check(count == 9 and 0 < wide < count, shape)
    equal(vmimg_ok("ls", f"{image}:/").text.split(), [*"abcdef", "file", "g", "h"])
    copy_back(t, image, tree)


def test_listing(t):
    tree = common.with_links(common.files_tree(t.path("tree")))
    image = common.mke2fs(t.path("image"), tree, 48 << 20, "-t", "ext4")
    names = vmimg_ok("ls", f"{image}:/").text.split()
    equal(names, ["absolute", "bin", "empty", "etc", "longlink", "lost+found", "mid", "sparse",
                  "tiny"])
    entries = vmimg_ok("ls", "-R", "--json", f"{image}:/").json()["entries"]
    by_path = {e["path"]: e for e in entries}
    equal(by_path["/bin/link"]["target"], "../etc/hostname")
    equal(by_path["/bin/big"]["size"], 3000000)
    equal(by_path["/bin/big"]["mtime"], int(os.stat(f"{tree}/bin/big").st_mtime))
    equal(len([p for p in by_path if p.startswith("/etc/deep/er/")]), 300)


def test_errors(t):
    tree = common.files_tree(t.path("tree"))
    image = common.mke2fs(t.path("image"), tree, 48 << 20, "-t", "ext4")
    for verb, path, code in (("cat", "/nope", 1), ("cat", "/etc", 1), ("ls", "/tiny/x", 1),
                             ("ls", "7/", 2)):
        with t.sub(f"{verb} {path}"):
            result = vmimg(verb, f"{image}:{path}")
            equal(result.code, code, str(result))
            check_one_line(result)
    with t.sub("cp over a file"):
        target = common.put(t.tmp, "there", "old")
        result = vmimg("cp", f"{image}:/tiny", target)
        equal(result.code, 5, str(result))
        equal(open(target, encoding="ascii").read(), "old")
        vmimg_ok("cp", "--force", f"{image}:/tiny", target)
        equal(open(target, encoding="ascii").read(), "tiny")
    with t.sub("cp of a sparse file of 1 TiB"):
        os.truncate(f"{tree}/sparse", 1 << 40)
        large = common.mke2fs(t.path("large"), tree, 48 << 20, "-t", "ext4")
        equal(vmimg("cat", f"{large}:/sparse").code, 6)
        result = vmimg("cp", f"{large}:/sparse", t.path("sparse"))
        equal(result.code, 6, str(result))
        check(result.seconds < 2, f"{result.seconds} s")
        check(not os.path.exists(t.path("sparse")), "nothing is left")
    with t.sub("cp of more than agreed"):
        result = vmimg("cp", "--max-output", "1M", f"{image}:/bin/big", t.path("big"))
        equal(result.code, 6, str(result))
        check(not os.path.exists(t.path("big")), "nothing is left")


def test_same_name_twice(t):
    """What was copied a moment ago is not overwritten, not even with --force."""
    tree = t.path("tree")
    common.put(tree, "AAA.TXT", "first")
    common.put(tree, "BBB.TXT", "second")
    image = common.mkfat(t.path("image"), tree, 4 << 20, "-F", "12")
    with open(image, "rb") as file:
        data = file.read()
    image = common.put(t.tmp, "twice", data.replace(b"BBB     TXT", b"AAA     TXT"))
    for options in ([], ["--force"]):
        with t.folder() as folder:
            result = vmimg("cp", *options, f"{image}:/", f"{folder}/out")
            equal(result.code, 5, str(result))
            check_one_line(result)
            equal(open(f"{folder}/out/AAA.TXT", encoding="ascii").read(), "first")


def test_link_loop(t):
    tree = t.path("tree")
    os.mkdir(tree)
    os.symlink("b", f"{tree}/a")
    os.symlink("a", f"{tree}/b")
    os.symlink("../../../../../../etc/passwd", f"{tree}/out")
    image = common.mke2fs(t.path("image"), tree, 8 << 20, "-t", "ext4")
    result = vmimg("cat", f"{image}:/a")
    check(result.code == 1 and "following links" in result.errors, str(result))
    equal(vmimg("cat", f"{image}:/out").code, 1, "no passwd in the image")
    result = vmimg("cp", f"{image}:/", t.path("target"))
    equal(result.code, 0, str(result))
    equal(sorted(os.listdir(t.path("target"))), ["a", "b", "lost+found"])
    check(b"left out" in result.err, str(result))


def test_links_that_lead_out(t):
    """By themselves, and by way of others that do not; however the target is named, nothing is reached outside."""
    tree = t.path("tree")
    os.makedirs(f"{tree}/a/b/c")
    common.put(tree, "a/file", "inside")
    links = {"up": "../secret", "a/up": "../../secret", "a/b/c/top": "../../..", "a/b/c/out": "top/../secret", "a/b/c/round": "./top/a/../../secret",
             "a/b/c/file": "../../file", "a/b/c/way": "top/a/file", "file": "./a//file"}
    for name, target in links.items():
        os.symlink(target, f"{tree}/{name}")
    inside = ["a/b/c/file", "a/b/c/top", "a/b/c/way", "file"]
    image = common.mke2fs(t.path("image"), tree, 8 << 20, "-t", "ext4")
    for name, target, existing in (("/", "new", False), ("/", "old", True), ("/a", "part", False), ("/a", "old", True)):
        with t.sub(f"{name} as {target}"), t.folder() as folder:
            common.put(folder, "secret", "outside")
            if existing:
                os.mkdir(f"{folder}/{target}")
            vmimg_ok("cp", f"{image}:{name}", f"{folder}/{target}")
            top = f"{folder}/{target}" + (name if existing and name != "/" else "")
            copied = [os.path.relpath(f"{at}/{link}", top) for at, folders, files in os.walk(top) for link in folders + files
                      if os.path.islink(f"{at}/{link}")]
            for link in copied:
                real = os.path.realpath(f"{top}/{link}")
                check(os.path.commonpath([real, os.path.realpath(top)]) == os.path.realpath(top), f"{link} leads to {real}")
            equal(sorted(copied), inside if name == "/" else ["b/c/file", "b/c/way"])


if __name__ == "__main__":
    harness.main()
