# SPDX-License-Identifier: Apache-2.0
"""
Recipes through every verb that changes an image in place: the bars of strangers' images hold here too, what is
refused is left as it was to the byte, and what is done leaves a sound image sound, with the content that it had
unless the verb is for changing it, and none where there was an error. Words on the command line choose formats.
"""

import glob
import os
import shlex
import shutil
import sys

from lib import env, harness, process
from lib.harness import check, equal
from lib.recipe import Recipe, fingerprint, try_change

VECTORS = os.path.join(env.SOURCE, "tests", "vectors")
PAGE = os.path.join(env.SOURCE, "README.md")
ENDS = {0, 1, 2, 4, 5, 6, 63}  # done, failed, corrupt, malformed, refused, over a limit, not supported
SOUND, DAMAGED = (0, 3), 2  # of check: nothing found, or only leaks; more than that
# Of each whether the guest sees the same afterwards.
CHANGES = {
    "resize @ +1M": False,
    "resize --shrink @ -64k": False,
    "snapshot -c name @": True,
    "snapshot -d 1 @": True,
    "snapshot -a 1 @": False,
    "bitmap --add @ name": True,
    "set @ uuid=11112222-3333-4444-5555-666677778888": True,
    "amend -o lazy_refcounts=on @": True,
    "commit @": True,
    "rebase -b '' @": True,
    "chain flatten @": True,
    "compact @": True,
    f"dd bs=512 seek=1 count=1 conv=notrunc if={shlex.quote(PAGE)} of=@": False,
    "convert --in-place -O raw @": True,
}


def state(image):
    """(exit code of check, digest or None)"""
    digest = process.vmimg("digest", "--json", "--max-virtual-size=1T", image)
    return process.vmimg("check", image).code, digest.json()["sha256"] if digest.code == 0 else None


def attempt(line, same, made, folder):
    shutil.rmtree(folder, ignore_errors=True)
    process.run("cp", "-a", "--sparse=always", made.folder, folder)
    image = os.path.join(folder, os.path.basename(made.image))
    if try_change(image, shlex.split(line), ENDS, made.files).code:
        return
    code, digest = state(image)
    if made.code in SOUND:
        check(code in SOUND or line.startswith("convert"), f"{line}: check says {code} where it said {made.code}")
    if same and made.digest:
        equal(digest, made.digest, f"{line}: the content")
    if same and made.code == DAMAGED and not made.digest:
        equal(digest, None, f"{line}: the content of an image that could not be read")


class Made:
    """A recipe's image, and what it is before any change."""

    def __init__(self, recipe, folder):
        os.mkdir(folder)
        self.folder, self.image = folder, recipe.assemble(folder)
        self.files = fingerprint(folder)
        self.code, self.digest = state(self.image)


def test_changes(t):
    words = [w for w in sys.argv[1:] if os.path.isdir(f"{VECTORS}/{w}")] or sorted(os.listdir(VECTORS))
    for fmt in words:
        for path in harness.part(sorted(glob.glob(f"{VECTORS}/{fmt}/*.vec")), every=4):
            recipe = Recipe(path)
            if any(need not in process.formats() for need in recipe.needs):
                continue
            with t.folder() as folder, t.sub(f"{fmt}/{recipe.name}"):
                made = Made(recipe, f"{folder}/made")
                for line, same in CHANGES.items():
                    attempt(line, same, made, f"{folder}/tried")


if __name__ == "__main__":
    sys.exit(harness.run([("changes", test_changes)]))
