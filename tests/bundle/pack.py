# SPDX-License-Identifier: Apache-2.0
"""
What `vmimg pack` writes, held against those who have to read it: tar, sha256sum, openssl, xmllint,
qemu-img, 7-Zip and virt-v2v. `pack.py large` is a test by itself: a member of more than 8 GiB.
"""

import hashlib
import os
import re
import subprocess
import sys
import tarfile
import xml.etree.ElementTree as ElementTree

from lib import disks, harness, process, qemu
from lib.harness import check, equal

RASD = "{http://schemas.dmtf.org/wbem/wscim/1/cim-schema/2/CIM_ResourceAllocationSettingData}"


def sources(t):
    """A qcow2 and a raw disk with data and holes."""
    raw = disks.pattern(t.path("data.raw"), 40 << 20, seed=2)
    qcow2 = t.path("disk.qcow2")
    disks.pattern(t.path("disk.raw"), 64 << 20, seed=1)
    process.vmimg_ok("convert", t.path("disk.raw"), qcow2)
    return qcow2, raw


def output(*words, **how):
    return subprocess.run(words, check=True, capture_output=True, **how).stdout.decode()


def unpacked(t, path):
    folder = t.path("unpacked")
    process.vmimg_ok("unpack", path, folder)
    return folder


def pack(t, *words, name="app.ova"):
    process.vmimg_ok("pack", "-o", t.path(name), *words)
    return t.path(name)


def test_members(t):
    """Order, flavour and digests of the archive; the disks inside it."""
    harness.need("qemu-img", "tar", "sha256sum")
    qcow2, raw = sources(t)
    before = set(os.listdir(t.path(".")))
    path = pack(t, "--name", "web", "--cpus", "2", "--memory", "4G", "--firmware", "efi", "--nic", "e1000",
                qcow2, raw)
    equal(set(os.listdir(t.path("."))) - before, {"app.ova"}, "files made")
    equal(output("tar", "tf", path).split(), ["app.ovf", "app.mf", "app-disk1.vmdk", "app-disk2.vmdk"])
    with tarfile.open(path) as tar:
        check(all(not m.pax_headers and m.mtime == 0 for m in tar), "pax headers or times")
    folder = unpacked(t, path)
    sums = output("sha256sum", "app.ovf", "app-disk1.vmdk", "app-disk2.vmdk", cwd=folder)
    with open(os.path.join(folder, "app.mf"), encoding="ascii") as file:
        equal(file.read(), "".join(f"SHA256({name})= {digest}\n" for digest, name in
                                   (line.split() for line in sums.splitlines())), "manifest")
    for number, source in ((1, t.path("disk.raw")), (2, raw)):
        vmdk = os.path.join(folder, f"app-disk{number}.vmdk")
        want = disks.sha256(source)
        equal(qemu.guest_sha256(vmdk, "vmdk", t.path(".")), want, "as qemu-img reads it")
        equal(process.guest_sha256(path, "--disk", str(number)), want, "in place")
    process.vmimg_ok("ovf", "verify", path)


def test_7zip(t):
    """7-Zip reads the disk inside the archive inside the archive."""
    harness.need("7z")
    qcow2, _ = sources(t)
    folder = unpacked(t, pack(t, qcow2))
    out = subprocess.run(["7z", "e", "-so", os.path.join(folder, "app-disk1.vmdk")], check=True,
                         capture_output=True).stdout
    with open(t.path("disk.raw"), "rb") as file:
        check(out == file.read(), "7-Zip reads other bytes")


def test_descriptor(t):
    """Well-formed, sizes as they are, children of every Item in alphabetical order."""
    qcow2, raw = sources(t)
    folder = unpacked(t, pack(t, "--name", "a<b>&\"c\"", "--property", "k.x=1 & 2", "--nic", "vmxnet3,net 1",
                              "--nic", "e1000,net 2", "--secure-boot", "on", "--firmware", "efi", qcow2, raw))
    text = os.path.join(folder, "app.ovf")
    root = ElementTree.parse(text).getroot()
    for item in root.iter("{http://schemas.dmtf.org/ovf/envelope/1}Item"):
        names = [child.tag for child in item if child.tag.startswith(RASD)]
        equal(names, sorted(names), "order")
    for file in root.iter("{http://schemas.dmtf.org/ovf/envelope/1}File"):
        values = {key.split("}")[1]: value for key, value in file.attrib.items()}
        equal(int(values["size"]), os.path.getsize(os.path.join(folder, values["href"])), "size")
    machine = process.vmimg_ok("info", "--json", t.path("app.ova")).json()["machines"][0]
    equal(machine["name"], 'a<b>&"c"')
    equal((machine["firmware"], machine["secure-boot"]), ("efi", True))
    equal([(nic["model"], nic["network"]) for nic in machine["nics"]], [("VmxNet3", "net 1"), ("E1000", "net 2")])
    equal([(p["key"], p["value"]) for p in machine["properties"]], [("k.x", "1 & 2")])
    harness.need("xmllint")
    output("xmllint", "--noout", text)


