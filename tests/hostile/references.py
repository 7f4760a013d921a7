# SPDX-License-Identifier: Apache-2.0
"""What an image may name that is no image: folders, pipes, sockets, links out of its folder; and chains and searches without end."""

import os
import socket

from lib import harness, process
from lib.harness import check, equal
from lib.process import vmimg, vmimg_ok

VERBS = (["digest"], ["convert", "-O", "raw"], ["measure", "-O", "qcow2"], ["inspect"], ["check", "--refs=beside"])


def refused(t, image, said, code=5):
    """By every verb that would follow it, at once; and by none that looks at the image alone."""
    for words in VERBS:
        with t.sub(f"{os.path.basename(image)}: {words[0]}"):
            out = [t.path("out")] if words[0] == "convert" else []
            result = vmimg(*words, image, *out, timeout=5)
            equal(result.code, code, str(result))
            check(said in result.errors, str(result))
            process.check_one_line(result, words[0])
            check(not os.path.exists(t.path("out")), "an output was left")
    for verb in "info", "check", "map":
        equal(vmimg(verb, image, timeout=5).code, 0, verb)


def over(t, name, backing, fmt="raw"):
    """A QCOW2 whose backing file is said to have that name, which is not looked for."""
    vmimg_ok("create", "-q", "--force", "-u", "-f", "qcow2", "-b", backing, "-F", fmt, t.path(name), "1M")
    return t.path(name)


def test_kinds(t):
    os.mkfifo(t.path("fifo"))
    os.mkdir(t.path("folder"))
    with socket.socket(socket.AF_UNIX) as sock:
        sock.bind(t.path("socket"))
        refused(t, over(t, "over-fifo.qcow2", "fifo"), "not a regular file")
        refused(t, over(t, "over-folder.qcow2", "folder"), "not a regular file")
        refused(t, over(t, "over-itself.qcow2", "."), "")
        image = over(t, "over-socket.qcow2", "socket")
        for words in VERBS[:1]:
            check(vmimg(*words, image, timeout=5).code in (1, 5), "a socket")
    os.symlink("/etc/passwd", t.path("link"))
    refused(t, over(t, "over-link.qcow2", "link"), "symbolic link")
    os.symlink("/etc", t.path("etc"))
    refused(t, over(t, "behind-link.qcow2", "etc/passwd"), "symbolic link")
    os.symlink("link-b", t.path("link-a"))
    os.symlink("link-a", t.path("link-b"))
    refused(t, over(t, "over-loop.qcow2", "link-a"), "symbolic link")


def test_depth(t):
    """255 layers are read; one that is over 256 is too many."""
    with open(t.path("0"), "wb") as file:
        file.truncate(1 << 20)
    for number in range(1, 261):
        vmimg_ok("create", "-q", "-u", "-f", "qcow2", "-b", str(number - 1), "-F", "raw" if number == 1 else "qcow2", t.path(str(number)), "1M")
    vmimg_ok("digest", t.path("255"))
    result = vmimg("digest", t.path("260"))
    equal(result.code, 6, str(result))
    check("more than 256 layers" in result.errors, str(result))
    process.check_bars(result, "digest")


def test_candidates(t):
    """A parent known by its identity alone is not looked for among any number of files."""
    for name in "parent", "other":
        vmimg_ok("create", "-q", "-f", "vdi", t.path(name + ".vdi"), "4M")
    vmimg_ok("create", "-q", "-f", "vdi", "-b", "parent.vdi", "-F", "vdi", t.path("child.vdi"))
    os.unlink(t.path("parent.vdi"))
    for number in range(1001):
        os.link(t.path("other.vdi"), t.path(f"n{number}.vdi"))
    result = vmimg("digest", t.path("child.vdi"))
    check(result.code in (5, 6), str(result))
    process.check_bars(result, "digest")
    check("more than 1000 files" in result.errors, str(result))


if __name__ == "__main__":
    harness.main()
