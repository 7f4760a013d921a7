# SPDX-License-Identifier: Apache-2.0
"""
Runs the recipes (tests/lib/recipe.py) of the folders named on the command line: every image is given
to every verb that only reads, and to convert, then to the commands that a recipe names, and each must keep the promises made
to those who open strangers' images: the expected exit code, no signal, bounded time and memory, the input
unchanged, nothing left behind, one line for an error, and nothing unescaped on the terminal.
"""

import os
import re
import shutil
import sys
import tempfile

from lib import harness, process
from lib.harness import check
from lib.recipe import Recipe, fingerprint, try_change

HERE = os.path.dirname(os.path.abspath(__file__))
# What any verb may answer when the recipe says nothing: done, failed, corrupt, malformed, refused,
# over a limit, not supported.
ANY = {0, 1, 2, 3, 4, 5, 6, 63}
FINDINGS = {"check": {2, 3}, "compare": {1}}  # exit codes that are answers, not errors


def commands(image, output):
    return {
        "info": ["info", "--json", image],
        "check": ["check", image],
        "map": ["map", "--json", image],
        "digest": ["digest", image],
        "compare": ["compare", image, image],
        "convert": ["convert", "-O", "raw", image, output],
        # no verdict is stated for these, but the promises hold
        "measure": ["measure", "-O", "qcow2", image],
        "snapshot": ["snapshot", "-l", image],
        "bitmap": ["bitmap", "list", image],
        "inspect": ["inspect", "--json", image],
        "ls": ["ls", image + ":/"],
        "untrusted": ["info", "--json", "--untrusted", image],
    }


def try_verb(recipe, verb, words, before, folder):
    """One command on one image. Returns the result."""
    options = recipe.options.get("all", []) + recipe.options.get(verb, [])
    result = process.vmimg(words[0], *options, *words[1:], timeout=20)
    tally(recipe, verb, result)
    what = f"{verb} (exit {result.code})"
    process.check_bars(result, what)
    wanted = recipe.expect.get(verb, ANY)
    check(result.code in wanted, f"{what}: want {sorted(wanted)}: {result.errors.strip()}")
    if result.code and result.code not in FINDINGS.get(verb, ()):
        process.check_one_line(result, what)
    after = fingerprint(folder)
    if verb == "convert" and result.code == 0:
        check(after.pop("out.raw", None), f"{what}: no output")
        os.unlink(os.path.join(folder, "out.raw"))
    check(after == before, f"{what}: files changed: {sorted(after)} from {sorted(before)}")
    return result


def tally(recipe, verb, result):
    """One line for each command in the file that VMIMG_REPORT names: tools/testing-report.py."""
    path = os.environ.get("VMIMG_REPORT")
    if path:
        with open(path, "a", encoding="utf-8") as file:
            file.write(f"{os.path.basename(os.path.dirname(recipe.path))}\t{recipe.name}\t{verb}\t{result.code}\t"
                       f"{result.cpu:.3f}\t{result.peak}\n")


def run_recipe(test, path):
    recipe = Recipe(path)
    for fmt in recipe.needs:
        if fmt not in process.formats():
            harness.skip(f"this build has no {fmt}")
    folder = tempfile.mkdtemp(dir=test.tmp)
    image = recipe.assemble(folder)
    before = fingerprint(folder)
    said = ""
    for verb, words in commands(image, os.path.join(folder, "out.raw")).items():
        if recipe.verbs and verb not in recipe.verbs:
            continue
        result = try_verb(recipe, verb, words, before, folder)
        said += result.errors + (result.text if verb == "check" else "")
        for key, value in recipe.shows.items() if verb == "info" else ():
            harness.equal(str(result.json().get(key)), value, f"info: {key}")
    for code, words in recipe.then:
        said += try_change(image, words, {code}, fingerprint(folder)).errors
    for message in recipe.messages:
        check(re.search(message, said), f"nothing says {message!r}: {said.strip()!r}")
    shutil.rmtree(folder)


def run_folder(fmt):
    """A test of all recipes of one format's folder."""
    def test(t):
        known = process.formats() + ["probe"]
        if fmt not in known:
            harness.skip(f"this build has no {fmt}")
        paths = sorted(os.listdir(os.path.join(HERE, fmt)))
        for path in paths:
            if path.endswith(".vec"):
                with t.sub(path.removesuffix(".vec")):
                    run_recipe(t, os.path.join(HERE, fmt, path))
    return fmt, test


if __name__ == "__main__":
    sys.exit(harness.run([run_folder(fmt) for fmt in sys.argv[1:]]))
