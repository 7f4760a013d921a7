# SPDX-License-Identifier: Apache-2.0
"""
A guest that starts in seconds, says where it came from and turns itself off; and the machine to start
it in. The kernel is Debian's for clouds, taken out of its package; the ramdisk and the root file
system hold busybox. All is made once, in the build folder. Without KVM: nested, it may hang.
"""

import fcntl
import glob
import os
import shutil
import subprocess

from lib import env, process
from lib.harness import Failure, check, need, skip

UUID = "3a1f3a52-7c2e-4d9b-9a57-5f0c3f9d6b11"
LABEL = "cloudimg-rootfs"
MARKER = "GUEST-RUNS-FROM"   # and then the root= of the kernel's arguments
GUARD = 90                   # seconds
OVMF = "/usr/share/OVMF/OVMF_CODE_4M.fd", "/usr/share/OVMF/OVMF_VARS_4M.fd"
# In an order that serves most kernels; those of a circle are tried a second time.
MODULES = ("virtio_ring", "virtio", "virtio_pci_legacy_dev", "virtio_pci_modern_dev", "virtio_pci", "virtio_blk")

INIT = """#!/bin/busybox sh
/bin/busybox mkdir -p /proc /sys /dev /mnt
/bin/busybox mount -t proc proc /proc
/bin/busybox mount -t sysfs sys /sys
/bin/busybox mount -t devtmpfs dev /dev
for module in $(/bin/busybox cat /modules.list /modules.list); do
	/bin/busybox insmod /modules/$module.ko 2>/dev/null
done
for word in $(/bin/busybox cat /proc/cmdline); do
	case $word in root=*) root=${word#root=} ;; esac
done
for try in 1 2 3 4 5 6 7 8 9 10; do
	case $root in
	PARTUUID=*) device=$(/bin/busybox grep -il "^PARTUUID=${root#PARTUUID=}" /sys/class/block/*/uevent | /bin/busybox head -n 1)
		device=${device%/uevent}; device=/dev/${device##*/} ;;
	*) device=$(/bin/busybox findfs $root) ;;
	esac
	[ -b "$device" ] && break
	/bin/busybox sleep 1
done
/bin/busybox mount -t ext4 -o ro $device /mnt && exec /bin/busybox switch_root /mnt /sbin/init
echo NO-ROOT
echo o >/proc/sysrq-trigger
/bin/busybox sleep 60
"""

ROOT_INIT = """#!/bin/busybox sh
/bin/busybox mount -t proc proc /proc
/bin/busybox mount -t devtmpfs dev /dev
for word in $(/bin/busybox cat /proc/cmdline); do
	case $word in root=*) root=$word ;; esac
done
firmware=bios
/bin/busybox mount -t sysfs sys /sys && [ -d /sys/firmware/efi ] && firmware=efi
echo "%s $root $firmware $(/bin/busybox cat /etc/marker)" >/dev/ttyS0
/bin/busybox sync
echo o >/proc/sysrq-trigger
/bin/busybox sleep 60
""" % MARKER


class Guest:
    """Paths of the three files."""

    def __init__(self, folder):
        self.kernel, self.ramdisk, self.root = (f"{folder}/{name}" for name in ("vmlinuz", "initrd.img", "root.img"))
        self.staging = f"{folder}/staging"


def _download(package, folder):
    """Unpacks a Debian package that is not installed, from the distribution's own archive."""
    if not shutil.which("apt-get") or not shutil.which("dpkg-deb"):
        skip(f"no apt-get to fetch {package} with")
    result = process.run("apt-get", "download", "-qq", package, cwd=folder, timeout=120)
    debs = glob.glob(f"{folder}/{package}_*.deb")
    if result.code or not debs:
        skip(f"{package} cannot be fetched: {result.errors.strip().splitlines()[-1:]}")
    subprocess.run(["dpkg-deb", "-x", debs[0], f"{folder}/packages"], check=True)
    os.unlink(debs[0])


def _kernel_package():
    result = process.run("apt-cache", "depends", "linux-image-cloud-amd64")
    names = [line.split()[-1] for line in result.text.splitlines() if "Depends: linux-image-" in line]
    if not names:
        skip("there is no linux-image-cloud-amd64 to be had here")
    return names[0]


def _busybox(folder):
    for path in ("/bin/busybox", "/usr/bin/busybox"):
        if os.path.exists(path) and process.run("sh", "-c", f"ldd {path} 2>&1 | grep -q 'not a dynamic'").code == 0:
            return path
    _download("busybox-static", folder)
    return glob.glob(f"{folder}/packages/**/busybox", recursive=True)[0]


def _write(path, text):
    os.makedirs(os.path.dirname(path), exist_ok=True)
    with open(path, "w", encoding="ascii") as file:
        file.write(text)
    os.chmod(path, 0o755)


