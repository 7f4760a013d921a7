# SPDX-License-Identifier: Apache-2.0
"""A writer of registry hives, after "Windows registry file format specification" by M. Suhanov."""

import struct

KINDS = {"sz": 1, "expand": 2, "dword": 4}


class Hive:
    """keys: {"Name": {...}} nested; a value is ("sz", "text") or ("dword", 5) under its name."""

    def __init__(self, tree, wide=False, lists="lf"):
        self.cells = bytearray()
        self.wide, self.lists = wide, lists
        self.root = self.key("ROOT", tree)

    def cell(self, data):
        at = 32 + len(self.cells)
        size = -(-(len(data) + 4) // 8) * 8
        self.cells += struct.pack("<i", -size) + data.ljust(size - 4, b"\0")
        return at

    def name(self, text):
        return text.encode("utf-16-le") if self.wide else text.encode("latin-1")

    def value(self, name, kind, content):
        data = struct.pack("<I", content) if kind == "dword" else (content + "\0").encode("utf-16-le")
        size = len(data)
        if size <= 4:
            place, size = struct.unpack("<I", data.ljust(4, b"\0"))[0], size | 0x80000000
        else:
            place = self.cell(data)
        raw = self.name(name)
        return self.cell(struct.pack("<2sHIIIHH", b"vk", len(raw), size, place, KINDS[kind],
                                     0 if self.wide else 1, 0) + raw)

    def key_list(self, keys):
        if self.lists == "ri":  # lists of lists, each of at most three
            parts = [self.cell(b"li" + struct.pack("<H", len(part)) + b"".join(
                struct.pack("<I", at) for _, at in part))
                for part in (keys[i:i + 3] for i in range(0, len(keys), 3))]
            return self.cell(b"ri" + struct.pack(f"<H{len(parts)}I", len(parts), *parts))
        return self.cell(self.lists.encode() + struct.pack("<H", len(keys)) + b"".join(
            struct.pack("<I4s", at, name.encode()[:4]) for name, at in keys))

    def key(self, name, tree):
        below = [(n, self.key(n, t)) for n, t in sorted(tree.items(), key=lambda x: x[0].upper())
                 if isinstance(t, dict)]
        values = [self.value(n, *t) for n, t in tree.items() if isinstance(t, tuple)]
        keys_at = self.key_list(below) if below else 0xFFFFFFFF
        values_at = self.cell(struct.pack(f"<{len(values)}I", *values)) if values else 0xFFFFFFFF
        raw = self.name(name)
        flags = (0 if self.wide else 0x20) | (0x0C if name == "ROOT" else 0)
        head = struct.pack("<2sHQIIIIIIIIIIIIIIIHH", b"nk", flags, 0, 0, 0, len(below), 0, keys_at,
                           0xFFFFFFFF, len(values), values_at, 0xFFFFFFFF, 0xFFFFFFFF, 0, 0, 0, 0, 0,
                           len(raw), 0)
        return self.cell(head + raw)

    def bytes(self):
        size = -(-(32 + len(self.cells)) // 4096) * 4096
        free = size - 32 - len(self.cells)
        bin_ = b"hbin" + struct.pack("<II", 0, size) + bytes(20) + self.cells
        bin_ += struct.pack("<i", free) + bytes(free - 4) if free else b""
        base = bytearray(4096)
        struct.pack_into("<4sIIQIIIIIII", base, 0, b"regf", 1, 1, 0, 1, 3, 0, 1, self.root, size, 1)
        total = 0
        for i in range(0, 508, 4):
            total ^= struct.unpack_from("<I", base, i)[0]
        struct.pack_into("<I", base, 508, total)
        return bytes(base) + bin_
