# SPDX-License-Identifier: Apache-2.0
"""Bundles for EC2: read with the user's key and with the cloud's; every lie in a manifest is named."""

import gzip
import hashlib
import os
import random
import re
import subprocess

from lib import corpus, disks, ec2, harness, process
from lib.harness import check, equal


def image(t, name="disk.img", size=3 << 20):
    return disks.pattern(t.path(name), size, data=500000)


def convert(t, manifest, *options, **how):
    return process.vmimg("convert", *options, manifest, t.path("out.raw"), **how)


def keys(t):
    return ec2.keypair(t.tmp, "user"), ec2.keypair(t.tmp, "cloud")


def test_read(t):
    user, cloud = keys(t)
    source = image(t)
    for quote in "'\"":
        manifest = ec2.make(t.tmp, source, "bundle", user, cloud, quote=quote)
        for who, key in (("user", user[0]), ("cloud", cloud[0])):
            with t.sub(f"{who}'s key, quotes {quote}"):
                result = convert(t, manifest, "--key", key, "--force")
                check(result.code == 0, str(result))
                equal(disks.sha256(t.path("out.raw")), disks.sha256(source))
        with t.sub(f"report, quotes {quote}"):
            report = process.vmimg_ok("info", "--json", "--cert", user[1], manifest).json()
            equal((report["format"], report["virtual-size"], report["signature"]), ("ec2", 3 << 20, "good"))
            equal(report["product-codes"], ["774F4FF8"])
            equal(report["block-device-mappings"][1], {"virtual": "swap", "device": "sda3"})
            equal(report["machines"][0]["kernel-id"], "aki-1")
            other = process.vmimg_ok("info", "--json", "--cert", cloud[1], manifest).json()
            equal(other["signature"], "wrong")
    with t.sub("old versions"):
        for version in ("2007-08-29", "3"):
            manifest = ec2.make(t.tmp, source, "old", user, cloud, version=version)
            check(convert(t, manifest, "--key", user[0], "--force").code == 0, version)
    with t.sub("a gzip of several members"):
        split = ("sh", "-c", "t=$(mktemp); cat >$t; (head -c 5000 $t | gzip -n; tail -c +5001 $t | gzip -n); rm $t")
        manifest = ec2.make(t.tmp, source, "members", user, cloud, pack=split)
        check(convert(t, manifest, "--key", user[0], "--force").code == 0, "members")
        equal(disks.sha256(t.path("out.raw")), disks.sha256(source))


def refused(t, manifest, code, *words, options=()):
    result = convert(t, manifest, *options)
    process.check_bars(result)
    process.check_one_line(result)
    equal(result.code, code, str(result))
    for word in words:
        check(word in result.errors, f"no '{word}': {result.errors}")
    check(not os.path.exists(t.path("out.raw")), "an output was left")


def test_keys(t):
    user, cloud = keys(t)
    stranger = ec2.keypair(t.tmp, "stranger")
    manifest = ec2.make(t.tmp, image(t), "bundle", user, cloud)
    with t.sub("none"):
        refused(t, manifest, 2, "--key")
    with t.sub("a stranger's"):
        refused(t, manifest, 2, "neither", options=("--key", stranger[0]))
    with t.sub("no key at all"):
        refused(t, manifest, 2, "no private key", options=("--key", user[1]))
    with t.sub("with a passphrase"):
        ec2.openssl("rsa", "-aes128", "-passout", "pass:x", "-in", user[0], "-out", t.path("locked"))
        refused(t, manifest, 2, "passphrase", options=("--key", t.path("locked")))


