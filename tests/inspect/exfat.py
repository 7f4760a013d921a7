# SPDX-License-Identifier: Apache-2.0
"""A writer of exFAT, after Microsoft's specification: no tool writes files into one without a mount."""

import struct

TIME = 1_600_000_000  # 2020-09-13 12:26:40
STAMP = (40 << 25) | (9 << 21) | (13 << 16) | (12 << 11) | (26 << 5) | 20


def rotate_sum(data, width, skip):
    total, top = 0, 1 << (width - 1)
    for i, byte in enumerate(data):
        if i not in skip:
            total = ((top if total & 1 else 0) + (total >> 1) + byte) & ((1 << width) - 1)
    return total


def name_hash(name, upper):
    return rotate_sum(upper(name).encode("utf-16-le"), 16, ())


def ascii_upper(name):
    return "".join(chr(ord(c) - 32) if "a" <= c <= "z" else c for c in name)


def upcase_table():
    """Packed: a run of characters that stay as they are is FFFF and its length."""
    units = [0xFFFF, 0x61] + [ord(chr(c).upper()) for c in range(0x61, 0x7B)] + [0xFFFF, 0xFF85]
    return struct.pack(f"<{len(units)}H", *units)


class Volume:
    def __init__(self, size, sector, cluster, chained, tables=1):
        self.sector, self.cluster, self.chained = sector, cluster, chained
        self.fat_at = 24 * sector
        count = (size - self.fat_at) // (cluster + 4)
        fat_len = -(-(count + 2) * 4 // sector) * sector
        self.heap_at = -(-(self.fat_at + tables * fat_len) // cluster) * cluster
        self.fat_len = fat_len
        self.count = min(count, (size - self.heap_at) // cluster)
        self.fat = [0xFFFFFFF8, 0xFFFFFFFF] + [0] * self.count
        self.data = bytearray(size)
        self.next = 2
        self.first = {}
        self.used = set()

    def take(self, content, chained):
        """Where content lies. In a chain every other cluster is left out, so that it is none by chance."""
        need = -(-len(content) // self.cluster)
        places = [self.next + i * (2 if chained else 1) for i in range(need)]
        self.next = places[-1] + 1 if places else self.next
        for i, place in enumerate(places):
            part = content[i * self.cluster:(i + 1) * self.cluster]
            at = self.heap_at + (place - 2) * self.cluster
            self.data[at:at + len(part)] = part
            if chained:
                self.fat[place] = places[i + 1] if i + 1 < need else 0xFFFFFFFF
        self.used.update(places)
        return places[0] if places else 0


def entry_set(name, attributes, first, size, one):
    units = name.encode("utf-16-le")
    pieces = -(-len(units) // 30)
    stream = bytearray(32)
    flags = 1 | (2 if one else 0) if size else 1
    struct.pack_into("<BBBBHHQIIQ", stream, 0, 0xC0, flags, 0, len(units) // 2,
                     name_hash(name, ascii_upper), 0, size, 0, first, size)
    head = bytearray(32)
    struct.pack_into("<BBHHHIII", head, 0, 0x85, 1 + pieces, 0, attributes, 0, STAMP, STAMP, STAMP)
    head[22:25] = b"\x80\x80\x80"
    whole = bytes(head) + bytes(stream)
    for i in range(pieces):
        whole += b"\xc1\0" + units[i * 30:i * 30 + 30].ljust(30, b"\0")
    total = rotate_sum(whole, 16, (2, 3))
    return whole[:2] + struct.pack("<H", total) + whole[4:]


def folder(volume, tree):
    out = b""
    for name, content in tree.items():
        is_dir = isinstance(content, dict)
        raw = folder(volume, content) if is_dir else content
        if is_dir:
            raw += bytes(-len(raw) % volume.cluster or (0 if raw else volume.cluster))
        first = volume.take(raw, volume.chained)
        volume.first[name] = first
        out += entry_set(name, 0x10 if is_dir else 0x20, first, len(raw), not volume.chained)
    return out


def write(path, size, tree, chained, sector=512, cluster=4096, second=False):
    """second: there are two tables and bitmaps, and the first ones are old."""
    volume = Volume(size, sector, cluster, chained, 1 + second)
    bitmap_len = -(-volume.count // 8)
    bitmap = volume.take(bytes(bitmap_len), False)
    for place in range(bitmap, volume.next):
        volume.fat[place] = place + 1 if place + 1 < volume.next else 0xFFFFFFFF
    old = volume.take(bytes(bitmap_len), False) if second else 0
    for place in range(old, volume.next if second else 0):
        volume.fat[place] = place + 1 if place + 1 < volume.next else 0xFFFFFFFF
    table = upcase_table()
    upcase = volume.take(table, False)
    volume.fat[upcase] = 0xFFFFFFFF
    label = bytearray(32)
    label[:2] = b"\x83\x05"
    label[2:12] = "label".encode("utf-16-le")
    system = bytes(label) + (struct.pack("<BB18xIQ", 0x81, 0, old, bitmap_len) if second else b"")
    system += struct.pack("<BB18xIQ", 0x81, second, bitmap, bitmap_len)
    system += struct.pack("<B3xI12xIQ", 0x82, rotate_sum(table, 32, ()), upcase, len(table))
    root = volume.take(system + folder(volume, tree), True)
    at = volume.heap_at + (bitmap - 2) * cluster
    for place in volume.used:
        volume.data[at + (place - 2) // 8] |= 1 << (place - 2) % 8
    table_at = volume.fat_at + second * volume.fat_len
    volume.data[table_at:table_at + 4 * len(volume.fat)] = struct.pack(
        f"<{len(volume.fat)}I", *volume.fat)
    boot = bytearray(12 * sector)
    struct.pack_into("<3s8s53xQQIIIIIIHHBBBBB", boot, 0, b"\xeb\x76\x90", b"EXFAT   ", 0, size // sector,
                     volume.fat_at // sector, volume.fat_len // sector, volume.heap_at // sector,
                     volume.count, root, 0x12345678, 0x100, second, sector.bit_length() - 1,
                     (cluster // sector).bit_length() - 1, 1 + second, 0x80, 0xFF)
    boot[510:512] = b"\x55\xaa"
    for i in range(1, 9):
        boot[(i + 1) * sector - 4:(i + 1) * sector] = b"\0\0\x55\xaa"
    total = rotate_sum(boot[:11 * sector], 32, (106, 107, 112))
    boot[11 * sector:] = struct.pack("<I", total) * (sector // 4)
    volume.data[:12 * sector] = boot
    volume.data[12 * sector:24 * sector] = boot
    with open(path, "wb") as file:
        file.write(volume.data)
    return {"free": (volume.count - len(volume.used)) * cluster, "fat": volume.fat_at,
            "root": root, "first": volume.first}
