# SPDX-License-Identifier: Apache-2.0
"""
The corpus of the fuzz target, made from the recipes of tests/vectors and from damaged variations of
them: `corpus.py` replays it as a test, `corpus.py --make FOLDER FORMAT…` writes it for libFuzzer.
"""

import os
import random
import shutil
import sys

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "inspect"))
import exfat
from lib import disks, env, harness, process
from lib.harness import check, skip
from lib.recipe import Recipe

VECTORS = os.path.join(env.SOURCE, "tests", "vectors")
REPLAY = os.environ.get("VMIMG_REPLAY") or os.path.join(env.BUILD, "tests", "fuzz-replay")
LARGEST = 4 << 20  # bytes of an image that is worth varying
VARIATIONS = 12    # of each image


def images(fmt, folder):
    """Assembles every recipe of a format; the paths of the images."""
    for name in sorted(os.listdir(os.path.join(VECTORS, fmt))):
        if name.endswith(".vec"):
            place = os.path.join(folder, name.removesuffix(".vec"))
            os.mkdir(place)
            yield Recipe(os.path.join(VECTORS, fmt, name)).assemble(place)


def vary(data, rng):
    """A few changes of the kinds that break parsers, mostly where the headers are."""
    data = bytearray(data)
    for _ in range(rng.randrange(1, 5)):
        if not data:
            break
        reach = len(data) if rng.random() < 0.3 else min(len(data), 1024)
        at = rng.randrange(reach)
        kind = rng.randrange(4)
        if kind == 0:
            data[at] ^= 1 << rng.randrange(8)
        elif kind == 1:
            width = rng.choice((1, 2, 4, 8))
            value = rng.choice((0, 1, 2 ** (8 * width) - 1, 2 ** (8 * width - 1), 0x200, 0x10000))
            data[at:at + width] = (value % 2 ** (8 * width)).to_bytes(width, rng.choice(("big", "little")))
        elif kind == 2:
            source = rng.randrange(len(data))
            data[at:at + 16] = data[source:source + 16]
        else:
            del data[rng.randrange(len(data)):]
    return bytes(data)


def variations(path, folder):
    """Damaged copies of one image, the same on every run."""
    if os.path.getsize(path) > LARGEST:
        return
    with open(path, "rb") as file:
        data = file.read()
    rng = random.Random(os.path.basename(os.path.dirname(path)))
    for number in range(VARIATIONS):
        varied = os.path.join(folder, f"vary-{number}")
        with open(varied, "wb") as file:
            file.write(vary(data, rng))
        yield varied


def formats():
    """Formats that have recipes and are in this build, by the name they are opened with."""
    known = process.formats()
    return [fmt for fmt in sorted(os.listdir(VECTORS))
            if os.path.isdir(os.path.join(VECTORS, fmt)) and (fmt in known or fmt == "probe")]


def test_replay(t):
    if not os.path.exists(REPLAY):
        skip("the replay program is not built")
    for fmt in formats():
        with t.sub(fmt), t.folder() as folder:
            for path in images(fmt, folder):
                files = [path, *variations(path, os.path.dirname(path))]
                done = process.run(REPLAY, "raw" if fmt == "probe" else fmt, *files, timeout=30)
                check(done.code == 0, f"{os.path.basename(os.path.dirname(path))}: {done}")
                shutil.rmtree(os.path.dirname(path))
    with t.sub("bundles and file systems"), t.folder() as folder:
        seeds = list(others(folder))
        check(len(seeds) >= 2, f"seeds: {seeds}")
        for path in seeds:
            os.mkdir(path + ".d")
            done = process.run(REPLAY, "raw", path, *variations(path, path + ".d"), timeout=30)
            check(done.code == 0, str(done))


def others(folder):
    """What has no recipes: bundles, ISO images, file systems and partition tables."""
    raw = os.path.join(folder, "raw")
    disks.pattern(raw, 256 << 10, seed=3, data=64 << 10)
    os.mkdir(os.path.join(folder, "tree"))
    shutil.copyfile(__file__, os.path.join(folder, "tree", "a file with a long name.txt"))
    makers = {
        "ova": [env.VMIMG, "pack", "-o", os.path.join(folder, "seed.ova"), raw],
        "iso": [env.VMIMG, "iso", "create", "-o", os.path.join(folder, "seed.iso"), os.path.join(folder, "tree")],
        "ext4": ["mke2fs", "-q", "-t", "ext4", "-d", os.path.join(folder, "tree"), os.path.join(folder, "seed.ext4"), "1M"],
        "fat": ["mkfs.vfat", "-C", os.path.join(folder, "seed.fat"), "512"],
        "ntfs": ["mkntfs", "-q", "-F", "-f", "-c", "512", os.path.join(folder, "seed.ntfs")],
        "gpt": ["sgdisk", "-o", "-n", "1:40:400", os.path.join(folder, "seed.gpt")],
    }
    disks.pattern(os.path.join(folder, "seed.gpt"), 512 << 10, seed=4, data=512)
    disks.pattern(os.path.join(folder, "seed.ntfs"), 1 << 20, seed=4, data=512)
    exfat.write(os.path.join(folder, "seed.exfat"), 256 << 10,
                {"file": b"content" * 500, "folder": {"another": b"more"}}, chained=True, cluster=512)
    yield os.path.join(folder, "seed.exfat")
    for name, words in makers.items():
        program = env.find(words[0])
        if program and process.run(program, *words[1:]).code == 0:
            yield os.path.join(folder, f"seed.{name}")


def make(folder, wanted):
    """Writes the images into one flat folder."""
    folder = os.path.abspath(folder)
    os.makedirs(folder, exist_ok=True)
    work = os.path.join(folder, ".work")
    for fmt in wanted:
        shutil.rmtree(work, ignore_errors=True)
        os.mkdir(work)
        for path in images(fmt, work):
            if os.path.getsize(path) <= LARGEST:
                name = os.path.basename(os.path.dirname(path))
                shutil.copyfile(path, os.path.join(folder, f"{fmt}-{name}"))
        if fmt == "probe":
            for path in others(work):
                shutil.copyfile(path, os.path.join(folder, os.path.basename(path)))
    shutil.rmtree(work, ignore_errors=True)


if __name__ == "__main__":
    if sys.argv[1:2] == ["--make"]:
        make(sys.argv[2], sys.argv[3:] or formats())
    else:
        harness.main()
