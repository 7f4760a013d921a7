#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""
Prints tables of what testing did, from runs made now or, for fuzzing, from the logs of `make fuzz`: hostile
images and bundles, crash states, fuzzing, locks, the cost of the sandbox, refusals that no test meets. Markdown; --write puts them into doc/testing.md.

    tools/testing-report.py [BUILD] [--write]
"""

import collections
import contextlib
import glob
import io
import os
import re
import statistics
import subprocess
import sys
import tempfile

SOURCE = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
WORDS = [word for word in sys.argv[1:] if word != "--write"]
BUILD = os.path.abspath(WORDS[0] if WORDS else os.path.join(SOURCE, "build"))
TESTS = os.path.join(SOURCE, "tests")
RUNS = 40  # of the sandbox's cost


def run(*words, **variables):
    environment = dict(os.environ, PYTHONPATH=TESTS, VMIMG_BUILD=BUILD, VMIMG=os.path.join(BUILD, "vmimg"), **variables)
    return subprocess.run(words, capture_output=True, text=True, env=environment, cwd=SOURCE).stdout


def table(title, head, rows):
    print(f"\n### {title}\n\n| {' | '.join(head)} |\n|{'---|' * len(head)}")
    for row in rows:
        print("| " + " | ".join(str(cell) for cell in row) + " |")


def lines_of(text):
    """(held, failed, skipped) of a test's output."""
    ok = len(re.findall(r"^ok ", text, re.M))
    skipped = len(re.findall(r"^ok .*# SKIP", text, re.M))
    return ok - skipped, len(re.findall(r"^not ok ", text, re.M)), skipped


def hostile():
    folders = sorted(f for f in os.listdir(os.path.join(TESTS, "vectors")) if os.path.isdir(os.path.join(TESTS, "vectors", f)))
    rows, verbs = [], collections.defaultdict(list)
    for folder in folders:
        with tempfile.NamedTemporaryFile("r") as report:
            text = run(sys.executable, os.path.join(TESTS, "vectors", "run.py"), folder, VMIMG_REPORT=report.name)
            runs = [line.rstrip("\n").split("\t") for line in report]
        failed = lines_of(text)[1]
        if not runs:
            continue
        for _, recipe, verb, code, seconds, peak in runs:
            verbs[verb].append((int(code), float(seconds), int(peak)))
        rows.append((folder, len({r[1] for r in runs}), len(runs), failed, max(float(r[4]) for r in runs),
                     f"{max(int(r[5]) for r in runs) >> 20} MiB"))
    table("Hostile images", ("recipes of", "recipes", "commands", "broken promises", "worst processor seconds", "worst memory"), rows)
    rows = []
    for verb, found in verbs.items():
        codes = collections.Counter(code for code, _, _ in found)
        rows.append((verb, ", ".join(f"{code}: {count}" for code, count in sorted(codes.items())), max(s for _, s, _ in found),
                     f"{max(p for _, _, p in found) >> 20} MiB"))
    table("Hostile images, by command", ("command", "exit code: times", "worst processor seconds", "worst memory"), rows)


def bundles_and_volumes():
    """Hostile inputs that are no disk images: those whose tests hold the same bars."""
    rows = []
    for place, name in (("bundle/refusals.py", "archives, descriptors, manifests"),
                        ("inspect/refusals.py", "partition tables, volumes, file systems"),
                        ("inspect/hostile.py", "ext, in circles and with noise"), ("inspect/windows.py", "registry hives")):
        with tempfile.NamedTemporaryFile("r") as report:
            text = run(sys.executable, os.path.join(TESTS, place), VMIMG_REPORT_BARS=report.name)
            runs = [line.rstrip("\n").split("\t") for line in report]
        codes = collections.Counter(int(code) for _, code, _, _ in runs)
        rows.append((name, lines_of(text)[0], len(runs), lines_of(text)[1], ", ".join(f"{c}: {n}" for c, n in sorted(codes.items())),
                     max((float(s) for _, _, s, _ in runs), default=0), f"{max((int(p) for *_, p in runs), default=0) >> 20} MiB"))
    table("Hostile bundles and volumes", ("inputs", "held", "commands", "broken promises", "exit code: times", "worst processor seconds",
                                          "worst memory"), rows)


# What the enumerators count states as, and the heads of their columns.
OUTCOMES = {"states": "states", "nothing": "no image", "old": "old", "between": "between the two", "mixed": "new sector by sector",
            "new": "new", "of undoing": "of undoing", "leaks": "of these with leaks", "bad": "wrong"}


def crashes():
    """Of every program tests/crash-NAME, whose lines are "# crash OPERATION: states 5, old 1 …"."""
    for program in sorted(glob.glob(os.path.join(BUILD, "tests", "crash-*"))):
        if not os.access(program, os.X_OK) or os.path.isdir(program):
            continue
        rows, seen = [], set()
        for operation, counts in re.findall(r"^# crash ([^:\n]+): (states .*)$", run(program), re.M):
            found = {word: int(number) for word, number in re.findall(r"([a-z][a-z ]*?) (\d+)", counts)}
            seen |= found.keys()
            rows.append((operation, found))
        heads = [word for word in OUTCOMES if word in seen]
        table(f"Crash states: {os.path.basename(program).removeprefix('crash-')}", ("operation", *map(OUTCOMES.get, heads)),
              [(operation, *(found.get(word, 0) for word in heads)) for operation, found in rows])


