# SPDX-License-Identifier: Apache-2.0
"""Dynamic and differencing VHD files made from the specification alone, laid out as nobody does it."""

import struct

UNUSED = 0xffffffff
W2RU, W2KU = b"W2ru", b"W2ku"


def summed(data, at):
    """The structure with the complement of its byte sum put in."""
    data = bytearray(data)
    data[at:at + 4] = bytes(4)
    struct.pack_into(">I", data, at, ~sum(data) & 0xffffffff)
    return bytes(data)


def footer(size, header_at, kind=3, uuid=bytes(range(16))):
    """kind: 3 dynamic, 4 differencing."""
    return summed(struct.pack(">8sIIQI4sI4sQQHBBII16s", b"conectix", 2, 0x10000, header_at, 0, b"win ", 0xa0000, b"Wi2k",
                              size, size, 65535, 16, 255, kind, 0, uuid).ljust(512, b"\0"), 64)


def header(entries, bat_at, block, parent=bytes(16), name="", locators=()):
    """locators: (platform, space, length, offset)"""
    head = struct.pack(">8sQQIIII16sII512s", b"cxsparse", 2**64 - 1, bat_at, 0x10000, entries, block, 0, parent, 0, 0,
                       name.encode("utf-16-be"))
    for platform, space, length, at in locators:
        head += struct.pack(">4sIIIQ", platform, space, length, 0, at)
    return summed(head.ljust(1024, b"\0"), 36)


def uuid_of(path):
    with open(path, "rb") as file:
        return file.read(84)[68:]


def write(path, parts, foot, end):
    """parts: {offset: bytes}; foot at the start and at end."""
    with open(path, "wb") as file:
        for at, data in {0: foot, **parts, end: foot}.items():
            file.seek(at)
            file.write(data)
    return path
