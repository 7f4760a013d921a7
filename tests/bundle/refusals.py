# SPDX-License-Identifier: Apache-2.0
"""Every refusal of the readers of archives, descriptors and manifests has an input that meets it."""

import gzip
import hashlib
import os
import re
import sys

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
import ovf
from lib import disks, harness, process
from lib.harness import check

LIMIT, BAD, OTHER, REFUSED, FINE = 6, 4, 4, 5, 0
OCTAL, BINARY = "%011o\0", bytes


def refused(t, name, data, code, says, *words, file="x.ova", env=None):
    """One input: its exit code, what is said, and the bars."""
    with t.sub(name), t.folder() as folder:
        path = ovf.write(f"{folder}/{file}", data)
        args = [word.replace("@", path).replace("NEW", f"{folder}/new") for word in words or ("info", "@")]
        result = process.vmimg(*args, extra_env=env)
        process.check_bars(result, name)
        check(result.code == code, f"want {code}: {result}")
        check(re.search(says, result.errors + result.text), f"nothing says {says!r}: {result}")
        if code:
            process.check_one_line(result, name)
        check(not os.path.exists(f"{folder}/new"), "something was left")


# ---- tar ---------------------------------------------------------------------------------------


def header(name, size=0, kind="0", magic=b"ustar\x0000", changes=()):
    block = bytearray(512)
    block[0:len(name)] = name
    block[100:108], block[108:116], block[116:124] = b"0000644\0", b"0000000\0", b"0000000\0"
    block[124:136], block[136:148] = (OCTAL % size).encode(), b"00000000000\0"
    block[156:157], block[257:265] = kind.encode(), magic
    for at, data in changes:
        block[at:at + len(data)] = data
    block[148:156] = b" " * 8
    block[148:156] = b"%06o\0 " % sum(block)
    return bytes(block)


def member(name, data, **how):
    return header(name, how.pop("size", len(data)), **how) + data + bytes(-len(data) % 512)


def pax(**records):
    text = b""
    for key, value in records.items():
        line = f" {key.replace('__', '.')}={value}\n".encode()
        length = len(line) + 1
        while len(str(length)) + len(line) != length:
            length = len(str(length)) + len(line)
        text += str(length).encode() + line
    return member(b"pax", text, kind="x")


GNU = b"ustar  \0"
END = bytes(1024)


def gnu(*entries, real=b"00000001000\0"):
    changes = [(386 + 24 * i, entry) for i, entry in enumerate(entries)]
    return member(b"sparse", b"x" * 512, kind="S", magic=GNU, changes=[*changes, (483, real)])


