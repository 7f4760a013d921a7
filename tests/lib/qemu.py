# SPDX-License-Identifier: Apache-2.0
"""qemu-img and qemu-io as a second opinion."""

import os

from lib import disks, env
from lib.harness import check, need
from lib.process import run

NAMES = {"vhd": "vpc"}  # where qemu's name for a format is not ours


def name(fmt):
    return NAMES.get(fmt, fmt)


def attempt(*args, **how):
    """qemu-img, which fails on a busy machine when it measures how long a passphrase takes: then it is asked again."""
    for _ in range(20):
        result = run(env.find("qemu-img"), *args, **how)
        if "Unable to get accurate CPU usage" not in result.errors:
            break
    return result


def img(*args, timeout=120.0, **how):
    """qemu-img, when it has to work."""
    need("qemu-img")
    result = attempt(*args, timeout=timeout, **how)
    check(result.code == 0, str(result))
    return result


def io(path, *commands, fmt=None):
    """qemu-io commands on an image."""
    need("qemu-io")
    options = [word for command in commands for word in ("-c", command)]
    result = run("qemu-io", *(["-f", name(fmt)] if fmt else []), *options, path)
    check(result.code == 0 and "error" not in result.text.lower(), str(result) + result.text)
    return result


def create(path, fmt, size, **options):
    """An empty image; options as of -o."""
    text = ",".join(f"{key}={value}" for key, value in options.items())
    img("create", "-q", "-f", name(fmt), *(["-o", text] if text else []), path, str(size))
    return path


def convert(source, target, source_fmt, target_fmt, *options, **pairs):
    """options go to the command line, pairs into -o."""
    text = ",".join(f"{key}={value}" for key, value in pairs.items())
    img("convert", "-f", name(source_fmt), "-O", name(target_fmt), *(["-o", text] if text else []),
        *options, source, target)
    return target


def guest_sha256(path, fmt, workdir, *options):
    """SHA-256 of the guest's bytes, as qemu-img reads them."""
    raw = os.path.join(workdir, os.path.basename(path) + ".by-qemu")
    # qemu-img looks for an external data file in the current folder.
    img("convert", "-f", name(fmt), "-O", "raw", *options, path, raw, cwd=os.path.dirname(path))
    digest = disks.sha256(raw)
    os.unlink(raw)
    return digest


def content(path, *options):
    """SHA-256 of the guest's bytes, as qemu-img reads an image of a kind that it finds out; options as of convert."""
    out = path + ".content"
    img("convert", *options, "-O", "raw", path, out)
    digest = disks.sha256(out)
    os.unlink(out)
    return digest


def sound(path, what):
    """qemu-img's check and ours find nothing, not even a leak."""
    for program in "qemu-img", env.VMIMG:
        result = run(program, "check", path)
        check(result.code == 0 and "No errors were found" in result.text, f"{what}: {result}{result.text[:600]}")
