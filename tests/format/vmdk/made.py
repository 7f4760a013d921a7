# SPDX-License-Identifier: Apache-2.0
"""
VMDK files made here from the published layout alone, for the kinds that no tool at hand writes: COWD,
seSparse, streams with their directory at either end. A disk is a dict {grain number: bytes}; None stands
for a grain that is zero by its entry.
"""

import struct
import zlib

SECTOR = 512


def descriptor(*extents, cid="11111111", parent="ffffffff", kind="custom", extra=(), ddb=()):
    """The text of a descriptor."""
    lines = ["# Disk DescriptorFile", "version=1", f"CID={cid}", f"parentCID={parent}",
             f'createType="{kind}"', *extra, "", "# Extent description", *extents, "",
             "# The Disk Data Base", "#DDB", *ddb, ""]
    return "\n".join(lines)


def _sectors(data):
    return -(-len(data) // SECTOR)


def _pad(data, length):
    return data + bytes(length - len(data))


def cowd(capacity, grains, grain=1, unclean=0):
    """A COWD extent: capacity and grain in sectors; a table is made only where it is needed."""
    tables = -(-capacity // (4096 * grain))
    directory, at = [0] * tables, 4 + _sectors(bytes(4 * tables))
    body = b""
    for table in range(tables):
        here = {n: data for n, data in grains.items() if n // 4096 == table}
        if not here:
            continue
        directory[table], place = at, at + 32
        entries, data = [0] * 4096, b""
        for number in sorted(here, reverse=True):  # not in guest order, as after random writes
            entries[number % 4096] = place
            data += _pad(here[number], grain * SECTOR)
            place += grain
        body += struct.pack("<4096I", *entries) + data
        at = place
    header = struct.pack("<4s7I", b"COWD", 1, 3, capacity, grain, 4, tables, at)
    header = _pad(_pad(header, 1648) + struct.pack("<I", unclean), 2048)
    packed = struct.pack(f"<{tables}I", *directory)
    return header + _pad(packed, _sectors(packed) * SECTOR) + body


def sesparse(capacity, grains, unmapped=(), replay=0):
    """An seSparse extent: grains of 4 KiB, tables of 4096 entries of 8 bytes."""
    tables = -(-capacity // (8 * 4096))
    used = sorted({n // 4096 for n in list(grains) + list(unmapped)})
    gd_at, gd_len = 2, _sectors(bytes(8 * tables))
    gt_at, gt_len = gd_at + gd_len, 64 * len(used)
    data_at = -(-(gt_at + gt_len) // 8) * 8
    directory, body, data, place = [0] * tables, b"", b"", 5  # the first grains are left out
    data = bytes(place * 4096)
    for index, table in enumerate(used):
        directory[table] = 0x10000000 << 32 | index
        entries = [0] * 4096
        for number in unmapped:
            if number // 4096 == table:
                entries[number % 4096] = 1 << 60 | 0x1234
        for number, content in grains.items():
            if number // 4096 != table:
                continue
            if content is None:
                entries[number % 4096] = 2 << 60
                continue
            entries[number % 4096] = 3 << 60 | (place & 0xfff) << 48 | place >> 12
            data += _pad(content, 4096)
            place += 1
        body += struct.pack("<4096Q", *entries)
    fields = [0xcafebabe, 0x200000001, capacity, 8, 64, 0, 0, 0, 0, 0, 1, 1, 0, 0, 0, 0, gd_at, gd_len,
              gt_at, gt_len, 0, 0, 0, 0, data_at, _sectors(data)]
    header = _pad(struct.pack("<26Q", *fields), SECTOR)
    volatile = _pad(struct.pack("<4Q", 0xcafecafe, len(used), 7, replay), SECTOR)
    packed = _pad(struct.pack(f"<{tables}Q", *directory), gd_len * SECTOR)
    return _pad(header + volatile + packed + body, data_at * SECTOR) + data


def _header(capacity, flags, gd, grain=128, version=3, text_sectors=20, overhead=128):
    head = struct.pack("<4sIIQQQQIQQQB4sH", b"KDMV", version, flags, capacity, grain, 1, text_sectors, 512,
                       0, gd, overhead, 0, b"\n \r\n", 1)
    return _pad(head, SECTOR)


def stream(capacity, grains, at_end=True, markers=True, short=False, flags=0x30001):
    """A streamOptimized file with every marker there is, or (markers=False) bare compressed grains."""
    text = descriptor(f'RDONLY {capacity} SPARSE "generated-stream.vmdk"', kind="streamOptimized")
    tables = -(-capacity // (128 * 512))
    directory_sectors = _sectors(bytes(4 * tables))
    overhead = 128
    out, directory = b"", [0] * tables
    where = lambda: overhead + len(out) // SECTOR
    for table in range(tables):
        entries = [0] * 512
        for number in sorted(n for n in grains if n // 512 == table):
            data = grains[number]
            if not short:
                data = _pad(data, 65536)
            packed = zlib.compress(data, 6)
            block = struct.pack("<QI", number * 128, len(packed)) + packed if markers else packed
            entries[number % 512] = where()
            out += _pad(block, _sectors(block) * SECTOR)
        if any(entries):
            if markers:
                out += _pad(struct.pack("<QII", 4, 0, 1), SECTOR)
            directory[table] = where()
            out += struct.pack("<512I", *entries)
    if markers:
        out += _pad(struct.pack("<QII", directory_sectors, 0, 2), SECTOR)
    gd = where()
    out += _pad(struct.pack(f"<{tables}I", *directory), directory_sectors * SECTOR)
    front = _header(capacity, flags, 2**64 - 1 if at_end else gd)
    if at_end:
        out += _pad(struct.pack("<QII", 1, 0, 3), SECTOR) + _header(capacity, flags, gd)
    if markers:
        out += bytes(SECTOR)
    return _pad(front + text.encode(), overhead * SECTOR) + out


def raw(size, grain, grains, under=None):
    """The guest's bytes of such a disk, over those of a parent."""
    disk = bytearray(under or bytes(size))
    for number, content in grains.items():
        piece = _pad(content or b"", grain)[:max(0, size - number * grain)]
        disk[number * grain:number * grain + len(piece)] = piece
    return bytes(disk[:size])
