# SPDX-License-Identifier: Apache-2.0
"""
Logs that were left behind, made by lib/vhdx.py. Each image has data blocks that only its log knows:
the BAT in the file is empty until the log is replayed.
"""

import os
import random
import shutil
import stat

from lib import disks, env, harness, qemu, vhdx
from lib.harness import check, equal
from lib.process import check_bars, check_one_line, vmimg, vmimg_ok
from lib.vhdx import MIB, SECTOR

BLOCKS = 1100  # three sectors of BAT


def digest(raw):
    """Disks of a GiB with little in them."""
    return os.path.getsize(raw), disks.nz64k(raw)


class Logged:
    """An image whose BAT is in the log, and what the guest has to see then."""

    def __init__(self, seed=1, log_size=MIB):
        rng = random.Random(seed)
        self.image = vhdx.Image(BLOCKS * MIB, log_size=log_size)
        self.content = {}
        # First and last entries of BAT sectors too: their bytes travel in the descriptors.
        for block in (0, 1, 3, 510, 511, 512, 513, 1022, 1023, 1024, 1099):
            self.content[block] = rng.randbytes(5000)
            self.image.add(block, self.content[block])
        self.sectors = [self.image.bat_sector(i) for i in range(3)]
        self.image.bat = [0] * len(self.image.bat)
        self.file_end = self.image.end

    def entry(self, sequence, tail, descriptors, flushed=None, last=None):
        end = self.file_end
        return vhdx.log_entry(sequence, tail, descriptors, end if flushed is None else flushed,
                              end if last is None else last)

    def want(self, t, blocks=None):
        """What the disk with these blocks (None: all) is like."""
        with open(t.path("want.raw"), "wb") as file:
            file.truncate(BLOCKS * MIB)
            for block, data in self.content.items():
                if blocks is None or block in blocks:
                    file.seek(block * MIB)
                    file.write(data)
        return digest(file.name)


def content(t, path):
    vmimg_ok("convert", "--force", path, t.path("out.raw"))
    return digest(t.path("out.raw"))


def content_by_qemu(t, path):
    """After qemu-img has replayed the log of a copy."""
    copy = t.path("replayed.vhdx")
    shutil.copyfile(path, copy)
    qemu.img("check", "-q", "-r", "all", "-f", "vhdx", copy)
    return digest(qemu.convert(copy, t.path("replayed.raw"), "vhdx", "raw"))


def expect(t, logged, want, state="replayed-in-memory", by_qemu=True):
    """Right content, a warning, and a file that is as it was; qemu-img agrees after its own replay."""
    path = logged.image.write(t.path("log.vhdx"))
    before = disks.sha256(path)
    os.chmod(path, stat.S_IRUSR)
    equal(content(t, path), want, "content")
    info = vmimg_ok("info", "--json", path).json()
    equal(info["format-specific"]["data"]["log"]["state"], state, "state")
    equal(disks.sha256(path), before, "the file itself")
    if state != "unused":
        check(any("not closed" in warning for warning in info["warnings"]), "no warning")
    if by_qemu and env.have("qemu-img"):
        equal(content_by_qemu(t, path), want, "qemu-img")
    os.chmod(path, stat.S_IRUSR | stat.S_IWUSR)
    return path


def test_one_entry(t):
    logged = Logged()
    logged.image.put_log(0, logged.entry(1, 0, logged.sectors))
    path = expect(t, logged, logged.want(t))
    equal(vmimg("check", path).code, 0, "check")


def test_several_entries(t):
    """One sector each, not at the ring's beginning."""
    logged, at = Logged(), 17 * SECTOR
    for i, sector in enumerate(logged.sectors):
        entry = logged.entry(40 + i, 17 * SECTOR, [sector])
        logged.image.put_log(at, entry)
        at += len(entry)
    expect(t, logged, logged.want(t))


def test_round_the_end(t):
    """The sequence begins at the ring's end, and one entry runs round it."""
    for start in (MIB - SECTOR, MIB - 2 * SECTOR, MIB - 3 * SECTOR, MIB - 5 * SECTOR):
        with t.sub(f"from 0x{start:x}"):
            logged, at = Logged(), start
            for i, descs in enumerate((logged.sectors[:2], logged.sectors[2:])):
                entry = logged.entry(7 + i, start, descs)
                logged.image.put_log(at % MIB, entry)
                at += len(entry)
            # QEMU 7.2 takes the entries after the ring's beginning for a sequence of their own.
            expect(t, logged, logged.want(t), by_qemu=False)


def test_torn_last_entry(t):
    """The last entry was being written: what is before it counts."""
    logged = Logged()
    first = logged.entry(1, 0, logged.sectors[:2])
    second = bytearray(logged.entry(2, 0, logged.sectors[2:]))
    second[-SECTOR:] = bytes(SECTOR)
    logged.image.put_log(0, first)
    logged.image.put_log(len(first), bytes(second))
    expect(t, logged, logged.want(t, {block for block in logged.content if block < 1024}))


