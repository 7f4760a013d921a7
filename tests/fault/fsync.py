# SPDX-License-Identifier: Apache-2.0
"""
Flushes that fail, each in turn, in everything that writes. Such an error is final: after it the kernel may have
forgotten what it could not write, so that another flush would succeed. The command fails with one line; a new file
does not get its name; an image that was changed in place is the old one or the new one, at worst with leaks; what
undoes a repair stays.
"""

import os
import re
import shutil

from lib import disks, env, harness, process, recipe
from lib.harness import check, equal, need, skip

MIB = 1 << 20
CALLS = "fsync,fdatasync,sync_file_range"
MOST = 60  # flushes of one command
# LeakSanitizer cannot work in a process that is being traced.
NO_LEAK_CHECK = {"ASAN_OPTIONS": os.environ.get("ASAN_OPTIONS", "") + ":detect_leaks=0"}


def traced(when, *args, fault="EIO"):
    """vmimg with the when-th flush failing. (result, whether one did)"""
    with harness.scratch() as log:
        result = process.run("strace", "-f", "-qq", "-o", log, "-e", f"trace={CALLS}", "-e",
                             f"inject={CALLS}:error={fault}:when={when}", env.VMIMG, *args, extra_env=NO_LEAK_CHECK)
        with open(log, encoding="utf-8", errors="replace") as file:
            return result, "(INJECTED)" in file.read()


def may_trace():
    need("strace")
    if process.run("strace", "-o", "/dev/null", "true").code:
        skip("strace may not trace here")


def failures(args, restore, least=1, code=0):
    """Yields after each failed flush, with everything as before the command; ends when it gets through."""
    for when in range(1, MOST):
        restore()
        result, failed = traced(when, *args)
        if not failed:
            equal(result.code, code, f"exit code without a failure ({result})")
            check(when > least, f"only {when - 1} flushes")
            return
        equal(result.code, 1, f"exit code, flush {when} ({result})")
        process.check_one_line(result)
        yield when
    check(False, f"more than {MOST} flushes")


# ---- new files ----------------------------------------------------------------------


def tree(folder):
    return sorted(os.path.relpath(os.path.join(place, name), folder) for place, folders, names in os.walk(folder)
                  for name in [*folders, *names])


def test_new_files(t):
    may_trace()
    raw = disks.pattern(t.path("disk.raw"), 4 * MIB, seed=60)
    process.vmimg_ok("pack", "-O", "ova", "-o", t.path("disk.ova"), raw)
    image = recipe.Recipe(f"{env.SOURCE}/tests/vectors/qcow2/damaged-l2-entry-past-end.vec").assemble(t.tmp)
    commands = [["convert", "-O", fmt, *options, raw, "NEW"] for fmt in process.formats(writable=True)
                for options in ([], *{"vmdk": [["-o", "subformat=monolithicFlat"]], "qcow2": [["-c"]]}.get(fmt, []))]
    commands += [["create", "-q", "-f", fmt, "NEW", "4M"] for fmt in process.formats(writable=True)]
    commands += [["pack", "-O", "ova", "-o", "NEW", raw], ["unpack", t.path("disk.ova"), "NEW"],
                 ["repair", "-q", "-o", "NEW", image], ["compact", "-o", "NEW", t.path("disk.qcow2")],
                 ["chain", "flatten", "-o", "NEW", t.path("disk.qcow2")], ["iso", "create", "-o", "NEW", t.path("tree")],
                 ["dd", "-O", "qcow2", f"if={raw}", "of=NEW"]]
    process.vmimg_ok("convert", "-O", "qcow2", raw, t.path("disk.qcow2"))
    os.mkdir(t.path("tree"))
    os.mkdir(t.path("out"))
    verbs = process.vmimg_ok("--help").text
    for words in commands:
        if f"\n  {words[0]} " not in verbs:
            continue
        with t.sub(" ".join(os.path.basename(word) for word in words)):
            args = [word.replace("NEW", t.path("out/new")) for word in words]

            def restore():
                shutil.rmtree(t.path("out"))
                os.mkdir(t.path("out"))
            for when in failures(args, restore, code=2 if words[0] == "repair" else 0):  # 2: not all was kept
                equal(tree(t.path("out")), [], f"what is left, flush {when}")


# ---- changes in place ---------------------------------------------------------------


def state(image):
    """What check and the guest see: the same bytes with leaks are the same."""
    found = process.vmimg("check", "-q", image)
    check(found.code in (0, 3, 63), f"check: {found}")
    return process.vmimg_ok("info", "--json", image).json()["virtual-size"], process.guest_sha256(image)


def change(t, fmt, base, words, least=1):
    """Every flush of one command on copies of the files in base fails in turn."""
    with t.sub(f"{fmt}: {' '.join(words)}"), t.folder() as folder:
        work, image = f"{folder}/work", f"{folder}/work/image.{fmt}"
        args = [word.replace("@", image) for word in words]

        def restore():
            shutil.rmtree(work, ignore_errors=True)
            shutil.copytree(base, work, copy_function=disks.copy)
        restore()
        old = state(image)
        result = process.vmimg(*args)
        if result.code == 4 and re.search(" has no ", result.errors):
            skip(result.errors.strip().rsplit(": ", 1)[-1])
        equal(result.code, 0, f"exit code ({result})")
        allowed = (old, state(image))
        for when in failures(args, restore, least):
            found = state(image)
            check(found in allowed, f"flush {when}: {found}, not one of {allowed}")


