/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A FAT32 file system made of files that exist already: an EFI system partition, put together
 * without copying what is in it. Source: Microsoft's FAT specification of 2000.
 */
#pragma once
#include "io/io.h"

/* Folders come before what is in them. Names are those of 8.3, in lower or upper case. */
struct vmimg_fat_file {
	const char *name;
	struct vmimg_io *io; /* NULL: a folder */
	unsigned folder;     /* 1 + index of the folder it is in; 0: the root */
};

struct vmimg_fat_plan {
	uint64_t size;   /* bytes; room for the files, and what FAT32 needs at least */
	uint32_t hidden; /* sectors in front of it on the disk */
	uint32_t volume_id;
	const char *label; /* at most 11, upper case */
	uint64_t epoch;    /* time of everything; below 1980: 1980 */
	const struct vmimg_fat_file *files;
	unsigned count;
};

/* The least sensible size for files of that many bytes together. */
uint64_t vmimg_fat_size(uint64_t bytes);
struct vmimg_io *vmimg_fat_write(
	const struct vmimg_fat_plan *plan, struct vmimg_error *err) VMIMG_CHECKED;
/* After some other program has made it bootable: all times in the root folder become epoch and its
 * leftovers zero, so that the bytes are the same whenever it ran, and the copy of the boot sector
 * follows it. */
int vmimg_fat_settle(struct vmimg_io *io, uint64_t epoch, struct vmimg_error *err) VMIMG_CHECKED;
