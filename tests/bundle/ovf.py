# SPDX-License-Identifier: Apache-2.0
"""OVF and OVA read: machines of real descriptors, disks in place, manifests, and hostile ones."""

import gzip
import hashlib
import io
import os
import struct
import subprocess
import tarfile

from lib import corpus, disks, harness, process, qemu
from lib.harness import check, equal

HERE = os.path.dirname(os.path.abspath(__file__))
SPACE = "http://schemas.dmtf.org/ovf/envelope/1"
STREAM = "http://www.vmware.com/interfaces/specifications/vmdk.html#streamOptimized"
RAW = "http://en.wikipedia.org/wiki/Byte"


def descriptor(*files, items="", head=""):
    """An envelope with a disk for each (href, attributes of File, capacity)."""
    refs = "".join(f'<File ovf:id="f{i}" ovf:href="{href}" {more}/>'
                   for i, (href, more, _) in enumerate(files) if href)
    parts = "".join(f'<Disk ovf:diskId="d{i}" ovf:capacity="{size}" ovf:format="{RAW}"'
                    + (f' ovf:fileRef="f{i}"' if href else "") + "/>"
                    for i, (href, _, size) in enumerate(files))
    drives = "".join(f"<Item><rasd:HostResource>ovf:/disk/d{i}</rasd:HostResource>"
                     f"<rasd:InstanceID>{i + 9}</rasd:InstanceID>"
                     "<rasd:ResourceType>17</rasd:ResourceType></Item>" for i in range(len(files)))
    return (f'<?xml version="1.0"?>{head}<Envelope xmlns="{SPACE}" xmlns:ovf="{SPACE}" xmlns:rasd="r">'
            f"<References>{refs}</References><DiskSection>{parts}</DiskSection>"
            '<VirtualSystem ovf:id="vm"><VirtualHardwareSection>'
            f"{drives}{items}</VirtualHardwareSection></VirtualSystem></Envelope>").encode()


def ova(path, members, fmt=tarfile.USTAR_FORMAT):
    with tarfile.open(path, "w", format=fmt) as tar:
        for name, data in members:
            info = tarfile.TarInfo(name)
            info.size = len(data)
            tar.addfile(info, io.BytesIO(data))
    return path


def write(path, data):
    with open(path, "wb") as file:
        file.write(data)
    return path


def sha256(data):
    return hashlib.sha256(data).hexdigest()


def guest(path, *options):
    return process.guest_sha256(path, *options)


def summary(machine):
    """A machine in one line, as ovf_machines.tsv has it."""
    out = [f"{machine.get('cpus', 0)} cpus", f"{machine.get('memory', 0) >> 20} MiB",
           machine.get("firmware", "-")]
    for drive in machine["drives"]:
        text = drive["kind"]
        if "file" in drive:
            text += " " + drive["file"]
        elif drive["kind"] == "disk":
            text += " (empty)"
        text += f" {drive['virtual-size']}" if "virtual-size" in drive else ""
        text += f" {drive['bus']}:{drive['unit']}" if "bus" in drive else ""
        out.append(text + (" unused" if drive.get("unused") else ""))
    nics = [nic.get("model", "any") for nic in machine.get("nics", [])]
    return "; ".join(out + (["nics " + " ".join(nics)] if nics else []))


def test_corpus(t):
    """Every descriptor of the corpus gives the machines that its text says."""
    known = {entry.path: entry for entry in corpus.entries("ovf", "ova")}
    wanted = {}
    with open(os.path.join(HERE, "ovf_machines.tsv"), encoding="utf-8") as file:
        for line in file:
            path, text = line.rstrip("\n").split("\t")
            wanted.setdefault(path, []).append(text)
    check(len(set(known) & set(wanted)) > 40, "the table and the corpus have little in common")
    for path in sorted(set(known) & set(wanted)):
        with t.sub(path):
            result = process.vmimg("info", "--json", known[path].file)
            process.check_bars(result)
            if wanted[path][0].startswith("= exit"):
                equal(result.code, int(wanted[path][0].split()[-1]), str(result))
                continue
            equal([summary(m) for m in result.json()["machines"]], wanted[path], "machines")
            equal(result.json()["schema"], "vmimg.info/1")


