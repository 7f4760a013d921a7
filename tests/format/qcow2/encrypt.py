# SPDX-License-Identifier: Apache-2.0
"""QCOW2 with encrypted data: keys, ciphers and headers, against qemu-img, qemu-io and cryptsetup."""

import base64
import os
import struct

from lib import disks, env, harness, process, qemu
from lib.harness import check, equal, need
from lib.process import check_one_line, run, vmimg, vmimg_ok

MIB = 1 << 20
SECRET = "correct horse, battery"
QUICK = "encrypt.format=luks,encrypt.iter-time=10"
CIPHERS = [f"encrypt.cipher-alg={alg},encrypt.cipher-mode={mode},encrypt.ivgen-alg={iv}"
           for alg, mode, iv in (("aes-128", "xts", "plain64"), ("aes-256", "xts", "plain"),
                                 ("aes-128", "cbc", "essiv"), ("aes-256", "cbc", "plain64"))]
HASHES = [f"encrypt.hash-alg={name}" for name in ("sha1", "sha512")]
# Each that is LUKS costs qemu-img seconds, whatever iter-time says.
BY_QEMU = ("encrypt.format=aes", f"{QUICK},{CIPHERS[0]}", f"{QUICK},{CIPHERS[2]}")
LUKS_AT = 112 + 8  # of the extension's data, where it is the first one


def secret(name="s", data=SECRET):
    return "--object", f"secret,id={name},data={data.replace(',', ',,')}"


def described(path, name="s"):
    return f"driver=qcow2,encrypt.key-secret={name},file.filename={path}"


def key_file(t, data=SECRET):
    with open(t.path("key"), "w", encoding="utf-8") as file:
        file.write(data)
    return t.path("key")


def by_qemu(path, raw):
    """qemu-img opens the image with the secret, and finds the same content."""
    result = run("qemu-img", "compare", *secret(), "--image-opts", described(path),
                 f"driver=raw,file.filename={raw}", cwd=os.path.dirname(path))
    check("identical" in result.text, str(result))
    qemu.img("check", "-q", *secret(), "--image-opts", described(path), cwd=os.path.dirname(path))


def disk(t, size=2 * MIB):
    return disks.pattern(t.path("disk.raw"), size, seed=7)


def test_both_ways(t):
    raw, key = disk(t), key_file(t)
    for options in harness.part(["encrypt.format=aes"] + [f"{QUICK},{more}" for more in CIPHERS + HASHES]):
        with t.sub(options), t.folder() as folder:
            named = options + ",encrypt.key-secret=s"
            if options in BY_QEMU:
                qemu.attempt("convert", *secret(), "-O", "qcow2", "-o", named, raw,
                             f"{folder}/q.qcow2")
                equal(process.guest_sha256(f"{folder}/q.qcow2", "--secret-file", key),
                      disks.sha256(raw), "by qemu-img")
            vmimg_ok("convert", "-q", "--target-secret-file", key, "-o", options, raw,
                     f"{folder}/v.qcow2")
            by_qemu(f"{folder}/v.qcow2", raw)
            for name in os.listdir(folder):
                image = f"{folder}/{name}"
                equal(vmimg("check", image).code, 0, "check without a key")
                ours = vmimg_ok("info", "--json", image).json()
                theirs = qemu.img("info", "--output=json", image).json()
                check(ours["encrypted"], "not said to be encrypted")
                equal(ours["format-specific"]["data"]["encrypt"],
                      theirs["format-specific"]["data"]["encrypt"], "what info tells")


def test_layouts(t):
    raw, key = disk(t, 3 * MIB), key_file(t)
    disks.pattern(t.path("base.raw"), 3 * MIB, seed=8)
    for options in harness.part(("compat=0.10", "extended_l2=on", "data_file=data.bin", "cluster_size=512",
                                 "cluster_size=1k,refcount_bits=64", "preallocation=metadata",
                                 "preallocation=full,cluster_size=4k", "extended_l2=on,preallocation=metadata")):
        with t.sub(options), t.folder() as folder:
            image = f"{folder}/v.qcow2"
            vmimg_ok("convert", "-q", "--target-secret-file", key, "-o", f"{QUICK},{options}", raw,
                     image, cwd=folder)
            equal(vmimg("check", image).code, 0, "check")
            by_qemu(image, raw)
    for options in ("compat=0.10", "extended_l2=on"):
        with t.sub(f"over a backing file, {options}"), t.folder() as folder:
            image = f"{folder}/v.qcow2"
            vmimg_ok("convert", "-q", "--target-secret-file", key, "-B", t.path("base.raw"), "-F",
                     "raw", "-o", f"{QUICK},{options}", raw, image)
            by_qemu(image, raw)


