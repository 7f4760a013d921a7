# SPDX-License-Identifier: Apache-2.0
"""The sandbox: in force before an image is interpreted, and in nobody's way."""

import re

from lib import disks, env, harness
from lib.harness import check, equal
from lib.process import run, vmimg_ok


def traced(t, *words):
    """The system calls of a run, one a line."""
    harness.need("strace")
    log = t.path("log")
    result = run("strace", "-f", "-o", log, env.VMIMG, *words)
    with open(log, encoding="utf-8", errors="replace") as file:
        return result, file.read().splitlines()


def first(lines, pattern):
    for number, line in enumerate(lines):
        if re.search(pattern, line):
            return number
    return None


def test_before_the_first_byte(t):
    raw = disks.pattern(t.path("disk.raw"), 1 << 20, seed=4)
    vmimg_ok("convert", raw, t.path("disk.qcow2"))
    for words in ["info"], ["map"], ["check"], ["digest"], ["convert", "-O", "raw"]:
        with t.sub(words[0]):
            image = [t.path("disk.qcow2")]
            output = [t.path("out.raw")] if words[0] == "convert" else []
            result, lines = traced(t, words[0], *(["--force"] if output else []), *words[1:], *image, *output)
            equal(result.code, 0, "exit code")
            entered = first(lines, r"landlock_restrict_self.*= 0")
            if entered is None:
                harness.skip("this kernel has no Landlock")
            opened = first(lines, r"openat.*disk\.qcow2")
            fd = re.search(r"= (\d+)$", lines[opened]).group(1)
            read = first(lines[opened:], rf"pread64\({fd},") + opened
            check(opened < entered < read, f"opened {opened}, restricted {entered}, read {read}")
            filtered = first(lines, r"seccomp\(.*SECCOMP_SET_MODE_FILTER.*= 0|prctl\(PR_SET_SECCOMP.*= 0")
            check(filtered is not None and filtered < read, f"seccomp at {filtered}, read at {read}")
            denied = [line for line in lines[filtered:] if re.search(r"= -1 E(PERM|ACCES)", line)]
            equal(denied, [], "calls that were refused")


def test_can_be_left_out(t):
    raw = disks.pattern(t.path("disk.raw"), 1 << 20, seed=4)
    _, lines = traced(t, "info", "--no-sandbox", raw)
    equal(first(lines, "landlock_restrict_self"), None, "restricted at")


def test_untrusted(t):
    raw = disks.pattern(t.path("disk.raw"), 1 << 20, seed=4)
    vmimg_ok("convert", "--untrusted", raw, t.path("disk.qcow2"))
    vmimg_ok("compare", "--untrusted", raw, t.path("disk.qcow2"))


if __name__ == "__main__":
    harness.main()
