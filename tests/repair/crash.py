# SPDX-License-Identifier: Apache-2.0
"""Repair in place that is cut off: killed or out of space at every write, it leaves the old image or
the new one, once the next repair has looked at its undo file."""

import os

from lib import env, harness, process, recipe
from lib.harness import check, equal, need, skip

VICTIMS = ("qcow2/damaged-l2-entry-past-end", "vhd/damaged-bat-past-end", "vdi/damaged-map-past-end")
NO_LEAK_CHECK = {"ASAN_OPTIONS": os.environ.get("ASAN_OPTIONS", "") + ":detect_leaks=0"}


def content(path):
    with open(path, "rb") as file:
        return file.read()


def traced(inject, image):
    return process.run("strace", "-f", "-qq", "-o", "/dev/null", "-e", "trace=pwrite64", "-e",
                       f"inject=pwrite64:{inject}", env.VMIMG, "repair", "-q", "--no-sandbox",
                       "--in-place", image, extra_env=NO_LEAK_CHECK)


def cut_off(victim, folder, how):
    """Every write in turn fails or kills, until one repair gets through."""
    image = recipe.Recipe(f"{env.SOURCE}/tests/vectors/{victim}.vec").assemble(folder)
    undo, old = image + ".vmimg-undo", content(image)
    check(process.vmimg("repair", "-q", "--in-place", image).code in (0, 2), "it cannot be repaired")
    new = content(image)
    check(new != old, "there was nothing to repair")
    for when in range(1, 100):
        with open(image, "wb") as file:
            file.write(old)
        result = traced(f"{how}:when={when}", image)
        if result.code in (0, 2) and not os.path.exists(undo):
            check(when > 3, "too few writes to have been journalled")
            equal(content(image), new, "the image after a repair that got through")
            return
        if not os.path.exists(undo):
            equal(content(image), old, f"the image, write {when}")
        check(process.vmimg("repair", "-q", "--in-place", image).code in (0, 2), "the next repair")
        check(not os.path.exists(undo), "the undo file stayed")
        equal(content(image), new, f"the image after the next repair, write {when}")
    check(False, "it never got through")


def test_cut_off(t):
    need("strace")
    if process.run("strace", "-o", "/dev/null", "true").code:
        skip("strace may not trace here")
    for victim in VICTIMS:
        for how in ("error=ENOSPC", "signal=KILL"):
            with t.sub(f"{victim}, {how}"), t.folder() as folder:
                cut_off(victim, folder, how)


if __name__ == "__main__":
    harness.main()
