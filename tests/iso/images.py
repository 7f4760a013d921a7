# SPDX-License-Identifier: Apache-2.0
"""ISO images: read against isoinfo and xorriso, written for them, and hostile ones."""

import os
import struct
import subprocess
import sys

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "inspect"))
import common
from lib import corpus, env, harness
from lib.harness import check, equal, need
from lib.process import check_one_line, vmimg, vmimg_ok

SECTOR = 2048


def back(t, image, tree, dropped=()):
    with t.folder() as folder:
        vmimg_ok("cp", f"{image}:/", f"{folder}/out")
        differs = common.same_tree(tree, f"{folder}/out")
        for name in dropped:
            differs = differs.replace(f"Only in {name[0]}: {name[1]}\n", "")
        equal(differs, "", "diff of the trees")


def test_read(t):
    need("genisoimage")
    tree = common.files_tree(t.path("tree"))
    common.put(tree, "d1/d2/d3/d4/d5/d6/d7/d8/d9/d10/deep", "deep")
    for options in (["-R"], ["-J", "-joliet-long"], ["-R", "-J", "-joliet-long"]):
        with t.sub(" ".join(options)):
            image = t.path("image.iso")
            common.tool("genisoimage", "-quiet", "-D" if "-R" not in options else "-quiet", *options,
                        "-V", "LABEL", "-o", image, tree)
            if os.path.isdir(f"{tree}/rr_moved"):
                os.rmdir(f"{tree}/rr_moved")
            report = vmimg_ok("inspect", "--json", image).json()
            equal(report["format"], "iso")
            equal(report["iso"]["volume-id"], "LABEL")
            with t.folder() as folder:
                vmimg_ok("cp", f"{image}:/", f"{folder}/out")
                if os.path.isdir(f"{folder}/out/rr_moved"):
                    os.rmdir(f"{folder}/out/rr_moved")
                equal(common.same_tree(tree, f"{folder}/out"), "")


def test_write(t):
    need("isoinfo", "xorriso")
    tree = common.with_links(common.files_tree(t.path("tree")))
    os.unlink(f"{tree}/absolute")
    common.put(tree, "n" * 90 + ".txt", "long")
    common.put(tree, "same name.a", "1")
    common.put(tree, "same_name.a", "2")
    common.put(tree, ".hidden", "3")
    os.symlink("a/" * 500 + "x", f"{tree}/winding")
    os.symlink(("a/" * 60 + "b" * 255 + "/./") * 2 + "./" * 70 + "x", f"{tree}/mixed")
    os.symlink("../../../etc/hostname", f"{tree}/etc/deep/er/up")
    image = t.path("image.iso")
    vmimg_ok("iso", "create", "-o", image, "-V", "MY_LABEL", tree)
    with t.sub("itself"):
        with t.folder() as folder:
            vmimg_ok("cp", f"{image}:/", f"{folder}/out")
            equal(common.same_tree(tree, f"{folder}/out"), "")
    with t.sub("xorriso"):
        with t.folder() as folder:
            common.tool("xorriso", "-osirrox", "on", "-indev", image, "-extract", "/", f"{folder}/out")
            subprocess.run(["chmod", "-R", "u+w", f"{folder}/out"], check=True)
            equal(common.same_tree(tree, f"{folder}/out"), "")
    with t.sub("isoinfo, Joliet"):
        names = common.tool("isoinfo", "-J", "-f", "-i", image).stdout.decode().splitlines()
        want = [os.path.join(d, f)[len(tree):] for d, ds, fs in os.walk(tree) for f in ds + fs
                if not os.path.islink(os.path.join(d, f))]
        equal(sorted(names), sorted(want))
    with t.sub("the same again"):
        other = t.path("other.iso")
        vmimg_ok("iso", "create", "-o", other, "-V", "MY_LABEL", tree)
        equal(open(image, "rb").read() == open(other, "rb").read(), True)
    with t.sub("no later than SOURCE_DATE_EPOCH"):
        vmimg_ok("iso", "create", "-o", other, "--force", tree,
                 extra_env={"SOURCE_DATE_EPOCH": "1000000000"})
        entries = vmimg_ok("ls", "-R", "--json", f"{other}:/").json()["entries"]
        equal({e["mtime"] for e in entries}, {1000000000})


