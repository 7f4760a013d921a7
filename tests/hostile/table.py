# SPDX-License-Identifier: Apache-2.0
"""table.tsv: every hostile input that has to be held has its recipe or test, with the verdict that is wanted."""

import os

from lib import env, harness
from lib.harness import check
from lib.recipe import Recipe

HERE = os.path.join(env.SOURCE, "tests")
VERBS = ("info", "check", "convert")


def rows():
    with open(os.path.join(HERE, "hostile", "table.tsv"), encoding="utf-8") as file:
        for line in file:
            if not line.startswith("#"):
                name, codes, held = line.rstrip("\n").split("\t")
                yield name, dict(zip(VERBS, codes.split())), held


def held_by_recipe(place, codes):
    path = os.path.join(HERE, "vectors", place + ".vec")
    check(os.path.exists(path), f"no recipe {place}")
    recipe = Recipe(path)
    for verb, code in codes.items():
        wanted = recipe.expect.get(verb, set())
        check(code == "-" or (wanted and int(code) in wanted), f"{place}: {verb} expects {sorted(wanted)}, wanted is {code}")


def held_by_test(place, words):
    with open(os.path.join(HERE, place), encoding="utf-8") as file:
        check(words in file.read(), f"{place} has no {words!r}")
    with open(os.path.join(HERE, "meson.build"), encoding="utf-8") as file:
        check(f"'{place}'" in file.read(), f"{place} is not run")


def test_table(t):
    count = 0
    for name, codes, held in rows():
        with t.sub(name):
            if ".py:" in held:
                held_by_test(*held.split(":", 1))
            else:
                for place in held.split():
                    held_by_recipe(place, codes)
        count += 1
    check(count > 80, f"only {count} rows")


if __name__ == "__main__":
    harness.main()
