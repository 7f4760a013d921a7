# SPDX-License-Identifier: Apache-2.0
"""LUKS volumes as images, against cryptsetup and qemu-img."""

import functools
import os
import re
import subprocess

from lib import disks, harness, process, qemu
from lib.harness import check, equal, need
from lib.process import check_one_line, run, vmimg, vmimg_ok

MIB = 1 << 20
OPTIONS = ("", "cipher-alg=aes-128", "cipher-mode=cbc,ivgen-alg=essiv,ivgen-hash-alg=sha256", "cipher-mode=cbc,cipher-alg=aes-192",
           "hash-alg=sha512", "hash-alg=sha1,ivgen-alg=plain")


def key_file(t, text=b"a secret"):
    with open(t.path("key"), "wb") as file:
        file.write(text)
    return t.path("key")


def by_qemu(t, path):
    """What qemu-img reads in the volume."""
    out = t.path("by-qemu")
    result = run("qemu-img", "convert", "--object", f"secret,id=k,file={t.path('key')}", "--image-opts",
                 f"driver=luks,key-secret=k,file.filename={path}", "-O", "raw", out, timeout=120)
    equal(result.code, 0, str(result))
    return disks.sha256(out)


def opens(t, path):
    """cryptsetup takes the key, where it is there."""
    if run("sh", "-c", "command -v cryptsetup").code == 0:
        result = run("cryptsetup", "open", "--test-passphrase", "--type", "luks1", "--key-file", t.path("key"), path)
        equal(result.code, 0, str(result))
        equal(run("cryptsetup", "isLuks", "--type", "luks1", path).code, 0, "isLuks")


def test_written(t):
    key, raw = key_file(t), disks.pattern(t.path("disk.raw"), 5 * MIB + 512, seed=1)
    want = disks.sha256(raw)
    for options in OPTIONS:
        with t.sub(options), t.folder() as folder:
            out = f"{folder}/out.luks"
            vmimg_ok("convert", "-o", ",".join(filter(None, [options, "iter-time=10"])), "--target-secret-file", key, raw, out)
            if "aes-192" not in options:  # whose key material is no whole sectors: QEMU 7.2 aborts
                equal(by_qemu(t, out), want, "by qemu-img")
            equal(vmimg_ok("digest", "--secret-file", key, out).text.split()[0], want, "by vmimg")
            opens(t, out)
            report = vmimg_ok("info", "--json", out).json()
            equal((report["format"], report["virtual-size"], report["encrypted"]), ("luks", 5 * MIB + 512, True), "info")
            theirs = run("qemu-img", "info", "--output=json", out).json()
            equal(report["format-specific"], theirs["format-specific"], "info of both")


def test_read(t):
    """What qemu-img and cryptsetup make; the second fills its volume with noise, which both read alike."""
    key, raw = key_file(t), disks.pattern(t.path("disk.raw"), 3 * MIB, seed=2)
    volume = t.path("their.luks")
    result = qemu.attempt("convert", "--object", f"secret,id=k,file={key}", "-O", "luks", "-o", "key-secret=k,iter-time=10", raw, volume)
    equal(result.code, 0, str(result))
    equal(vmimg_ok("digest", "--secret-file", key, volume).text.split()[0], disks.sha256(raw), "of qemu-img")
    vmimg_ok("convert", "--secret-file", key, volume, t.path("disk.qcow2"))
    equal(vmimg_ok("digest", t.path("disk.qcow2")).text.split()[0], disks.sha256(raw), "converted")
    vmimg_ok("convert", "--object", f"secret,id=k,file={key}", "--key-secret", "k", volume, t.path("disk.vdi"))
    need("cryptsetup")
    for cipher, size in ("aes-xts-plain64", 512), ("aes-cbc-essiv:sha256", 256):
        with t.sub(f"cryptsetup {cipher} {size}"):
            volume = t.path("c.img")
            subprocess.run(["dd", "if=/dev/urandom", f"of={volume}", "bs=1M", "count=6"], check=True, capture_output=True)
            result = run("cryptsetup", "-q", "luksFormat", "--type", "luks1", "--pbkdf-force-iterations", "1000", "--cipher", cipher, "--key-size",
                         size, "--key-file", key, volume, timeout=120)
            equal(result.code, 0, str(result))
            equal(vmimg_ok("info", "--json", volume).json()["format"], "luks", "detected")
            equal(vmimg_ok("digest", "--secret-file", key, volume).text.split()[0], by_qemu(t, volume), "noise")


def test_created(t):
    """An empty volume is not written to, and noise to everyone; then it takes a disk."""
    key, path = key_file(t), t.path("new.luks")
    vmimg_ok("create", "-q", "-f", "luks", "-o", "iter-time=10", "--target-secret-file", key, path, "1G")
    check(os.stat(path).st_blocks * 512 < 2 * MIB, "it was filled")
    opens(t, path)
    equal(vmimg_ok("info", "--json", path).json()["virtual-size"], 1 << 30, "size")
    vmimg_ok("create", "-q", "--force", "-f", "luks", "-o", "iter-time=10", "--target-secret-file", key, path, "4M")
    equal(vmimg_ok("digest", "--secret-file", key, path).text.split()[0], by_qemu(t, path), "noise")
    measured = vmimg_ok("measure", "-O", "luks", "--size", "4M", "--json").json()
    equal(measured["required"], os.path.getsize(path), "measure")


