# SPDX-License-Identifier: Apache-2.0
"""
VHDX files made from the specification alone ([MS-VHDX]), with what other software leaves behind only
when it fails: logs to be replayed, torn ones, blocks that are present in part.
"""

import struct
import uuid

from lib.recipe import crc32c

MIB = 1 << 20
SECTOR = 4096
ABSENT, UNDEFINED, ZERO, UNMAPPED, UNMAPPED_OLD, PRESENT, PARTIAL = 0, 1, 2, 3, 5, 6, 7
BAT_ID = uuid.UUID("2dc27766-f623-4200-9d64-115e9bfd4a08")
METADATA_ID = uuid.UUID("8b7ca206-4790-4b9a-b8fe-575f050f886e")
FILE_PARAMETERS = uuid.UUID("caa16737-fa36-4d43-b3b6-33f0aa44e76b")
DISK_SIZE = uuid.UUID("2fa54224-cd1b-4876-b211-5dbed83bf4b8")
DISK_ID = uuid.UUID("beca12ab-b2e6-4523-93ef-c309e000c746")
LOGICAL_SECTOR = uuid.UUID("8141bf1d-a96f-4709-ba47-f233a8faab5f")
PHYSICAL_SECTOR = uuid.UUID("cda348c7-445d-4471-9cc9-e9885251c556")
PARENT_LOCATOR = uuid.UUID("a8d35f2d-b30b-454d-abf7-d3d84834ab0c")
LOCATOR_TYPE = uuid.UUID("b04aefb7-d19e-4a81-b789-25b8e9445913")
LOG_ID = uuid.UUID("11111111-2222-3333-4444-555555555555")
NIL = uuid.UUID(int=0)


def summed(block):
    """The structure with its checksum, at 4, put right."""
    block = bytearray(block)
    block[4:8] = bytes(4)
    block[4:8] = struct.pack("<I", crc32c(bytes(block)))
    return bytes(block)


def region_table(regions):
    table = struct.pack("<4sIII", b"regi", 0, len(regions), 0)
    for guid, at, length in regions:
        table += guid.bytes_le + struct.pack("<QII", at, length, 1)
    return summed(table.ljust(65536, b"\0"))


