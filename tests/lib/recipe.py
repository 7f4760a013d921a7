# SPDX-License-Identifier: Apache-2.0
"""
Test images as text. A recipe (*.vec) makes one image, and says how vmimg must take it:

    # why this image exists
    like written                                                first the lines of written.base
    base qemu-img create -f qcow2 -o cluster_size=64k @ 64M     a command; @ is the image file
    base qemu-io -c "write -P 0x55 0 64k" @                     (several are done in order)
    @24 u64be=2^64-1                                            pokes, one after another from 24
    @0x200 text="/etc/passwd" hex=00ff u32be=0x10*4             *4: four times
    truncate 103                                                or truncate -512: from the end
    append hex=00*512
    fix vhd-footer -512                                         repairs a checksum: see FIXES
    file other.qcow2                                            what follows makes a second file
    expect info=0 check=2 convert=4                             exit codes; 0|4: either
    needs vhd                                                   skipped in a build without it
    verbs info check                                            these only, not all six
    options convert --max-virtual-size=1T                       added to that command (all: to each)
    shows virtual-size=67108863                                 a key of info --json
    message points past the end                                 a regular expression, in what is said
    then 4 snapshot create @ x                                  at last a command that changes the image, its exit code

Numbers are sums and differences of terms like 12, 0x30, 64K, 2^40. Fields: u8 u16be u32be u64be
u16le u32le u64le. A recipe with no expect line gets the verdict of its name: see VERDICTS.
"""

import hashlib
import os
import re
import shlex
import struct
import zlib

from lib import disks, env, process
from lib.harness import Failure, check, equal
from lib.process import run

# Exit codes by the first word of the recipe's name.
VERDICTS = {
    "good": {"info": {0}, "check": {0}, "convert": {0}},
    "bad": {"info": {4}, "check": {4}, "convert": {4}},
    "damaged": {"info": {0}, "check": {2}, "convert": {4}},
    "unsupported": {"info": {0, 4}, "check": {0, 4, 63}, "convert": {4}},
    "refused": {"info": {0}, "check": {0}, "convert": {5}},
    "limit": {"convert": {6}},
}
UNITS = {"": 1, "k": 1 << 10, "m": 1 << 20, "g": 1 << 30, "t": 1 << 40, "p": 1 << 50}
FIELDS = {"u8": "B", "u16be": ">H", "u32be": ">I", "u64be": ">Q",
          "u16le": "<H", "u32le": "<I", "u64le": "<Q"}


def number(text):
    """12, 0x30, 64K, 2^64-1, 64M-1"""
    total = 0
    for sign, term in re.findall(r"([+-]?)([^+-]+)", text):
        power = re.fullmatch(r"(\d+)\^(\d+)", term)
        plain = re.fullmatch(r"(0[xX][0-9a-fA-F]+|\d+)([kKmMgGtTpP]?)", term)
        if power:
            value = int(power[1]) ** int(power[2])
        elif plain:
            value = int(plain[1], 0) * UNITS[plain[2].lower()]
        else:
            raise Failure(f"not a number: {text!r}")
        total += -value if sign == "-" else value
    return total


def field(word):
    """The bytes of one u32be=…, hex=… or text=…"""
    kind, _, value = word.partition("=")
    value, _, times = value.partition("*") if kind != "text" else (value, "", "")
    if kind == "text":
        data = value.encode().decode("unicode_escape").encode("latin-1")
    elif kind == "hex":
        data = bytes.fromhex(value)
    elif kind in FIELDS:
        data = struct.pack(FIELDS[kind], number(value))
    else:
        raise Failure(f"no such field: {word!r}")
    return data * (number(times) if times else 1)


# ---- checksums that a poke breaks ----------------------------------------------------------

def crc32c(data):
    table = _crc32c_table()
    crc = 0xffffffff
    for byte in data:
        crc = table[(crc ^ byte) & 0xff] ^ crc >> 8
    return crc ^ 0xffffffff


def _crc32c_table(made=[]):
    if not made:
        for value in range(256):
            for _ in range(8):
                value = value >> 1 ^ (0x82f63b78 if value & 1 else 0)
            made.append(value)
    return made


def _ones_complement(length, at, fmt):
    """VHD: the complement of the sum of all bytes but the checksum's own."""
    def fix(block):
        block[at:at + 4] = bytes(4)
        block[at:at + 4] = struct.pack(fmt, ~sum(block) & 0xffffffff)
    return length, fix


def _crc(function, length, at):
    def fix(block):
        block[at:at + 4] = bytes(4)
        block[at:at + 4] = struct.pack("<I", function(bytes(block)))
    return length, fix


# name: (bytes covered, what repairs them in place)
FIXES = {
    "vhd-footer": _ones_complement(512, 64, ">I"),
    "vhd-header": _ones_complement(1024, 36, ">I"),
    "vhdx-header": _crc(crc32c, 4096, 4),
    "vhdx-region": _crc(crc32c, 65536, 4),
    "vhdx-log-4k": _crc(crc32c, 4096, 4),
    "vhdx-log-8k": _crc(crc32c, 8192, 4),
    "gpt-header": _crc(zlib.crc32, 92, 16),
}


# ---- recipes -------------------------------------------------------------------------------


