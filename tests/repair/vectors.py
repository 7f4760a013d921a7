# SPDX-License-Identifier: Apache-2.0
"""
Every damaged image through repair, into a new file and in place: what comes out with exit code 0 is
complete and sound, with 2 sound but for what is listed, and the input stays what it was unless asked.
Words on the command line choose formats.
"""

import glob
import hashlib
import os
import sys

from lib import env, harness, process, recipe
from lib.harness import check, equal

VECTORS = os.path.join(env.SOURCE, "tests", "vectors")
KINDS = ("good-", "bad-", "damaged-", "leak-", "recovered-")
PEERS = {"qcow2": "qcow2", "vdi": "vdi", "vhdx": "vhdx"}


def bytes_of(path):
    """What stands for them: some images are large, and what a child takes is measured."""
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def sound(path, fmt, what):
    """Our own check and, where there is one that knows the format, QEMU's."""
    result = process.vmimg("check", "-f", fmt, path)
    check(result.code in (0, 3), f"{what}: not sound: {result} {result.text[-300:]}")
    if fmt in PEERS and env.have("qemu-img"):
        peer = process.run("qemu-img", "check", "-f", PEERS[fmt], path)
        if "Could not open" in peer.errors and ("in place" in what or "size-0" in what):
            return  # QEMU 7.2 takes no old VDI, no VDI with a parent, no VHDX without blocks
        if result.code == 3 and "allocated blocks mismatch" in peer.errors:
            return  # a gap between a VDI's blocks, which nobody closes without moving data
        check(peer.code in (0, 3), f"{what}: qemu-img check: {peer} {peer.text[-300:]}")


def judge(result, path, fmt, what):
    process.check_bars(result, what)
    check(result.code in (0, 1, 2, 4, 5, 6), f"{what}: {result}")
    if result.code not in (0, 2):
        process.check_one_line(result, what)
        return None
    report = result.json()
    equal(report["schema"], "vmimg.repair/1", "schema")
    if result.code == 0:
        equal(report["lost-ranges-total"], 0, "lost ranges")
    if not any(f["severity"] in ("corruption", "error") for f in report["left"]):
        sound(path, fmt, what)
    else:
        equal(result.code, 2, f"{what}: exit code")
    return report


def into_new(image, fmt, name, folder):
    before, new = bytes_of(image), f"{folder}/new"
    result = process.vmimg("repair", "--json", "-q", "-f", fmt, "-o", new, image)
    report = judge(result, new, fmt, f"{name}, into a new file")
    equal(bytes_of(image), before, "the input")
    if not report:
        check(not os.path.exists(new), "an output was left")
        return
    check(not report["left"] or all(f["severity"] == "note" for f in report["left"]),
          f"the new image is not sound: {report['left']}")


def in_place(image, fmt, name):
    before = bytes_of(image)
    dry = process.vmimg("repair", "--json", "-q", "-n", "--in-place", "-f", fmt, image)
    equal(bytes_of(image), before, "the input of a dry run")
    result = process.vmimg("repair", "--json", "-q", "--in-place", "-f", fmt, image)
    equal(result.code, dry.code, "the exit code, dry and real")
    check(not glob.glob(os.path.dirname(image) + "/*.vmimg-undo"), "an undo file was left")
    report = judge(result, image, fmt, f"{name}, in place")
    if not report:
        equal(bytes_of(image), before, "the input of a repair that failed")
        return
    if name.startswith("good-"):
        check(all(f["severity"] == "note" for f in report["fixed"]), "a sound image was fixed")
        check(report["fixed"] or bytes_of(image) == before, "a sound image was changed")
    after = bytes_of(image)
    again = process.vmimg("repair", "--json", "-q", "--in-place", "-f", fmt, image)
    check(again.code in (0, 2), f"again: {again}")
    equal(again.json()["fixed"], [], "fixes, the second time")
    equal(bytes_of(image), after, "the image after a second repair")


def test_vectors(t):
    words = [w for w in sys.argv[1:] if os.path.isdir(f"{VECTORS}/{w}")]
    for path in sorted(glob.glob(VECTORS + "/*/*.vec")):
        made = recipe.Recipe(path)
        fmt = os.path.basename(os.path.dirname(path))
        if not made.name.startswith(KINDS) or (words and fmt not in words) or \
                fmt not in process.formats(writable=True):
            continue
        with t.sub(f"{fmt}/{made.name}"), t.folder() as folder:
            image = made.assemble(folder)
            with t.folder() as other:
                into_new(image, fmt, made.name, other)
            in_place(image, fmt, made.name)

def test_hole(t):
    """A file that is nearly all hole costs what is in it: the new refcounts come after 1 TiB of nothing."""
    harness.need("qemu-img")
    with t.folder() as folder:
        image = f"{folder}/x.qcow2"
        process.run("qemu-img", "create", "-q", "-f", "qcow2", image, "64M")
        with open(image, "r+b") as file:
            file.seek(0x10000)
            file.write(bytes(8))
            file.truncate(1 << 40)
        result = process.vmimg("repair", "-q", "--in-place", image)
        process.check_bars(result, "repair")
        equal(result.code, 0, str(result))
        equal(process.run("qemu-img", "check", "-q", image, timeout=300).code, 0, "qemu-img check")


if __name__ == "__main__":
    sys.exit(harness.run([("vectors", test_vectors), ("hole", test_hole)]))