def test_corpus_disks(t):
    """A member read in place is the disk that qemu-img finds in the unpacked file."""
    harness.need("qemu-img")
    entry = next(e for e in corpus.entries("ova") if e.path.endswith("t2-ovftool-4.1.0.ova"))
    with tarfile.open(entry.file) as tar:
        name = next(n for n in tar.getnames() if n.endswith(".vmdk"))
        path = write(t.path("disk.vmdk"), tar.extractfile(name).read())
    equal(guest(entry.file), qemu.guest_sha256(path, "vmdk", t.path(".")))
    equal(process.vmimg_ok("info", "--json", "--disk", "1", entry.file).json()["format"], "vmdk")


def test_corpus_signatures(t):
    """Manifests and certificates that ovftool and VirtualBox wrote."""
    for entry in corpus.entries("ova"):
        if "ovftool-4.1.0" not in entry.path:
            continue
        with t.sub(entry.path):
            report = process.vmimg_ok("ovf", "verify", "--json", entry.file).json()
            check(report["verified"], "not verified")
            signed = [f for f in report["findings"] if "subject" in f]
            equal(len(signed), "t2" not in entry.path, "signatures")


def test_tar_flavours(t):
    """The same disk in every kind of archive, plain and sparse, is read where it lies."""
    data = os.urandom(100_000) + bytes(3_000_000) + os.urandom(5_000)
    members = [("d/" + "long-name-" * 12 + ".raw", data), ("a.ovf", None)]
    members[1] = ("a.ovf", descriptor((members[0][0], "", len(data))))
    for name, fmt in (("gnu", tarfile.GNU_FORMAT), ("pax", tarfile.PAX_FORMAT)):
        with t.sub(name):
            path = ova(t.path(name + ".ova"), members, fmt)
            equal(guest(path), sha256(data))
            before = set(os.listdir(t.path(".")))
            process.vmimg_ok("convert", "-O", "raw", path, t.path(name + ".raw"))
            equal(set(os.listdir(t.path("."))) - before, {name + ".raw"}, "files made")
    harness.need("tar")
    folder = t.path("src")
    os.makedirs(os.path.join(folder, "d"))
    for name, content in members:
        write(os.path.join(folder, name), content)
    with open(os.path.join(folder, members[0][0]), "r+b") as file:
        subprocess.run(["fallocate", "-d", file.name], check=True)
    for fmt in (["gnu"], ["posix", "--sparse-version=0.0"], ["posix", "--sparse-version=0.1"],
                ["posix", "--sparse-version=1.0"]):
        with t.sub("sparse " + " ".join(fmt)):
            path = t.path("sparse.ova")
            subprocess.run(["tar", "-S", "-C", folder, "--format=" + fmt[0], *fmt[1:], "-cf", path,
                            "a.ovf", members[0][0]], check=True)
            check(os.path.getsize(path) < 1_000_000, "tar made no sparse member")
            equal(guest(path), sha256(data))


def test_choice(t):
    """Several disks must be chosen from; an empty one is zeroes; one that is not there is an error."""
    one, two = os.urandom(65536), os.urandom(4096)
    path = ova(t.path("x.ova"), [("one", one), ("two", two), ("x.ovf", descriptor(
        ("one", "", 65536), ("two", "", 4096), (None, "", 8192)))])
    result = process.vmimg("digest", path)
    equal(result.code, 2, str(result))
    check("1: one, 2: two" in result.errors, "the disks are not listed: " + result.errors)
    for number, data in ((1, one), (2, two), (3, bytes(8192))):
        equal(guest(path, "--disk", str(number)), sha256(data))
    equal(process.vmimg("digest", "--disk", "4", path).code, 2)
    equal(process.vmimg("digest", "--disk", "1", write(t.path("r.raw"), one)).code, 2)
    for verb in (["map"], ["check"], ["measure", "-O", "qcow2"]):
        result = process.vmimg(*verb, "--disk", "1", path)
        check(result.code in (0, 63), str(result))


