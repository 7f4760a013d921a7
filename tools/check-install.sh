#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# Installs a build folder into an empty root, and builds and runs a program of a user's against it.
set -eu
build=$(cd "$1" && pwd)
root=$(mktemp -d)
trap 'rm -rf "$root"' EXIT
DESTDIR=$root meson install -C "$build" --no-rebuild >"$root/log" 2>&1 || { cat "$root/log"; exit 1; }
find "$root" -type f -name '*.h' | grep -v '/vmimg\.h$' && { echo "install: a private header went out"; exit 1; }
include=$(dirname "$(find "$root" -name vmimg.h)")
library=$(dirname "$(find "$root" -name 'libvmimg.so' | head -n 1)")
program=$(find "$root" -path '*/bin/vmimg')

cat >"$root/user.c" <<'C'
#include <stdio.h>
#include <vmimg.h>

int main(int argc, char **argv)
{
	struct vmimg_error err = { 0 };
	struct vmimg_io *io = argc > 1 ? vmimg_io_open_file(argv[1], &err) : NULL;
	struct vmimg_disk *disk = io ? vmimg_disk_open(io, NULL, &err) : NULL;
	char first[4];

	if (!disk || vmimg_disk_pread(disk, first, 4, 0, &err)) {
		fprintf(stderr, "%s\n", err.text);
		return 1;
	}
	printf("%s %llu %.4s\n", vmimg_disk_format(disk),
		(unsigned long long)vmimg_disk_size(disk), first);
	vmimg_disk_close(disk);
	vmimg_io_close(io);
	return 0;
}
C
cc -Wall -Wextra -Werror -I"$include" -o "$root/user" "$root/user.c" -L"$library" -lvmimg
printf 'disk' >"$root/disk.raw"
truncate -s 1M "$root/disk.raw"
said=$(LD_LIBRARY_PATH=$library "$root/user" "$root/disk.raw")
[ "$said" = "raw 1048576 disk" ] || { echo "install: the user's program says: $said"; exit 1; }
"$program" info "$root/disk.raw" >/dev/null
echo "install: library, header and program work from an empty folder"