def test_boot(t):
    need("xorriso")
    tree, esp_tree = t.path("tree"), t.path("esp-tree")
    common.put(tree, "boot/loader.bin", bytes(range(256)) * 16)
    common.put(esp_tree, "EFI/BOOT/BOOTX64.EFI", b"MZ")
    esp = common.mkfat(t.path("esp.img"), esp_tree, 2 << 20)
    code = common.put(t.tmp, "mbr.bin", b"\xeb\xfe" + b"isolinux.bin" + bytes(418))
    image = t.path("boot.iso")
    vmimg_ok("iso", "create", "-o", image, "--el-torito-bios", "boot/loader.bin", "--boot-info-table",
             "--el-torito-efi", esp, "--isohybrid", code, tree)
    text = common.tool("xorriso", "-indev", image, "-report_el_torito", "plain",
                       "-report_system_area", "plain").stdout.decode()
    for wanted in ("BIOS  y   none", "UEFI  y   none", "boot-info-table", "/boot/loader.bin"):
        check(wanted in text, f"{wanted} in {text}")
    report = vmimg_ok("inspect", "--json", image).json()
    equal([e["platform"] for e in report["iso"]["boot-catalogue"]], ["bios", "efi"])
    equal(report["boot"]["methods"], ["bios", "uefi"])
    equal(report["iso"]["hybrid"], True)
    equal([p["type"] for p in report["partitions"]], ["0x17", "0xef"])
    equal(vmimg_ok("ls", f"{image}:efi1/EFI/BOOT").text, "BOOTX64.EFI\n", "through the catalogue")
    equal(vmimg_ok("ls", f"{image}:2/EFI/BOOT").text, "BOOTX64.EFI\n", "through the partition")


def test_seed(t):
    user, meta = common.put(t.tmp, "u", "#cloud-config\n"), common.put(t.tmp, "m", "instance-id: 1\n")
    image = t.path("seed.iso")
    vmimg_ok("iso", "seed", "-o", image, "--user-data", user, "--meta-data", meta)
    equal(vmimg_ok("ls", f"{image}:/").text, "meta-data\nuser-data\n")
    equal(vmimg_ok("cat", f"{image}:/user-data").text, "#cloud-config\n")
    equal(common.tool("blkid", "-p", "-o", "value", "-s", "LABEL", image).stdout, b"cidata\n")
    vmimg_ok("iso", "seed", "-o", image, "--force", "--config-drive", "--user-data", user)
    equal(vmimg_ok("cat", f"{image}:/openstack/latest/user_data").text, "#cloud-config\n")
    equal(common.tool("blkid", "-p", "-o", "value", "-s", "LABEL", image).stdout, b"config-2\n")
    equal(vmimg("iso", "seed", "-o", image, "--user-data", user).code, 5, "there already")


def test_kernel(t):
    tree = t.path("tree")
    common.put(tree, "install.amd/vmlinuz", "kernel")
    common.put(tree, "install.amd/initrd.gz", "ramdisk")
    common.put(tree, "boot/vmlinuz-x", "another")
    image = t.path("image.iso")
    vmimg_ok("iso", "create", "-o", image, tree)
    vmimg_ok("iso", "kernel", image, t.path("out"))
    equal(open(t.path("out/vmlinuz"), encoding="ascii").read(), "kernel")
    equal(open(t.path("out/initrd.img"), encoding="ascii").read(), "ramdisk")
    vmimg_ok("unpack", "--kernel", image, t.path("again"))
    equal(common.same_tree(t.path("out"), t.path("again")), "")
    with t.sub("of a disk"):
        common.put(t.tmp, "root/boot/vmlinuz-1", "kernel")
        common.put(t.tmp, "root/boot/initrd.img-1", "ramdisk")
        common.put(t.tmp, "root/etc/fstab", "")
        common.put(t.tmp, "root/boot/grub/grub.cfg", "menuentry 'x' {\n linux /boot/vmlinuz-1 root=/dev/sda quiet\n"
                                                     " initrd /boot/initrd.img-1\n}\n")
        disk = common.mke2fs(t.path("disk"), t.path("root"), 8 << 20, "-t", "ext4")
        vmimg_ok("unpack", "--kernel", disk, t.path("parts"))
        equal({n: open(t.path(f"parts/{n}"), encoding="ascii").read() for n in os.listdir(t.path("parts"))},
              {"vmlinuz": "kernel", "initrd.img": "ramdisk", "cmdline": "root=/dev/sda quiet"})
    with t.sub("a ramdisk of 40 GiB"):
        os.truncate(t.path("root/boot/initrd.img-1"), 40 << 30)
        disk = common.mke2fs(t.path("disk"), t.path("root"), 8 << 20, "-t", "ext4")
        for words in ["unpack", "--kernel", disk, t.path("large")], ["split", disk, "--aki", t.path("k"), "--ari", t.path("r"), "--ami", t.path("f")]:
            result = vmimg(*words)
            check(result.code == 6 and "no kernel or ramdisk is so large" in result.errors, str(result))
            check_one_line(result)
        check(not [name for name in ("large/initrd.img", "k", "r", "f") if os.path.exists(t.path(name))], "something was left")


