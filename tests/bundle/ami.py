# SPDX-License-Identifier: Apache-2.0
"""The triple of an AMI: described by a JSON object, packed, read, and its root file system told by info."""

import json
import os

from artifacts import bzimage, cpio
from lib import disks, env, harness, process
from lib.harness import check, equal, need

UUID = "11223344-5566-4788-99aa-bbccddeeff00"


def root(t):
    need("mke2fs")
    with t.folder() as folder:
        os.makedirs(f"{folder}/etc")
        with open(f"{folder}/etc/os-release", "w", encoding="ascii") as file:
            file.write('ID=x\nPRETTY_NAME="Some System 1.0"\n')
        result = process.run(env.find("mke2fs"), "-q", "-t", "ext4", "-L", "rootfs", "-U", UUID, "-d", folder,
                             t.path("root.img"), "8M")
    check(result.code == 0, str(result))
    return t.path("root.img")


def write(t, name, content):
    with open(t.path(name), "wb") as file:
        file.write(content)
    return t.path(name)


def test_info(t):
    report = process.vmimg_ok("info", "--json", root(t)).json()
    equal(report["format"], "raw")
    check(report["variant"].startswith("ami"), report)
    equal(report["file-system"], {"type": "ext4", "label": "rootfs", "uuid": UUID, "system": "Some System 1.0"})
    plain = process.vmimg_ok("info", "--json", disks.pattern(t.path("noise"), 1 << 20)).json()
    check("file-system" not in plain and "variant" not in plain, plain)


def test_pack(t):
    image, kernel, ramdisk = root(t), write(t, "k", bzimage()), write(t, "r", cpio([("init", b"")]))
    os.mkdir(t.path("out"))
    described = t.path("out/thing.ami.json")
    process.vmimg_ok("pack", "-O", "ami", "-o", described, "--aki", kernel, "--ari", ramdisk, image)
    equal(sorted(os.listdir(t.path("out"))), ["thing-initrd", "thing-vmlinuz", "thing.ami.json", "thing.img"])
    for name, original in (("thing.img", image), ("thing-vmlinuz", kernel), ("thing-initrd", ramdisk)):
        equal(disks.sha256(t.path(f"out/{name}")), disks.sha256(original), name)
    report = process.vmimg_ok("info", "--json", described).json()
    equal(report["format"], "ami")
    equal([(d["kind"], d["file"]) for d in report["machines"][0]["drives"]],
          [("disk", "thing.img"), ("kernel", "thing-vmlinuz"), ("ramdisk", "thing-initrd")])
    process.vmimg_ok("convert", described, t.path("disk.qcow2"))
    equal(process.guest_sha256(t.path("disk.qcow2")), disks.sha256(image))


def test_hostile(t):
    base = {"disk_format": "ami", "container_format": "ami", "file": "x.img", "name": "a\x1b[31m\u202eb"}
    for name, changes, code in (("leads out", {"file": "../x"}, 5), ("absolute", {"kernel": "/etc/passwd"}, 5),
                                ("not there", {}, 1), ("deep", {"x": "[" * 5000}, 1)):
        with t.sub(name):
            path = write(t, "x.ami.json", json.dumps({**base, **changes}).encode())
            result = process.vmimg("convert", path, t.path("out.qcow2"))
            process.check_bars(result)
            process.check_one_line(result)
            equal(result.code, code, str(result))
    process.check_bars(process.vmimg("info", write(t, "x.ami.json", json.dumps(base).encode())))


if __name__ == "__main__":
    harness.main()