def _make_ramdisk(folder, busybox, target):
    tree = f"{folder}/ramdisk"
    _write(f"{tree}/init", INIT)
    os.makedirs(f"{tree}/bin", exist_ok=True)
    shutil.copy(busybox, f"{tree}/bin/busybox")
    os.makedirs(f"{tree}/modules", exist_ok=True)
    found = {os.path.basename(path)[:-3]: path
             for path in glob.glob(f"{folder}/packages/**/*.ko", recursive=True)}
    modules = [name for name in MODULES if name in found]
    for name in modules:
        shutil.copy(found[name], f"{tree}/modules/{name}.ko")
    _write(f"{tree}/modules.list", "\n".join(modules) + "\n")
    subprocess.run(f"find . | LC_ALL=C sort | cpio -o -H newc --quiet -R 0:0 | gzip -n9 >{target}", shell=True,
                   cwd=tree, check=True)


def _fill_root(tree, busybox):
    _write(f"{tree}/sbin/init", ROOT_INIT)
    _write(f"{tree}/etc/marker", "plain")
    _write(f"{tree}/etc/os-release", 'ID=testos\nPRETTY_NAME="Test OS 1"\nVERSION_ID=1\n')
    for name in ("bin", "proc", "sys", "dev"):
        os.makedirs(f"{tree}/{name}", exist_ok=True)
    shutil.copy(busybox, f"{tree}/bin/busybox")


def make_root(tree, path, size="24M", *options):
    """An ext4 file system with a folder's files in it; options go to mke2fs."""
    result = process.run(env.find("mke2fs"), "-q", "-t", "ext4", "-U", UUID, "-L", LABEL, "-d", tree, *options, path, size,
                         extra_env={"E2FSPROGS_FAKE_TIME": "1700000000"})
    check(result.code == 0, str(result))
    return path


def get():
    """The guest; made by whichever test comes first."""
    need("mke2fs", "cpio", "gzip")
    folder = os.path.join(env.BUILD, "guest")
    os.makedirs(folder, exist_ok=True)
    guest = Guest(folder)
    with open(f"{folder}/.lock", "w", encoding="ascii") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if os.path.exists(f"{folder}/done"):
            return guest
        package = _kernel_package()
        _download(package, folder)
        busybox = _busybox(folder)
        shutil.copy(glob.glob(f"{folder}/packages/boot/vmlinuz-*")[0], guest.kernel)
        os.chmod(guest.kernel, 0o644)
        _make_ramdisk(folder, busybox, guest.ramdisk)
        _fill_root(guest.staging, busybox)
        make_root(guest.staging, guest.root)
        shutil.rmtree(f"{folder}/packages")
        open(f"{folder}/done", "w", encoding="ascii").close()
    return guest


QEMU_FORMATS = {"vhd": "vpc"}


def boot(tmp, disk=None, fmt="raw", firmware="bios", drive="virtio", direct=None, guard=GUARD):
    """
    Starts a machine with that disk under that firmware ("bios", "efi"), or a kernel directly (kernel,
    ramdisk, arguments). Returns what came over the serial line when it has turned itself off; a BIOS
    that finds nothing to start does so too.
    """
    need("qemu-system-x86_64")
    words = ["qemu-system-x86_64", "-machine", "q35", "-accel", "tcg,thread=multi", "-cpu", "qemu64", "-m", "256",
             "-smp", "2", "-nodefaults", "-no-reboot", "-boot", "reboot-timeout=1000", "-display", "none",
             "-serial", "stdio"]
    if disk:
        what = f"file={disk},format={QEMU_FORMATS.get(fmt, fmt)},snapshot=on"
        if drive == "nvme":
            words += ["-drive", f"{what},if=none,id=disk", "-device", "nvme,drive=disk,serial=1"]
        else:
            words += ["-drive", f"{what},if={drive}"]
    if firmware == "efi":
        for path in OVMF:
            if not os.path.exists(path):
                skip(f"{path} is not installed (ovmf)")
        shutil.copy(OVMF[1], f"{tmp}/vars.fd")
        words += ["-drive", f"if=pflash,unit=0,format=raw,readonly=on,file={OVMF[0]}",
                  "-drive", f"if=pflash,unit=1,format=raw,file={tmp}/vars.fd"]
    if direct:
        words += ["-kernel", direct[0], "-initrd", direct[1], "-append", direct[2]]
    try:
        result = process.run(*words, timeout=guard)
    except Failure as slow:
        raise Failure(f"the guest did not turn itself off: {slow}") from slow
    return result


def check_boot(result, root, firmware="bios", marker="plain"):
    """The guest got to its root file system, the right one, and turned itself off."""
    want = f"{MARKER} root={root} {firmware} {marker}"
    check(result.code == 0 and want in result.out.decode(errors="replace"),
          f"no '{want}' from the guest (exit {result.code}): {result.errors}{result.out[-1500:]!r}")
