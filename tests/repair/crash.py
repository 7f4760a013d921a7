# SPDX-License-Identifier: Apache-2.0
"""Repair in place that is cut off: killed or out of space at every write, it leaves the old image or
the new one, once the next repair has looked at its undo file."""

import ctypes
import os

from lib import env, harness, process, recipe
from lib.harness import check, equal, need, skip

VICTIMS = ("qcow2/damaged-l2-entry-past-end", "vhd/damaged-bat-past-end", "vdi/damaged-map-past-end",
           "vmdk/recovered-directory-entry", "vmdk/bad-footer-cut", "vhdx/damaged-bat-past-end", "vhdx/good-log-data")
NO_LEAK_CHECK = {"ASAN_OPTIONS": os.environ.get("ASAN_OPTIONS", "") + ":detect_leaks=0"}


def content(path):
    with open(path, "rb") as file:
        return file.read()


def traced(inject, image):
    return process.run("strace", "-f", "-qq", "-o", "/dev/null", "-e", "trace=pwrite64", "-e",
                       f"inject=pwrite64:{inject}", env.VMIMG, "repair", "-q", "--no-sandbox",
                       "--in-place", image, extra_env=NO_LEAK_CHECK)


def cut_off(victim, folder, how):
    """Every write in turn fails or kills, until one repair gets through."""
    image = recipe.Recipe(f"{env.SOURCE}/tests/vectors/{victim}.vec").assemble(folder)
    undo, old = image + ".vmimg-undo", content(image)
    check(process.vmimg("repair", "-q", "--in-place", image).code in (0, 2), "it cannot be repaired")
    new = content(image)
    check(new != old, "there was nothing to repair")
    for when in range(1, 100):
        with open(image, "wb") as file:
            file.write(old)
        result = traced(f"{how}:when={when}", image)
        if result.code in (0, 2) and not os.path.exists(undo):
            check(when > 3, "too few writes to have been journalled")
            equal(content(image), new, "the image after a repair that got through")
            return
        if not os.path.exists(undo):
            equal(content(image), old, f"the image, write {when}")
        check(process.vmimg("repair", "-q", "--in-place", image).code in (0, 2), "the next repair")
        check(not os.path.exists(undo), "the undo file stayed")
        equal(content(image), new, f"the image after the next repair, write {when}")
    check(False, "it never got through")


def test_cut_off(t):
    need("strace")
    if process.run("strace", "-o", "/dev/null", "true").code:
        skip("strace may not trace here")
    for victim in VICTIMS:
        for how in ("error=ENOSPC", "signal=KILL"):
            with t.sub(f"{victim}, {how}"), t.folder() as folder:
                cut_off(victim, folder, how)


def library_reads(path, size):
    """The file's bytes by the public functions, as a raw disk."""
    library = ctypes.CDLL(f"{env.BUILD}/src/libvmimg.so")
    for maker in library.vmimg_io_open_file, library.vmimg_disk_open:
        maker.restype = ctypes.c_void_p
    err = ctypes.create_string_buffer(512)
    raw = (ctypes.c_char_p * 16)(b"raw")  # struct vmimg_open: the format comes first
    io = ctypes.c_void_p(library.vmimg_io_open_file(path.encode(), err))
    disk = ctypes.c_void_p(library.vmimg_disk_open(io, raw, err))
    buf = ctypes.create_string_buffer(size)
    equal(library.vmimg_disk_pread(disk, buf, ctypes.c_size_t(size), ctypes.c_uint64(0), err), 0, err.raw[8:])
    library.vmimg_disk_close(disk)
    library.vmimg_io_close(io)
    return buf.raw


def readers(t, image):
    """One command of every verb that reads disks."""
    inside, out = image + ":/", t.path("out")
    return (["check", image], ["map", image], ["digest", image], ["digest", t.path("child.qcow2")],
            ["compare", image, os.devnull], ["measure", image], ["snapshot", "list", image], ["bitmap", "list", image],
            ["set", image], ["inspect", image], ["chain", "show", image], ["ls", inside], ["cat", inside + "a"],
            ["cp", inside, out], ["iso", "kernel", image, out], ["unpack", "--kernel", image, out],
            ["convert", "-O", "raw", image, out], ["pack", "-O", "ova", "-o", out, image],
            ["split", image, "--aki", out, "--ari", out + "2", "--ami", out + "3"], ["compact", "-o", out, image],
            ["chain", "flatten", "-o", out, image], ["repair", "-o", out, image])


