# SPDX-License-Identifier: Apache-2.0
"""Commit and rebase that are cut off: kills and full disks at every call that changes a file."""

import os
import shutil

from chains import FEW, PAIRS, chains, sound
from lib import env, harness
from lib.harness import check, equal
from lib.process import run, vmimg_ok

CALLS = ["pwrite64", "ftruncate", "fallocate", "fsync", "fdatasync", "renameat2", "linkat", "unlinkat"]


def states(chain, action, *words):
    """A copy of the folder as it is after a kill, and after a full disk, at calls that change it; then after none."""
    for how in ("signal=KILL", "error=ENOSPC"):
        for call in CALLS:
            number = 1
            while number < 4000:
                folder = chain.folder + ".copy"
                shutil.rmtree(folder, ignore_errors=True)
                shutil.copytree(chain.folder, folder)
                result = run("strace", "-f", "-qq", "-o", "/dev/null", "-e", f"trace={call}", "-e",
                             f"inject={call}:{how}:when={number}", env.VMIMG, action, "--threads=1", *words,
                             f"{folder}/{os.path.basename(chain.top)}")
                yield f"{how} at {call} {number}", folder, result
                if result.code == 0:
                    break
                number += 1 if number < 6 else number // 3  # the first ones each, then a sample
        shutil.rmtree(folder, ignore_errors=True)


def crash(chain, action, *words):
    """Whatever call is the last one: the guest sees the same, and nothing is worse than leaked."""
    harness.need("strace")
    with chain_copy(chain) as probe:
        vmimg_ok(action, *words, probe)
    for what, folder, result in states(chain, action, *words):
        check(result.code in (0, 1, -9, 137), f"{what}: {result}")
        top = f"{folder}/{os.path.basename(chain.top)}"
        sound(top, f"{folder}/{os.path.basename(chain.base)}")
        equal(vmimg_ok("digest", top).text.split()[0], chain.digests[2], what)


class chain_copy:
    """The top of a copy of a chain, for a trial."""

    def __init__(self, chain):
        self.folder = chain.folder + ".trial"
        self.top = f"{self.folder}/{os.path.basename(chain.top)}"
        shutil.copytree(chain.folder, self.folder)

    def __enter__(self):
        return self.top

    def __exit__(self, *_):
        shutil.rmtree(self.folder, ignore_errors=True)


@chains(seed=8, pairs=PAIRS[:1] + FEW)
def test_commit(t, chain):
    crash(chain, "commit")


@chains(seed=8, pairs=PAIRS[:1] + FEW)
def test_flatten(t, chain):
    crash(chain, "rebase", "-b", "")


if __name__ == "__main__":
    harness.main()
