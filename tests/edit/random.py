# SPDX-License-Identifier: Apache-2.0
"""
Random chains, random changes in place; what every layer has to show is kept in memory. After each change
each layer is read by vmimg, by qemu-img where that knows the chain, and checked by both. `random.py long`
goes on for RANDOM_SECONDS (300); RANDOM_SEED=N repeats one chain.
"""

import os
import random
import sys
import time

from lib import env, harness, qemu
from lib.harness import check, equal
from lib.process import run, vmimg, vmimg_ok

KIB = 1 << 10
QCOW2 = ["", "cluster_size=512", "cluster_size=4k", "cluster_size=2M", "extended_l2=on", "extended_l2=on,cluster_size=16k",
         "refcount_bits=1", "refcount_bits=2", "refcount_bits=64,cluster_size=1k", "compat=0.10", "compat=0.10,cluster_size=4k",
         "lazy_refcounts=on", "compression_type=zstd,cluster_size=8k", "data_file=DATA", "data_file=DATA,data_file_raw=on"]
OPTIONS = {"qcow2": QCOW2, "raw": [""], "vhd": ["", "block_size=512k"], "vhdx": ["", "block_size=1M"], "vdi": [""],
           "vmdk": [""]}
FAMILIES = ("vhd", "vhdx", "vdi", "vmdk")  # as children, of their own kind alone
REFUSALS = (4, 6)  # exit codes of an honest refusal, which has to leave everything as it was


class Layer:
    """One image: what it shows, and the snapshots inside."""

    def __init__(self, path, fmt, options, shows):
        self.path, self.fmt, self.options, self.shows = path, fmt, options, shows
        self.snapshots = {}

    def __str__(self):
        return f"{os.path.basename(self.path)} ({self.options or 'plain'}, {len(self.shows)})"