def test_packed_and_chunked(t):
    data = os.urandom(200_000) + bytes(800_000)
    packed = gzip.compress(data)
    with t.sub("gzip"):
        path = ova(t.path("g.ova"), [("g.ovf", descriptor(
            ("d.gz", f'ovf:compression="gzip" ovf:size="{len(packed)}"', len(data)))), ("d.gz", packed)])
        equal(guest(path), sha256(data))
    with t.sub("gzip, and nobody says so"):
        path = ova(t.path("u.ova"), [("g.ovf", descriptor(("d.gz", "", len(data)))), ("d.gz", packed)])
        equal(guest(path), sha256(data))
    with t.sub("gzip bomb"):
        bomb = gzip.compress(bytes(64 << 20))
        path = ova(t.path("b.ova"), [("b.ovf", descriptor(
            ("d.gz", 'ovf:compression="gzip"', 4096))), ("d.gz", bomb)])
        equal(process.vmimg("digest", path).code, 6)
    with t.sub("chunks"):
        step = 300_000
        chunks = [(f"d.{i:09d}", data[i * step:(i + 1) * step]) for i in range(4)]
        path = ova(t.path("c.ova"), [("c.ovf", descriptor(
            ("d", f'ovf:size="{len(data)}" ovf:chunkSize="{step}"', len(data)))), *chunks])
        equal(guest(path), sha256(data))
    with t.sub("gzipped archive"):
        with open(path, "rb") as file:
            write(t.path("c.ova.gz"), gzip.compress(file.read()))
        equal(guest(t.path("c.ova.gz")), sha256(data))


def test_volume_format(t):
    """oVirt calls a raw disk a sparse VMDK, virt-v2v every disk raw: their volume-format is right."""
    harness.need("qemu-img")
    raw = disks.pattern(t.path("disk.raw"), 1 << 20, seed=5, data=1 << 18)
    qemu.convert(raw, t.path("disk.cow"), "raw", "qcow2")
    for name, said, uri in (("disk.raw", "RAW", STREAM), ("disk.cow", "COW", RAW)):
        with t.sub(said):
            text = descriptor((name, "", 1 << 20)).decode().replace(
                f'ovf:format="{RAW}"', f'ovf:format="{uri}" ovf:volume-format="{said}"')
            equal(guest(write(t.path(f"{said}.ovf"), text.encode())), process.guest_sha256(raw))


def test_encodings(t):
    """XML says how it is encoded, or its first bytes do."""
    data = os.urandom(4096)
    write(t.path("d"), data)
    text = descriptor(("d", "", len(data))).decode()
    for name, coded in (("mark", text.encode("utf-16")), ("big", text.encode("utf-16-be")),
                        ("little", text.encode("utf-16-le")), ("utf-8", text.encode("utf-8-sig"))):
        with t.sub(name):
            equal(guest(write(t.path(f"{name}.ovf"), coded)), sha256(data))


def test_delta(t):
    """A disk whose parentRef names another of the bundle."""
    harness.need("qemu-img", "qemu-io")
    base = qemu.create(t.path("base.vmdk"), "vmdk", 1 << 20)
    qemu.io(base, "write -P 7 0 64k", fmt="vmdk")
    child = t.path("child.vmdk")
    qemu.img("create", "-q", "-f", "vmdk", "-b", base, "-F", "vmdk", child)
    qemu.io(child, "write -P 9 64k 64k", fmt="vmdk")
    want = qemu.guest_sha256(child, "vmdk", t.path("."))
    text = descriptor(("base.vmdk", "", 1 << 20), ("child.vmdk", "", 1 << 20)).decode()
    text = text.replace(RAW, STREAM).replace('ovf:diskId="d1"', 'ovf:diskId="d1" ovf:parentRef="d0"')
    with open(base, "rb") as a, open(child, "rb") as b:
        path = ova(t.path("x.ova"), [("x.ovf", text.encode()), ("base.vmdk", a.read()),
                                     ("child.vmdk", b.read())])
    equal(guest(path, "--disk", "2"), want)


def refused(t, name, path, info, digest):
    """The exit codes of info and digest, within the bars."""
    for verb, code in (("info", info), ("digest", digest)):
        result = process.vmimg(verb, path)
        process.check_bars(result, f"{name}: {verb}")
        equal(result.code, code, f"{name}: {result}")
        if result.code:
            process.check_one_line(result, f"{name}: {verb}")