def test_nothing_in_the_clear(t):
    key = key_file(t)
    with open(t.path("a.raw"), "wb") as file:
        file.write(b"plain text, said often. " * 50000)
    for options in ("encrypt.format=aes", QUICK):
        for threads in ("1", "3"):
            image = t.path(f"{options[15:18]}{threads}.qcow2")
            vmimg_ok("convert", "-q", "-m", threads, "--target-secret-file", key, "-o", options,
                     t.path("a.raw"), image)
            with open(image, "rb") as file:
                check(b"plain text" not in file.read(), f"{options}: the data can be read")
    result = vmimg("convert", "-c", "--target-secret-file", key, "-o", QUICK, t.path("a.raw"),
                   t.path("c.qcow2"))
    equal(result.code, 2, "compressed clusters would not be encrypted")
    check(not os.path.exists(t.path("c.qcow2")), "an output is left")


def test_compressed_by_qemu(t):
    """qemu-io compresses into an encrypted image, in the clear: what it reads, we read."""
    need("qemu-io")
    image, key = t.path("a.qcow2"), key_file(t)
    vmimg_ok("create", "-q", *secret(), "-o", QUICK + ",encrypt.key-secret=s", image, "1M")
    run("qemu-io", *secret(), "--image-opts", described(image), "-c", "write -c -P 0x43 0 64k", "-c",
        "write -P 0x44 64k 64k")
    want = bytes([0x43]) * 65536 + bytes([0x44]) * 65536 + bytes(MIB - 131072)
    vmimg_ok("convert", "--secret-file", key, image, t.path("a.raw"))
    with open(t.path("a.raw"), "rb") as file:
        check(file.read() == want, "other content")


def test_slow_slots(t):
    """A slot that costs more than may be spent is passed over; when no other fits, that is a limit."""
    image, key = t.path("a.qcow2"), key_file(t)
    vmimg_ok("create", "-q", *secret(), "-o", QUICK + ",encrypt.key-secret=s", image, "1M")
    more = "--object", "secret,id=n,data=new"
    vmimg_ok("amend", *more, "--secret-file", key, "-o", "encrypt.state=active,encrypt.new-secret=n,encrypt.iter-time=10", image)
    convert = "convert", "-q", "--force", image, t.path("a.raw")
    for words in (["--max-iterations", "1000"], 6), (["--max-iterations", "1M"], 0), ([], 0):
        equal(vmimg(*convert, *words[0], "--secret-file", key).code, words[1], str(words))
    with open(image, "r+b") as file:
        head = file.read(4096)
        at = head.index(struct.pack(">I", 0x0537be77))
        file.seek(struct.unpack(">Q", head[at + 8:at + 16])[0] + 208 + 4)
        file.write(struct.pack(">I", 1 << 31))
    result = vmimg(*convert, "--secret-file", key)
    check(result.code == 6 and "--max-iterations" in result.errors and result.cpu < env.SLACK, str(result))
    equal(vmimg(*convert, *more).code, 0, "the other slot's")


def test_version_1(t):
    raw, image = disk(t), t.path("a.qcow")
    qemu.img("convert", *secret(), "-O", "qcow", "-o", "encrypt.format=aes,encrypt.key-secret=s", raw,
             image)
    equal(process.guest_sha256(image, *secret()), disks.sha256(raw))
    equal(vmimg("digest", image).code, 5, "without a secret")


