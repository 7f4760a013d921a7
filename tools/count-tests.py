#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""
Counts the lines of the Test Anything Protocol in a Meson test log (testlog.json): prints "passed
failed skipped", and on standard error one line a failure, with the program's name and the last remarks
that follow it. A test program that died without a line of its own counts as one failure, and so does
a run that Meson calls failed (second argument) though no line says so.
"""

import itertools
import json
import sys


def tell(test, lines, bad):
    """Names each failed line, those at the places `bad` of `lines`, with the end of the remarks after it."""
    if not bad:
        last = (lines + test.get("stderr", "").splitlines())[-3:]
        print(f"{test['name']}: {test['result']}: {' | '.join(last)}", file=sys.stderr)
    for place in bad:
        said = list(itertools.takewhile(lambda line: line.startswith("#"), lines[place + 1:]))
        print(f"{test['name']}: {' | '.join([lines[place]] + said[-3:])}"[:600], file=sys.stderr)


def count(path):
    passed = failed = skipped = 0
    with open(path, encoding="utf-8") as file:
        for line in file:
            test = json.loads(line)
            lines = test.get("stdout", "").splitlines()
            failures = [place for place, line in enumerate(lines) if line.startswith("not ok ")]
            bad = len(failures)
            skips = sum(line.startswith("ok ") and "# SKIP" in line for line in lines)
            good = sum(line.startswith("ok ") for line in lines) - skips
            if test["result"] not in ("OK", "SKIP"):
                tell(test, lines, failures)
                bad = bad or 1
            passed, failed, skipped = passed + good, failed + bad, skipped + skips
    return passed, failed, skipped


def main():
    path, code = sys.argv[1], int(sys.argv[2])
    try:
        passed, failed, skipped = count(path)
    except OSError as error:
        print(f"count-tests: {error}", file=sys.stderr)
        passed, failed, skipped = 0, 1, 0
    if code and not failed:
        failed = 1
    print(passed, failed, skipped)


if __name__ == "__main__":
    main()