def sparse(text, size=None):
    """Version 1.0: the map is at the start of the data."""
    return pax(GNU__sparse__major=1, GNU__sparse__minor=0, GNU__sparse__name="s", GNU__sparse__realsize=512) + \
        member(b"s", text, size=size if size is not None else -(-len(text) // 512) * 512)


def test_tar(t):
    first = member(b"a.ovf", ovf.descriptor())
    many = ",".join(["0,0"] * 600000)
    rows = [
        ("extended header of 5 MiB", header(b"x", 5 << 20, kind="x") + bytes(5 << 20), LIMIT, "bytes of extended header"),
        ("a million stretches", pax(GNU__sparse__map=many, GNU__sparse__size=0) + member(b"a", b"") +
         pax(GNU__sparse__map=many, GNU__sparse__size=0) + member(b"b", b""), LIMIT, "stretches of sparse files"),
        ("a sparse entry that is no number", gnu(b"0000000000x\0" + b"00000001000\0"), BAD, "sparse map is no number"),
        ("a sparse size that is no number", gnu(real=b"0000000000x\0"), BAD, "size of a sparse file is no number"),
        ("a sparse map with a letter", pax(GNU__sparse__map="1,x", GNU__sparse__size=0) + member(b"a", b""), BAD, "malformed"),
        ("a sparse map without a count", sparse(b"x\n"), BAD, "no count"),
        ("a sparse map that ends early", sparse(b"5\n0\n1\n"), BAD, "cut short"),
        ("a sparse map longer than its file", sparse(b"1\n0\n0\n", size=8), BAD, "cut short"),
        ("a name of 5,000 bytes", member(b"././@LongLink", b"n" * 5000 + b"\0", kind="L", magic=GNU) + member(b"n", b""), LIMIT,
         "a name of 5000 bytes"),
        ("65,537 members", b"".join(header(b"f%d" % i) for i in range(65537)), LIMIT, "more than 65536 members"),
        ("a checksum", first + header(b"b", changes=[(0, b"b")])[:511] + b"\1", BAD, "checksum is wrong"),
        ("a header that begins with zeroes", bytes(5) + header(b"other")[5:] + member(b"b", b""), BAD, "checksum is wrong"),
        ("66 extended headers in a row", pax(comment="x") * 66 + member(b"b", b""), BAD, "too many extended headers"),
        ("a pax record longer than its text", member(b"pax", b"99 path=x\n", kind="x") + member(b"b", b""), BAD, "does not fit its text"),
        ("a pax record of no key", member(b"pax", b"9 abcdef\n", kind="x") + member(b"b", b""), BAD, "has no ="),
    ]
    for name, data, code, says in rows:
        refused(t, name, (first if not data.startswith(first) else b"") + data + END, code, says)
    many = first + b"".join(header(b"f%d" % (i % 3)) for i in range(30000))
    refused(t, "30,000 members of three names", many + END, FINE, "", "unpack", "@", "@.d")
    refused(t, "no disk", member(b"a.ovf", ovf.descriptor()) + END, BAD, "no disk with a file", "convert", "-O", "raw", "@", "NEW")
    refused(t, "said to be an OVA", member(b"a.txt", b"") + END, BAD, "is not", "info", "-f", "ova", "@", file="x.tar")


# ---- XML, OVF ------------------------------------------------------------------------------------


def test_xml(t):
    good = ovf.descriptor()
    body = good[good.index(b"<Envelope"):]
    rows = [
        ("a declaration without end", b"<?xml version='1.0'" + b" " * 70, BAD, "no element begins"),
        ("an encoding of its own", b'<?xml version="1.0" encoding="EBCDIC-US"?>' + body, BAD, "its encoding is not"),
        ("not well-formed", body[:-9], BAD, "line 1: "),
        ("no element", b'<?xml version="1.0"?> nothing', BAD, "no element begins"),
        ("70 elements in one another", body.replace(b"<References>", b"<References>" + b"<x>" * 70 + b"</x>" * 70), BAD,
         "nested more than 64 deep"),
        ("5 MiB", body.replace(b"<References>", b"<References>" + b" " * (5 << 20)), LIMIT, "of which 4194304 are read"),
        ("another root", b"<Other/>", BAD, "not an OVF envelope"),
    ]
    for name, data, code, says in rows:
        refused(t, name, data, code, says, file="x.ovf")


def repeated(part, count=10001):
    """A descriptor in which an element that may be there often is there too often."""
    text = ovf.descriptor().decode()
    parts = {"disks": ("<DiskSection>", '<Disk ovf:diskId="d" ovf:capacity="1"/>'),
             "machines": ("</References>", '<VirtualSystem ovf:id="a"/>'),
             "items": ("<VirtualHardwareSection>", "<Item/>"),
             "properties": ("</VirtualHardwareSection>", '<ProductSection>%s</ProductSection>'),
             "deployment options": ("</References>", "<DeploymentOptionSection>%s</DeploymentOptionSection>")}
    after, element = parts[part]
    inner = {"properties": '<Property ovf:key="k"/>', "deployment options": '<Configuration ovf:id="c"/>'}.get(part)
    return text.replace(after, after + (element % (inner * count) if inner else element * count)).encode()


def test_ovf(t):
    for part in "disks", "machines", "items", "properties", "deployment options":
        refused(t, f"10,001 {part}", repeated(part), LIMIT, f"more than 10000 {part}", file="x.ovf")
    wide = ovf.descriptor().replace(b"</References>", b"</References>" + b'<VirtualSystem ovf:id="a"/>' * 9000 + b"<X/>" * 900000)
    refused(t, "9,000 machines among a million elements", wide, FINE, "machine: a", file="x.ovf")
    options = repeated("deployment options", 100).replace(b"<VirtualSystem ", b'<VirtualSystem ovf:id="a"/>' * 101 + b"<VirtualSystem ")
    refused(t, "100 deployment options of 101 machines", options, LIMIT, "more than 10000 deployment options", file="x.ovf")
    one = ovf.descriptor(("d.raw", "", "1048576")).decode()
    memory = "<Item><rasd:AllocationUnits>%s</rasd:AllocationUnits><rasd:InstanceID>1</rasd:InstanceID>" \
        "<rasd:ResourceType>4</rasd:ResourceType><rasd:VirtualQuantity>512</rasd:VirtualQuantity></Item>"
    rows = [
        ("a unit that is none", one.replace('ovf:capacity="', 'ovf:capacityAllocationUnits="furlong" ovf:capacity="'), "furlong"),
        ("a capacity to be chosen", one.replace('"1048576"', '"${size}"'), "the user is to choose"),
        ("memory without a unit", ovf.descriptor(items=memory.replace("<rasd:AllocationUnits>%s</rasd:AllocationUnits>", "")).decode(),
         "memory without a unit"),
        ("memory in a unit that is none", ovf.descriptor(items=memory % "furlong").decode(), "is no unit of memory"),
    ]
    for name, text, says in rows:
        refused(t, name, text.encode(), FINE, says, file="x.ovf")
    rows = [
        ("a name of 5,000 bytes", ovf.descriptor(("n" * 5000, "", "1048576")), REFUSED, "too long a name"),
        ("a file in a million chunks", ovf.descriptor(("d", 'ovf:size="1000000" ovf:chunkSize="1"', "1048576")), LIMIT, "chunks"),
        ("chunks without a size", ovf.descriptor(("d", 'ovf:chunkSize="100"', "1048576")), BAD, "size is not said"),
        ("a packing of its own", ovf.descriptor(("x.ovf", 'ovf:compression="rar"', "1048576")), OTHER, "something else than gzip"),
        ("an empty disk of 2^62 bytes", ovf.descriptor(("", "", str(2**62 + 512))), BAD, "no disk"),
    ]
    for name, data, code, says in rows:
        refused(t, name, data, code, says, "convert", "-O", "raw", "@", "NEW", file="x.ovf")


def test_repeated(t):
    """What stands there once and is said of many things, and what is spread over many sections."""
    good = ovf.descriptor().decode()
    machine = '<VirtualSystem ovf:id="a">%s</VirtualSystem>'
    wide = "<ProductSection ovf:class=\"%s\">%s</ProductSection>" % ("c" * 50000, '<Property ovf:key="k"/>' * 3000)
    refused(t, "a long class of 3,000 properties", good.replace("</References>", "</References>" + machine % wide).encode(), LIMIT,
            "said of many things", file="x.ovf")
    option = f'<DeploymentOptionSection><Configuration ovf:id="{"i" * 50000}"/></DeploymentOptionSection>'
    refused(t, "a long deployment option of 3,000 machines", good.replace(
        "</References>", "</References>" + option + machine % "" * 3000).encode(), LIMIT, "said of many things", file="x.ovf")
    section = "<VirtualHardwareSection>%s</VirtualHardwareSection>" % ("<Item><ResourceType>5</ResourceType></Item>" * 4000)
    refused(t, "12,000 items in three sections", good.replace("</References>", "</References>" + machine % (section * 3)).encode(),
            LIMIT, "more than 10000 items", file="x.ovf")
    drive = "<Item><rasd:InstanceID>%d</rasd:InstanceID><rasd:ResourceType>17</rasd:ResourceType></Item>"
    controller = "<Item><rasd:InstanceID>1</rasd:InstanceID><rasd:ResourceType>6</rasd:ResourceType></Item>"
    text = [ovf.descriptor(items=controller + "".join(drive % i for i in range(2, count + 2))) for count in (1000, 1500)]
    refused(t, "1500 drives without a controller", text[1], LIMIT, "more than 1024 drives", "lint", "--target", "ova-vmware", "@",
            file="x.ovf")
    result = process.vmimg("lint", "--target", "ova-vmware", ovf.write(t.path("x.ovf"), text[0]))
    process.check_bars(result)
    check(result.code == BAD and "place 999\n" in result.text, str(result)[:1000])


def test_sizes(t):
    """Raw disks do not know their own size: what is missing must not go unseen."""
    half = b"a" * 524288
    chunked = ovf.descriptor(("d.raw", 'ovf:size="1048576" ovf:chunkSize="524288"', "1048576"))
    whole = ovf.descriptor(("d.raw", 'ovf:size="1048576"', "1048576"))
    convert = "convert", "-O", "raw", "@", "NEW"
    for name, first, second in ("the first", half[1:], half), ("the last", half, half[1:]), ("one too long", half + half, half):
        data = member(b"a.ovf", chunked) + member(b"d.raw.000000000", first) + member(b"d.raw.000000001", second) + END
        refused(t, f"a chunk that is cut: {name}", data, BAD, "chunk [01], d.raw.00000000[01], has [0-9]+ bytes and not 524288", *convert)
    refused(t, "a disk that is cut", member(b"a.ovf", whole) + member(b"d.raw", half) + END, BAD,
            "d.raw has 524288 bytes, and the description says 1048576: truncated", *convert)
    for name, size, capacity, says in (("a capacity that is another", "", "1048576", "524288 bytes, and the description says 1048576"),
                                       ("what it takes on the storage", 'ovf:size="528384"', "524288", "")):
        with t.sub(name), t.folder() as folder:
            path = ovf.write(f"{folder}/x.ova", member(b"a.ovf", ovf.descriptor(("d.raw", size, capacity))) + member(b"d.raw", half) + END)
            result = process.vmimg("convert", "-O", "raw", path, f"{folder}/new")
            check(result.code == 0 and says in result.errors and bool(says) == bool(result.errors), str(result))
    two = ovf.descriptor(("a.raw", "", "512"), ("b.raw", "", "512"))
    refused(t, "two disks", member(b"a.ovf", two) + END, 2, "has 2 disks, choose with --disk N", *convert)
    refused(t, "no such member", member(b"a.ovf", whole) + END, BAD, 'has no member "d.raw"', *convert)
    for name, href, says in (("without a name", "./", "has no name"), ("an absolute path", "/etc/x", "absolute path"),
                             ("a drive of Windows", "c:x", "absolute path"), ("a URL", "http://x/y", "is a URL"),
                             ("a backslash", "a\\b", "leads out")):
        refused(t, f"a file {name}", member(b"a.ovf", ovf.descriptor((href, "", "512"))) + END, REFUSED, says, *convert)


def test_packed(t):
    """Disks in gzip that are not all there, or more than that."""
    data = os.urandom(5000)
    packed = gzip.compress(data)
    bad_sum = bytearray(packed)
    bad_sum[-6] ^= 1
    text = ovf.descriptor(("d.gz", 'ovf:compression="gzip"', "5000"))
    rows = (("something behind it", packed + b"something else", "something else follows"),
            ("the end is missing", packed[:-10], "ends early"), ("another checksum", bytes(bad_sum), "is damaged"),
            ("more than the disk has", gzip.compress(bytes(40 << 20)), "unpacks to more than"))
    for name, content, says in rows:
        code = LIMIT if "more than" in says else BAD
        refused(t, name, member(b"a.ovf", text) + member(b"d.gz", content) + END, code, says, "convert", "-O", "raw", "@", "NEW")


def test_odd_descriptors(t):
    empty = ovf.descriptor().decode()
    empty = (empty[:empty.index("<VirtualSystem")] + "</Envelope>").encode()
    refused(t, "no machine", empty, FINE, "it describes no machine", file="x.ovf")
    refused(t, "no hardware to change", empty, OTHER, "no machine with hardware", "ovf", "edit", "--cpus", "2", "-o", "NEW.ovf", "@", file="x.ovf")
    refused(t, "no such target", ovf.descriptor(), 2, "target", "lint", "--target", "ova-nobody", "@", file="x.ovf")
    cpus = "<Item><rasd:InstanceID>1</rasd:InstanceID><rasd:ResourceType>3</rasd:ResourceType>" \
        "<rasd:VirtualQuantity>many</rasd:VirtualQuantity></Item>"
    refused(t, "many processors", ovf.descriptor(items=cpus), FINE, "is not a number of processors", file="x.ovf")
    chunks = ovf.descriptor(("d", 'ovf:size="1000000" ovf:chunkSize="1"', "1048576"))
    refused(t, "a million chunks copied", chunks, LIMIT, "more than 10000 files", "ovf", "edit", "--name", "n", "-o", "NEW.ovf", "@",
            file="x.ovf")


def test_names_in_errors(t):
    """Names that turn the line round, or would be orders to a terminal, are not shown as they are."""
    name = b"a\xe2\x80\xaeb\x9b31m.ovf"
    for what, data, words in (("info", b"<Other/>", ["info", "@"]), ("verify", ovf.descriptor(), ["ovf", "verify", "@"])):
        refused(t, what, member(name, data) + END, BAD, r"a\\xe2\\x80\\xaeb\\x9b31m", *words)


def test_references(t):
    """A disk of an archive that names a file which is no member."""
    text = b'# Disk DescriptorFile\nversion=1\nCID=1\nparentCID=ffffffff\ncreateType="custom"\nRW 2 FLAT "x.bin" 0\n'
    data = member(b"a.ovf", ovf.descriptor(("d.vmdk", "", "1024")).replace(ovf.RAW.encode(), ovf.STREAM.encode())) + member(b"d.vmdk", text) + END
    refused(t, "info of its disk", data, FINE, "no member of the archive|x.bin", "info", "--json", "--disk=1", "@")
    refused(t, "convert", data, REFUSED, "no member of the archive", "convert", "-O", "raw", "@", "NEW")


def test_certificate(t):
    manifest = b"SHA256(a.ovf)= " + b"0" * 64 + b"\n"
    cert = b"SHA256(a.mf)= " + b"0" * 512 + b"\nno certificate\n"
    data = member(b"a.ovf", ovf.descriptor()) + member(b"a.mf", manifest) + member(b"a.cert", cert) + END
    large = member(b"a.ovf", ovf.descriptor()) + member(b"a.mf", manifest) + member(b"a.cert", cert + b"x" * (1 << 20)) + END
    refused(t, "more than 1 MiB", large, BAD, "a certificate file of", "ovf", "verify", "@")
    refused(t, "none in PEM form", data, BAD, "no certificate in PEM form|does not verify", "ovf", "verify", "@")


def test_manifest(t):
    """More digests than there may be files, and lines that are none."""
    digest = b"0" * 64
    descriptor = ovf.descriptor(("d.raw", 'ovf:size="1024" ovf:chunkSize="512"', "1024"))
    listed = b"SHA256(a.ovf)= " + hashlib.sha256(descriptor).hexdigest().encode() + b"\n"
    first = b"SHA256(d.raw.000000000)= " + hashlib.sha256(bytes(512)).hexdigest().encode() + b"\n"
    rows = [
        ("63 digits", b"SHA256(f)= " + digest[1:], BAD, "has 63 digits of a digest"),
        ("no digits", b"SHA256(f)= " + b"x" * 64, BAD, "is not hexadecimal"),
        ("no kind of digest", b"CRC32(f)= " + digest, BAD, "of no known kind"),
        ("no brackets", b"SHA256 f = " + digest, BAD, "is not of the form"),
        ("a file twice", b"SHA256(f)= " + digest + b"\nSHA256(./%66)= " + digest, BAD, "line [12]: f is listed twice"),
        ("too long", b"SHA256(f)= " + digest + b"\n" * (5 << 20), LIMIT, "bytes, of which 4194304 are read"),
        ("the second chunk is not listed", listed + first, BAD, "d.raw.000000001.*the manifest does not list it"),
    ]
    chunks = member(b"d.raw.000000000", bytes(512)) + member(b"d.raw.000000001", bytes(512))
    for name, text, code, says in rows:
        refused(t, name, member(b"a.ovf", descriptor) + member(b"a.mf", text) + chunks + END, code, says, "ovf", "verify", "@")
    both = member(b"a.ovf", descriptor) + member(b"a.mf", listed + first + first.replace(b"000000000)", b"000000001)"))
    refused(t, "all of it", both + chunks + END, FINE, "d.raw.000000001: ok", "ovf", "verify", "@")
    refused(t, "a member twice", both + member(b"d.raw.000000001", b"x" * 512) + chunks + END, BAD, "a later member has the same name",
            "ovf", "verify", "@")
    endless = member(b"f", b"x" * 512, kind="S", magic=GNU, changes=[(386, b"00000000000\0" + b"00000001000\0"), (483, b"77777777777\0")])
    refused(t, "a sparse file of 8 GiB", member(b"a.ovf", descriptor) + member(b"a.mf", b"SHA256(f)= " + digest) + endless + END, LIMIT,
            "is not gone through", "ovf", "verify", "@")
    if os.getuid():  # root reads everything
        with t.sub("a certificate that cannot be read"), t.folder() as folder:
            ovf.write(f"{folder}/a.ovf", descriptor)
            ovf.write(f"{folder}/a.mf", listed)
            os.chmod(ovf.write(f"{folder}/a.cert", b"x"), 0)
            check(process.vmimg("ovf", "verify", f"{folder}/a.ovf").code == 1, "it is done without")
    line = b"SHA256(f)= " + b"0" * 64 + b"\n"
    data = member(b"a.ovf", ovf.descriptor()) + member(b"a.mf", line * 10002) + END
    refused(t, "10,002 lines", data, LIMIT, "a manifest of more than", "ovf", "verify", "@")


# ---- EC2, UEC --------------------------------------------------------------------------------------


def ec2(**changes):
    values = {"version": "2007-10-10", "cipher": "AES-128-CBC", "hash": "SHA1", "parts": '<parts count="0"></parts>', **changes}
    image = (f'<image><name>i</name><user>1</user><type>machine</type><digest algorithm="{values["hash"]}">{"0" * 40}</digest>'
             f'<size>1024</size><bundled_size>512</bundled_size><user_encrypted_key algorithm="{values["cipher"]}">{"0" * 512}'
             f'</user_encrypted_key><user_encrypted_iv>{"0" * 512}</user_encrypted_iv>{values["parts"]}</image>')
    return (f"<?xml version='1.0'?><manifest><version>{values['version']}</version><bundler><name>t</name></bundler>"
            f"<machine_configuration/>{values.get('image', image)}<signature>00</signature></manifest>").encode()


def test_ec2(t):
    rows = [
        ("another digest", ec2(hash="MD5"), BAD, "another algorithm than SHA1"),
        ("another cipher", ec2(cipher="DES"), BAD, "another cipher than AES"),
        ("parts without a count", ec2(parts="<parts></parts>"), BAD, "count of parts"),
        ("no image", ec2(image=""), BAD, "has no image"),
        ("one file for two parts", ec2(parts='<parts count="2">' + "".join(
            f'<part index="{i}"><filename>p</filename><digest algorithm="SHA1">{"0" * 40}</digest></part>' for i in range(2)) + "</parts>"),
         BAD, "names 'p' for two parts"),
        ("5 MiB", ec2() + b" " * (5 << 20), LIMIT, "bytes, of which"),
    ]
    for name, data, code, says in rows:
        refused(t, name, data, code, says, file="x.manifest.xml")


def test_uec(t):
    kernel = bytearray(4096)
    kernel[0:2], kernel[0x1fe:0x200], kernel[0x202:0x206] = b"MZ", b"\x55\xaa", b"HdrS"
    data = member(b"i-vmlinuz-virtual", bytes(kernel)) + member(b"i-initrd-virtual", b"x") + member(b"i.img", b"") + END
    refused(t, "an archive without an image", data.replace(member(b"i.img", b""), b""), BAD, "is not a UEC tarball",
            "info", "-f", "uec", "@", file="x.tar")
    other = data[:-len(END)] + member(b"other/j.img", b"") + END
    refused(t, "images in two places", other, BAD, "images in two places", file="x.tar")
    program = b"\x7fELF\2\1\1" + bytes(9) + b"\2\0\x3e\0" + bytes(4000)
    refused(t, "a kernel that is a program", data.replace(member(b"i-vmlinuz-virtual", bytes(kernel)), member(b"i-vmlinuz-virtual", program)),
            FINE, "is called a kernel, and is none", file="x.tar")


def test_ami(t):
    refused(t, "an AMI that names two root file systems", b'{"container_format": "ami", "file": "x", "file": "y"}', BAD,
            "no sound description", file="x.ami.json")


if __name__ == "__main__":
    harness.main()