def test_chain(t):
    """Layers with keys of their own; each layer takes the one that fits."""
    raw, base, top = disk(t), t.path("base.qcow2"), t.path("top.qcow2")
    more = ("--object", "secret,id=b,data=other")
    vmimg_ok("convert", "-q", *more, "-o", QUICK + ",encrypt.key-secret=b", raw, base)
    vmimg_ok("create", "-q", *secret(), "-u", "-b", "base.qcow2", "-F", "qcow2", "-o",
             QUICK + ",encrypt.key-secret=s", top, os.path.getsize(raw))
    run("qemu-io", *secret(), *more, "--image-opts",
        described(top) + ",backing.driver=qcow2,backing.encrypt.key-secret=b,"
        f"backing.file.filename={base}", "-c", "write -P 0x21 0 64k")
    vmimg_ok("convert", "-q", *secret(), *more, top, t.path("out.raw"))
    with open(raw, "rb") as file, open(t.path("out.raw"), "rb") as out:
        check(out.read() == b"!" * 65536 + file.read()[65536:], "other content")
    equal(vmimg("convert", *secret(), top, t.path("no.raw")).code, 5, "a key is missing")


def test_face(t):
    """qemu-img's own command lines."""
    raw, image, face = disk(t), t.path("a.qcow2"), t.path("qemu-img")
    os.symlink(env.VMIMG, face)
    run_ok = lambda *args: check((r := run(face, *args)).code == 0, str(r)) or r
    options = QUICK + ",encrypt.key-secret=s"
    run_ok("convert", *secret(), "-O", "qcow2", "-o", options, raw, image)
    by_qemu(image, raw)
    run_ok("convert", *secret(), "--image-opts", described(image), "-O", "raw", t.path("b.raw"))
    equal(disks.sha256(t.path("b.raw")), disks.sha256(raw))
    run_ok("compare", *secret(), "--image-opts", described(image), f"driver=raw,file.filename={raw}")
    equal(run(face, "info", image).text, qemu.img("info", image).text, "info")
    options = options.replace(QUICK, "encrypt.format=aes")
    for words in (("create", *secret(), "-f", "qcow2", "-o", options, t.path("n.qcow2"), "1M"),
                  ("measure", *secret(), "-O", "qcow2", "-o", options, "--size", "64M"),
                  ("measure", *secret(), "-O", "qcow2", "-o",
                   "encrypt.format=luks,encrypt.key-secret=s", "--size", "64M")):
        equal(run(face, *words).text, qemu.attempt(*words).text, words[0])
    for name, data, text in (("s", "wrong", "Invalid password, cannot unlock any keyslot"),
                             ("x", SECRET, "No secret with id 's'")):
        result = run(face, "convert", *secret(name, data), "--image-opts", described(image), "-O",
                     "raw", t.path("c.raw"))
        equal(result.code, 1, "exit code")
        check(text in result.errors and data not in result.errors, result.errors)


def test_secrets(t):
    """Every way to give one; what is wrong is said without it."""
    raw, image = disk(t, MIB), t.path("a.qcow2")
    vmimg_ok("convert", "-q", *secret(), "-o", QUICK + ",encrypt.key-secret=s", raw, image)
    for text, name in ((SECRET, "raw"), (base64.b64encode(SECRET.encode()).decode(), "base64")):
        with open(t.path(name), "w", encoding="utf-8") as file:
            file.write(text)
    with open(t.path("base64"), encoding="utf-8") as file:
        encoded = file.read()
    for words in (("--secret-file", t.path("raw")),
                  ("--object", f"secret,id=s,file={t.path('raw')}"),
                  ("--object", f"secret,id=s,file={t.path('base64')},format=base64"),
                  ("--object", f"qom-type=secret,id=s,data={encoded},format=base64"),
                  (*secret("no", "wrong"), *secret())):
        equal(process.guest_sha256(image, *words), disks.sha256(raw), " ".join(words))
    for words, code in (((), 5), (("--secret-file", "/nowhere"), 1), (secret(data="wrong"), 5),
                        (secret(data=SECRET + "\n"), 5), (("--object", "secret,id=s"), 2),
                        (("--object", "tls-creds-x509,id=s"), 4),
                        (("--object", "secret,id=s,data=!!!!,format=base64"), 2)):
        with t.sub(" ".join(words) or "none"):
            result = vmimg("convert", *words, image, t.path("no.raw"))
            equal(result.code, code, "exit code")
            check_one_line(result)
            check(SECRET not in result.errors and "wrong" not in result.errors, result.errors)
            check(not os.path.exists(t.path("no.raw")), "an output is left")


