# SPDX-License-Identifier: Apache-2.0
"""
Disks far larger than their data. By itself, because the peak of a program that a large process starts
is at least that process's own.
"""

from lib import env, harness
from lib.harness import check
from lib.process import vmimg_ok


def test_large(t):
    """62 TiB: tables of 8 GiB that are holes, quickly and in little memory."""
    image = t.path("big.vmdk")
    for words in (("create", "-q", "-f", "vmdk", image, "62T"), ("map", image), ("check", image),
                  ("convert", "-O", "qcow2", image, t.path("big.qcow2"))):
        with t.sub(words[0]):
            result = vmimg_ok(*words)
            check(result.peak < 64 << 20, f"{result.peak >> 20} MiB")
            check(result.seconds < 2 * env.SLACK, f"{result.seconds:.1f} s")


if __name__ == "__main__":
    harness.main()
