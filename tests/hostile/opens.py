# SPDX-License-Identifier: Apache-2.0
"""
What is opened for an image that names other files: nothing outside its folder. Every tenth recipe, and
every one that is to be refused, by every verb, under strace; from the moment the image is open.
"""

import os
import re
import shutil

from lib import env, harness, process
from lib.harness import check, equal, skip
from lib.recipe import Recipe

VECTORS = os.path.join(env.SOURCE, "tests", "vectors")
# What the C library and the machine's own description are allowed to be.
SYSTEM = re.compile(r"^.*\.gcda$|^/(proc$|proc/sys/vm/overcommit_memory|proc/(self|\d+)/|sys/(fs/cgroup|devices/system/cpu)|usr/lib|lib|"
                    r"etc/(ld\.so|localtime|ssl/openssl\.cnf)|dev/urandom)")
# What each verb of `vmimg --help` is tried with, in this order: what changes the image comes last. "@": the image,
# "NEW…": what is not there yet. A verb that opens no image has an empty list, and says so.
VERBS = {
    "formats": [],
    "info": ["@", "--untrusted @", "--json --chain @"],
    "inspect": ["@"],
    "ls": ["@:/"],
    "cat": ["@:/etc/hostname"],
    "cp": ["@:/ NEW"],
    "iso": ["kernel @ NEW"],
    "check": ["@"],
    "map": ["--max-virtual-size=1T @", "--max-virtual-size=1T --chain @"],
    "digest": ["--max-virtual-size=1T @"],
    "compare": ["--max-virtual-size=1T @ @"],
    "measure": ["-O qcow2 @"],
    "convert": ["--max-virtual-size=1T -O raw @ NEW", "--max-virtual-size=1T --untrusted -O raw @ NEW"],
    "dd": ["bs=1M count=1 if=@ of=NEW"],
    "create": ["-f qcow2 -b @ -F FMT NEW"],
    "pack": ["-O ova -o NEW @"],
    "unpack": ["@ NEW"],
    "ovf": ["show @", "verify @"],
    "lint": ["--target ova-vmware @"],
    "boot-disk": ["--aki @ --ami @ NEW"],
    "split": ["@ --aki NEW1 --ari NEW2 --ami NEW3"],
    "repair": ["-o NEW @", "--in-place @"],
    "chain": ["show @", "flatten -o NEW @", "flatten @"],
    "bitmap": ["list @", "--add @ name", "--remove @ name"],
    "set": ["@"],
    "amend": ["-o lazy_refcounts=on @"],
    "commit": ["@"],
    "rebase": ["-b NONE @"],
    "compact": ["-o NEW @", "@"],
    "snapshot": ["-l @", "-c name @", "--external -c other @"],
    "resize": ["@ +1M"],
}


def sample():
    for folder in sorted(os.listdir(VECTORS)):
        names = sorted(n for n in os.listdir(os.path.join(VECTORS, folder)) if n.endswith(".vec")) \
            if os.path.isdir(os.path.join(VECTORS, folder)) else []
        for number, name in enumerate(names):
            recipe = Recipe(os.path.join(VECTORS, folder, name))
            # What not all verbs are for would keep some of them busy for hours (terabytes out of nothing).
            if (number % 10 == 0 or name.startswith("refused")) and not recipe.verbs:
                yield recipe


def calls(log):
    """(path, line) of every open that succeeded."""
    with open(log, encoding="utf-8", errors="replace") as file:
        for line in file:
            call = re.search(r'open(?:at2?)?\((?:[^"]*)"([^"]*)".*\) = \d+', line)
            if call:
                yield call[1], line


def seen(log, image):
    return any(path == image for path, _ in calls(log))


def opened(log, image):
    """Paths that were opened with success after the image."""
    begun = False
    for path, line in calls(log):
        if begun and "O_PATH" not in line:  # rules of Landlock name folders so
            yield path
        begun |= path == image


def verbs():
    """The verbs of this build: the lines of --help that are indented by two."""
    return re.findall(r"^  ([a-z][a-z0-9-]*) ", process.vmimg_ok("--help").text, re.M)


def commands(image, folder):
    """(what to call it, arguments) of all rows."""
    for verb, rows in VERBS.items():
        for row in rows if verb in verbs() else ():
            words = [re.sub("^@|(?<==)@", lambda _: image, word) for word in row.split()]
            words = [re.sub("NEW", f"{folder}/new", word) for word in words]
            words = [{"NONE": "", "FMT": os.path.basename(image).split(".")[-1]}.get(word, word) for word in words]
            yield f"{verb} {row}", [verb, *words]


def clean(folder):
    """Removes what a command has made outside the image's folder."""
    for name in os.listdir(folder):
        if name.startswith("new"):
            path = os.path.join(folder, name)
            shutil.rmtree(path) if os.path.isdir(path) else os.unlink(path)


def test_every_verb(_):
    """A new verb has a row."""
    check(len(verbs()) > 20, f"only {verbs()}")
    equal([verb for verb in verbs() if verb not in VERBS], [], "verbs without a row")


def test_opens(t):
    harness.need("strace")
    if process.run("strace", "-o", "/dev/null", "true").code:
        skip("strace may not trace here")
    for recipe in sample():
        if any(fmt not in process.formats() for fmt in recipe.needs):
            continue
        with t.sub(os.path.basename(os.path.dirname(recipe.path)) + " " + recipe.name), t.folder() as folder:
            os.mkdir(f"{folder}/in")
            image, log, looked = recipe.assemble(f"{folder}/in"), f"{folder}/log", 0
            for name, args in commands(image, folder):
                result = process.run("strace", "-f", "-o", log, "-e", "trace=open,openat,openat2", env.VMIMG, *args,
                                     extra_env={"ASAN_OPTIONS": "detect_leaks=0"})
                check("usage: vmimg" not in result.errors and "--help" not in result.errors, f"{name}: {result}")
                clean(folder)
                paths = list(opened(log, image))
                looked += seen(log, image)
                others = [path for path in paths if path.startswith("/") and not SYSTEM.match(path)
                          and not (path + "/").startswith(folder + "/") and path != "/tmp"]
                check(not others, f"{name} opened {others}")
                check(not any("passwd" in path or ".." in path.split("/") for path in paths), f"{name} opened {paths}")
            check(looked > 20, f"only {looked} commands opened the image")


if __name__ == "__main__":
    harness.main()
