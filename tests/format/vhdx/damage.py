# SPDX-License-Identifier: Apache-2.0
"""Differencing VHDX that are wrong in one way each: parent locators, and what tells which sectors are there."""

import shutil
import struct

from lib import harness, process, vhdx
from lib.harness import check
from lib.process import vmimg
from lib.vhdx import MIB

LINKAGE = "{%s}"


def family(t, linkage=None):
    """A parent, and a child with one block that is present in part: (its path, its bytes, the child as made)."""
    parent = vhdx.Image(4 * MIB)
    parent.add(0, b"\x11" * MIB)
    parent.write(t.path("base.vhdx"))
    child = vhdx.Image(4 * MIB, pairs=[("parent_linkage", LINKAGE % (linkage or parent.data_write)),
                                       ("relative_path", ".\\base.vhdx")])
    child.add(1, b"\x22" * MIB, vhdx.PARTIAL)
    child.add_bitmap(0, b"\x0f" * MIB)
    path = child.write(t.path("child.vhdx"))
    with open(path, "rb") as file:
        return path, file.read(), child


def spoilt(t, path, *changes):
    copy = shutil.copy(path, t.path("spoilt.vhdx"))
    with open(copy, "r+b") as file:
        for at, data in changes:
            file.seek(at)
            file.write(data)
    return copy


def said(image, pattern, codes):
    """What some command says, with the exit codes of check and convert."""
    text = ""
    for words, code in zip((["check", image], ["check", "--refs=beside", image], ["digest", image]), codes):
        result = vmimg(*words)
        process.check_bars(result)
        check(result.code == code, f"want {code}: {result} {result.text[-300:]}")
        text += result.errors + result.text
    check(pattern in text, f"nothing says {pattern!r}: {text}")


def test_sound(t):
    path, _, _ = family(t)
    said(path, "", (0, 0, 0))


def test_locators(t):
    path, data, child = family(t)
    at = data.rindex(vhdx.LOCATOR_TYPE.bytes_le)
    entry = data.index(vhdx.PARENT_LOCATOR.bytes_le, child.metadata_at)
    rows = {
        "its type": (at, b"\x99", "its type is not that of a VHDX"),
        "65,535 entries": (at + 18, b"\xff\xff", "do not fit"),
        "a key outside": (at + 20, struct.pack("<I", 1 << 30), "outside its"),
        "a value outside": (at + 24, struct.pack("<I", 1 << 30), "outside its"),
        "keys that overlap": (at + 28, b"\xfe\xff", "its texts overlap"),
        "ten bytes": (entry + 20, struct.pack("<I", 10), "only 10 bytes"),
    }
    for name, (place, change, pattern) in rows.items():
        with t.sub(name):
            said(spoilt(t, path, (place, change)), pattern, (4, 4, 4))


def test_parents(t):
    path, _, _ = family(t, linkage=vhdx.LOG_ID)
    said(path, "base.vhdx", (0, 0, 4))


def test_bitmaps(t):
    path, _, child = family(t)
    place = child.bat_at + 8 * child.ratio
    with t.sub("none for a block in part"):
        said(spoilt(t, path, (place, bytes(8))), "names no sector bitmap", (2, 2, 4))
    with t.sub("a state of its own"):
        said(spoilt(t, path, (place, b"\3"), (child.bat_at + 8, bytes(8))), "a state that does not exist", (2, 2, 0))


if __name__ == "__main__":
    harness.main()
