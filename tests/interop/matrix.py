# SPDX-License-Identifier: Apache-2.0
"""Every format into every format: the guest's bytes stay the same."""

from lib import disks, harness, process, variants
from lib.harness import equal


def test_every_pair(t):
    raw = disks.pattern(t.path("disk.raw"), (12 << 20) + 4096, seed=8, data=3 << 20)
    want = disks.sha256(raw)
    ways = list(variants.main_ways())
    for fmt, label, options in ways:
        with t.folder() as folder:
            first = f"{folder}/first.{fmt}"
            with t.sub(f"raw to {fmt} {label}"):
                process.vmimg_ok("convert", "-f", "raw", "-O", fmt, *options, raw, first)
                equal(process.guest_sha256(first), want)
            for other, other_label, other_options in ways:
                with t.sub(f"{fmt} {label} to {other} {other_label}"), t.folder() as inner:
                    second = f"{inner}/second.{other}"
                    process.vmimg_ok("convert", "-O", other, *other_options, first, second)
                    equal(process.guest_sha256(second), want)


if __name__ == "__main__":
    harness.main()
