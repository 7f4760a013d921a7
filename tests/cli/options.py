# SPDX-License-Identifier: Apache-2.0
"""The command line itself: help, the man page, strict parsing, and the one line of an error."""

import os
import re
import subprocess

from lib import env, harness
from lib.harness import check, equal
from lib.process import check_one_line, run, vmimg, vmimg_ok

MAN = os.path.join(env.SOURCE, "doc", "man", "vmimg.1")


def verbs():
    return re.findall(r"^  ([\w-]+) +\S", vmimg_ok("--help").text, re.M)


def help_options(verb):
    """Every option that --help lists, with its dashes: {"-q", "--quiet", …}."""
    found = set()
    for line in vmimg_ok(verb, "--help").text.splitlines():
        if re.match(r"  -", line):
            left = re.split(r"  +", line.strip())[0]
            found |= set(re.findall(r"(?:^|(?<=[ ,]))(--?[A-Za-z][\w-]*)", left))
    return found


def man_sections():
    """The text of each .Ss section by its name."""
    parts = re.split(r"^\.S[sh] (.*)$", open(MAN, encoding="utf-8").read(), flags=re.M)
    return dict(zip(parts[1::2], parts[2::2]))


def listed(text):
    """The options that .It lines of a section name."""
    found = set()
    for line in re.findall(r"^\.It (Fl .*)$", text, re.M):
        for word in re.split(r" , (?:Fl )?|^Fl ", line.split(" Ns = ")[0]):
            if word:
                found.add("-" + word.split()[0])
    return found


def test_help_and_man_agree(t):
    sections = man_sections()
    for verb in verbs():
        with t.sub(verb):
            text = sections.get(verb)
            check(text, f"no section {verb} in the man page")
            options = listed(text)
            for name in ("Report options", "Source options", "Work options"):
                if re.search(rf"\.Sx {name}\b", text):
                    options |= listed(sections[name])
            equal(sorted(help_options(verb)), sorted(options), "options of --help and man page")


def test_help_verb_is_verb_help(t):
    for verb in verbs():
        equal(vmimg_ok("help", verb).text, vmimg_ok(verb, "--help").text, verb)
        check(vmimg_ok(verb, "-h").text.startswith(f"usage: vmimg {verb} "), verb)


def test_options_of_a_format(t):
    """-o help needs no operands."""
    for words in (["convert", "-O", "qcow2"], ["create", "-f", "qcow2"], ["boot-disk", "-O", "qcow2"]):
        check("cluster_size=" in vmimg_ok(*words, "-o", "help").text, words)


def test_version(t):
    check(re.fullmatch(r"vmimg \d+\.\d+\.\d+\n", vmimg_ok("--version").text), "version")


def test_usage_errors(t):
    disk = t.path("disk.raw")
    with open(disk, "wb") as file:
        file.truncate(1 << 20)
    for words in (
            [], ["nonsense"], ["help", "nonsense"], ["info"], ["info", disk, disk],
            ["info", "--bogus", disk], ["info", "--jso", disk], ["info", "-Z", disk],
            ["info", "--json=yes", disk], ["info", "-f"], ["info", "--output=xml", disk],
            ["info", "-f", "nonsense", disk], ["info", "--refs=all", disk],
            ["info", "--image-opts", disk], ["info", "--object", "secret,id=x", disk],
            ["info", "--max-virtual-size=1X", disk], ["info", "--max-virtual-size=0", disk],
            ["convert", disk], ["convert", disk, t.path("x.unknown")],
            ["convert", "-O", "raw", "-m", "0", disk, t.path("x")],
            ["convert", "-O", "raw", "-m", "257", disk, t.path("x")],
            ["convert", "-O", "raw", "-S", "100", disk, t.path("x")],
            ["convert", "-O", "raw", "-t", "sometimes", disk, t.path("x")],
            ["convert", "-O", "raw", "-o", "bogus=1", disk, t.path("x")],
            ["convert", "-O", "raw", "-o", "preallocation=maybe", disk, t.path("x")],
            ["convert", "-O", "raw", "-c", disk, t.path("x")],
            ["convert", "-O", "raw", "-F", "raw", disk, t.path("x")],
            ["boot-disk", "-F", "raw", "--aki", disk, "--ami", disk, t.path("x.raw")],
            ["convert", "-n", "-O", "raw", disk, disk],
            ["create", "-f", "raw", t.path("x")], ["create", "-f", "raw", t.path("x"), "-1"],
            ["create", "-f", "raw", t.path("x"), "1.5"],
            ["create", "-f", "qcow2", "-b", disk, t.path("x.qcow2")],
            ["measure"], ["measure", "--size", "1M", disk],
            ["map", "-s", "2M", disk], ["map", "--bar", "--json", disk], ["measure", "-f", "raw", "--size", "1M"],
            ["cp", disk, "image:/"], ["convert", "-B", disk, "-F", "raw", "-O", "qcow2", disk, disk, t.path("x")],
            ["pack", "--hash", "md5", "-o", t.path("x.ova"), disk],
            ["digest", "--algorithm", "nonsense", disk],
            ["snapshot", disk], ["snapshot", "eat", disk], ["bitmap", "eat", disk]):
        with t.sub(" ".join(words).replace(t.tmp, "")):
            result = vmimg(*words)
            equal(result.code, 2, str(result))
            check_one_line(result, "usage error")
            equal(sorted(os.listdir(t.tmp)), ["disk.raw"], "files")


