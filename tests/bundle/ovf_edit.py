# SPDX-License-Identifier: Apache-2.0
"""`vmimg ovf edit`, `ovf sign` and `lint`: descriptors changed, what is not known kept, disks untouched."""

import hashlib
import os
import subprocess
import tarfile
import xml.etree.ElementTree as ElementTree

from lib import corpus, disks, harness, process
from lib.harness import check, equal

OVF = "{http://schemas.dmtf.org/ovf/envelope/1}"
TARGETS = ("ova-generic", "ova-vmware", "ova-virtualbox", "ova-ovirt")


def members(path):
    with tarfile.open(path) as tar:
        return {m.name: tar.extractfile(m).read() for m in tar}


def packed(t, *words):
    raw = disks.pattern(t.path("disk.raw"), 4 << 20, seed=3)
    path = t.path("app.ova")
    process.vmimg_ok("pack", "-o", path, *words, raw)
    return path


def edit(t, path, *words, out="new.ova"):
    process.vmimg_ok("ovf", "edit", "--force", "-o", t.path(out), *words, path)
    process.vmimg_ok("ovf", "verify", t.path(out))
    return t.path(out)


def machine(path):
    return process.vmimg_ok("info", "--json", path).json()["machines"][0]


def test_set(t):
    """What is named is set, listed and seen again; the disk's bytes are the same."""
    with open(t.path("eula"), "w", encoding="utf-8") as file:
        file.write("You <must> & shall.")
    path = packed(t, "--name", "old", "--nic", "e1000")
    new = edit(t, path, "--name", "new & other", "--cpus", "6", "--memory", "6G", "--firmware", "efi",
               "--secure-boot", "on", "--nic", "vmxnet3,left", "--nic", "e1000,right", "--property", "a.b=<c>",
               "--eula", t.path("eula"), "--annotation", "noted", "--os", "debian", "--hardware", "vmx-15")
    seen = machine(new)
    for key, want in (("name", "new & other"), ("cpus", 6), ("memory", 6 << 30), ("firmware", "efi"),
                      ("secure-boot", True), ("eulas", ["You <must> & shall."]), ("annotation", "noted"),
                      ("os-id", 96), ("hardware", "vmx-15")):
        equal(seen[key], want, key)
    equal([(n["model"], n["network"]) for n in seen["nics"]], [("VmxNet3", "left"), ("E1000", "right")])
    equal([(p["key"], p["value"]) for p in seen["properties"]], [("a.b", "<c>")])
    equal(members(new)["app-disk1.vmdk"], members(path)["app-disk1.vmdk"], "the disk's file")
    with t.sub("again"):
        again = edit(t, new, "--property", "a.b=2", "--cpus", "1", out="again.ova")
        seen = machine(again)
        equal((seen["cpus"], [(p["key"], p["value"]) for p in seen["properties"]]), (1, [("a.b", "2")]))
    with t.sub("same bytes"):
        equal(disks.sha256(edit(t, path, "--cpus", "3", out="a.ova")),
              disks.sha256(edit(t, path, "--cpus", "3", out="a.ova")))


def test_unknown_is_kept(t):
    """Sections, attributes and files that nothing here knows."""
    content = members(packed(t))
    text = content["app.ovf"].decode()
    text = text.replace("<VirtualSystem ", '<x:Strange xmlns:x="urn:x" x:a="1"><x:y>text &amp; more</x:y></x:Strange>'
                        "<VirtualSystem ", 1)
    path = t.path("strange.ova")
    with tarfile.open(path, "w", format=tarfile.USTAR_FORMAT) as tar:
        for name, data in (("app.ovf", text.encode()), ("note.txt", b"hello"),
                           ("app-disk1.vmdk", content["app-disk1.vmdk"])):
            with open(t.path("member"), "wb") as file:
                file.write(data)
            tar.add(t.path("member"), name)
    new = edit(t, path, "--cpus", "2")
    equal(members(new)["note.txt"], b"hello")
    root = ElementTree.fromstring(members(new)["new.ovf"])
    strange = root.find("{urn:x}Strange")
    equal(strange.attrib, {"{urn:x}a": "1"})
    equal(strange.find("{urn:x}y").text, "text & more")
    with t.sub("may be passed over for VMware"):
        root = ElementTree.fromstring(members(edit(t, path, "--target", "ova-vmware"))["new.ovf"])
        equal(root.find("{urn:x}Strange").attrib.get(OVF + "required"), "false")


def test_targets(t):
    """From each dialect into each other: lint has nothing left that edit could change."""
    for source in TARGETS:
        path = packed(t, "--force", "--target", source, "--nic", "e1000")
        for target in TARGETS:
            with t.sub(f"{source} to {target}"):
                new = edit(t, path, "--target", target)
                report = process.vmimg("lint", "--json", "--target", target, new)
                equal([f for f in report.json()["findings"] if f["code"] == "dialect"], [])
                equal(machine(new)["drives"][0]["file"], "app-disk1.vmdk")
    equal(machine(edit(t, packed(t, "--force", "--target", "ova-virtualbox"), "--target", "ova-vmware"))["hardware"],
          "vmx-13")


