# SPDX-License-Identifier: Apache-2.0
"""
What is opened for an image that names other files: nothing outside its folder. Every tenth recipe, and
every one that is to be refused, under strace; from the moment the image is open.
"""

import os
import re

from lib import env, harness, process
from lib.harness import check, skip
from lib.recipe import Recipe

VECTORS = os.path.join(env.SOURCE, "tests", "vectors")
# What the C library and the machine's own description are allowed to be.
SYSTEM = re.compile(r"^/(proc$|proc/sys/vm/overcommit_memory|proc/(self|\d+)/|sys/(fs/cgroup|devices/system/cpu)|usr/lib|lib|"
                    r"etc/(ld\.so|localtime|ssl/openssl\.cnf)|dev/urandom)")
# "@": the image, "NEW": a file that is not there. What changes the image comes last.
VERBS = [["info", "@"], ["check", "@"], ["map", "@"], ["digest", "@"], ["compare", "@", "@"], ["inspect", "@"],
         ["convert", "-O", "raw", "@", "NEW"], ["measure", "-O", "qcow2", "@"], ["chain", "show", "@"], ["set", "@"],
         ["info", "--untrusted", "@"], ["convert", "--untrusted", "-O", "raw", "@", "NEW"], ["repair", "-o", "NEW", "@"],
         ["compact", "-o", "NEW", "@"], ["chain", "flatten", "@"], ["commit", "@"], ["rebase", "-b", "", "@"], ["compact", "@"],
         ["snapshot", "-c", "name", "@"], ["resize", "@", "+1M"]]


def sample():
    for folder in sorted(os.listdir(VECTORS)):
        names = sorted(n for n in os.listdir(os.path.join(VECTORS, folder)) if n.endswith(".vec")) \
            if os.path.isdir(os.path.join(VECTORS, folder)) else []
        for number, name in enumerate(names):
            if number % 10 == 0 or name.startswith("refused"):
                yield Recipe(os.path.join(VECTORS, folder, name))


def opened(log, image):
    """Paths that were opened with success after the image."""
    seen = False
    with open(log, encoding="utf-8", errors="replace") as file:
        for line in file:
            call = re.search(r'open(?:at2?)?\((?:[^"]*)"([^"]*)".*\) = \d+', line)
            if call and seen and "O_PATH" not in line:  # rules of Landlock name folders so
                yield call[1]
            seen |= bool(call and call[1] == image)


def test_opens(t):
    harness.need("strace")
    if process.run("strace", "-o", "/dev/null", "true").code:
        skip("strace may not trace here")
    for recipe in sample():
        if any(fmt not in process.formats() for fmt in recipe.needs):
            continue
        with t.sub(os.path.basename(os.path.dirname(recipe.path)) + " " + recipe.name), t.folder() as folder:
            os.mkdir(f"{folder}/in")
            image, log = recipe.assemble(f"{folder}/in"), f"{folder}/log"
            for words in VERBS:
                verb = " ".join(words)
                args = [{"@": image, "NEW": f"{folder}/out"}.get(word, word) for word in words]
                process.run("strace", "-f", "-o", log, "-e", "trace=open,openat,openat2", env.VMIMG, *args,
                            extra_env={"ASAN_OPTIONS": "detect_leaks=0"})
                if os.path.exists(f"{folder}/out"):
                    os.unlink(f"{folder}/out")
                others = [path for path in opened(log, image) if path.startswith("/") and not SYSTEM.match(path)
                          and not (path + "/").startswith(folder + "/") and path != "/tmp"]
                check(not others, f"{verb} opened {others}")
                check(not any("passwd" in path or ".." in path.split("/") for path in opened(log, image)),
                      f"{verb} opened {list(opened(log, image))}")


if __name__ == "__main__":
    harness.main()
