#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""
vmimg, qemu-img and cp side by side, on the same files: bench.py [--quick] [--out FOLDER] [WORD…]

Each job is done in turn by both (A B B A …, for memory that a virtual machine's host has taken back is
slow at its first use, and in another order it is always the same one that meets it), outputs removed before
each run, sources in the page cache. What counts is the median of the paired ratios: times on one machine drift, ratios less. The
column "cpu" is the ratio of processor time, which other work on the machine disturbs least. By
default qemu-img does not wait for storage when it is done (its cache mode is "unsafe") and vmimg does, so
each job names what is compared with what: vmimg -t unsafe with qemu-img as it is, and, in the rows called
"synced", vmimg as it is with qemu-img -t writeback. qemu-img gets its fastest settings, -m 16 -W, where
the row does not say "default". Results: a table, and build-bench/results.json.
"""

import argparse
import json
import os
import platform
import statistics
import sys

import disks_made as made
import limits
sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), ".."))
from lib import env, process, qemu  # noqa: E402

FOLDER = os.path.join(env.SOURCE, "build-bench")
BEST = ("-m", "16", "-W")
MEMORY_TARGET = 64 << 20


class Job:
    """One row: what is converted, how, and how much faster than the peer it has to be."""

    def __init__(self, name, source, target_fmt, aim, ours=(), theirs=(), peer="qemu-img", repeat=1,
                 synced=False, best=True, same_size=False):
        self.name, self.source, self.fmt, self.aim = name, source, target_fmt, aim
        self.ours, self.theirs, self.peer = list(ours), list(theirs), peer
        self.repeat, self.synced, self.best, self.same_size = repeat, synced, best, same_size

    def our_command(self, source, out):
        if self.fmt == "info":
            return [env.VMIMG, "info", source.path]
        sync = [] if self.synced else ["-t", "unsafe"]
        return [env.VMIMG, "convert", "-q", *sync, "-f", source.fmt, "-O", self.fmt, *self.ours,
                source.path, out]

    def their_command(self, source, out):
        if self.peer == "cp":
            return ["cp", "--sparse=always", source.path, out]
        name = qemu.name(source.fmt)
        if self.fmt == "info":
            return ["qemu-img", "info", source.path]
        sync = ["-t", "writeback"] if self.synced else []
        return ["qemu-img", "convert", *sync, *(BEST if self.best else ()), "-f", name, "-O",
                qemu.name(self.fmt), *self.theirs, source.path, out]


    def before(self, source, out):
        """What has to lie where our command writes; not measured."""

    def largest(self, source):
        """Bytes on storage that the output may take, or None."""


class Compact(Job):
    """What a file system does not use, given back, in place; against a copy of the file."""

    def before(self, source, out):
        """An image at rest: its bytes are on storage, which a flush would otherwise have to bring there."""
        process.run("cp", "--sparse=always", source.path, out, timeout=3600)
        os.sync()

    def our_command(self, source, out):
        return [env.VMIMG, "compact", "-q", "-f", source.fmt, out]

    def largest(self, source):
        """95 % of what the file system calls free is to be given back."""
        used = made.Disks.in_use(os.path.join(os.path.dirname(source.path), "half.raw"))
        return used + (os.stat(source.path).st_blocks * 512 - used) // 20


class Ova(Job):
    """A disk into an OVA, against the three tools it takes otherwise: image, digest, archive."""

    def our_command(self, source, out):
        return [env.VMIMG, "pack", "-q", "-t", "unsafe", "-O", "ova", "-o", out, *self.ours, source.path]

    def their_command(self, source, out):
        script = ("qemu-img convert -m 16 -W -f \"$2\" -O vmdk -o subformat=streamOptimized \"$1\" \"$3.vmdk\" && "
                  "sha256sum \"$3.vmdk\" >\"$3.mf\" && tar cf \"$3\" -C / \"${3#/}.mf\" \"${3#/}.vmdk\"")
        return ["sh", "-c", script, "sh", source.path, source.fmt, out]


class Inspect(Job):
    """What a disk holds, against the two tools that say a part of it: partitions, and one file system's kind."""

    def our_command(self, source, out):
        return [env.VMIMG, "inspect", "--json", source.path]

    def their_command(self, source, out):
        return ["sh", "-c", "sfdisk -J \"$1\" && blkid -p -O 1048576 \"$1\"", "sh", source.path]