def test_only_a_torn_entry(t):
    logged = Logged()
    entry = bytearray(logged.entry(1, 0, logged.sectors))
    entry[5000] ^= 1
    logged.image.put_log(0, bytes(entry))
    path = expect(t, logged, logged.want(t, ()), state="torn", by_qemu=False)
    equal(vmimg("check", path).code, 2, "check")


def test_announced_but_never_written(t):
    logged = Logged()
    logged.image.log_id = vhdx.LOG_ID
    path = expect(t, logged, logged.want(t, ()), state="unused", by_qemu=False)
    equal(vmimg("check", path).code, 0, "check")


def test_stale_entries(t):
    """Older sequences, and entries of an older log, lie elsewhere in the ring."""
    logged = Logged()
    wrong = [(at, b"\xff" * SECTOR) for at, _ in logged.sectors]
    logged.image.put_log(0, logged.entry(3, 0, wrong))
    logged.image.put_log(100 * SECTOR, logged.entry(90, 100 * SECTOR, logged.sectors))
    logged.image.put_log(150 * SECTOR, vhdx.log_entry(
        900, 150 * SECTOR, wrong, logged.file_end, logged.file_end, guid=vhdx.NIL))
    logged.image.put_log(200 * SECTOR, logged.entry(50, 200 * SECTOR, wrong))
    # Newer still, but it says that it begins where no entry of it is.
    logged.image.put_log(220 * SECTOR, logged.entry(99, 10 * SECTOR, wrong))
    expect(t, logged, logged.want(t), by_qemu=False)


def test_gap_in_numbers(t):
    """An entry that does not follow in number begins another sequence."""
    logged = Logged()
    first = logged.entry(10, 0, logged.sectors)
    logged.image.put_log(0, first)
    logged.image.put_log(len(first), logged.entry(
        5, len(first), [(at, b"\xff" * SECTOR) for at, _ in logged.sectors]))
    expect(t, logged, logged.want(t), by_qemu=False)


def test_tail_in_the_middle(t):
    """What is before the tail was written long ago, and is not to be written again."""
    logged = Logged()
    old = logged.entry(1, 0, [(logged.sectors[0][0], b"\xff" * SECTOR)])
    first = logged.entry(2, len(old), logged.sectors[1:])
    logged.image.put_log(0, old)
    logged.image.put_log(len(old), first)
    logged.image.put_log(len(old) + len(first),
                         logged.entry(3, len(old), logged.sectors[:1]))
    expect(t, logged, logged.want(t), by_qemu=False)


def test_later_wins(t):
    """The same sectors again and again: wrong, zero, right, in one entry and in several."""
    logged, at = Logged(), 0
    bat, wrong = logged.image.bat_at, b"\x06" + b"\xee" * (SECTOR - 1)
    for number, descs in enumerate((
            [(sector, wrong) for sector, _ in logged.sectors],
            [(bat, 3 * SECTOR)] + [(bat + SECTOR, wrong)],
            [(bat + 2 * SECTOR, wrong), (bat, 2 * SECTOR), logged.sectors[1]],
            [(bat + 2 * SECTOR, SECTOR), logged.sectors[2], (bat, wrong), logged.sectors[0]])):
        entry = logged.entry(1 + number, 0, descs)
        logged.image.put_log(at, entry)
        at += len(entry)
    expect(t, logged, logged.want(t))


def test_zeroes(t):
    """A logged stretch of zeroes takes blocks away that the BAT in the file has."""
    logged = Logged()
    for at, sector in logged.sectors:
        logged.image.parts[at] = sector
    logged.image.put_log(0, logged.entry(1, 0, [(logged.image.bat_at + SECTOR, 2 * SECTOR)]))
    expect(t, logged, logged.want(t, {b for b in logged.content if b < 512}))


def test_many_descriptors(t):
    """More than the first sector of an entry holds (126)."""
    logged = Logged()
    spare = logged.image.bat_at + 16 * SECTOR  # inside the BAT region, past what is in use
    descs = [(spare + i % 100 * SECTOR, bytes([i % 251]) * SECTOR) for i in range(140)]
    logged.image.put_log(SECTOR, logged.entry(1, SECTOR, descs + logged.sectors))
    expect(t, logged, logged.want(t), by_qemu=False)  # QEMU 7.2 refuses entries of that kind


def test_file_grows(t):
    """The log was written before the file grew: its blocks are zero, and there."""
    logged = Logged()
    past = logged.file_end
    sector = bytearray(logged.sectors[0][1])
    sector[9 * 8:10 * 8] = (past | vhdx.PRESENT).to_bytes(8, "little")
    logged.image.put_log(0, logged.entry(
        1, 0, [(logged.sectors[0][0], bytes(sector))] + logged.sectors[1:], last=past + MIB))
    path = expect(t, logged, logged.want(t), by_qemu=False)  # QEMU 7.2 leaves the file as it is
    equal(vmimg("check", path).code, 0, "check")


def test_large_log(t):
    logged, at = Logged(log_size=8 * MIB), 5 * MIB
    filler = [(logged.image.bat_at + 20 * SECTOR, b"\x55" * SECTOR)] * 60
    for number in range(20):
        entry = logged.entry(1 + number, 5 * MIB, filler if number < 19 else logged.sectors)
        logged.image.put_log(at % (8 * MIB), entry)
        at += len(entry)
    expect(t, logged, logged.want(t))