class World:
    """A chain, the lowest layer first, in a folder that is the current one."""

    def __init__(self, folder, seed):
        self.folder, self.rng, self.count, self.log = folder, random.Random(seed), 0, []
        self.layers = []
        os.chdir(folder)

    # ---- making ----

    def name(self, fmt):
        self.count += 1
        return f"{self.folder}/{self.count}.{fmt}"

    def options(self, fmt, path):
        text = self.rng.choice(OPTIONS[fmt])
        return text.replace("DATA", os.path.basename(path) + ".data")

    def size(self):
        size = self.rng.choice([256, 700, 1024, 2048, 3000]) * KIB + self.rng.choice([0, 0, 512, 4096, 1536])
        return size

    def make_base(self):
        fmt = self.rng.choice(["qcow2", "qcow2", "qcow2", "raw", "vhd", "vhdx", "vdi", "vmdk"])
        path, raw = self.name(fmt), self.name("r")
        options, size = self.options(fmt, path), self.size()
        if fmt == "vhd" and "block" not in options:
            size = (size + 511) // 512 * 512
        shows = bytearray(size)
        for _ in range(self.rng.randrange(8)):
            self.patch(shows, *self.stretch(size), self.rng.randrange(256))
        with open(raw, "wb") as file:
            file.write(shows)
        packed = ["-c"] if fmt in ("qcow2", "vmdk") and "data" not in options and self.rng.random() < .3 and fmt == "qcow2" else []
        self.do("convert", "-f", "raw", "-O", fmt, *(["-o", options] if options else []), *packed, raw, path)
        os.unlink(raw)
        self.layers.append(Layer(path, fmt, options, shows))

    def add_layer(self):
        below = self.layers[-1]
        fmt = below.fmt if below.fmt in FAMILIES and self.rng.random() < .3 else "qcow2"
        path = self.name(fmt)
        options = self.options("qcow2", path) if fmt == "qcow2" else ""
        if "data_file_raw" in options:
            options = ""
        size = len(below.shows)
        if fmt == "qcow2":
            size = self.rng.choice([size, size, size, self.size()])
            text = ",".join(filter(None, [options, f"backing_file={os.path.basename(below.path)}",
                                          f"backing_fmt={qemu.name(below.fmt)}"]))
            qemu.img("create", "-q", "-u", "-f", "qcow2", "-o", text, path, str(size))
            self.log.append(f"create {text} {path} {size}")
        shows = bytearray(below.shows[:size].ljust(size, b"\0"))
        if fmt != "qcow2":
            self.make_child(below, path, shows)
        self.layers.append(Layer(path, fmt, options, shows))

    def make_child(self, below, path, shows):
        """A child of a family: what an overlay of the same content, which a peer writes to, has of its own."""
        raw, overlay = self.name("r"), self.name("qcow2")
        with open(raw, "wb") as file:
            file.write(shows)
        qemu.img("create", "-q", "-f", "qcow2", "-b", os.path.basename(raw), "-F", "raw", overlay)
        qemu.io(overlay, *self.scribble(shows), fmt="qcow2")
        self.do("convert", "-f", "qcow2", "-O", below.fmt, "-B", os.path.basename(below.path), "-F", below.fmt,
                overlay, path)
        for gone in raw, overlay:
            os.unlink(gone)

    # ---- changes ----

    def stretch(self, size):
        unit = self.rng.choice([512, 512, 4096, 65536])
        at = self.rng.randrange(size) // unit * unit
        length = min(self.rng.choice([1, 2, 5, 33]) * unit, size - at) // 512 * 512
        return (at, length) if length else (0, 512)

    @staticmethod
    def patch(shows, at, length, value):
        shows[at:at + length] = bytes([value]) * length

    def do(self, *words, refusal=False):
        """False: it was refused."""
        self.log.append(" ".join(map(str, words)))
        result = vmimg(*words)
        if refusal and (result.code in REFUSALS or "internal snapshots" in result.errors):
            self.log[-1] += " # " + result.errors.strip()
            return False
        check(result.code == 0, str(result))
        return True

    def scribble(self, shows):
        """Commands of qemu-io, done to shows."""
        commands = []
        for _ in range(self.rng.randrange(1, 6)):
            at, length = self.stretch(len(shows))
            value = self.rng.randrange(1, 256)
            kind = self.rng.choice(["write -P", "write -P", "write -P", "write -z", "write -z -u"])
            if kind != "write -P":
                value = 0
            commands.append(f"{kind} {at} {length}" if not value else f"{kind} {value} {at} {length}")
            self.patch(shows, at, length, value)
        return commands

    def write(self):
        top = self.layers[-1]
        if top.fmt not in ("qcow2", "raw") or any(layer.fmt in FAMILIES for layer in self.layers[1:]):
            return
        commands = self.scribble(top.shows)
        self.log.append(f"{os.path.basename(top.path)}: {'; '.join(commands)}")
        qemu.io(top.path, *commands, fmt=top.fmt)

    def commit(self):
        if len(self.layers) < 2:
            return
        top = self.rng.randrange(1, len(self.layers))
        base = self.rng.choice([top - 1, top - 1, self.rng.randrange(top)])
        upper, lower = self.layers[top], self.layers[base]
        words = ["-b", os.path.basename(lower.path)] if base != top - 1 else []
        if not self.do("commit", *words, upper.path, refusal=True):
            return
        tail = lower.shows[len(upper.shows):]
        lower.shows = bytearray(upper.shows + tail)
        if words:  # the ones above no longer show what they did
            self.drop(base + 1)

    def drop(self, first):
        for layer in self.layers[first:]:
            for path in layer.path, layer.path + ".data":
                if os.path.exists(path):
                    os.unlink(path)
        del self.layers[first:]

    def rebase(self):
        index = self.rng.randrange(1, len(self.layers)) if len(self.layers) > 1 else 0
        layer = self.layers[index]
        parents = [-1] + [i for i in range(index) if layer.fmt in ("qcow2", self.layers[i].fmt)]
        if not index or layer.fmt == "raw":
            return
        to = self.rng.choice(parents)
        words = ["-b", os.path.basename(self.layers[to].path), "-F", self.layers[to].fmt] if to >= 0 else ["-b", ""]
        if self.do("rebase", *words, layer.path, refusal=True):
            for gone in self.layers[to + 1:index]:
                for path in gone.path, gone.path + ".data":
                    if os.path.exists(path):
                        os.unlink(path)
            del self.layers[to + 1:index]

    def compact(self):
        layer = self.rng.choice(self.layers)
        self.do("compact", "--no-fs", layer.path, refusal=True)

    def resize(self):
        top = self.layers[-1]
        size = self.size()
        if self.do("resize", "--shrink", "--shrink", top.path, str(size), refusal=True):
            top.shows = bytearray(top.shows[:size].ljust(size, b"\0"))

    def snapshot(self):
        layer = self.rng.choice(self.layers)
        if layer.fmt != "qcow2":
            return
        what = self.rng.choice(["create", "create", "apply", "delete"])
        if what == "create":
            name = f"s{self.count}"
            self.count += 1
            if self.do("snapshot", "create", layer.path, name, refusal=True):
                layer.snapshots[name] = bytes(layer.shows)
        elif layer.snapshots:
            name = self.rng.choice(sorted(layer.snapshots))
            if what == "apply" and layer is not self.layers[-1]:
                return
            self.do("snapshot", what, layer.path, name)
            if what == "apply":
                layer.shows = bytearray(layer.snapshots[name])
            else:
                del layer.snapshots[name]

    # ---- what has to hold ----

    def read(self, layer, program, *words):
        out = f"{self.folder}/out.raw"
        result = run(*program, "convert", *words, "-O", "raw", layer.path, out)
        check(result.code == 0, str(result))
        with open(out, "rb") as file:
            data = file.read()
        os.unlink(out)
        return data

    def same(self, got, want, what):
        if got == bytes(want):
            return
        at = next((i for i in range(min(len(got), len(want))) if got[i] != want[i]), min(len(got), len(want)))
        raise harness.Failure(f"{what}: {len(got)} bytes, want {len(want)}; differs at {at}: "
                              f"{got[at:at + 4].hex()}, want {bytes(want[at:at + 4]).hex()}")

    def verify(self):
        known = exact = True  # by qemu-img, and with the size that we take a VHD to have
        for index, layer in enumerate(self.layers):
            known = known and (not index or layer.fmt == "qcow2")
            exact = exact and known and layer.fmt != "vhd"
            self.same(self.read(layer, [env.VMIMG]), layer.shows, f"{layer} by vmimg")
            if exact:
                self.same(self.read(layer, ["qemu-img"]), layer.shows, f"{layer} by qemu-img")
            if layer.fmt != "raw":
                result = vmimg("check", layer.path)
                # a VDI that was made smaller has gaps until it is compacted
                check(result.code in ((0, 3) if layer.fmt == "vdi" else (0,)), f"{layer}: {result}{result.text[:600]}")
            if layer.fmt == "qcow2" and known:
                result = run("qemu-img", "check", layer.path)
                check(result.code == 0, f"{layer}: {result}{result.text[:600]}")
                for name, shows in layer.snapshots.items() if not index else ():
                    self.same(self.read(layer, [env.VMIMG], "-l", name), shows, f"{layer}, {name} by vmimg")
                    got = self.read(layer, ["qemu-img"], "-l", name)  # with the size that the disk has now
                    length = min(len(shows), len(layer.shows))
                    self.same(got[:length], shows[:length], f"{layer}, {name}")

    def step(self):
        self.rng.choice([self.write, self.write, self.write, self.commit, self.commit, self.rebase, self.compact, self.compact,
                         self.resize, self.snapshot, self.snapshot, self.add_layer, self.write])()


