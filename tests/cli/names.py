# SPDX-License-Identifier: Apache-2.0
"""A file's own name is a stranger's text too: no control character, no direction mark and no half character leaves us."""

import json
import os
import subprocess

from lib import env, harness
from lib.harness import check, equal
from lib.process import vmimg_ok

NAME = b'\x1b[31mev\xffil\n"<script>alert(1)\xe2\x80\xae.qcow2'
HARM = {"an escape": b"\x1b", "half a character": b"\xff", "a direction mark": b"\xe2\x80\xae", "a line of its own": b'il\n"'}
VERBS = (["info"], ["check"], ["map"], ["digest"], ["measure", "-O", "qcow2"], ["snapshot", "-l"], ["bitmap", "list"], ["inspect"],
         ["chain", "show"], ["ls"], ["repair", "--in-place"], ["compare"], ["convert", "-O", "raw"], ["set"], ["commit"], ["amend"])


def image(t):
    vmimg_ok("create", "-q", "-f", "qcow2", t.path("plain"), "1M")
    path = os.path.join(t.tmp.encode(), NAME)
    os.rename(t.path("plain"), path)
    return path


def said(*words):
    result = subprocess.run([env.VMIMG.encode(), *[word if isinstance(word, bytes) else word.encode() for word in words]],
                            capture_output=True, timeout=30)
    check(result.returncode >= 0, str(result))
    return result


def test_texts(t):
    path = image(t)
    for verb in VERBS:
        for options in [], ["--json"]:
            with t.sub(" ".join(verb + options)):
                more = {"compare": [path], "convert": ["--force", t.path("out")]}.get(verb[0], [])
                result = said(*verb, *options, path + b":/" if verb[0] == "ls" else path, *more)
                for what, bytes_ in HARM.items():
                    if not options or what != "a direction mark":  # in JSON it is a character as any other
                        check(bytes_ not in result.stdout + result.stderr, f"{what}: {result}")
                if options and result.stdout:
                    json.loads(result.stdout.decode())


def test_face(t):
    """Its errors go another way than those of the native verbs."""
    path, program = image(t), t.path("qemu-img")
    os.symlink(env.VMIMG, program)
    for name, verb in (("another format", ["info", "-f", "vmdk", path]), ("a file that is not there", ["info", path + b"x"]),
                       ("a size that is none", ["resize", path, "x"]), ("a snapshot that is not there", ["snapshot", "-a", "none", path])):
        with t.sub(name):
            result = subprocess.run([program, *verb], capture_output=True, timeout=30)
            check(result.returncode == 1 and result.stderr.startswith(b"qemu-img: "), str(result))
            for what, bytes_ in HARM.items():
                check(bytes_ not in result.stderr, f"{what}: {result}")


def test_page(t):
    result = said("inspect", "--html", t.path("page.html"), image(t))
    equal(result.returncode, 0, str(result))
    with open(t.path("page.html"), "rb") as file:
        page = file.read()
    page.decode()
    for what, bytes_ in {**HARM, "a script": b"<script>alert"}.items():
        check(bytes_ not in page, what)


if __name__ == "__main__":
    harness.main()