def test_damage(t):
    user, cloud = keys(t)
    source = image(t)
    key = "--key", user[0]

    def lie(code, *words, damage=None, **changes):
        manifest = ec2.make(t.tmp, source, "bundle", user, cloud, **changes)
        if damage:
            damage()
        refused(t, manifest, code, *words, options=key)

    def flip():
        with open(t.path("bundle.part.1"), "r+b") as file:
            file.seek(100)
            byte = file.read(1)[0]
            file.seek(100)
            file.write(bytes([byte ^ 1]))

    with t.sub("a bit of one part"):
        lie(4, "bundle.part.1", "SHA1", damage=flip)
    with t.sub("a part cut short"):
        lie(4, "bundle.part.0", damage=lambda: os.truncate(t.path("bundle.part.0"), 5))
    with t.sub("a part that is not there"):
        lie(1, "bundle.part.1", damage=lambda: os.unlink(t.path("bundle.part.1")))
    with t.sub("a name that leads out"):
        lie(5, "../x", parts=lambda l: [l[0].replace("bundle.part.0", "../x")] + l[1:])
    with t.sub("an absolute name"):
        lie(5, "/etc/passwd", parts=lambda l: [l[0].replace("bundle.part.0", "/etc/passwd")] + l[1:])
    with t.sub("a part twice"):
        lie(4, "part 0 twice", parts=lambda l: [l[0], l[0]] + l[2:])
    with t.sub("a part fewer"):
        lie(4, "lists", parts=lambda l: l[:-1])
    with t.sub("an index past the end"):
        lie(4, "index", parts=lambda l: l[:-1] + [l[-1].replace("index='", "index='99")])
    with t.sub("no digest"):
        lie(4, "SHA1", parts=lambda l: [l[0].replace("<digest algorithm='SHA1'>", "<digest algorithm='SHA1'>x")] + l[1:])
    with t.sub("parts in another order"):
        lie(4, parts=lambda l: [l[0].replace("index='0'", "index='1'"), l[1].replace("index='1'", "index='0'")] + l[2:])
    for field, value, word in (("size", 5, "manifest says"), ("size", "x", "size"), ("bundled", 7, "together"),
                               ("digest", "00" * 20, "SHA1"), ("version", "2031-01-01", "version"),
                               ("count", 10 ** 19, "parts"), ("count", 0, "parts")):
        with t.sub(f"{field} {value}"):
            lie(4, word, **{field: value})
    with t.sub("not gzip inside"):
        lie(4, pack=("cat",), digest="00" * 20)


def test_forged(t):
    """What was signed stands in the manifest, but something else is read."""
    user, cloud = keys(t)
    with open(ec2.make(t.tmp, image(t), "bundle", user, cloud), encoding="ascii") as file:
        text = file.read()
    begin, end = text.index("<machine_configuration>"), text.index("<signature>")
    signed = text[begin:end]
    other = signed.replace("aki-1", "aki-2").replace("bundle.part.0", "other.part.0")
    inner = other[other.index("<image>"):]
    for name, forged in (
            ("as it was", signed), ("something else", other),
            ("in a comment", f"<!-- {signed} -->" + other.replace("<image>", "<image >")),
            ("in a CDATA section", f"<x><![CDATA[{signed}]]></x>" + other.replace("<image>", "<image >")),
            ("in an instruction", f"<?x {signed} ?>" + other.replace("<image>", "<image >")),
            ("in an element of its own", f"<x>{signed}</x>" + other.replace("<image>", "<image >")),
            ("under another prefix", inner.replace("<image>", '<x:image xmlns:x="y">').replace("</image>", "</x:image>") + f"<x>{signed}</x>"),
            ("without the machine", signed.replace("<machine_configuration>", "<machine_configuration >"))):
        with t.sub(name):
            with open(t.path("forged.manifest.xml"), "w", encoding="ascii") as file:
                file.write(text[:begin] + forged + text[end:])
            report = process.vmimg_ok("info", "--json", "--cert", user[1], t.path("forged.manifest.xml")).json()
            equal(report["signature"], "good" if forged == signed else "wrong")


def pack(t, source, user, *options, name="made"):
    manifest = t.path(f"{name}.manifest.xml")
    process.vmimg_ok("pack", "-O", "ec2", "-o", manifest, "--key", user[0], "--cert", user[1], "--user", "123456789012",
                     *options, source)
    return manifest


def element(text, name):
    return re.search(f"<{name}[^>]*>(.*?)</{name}>", text, re.S)[1]