def test_refused(t):
    for options, code in (("encrypt.format=luks", 2), ("encrypt.cipher-alg=aes-128", 2),
                          (QUICK + ",data_file=x.raw,data_file_raw=on", 2),
                          (QUICK + ",compat=0.10,preallocation=full", 2),
                          (QUICK + ",encrypt.cipher-alg=serpent-256", 4),
                          (QUICK + ",encrypt.cipher-alg=aes-192", 4),
                          (QUICK + ",encrypt.hash-alg=md5", 4),
                          (QUICK + ",encrypt.ivgen-alg=essiv,encrypt.ivgen-hash-alg=sha1", 4)):
        with t.sub(options):
            words = () if options == "encrypt.format=luks" else ("--target-secret-file", key_file(t))
            result = vmimg("create", *words, "-o", options, t.path("a.qcow2"), "1M")
            equal(result.code, code, result.errors)
            check_one_line(result)
            check(not os.path.exists(t.path("a.qcow2")), "an output is left")


def test_header_by_cryptsetup(t):
    """The header alone, as a file: cryptsetup reads it, and its key slot opens."""
    need("cryptsetup")
    image, key = t.path("a.qcow2"), key_file(t)
    for options in (QUICK, f"{QUICK},{CIPHERS[2]}", f"{QUICK},{HASHES[1]}"):
        with t.sub(options):
            vmimg_ok("create", "-q", "--force", "--target-secret-file", key, "-o", options, image,
                     "1M")
            with open(image, "rb") as file:
                file.seek(LUKS_AT)
                at, length = struct.unpack(">QQ", file.read(16))
                file.seek(at)
                header = file.read(length)
            with open(t.path("luks"), "wb") as file:
                file.write(header + bytes(MIB))
            dump = run("cryptsetup", "luksDump", t.path("luks"))
            told = vmimg_ok("info", "--json", image).json()["format-specific"]["data"]["encrypt"]
            check(dump.code == 0 and told["uuid"] in dump.text and told["hash-alg"] in dump.text,
                  str(dump))
            for secret_file in (key, image):
                opened = run("cryptsetup", "open", "--test-passphrase", "--type", "luks1",
                             "--key-file", secret_file, t.path("luks")).code == 0
                equal(opened, secret_file == key, "test of the passphrase")


def test_key_slots(t):
    """Passphrases come and go, by either program; the last one stays."""
    raw, image, face = disk(t, MIB), t.path("a.qcow2"), t.path("qemu-img")
    os.symlink(env.VMIMG, face)
    vmimg_ok("convert", "-q", *secret(), "-o", QUICK + ",encrypt.key-secret=s", raw, image)
    new, third = secret("n", "new"), secret("x", "third")

    def amend(words, options, code=0):
        result = vmimg("amend", *words, "-o", options, image)
        equal(result.code, code, str(result))

    def opens(words, yes):
        result = vmimg("digest", "--json", *words, image)
        equal(result.code, 0 if yes else 5, str(result))
        check(not yes or result.json()["sha256"] == disks.sha256(raw), "other content")

    def slots():
        told = vmimg_ok("info", "--json", image).json()["format-specific"]["data"]["encrypt"]
        return [slot["active"] for slot in told["slots"]]

    amend((*secret(), *new), "encrypt.state=active,encrypt.new-secret=n,encrypt.iter-time=10,encrypt.keyslot=6")
    equal(slots(), [True] + 5 * [False] + [True, False], "slots")
    opens(new, True)
    by_qemu(image, raw)
    amend((*third, *new), "encrypt.state=active,encrypt.new-secret=x,encrypt.keyslot=6", 5)
    amend((*third, *secret(data="wrong")), "encrypt.state=active,encrypt.new-secret=x", 5)
    result = run(face, "amend", *secret(), *third, "--image-opts", "-o",
                 "encrypt.state=active,encrypt.new-secret=x,encrypt.iter-time=10", described(image))
    equal(result.code, 0, str(result))
    opens(third, True)
    amend(secret(), "encrypt.state=inactive,encrypt.old-secret=s")
    opens(secret(), False)
    amend((), "encrypt.state=inactive,encrypt.keyslot=6")
    opens(new, False)
    amend(third, "encrypt.state=inactive,encrypt.old-secret=x", 5)
    amend((), "encrypt.state=inactive", 2)
    opens(third, True)
    equal(slots(), [False, True] + 6 * [False], "slots")
    equal(run("qemu-img", "compare", "--object", "secret,id=s,data=third", "--image-opts", described(image),
              f"driver=raw,file.filename={raw}").code, 0, "qemu-img")


