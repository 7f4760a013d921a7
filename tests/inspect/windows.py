# SPDX-License-Identifier: Apache-2.0
"""Windows on NTFS: what the registry tells, by hives that the tests write and hivexsh reads as well."""

import os
import struct
import subprocess
import sys

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
import common
import ntfs
from lib import env, harness
from lib.harness import check, equal, need
from lib.hive import Hive
from lib.process import check_bars, vmimg, vmimg_ok

VERSION = {"ProductName": ("sz", "Windows 10 Pro"), "CurrentBuild": ("sz", "22631"),
           "CurrentMajorVersionNumber": ("dword", 10), "CurrentMinorVersionNumber": ("dword", 0),
           "UBR": ("dword", 3007), "DisplayVersion": ("sz", "23H2"), "EditionID": ("sz", "Professional")}
SOFTWARE = {"Microsoft": {"Windows": {}, "Windows NT": {"CurrentVersion": VERSION}}, "Classes": {}}
SERVICES = {"viostor": {"Start": ("dword", 0)}, "stornvme": {"Start": ("dword", 0)},
            "pvscsi": {"Start": ("dword", 3)}, "vmbus": {"Start": ("dword", 4)},
            "Tcpip": {"Parameters": {"Hostname": ("sz", "DESKTOP-1")}}, **{f"other{i}": {} for i in range(20)}}
SYSTEM = {"Select": {"Current": ("dword", 2)},
          "ControlSet001": {"Services": {"vioscsi": {"Start": ("dword", 0)}}},
          "ControlSet002": {"Services": SERVICES}}
KERNEL = b"MZ" + bytes(58) + struct.pack("<I", 64) + b"PE\0\0" + struct.pack("<H", 0x8664) + bytes(100)
WANT = {"id": "windows", "pretty-name": "Windows 11 Pro", "version-id": "10.0.22631.3007", "build": "22631",
        "display-version": "23H2", "variant-id": "Professional", "hostname": "DESKTOP-1",
        "architecture": "x86_64",
        "drivers": {"viostor": "boot", "stornvme": "boot", "pvscsi": "on demand", "vmbus": "disabled"}}


def windows_tree(folder, hives):
    for name, content in hives.items():
        common.put(folder, f"Windows/System32/config/{name}", content)
    common.put(folder, "Windows/System32/ntoskrnl.exe", KERNEL)
    common.put(folder, "bootmgr", b"x")
    common.put(folder, "Boot/BCD", b"regf")
    common.put(folder, "EFI/Microsoft/Boot/bootmgfw.efi", b"MZ")


def fat_with(t, hives):
    tree = t.path("tree")
    subprocess.run(["rm", "-rf", tree], check=True)
    windows_tree(tree, hives)
    return common.mkfat(t.path("image"), tree, 8 << 20)


def system_of(image):
    report = vmimg_ok("inspect", "--json", image).json()
    (system,) = report["operating-systems"]
    return system, report


def test_hives(t):
    """On FAT, which needs no mount."""
    for name, how in (("lf", {}), ("lh, wide names", {"lists": "lh", "wide": True}), ("li", {"lists": "ri"})):
        with t.sub(name):
            hives = {n: Hive(tree, **how).bytes() for n, tree in (("SOFTWARE", SOFTWARE), ("SYSTEM", SYSTEM))}
            system, report = system_of(fat_with(t, hives))
            equal({k: system.get(k) for k in WANT}, WANT)
            equal([p["path"] for p in report["boot"]["windows"]],
                  ["/bootmgr", "/Boot/BCD", "/EFI/Microsoft/Boot/bootmgfw.efi"])


def test_written_as_others_read(t):
    need("hivexsh")
    hive = common.put(t.tmp, "SOFTWARE", Hive(SOFTWARE).bytes())
    done = subprocess.run([env.find("hivexsh"), hive], capture_output=True, check=True, input=(
        b"cd \\Microsoft\\Windows NT\\CurrentVersion\nlsval ProductName\nlsval UBR\n"))
    equal(done.stdout.decode().split(), ["Windows", "10", "Pro", "3007"])


def test_on_ntfs(t):
    image = ntfs.make(t.path("ntfs"), 32 << 20)
    with ntfs.mounted(t, image) as folder:
        windows_tree(folder, {"SOFTWARE": Hive(SOFTWARE).bytes(), "SYSTEM": Hive(SYSTEM).bytes()})
    system, _ = system_of(image)
    equal({k: system.get(k) for k in WANT}, WANT)
    text = vmimg_ok("inspect", image).text
    for wanted in ("Windows 11 Pro, x86_64", "10.0.22631.3007, 23H2", "viostor (boot)", "/bootmgr"):
        check(wanted in text, f"{wanted} is not in:\n{text}")
    spent = min(vmimg_ok("inspect", image).cpu for _ in range(3))
    check(spent < 0.05 * env.SLACK, f"{spent} s of processor time")


def test_damaged_hives(t):
    good = Hive(SOFTWARE, lists="ri").bytes()
    system = Hive(SYSTEM).bytes()
    lists = good.index(b"ri")
    cases = {
        "cut": good[:4096],
        "short": good[:100],
        "root past the end": good[:36] + b"\xf0\xff\xff\x7f" + good[40:],
        "list in a loop": good[:lists + 4] + struct.pack("<I", lists - 4 - 4096) + good[lists + 8:],
        "counts": good.replace(b"li\x02\0", b"li\xff\xff").replace(b"ri\x01\0", b"ri\xff\xff"),
        "values": good.replace(b"vk", b"vx"),
        "sizes": good.replace(struct.pack("<i", -88), struct.pack("<i", -0x7ffffff8)),
        "free": good.replace(b"\xff\xff\xffnk", b"\x7f\xff\xffnk"),
    }
    for name, hive in cases.items():
        with t.sub(name):
            result = vmimg("inspect", "--json", fat_with(t, {"SOFTWARE": hive, "SYSTEM": system}))
            equal(result.code, 0, str(result))
            check_bars(result)
            (found,) = result.json()["operating-systems"]
            equal((found["id"], found["hostname"]), ("windows", "DESKTOP-1"), "the rest is told")


if __name__ == "__main__":
    harness.main()