def root_of(data):
    at = 16 * SECTOR + 156
    return struct.unpack_from("<I", data, at + 2)[0] * SECTOR


def records(data, at):
    """Offsets of the records of a folder of one sector."""
    while data[at]:
        yield at
        at += data[at]


def hostile(t):
    """A small image to be spoiled: a folder and a file with a long name, which continues elsewhere."""
    tree = t.path("tree")
    common.put(tree, "folder/x", "x")
    common.put(tree, "n" * 100, "y")
    common.put(tree, "second", "z")
    if not os.path.lexists(f"{tree}/link"):
        os.symlink("x" * 150 + "/" + "y" * 150, f"{tree}/link")
    image = t.path("image.iso")
    vmimg_ok("iso", "create", "-o", image, "--force", tree)
    return bytearray(open(image, "rb").read())


def test_hostile(t):
    plain = hostile(t)
    root = root_of(plain)
    recs = list(records(plain, root))
    folder = next(r for r in recs[2:] if plain[r + 25] & 2)
    file = next(r for r in recs[2:] if plain[r + 33:r + 37] == b"NNNN")

    def area(record):
        name = plain[record + 32]
        return record + 33 + name + (1 - name % 2)

    def spoil(change):
        data = bytearray(plain)
        change(data)
        path = common.put(t.tmp, "bad.iso", bytes(data))
        return path

    def dir_loop(data):
        data[folder + 2:folder + 10] = plain[recs[0] + 2:recs[0] + 10]
        data[folder + 10:folder + 18] = plain[recs[0] + 10:recs[0] + 18]

    def susp_zero(data):
        data[area(file) + 2] = 0

    def ce_loop(data):
        # the link's record goes on elsewhere: let it go on there again and again
        at = plain.index(b"CE\x1c\x01", root)
        block = struct.unpack_from("<I", plain, at + 4)[0]
        offset = struct.unpack_from("<I", plain, at + 12)[0]
        target = block * SECTOR + offset
        data[target:target + 28] = plain[at:at + 28]

    def past_end(data):
        data[file + 2:file + 10] = struct.pack("<I", 0x7fffffff) + struct.pack(">I", 0x7fffffff)

    def huge(data):
        data[file + 10:file + 18] = struct.pack("<I", 0xfffff800) + struct.pack(">I", 0xfffff800)

    for change in (dir_loop, susp_zero, ce_loop, past_end, huge):
        with t.sub(change.__name__):
            with t.folder() as out:
                result = vmimg("cp", f"{spoil(change)}:/", f"{out}/out")
                equal(result.code, 4, str(result))
                check_one_line(result)
    with t.sub("a name that leads out"):
        def escape(data):
            at = data.index(b"NM\x0b\x01\0second")
            data[at + 5:at + 11] = b"../esc"
        with t.folder() as out:
            result = vmimg("cp", f"{spoil(escape)}:/", f"{out}/out")
            check(result.code == 0 and b"left out" in result.err, str(result))
            equal(os.listdir(out), ["out"])


def test_corpus(t):
    need("isoinfo")
    for entry in corpus.entries("iso"):
        with t.sub(entry.path):
            listing = subprocess.run([env.find("isoinfo"), "-i", entry.file, "-R", "-f"],
                                     capture_output=True, check=False)
            result = vmimg("ls", "-R", "-f", "raw", f"{entry.file}:/", "--untrusted")
            check(result.code in (0, 4), str(result))
            names = listing.stdout.decode(errors="replace").splitlines()
            if result.code == 0 and names:
                equal(len(result.text.splitlines()), len([n for n in names if "rr_moved" not in n]),
                      "number of files")


if __name__ == "__main__":
    harness.main()