def test_key_slots_over_data(t):
    """A cluster of the LUKS header that the guest has as well, or that is free for refcounts: no slot is written."""
    raw, image, copy = disk(t), t.path("disk.qcow2"), t.path("copy.qcow2")
    vmimg_ok("convert", "-O", "qcow2", *secret(), "-o", f"{QUICK},encrypt.key-secret=s", raw, image)
    with open(image, "rb") as file:
        content = file.read()
    at, length = struct.unpack_from(">QQ", content, LUKS_AT)
    tables, blocks = struct.unpack_from(">Q", content, 40)[0], struct.unpack_from(">Q", content, 48)[0]
    table = struct.unpack_from(">Q", content, tables)[0] & (1 << 56) - 1
    counts = struct.unpack_from(">Q", content, blocks)[0]
    last = (at + length - 1) // 65536
    entry = 1 << 63 | last * 65536
    for what, pokes in (("a cluster of the guest", ((table + 8 * 20, entry, ">Q"),)),
                        ("a shared one", ((table + 8 * 20, entry & ~(1 << 63), ">Q"), (counts + 2 * last, 2, ">H"))),
                        ("one with refcount 2", ((counts + 2 * last, 2, ">H"),)),
                        ("a free one", ((counts + 2 * last, 0, ">H"),)), ("past the end", ((LUKS_AT, len(content) - 65536, ">Q"),))):
        with t.sub(what):
            changed = bytearray(content)
            for place, number, form in pokes:
                struct.pack_into(form, changed, place, number)
            if what == "past the end":
                changed[-65536:] = content[at:at + 65536]
            with open(copy, "wb") as file:
                file.write(changed)
            result = vmimg("amend", *secret(), *secret("n", "new"), "--key-secret", "s", "-o",
                           "encrypt.state=active,encrypt.new-secret=n,encrypt.iter-time=10,encrypt.keyslot=7", copy)
            equal(result.code, 4, str(result))
            with open(copy, "rb") as file:
                equal(file.read() == bytes(changed), True, "the image is what it was")


def test_changed_in_place(t):
    """Commit, rebase and resize write what qemu-img reads; snapshots and resize need no key."""
    for options in ("encrypt.format=aes", QUICK, QUICK + ",extended_l2=on", QUICK + ",compat=0.10"):
        with t.sub(options), t.folder() as folder:
            old = disks.pattern(f"{folder}/old.raw", 3 * MIB, seed=3)
            new = disks.pattern(f"{folder}/new.raw", 3 * MIB, seed=4)
            base, top = f"{folder}/base.qcow2", f"{folder}/top.qcow2"
            words = ("-q", *secret(), "-o", options + ",encrypt.key-secret=s")
            vmimg_ok("convert", *words, old, base)
            vmimg_ok("snapshot", "create", base, "one")
            vmimg_ok("convert", *words, "-B", "base.qcow2", "-F", "qcow2", new, top)
            equal(vmimg("commit", "-q", top).code, 5, "without a secret")
            vmimg_ok("commit", "-q", *secret(), top)
            by_qemu(base, new)
            vmimg_ok("convert", *secret(), "-q", "-l", "one", base, f"{folder}/one.raw")
            equal(disks.sha256(f"{folder}/one.raw"), disks.sha256(old), "the snapshot")
            vmimg_ok("rebase", "-q", *secret(), "-b", "", top)
            vmimg_ok("resize", "-q", top, "+1M")
            os.truncate(new, 4 * MIB)
            by_qemu(top, new)


def test_small_tables_in_a_row(t):
    """Tables longer than what one refcount block counts: the block moves behind them."""
    for options, size in (("cluster_size=512", "1G"), ("cluster_size=512,refcount_bits=64", "300M")):
        with t.sub(options):
            image = t.path("a.qcow2")
            vmimg_ok("create", "-q", "--force", "-o", options, image, size, timeout=10)
            qemu.img("check", "-q", image)
            equal(vmimg("check", image).code, 0, "check")


if __name__ == "__main__":
    harness.main()