def test_write(t):
    """What is written, taken apart by openssl, gzip and tar alone."""
    user, cloud = keys(t)
    source = disks.pattern(t.path("disk.img"), 60 << 20, data=1 << 20)
    with open(source, "r+b") as file:  # what does not pack, for more than one part
        file.seek(7 << 20)
        file.write(random.Random(1).randbytes(22 << 20))
    manifest = pack(t, source, user, "--cloud-cert", cloud[1], "--kernel-id", "aki-1", "--ramdisk-id", "ari-<&1",
                    "--mapping", "ami=sda1", "--mapping", "root=/dev/sda1", "--product-code", "ABC")
    text = open(manifest, encoding="ascii").read()
    parts = re.findall(r"<part index='(\d+)'><filename>([^<]+)</filename><digest algorithm='SHA1'>(\w+)</digest>", text)
    payload = b""
    for i, (index, name, digest) in enumerate(parts):
        piece = open(t.path(name), "rb").read()
        equal((index, name), (str(i), f"made.part.{i:02}"))
        equal(hashlib.sha1(piece).hexdigest(), digest, name)
        check(len(piece) == 10 << 20 or i == len(parts) - 1, "size of a part")
        payload += piece
    check(len(parts) > 1, "one part only")
    equal(int(element(text, "bundled_size")), len(payload))
    equal(int(element(text, "size")), 60 << 20)
    for who, (key, _) in (("user", user), ("ec2", cloud)):
        with t.sub(f"opened with the key of {who}"):
            secrets = [ec2.openssl("pkeyutl", "-decrypt", "-inkey", key, "-pkeyopt", "rsa_padding_mode:pkcs1",
                                   stdin=bytes.fromhex(element(text, f"{who}_encrypted_{what}"))).decode()
                       for what in ("key", "iv")]
            check(all(re.fullmatch("[0-9a-f]{32}", secret) for secret in secrets), secrets)
            packed = ec2.openssl("enc", "-d", "-aes-128-cbc", "-K", secrets[0], "-iv", secrets[1], stdin=payload)
            tar = gzip.decompress(packed)
            equal(hashlib.sha1(tar).hexdigest(), re.search(r"</type><digest algorithm='SHA1'>(\w+)<", text)[1])
            check(tar[156:157] == b"S" and len(tar) < 40 << 20, "not sparse")
            with t.folder() as folder:
                subprocess.run(["tar", "-xf", "-", "-C", folder], input=tar, check=True)
                equal(disks.sha256(f"{folder}/made"), disks.sha256(source))
    with t.sub("signature"):
        signed = text[text.index("<machine_configuration>"):text.index("<signature>")]
        with open(t.path("signature"), "wb") as file:
            file.write(bytes.fromhex(element(text, "signature")))
        public = ec2.openssl("x509", "-in", user[1], "-noout", "-pubkey")
        with open(t.path("public"), "wb") as file:
            file.write(public)
        ec2.openssl("dgst", "-sha1", "-verify", t.path("public"), "-signature", t.path("signature"), stdin=signed.encode())
    with t.sub("read back"):
        report = process.vmimg_ok("info", "--json", "--cert", user[1], manifest).json()
        equal((report["signature"], report["product-codes"], report["machines"][0]["ramdisk-id"]),
              ("good", ["ABC"], "ari-<&1"))
        equal(report["block-device-mappings"], [{"virtual": "ami", "device": "sda1"},
                                                {"virtual": "root", "device": "/dev/sda1"}])
        process.vmimg_ok("unpack", "--key", user[0], manifest, t.path("folder"))
        equal(disks.sha256(t.path("folder/made")), disks.sha256(source))
        equal(process.vmimg("unpack", manifest, t.path("locked")).code, 2)
        check(not [f for f in os.listdir(t.tmp) if f.startswith("locked")], "a folder was left")
        for key in (user[0], cloud[0]):
            check(convert(t, manifest, "--key", key, "--force").code == 0, key)
            equal(disks.sha256(t.path("out.raw")), disks.sha256(source))


def test_write_sizes(t):
    """Payloads around the sizes of blocks, and an empty image but for its end."""
    user, _ = keys(t)
    for size in (1, 511, 512, 513, 4096, 1 << 20):
        with t.sub(f"{size} bytes"):
            source = disks.pattern(t.path("small.img"), size, seed=size)
            manifest = pack(t, source, user, "--force")
            check(convert(t, manifest, "--key", user[0], "--force").code == 0, size)
            equal(disks.sha256(t.path("out.raw")), disks.sha256(source))


def test_write_refusals(t):
    user, cloud = keys(t)
    source, manifest = image(t), t.path("x.manifest.xml")
    base = ["pack", "-O", "ec2", "-o", manifest]
    who = ["--key", user[0], "--cert", user[1], "--user", "123456789012"]
    for name, words in (("no key", ["--cert", user[1], "--user", "1" * 12]), ("no user", who[:4]),
                        ("a user with dashes", who[:5] + ["1234-5678-9012"]), ("a type of its own", who + ["--type", "x"]),
                        ("a mapping without a device", who + ["--mapping", "ami"]),
                        ("a key for a certificate", ["--key", user[1], "--cert", user[1], "--user", "1" * 12])):
        with t.sub(name):
            result = process.vmimg(*base, *words, source)
            process.check_one_line(result)
            equal(result.code, 2, str(result))
            check(not [f for f in os.listdir(t.tmp) if "manifest" in f or ".part." in f], "something was left")


def test_corpus(t):
    """The bundle that Nova is tested with. Its cloud's private key is not public any more."""
    rows = [e for e in corpus.entries("ec2-manifest")]
    check(rows, "no manifests")
    for row in rows:
        with t.sub(os.path.basename(row.path)):
            report = process.vmimg_ok("info", "--json", row.file).json()
            equal((report["format"], report["virtual-size"], report["creator"]), ("ec2", 1 << 20, "euca-tools"))
            equal([part["filename"] for part in report["references"]], ["1mb.part.0", "1mb.part.1"])
            user = ec2.keypair(t.tmp, "user")
            refused(t, row.file, 2, "neither", options=("--key", user[0]))


if __name__ == "__main__":
    harness.main()
