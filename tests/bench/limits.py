# SPDX-License-Identifier: Apache-2.0
"""
What has to be done at once, however large the disk: rows with a limit in milliseconds instead of a peer.
The disks are made anew for each run, by qemu-img where it can; making them is not measured.
"""

import os
import statistics

from lib import env, process, qemu

FORMATS = ("raw", "qcow2", "vmdk", "vhd", "vhdx", "vdi")


class Limit:
    def __init__(self, name, limit, command, before):
        self.name, self.limit, self.command, self.before = name, limit, command, before


def run(*command):
    done = process.run(*command, timeout=600)
    if done.code:
        raise SystemExit(str(done))
    return done


def made(fmt, size, *options):
    """Lets qemu-img make an empty image."""
    def before(path):
        run("qemu-img", "create", "-q", "-f", qemu.name(fmt), *options, path, size)
    return before


def sparse(size):
    def before(path):
        with open(path, "wb") as file:
            file.truncate(size)
    return before


def created(fmt, size):
    def before(path):
        run(env.VMIMG, "create", "-q", "-f", fmt, path, size)
    return before


def in_place(path, fmt):
    if fmt == "vhd":
        return ["convert", "-q", "--in-place", "-f", "raw", "-O", fmt, "-o", "subformat=fixed", path]
    target = [path + ".vmdk"] if fmt == "vmdk" else []
    return ["convert", "-q", "--in-place", "-f", "raw", "-O", fmt, path, *target]


def jobs():
    for fmt in FORMATS:
        yield Limit(f"resize 1 TiB {fmt}", 50, lambda path, f=fmt: ["resize", "-q", "-f", f, path, "+1G"],
                    made(fmt, "1T"))
    yield Limit("snapshot create, 100 GiB qcow2", 100,
                lambda path: ["snapshot", "create", "-q", path, "one"],
                made("qcow2", "100G", "-o", "preallocation=metadata"))
    for fmt in FORMATS[1:]:
        yield Limit(f"raw → {fmt} in place, 100 GiB", 50, lambda path, f=fmt: in_place(path, f),
                    sparse(100 << 30))
    for fmt, size in (("vhdx", "64T"), ("vhd", "2040G"), ("vdi", "8T")):
        yield Limit(f"create {fmt} of {size}", 1000,
                    lambda path, f=fmt, s=size: ["create", "-q", "-f", f, path, s], lambda path: None)
        yield Limit(f"empty {fmt} of {size} → qcow2", 1000,
                    lambda path, f=fmt: ["convert", "-q", "-f", f, "-O", "qcow2", path, path + ".out"],
                    created(fmt, size))


def measure(job, folder, rounds):
    """Median milliseconds and largest peak, with the processors' share; None when it fails."""
    path, runs = os.path.join(folder, "disk"), []
    for _ in range(rounds):
        for name in os.listdir(folder):
            os.unlink(os.path.join(folder, name))
        job.before(path)
        done = process.vmimg(*job.command(path), timeout=600)
        if done.code:
            print(f"  {done}")
            return None
        runs.append(done)
    return {"job": job.name, "limit_ms": job.limit, "command": job.command("DISK"),
            "ms": statistics.median(r.seconds for r in runs) * 1000,
            "cpu_ms": statistics.median(r.cpu for r in runs) * 1000, "peak": max(r.peak for r in runs)}


def rows(folder, rounds, words):
    """Measures the jobs whose name has one of the words (all without), and prints them."""
    measured = []
    for job in jobs():
        if words and not any(word in job.name for word in words):
            continue
        row = measure(job, folder, rounds)
        if not row:
            continue
        if not measured:
            print(f"\n{'job':<36}{'ms':>9}{'cpu ms':>9}{'limit':>8}{'MiB':>6}")
        row["short"] = "" if row["ms"] < job.limit and row["peak"] < 64 << 20 else "over the limit"
        print(f"{job.name:<36}{row['ms']:>9.1f}{row['cpu_ms']:>9.1f}{job.limit:>8}{row['peak'] >> 20:>6}"
              f"  {row['short'] or 'reached'}", flush=True)
        measured.append(row)
    return measured
