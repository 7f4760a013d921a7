# SPDX-License-Identifier: Apache-2.0
"""vmimg inspect: tables held against sfdisk, file systems against blkid, systems against what was put there."""

import os
import shutil
import subprocess
import sys

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
import common
from lib import corpus, env, harness
from lib.harness import check, equal, need
from lib.process import vmimg, vmimg_ok


def inspect(path, *options):
    return vmimg_ok("inspect", "--json", *options, path).json()


def blank(path, size):
    with open(path, "wb") as file:
        file.truncate(size)
    return path


def sfdisk_parts(path):
    """(index, start, length) of each partition, as sfdisk sees it."""
    found = []
    for line in common.tool("sfdisk", "-d", path).stdout.decode().splitlines():
        if " : start=" in line:
            name, rest = line.split(" : ", 1)
            fields = dict(f.strip().split("=", 1) for f in rest.split(",") if "=" in f)
            found.append((int(name[len(path):]), int(fields["start"]) * 512,
                          int(fields["size"]) * 512))
    return sorted(found)


SCRIPTS = {
    "gpt": "label: gpt\nstart=2048,size=4096,type=21686148-6449-6E6F-744E-656564454649\n"
           "start=8192,size=20000,type=U,name=\"esp é\"\n,,L\n",
    "mbr": "label: dos\n2048,4096,83,*\n8192,20000,5\n10240,4096,82\n16384,4096,83\n30000,1000,7\n",
}


def test_tables(t):
    for name, script in SCRIPTS.items():
        with t.sub(name):
            path = blank(t.path(name), 64 << 20)
            common.sfdisk(path, script)
            report = inspect(path)
            equal(report["partition-table"]["scheme"], name)
            equal(sorted((p["index"], p["start"], p["length"]) for p in report["partitions"]),
                  sfdisk_parts(path), "partitions")
            equal(report["partition-table"]["warnings"], [])


def test_gpt_copies(t):
    path = blank(t.path("disk"), 64 << 20)
    common.sfdisk(path, SCRIPTS["gpt"])
    good = inspect(path)["partitions"]
    for name, at in (("header", 512), ("header sum", 512 + 40), ("entries", 1024)):
        with t.sub(name):
            other = shutil.copy(path, t.path("copy"))
            with open(other, "r+b") as file:
                file.seek(at)
                file.write(b"\xff")
            report = inspect(other)
            equal(report["partitions"], good)
            check(any("second is used" in w for w in report["partition-table"]["warnings"]),
                  report["partition-table"])
    with t.sub("truncated"):
        with open(path, "r+b") as file:
            file.truncate(20 << 20)
        report = inspect(path)
        equal([p["index"] for p in report["partitions"]], [1, 2, 3])
        equal(len(report["partition-table"]["warnings"]), 2)


def test_logical_loop(t):
    path = blank(t.path("disk"), 64 << 20)
    common.sfdisk(path, SCRIPTS["mbr"])
    with open(path, "r+b") as file:  # the second link of the chain points to the first
        file.seek(8192 * 512 + 446 + 16 + 8)
        second = int.from_bytes(file.read(4), "little")
        file.seek((8192 + second) * 512 + 446 + 16)
        file.write(bytes([0, 0, 0, 0, 5, 0, 0, 0]) + (0).to_bytes(4, "little") + b"\1\0\0\0")
    report = inspect(path)
    equal([p["index"] for p in report["partitions"]], [1, 2, 3, 5, 6])
    check("loop" in report["partition-table"]["warnings"][0], report["partition-table"])


MAKERS = {
    "ext2": ["mke2fs", "-q", "-F", "-t", "ext2", "-L", "label"],
    "ext3": ["mke2fs", "-q", "-F", "-t", "ext3", "-L", "label"],
    "ext4": ["mke2fs", "-q", "-F", "-t", "ext4", "-L", "label"],
    "xfs": ["mkfs.xfs", "-q", "-L", "label"],
    "btrfs": ["mkfs.btrfs", "-q", "-L", "label"],
    "vfat12": ["mkfs.fat", "-F", "12", "-s", "128", "-n", "LABEL"],
    "vfat16": ["mkfs.fat", "-F", "16", "-s", "16", "-n", "LABEL"],
    "vfat32": ["mkfs.fat", "-F", "32", "-n", "LABEL"],
    "exfat": ["mkfs.exfat", "-L", "label"],
    "ntfs": ["mkntfs", "-q", "-F", "-f", "-L", "label"],
    "udf": ["mkudffs", "-l", "label"],
    "swap": ["mkswap", "-L", "label"],
    "luks": ["cryptsetup", "luksFormat", "--batch-mode", "--label", "label", "--pbkdf",
             "pbkdf2", "--pbkdf-force-iterations", "1000"],
}


def test_file_systems(t):
    need("blkid")
    for name, command in MAKERS.items():
        with t.sub(name):
            path = blank(t.path(name), 320 << 20 if name == "xfs" else 128 << 20)
            common.tool(*command, path, input=b"secret" if name == "luks" else None)
            done = common.tool("blkid", "-p", "-o", "export", path).stdout.decode()
            want = dict(line.split("=", 1) for line in done.splitlines() if "=" in line)
            report = inspect(path)["filesystem"]
            equal(report["type"], want["TYPE"], "type")
            equal(report["label"], want["LABEL"], "label")
            equal(report["uuid"], want["UUID"], "uuid")
            os.unlink(path)


