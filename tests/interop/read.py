# SPDX-License-Identifier: Apache-2.0
"""What qemu-img writes, with many options, read by vmimg."""

from lib import disks, harness, process, qemu
from lib.harness import check, equal, skip

MIB = 1 << 20
# Format: options of qemu-img convert -o, or command-line options where they begin with a dash.
MADE = {
    "qcow2": ["", "compat=0.10", "extended_l2=on", "extended_l2=on,cluster_size=16k", "-c",
              "-c compression_type=zstd", "-c extended_l2=on", "-c cluster_size=512",
              "-c cluster_size=2M", "-c cluster_size=2M,compression_type=zstd",
              "lazy_refcounts=on", "refcount_bits=1", "refcount_bits=8", "refcount_bits=64",
              "preallocation=metadata", "preallocation=falloc", "preallocation=full",
              *(f"cluster_size={size}" for size in ("512", "1k", "4k", "128k", "1M", "2M"))],
    "qcow": [""],
    "vmdk": ["", "subformat=streamOptimized", "subformat=monolithicFlat", "zeroed_grain=on",
             "subformat=twoGbMaxExtentSparse", "subformat=twoGbMaxExtentFlat", "compat6=on",
             "adapter_type=lsilogic"],
    "vhd": ["force_size=on", "subformat=fixed,force_size=on"],
    "vhdx": ["", "subformat=fixed", "block_size=1M", "block_size=32M"],
    "vdi": ["", "static=on"],
    "qed": ["", "cluster_size=4k"],
    "parallels": [""],
}


def make(raw, image, fmt, text):
    words = text.split()
    options = [word for word in words if word.startswith("-")]
    pairs = [word for word in words if not word.startswith("-")]
    more = ["-o", pairs[0]] if pairs else []
    qemu.convert(raw, image, "raw", fmt, *options, *more)


def test_every_option(t):
    raw = disks.pattern(t.path("disk.raw"), 24 * MIB, seed=4)
    want = disks.sha256(raw)
    for fmt, texts in MADE.items():
        if fmt not in process.formats():
            continue
        for text in texts:
            with t.sub(f"{fmt} {text or 'plain'}"), t.folder() as folder:
                image, back = f"{folder}/image.{fmt}", f"{folder}/back.raw"
                make(raw, image, fmt, text)
                equal(process.guest_sha256(image), want, "digest")
                process.vmimg_ok("convert", "-O", "raw", image, back)
                equal(disks.sha256(back), want, "converted")
                checked = process.vmimg("check", image)
                check(checked.code in (0, 63), f"check: {checked} {checked.text}")