def jobs():
    """Every row, with the ratio to be reached. Sources are names of disks_made.py."""
    zlib, zstd = ["-c"], ["-c", "-o", "compression_type=zstd"]
    stream = ["-o", "subformat=streamOptimized"]
    fixed = ["-o", "force_size=on"]
    for disk in ("real", "random", "zero"):
        yield Job(f"{disk} raw → qcow2", f"{disk}.raw", "qcow2", 1.4)
        yield Job(f"{disk} raw → qcow2, cp", f"{disk}.raw", "qcow2", 1.0, peer="cp")
        yield Job(f"{disk} qcow2 → raw", f"{disk}.qcow2", "raw", 1.4)
    yield Job("real raw → qcow2 synced", "real.raw", "qcow2", 1.0, synced=True)
    yield Job("real qcow2 → raw synced", "real.qcow2", "raw", 1.0, synced=True)
    yield Job("real qcow2 → qcow2", "real.qcow2", "qcow2", 1.4)
    yield Job("real raw → raw", "real.raw", "raw", 1.0)
    yield Job("real → qcow2 zlib", "real.raw", "qcow2", 4, zlib, zlib, same_size=True)
    yield Job("real → qcow2 zlib, default", "real.raw", "qcow2", 4, zlib, zlib, best=False)
    yield Job("real → qcow2 zlib fast", "real.raw", "qcow2", 10, [*zlib, "--level=fast"], zlib)
    yield Job("real → qcow2 zstd", "real.raw", "qcow2", 1.25, zstd, zstd)
    yield Job("real qcow2 zlib → raw", "real-zlib.qcow2", "raw", 2.5)
    yield Job("real qcow2 zstd → raw", "real-zstd.qcow2", "raw", 2.5)
    yield Inspect("inspect", "real.raw", "info", 0.5, peer="sfdisk, blkid", repeat=20)
    yield Job("info", "real.qcow2", "info", 2.5, repeat=20)
    yield Job("1 TiB sparse raw → qcow2", "tera.raw", "qcow2", 6)
    yield Job("1 TiB sparse qcow2 → raw", "tera.qcow2", "raw", 6)
    yield Job("16 TiB sparse qcow2 → qcow2", "tera16.qcow2", "qcow2", 10)
    yield Job("real raw → vmdk", "real.raw", "vmdk", 1.3)
    yield Job("real vmdk → raw", "real.vmdk", "raw", 1.3)
    yield Job("real → vmdk streamOptimized", "real.raw", "vmdk", 8, stream, stream)
    yield Job("real → vmdk streamOptimized fast", "real.raw", "vmdk", 20,
              [*stream, "--level=fast"], stream)
    yield Job("real vmdk streamOptimized → raw", "real-stream.vmdk", "raw", 5)
    yield Ova("real qcow2 → OVA", "real.qcow2", "ova", 8, peer="qemu-img, sha256sum, tar")
    yield Job("1 TiB sparse vmdk → qcow2", "tera.vmdk", "qcow2", 20)
    for fmt, theirs in (("vhdx", []), ("vhd", fixed), ("vdi", [])):
        yield Job(f"real raw → {fmt}", "real.raw", fmt, 1.3, theirs=theirs)
        yield Job(f"real {fmt} → raw", f"real.{fmt}", "raw", 1.3)
        yield Job(f"real raw → {fmt}, cp", "real.raw", fmt, 1.0, peer="cp")
        yield Job(f"real {fmt} → raw, cp", f"real.{fmt}", "raw", 1.0, peer="cp")
    yield Job("100 GiB sparse vhdx → raw", "sparse100.vhdx", "raw", 20)
    for fmt in ("raw", "qcow2", "vmdk", "vhd", "vhdx", "vdi"):
        yield Compact(f"compact half {fmt}, cp", f"half.{fmt}", fmt, 0.5, peer="cp")


def timed(folder, command, repeat, before):
    """Seconds, peak bytes and size on storage of one run, whose outputs are all of folder; None when it fails."""
    for name in os.listdir(folder):
        os.unlink(os.path.join(folder, name))
    before()
    seconds = cpu = peak = 0
    for _ in range(repeat):
        done = process.run(*command, timeout=3600)
        if done.code:
            print(f"  {done}", file=sys.stderr)
            return None
        seconds, cpu, peak = seconds + done.seconds, cpu + done.cpu, max(peak, done.peak)
    size = sum(os.stat(os.path.join(folder, n)).st_blocks * 512 for n in os.listdir(folder))
    return {"seconds": seconds / repeat, "cpu": cpu / repeat, "peak": peak, "size": size}


