#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# Installs what vmimg needs, asking nothing: tools/deps.sh [build|demo|test|boot|fuzz|bench]. Does nothing,
# quickly, when all is there. demo includes build, test includes demo, fuzz and bench include test; boot
# stands alone. Debian, Ubuntu and Fedora.
set -eu

# For each group: a test that all is there, and the packages where it is not.
build_there() {
	command -v cc >/dev/null && command -v meson >/dev/null && command -v ninja >/dev/null &&
		command -v pkg-config >/dev/null &&
		pkg-config --exists ext2fs jansson libcrypto libisal libxml-2.0 libzstd zlib libseccomp liblzma &&
		[ -n "$(find /usr/include /usr/local/include -name libdeflate.h 2>/dev/null)" ] &&
		[ -n "$(find /usr/include /usr/local/include -name bzlib.h 2>/dev/null)" ]
}
build_apt='gcc libc6-dev meson ninja-build pkg-config libext2fs-dev libjansson-dev libdeflate-dev libisal-dev libssl-dev libxml2-dev libzstd-dev zlib1g-dev libseccomp-dev liblzma-dev libbz2-dev'
build_dnf='gcc meson ninja-build pkgconf-pkg-config e2fsprogs-devel jansson-devel libdeflate-devel isa-l-devel openssl-devel libxml2-devel libzstd-devel zlib-devel libseccomp-devel xz-devel bzip2-devel'

all_on_path() (
	PATH=$PATH:/usr/sbin:/sbin
	for tool; do
		command -v "$tool" >/dev/null || exit 1
	done
)

demo_there() {
	all_on_path python3 sfdisk mke2fs
}
demo_apt='python3 fdisk e2fsprogs'
demo_dnf='python3 util-linux e2fsprogs'

test_there() {
	all_on_path qemu-img qemu-io strace clang openssl mkfs.fat mcopy mkfs.xfs blkid xorriso isoinfo
}
test_apt='qemu-utils strace clang openssl 7zip libvhdi-utils dosfstools mtools xfsprogs util-linux xorriso genisoimage
	btrfs-progs exfatprogs ntfs-3g fuse3 attr grub-common udftools cryptsetup-bin libhivex-bin osinfo-db libosinfo-bin
	gdisk parted squashfs-tools bcache-tools binutils systemd-boot-efi grub-pc-bin isolinux syslinux-common'
test_dnf='qemu-img strace clang openssl compiler-rt dosfstools mtools xfsprogs util-linux xorriso genisoimage'

# What disks are started with, to see that they do, and what imports them.
boot_there() {
	all_on_path qemu-system-x86_64 virt-v2v syslinux mcopy mke2fs cpio fsck.fat &&
		[ -f /usr/share/OVMF/OVMF_CODE_4M.fd ] &&
		[ -f /usr/lib/systemd/boot/efi/linuxx64.efi.stub ] &&
		[ -f /usr/lib/syslinux/mbr/gptmbr.bin ]
}
boot_apt='qemu-system-x86 virt-v2v libxml2-utils ovmf syslinux syslinux-common systemd-boot-efi mtools dosfstools busybox-static e2fsprogs cpio'
boot_dnf='qemu-system-x86 virt-v2v libxml2 edk2-ovmf syslinux systemd-boot-unsigned mtools dosfstools busybox e2fsprogs cpio'

# libFuzzer comes with clang's own runtime.
fuzz_there() (
	log=$(mktemp)
	trap 'rm -f "$log"' EXIT
	echo 'int LLVMFuzzerTestOneInput(void) { return 0; }' |
		clang -fsanitize=fuzzer,address -x c -o "$log" - 2>/dev/null
)
fuzz_apt='clang libclang-rt-dev'
fuzz_dnf='clang compiler-rt'

bench_there() {
	all_on_path mmdebstrap
}
bench_apt='mmdebstrap'
bench_dnf='mmdebstrap'

fail() {
	echo "deps: $*" >&2
	exit 1
}

as_root() {
	if [ "$(id -u)" = 0 ]; then
		"$@"
	elif command -v sudo >/dev/null && sudo -n true 2>/dev/null; then
		sudo -n "$@"
	else
		fail "not root, and sudo would ask for a password: have installed by hand: $packages"
	fi
}

install_packages() {
	log=$(mktemp)
	if command -v apt-get >/dev/null; then
		export DEBIAN_FRONTEND=noninteractive
		as_root apt-get update -qq >"$log" 2>&1 || true # a stale list may do
		as_root env DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends \
			$packages >"$log" 2>&1 || give_up
	elif command -v dnf >/dev/null; then
		as_root dnf install -y -q --setopt=install_weak_deps=False $packages >"$log" 2>&1 || give_up
	else
		fail "neither apt-get nor dnf here: have installed by hand: $packages"
	fi
	rm -f "$log"
}

give_up() {
	tail -n 5 "$log" >&2
	rm -f "$log"
	fail "could not install: $packages"
}

case "${1:-build}" in
build) groups='build' ;;
demo) groups='build demo' ;;
test) groups='build demo test' ;;
boot) groups='boot' ;;
fuzz) groups='build demo test fuzz' ;;
bench) groups='build demo test bench' ;;
*) fail "usage: tools/deps.sh [build|demo|test|boot|fuzz|bench]" ;;
esac

packages=
for group in $groups; do
	"${group}_there" && continue
	if command -v apt-get >/dev/null; then
		eval "packages=\"\$packages \$${group}_apt\""
	else
		eval "packages=\"\$packages \$${group}_dnf\""
	fi
done
[ -z "$packages" ] && exit 0
echo "deps: installing$packages"
install_packages
for group in $groups; do
	"${group}_there" || fail "still missing something of '$group' after installing:$packages"
done
