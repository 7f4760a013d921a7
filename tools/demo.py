#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""
demo.py VMIMG [IMAGE]: takes a disk through every format that can be written, each made from the one
before, and shows that the guest's bytes stay the same. Without IMAGE the disk is made on the spot: a
partition table and an ext4 file system full of this machine's own files.
"""

import json
import os
import shutil
import stat
import subprocess
import sys
import tempfile
import time

DISK = 1 << 30       # bytes of the disk that is made
FILES = 120 << 20    # bytes of files on it, about
START = 1 << 20      # where its partition begins
# What is shown of each format: (options, label). A format that is not here is shown once, plain.
VARIANTS = {
    "qcow2": [((), ""), (("-c",), "zlib"), (("-c", "-o", "compression_type=zstd"), "zstd")],
    "vmdk": [((), ""), (("-o", "subformat=streamOptimized"), "streamOptimized")],
    "vhd": [((), "dynamic"), (("-o", "subformat=fixed"), "fixed")],
    "vhdx": [((), "dynamic")],
    "luks": [],  # needs a passphrase
}
COLOUR = sys.stdout.isatty()


def paint(code, text):
    return f"\x1b[{code}m{text}\x1b[0m" if COLOUR else text


def run(*args, **how):
    """Runs a program; its output, or the end of the demo."""
    done = subprocess.run(args, capture_output=True, text=True, check=False, **how)
    if done.returncode:
        sys.exit(f"demo: {' '.join(args[:3])} …: {done.stderr.strip() or done.stdout.strip()}")
    return done.stdout


def tool(name):
    return shutil.which(name) or shutil.which(name, path="/usr/sbin:/sbin")


def gather(folder):
    """Copies files of this machine into folder until there are enough."""
    left = FILES
    for top in ("/usr/bin", "/usr/share/doc", "/usr/share", "/usr/lib"):
        for where, _, names in os.walk(top):
            for name in sorted(names):
                source = os.path.join(where, name)
                target = os.path.join(folder, source.lstrip("/"))
                try:
                    status = os.lstat(source)
                    if not stat.S_ISREG(status.st_mode) or status.st_size > 20 << 20 or \
                            os.path.exists(target):
                        continue
                    os.makedirs(os.path.dirname(target), exist_ok=True)
                    shutil.copyfile(source, target)
                except OSError:
                    continue
                left -= status.st_size
                if left <= 0:
                    return


def make_disk(path, folder):
    """A disk with one Linux partition; nothing here needs root."""
    files = os.path.join(folder, "files")
    os.mkdir(files)
    gather(files)
    with open(path, "wb") as file:
        file.truncate(DISK)
    run(tool("sfdisk"), "-q", path, input=f"label: gpt\nstart={START // 512}, type=linux\n")
    run(tool("mke2fs"), "-q", "-t", "ext4", "-d", files, "-E", f"offset={START}",
        "-L", "demo", path, f"{(DISK - 2 * START) // 1024}k")
    shutil.rmtree(files)


class Demo:
    """The program, the folder for its outputs, and what the disk's digest has to be."""

    def __init__(self, vmimg, folder):
        self.vmimg, self.folder = vmimg, folder
        self.digest = self.size = None
        self.bad = 0

    def measure(self, path):
        """(virtual size, SHA-256 of the guest's bytes)"""
        info = json.loads(run(self.vmimg, "info", "--json", path))
        return info["virtual-size"], json.loads(run(self.vmimg, "digest", "--json", path))["sha256"]

    def step(self, source, number, fmt, options, label):
        """One row of the table. Returns what the next row is made from."""
        target = os.path.join(self.folder, f"{number}.{fmt}")
        started = time.monotonic()
        done = subprocess.run([self.vmimg, "convert", "-q", "-O", fmt, *options, source, target],
                              capture_output=True, text=True, check=False)
        seconds = time.monotonic() - started
        name = f"{fmt} {label}".strip()
        if done.returncode:
            refused = done.returncode in (2, 5, 6)  # larger than the format can be
            self.bad += not refused
            print(f"  {name:<24}{paint('33' if refused else '31', done.stderr.strip())}")
            return source
        size, digest = self.measure(target)
        if size > self.size and digest != self.digest:
            self.size, self.digest = size, digest  # rounded up to whole sectors
        same = (size, digest) == (self.size, self.digest)
        self.bad += not same
        print(f"  {name:<24}{show(allocated(target)):>12}{seconds:>9.2f} s   {digest[:24]}…  "
              + (paint("32", "same") if same else paint("31", "DIFFERENT")), flush=True)
        return target


def allocated(path):
    return os.stat(path).st_blocks * 512


def show(size):
    for unit in ("B", "KiB", "MiB", "GiB"):
        if size < 1000 or unit == "GiB":
            return f"{size:.0f} B" if unit == "B" else f"{size:.1f} {unit}"
        size /= 1024


def main():
    vmimg, image = sys.argv[1], sys.argv[2] if len(sys.argv) > 2 and sys.argv[2] else None
    with tempfile.TemporaryDirectory(prefix="vmimg-demo-", dir=os.path.dirname(vmimg)) as folder:
        demo = Demo(vmimg, folder)
        if not image:
            print(paint("1", "A disk: GPT, one ext4 partition, files of this machine"))
            image = os.path.join(folder, "disk.raw")
            make_disk(image, folder)
        print(run(vmimg, "info", image))
        demo.size, demo.digest = demo.measure(image)
        formats = [f["name"] for f in json.loads(run(vmimg, "formats", "--json"))["formats"]
                   if f["write"]]
        print(paint("1", f"Through every format, each made from the one before\n\n  {'format':<24}"
                         f"{'on storage':>12}{'seconds':>11}   SHA-256 of the guest's bytes"))
        print(f"  {'the disk':<24}{show(allocated(image)):>12}{'':>11}   {demo.digest[:24]}…")
        rows = [(fmt, *variant) for fmt in formats if fmt != "raw"
                for variant in VARIANTS.get(fmt, [((), "")])] + [("raw", (), "")]
        source = image
        for number, (fmt, options, label) in enumerate(rows):
            target = demo.step(source, number, fmt, options, label)
            if source not in (image, target):
                os.unlink(source)
            source = target
    print("\n" + (paint("1;32", "Every format holds the same disk.") if not demo.bad else
                  paint("1;31", f"{demo.bad} of {len(rows)} went wrong.")))
    return bool(demo.bad)


if __name__ == "__main__":
    sys.exit(main())