def test_corpus_lint(t):
    """Every real descriptor: a verdict, never a crash; what VirtualBox 2.x wrote is brought down to 1.x."""
    for entry in corpus.entries("ovf", "ova"):
        with t.sub(entry.path):
            for target in TARGETS:
                result = process.vmimg("lint", "--json", "--target", target, entry.file)
                process.check_bars(result, target)
                check(result.code in (0, 4), str(result))
    with t.sub("2.0"):
        entry = corpus.entry("cot/ubuntu.2.0.ovf")
        report = process.vmimg("lint", "--json", "--target", "ova-vmware", entry.file).json()
        said = " ".join(f["text"] for f in report["findings"])
        for word in ("OVF 2.x becomes 1.x", "vmx-13", "PIIX4", "StorageItem", "EthernetPortItem", "ovf:/disk/vmdisk1"):
            check(word in said, f"{word!r} is not in {said}")


def test_corpus_edit(t):
    """A descriptor that VirtualBox wrote in 2.0, with a disk put beside it, for the readers of 1.x."""
    entry = corpus.entry("cot/ubuntu.2.0.ovf")
    disks.copy(entry.file, t.path("u.ovf"))
    disks.pattern(t.path("d.raw"), 1 << 20, seed=4)
    process.vmimg_ok("convert", "-c", t.path("d.raw"), t.path("ubuntu.2.0-disk1.vmdk"))
    new = edit(t, t.path("u.ovf"), "--target", "ova-vmware")
    text = members(new)["new.ovf"]
    check(b"envelope/2" not in text and b"StorageItem" not in text, "it is still 2.x")
    equal(process.guest_sha256(new), disks.sha256(t.path("d.raw")))
    harness.need("xmllint")
    subprocess.run(["xmllint", "--noout", "-"], input=text, check=True)
    harness.need("virt-v2v")
    told = subprocess.run(["virt-v2v", "-i", "ova", new, "--print-source", "-o", "null"], check=True,
                          capture_output=True).stdout.decode()
    check("memory: 536870912" in told and "0 [sata]" in told, told)


def test_folder(t):
    """A descriptor beside the old one: the files stay where they are, and are hashed."""
    raw = disks.pattern(t.path("disk.raw"), 1 << 20, seed=3)
    process.vmimg_ok("pack", "-o", t.path("a.ovf"), raw)
    before = set(os.listdir(t.path(".")))
    new = edit(t, t.path("a.ovf"), "--name", "b", out="b.ovf")
    equal(set(os.listdir(t.path("."))) - before, {"b.ovf", "b.mf"}, "new files")
    equal(process.guest_sha256(new), disks.sha256(raw))
    os.makedirs(t.path("other"))
    edit(t, new, out="other/c.ovf")
    equal(sorted(os.listdir(t.path("other"))), ["a-disk1.vmdk", "c.mf", "c.ovf"])


def test_sign(t):
    harness.need("openssl")
    path = packed(t)
    key, cert = t.path("key.pem"), t.path("cert.pem")
    subprocess.run(["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-keyout", key, "-out", cert,
                    "-days", "2", "-subj", "/CN=signer"], check=True, capture_output=True)
    process.vmimg_ok("ovf", "sign", "--key", key, "--cert", cert, "-o", t.path("s.ova"), path)
    report = process.vmimg_ok("ovf", "verify", "--json", "--trusted", cert, t.path("s.ova")).json()
    equal([f["status"] for f in report["findings"]], ["ok", "ok", "ok"])
    with tarfile.open(t.path("s.ova")) as tar:
        equal(tar.getnames(), ["s.ovf", "s.mf", "s.cert", "app-disk1.vmdk"])
    equal(process.vmimg("ovf", "verify", "--trusted", cert, path).code, 4, "an unsigned one")
    equal(process.vmimg("ovf", "sign", "-o", t.path("x.ova"), path).code, 2)