def test_nothing_given(t):
    """Says what is wanted, not what is wrong with a name that is empty."""
    for words in (["convert"], ["convert", t.path("disk.raw")]):
        check(b"SRC and DST" in vmimg(*words).err, words)
    for words in (["create"], ["boot-disk"], ["create", "-f", "qcow2"]):
        check(b"name" in vmimg(*words).err or b"OUT" in vmimg(*words).err, words)


def test_next_step(t):
    """What people try, and what it is called here."""
    disk = t.path("disk.raw")
    with open(disk, "wb") as file:
        file.truncate(1 << 20)
    for words, told in ((["convert", disk, t.path("x.ova")], "vmimg pack"),
                        (["convert", "https://example.org/disk.qcow2", t.path("x.raw")], "curl"),
                        (["cp", disk, "disk.qcow2:/etc"], "out of an image")):
        result = vmimg(*words)
        check(result.code in (1, 2) and told in result.errors, str(result))
        check_one_line(result)


def test_too_large(t):
    for size in ("9999P", "5E"):
        equal(vmimg("create", "-f", "raw", t.path("x"), size).code, 6, size)
    equal(os.listdir(t.tmp), [], "files")


def test_words_after_two_dashes(t):
    path = t.path("-odd.raw")
    vmimg_ok("create", "-f", "raw", "-q", "--", "-odd.raw", "1M", cwd=t.tmp)
    equal(os.path.getsize(path), 1 << 20, "size")
    vmimg_ok("info", "--json", "--", "-odd.raw", cwd=t.tmp)


def test_options_in_any_place(t):
    a = vmimg_ok("create", t.path("a.raw"), "64k", "-f", "raw", "-q")
    equal(a.out, b"", "-q prints")
    for words in (["-fraw", "--json"], ["-f", "raw", "--output", "json"], ["--output=json", "-Uf", "raw"]):
        equal(vmimg_ok("info", *words, t.path("a.raw")).json()["virtual-size"], 65536, str(words))


def test_broken_output_pipe(t):
    vmimg_ok("create", "-q", t.path("a.raw"), "64k")
    for words in ("info --json", "map --json", "--help"):
        with t.sub(words):
            reader, writer = os.pipe()
            os.close(reader)
            files = [] if words == "--help" else [t.path("a.raw")]
            child = subprocess.run([env.VMIMG, *words.split(), *files], stdout=writer,
                                   stderr=subprocess.PIPE, check=False)
            os.close(writer)
            equal(child.returncode, 1, "exit code")
            check(b"standard output" in child.stderr, child.stderr)
    with open("/dev/full", "wb") as full:
        child = subprocess.run([env.VMIMG, "--help"], stdout=full, stderr=subprocess.PIPE, check=False)
        equal(child.returncode, 1, "exit code with a full device")


def test_starts_fast(t):
    """Nothing heavy is loaded to say what an image is."""
    harness.need("strace")
    if env.SLACK > 1:
        harness.skip("an instrumented build starts threads of its own")
    vmimg_ok("create", "-q", t.path("a.raw"), "64k")
    log = t.path("log")
    run("strace", "-f", "-e", "trace=openat,clone,clone3", "-o", log, env.VMIMG, "info", t.path("a.raw"))
    text = open(log, encoding="utf-8").read()
    for word in ("/liblzma.so", "/libbz2.so", "/libcrypto.so", "clone(", "clone3("):
        check(word not in text, f"info: {word} in {text}")


if __name__ == "__main__":
    harness.main()
