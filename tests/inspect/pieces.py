# SPDX-License-Identifier: Apache-2.0
"""
NTFS whose records lead to others: attribute lists, links, nodes and references that lie. The sound ones are made by
mkntfs and ntfscp and read by ntfscat too.
"""

import os
import struct
import sys

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
import common
import ntfs
from hostile import spoilt
from ntfs import fixed, unfixed
from refusals import says
from lib import harness, process
from lib.harness import check, equal
from lib.process import vmimg, vmimg_ok

LIST, NAME, DATA, ROOT, REPARSE = 0x20, 0x30, 0x80, 0x90, 0xc0
CLUSTER = 4096


def padded(data):
    return data + bytes(-len(data) % 8)


def resident(kind, value, name=""):
    raw, at = name.encode("utf-16-le"), 24 + len(padded(name.encode("utf-16-le")))
    body = padded(raw) + padded(value)
    return struct.pack("<IIBBHHHIHH", kind, 24 + len(body), 0, len(name), 24, 0, 0, len(value), at, 0) + body


def in_runs(kind, runs, size, first=0, last=0):
    """Runs as they are kept, from cluster first on."""
    body = padded(runs + b"\0")
    return struct.pack("<IIBBHHHQQHHIQQQ", kind, 64 + len(body), 1, 0, 64, 0, 0, first, last, 64, 0, 0, size, size, size) + body


def listed(kind, vcn, number):
    """An entry of an attribute list."""
    return struct.pack("<IHBBQQH6x", kind, 32, 0, 26, vcn, number | 1 << 48, 0)


def attributes(record, *kinds):
    """Those of a record that are kept."""
    at, kept = struct.unpack_from("<H", record, 20)[0], []
    while struct.unpack_from("<I", record, at)[0] != 0xffffffff:
        kind, size = struct.unpack_from("<II", record, at)
        if kind in kinds:
            kept.append(bytes(record[at:at + 14] + b"\0\0" + record[at + 16:at + size]))  # instance 0, as the lists say
        at += size
    return kept


def refill(record, parts, base=None):
    """A record with other attributes, in the order of their kinds."""
    at = struct.unpack_from("<H", record, 20)[0]
    body = b"".join(sorted(parts, key=lambda part: struct.unpack_from("<I", part)[0])) + struct.pack("<II", 0xffffffff, 0)
    check(at + len(body) <= len(record), "it does not fit")
    record[at:] = body.ljust(len(record) - at, b"\0")
    struct.pack_into("<I", record, 24, at + len(body))
    if base is not None:
        struct.pack_into("<Q", record, 32, base | 1 << 48)
    return record


class Sound:
    """A volume with three files, "data" in record 64, and those after it."""

    def __init__(self, t):
        harness.need("mkntfs", "ntfscp", "ntfscat")
        self.path = ntfs.make(t.path("ntfs"), 8 << 20)
        self.content = bytes(range(256)) * 400
        for name in ("data", "more", "rest"):
            common.tool("ntfscp", "-f", self.path, common.put(t.tmp, name, self.content), name)
        self.mft = ntfs.mft_at(self.path)
        with open(self.path, "rb") as file:
            self.bytes = file.read()

    def record(self, number):
        at = self.mft + 1024 * number
        return unfixed(bytearray(self.bytes[at:at + 1024]))

    def put(self, number, record):
        return [(self.mft + 1024 * number, bytes(fixed(record)))]

    def with_list(self, *entries, extra=(), more=None, the_list=None):
        """"data" with its content told in record 65, and changes to what leads there."""
        (data,) = attributes(self.record(64), DATA)
        kept = attributes(self.record(64), 0x10, NAME)
        entries = entries or (listed(DATA, 0, 65),)
        first = refill(self.record(64), [*kept, the_list or resident(LIST, b"".join(
            [listed(0x10, 0, 64), listed(NAME, 0, 64), *entries])), *extra])
        second = refill(self.record(65), [data] if more is None else more, 64)
        return self.put(64, first) + self.put(65, second)


