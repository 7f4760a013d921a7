# SPDX-License-Identifier: Apache-2.0
"""The same input and options give the same bytes, however many threads work, and on every run."""

import os

from lib import disks, harness, process, variants
from lib.harness import check, equal


def contents(folder):
    """Digest of every file of a folder, by name."""
    return {name: disks.sha256(os.path.join(folder, name)) for name in sorted(os.listdir(folder))}


def convert(source, options, threads, t, extra_env=None):
    with t.folder() as folder:
        os.mkdir(f"{folder}/out")
        process.vmimg_ok("convert", *options, f"--threads={threads}", source,
                         f"{folder}/out/image", extra_env=extra_env)
        return contents(f"{folder}/out")


def test_from_raw(t):
    raw = disks.pattern(t.path("disk.raw"), (20 << 20) + 512, seed=9, data=8 << 20)
    for fmt, label, options in variants.written():
        with t.sub(f"{fmt} {label}"):
            options = ["-O", fmt, *options]
            one = convert(raw, options, 1, t)
            check(one, "no output")
            for threads in (2, 8):
                equal(convert(raw, options, threads, t), one, f"{threads} threads")


def test_from_compressed(t):
    """Blocks that are copied as they are packed, and those that are packed again."""
    raw = disks.pattern(t.path("disk.raw"), 12 << 20, seed=10, data=6 << 20)
    for source_fmt, source_label, source_options in variants.main_ways():
        if not source_options:
            continue
        source = t.path(f"source-{source_label}.{source_fmt}")
        process.vmimg_ok("convert", "-O", source_fmt, *source_options, raw, source)
        for fmt, label, options in variants.main_ways():
            with t.sub(f"{source_fmt} {source_label} to {fmt} {label}"):
                options = ["-O", fmt, *options]
                one = convert(source, options, 1, t)
                for threads in (2, 8):
                    equal(convert(source, options, threads, t), one, f"{threads} threads")


def test_unique_differs(t):
    """--unique asks for identities of chance, where a format has one."""
    raw = disks.pattern(t.path("disk.raw"), 4 << 20, seed=11)
    for fmt in set(process.formats(writable=True)) & {"vmdk", "vhd", "vhdx", "vdi"}:
        with t.sub(fmt):
            options = ["-O", fmt, "--unique"]
            check(convert(raw, options, 2, t) != convert(raw, options, 2, t), "the same twice")


if __name__ == "__main__":
    harness.main()