def made(t, fmt):
    """A folder with an image, and a child of it where there are children."""
    folder = t.path(f"base-{fmt}")
    os.mkdir(folder)
    raw = disks.pattern(t.path("disk.raw"), 4 * MIB, seed=61, data=MIB)
    process.vmimg_ok("convert", "-O", fmt, raw, f"{folder}/below.{fmt}")
    disks.copy(f"{folder}/below.{fmt}", f"{folder}/image.{fmt}")
    disks.copy(f"{folder}/below.{fmt}", f"{folder}/old.{fmt}")
    return folder


CHANGES = {
    "qcow2": [["resize", "-q", "@", "+8M"], ["resize", "-q", "--shrink", "@", "2M"], ["snapshot", "-c", "name", "@"],
              ["amend", "-o", "lazy_refcounts=on", "@"], ["bitmap", "--add", "@", "name"],
              ["snapshot", "--external", "-c", "name", "@"], ["compact", "-q", "@"]],
    "vmdk": [["resize", "-q", "@", "+8M"], ["compact", "-q", "@"], ["set", "-q", "@", "adapter=lsilogic"]],
    "vhd": [["resize", "-q", "@", "+8M"], ["compact", "-q", "@"], ["snapshot", "-c", "name", "@"],
            ["set", "-q", "@", "creator=test"]],
    "vhdx": [["resize", "-q", "@", "+8M"], ["compact", "-q", "@"], ["snapshot", "-c", "name", "@"]],
    "vdi": [["resize", "-q", "@", "+8M"], ["compact", "-q", "@"], ["snapshot", "-c", "name", "@"],
            ["set", "-q", "@", "geometry=auto"]],
    "raw": [["resize", "-q", "@", "+8M"], ["convert", "--in-place", "-O", "vhd", "@"]],
}


def test_changes(t):
    may_trace()
    for fmt, rows in CHANGES.items():
        if fmt in process.formats(writable=True):
            base = made(t, fmt)
            for words in rows:
                change(t, fmt, base, words)


def test_snapshots(t):
    """Of the three in one image, one is applied and one deleted."""
    may_trace()
    base = made(t, "qcow2")
    process.vmimg_ok("snapshot", "-c", "one", f"{base}/image.qcow2")
    for words in ["snapshot", "-a", "one", "@"], ["snapshot", "-d", "one", "@"]:
        change(t, "qcow2", base, words)


def test_chains(t):
    """The layer above and its parent are both looked at: commit writes the one and empties the other."""
    may_trace()
    for fmt in "qcow2", "vhd", "vdi", "vhdx":
        if fmt not in process.formats(writable=True):
            continue
        base = made(t, fmt)
        os.unlink(f"{base}/image.{fmt}")
        new = disks.pattern(t.path("new.raw"), 4 * MIB, seed=62, data=MIB)
        process.vmimg_ok("convert", "-O", fmt, "-B", f"below.{fmt}", "-F", fmt, new, f"{base}/image.{fmt}")
        rows = [["commit", "-q", "@"], ["commit", "-q", "-d", "@"], ["chain", "flatten", "@"]]
        if fmt == "qcow2":
            rows.append(["rebase", "-b", f"old.{fmt}", "-F", fmt, "@"])
        for words in rows:
            change(t, fmt, base, words)


# ---- repair in place ----------------------------------------------------------------


def content(path):
    with open(path, "rb") as file:
        return file.read()


def test_repair_in_place(t):
    """Old, new, or with the file that takes it back to the old: which the next repair does."""
    may_trace()
    for victim in "qcow2/damaged-l2-entry-past-end", "vhd/damaged-bat-past-end", "vdi/damaged-map-past-end":
        with t.sub(victim), t.folder() as folder:
            image = recipe.Recipe(f"{env.SOURCE}/tests/vectors/{victim}.vec").assemble(folder)
            undo, old, kept = image + ".vmimg-undo", content(image), 0
            code = process.vmimg("repair", "-q", "--in-place", image).code
            new = content(image)
            check(code in (0, 2) and new != old, "it cannot be repaired")
            for when in range(1, MOST):
                with open(image, "wb") as file:
                    file.write(old)
                result, failed = traced(when, "repair", "-q", "--in-place", image)
                if not failed:
                    break
                equal(result.code, 1, f"exit code, flush {when} ({result})")
                process.check_one_line(result)
                kept += os.path.exists(undo)
                check(os.path.exists(undo) or content(image) in (old, new), f"flush {when}: neither old nor new")
                check(process.vmimg("repair", "-q", "--in-place", image).code in (0, 2), "the next repair")
                check(not os.path.exists(undo) and content(image) == new, f"the next repair after flush {when}")
            check(when > 3 and kept, f"{when - 1} flushes, the undo file kept after {kept}")


def test_early_write_back(t):
    """A write-back that was begun early and failed is the same as a flush that failed."""
    may_trace()
    raw = disks.pattern(t.path("disk.raw"), 24 * MIB, seed=63, data=24 * MIB)
    with harness.scratch() as log:
        result = process.run("strace", "-f", "-qq", "-o", log, "-e", "trace=sync_file_range", "-e",
                             "inject=sync_file_range:error=EIO:when=1", env.VMIMG, "convert", "--threads=1", "-O",
                             "raw", raw, t.path("out"), extra_env=NO_LEAK_CHECK)
        check("(INJECTED)" in content(log).decode(), "no early write-back")
    equal(result.code, 1, str(result))
    process.check_one_line(result)
    check(not os.path.exists(t.path("out")), "an output was left")


if __name__ == "__main__":
    harness.main()
