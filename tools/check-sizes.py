#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""
No file over 600 lines, no function over 70: where one wants to be longer there is a second idea in it.
With --report also the medians and the longest.
"""

import os
import re
import statistics
import sys

TOP = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
FILE_LINES, FUNCTION_LINES = 600, 70


def sources():
    for top in ("include", "src", "tests"):
        for folder, _, names in os.walk(os.path.join(TOP, top)):
            for name in names:
                if name.endswith((".c", ".h")):
                    yield os.path.join(folder, name)


def functions(lines):
    """(name, length) of every function: its body stands between braces in the first column."""
    start = None
    for number, line in enumerate(lines):
        if line.startswith("{"):
            start = number
        elif line.startswith("}") and start is not None:
            head = start
            while head and lines[head - 1].strip() and not lines[head - 1].startswith(("}", "#", " *")):
                head -= 1
            found = re.search(r"(\w+)\s*\(", " ".join(lines[head:start]))
            if found:
                yield found[1], number - head + 1
            start = None


def measure():
    files, bodies = [], []
    for path in sources():
        with open(path, encoding="utf-8") as file:
            lines = file.read().splitlines()
        name = os.path.relpath(path, TOP)
        files.append((len(lines), name))
        bodies += [(length, f"{name}: {function}") for function, length in functions(lines)]
    return sorted(files), sorted(bodies)


def main():
    files, bodies = measure()
    if "--report" in sys.argv:
        for title, sizes in (("files", files), ("functions", bodies)):
            lengths = [size for size, _ in sizes]
            print(f"# {title}: {len(sizes)}, median {statistics.median(lengths):.0f} lines, "
                  f"90 % under {lengths[len(lengths) * 9 // 10]}; longest:")
            for size, name in sizes[-5:]:
                print(f"#   {size} {name}")
    long = [f"# {size} lines: {name}" for sizes, most in ((files, FILE_LINES), (bodies, FUNCTION_LINES))
            for size, name in sizes if size > most]
    print("\n".join([*long, f"{'not ok' if long else 'ok'} 1 - sizes of files and functions", "1..1"]))
    return bool(long)


if __name__ == "__main__":
    sys.exit(main())
