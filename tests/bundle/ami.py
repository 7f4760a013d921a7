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


def kinds(report):
    return [(d["kind"], d["file"]) for d in report["machines"][0]["drives"]]


THREE = [("disk", "root.img"), ("kernel", "kernel"), ("ramdisk", "ramdisk")]


def triple(t, name):
    """A folder with the three, by names that say nothing, and things that are none of them."""
    os.mkdir(t.path(name))
    os.rename(root(t), t.path(f"{name}/root.img"))
    write(t, f"{name}/kernel", bzimage())
    write(t, f"{name}/ramdisk", cpio([("init", b"")]))
    write(t, f"{name}/README", b"about it")
    disks.pattern(t.path(f"{name}/noise"), 1 << 16)
    write(t, f"{name}/.kernel~", bzimage())
    os.symlink("kernel", t.path(f"{name}/vmlinuz"))
    os.mkdir(t.path(f"{name}/more"))
    return t.path(name)


def test_folder(t):
    folder = triple(t, "ami")
    report = process.vmimg_ok("info", "--json", folder).json()
    equal((report["format"], report["filename"]), ("ami", folder))
    equal(kinds(report), THREE)
    equal(report["machines"][0]["architecture"], "x86_64")
    for number, more in enumerate(((), ("--untrusted",), ("--disk", "1"), ("--no-sandbox",))):
        process.vmimg_ok("convert", *more, folder, t.path(f"{number}.qcow2"))
        equal(process.guest_sha256(t.path(f"{number}.qcow2")), disks.sha256(f"{folder}/root.img"), str(more))
    os.unlink(f"{folder}/ramdisk")
    equal(kinds(process.vmimg_ok("info", "--json", folder + "/").json()), THREE[:2])
    need("qemu-img")
    process.run(env.find("qemu-img"), "convert", "-O", "qcow2", f"{folder}/root.img", f"{folder}/root.qcow2")
    want = disks.sha256(f"{folder}/root.img")
    os.unlink(f"{folder}/root.img")
    process.vmimg_ok("convert", folder, t.path("q.raw"))
    equal(disks.sha256(t.path("q.raw")), want, "a root file system in QCOW2")


def test_folder_unclear(t):
    folder = triple(t, "ami")
    for name, first, second in (("second-kernel", "kernel", bzimage()),
                                ("other-ramdisk", "other-ramdisk", cpio([("x", b"")])),
                                ("spare", "root.img", None)):
        path = f"{folder}/{name}"
        with t.sub(name):
            if second is None:
                with open(f"{folder}/root.img", "rb") as file:
                    second = file.read()
            write(t, f"ami/{name}", second)
            result = process.vmimg("info", folder)
            process.check_one_line(result)
            equal(result.code, 2, str(result))
            text = result.err.decode()
            check(name in text and first in text, text)
            os.unlink(path)
    for name in ("kernel", "root.img"):
        with t.sub("without " + name):
            os.rename(f"{folder}/{name}", t.path("aside"))
            result = process.vmimg("convert", folder, t.path("x.qcow2"))
            process.check_one_line(result)
            equal((result.code, os.path.exists(t.path("x.qcow2"))), (4, False), str(result))
            os.rename(t.path("aside"), f"{folder}/{name}")
    with t.sub("-f"):
        equal(process.vmimg("info", "-f", "raw", folder).code, 2)
    with t.sub("many files"):
        for i in range(260):
            write(t, f"ami/f{i}", b"")
        equal(process.vmimg("info", folder).code, 6)


def test_named(t):
    folder = triple(t, "ami")
    kernel, ramdisk, image = (f"{folder}/{name}" for name in ("kernel", "ramdisk", "root.img"))
    report = process.vmimg_ok("info", "--json", "--aki", kernel, "--ari", ramdisk, "--ami", image).json()
    equal(kinds(report), THREE)
    check("root.img" in process.vmimg_ok("info", "--aki", kernel, "--ami", image).out.decode(), "in words")
    for args, code in ((["--aki", kernel], 2), (["--ami", image], 2), (["--aki", kernel, "--ami", image, image], 2),
                       ([], 2), (["--aki", ramdisk, "--ami", image], 4), (["--aki", kernel, "--ami", kernel], 2),
                       (["--aki", kernel, "--ami", f"{folder}/noise"], 4),
                       (["--aki", kernel, "--ari", f"{folder}/README", "--ami", image], 4),
                       (["--aki", kernel, "--ami", f"{folder}/none"], 1)):
        with t.sub(" ".join(os.path.basename(a) for a in args)):
            result = process.vmimg("info", *args)
            process.check_one_line(result)
            equal(result.code, code, str(result))


def test_unpack(t):
    folder = triple(t, "ami")
    process.vmimg_ok("pack", "-O", "ami", "-o", t.path("p.ami.json"), "--aki", f"{folder}/kernel",
                     "--ari", f"{folder}/ramdisk", f"{folder}/root.img")
    for source, out, names in ((folder, "a", ("root.img", "kernel", "ramdisk")),
                               (t.path("p.ami.json"), "b", ("p.img", "p-vmlinuz", "p-initrd"))):
        process.vmimg_ok("unpack", source, t.path(out))
        equal(sorted(os.listdir(t.path(out))), sorted(names))
        for name, original in zip(names, ("root.img", "kernel", "ramdisk")):
            equal(disks.sha256(t.path(f"{out}/{name}")), disks.sha256(f"{folder}/{original}"), name)
    with t.sub("one file is not there"):
        os.unlink(t.path("p-initrd"))
        equal(process.vmimg("unpack", t.path("p.ami.json"), t.path("c")).code, 1)
        check(not [n for n in os.listdir(t.path("")) if n.startswith("c")], "nothing is left behind")


def test_one_look(t):
    """The line on what is there, and the object, tell of the same file system."""
    image = root(t)
    report = process.vmimg_ok("info", "--json", image).json()
    equal(report["content"], f"{report['file-system']['type']} ({report['file-system']['label']})")


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