def test_hostile_descriptors(t):
    entity = '<!DOCTYPE e [<!ENTITY x SYSTEM "file:///etc/passwd">]>'
    with t.sub("o-doctype"):
        for i, text in enumerate((descriptor(head="<!DOCTYPE Envelope>"),
                                  descriptor(head="<!-- < --> <?x y?>" + entity),
                                  descriptor(head=entity).decode().encode("utf-16"))):
            refused(t, "doctype", write(t.path(f"{i}.ovf"), text), 5, 5)
            refused(t, "doctype", ova(t.path(f"{i}.ova"), [("x.ovf", text)]), 5, 5)
    with t.sub("o-href"):
        for href in ("/etc/passwd", "../x", "a/../../x", "http://h/x", "file:///etc/passwd", "%2e%2e/x",
                     "%2E%2E%2fx", "%252e%252e/x", "..\\x", "../ovf-evil/d.vmdk", "c:/x", ""):
            text = descriptor((href, "", 512)) if href else descriptor(("%", "", 512)).replace(b"%", b"")
            refused(t, href, write(t.path("h.ovf"), text), 0, 5)
            refused(t, href, ova(t.path("h.ova"), [("x.ovf", text), ("x", bytes(512))]), 0, 5)
    with t.sub("o-href-sibling"):
        os.makedirs(t.path("app"))
        os.makedirs(t.path("app-evil"))
        write(t.path("app-evil/d.raw"), bytes(512))
        refused(t, "sibling", write(t.path("app/a.ovf"), descriptor(
            ("../app-evil/d.raw", "", 512))), 0, 5)
        os.symlink("../app-evil/d.raw", t.path("app/link"))
        refused(t, "symlink", write(t.path("app/b.ovf"), descriptor(("link", "", 512))), 0, 5)
    with t.sub("o-depth"):
        start = descriptor().split(b"<References>")[0]
        refused(t, "200000", write(t.path("deep.ovf"), start + b"<a>" * 200_000), 4, 4)
        refused(t, "100", write(t.path("deep.ovf"), start + b"<a>" * 100 + b"</a>" * 100 + b"</Envelope>"),
                4, 4)
    with t.sub("size"):
        refused(t, "5 MiB", write(t.path("big.ovf"), start + b" " * (5 << 20) + b"</Envelope>"), 6, 6)
        refused(t, "elements", write(t.path("many.ovf"), start + b"<a/>" * 1_000_000 + b"</Envelope>"), 0, 4)
        refused(t, "files", write(t.path("files.ovf"), start + b"<References>" + b"<File/>" * 20_000
                                  + b"</References></Envelope>"), 6, 6)
    with t.sub("escapes"):
        text = descriptor(("\u202ex", "", 512)).replace(b'ovf:id="vm"', b'ovf:id="&#x9b;31m"')
        result = process.vmimg("info", write(t.path("esc.ovf"), text))
        process.check_bars(result)
        equal(result.code, 0, str(result))


def header(name, size, kind=b"0", link=b""):
    block = bytearray(512)
    block[:len(name)] = name
    block[100:108] = b"0000644\0"
    block[124:124 + len(size)] = size
    block[156:157] = kind
    block[157:157 + len(link)] = link
    block[257:265] = b"ustar\00000"
    block[148:156] = b"        "
    block[148:155] = b"%06o\0" % sum(block)
    return bytes(block)