def test_others_notice(t):
    """What a repair that was cut off has left: those who read say so, those who change refuse."""
    need("strace")
    if process.run("strace", "-o", "/dev/null", "true").code:
        skip("strace may not trace here")
    image = recipe.Recipe(f"{env.SOURCE}/tests/vectors/{VICTIMS[0]}.vec").assemble(t.tmp)
    base = os.path.basename(image)
    process.vmimg_ok("create", "-q", "-f", "qcow2", "-b", base, "-F", "qcow2", t.path("child.qcow2"))
    traced("signal=KILL:when=60", image)
    check(os.path.exists(image + ".vmimg-undo"), "no undo file")
    for words in readers(t, image):
        with t.sub(" ".join(words).replace(t.tmp + "/", "")):
            errors = process.vmimg(*words).errors
            equal(errors.count("a change of it in place was cut off"), 1, f"warnings in {errors!r}")
    for words in ["check", image], ["map", image], ["digest", image]:
        check("cut off" not in process.vmimg(words[0], "-q", *words[1:]).errors, "a warning with -q")
    with t.sub("chain show"):
        equal(process.vmimg("chain", "show", "--json", image).text.count("cut off"), 1, "in the report")
    with t.sub("info"):
        report = process.vmimg_ok("info", "--json", image).json()
        check(any("cut off" in text for text in report["warnings"]) and not report["safe"], report)
    old = content(image)
    for words in ["resize", image, "80M"], ["snapshot", "-c", "x", image], ["set", image, "lazy_refcounts=on"], \
            ["commit", t.path("child.qcow2")]:
        with t.sub(words[0]):
            result = process.vmimg(*words)
            equal(result.code, 4, f"exit code ({result})")
            check("repair --in-place first" in result.errors, result.errors)
            equal(content(image), old, "the image")
    with t.sub("repair"):
        check(process.vmimg("repair", "-q", "--in-place", image).code in (0, 2), "repair")
        check("cut off" not in process.vmimg("check", image).errors, "a warning about nothing")
    with t.sub("check -q says nothing of it, and finds what was there before"):
        recipe.Recipe(f"{env.SOURCE}/tests/vectors/{VICTIMS[0]}.vec").assemble(t.tmp)
        before = process.vmimg("check", "-q", "--json", image).json()
        traced("signal=KILL:when=60", image)
        equal(process.vmimg("check", "-q", "--json", image).json(), before, "check, undone in memory")
        planned = process.vmimg("repair", "-q", "--json", "--in-place", "-n", image).json()
        equal((planned["mode"], planned["rolled-back"]), ("dry-run", True), "a dry run")
        check(os.path.exists(image + ".vmimg-undo"), "the dry run removed the undo file")
    with t.sub("a program that uses the library"):
        with t.folder() as folder:
            sound = content(recipe.Recipe(f"{env.SOURCE}/tests/vectors/{VICTIMS[0]}.vec").assemble(folder))
        check(content(image) != sound, "nothing was changed")
        equal(library_reads(image, len(sound)), sound, "the file, undone in memory")


def test_copied(t):
    """An undo file that was made for another inode: a copy of both, or an image put in the old one's place."""
    need("strace")
    if process.run("strace", "-o", "/dev/null", "true").code:
        skip("strace may not trace here")
    image = recipe.Recipe(f"{env.SOURCE}/tests/vectors/{VICTIMS[0]}.vec").assemble(t.tmp)
    undo, old = image + ".vmimg-undo", content(image)
    traced("signal=KILL:when=60", image)
    os.rename(image, t.path("copy"))
    with open(image, "wb") as file:
        file.write(content(t.path("copy")))
    for words in ["check", image], ["digest", image], ["convert", "-O", "raw", image, t.path("out")], \
            ["repair", "--in-place", image], ["repair", "--in-place", "-n", image]:
        with t.sub(" ".join(words[:1])):
            result = process.vmimg(*words)
            equal(result.code, 5, str(result))
            check("made for another file" in result.errors, result.errors)
    report = process.vmimg_ok("info", "--json", image)
    check("made for another file" in str(report.json()["warnings"]) and not report.json()["safe"], str(report))
    check(process.vmimg("repair", "-q", "--in-place", "--force", image).code in (0, 2), "it goes back all the same")
    check(not os.path.exists(undo) and content(image) != old, "it is repaired")
    with t.sub("not for these eyes"), t.folder() as folder:
        other = recipe.Recipe(f"{env.SOURCE}/tests/vectors/{VICTIMS[0]}.vec").assemble(folder)
        os.symlink("elsewhere", other + ".vmimg-undo")
        equal(process.vmimg("digest", other).code, 1, "an undo file that cannot be opened")


if __name__ == "__main__":
    harness.main()
