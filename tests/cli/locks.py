# SPDX-License-Identifier: Apache-2.0
"""QEMU's image locks, held by a real qemu-io, and ours, met by one."""

import contextlib
import os
import re
import subprocess
import time

from lib import disks, env, harness, process, qemu
from lib.harness import check, equal
from lib.process import check_one_line, vmimg, vmimg_ok

QEMU = {"vhd": "vpc"}  # other names of formats


@contextlib.contextmanager
def holding(path, *options):
    """A qemu-io that has the image open."""
    harness.need("qemu-io")
    with subprocess.Popen(["qemu-io", *options, path], stdin=subprocess.PIPE, stdout=subprocess.PIPE) as holder:
        holder.stdin.write(b"length\n")  # answered once the image is open, and locked
        holder.stdin.flush()
        holder.stdout.readline()
        try:
            yield holder
        finally:
            holder.stdin.close()
            holder.wait()


@contextlib.contextmanager
def exported(path, fmt):
    """A qemu-nbd that has the image open for writing."""
    harness.need("qemu-nbd")
    ready = path + ".pid"  # is there when the image is open, and the socket before that
    with subprocess.Popen(["qemu-nbd", "-f", QEMU.get(fmt, fmt), "-k", path + ".socket", "--pid-file", ready, path],
                          stderr=subprocess.PIPE) as holder:
        while not os.path.exists(ready) and holder.poll() is None:
            time.sleep(0.02)
        check(holder.poll() is None, "qemu-nbd did not start")
        try:
            yield holder
        finally:
            holder.terminate()
            holder.wait()


@contextlib.contextmanager
def reading(path):
    """Our own conversion, which has begun and waits for somebody to empty its pipe."""
    fifo = path + ".pipe"
    os.mkfifo(fifo)
    with open(os.open(fifo, os.O_RDWR), "rb") as reader, open(fifo, "wb") as writer, \
            subprocess.Popen([env.VMIMG, "convert", "-O", "raw", path, "-"], stdout=writer,
                             stderr=subprocess.DEVNULL) as ours:
        reader.read(1)
        time.sleep(0.1)
        try:
            yield ours
        finally:
            ours.kill()
            os.unlink(fifo)


@contextlib.contextmanager
def changing(path):
    """Our own change in place, which storage keeps waiting: its first flush takes three seconds."""
    harness.need("strace")
    log = path + ".log"
    with subprocess.Popen(["strace", "-f", "-qq", "-o", log, "-e", "trace=fsync,fcntl", "-e",
                           "inject=fsync:delay_enter=3000000:when=1", env.VMIMG, "resize", "-q", path, "+1M"],
                          stderr=subprocess.DEVNULL) as ours:
        while ours.poll() is None and not (os.path.exists(log) and b"fsync(" in open(log, "rb").read()):
            time.sleep(0.02)
        try:
            yield ours
        finally:
            ours.wait()


def image(t):
    raw = disks.pattern(t.path("disk.raw"), 2 << 20, seed=9, data=1 << 20)
    vmimg_ok("convert", raw, t.path("disk.qcow2"))
    return t.path("disk.qcow2")


def test_writer_is_respected(t):
    path = image(t)
    with holding(path) as holder:
        for words in ["info", path], ["check", path], ["convert", path, t.path("out.raw")], ["digest", path]:
            with t.sub(words[0]):
                result = vmimg(*words)
                check(result.code in (7, 1) and "qemu-io" in result.errors and str(holder.pid) in result.errors,
                      str(result))
                check_one_line(result)
        check(not os.path.exists(t.path("out.raw")), "an output was left")
        with t.sub("-U"):
            vmimg_ok("convert", "-U", path, t.path("out.raw"))


def test_convert_says_locked(t):
    path = image(t)
    with holding(path):
        equal(vmimg("convert", path, t.path("out.raw")).code, 7, "exit code")
        equal(vmimg("info", path).code, 7, "exit code")


def test_backing_file_in_use(t):
    path = image(t)
    vmimg_ok("create", "-f", "qcow2", "-b", "disk.qcow2", "-F", "qcow2", t.path("child.qcow2"))
    with holding(path):
        result = vmimg("convert", t.path("child.qcow2"), t.path("out.raw"))
        equal(result.code, 7, "exit code")


def test_readers_share(t):
    path = image(t)
    with holding(path, "-r"):
        vmimg_ok("convert", path, t.path("out.raw"))


