/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Looking inside a disk as a whole: its partition table, the file systems on it, how a machine
 * would start from it and what it would start. What is damaged in one place is told there, and does
 * not keep the rest from being seen.
 */
#pragma once
#include <jansson.h>
#include "inspect/fs.h"
#include "inspect/iso9660.h"
#include "inspect/parts.h"

/* A place that may hold a file system: the whole disk, a partition, a logical volume. */
struct vmimg_volume {
	char name[260]; /* "" whole disk; "2" partition 2; "efi1" a boot image; "group/volume" a
			   logical volume; not fit to show */
	const struct vmimg_part *part; /* NULL: none */
	bool logical;                  /* a logical volume of LVM */
	struct vmimg_io *io;           /* owned; NULL: cannot be reached, and error says why */
	struct vmimg_fs_info info;
	struct vmimg_fs *fs; /* owned; NULL: not readable here, and error says why */
	struct vmimg_error error;
};

struct vmimg_inspection {
	struct vmimg_io *io; /* shared */
	struct vmimg_parts parts;
	struct vmimg_volume *volumes;
	size_t count, cap;
	struct vmimg_boot_entry boot[VMIMG_BOOT_ENTRIES]; /* El Torito */
	size_t boot_count;
};

/* io is what the guest sees; sector_size as vmimg_parts_read() takes it. The caller ends with
 * vmimg_inspection_done(), also after a failure. */
int vmimg_inspection_open(struct vmimg_inspection *inspection, struct vmimg_io *io,
	uint32_t sector_size, struct vmimg_error *err) VMIMG_CHECKED;
void vmimg_inspection_done(struct vmimg_inspection *inspection);
static inline void vmimg_inspection_done_auto(struct vmimg_inspection *inspection)
{
	vmimg_inspection_done(inspection);
}

/* All file systems together read about so many bytes from now on, UINT64_MAX any. */
void vmimg_inspection_bound(struct vmimg_inspection *inspection, uint64_t bytes);

/* The volume of that name; with an empty one, the one that is meant when none is named: the only
 * one whose files can be read, or the one with the operating system. NULL, and *err says what there
 * is to choose from. */
struct vmimg_volume *vmimg_inspection_find(struct vmimg_inspection *inspection, const char *name,
	struct vmimg_error *err) VMIMG_CHECKED;

/* Of "2/etc" or "group/volume/etc" the length of the volume's name. */
size_t vmimg_inspection_name_len(const struct vmimg_inspection *inspection, const char *address);

/* The report of `vmimg inspect`. deep: also unpacks initial ramdisks to see what is in them. */
json_t *vmimg_inspection_report(
	struct vmimg_inspection *inspection, bool deep, struct vmimg_error *err) VMIMG_CHECKED;
struct vmimg_summary {
	char text[200]; /* one line, fit to show: "gpt: ext4 (root), vfat"; "": nothing is known */
	struct vmimg_fs_info
		alone; /* the file system that it is from end to end; type NULL: none */
};
/* Reads no files. */
int vmimg_inspection_summary(struct vmimg_io *io, uint32_t sector_size,
	struct vmimg_summary *summary, struct vmimg_error *err) VMIMG_CHECKED;