def metadata(items):
    """items: (guid, flags, bytes)"""
    table, body = struct.pack("<8sHH20x", b"metadata", 0, len(items)), b""
    for guid, flags, data in items:
        table += guid.bytes_le + struct.pack("<IIII", 65536 + len(body), len(data), flags, 0)
        body += data.ljust(-(-len(data) // 8) * 8, b"\0")
    return table.ljust(65536, b"\0") + body


def locator(pairs):
    head = LOCATOR_TYPE.bytes_le + struct.pack("<HH", 0, len(pairs))
    body, at = b"", 20 + 12 * len(pairs)
    for key, value in pairs:
        key, value = key.encode("utf-16-le"), value.encode("utf-16-le")
        head += struct.pack("<IIHH", at, at + len(key), len(key), len(value))
        body += key + value
        at += len(key) + len(value)
    return head + body


def log_entry(sequence, tail, descriptors, flushed, last, guid=LOG_ID):
    """descriptors: (at, 4096 bytes) for data, (at, length) for zeroes."""
    descs, sectors = bytearray(), bytearray()
    for at, what in descriptors:
        if isinstance(what, int):
            descs += struct.pack("<4sIQQQ", b"zero", 0, what, at, sequence)
        else:
            descs += struct.pack("<4s4s8sQQ", b"desc", what[-4:], what[:8], at, sequence)
            sectors += struct.pack("<4sI", b"data", sequence >> 32) + what[8:-4] + \
                struct.pack("<I", sequence & 0xffffffff)
    head_size = -(-(64 + len(descs)) // SECTOR) * SECTOR
    head = struct.pack("<4sIIIQII16sQQ", b"loge", 0, head_size + len(sectors), tail, sequence,
                       len(descriptors), 0, guid.bytes_le, flushed, last)
    return summed((head + descs).ljust(head_size, b"\0") + bytes(sectors))


class Image:
    """
    One VHDX. Log at 1 MiB, metadata after it, then the BAT, then blocks in the order they are added.
    bat holds what the file's BAT will be; take it away (and log it) to test a replay.
    """

    def __init__(self, size, block=MIB, logical=512, pairs=None, log_size=MIB):
        self.size, self.block, self.logical = size, block, logical
        self.pairs, self.log_size = pairs, log_size
        self.ratio = (logical << 23) // block
        self.blocks = -(-size // block)
        self.metadata_at = MIB + log_size
        self.bat_at = self.metadata_at + MIB
        chunks = -(-self.blocks // self.ratio)
        self.bat = [0] * (chunks * (self.ratio + 1))
        self.bat_size = -(-len(self.bat) * 8 // MIB) * MIB
        self.end = self.bat_at + self.bat_size
        self.parts = {}               # offset: bytes
        self.log_id, self.log = NIL, {}
        self.data_write = uuid.UUID(int=size + 7)
        self.disk_id = uuid.UUID(int=size + 8)

    def index(self, block):
        return block + block // self.ratio

    def take(self, length):
        at, self.end = self.end, self.end + length
        return at

    def add(self, block, data, state=PRESENT):
        """A block with data; returns where it lies."""
        at = self.take(self.block)
        self.parts[at] = data
        self.bat[self.index(block)] = at | state
        return at

    def set(self, block, state):
        self.bat[self.index(block)] = state

    def add_bitmap(self, chunk, bits):
        at = self.take(MIB)
        self.parts[at] = bits
        self.bat[chunk * (self.ratio + 1) + self.ratio] = at | PRESENT
        return at

    def bat_sector(self, number):
        """4 KiB of the BAT as it is in memory, and where it belongs."""
        part = self.bat[number * 512:(number + 1) * 512]
        return self.bat_at + number * SECTOR, struct.pack(f"<{len(part)}Q", *part).ljust(SECTOR, b"\0")

    def put_log(self, at, entry):
        """An entry into the ring, round its end when it has to."""
        for i in range(0, len(entry), SECTOR):
            self.log[(at + i) % self.log_size] = entry[i:i + SECTOR]
        self.log_id = LOG_ID

    def _items(self):
        flags = 2 if self.pairs is not None else 0
        items = [(FILE_PARAMETERS, 4, struct.pack("<II", self.block, flags)),
                 (DISK_SIZE, 6, struct.pack("<Q", self.size)),
                 (DISK_ID, 6, self.disk_id.bytes_le),
                 (LOGICAL_SECTOR, 6, struct.pack("<I", self.logical)),
                 (PHYSICAL_SECTOR, 6, struct.pack("<I", 4096))]
        if self.pairs is not None:
            items.append((PARENT_LOCATOR, 4, locator(self.pairs)))
        return items

    def write(self, path):
        with open(path, "wb") as file:
            file.truncate(self.end)
            file.write(b"vhdxfile" + "vmimg's tests".encode("utf-16-le"))
            for i in range(2):
                file.seek(65536 * (1 + i))
                file.write(summed(struct.pack(
                    "<4sIQ16s16s16sHHIQ", b"head", 0, 5 + i, uuid.UUID(int=1).bytes_le,
                    self.data_write.bytes_le, self.log_id.bytes_le, 0, 1, self.log_size,
                    MIB).ljust(4096, b"\0")))
                file.seek(65536 * (3 + i))
                file.write(region_table([(METADATA_ID, self.metadata_at, MIB),
                                         (BAT_ID, self.bat_at, self.bat_size)]))
            file.seek(self.metadata_at)
            file.write(metadata(self._items()))
            file.seek(self.bat_at)
            file.write(struct.pack(f"<{len(self.bat)}Q", *self.bat))
            for at, data in self.parts.items():
                file.seek(at)
                file.write(data)
            for at, data in self.log.items():
                file.seek(MIB + at)
                file.write(data)
        return path


class Damaged(Exception):
    """What a reader of the specification alone finds wrong."""


def demand(condition, what):
    if not condition:
        raise Damaged(what)


class Reader:
    """A VHDX as its file says, without a log to be replayed: both copies of everything are looked at."""

    def __init__(self, path):
        with open(path, "rb") as file:
            self.file = file.read()
        demand(self.file[:8] == b"vhdxfile", "the identifier")
        heads = [self.header(i) for i in range(2)]
        demand(heads[0]["sequence"] != heads[1]["sequence"], "two headers of the same number")
        self.head = max(heads, key=lambda head: head["sequence"])
        self.other_head = min(heads, key=lambda head: head["sequence"])
        demand(self.head["log"] == NIL, "a log waits")
        self.regions = self.region_table(0)
        demand(self.regions == self.region_table(1), "the region tables differ")
        self.items = self.metadata_items()
        self.block, flags = struct.unpack("<II", self.items[FILE_PARAMETERS])
        self.fixed, self.has_parent = bool(flags & 1), bool(flags & 2)
        self.size, = struct.unpack("<Q", self.items[DISK_SIZE])
        self.logical, = struct.unpack("<I", self.items[LOGICAL_SECTOR])
        self.physical, = struct.unpack("<I", self.items[PHYSICAL_SECTOR])
        self.disk_id = uuid.UUID(bytes_le=self.items[DISK_ID])
        self.pairs = self.locator_pairs() if self.has_parent else {}
        demand(self.has_parent == (PARENT_LOCATOR in self.items), "the locator and the flag")
        self.blocks, self.bitmaps = self.table()

    def header(self, i):
        raw = self.file[65536 * (1 + i):][:4096]
        demand(raw[:4] == b"head" and summed(raw) == raw, f"header {i + 1}")
        _, _, sequence, file_write, data_write, log, log_version, version, length, at = struct.unpack_from("<4sIQ16s16s16sHHIQ", raw)
        demand((log_version, version) == (0, 1), "versions")
        return {"sequence": sequence, "file_write": uuid.UUID(bytes_le=file_write), "log_at": at, "log_length": length,
                "data_write": uuid.UUID(bytes_le=data_write), "log": uuid.UUID(bytes_le=log)}

    def region_table(self, i):
        raw = self.file[65536 * (3 + i):][:65536]
        demand(raw[:4] == b"regi" and summed(raw) == raw, f"region table {i + 1}")
        count, = struct.unpack_from("<I", raw, 8)
        regions = {}
        for n in range(count):
            guid, at, length, _ = struct.unpack_from("<16sQII", raw, 16 + 32 * n)
            regions[uuid.UUID(bytes_le=guid)] = (at, length)
        return regions

    def metadata_items(self):
        at, length = self.regions[METADATA_ID]
        raw = self.file[at:at + length]
        count, = struct.unpack_from("<H", raw, 10)
        items, taken = {}, []
        for n in range(count):
            guid, where, size, _ = struct.unpack_from("<16sIII", raw, 32 + 32 * n)
            demand(where >= 65536 and where + size <= length or not where + size, "an item's place")
            taken.append((where, where + size))
            items[uuid.UUID(bytes_le=guid)] = raw[where:where + size]
        taken.sort()
        demand(all(a[1] <= b[0] for a, b in zip(taken, taken[1:])), "items overlap")
        demand(len(items) == count, "an item is there twice")
        demand(not any(raw[32 + 32 * count:65536]), "entries behind the last one")
        return items

    def locator_pairs(self):
        raw = self.items[PARENT_LOCATOR]
        demand(raw[:16] == LOCATOR_TYPE.bytes_le, "the locator's type")
        pairs = {}
        for n in range(struct.unpack_from("<H", raw, 18)[0]):
            key_at, value_at, key, value = struct.unpack_from("<IIHH", raw, 20 + 12 * n)
            pairs[raw[key_at:key_at + key].decode("utf-16-le")] = raw[value_at:value_at + value].decode("utf-16-le")
        return pairs

    def table(self):
        """(state, place) of each block, and the place of each chunk's bitmap or None; nothing lies over anything."""
        ratio = (self.logical << 23) // self.block
        count, at = -(-self.size // self.block), self.regions[BAT_ID][0]
        used = {0: "headers"}

        def take(start, length, what):
            demand(start % MIB == 0 and start, f"{what}: place {start:#x}")
            for unit in range(start // MIB, -(-(start + length) // MIB)):
                demand(unit not in used, f"{what} lies over {used.get(unit)}")
                used[unit] = what

        take(self.head["log_at"], self.head["log_length"], "the log")
        for guid, (start, length) in self.regions.items():
            take(start, length, f"region {guid}")
        blocks, bitmaps = [], []
        for b in range(count):
            entry, = struct.unpack_from("<Q", self.file, at + 8 * (b + b // ratio))
            state, place = entry & 7, entry >> 20 << 20
            demand(state in (ABSENT, UNDEFINED, ZERO, UNMAPPED, PRESENT) or (state == PARTIAL and self.has_parent), f"state {state}")
            if state in (PRESENT, PARTIAL):
                take(place, self.block, f"block {b}")
                demand(place + min(self.block, self.size - b * self.block) <= len(self.file), f"block {b} past the end")
            blocks.append((state, place))
        for c in range(-(-count // ratio) if self.has_parent else (count - 1) // ratio if count else 0):
            entry, = struct.unpack_from("<Q", self.file, at + 8 * (c * (ratio + 1) + ratio))
            demand(entry & 7 in (ABSENT, PRESENT), f"the bitmap of chunk {c}")
            demand(self.has_parent or not entry, f"chunk {c} has a bitmap, without a parent")
            if entry & 7:
                take(entry >> 20 << 20, MIB, f"bitmap {c}")
            bitmaps.append(entry >> 20 << 20 if entry & 7 else None)
        return blocks, bitmaps

    def content(self, parent=b""):
        """What the guest sees over a parent that has those bytes."""
        parent = parent[:self.size].ljust(self.size, b"\0")
        ratio, parts = (self.logical << 23) // self.block, []
        for b, (state, place) in enumerate(self.blocks):
            start = b * self.block
            below = parent[start:start + self.block]
            here = self.file[place:place + len(below)]
            if state == PRESENT:
                parts.append(here)
            elif state == PARTIAL:
                demand(self.bitmaps[b // ratio], f"block {b} has no bitmap")
                bits = self.bitmaps[b // ratio] + b % ratio * (self.block // self.logical // 8)
                parts.append(b"".join(
                    (here if self.file[bits + i // 8] >> i % 8 & 1 else below)[i * self.logical:(i + 1) * self.logical]
                    for i in range(len(below) // self.logical)))
            else:
                parts.append(below if state == ABSENT else bytes(len(below)))
        return b"".join(parts)