def fuzzing():
    """Of all rounds whose logs are there: the folder of tools/fuzz.sh."""
    folder, rows = os.environ.get("FUZZ") or os.path.join(SOURCE, "build-fuzz"), []
    for path in sorted(glob.glob(os.path.join(folder, "fuzzed", "*.log"))):
        with open(path, encoding="utf-8", errors="replace") as file:
            text = file.read()
        name = os.path.basename(path).removesuffix(".log")
        runs = sum(map(int, re.findall(r"number_of_executed_units:\s+(\d+)", text)))
        seconds = sum(map(int, re.findall(r"processor_seconds: (\d+)", text)))
        edges = max(map(int, re.findall(r"cov: (\d+)", text)), default=0)
        memory = max(map(int, re.findall(r"peak_rss_mb:\s+(\d+)", text)), default=0)
        found = {kind: len(glob.glob(os.path.join(folder, "found", f"{name}-{kind}-*")))
                 for kind in ("crash", "leak", "oom", "timeout")}
        found["undefined"] = len(set(re.findall(r"^(\S+): runtime error:", text, re.M)))
        rows.append((name, f"{seconds / 3600:.2f}", f"{runs:,}", f"{edges:,}", f"{memory} MiB",
                     ", ".join(f"{count} {kind}" for kind, count in found.items() if count) or "none"))
    table("Fuzzing", ("target", "processor hours", "executions", "edges", "peak memory, sanitizers included", "found"), rows)


def locks():
    rows = [(name, *lines_of(run(sys.executable, os.path.join(TESTS, "cli", f"{name}.py")))) for name in ("locks", "gate", "sandbox")]
    table("Locks, the gate, the sandbox", ("test", "held", "failed", "skipped"), rows)
    text, found = run(sys.executable, os.path.join(TESTS, "cli", "locks.py"), "every"), collections.defaultdict(dict)
    for line, fmt, what in re.findall(r"^(ok|not ok) \d+ - every_format: (\w+): (.*)$", text, re.M):
        found[what.split(" # SKIP")[0]][fmt] = "skipped" if "# SKIP" in what else {"ok": "held"}.get(line, "failed")
    formats = sorted({fmt for row in found.values() for fmt in row})
    table("Locks, both ways", ("", *formats), [(what, *(row.get(fmt, "") for fmt in formats)) for what, row in found.items()])


def processor_ms(*words):
    """Of one run: what a busy machine makes longer is not in it."""
    with subprocess.Popen(words, stdout=subprocess.DEVNULL) as child:
        _, status, usage = os.wait4(child.pid, 0)
        child.returncode = os.waitstatus_to_exitcode(status)
    if child.returncode:
        sys.exit(f"{' '.join(words)}: exit {child.returncode}")
    return (usage.ru_utime + usage.ru_stime) * 1000


def sandbox():
    """In turn, so that caches are warm for both."""
    times = {"": [], "--no-sandbox": []}
    with tempfile.TemporaryDirectory() as folder:
        image = os.path.join(folder, "disk.qcow2")
        program = os.path.join(BUILD, "vmimg")
        subprocess.run([program, "create", "-q", "-f", "qcow2", image, "1G"], check=True)
        for _ in range(RUNS):
            for option, found in times.items():
                found.append(processor_ms(program, "info", *([option] if option else []), image))
    medians = {option: statistics.median(found) for option, found in times.items()}
    cost = medians[""] - medians["--no-sandbox"]
    table("The sandbox's cost, in processor time", ("with, ms", "without, ms", "cost, ms", "aim, ms"),
          [(f"{medians['']:.1f}", f"{medians['--no-sandbox']:.1f}", f"{cost:.1f}", "< 5")])


def refusals():
    """Of the coverage build whose tests `make coverage` ran."""
    build = os.environ.get("COVERAGE") or os.path.join(SOURCE, "build-cov")
    if not os.path.exists(os.path.join(build, "build.ninja")):
        return
    text = run(sys.executable, os.path.join(SOURCE, "tools", "unreached.py"), build)
    found = re.search(r"^(\d+) refusals, (\d+) of them not reached", text, re.M)
    places = collections.Counter("/".join(line.split(":")[0].split("/")[1:3 if "/format/" in line else 2])
                                 for line in text.splitlines() if line.startswith("src/"))
    table("Refusals of the parsers", ("refusals", "met by a test", "not met"),
          [(found[1], int(found[1]) - int(found[2]), found[2] + (": " if places else "") +
            ", ".join(f"{place} {count}" for place, count in sorted(places.items())))])


def write(text):
    """Between these two lines of doc/testing.md."""
    begin, end = "<!-- tables: tools/testing-report.py --write -->\n", "<!-- end of the tables -->\n"
    path = os.path.join(SOURCE, "doc", "testing.md")
    with open(path, encoding="utf-8") as file:
        before, rest = file.read().split(begin)
    with open(path, "w", encoding="utf-8") as file:
        file.write(before + begin + text + "\n" + end + rest.split(end)[1])


def main():
    out = io.StringIO()
    with contextlib.redirect_stdout(out):
        for part in hostile, bundles_and_volumes, crashes, fuzzing, locks, sandbox, refusals:
            part()
    print(out.getvalue())
    if "--write" in sys.argv:
        write(out.getvalue())


if __name__ == "__main__":
    main()