def test_virt_v2v(t):
    """virt-v2v accepts it and says the same of it."""
    harness.need("virt-v2v")
    qcow2, raw = sources(t)
    for target in ("ova-generic", "ova-vmware", "ova-virtualbox", "ova-ovirt"):
        for firmware, theirs in (("efi", "uefi"), ("bios", "bios")):
            with t.sub(f"{target} {firmware}"):
                path = pack(t, "--force", "--target", target, "--name", "web", "--cpus", "3", "--memory", "3G",
                            "--firmware", firmware, "--nic", "e1000", "--nic", "vmxnet3", qcow2, raw)
                told = output("virt-v2v", "-i", "ova", path, "--print-source", "-o", "null")
                for pattern in (r"source name: web\n", r"memory: 3221225472 ", r"nr vCPUs: 3\n",
                                rf"firmware: {theirs}\n"):
                    check(re.search(pattern, told), f"{pattern!r} is not in {told}")
                equal(len(re.findall(r"^\t\d \[", told, re.M)), 2, "disks")
                equal(len(re.findall(r"^\t(?:Bridge|Network)", told, re.M)), 2, "network adapters")


def test_signature(t):
    """openssl agrees with the signature; a changed manifest is found out."""
    harness.need("openssl")
    key, cert = t.path("key.pem"), t.path("cert.pem")
    output("openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-keyout", key, "-out", cert, "-days",
           "2", "-subj", "/CN=packer")
    _, raw = sources(t)
    for name in ("sha256", "sha1", "sha512"):
        with t.sub(name):
            path = pack(t, "--force", "--hash", name, "--key", key, "--cert", cert, raw)
            equal(output("tar", "tf", path).split(), ["app.ovf", "app.mf", "app.cert", "app-disk1.vmdk"])
            report = process.vmimg_ok("ovf", "verify", "--json", "--trusted", cert, path).json()
            equal(report["findings"][-1]["trusted"], True)
            with tarfile.open(path) as tar:
                signed, manifest = (tar.extractfile("app" + s).read() for s in (".cert", ".mf"))
            line = signed.split(b"\n")[0]
            equal(line.split(b")= ")[0], f"{name.upper()}(app.mf".encode())
            for file, data in (("sig", bytes.fromhex(line.split()[-1].decode())), ("mf", manifest)):
                with open(t.path(file), "wb") as out:
                    out.write(data)
            with open(t.path("pub"), "w", encoding="ascii") as out:
                out.write(output("openssl", "x509", "-in", cert, "-pubkey", "-noout"))
            equal(output("openssl", "dgst", "-" + name, "-verify", t.path("pub"), "-signature", t.path("sig"),
                         t.path("mf")), "Verified OK\n")
            with open(path, "r+b") as file:
                data = file.read()
                file.seek(data.index(manifest))
                file.write(manifest.swapcase() if name == "none" else manifest.replace(b")= ", b") =", 1))
            result = process.vmimg("ovf", "verify", path)
            equal(result.code, 4, str(result))
            check("app.cert" in result.errors, result.errors)
    with t.sub("another's key"):
        output("openssl", "genrsa", "-out", t.path("other.pem"), "2048")
        result = process.vmimg("pack", "-o", t.path("bad.ova"), "--key", t.path("other.pem"), "--cert", cert, raw)
        equal(result.code, 2, str(result))
        check(not os.path.exists(t.path("bad.ova")), "an output was left")


def test_threads(t):
    """The same bytes on any number of threads, and the time from SOURCE_DATE_EPOCH."""
    qcow2, raw = sources(t)
    made = {disks.sha256(pack(t, "--force", "-m", str(n), qcow2, raw)) for n in (1, 2, 8)}
    equal(len(made), 1, "different outputs")
    process.vmimg_ok("pack", "-o", t.path("dated.ova"), raw, extra_env={"SOURCE_DATE_EPOCH": "1234567890"})
    with tarfile.open(t.path("dated.ova")) as tar:
        equal({m.mtime for m in tar}, {1234567890}, "times")


