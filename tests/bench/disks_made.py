# SPDX-License-Identifier: Apache-2.0
"""
The disks that are measured, made once and kept under build-bench/: a Debian system with a partition
table and ext4, random data, zeroes that take space, and disks that are nearly all hole. --quick makes
small ones.
"""

import json
import os
import random
import shutil
import subprocess
import sys

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), ".."))
from lib import env, qemu  # noqa: E402

GIB, MIB = 1 << 30, 1 << 20
PACKAGES = ("linux-image-amd64,build-essential,git,vim,python3,golang-go,default-jre-headless,"
            "fonts-dejavu,nginx,postgresql")
# How a disk is made from real.raw or another: (source, format, options of qemu-img)
DERIVED = {
    "-zlib.qcow2": ("qcow2", ["-c"]),
    "-zstd.qcow2": ("qcow2", ["-c", "-o", "compression_type=zstd"]),
    "-stream.vmdk": ("vmdk", ["-o", "subformat=streamOptimized"]),
    ".qcow2": ("qcow2", []),
    ".vmdk": ("vmdk", []),
    ".vhdx": ("vhdx", []),
    ".vhd": ("vhd", ["-o", "force_size=on"]),
    ".vdi": ("vdi", []),
}


class Disk:
    def __init__(self, path, fmt):
        self.path, self.fmt = path, fmt


def run(*command, **how):
    subprocess.run(command, check=True, **how)


def tool(name):
    return shutil.which(name) or shutil.which(name, path="/usr/sbin:/sbin")


class Disks:
    """Makes disks on demand, and keeps them."""

    def __init__(self, folder, quick):
        self.folder, self.quick = folder, quick
        os.makedirs(folder, exist_ok=True)

    def get(self, name):
        path = os.path.join(self.folder, name)
        if not os.path.exists(path):
            print(f"  (making {name})", file=sys.stderr, flush=True)
            part = path + ".part"
            if os.path.exists(part):
                os.unlink(part)
            self.make(name, part)
            os.rename(part, path)
        self.warm(path)
        return Disk(path, name.rsplit(".", 1)[1])

    @staticmethod
    def warm(path):
        """Reads the data once, so that every run finds it in the page cache."""
        with open(path, "rb") as file:
            at, size = 0, os.path.getsize(path)
            while at < size:
                try:
                    at = os.lseek(file.fileno(), at, os.SEEK_DATA)
                except OSError:
                    return
                end = os.lseek(file.fileno(), at, os.SEEK_HOLE)
                file.seek(at)
                while at < end:
                    at += len(file.read(min(MIB, end - at)))

    def make(self, name, path):
        makers = {"real.raw": self.real, "half.raw": self.half, "random.raw": self.noise, "zero.raw": self.zero,
                  "tera.raw": self.tera, "tera16.qcow2": self.tera16, "sparse100.vhdx": self.sparse100}
        if name in makers:
            makers[name](path)
            return
        for suffix, (fmt, options) in DERIVED.items():
            if name.endswith(suffix):
                source = self.get(name.removesuffix(suffix) + ".raw")
                run("qemu-img", "convert", "-f", "raw", "-O", qemu.name(fmt), *options,
                    "-W", "-m", "16", source.path, path)
                return
        raise KeyError(name)

    def real(self, path):
        """A root file system; of this machine's own files when there is no network, or --quick."""
        root = path + ".root"
        shutil.rmtree(root, ignore_errors=True)
        if self.quick or not self.bootstrap(root):
            shutil.rmtree(root, ignore_errors=True)
            shutil.copytree("/usr/bin" if self.quick else "/usr", root, symlinks=True,
                            ignore_dangling_symlinks=True)
        size = GIB if self.quick else 8 * GIB
        with open(path, "wb") as file:
            file.truncate(size)
        run(tool("sfdisk"), "-q", path, input=b"label: gpt\nstart=2048, type=linux\n")
        run(tool("mke2fs"), "-q", "-t", "ext4", "-d", root, "-E", f"offset={MIB}", path,
            f"{(size - 2 * MIB) // 1024}k")
        shutil.rmtree(root, ignore_errors=True)

    def half(self, path):
        """The same without every other file: its blocks are free, and hold what they held."""
        run("cp", "--sparse=always", self.get("real.raw").path, path)
        names = [entry["path"] for entry in self.listing(path) if entry["type"] == "file"]
        commands = "".join(f'rm "{name}"\n' for name in names[::2] if '"' not in name)
        run(tool("debugfs"), "-w", "-f", "-", f"{path}?offset={MIB}", input=commands.encode(),
            stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)

    @staticmethod
    def listing(path):
        done = subprocess.run([env.VMIMG, "ls", "-R", "--json", path + ":/"], check=True,
                              capture_output=True)
        return json.loads(done.stdout)["entries"]

    @staticmethod
    def in_use(path):
        """Bytes that ext4 at 1 MiB calls used."""
        text = subprocess.run([tool("dumpe2fs"), "-h", f"{path}?offset={MIB}"], check=True,
                              capture_output=True, text=True).stdout
        fact = {key.strip(): value.strip() for key, _, value in
                (line.partition(":") for line in text.splitlines())}
        used = int(fact["Block count"]) - int(fact["Free blocks"])
        return used * int(fact["Block size"])

    @staticmethod
    def bootstrap(root):
        done = subprocess.run(["mmdebstrap", "--quiet", "--variant=standard",
                               f"--include={PACKAGES}", "bookworm", root], check=False)
        return done.returncode == 0

    def noise(self, path):
        left = 256 * MIB if self.quick else 2 * GIB
        rng = random.Random(1)
        with open(path, "wb") as file:
            for _ in range(left // MIB):
                file.write(rng.randbytes(MIB))

    def zero(self, path):
        with open(path, "wb") as file:
            for _ in range((256 * MIB if self.quick else 2 * GIB) // MIB):
                file.write(bytes(MIB))

    def pieces(self, size, seed):
        """(offset, length) of data scattered over a disk, not overlapping: 1 GiB in all."""
        rng = random.Random(seed)
        count, length = (64, MIB) if self.quick else (1024, MIB)
        slot = size // count
        for number in range(count):
            at = number * slot + rng.randrange(slot - length)
            yield at - at % 65536, length

    def tera(self, path):
        rng = random.Random(2)
        with open(path, "wb") as file:
            file.truncate(1 << 40)
            for at, length in self.pieces(1 << 40, 2):
                file.seek(at)
                file.write(rng.randbytes(length))

    def by_qemu_io(self, path, fmt, size):
        run("qemu-img", "create", "-q", "-f", fmt, path, str(size))
        lines = "".join(f"write -q -P {1 + number % 255} {at} {length}\n"
                        for number, (at, length) in enumerate(self.pieces(size, 3)))
        run("qemu-io", "-t", "unsafe", "-f", fmt, path, input=lines.encode(),
            stdout=subprocess.DEVNULL)

    def tera16(self, path):
        # A raw file of that size is more than ext4 can hold.
        self.by_qemu_io(path, "qcow2", 16 << 40)

    def sparse100(self, path):
        self.by_qemu_io(path, "vhdx", 100 << 30)