def test_hostile_archives(t):
    text = descriptor(("x/f", "", 512))
    start = header(b"x.ovf", b"%011o\0" % len(text)) + text + bytes(-len(text) % 512)
    data = header(b"x/f", b"%011o\0" % 512) + bytes(512)
    cases = {
        "t-symlink-then-file": (start + header(b"x", b"0\0", b"2", b"../../") + data, 5),
        "t-pax-size-neg": (start + header(b"p", b"%011o\0" % 11, b"x") + b"11 size=-1\n" + bytes(501) + data, 4),
        "t-base256-huge": (start + header(b"x/f", b"\x80" + bytes(3) + struct.pack(">Q", 1 << 63)), 4),
        "t-base256-negative": (start + header(b"x/f", b"\xff" * 12), 4),
        "t-trunc": (start + header(b"x/f", b"%011o\0" % 1000000) + bytes(5000), 4),
        "t-dotdot": (start + header(b"../x", b"%011o\0" % 512) + bytes(512), 5),
        "t-absolute": (start + header(b"/x", b"%011o\0" % 512) + bytes(512), 5),
        "t-checksum": (start + data[:-600].replace(b"0000644", b"0000744") + bytes(600), 4),
        "t-extended-chain": (start + (header(b"L", b"%011o\0" % 5, b"L") + b"name\0" + bytes(507)) * 100 + data,
                             4),
    }
    for name, (archive, code) in cases.items():
        with t.sub(name):
            refused(t, name, write(t.path(name + ".ova"), archive + bytes(1024)
                                   if name != "t-trunc" else archive), code, code)
            if code == 5:
                result = process.vmimg("unpack", t.path(name + ".ova"), t.path("out"))
                equal(result.code, 5, str(result))
                check(not os.path.exists(t.path("out")), "a folder was left")


def verify(path, *options):
    return process.vmimg("ovf", "verify", "--json", *options, path)


def statuses(result):
    return {f["file"]: f["status"] for f in result.json()["findings"]}


def test_manifest(t):
    data = os.urandom(5000)
    text = descriptor(("d", "", 5000))

    def archive(lines):
        return ova(t.path("m.ova"), [("m.ovf", text), ("m.mf", lines.encode()), ("d", data)])

    for name in ("sha1", "sha256", "sha512"):
        word, a, b = name.upper(), hashlib.new(name, text).hexdigest(), hashlib.new(name, data).hexdigest()
        for form in ("{0}({1})= {2}\n", "{0} ({1}) = {2}\r\n", "  {0}({1})={2}", "{0}({1})=   {2}\n\n"):
            with t.sub(f"{name} {form!r}"):
                lines = form.format(word, "m.ovf", a) + "\n" + form.format(word, "d", b)
                equal(statuses(verify(archive(lines))), {"m.ovf": "ok", "d": "ok"})
    good = f"SHA256(m.ovf)= {sha256(text)}\nSHA256(d)= {sha256(data)}\n"
    for what, lines, want in (
            ("o-sha-mismatch", good.replace(sha256(data), "0" * 64), {"m.ovf": "ok", "d": "mismatch"}),
            ("missing", good + f"SHA256(e)= {'1' * 64}\n", {"m.ovf": "ok", "d": "ok", "e": "missing"}),
            ("unlisted", good.split("\n")[0] + "\n", {"m.ovf": "ok", "d": "unlisted"})):
        with t.sub(what):
            result = verify(archive(lines))
            equal(result.code, 4, str(result))
            equal(statuses(result), want)
            bad = next(name for name, status in want.items() if status != "ok")
            check(bad in result.errors, "the error does not name it: " + result.errors)
    with t.sub("malformed"):
        for lines in ("nonsense\n", "SHA256(d)= 12\n", "SHA256(d)= " + "g" * 64, "CRC(d)= 12345678\n"):
            result = verify(archive(lines))
            process.check_bars(result)
            equal(result.code, 4, str(result))
    with t.sub("outside"):
        equal(verify(archive(good + f"SHA256(../e)= {'1' * 64}\n")).code, 5)
    with t.sub("none"):
        equal(verify(ova(t.path("n.ova"), [("m.ovf", text), ("d", data)])).code, 4)


def test_unpack(t):
    data = os.urandom(3000) + bytes(1 << 20)
    path = ova(t.path("u.ova"), [("u.ovf", descriptor(("sub/d", "", len(data)))), ("sub/d", data)])
    process.vmimg_ok("unpack", path, t.path("out"))
    with open(t.path("out/sub/d"), "rb") as file:
        check(file.read() == data, "other bytes")
    equal(guest(t.path("out/u.ovf")), sha256(data))
    result = process.vmimg("unpack", path, t.path("out"))
    equal(result.code, 5, str(result))
    equal(sorted(os.listdir(t.path("."))), ["out", "u.ova"])


if __name__ == "__main__":
    harness.main()