def measure(job, source, rounds, folder):
    """Runs a job in turn. None when one of the two cannot do it."""
    runs = {"ours": [], "theirs": []}
    both = [("ours", job.our_command, job.before), ("theirs", job.their_command, lambda *_: None)]
    for number in range(rounds):
        for who, command, before in both if number % 2 else reversed(both):
            out = os.path.join(folder, who)
            run = timed(folder, command(source, out), job.repeat, lambda: before(source, out))
            if not run:
                return None
            runs[who].append(run)

    def ratios_of(key):
        return [b[key] / max(a[key], 1e-4) for a, b in zip(runs["ours"], runs["theirs"])]
    ratios = ratios_of("seconds")
    middle = {who: statistics.median(r["seconds"] for r in all_) for who, all_ in runs.items()}
    return {
        "job": job.name, "peer": job.peer, "aim": job.aim, "ratio": statistics.median(ratios),
        "ratios": ratios, "cpu_ratio": statistics.median(ratios_of("cpu")),
        "seconds": middle["ours"], "peer_seconds": middle["theirs"],
        "peak": max(r["peak"] for r in runs["ours"]),
        "peer_peak": max(r["peak"] for r in runs["theirs"]),
        "largest": job.largest(source), "size": runs["ours"][0]["size"], "peer_size": runs["theirs"][0]["size"],
        "command": job.our_command(source, "OUT"), "peer_command": job.their_command(source, "OUT"),
    }


def verdict(job, row):
    """What the row has to be told about, empty when all is reached."""
    short = []
    if row["ratio"] < job.aim:
        short.append("slower than the aim")
    if row["peak"] > MEMORY_TARGET:
        short.append("memory")
    if row["size"] > (row["peer_size"] if job.same_size else row["largest"] or row["size"]):
        short.append("larger output")
    return ", ".join(short)


def show(row, short):
    size = f"{row['size'] / row['peer_size']:.2f}" if row["peer_size"] else "–"
    print(f"{row['job']:<36}{row['seconds']:>9.3f}{row['peer_seconds']:>10.3f}{row['ratio']:>8.2f}"
          f"{row['cpu_ratio']:>7.2f}{row['aim']:>7.2f}{row['peak'] >> 20:>6}{row['peer_peak'] >> 20:>6}"
          f"{size:>7}  {short or 'reached'}", flush=True)


def machine():
    qemu = process.run("qemu-img", "--version").text.splitlines()[0]
    return {"cpus": os.cpu_count(), "machine": platform.machine(), "kernel": platform.release(),
            "peer": qemu, "vmimg": process.vmimg("--version").text.strip()}


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[1])
    parser.add_argument("--quick", action="store_true",
                        help="small disks, to try the script; the aims are for the large ones")
    parser.add_argument("--rounds", type=int, help="pairs of runs (5, quick: 3)")
    parser.add_argument("--out", default=FOLDER, metavar="FOLDER",
                        help="outputs are made in a folder there: the file system counts, most of all for compact")
    parser.add_argument("words", nargs="*", help="only jobs whose name has one of these")
    args = parser.parse_args()
    rounds = args.rounds or (3 if args.quick else 5)
    out = os.path.join(args.out, "out")
    os.makedirs(out, exist_ok=True)
    sources = made.Disks(os.path.join(FOLDER, "quick" if args.quick else "full"), args.quick)
    facts, rows = machine(), []
    print(f"{facts['cpus']} processors, {facts['peer']}; {rounds} pairs; times are medians\n"
          f"{'job':<36}{'vmimg s':>9}{'peer s':>10}{'ratio':>8}{'cpu':>7}{'aim':>7}{'MiB':>6}{'MiB':>6}"
          f"{'size':>7}")
    for job in jobs():
        if args.words and not any(word in job.name for word in args.words):
            continue
        if job.fmt not in ("info", "ova", *process.formats(writable=True)):
            continue
        source = sources.get(job.source)
        row = measure(job, source, rounds, out)
        if row:
            row["short"] = verdict(job, row)
            rows.append(row)
            show(row, row["short"])
    rows += limits.rows(out, rounds, args.words)
    with open(os.path.join(FOLDER, "results.json"), "w", encoding="utf-8") as file:
        json.dump({"quick": args.quick, "rounds": rounds, **facts, "rows": rows}, file, indent=1)
    reached = sum(not row["short"] for row in rows)
    print(f"\n{reached} of {len(rows)} reached; all figures are in build-bench/results.json")


if __name__ == "__main__":
    main()