def test_face(t):
    key, raw = key_file(t), disks.pattern(t.path("disk.raw"), 2 * MIB, seed=3)
    face = t.path("qemu-img")
    os.symlink(process.env.VMIMG, face)
    secret = ["--object", f"secret,id=k,file={key}"]
    for program, name in (functools.partial(run, face), "ours.luks"), (qemu.attempt, "theirs.luks"):
        result = program("convert", *secret, "-f", "raw", "-O", "luks", "-o", "key-secret=k,iter-time=10", raw, t.path(name))
        equal(result.code, 0, str(result))
    for name in "ours.luks", "theirs.luks":
        reports = [run(program, "info", "--output=json", t.path(name)).json() for program in (face, "qemu-img")]
        for field in "format", "virtual-size", "encrypted", "format-specific":
            equal(reports[0][field], reports[1][field], f"{name}: {field}")
        result = run(face, "convert", *secret, "--image-opts", f"driver=luks,key-secret=k,file.filename={t.path(name)}", "-O", "raw",
                     t.path("back.raw"))
        equal(result.code, 0, str(result))
        equal(disks.sha256(t.path("back.raw")), disks.sha256(raw), name)


def test_refused(t):
    key, raw = key_file(t), disks.pattern(t.path("disk.raw"), MIB, seed=4)
    good = t.path("good.luks")
    vmimg_ok("convert", "-o", "iter-time=10", "--target-secret-file", key, raw, good)
    with open(good, "rb") as file:
        bytes_ = file.read()
    with open(t.path("wrong"), "wb") as file:
        file.write(b"another secret")

    def tell(name, words, code, said=None):
        with t.sub(name):
            result = vmimg(*words)
            equal(result.code, code, str(result))
            check_one_line(result)
            check(not said or said in result.errors, str(result))

    def changed(*patches, size=None):
        with open(t.path("bad"), "wb") as file:
            data = bytearray(bytes_)
            for at, patch in patches:
                data[at:at + len(patch)] = patch
            file.write(data[:size])
        return t.path("bad")

    tell("no secret", ["digest", "-f", "luks", good], 5, "encrypted")
    with t.sub("no secret and no format"):  # the guest of a raw disk may have written that
        result = vmimg_ok("digest", good)
        equal(result.text.split()[0], disks.sha256(good), "the raw disk")
        check("taken for a raw disk" in result.errors, str(result))
    tell("a wrong one", ["digest", "--secret-file", t.path("wrong"), good], 5)
    tell("no secret for a new one", ["convert", "-O", "luks", raw, t.path("x")], 2, "secret")
    tell("to a pipe", ["convert", "-O", "luks", "--target-secret-file", key, raw, "-"], 2)
    tell("compressed", ["convert", "-c", "-O", "luks", "--target-secret-file", key, raw, t.path("x")], 2)
    tell("over a parent", ["create", "-f", "luks", "-b", "disk.raw", "-F", "raw", "--target-secret-file", key, t.path("x"), "1M"], 2)
    tell("an unknown cipher", ["convert", "-o", "cipher-alg=twofish-256", "-O", "luks", "--target-secret-file", key, raw, t.path("x")], 4)
    tell("cut in the slots", ["info", changed(size=100000)], 4, "past the end")
    tell("no magic", ["info", "-f", "luks", raw], 4, "no LUKS volume")
    tell("short", ["info", "-f", "luks", changed(size=500)], 4, "too short")
    tell("version 2", ["info", "-f", "luks", changed((6, b"\0\2"))], 4, "version 2")
    tell("a header alone", ["info", changed((104, b"\0\0\0\0"))], 4, "a header alone")
    tell("slots behind the data", ["info", changed((104, b"\0\0\0\x08"))], 4, "slot")
    equal(vmimg_ok("info", "--json", changed((6, b"\0\2"))).json()["format"], "raw", "version 2 is what raw disks hold")
    equal(vmimg_ok("digest", "-f", "raw", good).text.split()[0], disks.sha256(good), "-f raw")
    with t.sub("in a fixed VHD"):
        vmimg_ok("convert", "-f", "raw", "-o", "subformat=fixed,force_size=on", good, t.path("disk.vhd"))
        equal(vmimg_ok("info", "--json", t.path("disk.vhd")).json()["format"], "vhd", "which goes first")


def test_slots(t):
    key = key_file(t)
    raw, path = disks.pattern(t.path("disk.raw"), MIB, seed=5), t.path("out.luks")
    vmimg_ok("convert", "-o", "iter-time=10", "--target-secret-file", key, raw, path)
    with open(t.path("second"), "wb") as file:
        file.write(b"the other")
    vmimg_ok("amend", "--object", f"secret,id=a,file={key}", "--object", f"secret,id=b,file={t.path('second')}", "--key-secret", "a",
             "-o", "encrypt.state=active,encrypt.new-secret=b,encrypt.iter-time=10", path)
    for name in key, t.path("second"):
        equal(vmimg_ok("digest", "--secret-file", name, path).text.split()[0], disks.sha256(raw), name)


if __name__ == "__main__":
    harness.main()
