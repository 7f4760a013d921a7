# SPDX-License-Identifier: Apache-2.0
"""Raw disks to test with: seeded, sparse, of any size; and what is in a file."""

import errno
import hashlib
import os
import random

CHUNK = 1 << 20


def data_ranges(fd):
    """The (start, end) stretches of a file that are not holes."""
    at, size = 0, os.fstat(fd).st_size
    while at < size:
        try:
            start = os.lseek(fd, at, os.SEEK_DATA)
        except OSError as error:
            if error.errno == errno.ENXIO:
                return
            raise
        at = os.lseek(fd, start, os.SEEK_HOLE)
        yield start, at


def sha256(path):
    """SHA-256 of a file, holes included."""
    digest, zeroes, at = hashlib.sha256(), bytes(CHUNK), 0

    def skip(upto):
        nonlocal at
        while at < upto:
            step = min(CHUNK, upto - at)
            digest.update(memoryview(zeroes)[:step])
            at += step

    with open(path, "rb") as file:
        for start, end in data_ranges(file.fileno()):
            skip(start)
            file.seek(start)
            while at < end:
                block = file.read(min(CHUNK, end - at))
                if not block:
                    break
                digest.update(block)
                at += len(block)
        skip(os.path.getsize(path))
    return digest.hexdigest()


def nz64k(path):
    """
    The digest of disks too large to hash whole: SHA-256 over, for every 64 KiB block that is not all
    zero, its offset (8 bytes, little-endian) and its bytes.
    """
    digest, block_size = hashlib.sha256(), 64 << 10
    zeroes, done = bytes(block_size), 0
    with open(path, "rb") as file:
        for start, end in data_ranges(file.fileno()):
            at = max(done, start - start % block_size)
            while at < end:
                file.seek(at)
                block = file.read(block_size)
                if block != zeroes[:len(block)]:
                    digest.update(at.to_bytes(8, "little") + block)
                at += block_size
            done = at
    return digest.hexdigest()


def copy(source, target):
    """Copies a file, holes as holes."""
    with open(source, "rb") as infile, open(target, "wb") as outfile:
        for start, end in data_ranges(infile.fileno()):
            infile.seek(start)
            outfile.seek(start)
            while start < end:
                block = infile.read(min(CHUNK, end - start))
                outfile.write(block)
                start += len(block)
        outfile.truncate(os.path.getsize(source))
    return target


def _content(rng, length):
    """Bytes of one of the kinds that disks have."""
    kind = rng.randrange(5)
    if kind == 0:
        return bytes(length)                                # allocated, zero
    if kind == 1:
        return bytes([rng.randrange(1, 256)]) * length      # one byte
    if kind == 2:
        words = [b"%x " % rng.randrange(1 << 20) for _ in range(200)]
        text = b"".join(rng.choice(words) for _ in range(length // 4 + 1))
        return text[:length]                                # packs well
    return rng.randbytes(length)                            # does not pack


def pattern(path, size, seed=1, data=4 << 20):
    """
    A sparse raw disk of size bytes with about data bytes in it, the same for the same arguments:
    stretches of every kind and length, odd offsets, the first and the last byte among them.
    """
    rng = random.Random(f"{seed}/{size}/{data}")
    with open(path, "wb") as file:
        file.truncate(size)
        left = min(data, size)
        places = [0, max(0, size - rng.randrange(1, 5000))]
        while left > 0:
            at = places.pop() if places else rng.randrange(size)
            if rng.random() < 0.6:
                at -= at % rng.choice((512, 4096, 65536))
            length = min(size - at, rng.choice((1, 511, 512, 3000, 4096, 65536, 100000, 400000)))
            file.seek(at)
            file.write(_content(rng, length))
            left -= max(length, 4096)
        for at in (0, size - 1):
            if size:
                file.seek(at)
                file.write(b"\xa5")
    return path