def test_installed_system(t):
    tree, esp_tree = t.path("tree"), t.path("esp-tree")
    version = common.system_tree(tree)
    common.put(esp_tree, "EFI/BOOT/BOOTX64.EFI", b"MZ")
    root = common.mke2fs(t.path("root"), tree, 40 << 20, "-t", "ext4", "-L", "rootfs")
    esp = common.mkfat(t.path("esp"), esp_tree, 8 << 20)
    disk = blank(t.path("disk"), 64 << 20)
    common.sfdisk(disk, "label: gpt\nstart=2048,size=16384,type=U\nstart=20480,size=81920,type=L\n")
    common.place(disk, 2048 * 512, esp)
    common.place(disk, 20480 * 512, root)
    images = {"raw": disk}
    for format in ("qcow2", "vmdk", "vhdx"):
        images[format] = t.path(f"disk.{format}")
        vmimg_ok("convert", disk, images[format])
    for format, path in images.items():
        with t.sub(format):
            report = inspect(path, "--deep")
            (system,) = report["operating-systems"]
            equal(system["pretty-name"], 'Test OS 1.0 ("quoted")')
            equal((system["id"], system["hostname"], system["cloud-init"]), ("test", "guest", True))
            equal([m["mount-point"] for m in system["fstab"]], ["/", "/boot"])
            (kernel,) = system["kernels"]
            equal(kernel["version"], version)
            equal(kernel["drivers"],
                  {"nvme": "built-in", "virtio_blk": "module", "vmxnet3": "module"})
            equal(kernel["initrd-drivers"], {"virtio_blk": "initrd", "hv_storvsc": "initrd"})
            equal(report["boot"]["methods"], ["uefi", "kernel"])
            equal([x["path"] for x in report["boot"]["efi-loaders"]], ["/EFI/BOOT/BOOTX64.EFI"])
            equal(vmimg_ok("cat", f"{path}:/etc/hostname").text, "guest\n", "chosen by itself")
            equal(vmimg_ok("ls", f"{path}:1/efi/boot").text, "BOOTX64.EFI\n", "case of FAT")


def test_page(t):
    tree = t.path("tree")
    common.put(tree, "etc/os-release", "ID=x\nPRETTY_NAME=\"<script>alert(1)</script> & more\"\n")
    root = common.mke2fs(t.path("root"), tree, 8 << 20, "-t", "ext4", "-L", "<b>bold")
    image = t.path("root.qcow2")
    vmimg_ok("convert", "-c", root, image)
    page = t.path("page.html")
    vmimg_ok("inspect", "--html", page, image)
    text = open(page, encoding="utf-8").read()
    for wanted in ("&lt;script&gt;alert(1)&lt;/script&gt; &amp; more", "&lt;b&gt;bold", "<svg",
                   "compressed data", "0 corruptions"):
        check(wanted in text, f"{wanted} is not in the page")
    for refused in ("<script", "<b>bold", "http:", "https:", "src=", "url(", "@import", "<link"):
        check(refused not in text, f"{refused} is in the page")
    equal(vmimg("inspect", "--html", page, image).code, 5, "there already")
    with t.sub("in a browser"):
        need("chromium")
        done = subprocess.run([
            env.find("chromium"), "--headless", "--no-sandbox", "--disable-gpu", "--no-first-run", "--disable-sync",
            "--disable-background-networking", f"--user-data-dir={t.path('profile')}", "--enable-logging=stderr",
            "--dump-dom", "file://" + page], capture_output=True, check=True, timeout=60)
        check(b"CONSOLE" not in done.stderr, done.stderr.decode())
        check(b"Check</h2>" in done.stdout, "the page to its end")


def test_bar(t):
    disk = blank(t.path("disk"), 72 << 20)
    with open(disk, "r+b") as file:
        file.seek(36 << 20)
        file.write(b"x" * (36 << 20))
    image = t.path("disk.qcow2")
    vmimg_ok("convert", disk, image)
    bar, totals = vmimg_ok("map", "--bar", image).text.splitlines()
    equal(bar, "|" + " " * 36 + "█" * 36 + "|")
    equal(totals, "data 36 MiB, compressed 0 B, zeroes 0 B, not allocated 36 MiB")


def test_info_says_what_is_inside(t):
    tree = t.path("tree")
    common.put(tree, "x", "x")
    root = common.mke2fs(t.path("root"), tree, 8 << 20, "-t", "ext4", "-L", "top\x1b[31m")
    equal(vmimg_ok("info", "--json", root).json()["content"], "ext4 (top\\x1b[31m)")


def test_corpus(t):
    need("blkid")
    for entry in corpus.entries("raw"):
        with t.sub(entry.path):
            done = subprocess.run([env.find("blkid"), "-p", "-o", "export", entry.file],
                                  capture_output=True, check=False)
            want = dict(line.split("=", 1) for line in done.stdout.decode().splitlines() if "=" in line)
            result = vmimg("inspect", "--json", "-f", "raw", entry.file)
            check(result.code == 0, str(result))
            found = result.json().get("filesystem", {})
            if want.get("TYPE") == "udf" == found.get("type") or want.get("TYPE", "udf") != "udf":
                equal(found.get("type"), want["TYPE"], "type")
                equal(found.get("uuid"), want.get("UUID"), "uuid")
            if want.get("PTTYPE"):
                equal(result.json()["partition-table"]["scheme"],
                      want["PTTYPE"].replace("dos", "mbr"), "table")


if __name__ == "__main__":
    harness.main()
