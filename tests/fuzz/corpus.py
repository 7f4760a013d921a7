# SPDX-License-Identifier: Apache-2.0
"""
The corpora of the fuzz targets: replayed as a test, with damaged variations of each image;
`corpus.py --make FOLDER TARGET` writes one for libFuzzer, `corpus.py --unpack FILE IMAGE` makes an
image of what libFuzzer has found.
"""

import os
import random
import shutil
import sys

import seeds
from lib import env, harness, process
from lib.harness import check, equal, skip

REPLAY = os.environ.get("VMIMG_REPLAY") or os.path.join(env.BUILD, "tests", "fuzz-replay")
LARGEST = 4 << 20    # bytes of an image that is worth varying
VARIATIONS = 12      # of each image
INPUT_MAX = 1 << 20  # bytes of an input of libFuzzer


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


def variations(path, name, folder):
    """Damaged copies of one image, the same on every run."""
    if os.path.getsize(path) > LARGEST:
        return
    with open(path, "rb") as file:
        data = file.read()
    rng = random.Random(name)
    for number in range(VARIATIONS):
        varied = os.path.join(folder, f"vary-{number}")
        with open(varied, "wb") as file:
            file.write(vary(data, rng))
        yield varied


def test_replay(t):
    if not os.path.exists(REPLAY):
        skip("the replay program is not built")
    for target in seeds.targets():
        with t.sub(target), t.folder() as folder:
            count = 0
            for name, path in seeds.of(target, folder):
                packed = os.path.join(folder, "packed")
                seeds.pack(path, packed)
                files = [packed, *([path] if os.path.getsize(path) <= LARGEST else [])]
                if target != "probe":  # whose images are those of other targets
                    files += variations(path, name, folder)
                done = process.run(REPLAY, target, *files, timeout=30)
                check(done.code == 0, f"{name}: {done}")
                count += 1
            check(count >= 2, f"{count} seeds")


def test_packed(t):
    """What a packed image stands for is the image, but for guest data that repeats."""
    for target in "vhdx", "inspect":
        with t.sub(target), t.folder() as folder:
            for _, path in seeds.of(target, folder):
                seeds.pack(path, t.path("packed"))
                seeds.unpack(t.path("packed"), t.path("image"))
                seeds.pack(t.path("image"), t.path("again"))
                with open(t.path("packed"), "rb") as one, open(t.path("again"), "rb") as other:
                    equal(one.read(), other.read(), path)
                break


# Images that have checksums, and at least how many of them.
SUMMED = {"inspect": {"btrfs": 5, "ntfs": 20, "exfat-False": 3, "exfat-True": 3, "lvm": 1, "gpt": 2},
          "vhd": {"written-dynamic": 3}, "vhdx": {"written-dynamic": 4, "vhdx-good-log-data": 5}}
TORN = ("logged",)  # entries of a log that shall not count


def test_sums(t):
    """The mutator sets checksums as those who write the images do: of a sound one, none becomes another."""
    for target, least in SUMMED.items():
        with t.sub(target), t.folder() as folder:
            seen = set()
            for name, path in seeds.of(target, folder):
                if name in TORN or name.startswith(f"{target}-") and not name.startswith(f"{target}-good"):
                    continue
                seeds.pack(path, t.path("packed"))
                done = process.run(REPLAY, "--sums", t.path("packed"))
                check(done.code == 0, f"{name}: {done}")
                count = int(done.text.rsplit(": ", 1)[1].split()[0])
                check(count >= least.get(name, 0), f"{name}: {count} sums are known, of {least.get(name)}")
                seen.add(name)
            equal(sorted(set(least) - seen), [], "images that were not made")


def make(folder, target):
    """Writes the packed images (of texts: the texts) into one flat folder."""
    folder = os.path.abspath(folder)
    work = os.path.join(folder, ".work")
    os.makedirs(folder, exist_ok=True)
    shutil.rmtree(work, ignore_errors=True)
    os.mkdir(work)
    for name, path in seeds.of(target, work):
        out = os.path.join(folder, "seed-" + name)
        if target == "texts" or (target == "bundle" and name in ("ec2", "ovf")):
            shutil.copyfile(path, out)
        elif os.path.getsize(path) <= seeds.LARGEST:
            seeds.pack(path, out)
        if os.path.getsize(out) > INPUT_MAX:
            os.unlink(out)
    shutil.rmtree(work)


if __name__ == "__main__":
    if sys.argv[1:2] == ["--make"]:
        make(*sys.argv[2:4])
    elif sys.argv[1:2] == ["--unpack"]:
        seeds.unpack(*sys.argv[2:4])
    elif sys.argv[1:2] == ["--targets"]:
        print("\n".join(seeds.targets()))
    else:
        harness.main()