def test_lists(t):
    sound = Sound(t)
    with t.sub("a list that is right"):
        path = spoilt(t, sound.path, *sound.with_list())
        equal(common.tool("ntfscat", "-f", path, "data").stdout == sound.content, True, "ntfscat")
        check(vmimg_ok("cat", f"{path}:/data").out == sound.content, "another content")
    (data,) = attributes(sound.record(64), DATA)
    late = bytearray(data)
    struct.pack_into("<Q", late, 16, 5)
    bad = bytearray(listed(DATA, 0, 65))
    bad[4] = 3
    rows = [
        ("a first piece that is the second", sound.with_list(listed(DATA, 5, 65), more=[bytes(late)]),
         "record 64: the pieces of a file do not follow on one another", 4),
        ("a piece that comes twice", sound.with_list(listed(DATA, 0, 65), listed(DATA, 0, 65)),
         "record 64: the pieces of a file do not follow on one another", 4),
        ("a record of another file", sound.with_list(listed(DATA, 0, 66)), "record 64 is continued in 66, which belongs to 0", 4),
        ("a piece that is not there", sound.with_list(listed(DATA, 7, 65)), "record 65 lacks what the list in 64 promises", 4),
        ("an entry of three bytes", sound.with_list(bytes(bad)), "the attribute list of record 64 is damaged", 4),
        ("a list past what Windows agrees to", sound.with_list(the_list=in_runs(LIST, b"\x01\x41", (256 << 10) + 8)),
         "record 64 has an attribute list of 262152 bytes", 6),
        ("a record past the MFT", sound.with_list(listed(DATA, 0, 1 << 40)), "there is no MFT record 1099511627776", 4),
    ]
    for name, changes, pattern, code in rows:
        with t.sub(name):
            path = spoilt(t, sound.path, *changes)
            says(vmimg("cat", f"{path}:/data"), pattern, code)
            says(vmimg("ls", f"{path}:/"), pattern, code)


def test_links(t):
    sound = Sound(t)
    kept = attributes(sound.record(64), 0x10, NAME)

    def link(*parts):
        return sound.put(64, refill(sound.record(64), [*kept, *parts]))

    def target(at, size, names=b"m\0o\0r\0e\0"):
        return struct.pack("<IHHHHHHI", 0xa000000c, 12 + len(names), 0, at, size, 0, 0, 1) + names
    place = sound.bytes.index(sound.content[:4096]) // CLUSTER  # the content of "data", which nothing leads to then
    with t.sub("a link that is right"):
        path = spoilt(t, sound.path, *link(resident(REPARSE, target(0, 8))))
        check(vmimg_ok("cat", f"{path}:/data").out == sound.content, "another content")
    rows = [
        ("no target", "its target of 0 bytes", link(resident(REPARSE, target(0, 0)))),
        ("a target past its end", "its target of 8 bytes at 22 lies outside its 28", link(resident(REPARSE, target(2, 8)))),
        ("a target far away", "its target of 65535 bytes at 65555", link(resident(REPARSE, target(0xffff, 0xffff)))),
        ("a tag alone", "its target of 0 bytes at 8", link(resident(REPARSE, target(0, 8)[:8]))),
        ("one that has a name", "it has a reparse point of 0 bytes", link(resident(REPARSE, target(0, 8), "x"))),
        ("one past what Windows agrees to", "it has a reparse point of 16388 bytes",
         sound.with_list(listed(REPARSE, 0, 64), extra=[in_runs(REPARSE, b"\x21\x05" + struct.pack("<H", place), 16388)]) + [
             (place * CLUSTER, target(0, 8))]),
    ]
    for name, pattern, changes in rows:
        with t.sub(name):
            path = spoilt(t, sound.path, *changes)
            says(vmimg("cat", f"{path}:/data"), pattern, 4)
            says(vmimg("cp", f"{path}:/data", t.path("out")), pattern, 4)
            listing = vmimg_ok("ls", "-l", f"{path}:/")
            check("data" in listing.text and pattern in listing.errors, str(listing))


def test_folders(t):
    """Entries that name records and nodes that are not there."""
    sound = Sound(t)
    at = sound.bytes.index("data".encode("utf-16-le"), sound.bytes.index(b"INDX")) - 66 - 16
    equal(struct.unpack_from("<Q", sound.bytes, at)[0] & 0xffffffff, 64, "the entry of data")
    root = sound.record(5)
    value = ntfs.attribute(root, ROOT)
    value += struct.unpack_from("<H", root, value + 20)[0]
    equal(struct.unpack_from("<HHH", root, value + 32 + 8), (24, 0, 3), "one entry, with a node below")

    def below(number):
        changed = bytearray(root)
        struct.pack_into("<Q", changed, value + 32 + 16, number)
        return sound.put(5, changed)
    rows = [
        ("a record past the MFT", [(at, struct.pack("<Q", 1 << 30))], "there is no MFT record 1073741824"),
        ("the last of all records", [(at, b"\xff" * 6 + b"\0\0")], "there is no MFT record 281474976710655"),
        ("a node past the end", below(1 << 30), "the folder in MFT record 5 points past its end"),
        ("a node that no number leads to", below((1 << 64) - 1), "the folder in MFT record 5 points past its end"),
    ]
    for name, changes, pattern in rows:
        with t.sub(name):
            path = spoilt(t, sound.path, *changes)
            for verb, where in ("ls", "/"), ("cat", "/data"):
                says(vmimg(verb, f"{path}:{where}"), pattern, 4)