def refused(t, logged, *words):
    path = logged.image.write(t.path("bad.vhdx"))
    for verb in (("info", path), ("check", path), ("convert", "--force", path, t.path("no.raw"))):
        result = vmimg(*verb)
        check_bars(result)
        check_one_line(result)
        equal(result.code, 4, str(result))
        for word in words:
            check(word in result.errors, result.errors)
    check(not os.path.exists(t.path("no.raw")), "an output is there")


def test_hostile(t):
    """Entries that are whole, and ask for what cannot be."""
    bat = Logged().image.bat_at
    for name, descs, how in (
            ("zeroes of 2^52 bytes", [(bat, 1 << 52)], {}),
            ("zeroes of 2^52 bytes in a file said to be as large", [(bat, 1 << 52)],
             {"last": 1 << 53}),
            ("zeroes round the end of all numbers", [(1 << 63, (1 << 64) - SECTOR)], {}),
            ("data past the end", [(1 << 60, bytes(SECTOR))], {}),
            ("data at an odd place", [(bat + 512, bytes(SECTOR))], {}),
            ("zeroes of odd length", [(bat, 100)], {}),
            ("a file that was longer", [(bat, SECTOR)], {"flushed": 1 << 40})):
        with t.sub(name):
            logged = Logged()
            logged.image.put_log(0, logged.entry(1, 0, descs, **how))
            refused(t, logged, "log")


def resummed(entry, **pokes):
    entry = bytearray(entry)
    for at, data in pokes.values():
        entry[at:at + len(data)] = data
    return vhdx.summed(entry)


def test_contradictions(t):
    """The checksum is right, what it covers is not."""
    for name, at, data in (("too many descriptors", 24, b"\xff\xff\xff\x00"),
                           ("a descriptor's signature", 64, b"none"),
                           ("a descriptor's number", 64 + 24, b"\x09"),
                           ("a data sector's signature", SECTOR, b"none"),
                           ("a data sector's number", 2 * SECTOR - 4, b"\x09")):
        with t.sub(name):
            logged = Logged()
            entry = logged.entry(1, 0, logged.sectors)
            logged.image.put_log(0, resummed(entry, poke=(at, data)))
            refused(t, logged, "log entry 1")


def test_overlapping_claims(t):
    """Every sector claims to begin an entry of the whole ring: bounded time, however large it is."""
    size = 32 * MIB
    logged = Logged(log_size=size)
    head = bytearray(logged.entry(1, 0, [])[:64])
    head[8:12] = size.to_bytes(4, "little")
    path = logged.image.write(t.path("o.vhdx"))
    logged.image.log_id = vhdx.LOG_ID
    path = logged.image.write(path)
    with open(path, "r+b") as file:
        for at in range(0, size, SECTOR):
            file.seek(MIB + at)
            file.write(head)
    for verb in ("info", "check"):
        result = vmimg(verb, path)
        check_bars(result)
        equal(result.code, 4, str(result))


def test_many_entries(t):
    """A ring full of entries, each after the other, and the last one's tail is none of them."""
    size = 32 * MIB
    count, logged = size // SECTOR - 1, Logged(log_size=size)

    def entry(number):
        return bytearray(logged.entry(number, count * SECTOR, []))

    # with the bits of its number an entry's checksum changes, with each one in the same way: there are thousands
    first = entry(0)
    sums = [int.from_bytes(first[4:8], "little") ^ int.from_bytes(entry(1 << bit)[4:8], "little") for bit in range(14)]
    for i in range(count):
        now, total = first.copy(), int.from_bytes(first[4:8], "little")
        for bit in range(14):
            total ^= sums[bit] if i + 1 >> bit & 1 else 0
        now[4:8], now[16:24] = total.to_bytes(4, "little"), (i + 1).to_bytes(8, "little")
        logged.image.log[i * SECTOR] = now
    equal(logged.image.log[99 * SECTOR], entry(100), "the hundredth")
    logged.image.log_id = vhdx.LOG_ID
    path = logged.image.write(t.path("n.vhdx"))
    for verb in "info", "check":
        result = vmimg(verb, path)
        check_bars(result)
        check("no whole" in result.text + result.errors, f"{result}{result.text}")


def test_many_ranges(t):
    """As many descriptors as a large log holds, each of its own place."""
    size, count = 8 * MIB, 120000
    logged = Logged(log_size=size)
    base = logged.file_end
    descs = [(base + (i * 7919 % count) * 2 * SECTOR, SECTOR) for i in range(count)]
    logged.image.put_log(0, logged.entry(1, 0, descs + logged.sectors,
                                         last=base + count * 2 * SECTOR))
    path = logged.image.write(t.path("m.vhdx"))
    result = vmimg("info", path)
    check_bars(result)
    equal(result.code, 0, str(result))
    equal(content(t, path), logged.want(t), "content")


if __name__ == "__main__":
    harness.main()