def test_keys(t):
    """Of kinds that OVF does not sign with, and a certificate of one where a signature of another is."""
    harness.need("openssl")
    path, signed = packed(t), t.path("s.ova")
    certificates = {}
    for name, kind in ("rsa", ["rsa:2048"]), ("elliptic", ["ec", "-pkeyopt", "ec_paramgen_curve:P-256"]), ("edwards", ["ed25519"]):
        key, cert = t.path(f"{name}.key"), t.path(f"{name}.pem")
        subprocess.run(["openssl", "req", "-x509", "-newkey", *kind, "-nodes", "-keyout", key, "-out", cert, "-subj", "/CN=signer"],
                       check=True, capture_output=True)
        with open(cert, encoding="ascii") as file:
            certificates[name] = file.read()
        result = process.vmimg("ovf", "sign", "--force", "--key", key, "--cert", cert, "-o", signed, path)
        says = {"rsa": "", "elliptic": "this is another kind of key", "edwards": "OpenSSL cannot sign with this key"}[name]
        check(result.code == (4 if says else 0) and says in result.errors, str(result))
    files = members(signed)
    for name, says in ("elliptic", "the signature is not that of the manifest"), ("edwards", "OpenSSL cannot verify with this certificate's key"):
        for member, data in files.items():
            with open(t.path(member), "wb") as file:
                file.write(data)
        with open(t.path("s.cert"), "r+", encoding="ascii") as file:
            first = file.read().split("-----BEGIN CERT")[0]
            file.seek(0)
            file.write(first + certificates[name])
            file.truncate()
        result = process.vmimg("ovf", "verify", t.path("s.ovf"))
        check(result.code == 4 and says in result.errors + result.text, str(result) + result.text)


def test_chains(t):
    """Who may sign for whom is judged as openssl does: a leaf signs nobody, and each has its time."""
    harness.need("openssl")
    path = packed(t)

    def openssl(*words):
        return subprocess.run(["openssl", *words], check=False, capture_output=True).returncode

    def issued(name, issuer, ca, days="2"):
        base = t.path(name)
        with open(f"{base}.ext", "w", encoding="ascii") as file:
            file.write(f"basicConstraints=critical,CA:{ca}\n")
        openssl("req", "-new", "-newkey", "rsa:2048", "-nodes", "-keyout", f"{base}.key", "-out", f"{base}.csr", "-subj", f"/CN={name}")
        equal(openssl("x509", "-req", "-in", f"{base}.csr", "-CA", f"{t.path(issuer)}.crt", "-CAkey", f"{t.path(issuer)}.key",
                      "-CAcreateserial", "-days", days, "-extfile", f"{base}.ext", "-out", f"{base}.crt"), 0, name)
    for name in "root", "other":
        equal(openssl("req", "-x509", "-newkey", "rsa:2048", "-nodes", "-keyout", t.path(f"{name}.key"), "-out", t.path(f"{name}.crt"),
                      "-days", "2", "-subj", f"/CN={name}", "-addext", "basicConstraints=critical,CA:TRUE"), 0)
    issued("middle", "root", "TRUE")
    issued("signer", "middle", "FALSE")
    issued("below", "signer", "FALSE")
    issued("short", "root", "TRUE", days="-1")
    issued("late", "short", "FALSE")
    for chain, trusted, wanted in (
            (("middle",), "root", True), (("signer", "middle"), "root", True), (("signer", "middle"), "middle", True),
            (("signer",), "signer", True), (("signer", "middle"), "other", False), (("signer",), "root", False),
            (("below", "signer", "middle"), "root", False), (("below", "signer"), "middle", False), (("late", "short"), "root", False)):
        with t.sub(f"{' '.join(chain)} under {trusted}"):
            with open(t.path("chain.pem"), "w", encoding="ascii") as file:
                for name in chain:
                    with open(t.path(f"{name}.crt"), encoding="ascii") as one:
                        file.write(one.read())
            process.vmimg_ok("ovf", "sign", "--force", "--key", t.path(f"{chain[0]}.key"), "--cert", t.path("chain.pem"),
                             "-o", t.path("s.ova"), path)
            result = process.vmimg("ovf", "verify", "--json", "--trusted", t.path(f"{trusted}.crt"), t.path("s.ova"))
            equal((result.code, result.json()["findings"][-1]["trusted"]), (0 if wanted else 4, wanted), str(result))
            peer = openssl("verify", "-partial_chain", "-CAfile", t.path(f"{trusted}.crt"), "-untrusted", t.path("chain.pem"),
                           t.path(f"{chain[0]}.crt"))
            equal(peer == 0, wanted, "as openssl")


def test_refusals(t):
    path = packed(t)
    digest = hashlib.sha256(open(path, "rb").read()).hexdigest()
    for words in (["edit"], ["edit", "-o", path], ["edit", "-o", t.path("x.tar")], ["frob"],
                  ["edit", "-o", t.path("x.ova"), "--target", "x"], ["edit", "-o", t.path("x.ova"), "--os", "x"]):
        result = process.vmimg("ovf", *words, path)
        check(result.code in (2, 5), str(result))
        process.check_one_line(result)
        check(not os.path.exists(t.path("x.ova")), "an output was left")
    equal(hashlib.sha256(open(path, "rb").read()).hexdigest(), digest, "the bundle")
    process.vmimg_ok("ovf", "edit", "--force", "-o", path, "--cpus", "5", path)
    equal(machine(path)["cpus"], 5)


if __name__ == "__main__":
    harness.main()
