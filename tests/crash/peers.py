# SPDX-License-Identifier: Apache-2.0
"""
What qemu-img says of the states that crashes leave: of each operation of crash.c a sample of the
images, which its check must accept (leaks are fine) and which must have the content that vmimg reads.
"""

import json
import os

from lib import env, harness, process, qemu
from lib.harness import check, equal, skip

STATES = os.environ.get("VMIMG_CRASH_STATES") or os.path.join(env.BUILD, "tests", "crash-states")
CHECKED = {"qcow2", "vmdk", "vdi", "vhdx"}  # formats that qemu-img checks


def alone(path):
    """The image by itself, for qemu-img: the parents that some states name are nowhere."""
    return "json:" + json.dumps({"driver": "qcow2", "backing": None, "file": {"driver": "file", "filename": path}})


def test_qemu(t):
    harness.need("qemu-img")
    if not os.path.exists(STATES):
        skip("the enumerator is not built")
    done = process.run(STATES, extra_env={"VMIMG_CRASH_KEEP": t.tmp}, timeout=300)
    equal(done.code, 0, f"the enumerator ({done})")
    images = sorted(os.listdir(t.tmp))
    check(len(images) > 50, f"only {len(images)} states are images")
    for name in harness.part(images):
        path, fmt = t.path(name), name.rsplit(".", 1)[1]
        with t.sub(name.rsplit(".", 1)[0]):
            if "backing-filename" in process.vmimg_ok("info", "--json", path).json():
                found = process.run("qemu-img", "check", alone(path))
                check(found.code in (0, 3), f"qemu-img check: {found} {found.text}")
                continue
            ours = process.guest_sha256(path)
            if fmt == "vhdx":  # whose log qemu-img replays into the file, and does not read past
                found = process.run("qemu-img", "check", "-r", "all", "-f", fmt, path)
                check(found.code == 0, f"qemu-img check -r all: {found} {found.text}")
            if fmt in CHECKED:
                found = process.run("qemu-img", "check", "-f", fmt, path)
                check(found.code in (0, 3), f"qemu-img check: {found} {found.text}")
            equal(qemu.guest_sha256(path, fmt, t.tmp), ours, "content")


if __name__ == "__main__":
    harness.main()