class Recipe:
    """A parsed *.vec file."""

    def __init__(self, path):
        self.path = path
        self.name = os.path.basename(path).removesuffix(".vec")
        self.files = [("image." + os.path.basename(os.path.dirname(path)), [])]
        self.options, self.messages, self.shows, self.verbs = {}, [], {}, []
        self.needs, self.then = [], []
        self.expect = dict(VERDICTS.get(self.name.split("-")[0], {}))
        self._read(path)

    def _read(self, path):
        with open(path, encoding="utf-8") as file:
            for line in file:
                line = line.strip()
                if line and not line.startswith("#"):
                    self._line(line)

    def _line(self, line):
        word, _, rest = line.partition(" ")
        rest = rest.strip()
        if word == "like":
            self._read(os.path.join(os.path.dirname(self.path), rest + ".base"))
        elif word == "file":
            self.files.append((rest, []))
        elif word == "expect":
            for pair in rest.split():
                verb, _, codes = pair.partition("=")
                self.expect[verb] = {int(code) for code in codes.split("|")}
        elif word == "options":
            verb, *words = shlex.split(rest)
            self.options.setdefault(verb, []).extend(words)
        elif word == "verbs":
            self.verbs = rest.split()
        elif word == "needs":
            self.needs = rest.split()
        elif word == "shows":
            key, _, value = rest.partition("=")
            self.shows[key] = value
        elif word == "message":
            self.messages.append(rest)
        elif word == "then":
            code, *words = shlex.split(rest)
            self.then.append((int(code), words))
        else:
            self.files[-1][1].append(line)

    def assemble(self, folder):
        """Makes the files in folder; returns the path of the image."""
        for name, steps in reversed(self.files):
            path = os.path.join(folder, name)
            bases = [step for step in steps if step.startswith("base ")]
            _make_base(tuple(bases), path)
            for step in steps[len(bases):]:
                try:
                    _apply(step, path)
                except (ValueError, struct.error) as error:
                    raise Failure(f"{self.path}: {step!r}: {error}") from error
        return path


def _make_base(steps, path, cache={}):
    """Runs the base lines. Bases are made once; what they made is kept beside the first user."""
    if steps in cache and os.path.exists(cache[steps]):
        disks.copy(cache[steps], path)
        return
    with open(path, "wb"):
        pass
    for step in steps:
        words = [path if word == "@" else word for word in shlex.split(step)[1:]]
        if words[0] == "vmimg":
            words[0] = env.VMIMG
        result = run(*words, cwd=os.path.dirname(path))
        if result.code:
            raise Failure(f"base: {result}")
    # A base that names other files of its folder cannot be shared.
    if steps and not any(".." in step or "-b " in step for step in steps):
        place = os.path.dirname(os.path.dirname(path))
        keep = os.path.join(place, f"base-{zlib.crc32(repr(steps).encode()):08x}")
        cache[steps] = disks.copy(path, keep)


def _apply(step, path):
    words = shlex.split(step, posix=True) if "text=" not in step else _words(step)
    with open(path, "r+b") as file:
        size = file.seek(0, os.SEEK_END)
        if words[0] == "truncate":
            length = number(words[1])
            file.truncate(length if length >= 0 else size + length)
        elif words[0] == "append":
            file.write(b"".join(field(word) for word in words[1:]))
        elif words[0] == "fix":
            length, fix = FIXES[words[1]]
            at = number(words[2])
            file.seek(at if at >= 0 else size + at)
            block = bytearray(file.read(length))
            fix(block)
            file.seek(at if at >= 0 else size + at)
            file.write(block)
        elif words[0] == "copy":
            source, length, target = (number(word.strip("@")) for word in words[1:4])
            file.seek(source)
            block = file.read(length)
            file.seek(target)
            file.write(block)
        elif words[0].startswith("@"):
            at = number(words[0][1:])
            file.seek(at if at >= 0 else size + at)
            file.write(b"".join(field(word) for word in words[1:]))
        else:
            raise Failure(f"{path}: cannot do {step!r}")


def _words(step):
    """Splits at blanks outside double quotes; backslashes are left for field()."""
    return [word.replace('"', "", 2) if word.startswith("text=") else word
            for word in re.findall(r'text="[^"]*"|\S+', step)]


# ---- what commands leave behind ------------------------------------------------------------


def fingerprint(folder):
    """Name, size, time and content of every file in a folder (content of the small ones)."""
    files = {}
    for name in sorted(os.listdir(folder)):
        path = os.path.join(folder, name)
        status = os.stat(path)
        content = ""
        if status.st_size <= 16 << 20:
            with open(path, "rb") as file:
                content = hashlib.sha256(file.read()).hexdigest()
        files[name] = (status.st_size, status.st_mtime_ns, content)
    return files


def try_change(image, words, codes, before):
    """
    One command that changes an image ("@" among the words), within the bars. Its exit code is one of codes; a failure
    is one line, and leaves all files as they were: before is the fingerprint of their folder.
    """
    folder, what = os.path.dirname(image), " ".join(words)
    result = process.vmimg(*[re.sub("^(of=)?@$", lambda found: (found[1] or "") + image, word) for word in words],
                           cwd=folder, timeout=20)
    process.check_bars(result, what)
    check(result.code in codes, f"{what}: want {sorted(codes)}: {result}")
    if result.code:
        process.check_one_line(result, what)
        equal(fingerprint(folder), before, f"{what} (exit {result.code}, {result.errors.strip()}): files")
    return result