def test_pipe(t):
    """An output that cannot go back gets the same archive, signed or not."""
    harness.need("openssl")
    qcow2, raw = sources(t)
    output("openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-subj", "/CN=t", "-days", "2",
           "-keyout", t.path("key"), "-out", t.path("crt"))
    for extra in ([], ["--key", t.path("key"), "--cert", t.path("crt")]):
        words = ["--name", "web", *extra, qcow2, raw]
        path = pack(t, *words, "--force", name="web.ova")
        with open(path, "rb") as file:
            equal(process.vmimg_ok("pack", "-O", "ova", "-o", "-", *words).out == file.read(), True, "same bytes")


def test_folder(t):
    """An OVF with its files beside it, all or nothing."""
    qcow2, raw = sources(t)
    iso = disks.pattern(t.path("media.iso"), 1 << 20, seed=5)
    os.makedirs(t.path("out"))
    path = pack(t, qcow2, iso, name="out/app.ovf")
    equal(sorted(os.listdir(t.path("out"))), ["app-disk1.vmdk", "app.mf", "app.ovf", "media.iso"])
    process.vmimg_ok("ovf", "verify", path)
    equal(process.guest_sha256(path), disks.sha256(t.path("disk.raw")))
    equal(disks.sha256(t.path("out/media.iso")), disks.sha256(iso))
    drives = process.vmimg_ok("info", "--json", path).json()["machines"][0]["drives"]
    equal([d["kind"] for d in drives], ["disk", "cd"])
    result = process.vmimg("pack", "-o", path, raw)
    equal(result.code, 5, str(result))


def test_refusals(t):
    _, raw = sources(t)
    for words in (["-o", t.path("x.tgz")], ["-o", t.path("x.ova"), "--target", "x"],
                  ["-o", t.path("x.ova"), "--memory", "1000"], ["-o", t.path("x.ova"), "--firmware", "x"],
                  ["-o", t.path("x.ova"), "--hash", "x"], ["-o", t.path("x.ova"), "--key", raw], []):
        with t.sub(" ".join(os.path.basename(w) for w in words)):
            result = process.vmimg("pack", *words, raw)
            check(result.code in (2, 4), str(result))
            process.check_one_line(result)
            check(not os.path.exists(t.path("x.ova")), "an output was left")


def test_many_disks(t):
    """More disks than one controller takes: each has a place of its own."""
    paths = []
    for i in range(17):
        paths.append(t.path(f"d{i}.raw"))
        with open(paths[-1], "wb") as file:
            file.write(bytes([i + 1]) * 65536)
    for bus in ("scsi", "sata", "ide", "nvme"):
        with t.sub(bus):
            path = pack(t, "--force", "--bus", bus, *paths)
            drives = process.vmimg_ok("info", "--json", path).json()["machines"][0]["drives"]
            equal(len({(d["controller"], d["unit"]) for d in drives}), 17, "places")
            check(all(d["unit"] != 7 for d in drives) or bus != "scsi", "unit 7 is the controller's")
    data = bytes([17]) * 65536
    equal(process.guest_sha256(path, "--disk", "17"), hashlib.sha256(data).hexdigest())


def test_large(t):
    """A member of more than 8 GiB: data that does not become smaller, in a size of base-256."""
    size = (8 << 30) + (64 << 20)
    source = t.path("large.raw")
    block = os.urandom(1 << 20)
    with open(source, "wb") as file:
        for i in range(size >> 20):
            file.write(i.to_bytes(8, "little") + block[8:])
    path = t.path("large.ova")
    process.vmimg_ok("pack", "-o", path, "--level", "fast", source, timeout=1800)
    check(os.path.getsize(path) > 8 << 30, "the data became smaller")
    listing = output("tar", "tvf", path).splitlines()
    check(int(listing[-1].split()[2]) > 8 << 30, listing[-1])
    with open(path, "rb") as file:
        data = file.read(16 << 10)
    check(b"ustar  " in data and b"PaxHeader" not in data, "not as GNU writes it")
    process.vmimg_ok("ovf", "verify", path, timeout=1800)
    result = process.vmimg_ok("compare", "--disk", "1", path, path, timeout=1800)
    equal(result.code, 0)
    equal(process.vmimg_ok("digest", "--algorithm", "tree", path, timeout=1800).text.split()[0],
          process.vmimg_ok("digest", "--algorithm", "tree", source, timeout=1800).text.split()[0])


if __name__ == "__main__":
    if sys.argv[1:] != ["large"]:
        del test_large  # takes 17 GiB and minutes
    harness.main()
