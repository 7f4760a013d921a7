# SPDX-License-Identifier: Apache-2.0
"""Media held against xorriso, isoinfo and 7zz: names, catalogues, hybrids, huge files; spoiled ones keep the bars."""

import os
import re
import struct
import sys

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "inspect"))
import common
from lib import corpus, harness, process
from lib.harness import check, equal, need, skip
from lib.process import check_bars, check_one_line, vmimg, vmimg_ok

SECTOR = 2048


def text_of(*command):
    return common.tool(*command).stdout.decode(errors="replace")


def inspect(path, *options):
    return vmimg_ok("inspect", "--json", *options, path).json()


def catalogue(image):
    """(platform, bootable, emulation, offset) of each boot image, as xorriso tells them."""
    told = text_of("xorriso", "-indev", image, "-report_el_torito", "plain")
    found = re.findall(r"^El Torito boot img : +\d+ +(\S+) +(\w) +(\w+) .* (\d+)$", told, re.M)
    return [({"UEFI": "efi", "BIOS": "bios"}.get(platform, "other"), flag == "y", emulation, int(block) * SECTOR)
            for platform, flag, emulation, block in found]


def check_catalogue(image, *options):
    iso = inspect(image, *options)["iso"]
    equal([(e["platform"], e["bootable"], e["emulation"], e["start"]) for e in iso["boot-catalogue"]],
          catalogue(image), "the catalogue")
    return iso


def test_names(t):
    """Of the trees of a medium the best is read: Rock Ridge, then Joliet, then plain names."""
    tree = t.path("tree")
    common.put(tree, "a long name, in.text", "content")
    common.put(tree, "folder/UPPER.TXT", "more")
    for options, names, told in ((["-R", "-J"], "Rock Ridge", ["-R"]), (["-J"], "Joliet", ["-J"]), ([], "plain", [])):
        with t.sub(names):
            image = t.path("image.iso")
            common.tool("genisoimage", "-quiet", *options, "-o", image, tree)
            equal(inspect(image)["iso"]["names"], names)
            found = vmimg_ok("ls", "-R", f"{image}:/").text.splitlines()
            listing = text_of("isoinfo", "-i", image, *told, "-f").splitlines()
            equal(sorted("/" + name.strip("/") for name in found),
                  sorted(re.sub(r"\.?;\d+$", "", name) for name in listing))


def test_extents(t):
    """A file of several extents, as those of 4 GiB and more are: the record of one leads on to the next."""
    first, second = os.urandom(5 * SECTOR), os.urandom(3000)
    common.put(t.tmp, "tree/A.BIN", first)
    common.put(t.tmp, "tree/B.BIN", second)
    image = t.path("image.iso")
    common.tool("genisoimage", "-quiet", "-o", image, t.path("tree"))
    with open(image, "r+b") as file:
        data = file.read()
        file.seek(data.index(b"A.BIN;1") - 8)
        file.write(b"\x80")
    equal(vmimg_ok("ls", f"{image}:/").text, "A.BIN\n")
    equal(vmimg_ok("cat", f"{image}:/A.BIN").out, first + second)


