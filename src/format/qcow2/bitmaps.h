/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Changing the persistent bitmaps as a part of a change (change.h). What of a bitmap changes goes
 * to free clusters, and so does its table; the directory is written anew, and the extension in the
 * header turns to it.
 */
#pragma once
#include "format/qcow2/change.h"

/* One bitmap, of which a cluster of bits is at hand at a time. */
struct vmimg_qcow2_bits {
	struct vmimg_qcow2_change *c;
	size_t index;       /* in disk->bitmaps */
	uint64_t count;     /* bits that it shall have */
	uint32_t entries;   /* so shall its table */
	uint8_t *table;     /* at least as long as the old one */
	uint8_t *now, *old; /* the cluster at hand, and what is in the image */
	uint64_t at;        /* which; UINT64_MAX: none */
};

/* For the size in the change's header. */
int vmimg_qcow2_bits_open(struct vmimg_qcow2_bits *bits, struct vmimg_qcow2_change *change,
	size_t index, struct vmimg_error *err) VMIMG_CHECKED;
void vmimg_qcow2_bits_done(struct vmimg_qcow2_bits *bits);
/* Turns to a cluster of bits, below entries; what was changed in the one before is written. */
int vmimg_qcow2_bits_load(
	struct vmimg_qcow2_bits *bits, uint64_t at, struct vmimg_error *err) VMIMG_CHECKED;
/* Sets those of [first, end) that the cluster at hand has. */
void vmimg_qcow2_bits_set(struct vmimg_qcow2_bits *bits, uint64_t first, uint64_t end);
/* Writes what is left to write, and a new table for the entry. */
int vmimg_qcow2_bits_finish(struct vmimg_qcow2_bits *bits, struct vmimg_qcow2_bitmap_entry *entry,
	struct vmimg_error *err) VMIMG_CHECKED;
/* Instead: the bitmap goes. */
int vmimg_qcow2_bits_drop(struct vmimg_qcow2_bits *bits, struct vmimg_error *err) VMIMG_CHECKED;
/* An entry for a new one, with a table of zeroes. */
int vmimg_qcow2_bits_new(struct vmimg_qcow2_change *change, struct vmimg_qcow2_bitmap_entry *entry,
	struct vmimg_error *err) VMIMG_CHECKED;

/* ---- bitmap_directory.c ---- */

/* VMIMG_EUNSUPPORTED when the directory is not what was opened. */
int vmimg_qcow2_check_directory(
	const struct vmimg_qcow2_change *change, struct vmimg_error *err) VMIMG_CHECKED;
/* The same, and *bytes is the caller's. */
int vmimg_qcow2_read_directory(
	struct vmimg_qcow2_change *change, uint8_t **bytes, struct vmimg_error *err) VMIMG_CHECKED;
/* The entry at that byte; returns where the next one is. */
size_t vmimg_qcow2_directory_next(
	const uint8_t *bytes, size_t at, struct vmimg_qcow2_bitmap_entry *entry);

struct vmimg_qcow2_new_directory {
	/* What becomes of each bitmap that there is. *gone: nothing. */
	int (*each)(void *ctx, size_t index, struct vmimg_qcow2_bitmap_entry *entry, bool *gone,
		struct vmimg_error *err);
	void *ctx;
	const struct vmimg_qcow2_bitmap_entry *more; /* NULL: none */
	const char *name;                            /* of that one */
};
int vmimg_qcow2_write_directory(struct vmimg_qcow2_change *change,
	const struct vmimg_qcow2_new_directory *how, struct vmimg_error *err) VMIMG_CHECKED;

/* ---- edit_bitmaps.c ---- */

/* As in disk/edit.h. */
struct vmimg_bitmap_change;
int vmimg_qcow2_bitmap(struct vmimg_disk *disk, const struct vmimg_bitmap_change *want,
	struct vmimg_error *err) VMIMG_CHECKED;
/* All of them for the size in the change's header. other: the content is another one, and those
 * that record changes have recorded that all of it is. */
int vmimg_qcow2_resize_bitmaps(
	struct vmimg_qcow2_change *change, bool other, struct vmimg_error *err) VMIMG_CHECKED;

/* ---- update_bitmaps.c: those that record changes, while content is written ---- */

struct vmimg_qcow2_marks;
/* *marks NULL: there are none. Nothing is written yet. */
int vmimg_qcow2_marks_new(struct vmimg_qcow2_change *change, struct vmimg_qcow2_marks **marks,
	struct vmimg_error *err) VMIMG_CHECKED;
/* Before [guest, guest + len) changes, in guest order. The first time the bitmaps are said to be in
 * use, which is durable on return: until finish they are worth nothing. */
int vmimg_qcow2_mark(struct vmimg_qcow2_marks *marks, uint64_t guest, uint64_t len,
	struct vmimg_error *err) VMIMG_CHECKED;
/* Before the change is committed, which turns to what is written here. */
int vmimg_qcow2_marks_finish(
	struct vmimg_qcow2_marks *marks, struct vmimg_error *err) VMIMG_CHECKED;
void vmimg_qcow2_marks_free(struct vmimg_qcow2_marks *marks);