def test_qcow2_odd_sizes(t):
    for size in (1, 511, 513, 65535, 65537, MIB + 1):
        with t.sub(f"{size} bytes"), t.folder() as folder:
            raw = disks.pattern(f"{folder}/disk.raw", size, seed=size)
            image = qemu.convert(raw, f"{folder}/image.qcow2", "raw", "qcow2")
            info = process.vmimg_ok("info", "--json", image).json()
            # qemu-img rounds a raw file up to whole sectors before it writes.
            equal(info["virtual-size"], -(-size // 512) * 512, "virtual size")
            equal(process.guest_sha256(image), qemu.guest_sha256(image, "qcow2", folder), "digest")


def test_data_file(t):
    if "qcow2" not in process.formats():
        skip("this build has no qcow2")
    raw = disks.pattern(t.path("disk.raw"), 8 * MIB, seed=5)
    for more in ("", ",data_file_raw=on"):
        with t.sub(f"data_file{more}"), t.folder() as folder:
            # Relative, as an image that may be moved has it; beside is what is allowed.
            qemu.img("convert", "-f", "raw", "-O", "qcow2", "-o", f"data_file=data.raw{more}", raw,
                     "image.qcow2", cwd=folder)
            equal(process.guest_sha256(f"{folder}/image.qcow2"), disks.sha256(raw), "digest")
            equal(process.vmimg("check", "--refs=beside", f"{folder}/image.qcow2").code, 0, "check")


def test_internal_snapshots(t):
    if "qcow2" not in process.formats():
        skip("this build has no qcow2")
    image = qemu.create(t.path("image.qcow2"), "qcow2", "8M")
    wanted = {}
    for number in range(4):
        qemu.io(image, f"write -P {0x11 * (number + 1)} {number * 100}k 300k", fmt="qcow2")
        wanted[f"snap{number}"] = qemu.guest_sha256(image, "qcow2", t.tmp)
        qemu.img("snapshot", "-c", f"snap{number}", image)
    qemu.io(image, "discard 0 1M", "write -P 0x99 2M 64k", fmt="qcow2")
    for name, want in wanted.items():
        with t.sub(name), t.folder() as folder:
            back = f"{folder}/back.raw"
            process.vmimg_ok("convert", "-l", name, "-O", "raw", image, back)
            equal(disks.sha256(back), want, name)
    names = [s["name"] for s in process.vmimg_ok("info", "--json", image).json()["snapshots"]]
    equal(names, list(wanted), "info lists")
    equal(process.guest_sha256(image), qemu.guest_sha256(image, "qcow2", t.tmp), "current state")


def test_backing_chain(t):
    """Five layers, each with holes that show the one below, the lower ones smaller."""
    if "qcow2" not in process.formats():
        skip("this build has no qcow2")
    disks.pattern(t.path("layer0.raw"), 5 * MIB + 512, seed=6)
    below, fmt = "layer0.raw", "raw"
    for number in range(1, 6):
        name = f"layer{number}.qcow2"
        qemu.img("create", "-q", "-f", "qcow2", "-b", below, "-F", fmt, "-o",
                 f"cluster_size={(4, 64, 16, 64, 128)[number - 1]}k", name,
                 f"{5 + number}M", cwd=t.tmp)
        qemu.io(t.path(name), f"write -P {number} {number * 300}k 200k",
                f"write -z {number * 500}k 100k", fmt="qcow2")
        below, fmt = name, "qcow2"
    top = t.path(below)
    equal(process.guest_sha256(top), qemu.guest_sha256(top, "qcow2", t.tmp), "digest")
    back = t.path("flat.raw")
    process.vmimg_ok("convert", "-O", "raw", top, back)
    equal(disks.sha256(back), qemu.guest_sha256(top, "qcow2", t.tmp), "converted")
    refused = process.vmimg("convert", "--refs=none", "-O", "raw", top, t.path("no.raw"))
    equal(refused.code, 5, "refused by policy")
    compare_map(top, "qcow2")


def test_bitmaps(t):
    if "qcow2" not in process.formats():
        skip("this build has no qcow2")
    image = qemu.create(t.path("image.qcow2"), "qcow2", "64M")
    qemu.img("bitmap", "--add", "-g", "64k", image, "first")
    qemu.img("bitmap", "--add", "--disable", image, "second")
    qemu.io(image, "write -P 1 0 1M", fmt="qcow2")
    text = str(process.vmimg_ok("info", "--json", image).json())
    for name in ("first", "second"):
        check(name in text, f"info does not list bitmap {name}: {text}")
    equal(process.vmimg("check", image).code, 0, "check")


def merged(entries):
    """(start, end, data) of a map, neighbours joined."""
    runs = []
    for entry in entries:
        start, end, data = entry["start"], entry["start"] + entry["length"], entry["data"]
        if runs and runs[-1][1] == start and runs[-1][2] == data:
            runs[-1] = (runs[-1][0], end, data)
        else:
            runs.append((start, end, data))
    return runs


def compare_map(image, fmt):
    ours = process.vmimg_ok("map", "--json", "--refs=beside", "-f", fmt, image).json()
    theirs = qemu.img("map", "--output=json", "-f", qemu.name(fmt), image).json()
    equal(merged(ours), merged(theirs), "map")


def test_map_agrees(t):
    raw = disks.pattern(t.path("disk.raw"), 16 * MIB, seed=7)
    for fmt, text in (("qcow2", ""), ("qcow2", "-c"), ("qcow2", "cluster_size=4k"),
                      ("qcow2", "extended_l2=on"), ("vmdk", ""), ("vdi", ""), ("raw", "")):
        if fmt in process.formats():
            with t.sub(f"{fmt} {text}"), t.folder() as folder:
                image = f"{folder}/image.{fmt}"
                make(raw, image, fmt, text)
                compare_map(image, fmt)


if __name__ == "__main__":
    harness.main()
