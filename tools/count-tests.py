#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""
Counts the lines of the Test Anything Protocol in a Meson test log (testlog.json): prints "passed
failed skipped". A test program that died without a line of its own counts as one failure, and so does a
run that Meson calls failed (second argument) though no line says so.
"""

import json
import sys


def count(path):
    passed = failed = skipped = 0
    with open(path, encoding="utf-8") as file:
        for line in file:
            test = json.loads(line)
            lines = test.get("stdout", "").splitlines()
            bad = sum(line.startswith("not ok ") for line in lines)
            skips = sum(line.startswith("ok ") and "# SKIP" in line for line in lines)
            good = sum(line.startswith("ok ") for line in lines) - skips
            if test["result"] not in ("OK", "SKIP") and not bad:
                bad = 1
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