def test_own_parent(t):
    """What we hold ourselves is no other process' file: an image that names itself is refused as such."""
    path = t.path("self.qcow2")
    vmimg_ok("create", "-q", "-f", "qcow2", path, "1M")
    vmimg_ok("rebase", "-q", "-u", "-b", "self.qcow2", "-F", "qcow2", path)
    for words in (["resize", path, "2M"], ["rebase", "-b", "", path], ["digest", path]):
        result = vmimg(*words)
        equal(result.code, 5, str(result))
        check(re.search("loop|open here already", result.errors) and "process" not in result.errors, str(result))


def test_image_in_use_is_not_replaced(t):
    path = image(t)
    before = disks.sha256(path)
    for options in [], ["-r"]:
        with t.sub(" ".join(options) or "writer"), holding(path, *options):
            result = vmimg("convert", "--force", "-O", "qcow2", t.path("disk.raw"), path)
            equal(result.code, 7, "exit code")
            equal(disks.sha256(path), before, "the image")


def test_raw_disks(t):
    """The same for raw disks, by every verb, and for what is written in place."""
    raw = disks.pattern(t.path("disk.raw"), 1 << 20)
    other = disks.pattern(t.path("other.raw"), 4096)
    with holding(raw, "-f", "raw") as holder:
        for verb in "info", "map", "digest", "measure", "convert":
            with t.sub(verb):
                more = ["-O", "raw", t.path("out.raw")] if verb == "convert" else []
                result = vmimg(verb, raw, *more)
                equal(result.code, 7, str(result))
                check(str(holder.pid) in result.errors, result.errors)
                vmimg_ok(verb, "-U", raw, *more)
        equal(vmimg("compare", raw, other).code, 2, "compare, which cannot open it")
        equal(vmimg("convert", "-n", "-O", "raw", other, raw).code, 7, "in place")
    vmimg_ok("compare", raw, raw)


def test_lists(t):
    path = image(t)
    with holding(path):
        for words in ["snapshot", "list"], ["bitmap", "list"]:
            equal(vmimg(*words, path).code, 7, words[0])
            vmimg_ok(*words, "-U", path)


@contextlib.contextmanager
def unshared(fmt):
    if fmt == "raw":
        harness.skip("readers of a raw disk, which has no tables, share it with a writer in QEMU too")
    yield


def refused(*words):
    """Somebody else's program gets no lock."""
    result = subprocess.run(words, capture_output=True, check=False, timeout=60)
    check(result.returncode and re.search(b'Failed to get (shared )?"[a-z ]+" lock', result.stderr), f"not refused: {result}")


def test_every_format(t):
    """Both ways: what a qemu-io or qemu-nbd holds is not read by us, what we read or change is not theirs."""
    raw = disks.pattern(t.path("source"), 2 << 20, seed=9, data=1 << 20)
    for fmt in process.formats(writable=True):
        path, name = t.path(f"disk.{fmt}"), QEMU.get(fmt, fmt)
        vmimg_ok("convert", "--force", "-O", fmt, raw, path)
        with t.sub(f"{fmt}: qemu-io writes, we wait"), holding(path, "-f", name) as holder:
            for words in ["info", path], ["digest", path], ["resize", path, "+1M"]:
                result = vmimg(*words)
                equal(result.code, 7, str(result))
                check(str(holder.pid) in result.errors, f"does not say who: {result}")
            vmimg_ok("digest", "-U", path)
        with t.sub(f"{fmt}: qemu-io reads, we do not write"), unshared(fmt), holding(path, "-r", "-f", name):
            equal(vmimg("resize", path, "+1M").code, 7, "exit code")
            vmimg_ok("digest", path)
        with t.sub(f"{fmt}: qemu-nbd writes, we wait"), exported(path, fmt):
            for words in ["info", path], ["digest", path], ["resize", path, "+1M"]:
                equal(vmimg(*words).code, 7, words[0])
        with t.sub(f"{fmt}: we read, qemu does not write"), reading(path):
            refused("qemu-io", "-f", name, "-c", "write 0 4k", path)
            refused("qemu-nbd", "-f", name, "-k", t.path("socket"), path)
            subprocess.run(["qemu-io", "-r", "-f", name, "-c", "read 0 4k", path], check=True, capture_output=True)
        with t.sub(f"{fmt}: we write, qemu waits"), unshared(fmt), changing(path) as ours:
            refused("qemu-io", "-r", "-f", name, "-c", "read 0 4k", path)
            refused("qemu-nbd", "-f", name, "-k", t.path("socket"), path)
            check(ours.poll() is None, "it was over before the others came")


if __name__ == "__main__":
    harness.main()
