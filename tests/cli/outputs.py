# SPDX-License-Identifier: Apache-2.0
"""
What a new file may take the place of: with --force anything but what is being read for it, by whatever name, hard
link or symbolic link it is called; and who may read it.
"""

import os
import stat

from lib import disks, env, harness, process
from lib.harness import check, equal, need
from lib.process import vmimg, vmimg_ok

MIB = 1 << 20
KEPT = ("base.raw", "mid.qcow2", "top.qcow2", "flat-flat.vmdk", "data.raw")


def chain(folder):
    """top over mid over base; a VMDK and a QCOW2 whose data is in other files; other names of all that."""
    at = lambda name: os.path.join(folder, name)
    disks.pattern(at("base.raw"), 2 * MIB, seed=40)
    vmimg_ok("create", "-q", "-f", "qcow2", "-b", "base.raw", "-F", "raw", at("mid.qcow2"))
    vmimg_ok("create", "-q", "-f", "qcow2", "-b", "mid.qcow2", "-F", "qcow2", at("top.qcow2"))
    vmimg_ok("convert", "-q", "-O", "vmdk", "-o", "subformat=monolithicFlat", at("base.raw"), at("flat.vmdk"))
    vmimg_ok("create", "-q", "-f", "qcow2", "-o", "data_file=data.raw", at("ext.qcow2"), "1M")
    for name in KEPT:
        os.link(at(name), at("hard-" + name))
        os.symlink(name, at("soft-" + name))
    return at


def digests(at):
    return [disks.sha256(at(name)) for name in KEPT]


def ways(at, out):
    """Every verb that writes a new file from images, of the chain."""
    return (["convert", "--force", "-O", "raw", at("top.qcow2"), out], ["convert", "--force", "-O", "raw", "-n", at("top.qcow2"), out],
            ["convert", "--force", "-O", "vmdk", "-o", "subformat=monolithicFlat", at("top.qcow2"), out],
            ["dd", "--force", "-O", "raw", f"if={at('top.qcow2')}", f"of={out}"], ["compact", "--force", "-o", out, at("top.qcow2")],
            ["chain", "flatten", "--force", "-o", out, at("top.qcow2")], ["pack", "--force", "-O", "ova", "-o", out, at("top.qcow2")],
            ["pack", "--force", "-O", "ovf", "-o", out, at("top.qcow2")], ["inspect", "--html", out, "--force", at("top.qcow2")],
            ["split", "--force", at("top.qcow2"), "--aki", out, "--ari", at("a"), "--ami", at("b")],
            ["split", "--force", at("top.qcow2"), "--aki", at("a"), "--ari", at("b"), "--ami", out])


def test_spared(t):
    at = chain(t.tmp)
    before = digests(at)
    for name in "base.raw", "hard-mid.qcow2", "soft-base.raw", "top.qcow2":
        for words in ways(at, at(name)):
            with t.sub(f"{name}: {' '.join(words[:5])}".replace(t.tmp + "/", "")):
                result = vmimg(*words)
                check(result.code > 0 and ("is being read" in result.errors or words[0] == "split"), str(result))
                equal(digests(at), before, str(result))


def test_named_alone(t):
    """Repair opens no other file, and spares those that the image names."""
    for image, out in (("top.qcow2", "mid.qcow2"), ("top.qcow2", "hard-mid.qcow2"), ("mid.qcow2", "soft-base.raw"),
                       ("flat.vmdk", "flat-flat.vmdk"), ("ext.qcow2", "data.raw"), ("top.qcow2", "top.qcow2")):
        with t.sub(f"{image} to {out}"), t.folder() as folder:
            at = chain(folder)
            before = digests(at)
            check(vmimg("repair", "--force", "-o", at(out), at(image)).code, "it was done")
            equal(digests(at), before, "what is named")


def test_parts(t):
    """No part of an output takes the place of another part, or of what is read."""
    with t.folder() as folder:
        at = chain(folder)
        before = digests(at)
        for words in (["create", "--force", "-f", "qcow2", "-o", "data_file=x.qcow2", at("x.qcow2"), "1M"],
                      ["convert", "--force", "-O", "qcow2", "-o", "data_file=x.qcow2", at("top.qcow2"), at("x.qcow2")],
                      ["convert", "--force", "-O", "qcow2", "-o", "data_file=hard-base.raw", at("top.qcow2"), at("x.qcow2")],
                      ["create", "--force", "-f", "qcow2", "-b", "base.raw", "-F", "raw", at("hard-base.raw")]):
            with t.sub(" ".join(words[:6])):
                check(vmimg(*words).code in (2, 7), str(vmimg(*words)))
                equal(digests(at), before, "what was there")
                check(not os.path.exists(at("x.qcow2")), "something was left")
        os.symlink("base.raw", at("disk1.vmdk"))
        os.link(at("base.raw"), at("m-disk1.vmdk"))
        with t.sub("a disk of an OVF"):
            vmimg("pack", "--force", "-O", "ovf", "-o", at("m.ovf"), at("top.qcow2"))
            equal(digests(at), before, "what is read")


def test_out_of_images(t):
    """A file of the guest that has the name of the image it is in; and the guest's modes, less what umask takes."""
    need("mke2fs")
    os.makedirs(t.path("tree"))
    for name, mode in ("guest.raw", 0o644), ("open", 0o777), ("closed", 0o600), ("special", 0o4755):
        with open(t.path("tree/" + name), "wb") as file:
            file.write(name.encode() * 100)
        os.chmod(t.path("tree/" + name), mode)
    image = t.path("guest.raw")
    process.run(env.find("mke2fs"), "-q", "-F", "-t", "ext4", "-d", t.path("tree"), image, "4M")
    before = disks.sha256(image)
    result = vmimg("cp", "--force", image + ":/guest.raw", t.tmp)
    check(result.code == 2 and "is being read" in result.errors, str(result))
    vmimg("cp", "--force", image + ":/", t.tmp)
    equal(disks.sha256(image), before, "the image")
    old = os.umask(0o022)
    try:
        os.mkdir(t.path("out"))
        vmimg_ok("cp", image + ":/", t.path("out"))
    finally:
        os.umask(old)
    found = {name: stat.S_IMODE(os.stat(os.path.join(folder, name)).st_mode) for folder, _, names in os.walk(t.path("out")) for name in names}
    equal(found, {"guest.raw": 0o644, "open": 0o755, "closed": 0o600, "special": 0o755}, "modes")


if __name__ == "__main__":
    harness.main()