# ---- limits: records of 64 KiB, into which much goes ---------------------------------------------------

RECORD = 65536
MFT = 1024  # cluster


def large_record(number, parts, base=0, flags=1):
    count = RECORD // 512 + 1
    first = 48 + (2 * count + 7) // 8 * 8
    raw = bytearray(RECORD)
    struct.pack_into("<4sHHQHHHHIIQHHI", raw, 0, b"FILE", 48, count, 0, 1, 1, first, flags, 0, RECORD, 0, 1, 0, number)
    raw[48:50] = b"\1\0"
    return bytes(fixed(refill(raw, parts, base or None)))


def folder_of(names, number):
    """The root of an index whose names all lead to one record."""
    entries = b""
    for name in names:
        raw = name.encode("utf-16-le")
        key = struct.pack("<Q56xBB", 5, len(name), 3) + raw
        entries += struct.pack("<QHHHH", number, 16 + len(padded(key)), len(key), 0, 0) + padded(key)
    entries += struct.pack("<QHHHH", 0, 16, 0, 2, 0)
    return resident(ROOT, struct.pack("<IIIIIIII", NAME, 1, 4096, 1, 16, 16 + len(entries), 16 + len(entries), 0) + entries, "$I30")


def volume(t, names, file, pieces):
    """A volume with one file, whose record is continued in those from 25 on."""
    path = ntfs.make(t.path("large"), 16 << 20, "-c", str(CLUSTER))
    records = {0: [in_runs(DATA, b"\x22" + struct.pack("<HH", (25 + len(pieces)) * RECORD // CLUSTER, MFT), (25 + len(pieces)) * RECORD)],
               5: [folder_of(names, 24)], 24: [resident(LIST, b"".join(file))]}
    records.update({25 + i: parts for i, parts in enumerate(pieces)})
    return spoilt(t, path, (48, struct.pack("<Q", MFT)), (64, bytes([RECORD // CLUSTER])), *(
        (MFT * CLUSTER + number * RECORD, large_record(number, parts, 24 if number > 24 else 0, 3 if number == 5 else 1))
        for number, parts in records.items()))


def test_limits(t):
    holes = b"\x01\x01"  # one cluster that is a hole
    with t.sub("a file in more than a million pieces"):
        each, total = 32000, (1 << 20) + 1
        starts = range(0, total, each)
        pieces = [[in_runs(DATA, holes * min(each, total - at), total * CLUSTER, at)] for at in starts]
        path = volume(t, ["file"], [listed(DATA, at, 25 + i) for i, at in enumerate(starts)], pieces)
        says(vmimg("cp", f"{path}:/", t.path("out")), "a file in more than 1048576 pieces", 6)
    with t.sub("a million of them"):
        pieces[-1] = [in_runs(DATA, holes * (total - 1 - starts[-1]), total * CLUSTER, starts[-1])]
        path = volume(t, ["file"], [listed(DATA, at, 25 + i) for i, at in enumerate(starts)], pieces)
        result = vmimg_ok("ls", f"{path}:/")
        process.check_bars(result)
        equal(result.text.split(), ["file"])
    with t.sub("lists that lead to ever more records"):
        count, names = 1800, [f"file{i}" for i in range(300)]
        parts = [in_runs(DATA, holes, count * CLUSTER, i) for i in range(count)]
        pieces = [parts[i:i + 880] for i in range(0, count, 880)]
        path = volume(t, names, [listed(DATA, i, 25 + i // 880) for i in range(count)], pieces)
        says(vmimg("ls", f"{path}:/"), "its lists of attributes lead to more than", 6)
    with t.sub("of one name"):
        path = volume(t, names[:1], [listed(DATA, i, 25 + i // 880) for i in range(count)], pieces)
        equal(vmimg_ok("ls", f"{path}:/").text.split(), names[:1])


if __name__ == "__main__":
    harness.main()
