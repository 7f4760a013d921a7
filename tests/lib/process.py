# SPDX-License-Identifier: Apache-2.0
"""Running programs with limits, and seeing what they took."""

import json
import os
import re
import resource
import select
import signal
import subprocess
import tempfile
import time

from lib import env
from lib.harness import Failure, check

MEMORY_BAR = 256 << 20  # peak bytes, and
TIME_BAR = 2.0          # seconds, that any input may cost: the promise to those who open strangers' images
BUSY = 3                # a machine with other work to do may take this much longer by the clock


class Result:
    """How a program ended. code is negative when a signal ended it; cpu: seconds of processors."""

    def __init__(self, args, code, out, err, seconds, usage):
        self.args, self.code, self.out, self.err = args, code, out, err
        self.seconds, self.cpu = seconds, usage.ru_utime + usage.ru_stime
        self.peak = usage.ru_maxrss << 10

    @property
    def text(self):
        return self.out.decode()

    @property
    def errors(self):
        return self.err.decode(errors="backslashreplace")

    def json(self):
        return json.loads(self.out)

    def __str__(self):
        return f"{' '.join(self.args)}: exit {self.code}; {self.errors.strip() or self.out[-300:]!r}"


def run(*args, timeout=60.0, memory=None, stdin=None, cwd=None, extra_env=None, file_size=None):
    """
    Runs a program to its end; kills it after timeout seconds (Failure). memory caps its address
    space, file_size the largest file it may write. stdin: bytes or an open file.
    """
    args = [os.fspath(a) if not isinstance(a, str) else a for a in map(_plain, args)]

    def limits():
        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
        if memory:
            resource.setrlimit(resource.RLIMIT_AS, (memory, memory))
        if file_size is not None:
            resource.setrlimit(resource.RLIMIT_FSIZE, (file_size, file_size))

    with tempfile.TemporaryFile() as out, tempfile.TemporaryFile() as err, \
            tempfile.TemporaryFile() as feed:
        if isinstance(stdin, bytes):
            feed.write(stdin)
            feed.seek(0)
            stdin = feed
        started = time.monotonic()
        child = subprocess.Popen(args, stdin=stdin or subprocess.DEVNULL, stdout=out, stderr=err,
                                 cwd=cwd, env=dict(os.environ, **(extra_env or {})),
                                 preexec_fn=limits if memory or file_size is not None else None)
        code, usage = _wait(child, timeout * env.SLACK, args)
        seconds = time.monotonic() - started
        out.seek(0)
        err.seek(0)
        return Result(args, code, out.read(), err.read(), seconds, usage)


def _plain(value):
    return value if isinstance(value, (str, os.PathLike)) else str(value)


def _wait(child, timeout, args):
    """Like child.wait(), with the child's own resource usage."""
    handle = os.pidfd_open(child.pid)
    try:
        ready, _, _ = select.select([handle], [], [], timeout)
    finally:
        os.close(handle)
    if not ready:
        os.kill(child.pid, signal.SIGKILL)
    _, status, usage = os.wait4(child.pid, 0)
    child.returncode = os.waitstatus_to_exitcode(status)
    if not ready:
        raise Failure(f"{' '.join(args)}: still running after {timeout:.0f} s")
    return child.returncode, usage


def vmimg(*args, **how):
    return run(env.VMIMG, *args, **how)


def vmimg_ok(*args, **how):
    """The same, when it has to work."""
    result = vmimg(*args, **how)
    check(result.code == 0, str(result))
    return result


_formats = {}


def formats(writable=False):
    """
    The formats of this build, by name, as `vmimg formats --json` tells them; writable: those that can be written
    by name alone, and so not luks, which takes a passphrase (tests/format/luks).
    """
    if not _formats:
        for entry in vmimg_ok("formats", "--json").json()["formats"]:
            _formats[entry["name"]] = entry
    return [n for n, f in _formats.items() if not writable or (f.get("write") and n != "luks")]


def guest_sha256(path, *options):
    """SHA-256 of the guest's bytes, as vmimg reads them."""
    report = vmimg_ok("digest", "--json", *options, path, timeout=300).json()
    return report["sha256"]


def check_bars(result, what="hostile input"):
    """No signal, two seconds, 256 MiB, and nothing unescaped on the terminal."""
    if os.environ.get("VMIMG_REPORT_BARS"):  # a line for tools/testing-report.py
        with open(os.environ["VMIMG_REPORT_BARS"], "a", encoding="utf-8") as file:
            file.write(f"{result.args[1]}\t{result.code}\t{result.cpu:.3f}\t{result.peak}\n")
    check(result.code >= 0, f"{what}: ended by signal {-result.code}: {result}")
    check(result.code != 70, f"{what}: a worker died: {result}")
    check(result.cpu <= TIME_BAR * env.SLACK and result.seconds <= BUSY * TIME_BAR * env.SLACK,
          f"{what}: took {result.cpu:.1f} s of {result.seconds:.1f} s: {result}")
    check(result.peak <= MEMORY_BAR * env.SLACK, f"{what}: {result.peak >> 20} MiB: {result}")
    for stream in (result.out, result.err):
        check_escaped(stream, what)


def check_escaped(stream, what):
    """Valid UTF-8 without control characters (but line ends) or bidirectional overrides."""
    try:
        text = stream.decode()
    except UnicodeDecodeError as error:
        raise Failure(f"{what}: output is not UTF-8: {error}") from error
    bad = re.search("[\x00-\x08\x0b-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069]", text)
    check(not bad, f"{what}: unescaped {bad and bad.group()!r} in {text[:200]!r}")


def check_one_line(result, what="error"):
    """An error is told in exactly one line, on stderr; warnings may stand before it."""
    lines = result.err.splitlines(keepends=True)
    told = [line for line in lines if not line.startswith(b"vmimg: warning: ")]
    check(len(told) == 1 and told[0] == lines[-1] and told[0].endswith(b"\n"),
          f"{what}: not one line on stderr: {result.errors!r}")
