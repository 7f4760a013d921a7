# SPDX-License-Identifier: Apache-2.0
"""
A small test harness. A test file defines functions test_*, each taking a Test, and ends with

    if __name__ == "__main__":
        harness.main()

Every test, and every subtest inside one, gives a line `ok`, `not ok` or `ok … # SKIP` in the Test
Anything Protocol, which Meson reads. `file.py word…` runs only the tests whose name has a word.
"""

import contextlib
import inspect
import os
import shutil
import signal
import sys
import tempfile
import time
import traceback


LONG = os.environ.get("VMIMG_LONG", "") not in ("", "0")  # `make check-long`


def part(items, every=3, start=0):
    """Every third of what a test goes through, from one of the first on; in long runs all."""
    items = list(items)
    return items if LONG else items[start % every::every]


class Failure(Exception):
    """A check that did not hold."""


class Skip(Exception):
    """This test cannot run here; says why."""


def check(condition, message):
    if not condition:
        raise Failure(message)


def equal(got, want, what="value"):
    if got != want:
        raise Failure(f"{what}: got {got!r}, want {want!r}")


def skip(reason):
    raise Skip(reason)


def need(*tools):
    """Skips the test unless every tool is installed."""
    from lib import env
    for tool in tools:
        if not env.have(tool):
            skip(f"{tool} is not installed")


class _Log:
    def __init__(self):
        self.count = self.failed = self.skipped = 0

    def line(self, ok, name, comment=""):
        self.count += 1
        name = name.replace("#", "no. ")
        print(f"{'ok' if ok else 'not ok'} {self.count} - {name}{comment}", flush=True)

    @contextlib.contextmanager
    def outcome(self, name):
        """Runs one body and says how it went. A failure is told, not raised."""
        started = time.monotonic()
        try:
            yield
        except Skip as reason:
            self.skipped += 1
            self.line(True, name, f" # SKIP {reason}")
        except Exception as error:
            self.failed += 1
            self.line(False, name)
            text = str(error) if isinstance(error, Failure) else traceback.format_exc()
            print("\n".join("# " + line for line in text.splitlines()), flush=True)
        else:
            seconds = time.monotonic() - started
            self.line(True, name)
            if seconds > 10:
                print(f"# took {seconds:.0f} s", flush=True)


@contextlib.contextmanager
def scratch():
    """The path of a file that is gone again at the end of the block."""
    with tempfile.NamedTemporaryFile(prefix="vmimg-test-") as file:
        yield file.name


class Test:
    """What a test function is given: a folder of its own and subtests."""

    def __init__(self, log, name, tmp):
        self.log, self.name, self.tmp = log, name, tmp

    def path(self, name):
        return f"{self.tmp}/{name}"

    def sub(self, name):
        """`with t.sub("cluster_size=512"):` a part that is counted and may fail by itself."""
        return self.log.outcome(f"{self.name}: {name}")

    @contextlib.contextmanager
    def folder(self):
        """A folder that is gone again at the end of the block."""
        path = tempfile.mkdtemp(dir=self.tmp)
        try:
            yield path
        finally:
            shutil.rmtree(path, ignore_errors=True)


def run(tests):
    """Runs (name, function) pairs. The exit code: 0, or 1 when something failed."""
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))  # a timeout still cleans up
    for number in signal.SIGINT, signal.SIGHUP:  # a shell in the background has its children ignore them
        if signal.getsignal(number) == signal.SIG_IGN:
            signal.signal(number, signal.SIG_DFL)
    log = _Log()
    for name, function in tests:
        tmp = tempfile.mkdtemp(prefix="vmimg-test-")
        try:
            with log.outcome(name):
                function(Test(log, name, tmp))
        finally:
            shutil.rmtree(tmp, ignore_errors=True)
    print(f"1..{log.count}", flush=True)
    return 1 if log.failed or not log.count else 0


def main():
    module = sys.modules["__main__"]
    words = sys.argv[1:]
    tests = [(name[5:], function) for name, function in vars(module).items()
             if name.startswith("test_") and inspect.isfunction(function)
             and (not words or any(word in name for word in words))]
    sys.exit(run(tests))
