#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""
Lists the refusals that no test reached: places in what reads strangers' input that fail with a message, add a
finding or warn, and whose line a coverage build never ran.

    tools/unreached.py [BUILD] [WORD…]

BUILD (build-cov) is configured with -Db_coverage=true, and its tests were run; words choose among the files. `make
coverage` does it all. A refusal is a call of one of the functions below, or of a function of the same file
that does nothing but word such a call. Errors of memory and of system calls are not counted (tests/fault has those),
neither are those of the command line, and what a comment calls a second line of defence.
"""

import collections
import gzip
import json
import os
import re
import subprocess
import sys
import tempfile

SOURCE = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
REFUSING = ("vmimg_fail", "vmimg_report_add", "vmimg_report_add_numbers", "vmimg_disk_warn", "vmimg_bundle_warn", "vmimg_parts_warn")
# What reads: the formats' writers and editors get no strangers' input that was not read by these first.
ROOMS = ("src/format", "src/bundle", "src/inspect", "src/disk")
WRITES = re.compile(r"/(sink\w*|create|write|\w+_write|change|update|edit\w*|settings|amend|squeeze|shift|"
                    r"resize|relate|space|plan|rewrite|options|table|update_\w+|item|luks_slot|qcow2/(single|commit|cut|head|clusters)|"
                    r"vmdk/(entries|tables|text)|iso_(tree|records)|refit|join)\.c$|/bundle/boot/|/ovf/(edit|adapt)")
# Of the command line or the machine, not of what is read.
MISUSE = re.compile("VMIMG_E(INVAL|EXIST|NOMEM)|cannot be loaded|which needs lib")
DEFENCE = "second line of defence"  # says a comment where something else refuses first, and it is good to be sure


def sources(words):
    for room in ROOMS:
        for folder, _, names in os.walk(os.path.join(SOURCE, room)):
            for name in sorted(names):
                path = os.path.relpath(os.path.join(folder, name), SOURCE)
                if path.endswith(".c") and not WRITES.search(path) and (not words or any(w in path for w in words)):
                    yield path


def read(path):
    with open(os.path.join(SOURCE, path), encoding="utf-8") as file:
        return file.read()


def wording(text):
    """(name, its lines) of functions that only word a refusal: their callers refuse, they themselves do not."""
    for found in re.finditer(r"^static [\w *]+?(\w+)\([^;{]*\)\n\{\n(.*?)^\}", text, re.M | re.S):
        if re.search(r"^\t(?:return )?(?:%s)\(" % "|".join(REFUSING), found[2], re.M) and \
                not re.search(r"\b(?:if|for|while|switch)\b", re.sub(r'"[^"]*"', "", found[2])):
            yield found[1], range(text.count("\n", 0, found.start()) + 1, text.count("\n", 0, found.end()) + 2)


def refusals(path):
    """(line, last line of the statement, whether a condition before it chooses, text) of each."""
    text, own, bodies = read(path), set(), set()
    for name, lines in wording(text):
        own.add(name)
        bodies.update(lines)
    own.update(re.findall(r"#define (\w+)\([^\n]*\\\n\s*(?:%s)\(" % "|".join(REFUSING), text))
    call = re.compile(r"(?<![\w>])(?:%s)\((?!\(w\))" % "|".join({*REFUSING, *own}))
    lines = text.split("\n")
    for number, line in enumerate(lines, 1):
        if number not in bodies and call.search(line) and line[:1] in "\t " and not MISUSE.search(line + lines[number]) \
                and DEFENCE not in "".join(lines[max(0, number - 4):number]):
            last = next((n for n in range(number, min(number + 9, len(lines))) if ";" in lines[n - 1]), number)
            chosen = re.search(r"[?:] [^;]*$", re.sub(r'"[^"]*"', "", line[:call.search(line).start()] + " "))
            yield number, last, bool(chosen), line.strip()


def counters(build):
    """{file: {line: (times, a block of it never ran)}}, of all the build's objects."""
    objects = [os.path.join(folder, name) for folder, _, names in os.walk(os.path.join(build, "src"))
               for name in names if name.endswith(".gcno")]
    lines = collections.defaultdict(dict)
    with tempfile.TemporaryDirectory() as work:
        for at in range(0, len(objects), 50):
            done = subprocess.run(["gcov", "--json-format", *objects[at:at + 50]], cwd=work, capture_output=True, text=True)
            if done.returncode:
                sys.exit(f"gcov: {done.stderr.strip()[-200:]}")
        for name in os.listdir(work):
            with gzip.open(os.path.join(work, name), "rt") as file:
                report = json.load(file)
            for source in report["files"]:
                place = os.path.normpath(os.path.join(report["current_working_directory"], source["file"]))
                for line in source["lines"]:
                    times, part = lines[place].get(line["line_number"], (0, False))
                    lines[place][line["line_number"]] = (times + line["count"], part or line["unexecuted_block"])
    return lines


def main():
    build = os.path.abspath(sys.argv[1] if sys.argv[1:] else os.path.join(SOURCE, "build-cov"))
    lines, missing, total = counters(build), [], 0
    built = os.path.getmtime(os.path.join(build, "vmimg"))
    for path in sources(sys.argv[2:]):
        counts = lines.get(os.path.join(SOURCE, path), {})
        if os.path.getmtime(os.path.join(SOURCE, path)) > built:
            print(f"{path} is newer than the build: its lines may be others", file=sys.stderr)
        for number, last, chosen, text in refusals(path):
            total += 1
            found = [counts[n] for n in range(number, last + 1) if n in counts]
            if not any(times for times, _ in found) or (chosen and counts.get(number, (0, False))[1]):
                missing.append(f"{path}:{number}: {text}")
    print("\n".join(missing))
    print(f"{total} refusals, {len(missing)} of them not reached")
    return 0


if __name__ == "__main__":
    sys.exit(main())
