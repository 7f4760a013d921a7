# SPDX-License-Identifier: Apache-2.0
"""Bundles for EC2: read with the user's key and with the cloud's; every lie in a manifest is named."""

import os

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