def play(t, seed, steps):
    with t.folder() as folder:
        world = World(folder, seed)
        try:
            world.make_base()
            for _ in range(world.rng.randrange(1, 4)):
                world.add_layer()
                world.write()
            world.verify()
            for _ in range(steps):
                told = len(world.log)
                world.step()
                if len(world.log) > told:
                    world.verify()
                if len(world.layers) > 5:
                    world.drop(4)
        except harness.Failure as failure:
            keep = os.environ.get("RANDOM_KEEP")
            if keep:
                run("cp", "-a", folder, keep)
            raise harness.Failure(f"seed {seed}: {failure}\n" + "\n".join(world.log[-60:])) from None


def test_short(t):
    seed = os.environ.get("RANDOM_SEED")
    for number in [int(seed)] if seed else range(1, 7):
        with t.sub(f"seed {number}"):
            play(t, number, 12)


def long(t):
    end = time.monotonic() + float(os.environ.get("RANDOM_SECONDS", "300"))
    seed = int(os.environ.get("RANDOM_SEED", "1000"))
    while time.monotonic() < end:
        with t.sub(f"seed {seed}"):
            play(t, seed, 30)
        seed += 1


if __name__ == "__main__":
    if "long" in sys.argv[1:]:
        test_long = long
    harness.main()
