# SPDX-License-Identifier: Apache-2.0
"""Tarballs of Ubuntu Enterprise Cloud and CirrOS, made by tar: which member is what, and the disk in them."""

import os
import subprocess

from artifacts import bzimage, cpio
from lib import disks, harness, process
from lib.harness import check, equal

EXT = bytes(0x438) + b"\x53\xef" + bytes(100)


def root(size=2 << 20):
    """Enough of a file system to be known by, with something in it."""
    return EXT + os.urandom(5000) + bytes(size - len(EXT) - 5000)


def archive(t, files, name="x.tar.gz"):
    with t.folder() as folder:
        for member, content in files.items():
            os.makedirs(os.path.dirname(f"{folder}/{member}"), exist_ok=True)
            with open(f"{folder}/{member}", "wb") as file:
                file.write(content)
            os.system(f"fallocate -d '{folder}/{member}'")
        subprocess.run(["tar", "-c", "-S", "-z" if name.endswith("gz") else "-v", "--format=oldgnu", "-f", t.path(name),
                        "-C", folder, *files], check=True, capture_output=True)
    return t.path(name)


def drives(report):
    return {drive["kind"]: drive["file"] for drive in reversed(report["machines"][0]["drives"])}


def test_layouts(t):
    image, kernel, ramdisk = root(), bzimage(), cpio([("init", b"")])
    cases = {
        "cirros": ({"c-0.3.0-blank.img": image, "c-0.3.0-vmlinuz": kernel, "c-0.3.0-initrd": ramdisk},
                   {"disk": "c-0.3.0-blank.img", "kernel": "c-0.3.0-vmlinuz", "ramdisk": "c-0.3.0-initrd"}),
        "one folder": ({"d/README.files": b"x", "d/a.img": image, "d/a-vmlinuz-virtual": kernel},
                       {"disk": "d/a.img", "kernel": "d/a-vmlinuz-virtual"}),
        "ubuntu": ({"p-cloudimg-amd64.img": image, "p-vmlinuz-virtual": kernel, "p-loader": kernel,
                    "p-floppy": bytes(1474560), "README.files": b"hello"},
                   {"disk": "p-cloudimg-amd64.img", "kernel": "p-vmlinuz-virtual", "floppy": "p-floppy"}),
        "loader only": ({"p.img": image, "p-loader": kernel}, {"disk": "p.img", "kernel": "p-loader"}),
        "by content": ({"a.img": image, "b-vmlinuz": kernel, "z.img": b"not a file system" * 999},
                       {"disk": "a.img", "kernel": "b-vmlinuz"}),
    }
    for name, (files, want) in cases.items():
        for suffix in ("tar", "tar.gz"):
            with t.sub(f"{name}, {suffix}"):
                path = archive(t, files, f"x.{suffix}")
                report = process.vmimg_ok("info", "--json", path).json()
                equal(report["format"], "uec")
                equal(drives(report), want)
                equal(report["machines"][0]["architecture"], "x86_64")
                equal(any("loader" in w for w in report.get("warnings", [])), "p-loader" in files)
                process.vmimg_ok("convert", "-q", "--disk", "1", path, t.path("out.raw"), "--force")
                check(open(t.path("out.raw"), "rb").read() == image, "another image")


def test_whole_disks_inside(t):
    """-disk1.img and -uefi1.img are whole disks: told, and not taken for the root file system."""
    path = archive(t, {"a.img": root(), "a-vmlinuz": bzimage(), "a-disk1.img": bytes(1 << 20)})
    listed = process.vmimg_ok("info", "--json", path).json()["machines"][0]["drives"]
    equal([(d["file"], d.get("unused", False)) for d in listed if d["kind"] == "disk"],
          [("a.img", False), ("a-disk1.img", True)])


def test_refusals(t):
    image, kernel = root(), bzimage()
    cases = {
        "two roots": ({"a/x.img": image, "a/x-vmlinuz": kernel, "b/y.img": image, "b/y-vmlinuz": kernel}, "two places"),
        "no kernel": ({"x.img": image, "notes": b""}, None),
        "too deep": ({"a/b/x.img": image, "a/b/x-vmlinuz": kernel}, None),
    }
    for name, (files, word) in cases.items():
        with t.sub(name):
            result = process.vmimg("convert", archive(t, files), t.path("out.raw"))
            process.check_bars(result)
            process.check_one_line(result)
            equal(result.code, 4, str(result))
            check(not word or word in result.errors, result.errors)
    with t.sub("a kernel that is none"):
        path = archive(t, {"x.img": image, "x-vmlinuz": b"text" * 999})
        check("is none" in str(process.vmimg_ok("info", "--json", path).json()["warnings"]), "a warning")


def test_write(t):
    """tar takes out what was put in; the same bytes every time; vmimg reads it back."""
    image, kernel, ramdisk = root(), bzimage(), cpio([("init", b"")])
    paths = {}
    for name, content in (("image", image), ("kernel", kernel), ("ramdisk", ramdisk)):
        paths[name] = t.path(name)
        with open(paths[name], "wb") as file:
            file.write(content)
    os.system(f"fallocate -d '{paths['image']}'")
    base = ["pack", "-O", "uec", "--aki", paths["kernel"], "--ari", paths["ramdisk"], paths["image"]]
    for name in ("a/thing.tar.gz", "b/thing.tar.gz"):
        os.makedirs(os.path.dirname(t.path(name)))
        process.vmimg_ok(*base, "-o", t.path(name))
    equal(disks.sha256(t.path("b/thing.tar.gz")), disks.sha256(t.path("a/thing.tar.gz")))
    check(os.path.getsize(t.path("a/thing.tar.gz")) < 20000, "its zeroes are in it")
    subprocess.run(["tar", "-xzf", t.path("a/thing.tar.gz"), "-C", t.path("a")], check=True)
    for name, content in ((".img", image), ("-vmlinuz", kernel), ("-initrd", ramdisk)):
        check(open(t.path(f"a/thing{name}"), "rb").read() == content, name)
    check(os.stat(t.path("a/thing.img")).st_blocks * 512 < 1 << 20, "its holes are lost")
    process.vmimg_ok("convert", "--disk", "1", t.path("a/thing.tar.gz"), t.path("out.raw"))
    check(open(t.path("out.raw"), "rb").read() == image, "another image")
    result = process.vmimg(*base[:3], "--aki", paths["image"], "-o", t.path("no.tar.gz"), paths["image"])
    equal(result.code, 4, str(result))


def test_concatenated_gzip(t):
    """One archive as two members of gzip, and one cut in the middle."""
    image = root()
    plain = open(archive(t, {"x.img": image, "x-vmlinuz": bzimage()}, "x.tar"), "rb").read()
    packed = b"".join(subprocess.run(["gzip", "-n"], input=piece, capture_output=True, check=True).stdout
                      for piece in (plain[:5000], plain[5000:]))
    with open(t.path("two.tar.gz"), "wb") as file:
        file.write(packed)
    process.vmimg_ok("convert", t.path("two.tar.gz"), t.path("out.raw"))
    check(open(t.path("out.raw"), "rb").read() == image, "another image")
    with open(t.path("cut.tar.gz"), "wb") as file:
        file.write(packed[:len(packed) - 3000])
    result = process.vmimg("convert", t.path("cut.tar.gz"), t.path("cut.raw"))
    process.check_bars(result)
    equal(result.code, 4, str(result))


if __name__ == "__main__":
    harness.main()
