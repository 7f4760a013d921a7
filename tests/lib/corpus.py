# SPDX-License-Identifier: Apache-2.0
"""
Real images that other software made, outside the source tree (env.CORPUS). MANIFEST.tsv there has one
row a file; files are stored plain or as .xz. A whole folder is unpacked at once into the build folder,
because the files of one chain or bundle lie together and name each other.
"""

import bz2
import csv
import fcntl
import gzip
import lzma
import os
import re
import shutil

from lib import disks, env
from lib.harness import skip


class Entry:
    """One row of the manifest; its columns are attributes."""

    def __init__(self, row):
        self.__dict__.update(row)
        self.folder = self.path.split("/")[0]

    @property
    def content(self):
        """The agreed digest of the whole virtual disk; empty when there is none."""
        whole = re.fullmatch(r"(nz64k:)?[0-9a-f]{64}", self.decoded_sha256 or "")
        return self.decoded_sha256 if whole else ""

    @property
    def size(self):
        """The virtual size where the manifest states it, else 0."""
        return int(self.virtual_size) if (self.virtual_size or "").isdigit() else 0

    def unwrap(self, target):
        """The file without the outer .gz or .bz2 that it came in; the file itself without one."""
        opener = {".gz": gzip.open, ".bz2": bz2.open}.get(os.path.splitext(self.path)[1])
        if not opener:
            return self.file
        with opener(self.file) as packed, open(target, "wb") as file:
            _copy_sparse(packed, file)
        return target

    @property
    def file(self):
        """The path of the unpacked file."""
        return os.path.join(_unpacked(self.folder), os.path.relpath(self.path, self.folder))

    def digest(self, raw):
        """The digest of a raw file, of the kind that decoded_sha256 has."""
        if self.content.startswith("nz64k:"):
            return "nz64k:" + disks.nz64k(raw)
        return disks.sha256(raw)


def entries(*formats):
    """Rows of the formats (all when none is named). Skips the test where there is no corpus."""
    manifest = os.path.join(env.CORPUS, "MANIFEST.tsv")
    if not os.path.exists(manifest):
        skip("no corpus of real images here (VMIMG_CORPUS)")
    with open(manifest, newline="", encoding="utf-8") as file:
        rows = csv.DictReader(file, delimiter="\t", quoting=csv.QUOTE_NONE)
        found = [Entry(row) for row in rows]
    return [entry for entry in found if not formats or entry.format in formats]


def entry(path):
    """The row of one file."""
    return next(e for e in entries() if e.path == path)


def _unpacked(folder):
    """The folder's copy under the build folder, made by whichever process comes first."""
    target = os.path.join(env.BUILD, "corpus", folder)
    os.makedirs(os.path.join(env.BUILD, "corpus"), exist_ok=True)
    with open(os.path.join(env.BUILD, "corpus", ".lock"), "w", encoding="ascii") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not os.path.isdir(target):
            part = target + ".part"
            shutil.rmtree(part, ignore_errors=True)
            for one in entries():
                if one.folder == folder:
                    _unpack(one, os.path.join(part, os.path.relpath(one.path, folder)))
            os.makedirs(os.path.dirname(target), exist_ok=True)
            os.rename(part, target)
    return target


def _unpack(one, target):
    os.makedirs(os.path.dirname(target), exist_ok=True)
    stored = os.path.join(env.CORPUS, one.stored_as)
    if one.stored_as != one.path and stored.endswith(".xz"):
        with lzma.open(stored) as packed, open(target, "wb") as file:
            _copy_sparse(packed, file)
    else:
        disks.copy(stored, target)
    os.chmod(target, 0o444)  # nothing may change it


def _copy_sparse(source, file):
    zeroes = bytes(disks.CHUNK)
    while block := source.read(disks.CHUNK):
        if block == zeroes[:len(block)]:
            file.seek(len(block), os.SEEK_CUR)
        else:
            file.write(block)
    file.truncate()