def test_starts(t):
    """What Syslinux and Debian's tools make of a catalogue and a system area, xorriso reads."""
    code = "/usr/lib/ISOLINUX/isohdpfx.bin"
    if not os.path.exists(code):
        skip(f"no {code} here")
    tree = t.path("tree")
    common.put(t.tmp, "esp-tree/EFI/BOOT/BOOTX64.EFI", b"MZ")
    esp = common.mkfat(t.path("esp"), t.path("esp-tree"), 2 << 20)
    with open("/usr/lib/ISOLINUX/isolinux.bin", "rb") as file:
        common.put(tree, "isolinux/isolinux.bin", file.read())
    with open(esp, "rb") as file:
        common.put(tree, "efi.img", file.read())
    with t.sub("by vmimg"):
        image = t.path("ours.iso")
        vmimg_ok("iso", "create", "-o", image, "--el-torito-bios", "isolinux/isolinux.bin", "--boot-info-table",
                 "--el-torito-efi", "efi.img", "--isohybrid", code, tree)
        equal([e["platform"] for e in check_catalogue(image)["boot-catalogue"]], ["bios", "efi"])
        check("isohybrid" in (said := text_of("xorriso", "-indev", image, "-report_system_area", "plain")), said)
        listing = text_of("7zz", "l", "-ba", "-slt", image)
        check("Path = isolinux/isolinux.bin" in listing, listing)
    with t.sub("by xorriso, with a GPT"):
        image = t.path("theirs.iso")
        common.tool("xorriso", "-as", "mkisofs", "-quiet", "-R", "-J", "-o", image, "-b", "isolinux/isolinux.bin",
                    "-no-emul-boot", "-boot-load-size", "4", "-boot-info-table", "-isohybrid-mbr", code,
                    "-eltorito-alt-boot", "-e", "efi.img", "-no-emul-boot", "-isohybrid-gpt-basdat", tree)
        iso = check_catalogue(image)
        equal((iso["hybrid"], iso["names"]), (True, "Rock Ridge"))
        equal(inspect(image)["boot"]["methods"], ["bios", "uefi"])
        equal(vmimg_ok("ls", f"{image}:efi1/EFI/BOOT").text, "BOOTX64.EFI\n")


def test_seeds(t):
    user = common.put(t.tmp, "u", "#cloud-config\n")
    for options, names in (
            (["--meta-data", common.put(t.tmp, "m", "instance-id: 1\n")], ["/meta-data", "/user-data"]),
            (["--config-drive"], ["/openstack", "/openstack/latest", "/openstack/latest/meta_data.json",
                                  "/openstack/latest/user_data"])):
        with t.sub(names[-1]):
            image = t.path("seed.iso")
            vmimg_ok("iso", "seed", "--force", "-o", image, "--user-data", user, *options)
            for tree in ("-R", "-J"):
                equal(sorted(text_of("isoinfo", tree, "-f", "-i", image).splitlines()), names)
            equal(text_of("isoinfo", "-R", "-x", names[-1], "-i", image), "#cloud-config\n")


def test_short(t):
    """A record that promises 4 GiB of an image of a few KiB."""
    common.put(t.tmp, "tree/A.BIN", b"x" * 100)
    image = t.path("image.iso")
    common.tool("genisoimage", "-quiet", "-o", image, t.path("tree"))
    with open(image, "r+b") as file:
        at = file.read().index(b"A.BIN;1") - 33
        file.seek(at + 10)
        file.write(struct.pack("<I", 0xffffffff) + struct.pack(">I", 0xffffffff))
    for verb in (["cat", "--max-output", "8G", f"{image}:/A.BIN"], ["cp", "--max-output", "8G", f"{image}:/", t.path("out")]):
        result = vmimg(*verb)
        equal(result.code, 4, str(result))
        check_one_line(result)
        check_bars(result)


def test_corpus(t):
    """Real media: the catalogue as xorriso has it, and the same bytes through every format."""
    need("xorriso")
    for entry in corpus.entries("iso"):
        with t.sub(entry.path):
            image = entry.unwrap(t.path("medium"))
            starts = "ElTorito" in "".join(map(str, vars(entry).values()))
            if starts:
                check_catalogue(image, "-f", "iso")
            if os.path.getsize(image) % 512:
                continue
            for fmt in process.formats(writable=True) if starts else ["qcow2"]:
                disk = t.path(f"disk.{fmt}")
                vmimg_ok("convert", "--force", "-f", "iso" if starts else "raw", "-O", fmt, image, disk)
                vmimg_ok("compare", "-f", "raw", "-F", fmt, image, disk)


if __name__ == "__main__":
    harness.main()
