# SPDX-License-Identifier: Apache-2.0
"""
The program when things go wrong around it: storage that is full or fails, a reader that goes away, an
impatient user. Never a part of an output, and an old file stays what it was.
"""

import os
import signal
import subprocess
import time

from lib import disks, env, harness, process, variants
from lib.harness import check, equal, need, skip

MIB = 1 << 20
# LeakSanitizer cannot work in a process that is being traced.
NO_LEAK_CHECK = {"ASAN_OPTIONS": os.environ.get("ASAN_OPTIONS", "") + ":detect_leaks=0"}


def nothing_left(folder, *expected):
    equal(sorted(os.listdir(folder)), sorted(expected), "files in the folder")


def failed_cleanly(result, code=1):
    equal(result.code, code, f"exit code ({result})")
    process.check_one_line(result)


def traced(inject, *args, path=None):
    """
    vmimg under strace, which makes system calls fail (path: those on that file alone). Skips where
    tracing is not allowed.
    """
    need("strace")
    if process.run("strace", "-o", "/dev/null", "true").code:
        skip("strace may not trace here")
    calls = inject.split(":")[0]
    return process.run("strace", "-f", "-qq", "-o", "/dev/null", "-e", f"trace={calls}",
                       *(["-P", path] if path else []), "-e", f"inject={inject}", env.VMIMG, *args,
                       extra_env=NO_LEAK_CHECK)


def test_file_size_limit(t):
    """A limit on the size of files stands in for a full disk."""
    raw = disks.pattern(t.path("disk.raw"), 16 * MIB, seed=20, data=8 * MIB)
    for fmt, label, options in variants.main_ways():
        with t.sub(f"{fmt} {label}"), t.folder() as folder:
            result = process.vmimg("convert", "-O", fmt, *options, raw, f"{folder}/out",
                                   file_size=1 * MIB)
            failed_cleanly(result)
            nothing_left(folder)


def test_no_space(t):
    raw = disks.pattern(t.path("disk.raw"), 16 * MIB, seed=21, data=8 * MIB)
    for fmt, label, options in variants.main_ways():
        for when in (1, 5, 12):
            with t.sub(f"{fmt} {label}, write {when}"), t.folder() as folder:
                old = f"{folder}/out"
                with open(old, "wb") as file:
                    file.write(b"the old file")
                result = traced(f"pwrite64:error=ENOSPC:when={when}", "convert", "--force", "-O",
                                fmt, *options, raw, old)
                failed_cleanly(result)
                with open(old, "rb") as file:
                    equal(file.read(), b"the old file", "the old file")
                nothing_left(folder, "out")


def test_killed_while_writing(t):
    raw = disks.pattern(t.path("disk.raw"), 16 * MIB, seed=22, data=8 * MIB)
    for fmt, label, options in variants.main_ways():
        with t.sub(f"{fmt} {label}"), t.folder() as folder:
            result = traced("pwrite64:signal=KILL:when=5", "convert", "-O", fmt, *options, raw,
                            f"{folder}/out")
            check(result.code != 0, "it went on")
            nothing_left(folder)


def test_flush_fails(t):
    """A flush that failed is final: the file must not appear."""
    raw = disks.pattern(t.path("disk.raw"), 4 * MIB, seed=23)
    for when in (1, 2):  # of the file, of the folder
        with t.sub(f"flush {when}"), t.folder() as folder:
            result = traced(f"fsync,fdatasync:error=EIO:when={when}", "convert", "-O", "raw", raw,
                            f"{folder}/out")
            failed_cleanly(result)
            nothing_left(folder)


def test_read_fails(t):
    raw = disks.pattern(t.path("disk.raw"), 16 * MIB, seed=24, data=8 * MIB)
    for fmt, label, options in variants.main_ways():
        with t.sub(f"{fmt} {label}"), t.folder() as folder:
            os.mkdir(f"{folder}/in")
            os.mkdir(f"{folder}/out")
            image = f"{folder}/in/image"
            process.vmimg_ok("convert", "-O", fmt, *options, raw, image)
            for when in ("3", "4+"):  # strace counts for each thread: have one
                failed_cleanly(traced(f"pread64:error=EIO:when={when}", "convert", "--threads=1",
                                      "-f", fmt, "-O", "raw", image, f"{folder}/out/raw",
                                      path=image))
                nothing_left(f"{folder}/out")


def test_reader_goes_away(t):
    """`vmimg convert disk.raw - | head -c 10`"""
    raw = disks.pattern(t.path("disk.raw"), 32 * MIB, seed=25)
    with subprocess.Popen([env.VMIMG, "convert", "-O", "raw", raw, "-"], stdout=subprocess.PIPE,
                          stderr=subprocess.PIPE) as child:
        child.stdout.read(10)
        child.stdout.close()
        said = child.stderr.read()
        equal(child.wait(timeout=20), 1, "exit code")
    equal(said.count(b"\n"), 1, f"lines on stderr: {said!r}")


def test_interrupted(t):
    """Ctrl-C: no output, and an old file unchanged."""
    raw = disks.pattern(t.path("disk.raw"), 256 * MIB, seed=26, data=128 * MIB)
    for fmt, options in (("qcow2", ["-c", "--level=best"]),
                         ("vmdk", ["-o", "subformat=streamOptimized", "--level=best"])):
        if fmt not in process.formats(writable=True):
            continue
        with t.sub(fmt), t.folder() as folder:
            old = f"{folder}/out"
            with open(old, "wb") as file:
                file.write(b"the old file")
            with subprocess.Popen([env.VMIMG, "convert", "--force", "-O", fmt, *options, raw, old],
                                  stderr=subprocess.PIPE) as child:
                time.sleep(0.05)
                child.send_signal(signal.SIGINT)
                child.stderr.read()
                code = child.wait(timeout=20)
            check(code != 0, "it was done before it could be interrupted")
            with open(old, "rb") as file:
                equal(file.read(), b"the old file", "the old file")
            nothing_left(folder, "out")


def test_existing_output(t):
    raw = disks.pattern(t.path("disk.raw"), MIB, seed=27)
    with t.folder() as folder:
        with open(f"{folder}/out", "wb") as file:
            file.write(b"the old file")
        failed_cleanly(process.vmimg("convert", "-O", "raw", raw, f"{folder}/out"), code=5)
        with open(f"{folder}/out", "rb") as file:
            equal(file.read(), b"the old file", "the old file")
        nothing_left(folder, "out")
        process.vmimg_ok("convert", "--force", "-O", "raw", raw, f"{folder}/out")
        equal(disks.sha256(f"{folder}/out"), disks.sha256(raw), "the new file")


def test_what_is_no_file(t):
    """A FIFO, a folder and a device: an answer at once, without waiting for anybody."""
    os.mkfifo(t.path("fifo"))
    for path in (t.path("fifo"), t.tmp, "/dev/zero", t.path("missing")):
        for verb in (["info"], ["check"], ["map"], ["digest"], ["convert", "-O", "raw"]):
            with t.sub(f"{verb[0]} {os.path.basename(path)}"):
                more = [t.path("out")] if verb[0] == "convert" else []
                result = process.vmimg(*verb, path, *more, timeout=5)
                process.check_bars(result)
                process.check_one_line(result)
                check(result.code in (1, 4), str(result))
                check(not os.path.exists(t.path("out")), "an output was left")


if __name__ == "__main__":
    harness.main()
