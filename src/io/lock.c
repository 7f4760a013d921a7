/* SPDX-License-Identifier: Apache-2.0 */
/*
 * For each permission i (0 consistent read, 1 write, 2 write unchanged, 3 resize) there are two
 * bytes: 100 + i is locked by those who use it, 200 + i by those who do not share it. Everybody
 * takes read locks on their own bytes first, and then asks whether a write lock on the opposite
 * bytes would be granted.
 */
#include "io/lock.h"
#include <ctype.h>
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>
#include "io/file.h"
#include "util/text.h"

#define USES     100
#define UNSHARED 200
#define READING  (1U << 0)
#define WRITING  (1U << 1)
#define RESIZING (1U << 3)

static const struct {
	unsigned uses, unshared;
} modes[] = {
	[VMIMG_LOCK_LOOK] = { 0, WRITING | RESIZING },
	[VMIMG_LOCK_READ] = { READING, WRITING | RESIZING },
	[VMIMG_LOCK_WRITE] = { READING | WRITING | RESIZING, WRITING | RESIZING },
	[VMIMG_LOCK_REPLACE] = { WRITING | RESIZING, RESIZING },
};

/* What a conflict on a byte means, in the words of a user. */
static const char *conflict(int byte)
{
	switch (byte) {
	case USES + 1:
		return "being written";
	case USES + 3:
		return "open for resizing";
	case UNSHARED + 1:
	case UNSHARED + 3:
		return "held against changes";
	default:
		return "in exclusive use";
	}
}

static struct flock one_byte(short type, int byte)
{
	return (struct flock){ .l_type = type, .l_whence = SEEK_SET, .l_start = byte, .l_len = 1 };
}

/* Takes a byte for each bit. false: there are no such locks here. */
static bool take(int fd, int base, unsigned bits)
{
	for (int i = 0; i < 4; i++) {
		struct flock lock = one_byte(F_RDLCK, base + i);

		if (bits >> i & 1 && fcntl(fd, F_OFD_SETLK, &lock))
			return false;
	}
	return true;
}

/* The byte of the first bit on which somebody else is; 0: none. */
static int held_by_others(int fd, int base, unsigned bits)
{
	for (int i = 0; i < 4; i++) {
		struct flock lock = one_byte(F_WRLCK, base + i);

		if (bits >> i & 1 && !fcntl(fd, F_OFD_GETLK, &lock) && lock.l_type != F_UNLCK)
			return base + i;
	}
	return 0;
}

/* ---- who ---- */

static bool has_open(const char *pid, const struct vmimg_io *io)
{
	char path[300];
	struct dirent *entry;
	struct stat st;
	bool found = false;
	DIR *folder;

	snprintf(path, sizeof(path), "/proc/%.20s/fd", pid);
	folder = opendir(path);
	if (!folder)
		return false;
	while (!found && (entry = readdir(folder)))
		found = !fstatat(dirfd(folder), entry->d_name, &st, 0) && st.st_dev == io->id[0] &&
			st.st_ino == io->id[1];
	closedir(folder);
	return found;
}

/* "process 123 (qemu-system-x86)" of the first other process that has the file open. */
static void name_holder(const struct vmimg_io *io, char out[80])
{
	char path[40], raw[32] = "", name[64], self[16];
	struct dirent *entry;
	DIR *proc = opendir("/proc");

	snprintf(out, 80, "another process");
	snprintf(self, sizeof(self), "%d", (int)getpid());
	while (proc && (entry = readdir(proc))) {
		FILE *comm;

		if (!isdigit((unsigned char)entry->d_name[0]) || !strcmp(entry->d_name, self) ||
			!has_open(entry->d_name, io))
			continue;
		snprintf(path, sizeof(path), "/proc/%.20s/comm", entry->d_name);
		comm = fopen(path, "re");
		if (comm && fgets(raw, sizeof(raw), comm))
			raw[strcspn(raw, "\n")] = '\0';
		if (comm)
			fclose(comm);
		snprintf(out, 80, "process %.10s (%.50s)", entry->d_name,
			vmimg_escape(name, sizeof(name), raw, strlen(raw)));
		break;
	}
	if (proc)
		closedir(proc);
}

int vmimg_io_lock(struct vmimg_io *io, enum vmimg_lock lock, struct vmimg_error *err)
{
	int fd = vmimg_file_fd(io), byte;
	char holder[80];

	if (fd < 0 || !take(fd, USES, modes[lock].uses) ||
		!take(fd, UNSHARED, modes[lock].unshared))
		return 0;
	byte = held_by_others(fd, UNSHARED, modes[lock].uses);
	if (!byte)
		byte = held_by_others(fd, USES, modes[lock].unshared);
	if (!byte)
		return 0;
	name_holder(io, holder);
	return vmimg_fail(err, VMIMG_ELOCKED, "%s is %s by %s%s", vmimg_io_name(io), conflict(byte),
		holder, lock <= VMIMG_LOCK_READ ? " (-U reads it all the same)" : "");
}
