/* SPDX-License-Identifier: Apache-2.0 */
/* New content in place, shared by its files: update.c (the sink), update_grain.c (the extent and
 * the grain in hand), update_flush.c (what waits for a flush). */
#pragma once
#include "disk/sink.h"
#include "format/vmdk/edit.h"

/* Entries that wait, after which there is a flush: 32 MiB. */
#define VMDK_MOST_WAITING (UINT32_C(1) << 21)

struct vmdk_entry {
	uint32_t extent, value;
	uint64_t grain; /* an extent of small ones has more than 2^32 */
};

struct vmdk_part {
	const struct vmdk_extent *e;
	struct vmdk_change c; /* c.io: NULL until it is needed */
};

struct vmdk_update {
	struct vmimg_sink sink;
	struct vmimg_disk *disk;
	struct vmdk *v;
	struct vmdk_part *parts;
	struct vmimg_chunk *chunk; /* being placed */
	bool hides;                /* there is a parent, or will be */
	bool same_content;
	bool only_zeroes;
	uint64_t content;           /* folded digests */
	size_t current;             /* part in hand */
	struct vmimg_blocks blocks; /* of that part */
	bool mapped;                /* blocks are known */
	uint64_t old_end;           /* of its file; past it all is new and zero */
	struct vmdk_table table;    /* of that part: what its entries were before */
	uint64_t both;              /* the table that both directories have, as far as is known */
	struct vmimg_holes holes;   /* of its file, from the next flush on */
	/* the grain in hand */
	bool in_hand;
	uint64_t grain;
	uint32_t value, old; /* of its entry: 0, 1 or a sector */
	uint64_t zeroed;     /* bytes of it that were given as zeroes */
	/* what waits for the flush */
	struct vmdk_entry *entries;
	size_t entry_count, entry_cap;
};

/* ---- update_grain.c ---- */

/* The extent that has guest offset `guest`. */
size_t vmimg_vmdk_find_part(const struct vmdk_update *u, uint64_t guest);
/* Extent i is in hand from now on, and open. */
int vmimg_vmdk_enter_part(struct vmdk_update *u, size_t i, struct vmimg_error *err) VMIMG_CHECKED;
/* Where guest bytes [inside, …) of the part are written; *len is cut to what lies together. */
int vmimg_vmdk_writable_run(struct vmdk_update *u, uint64_t inside, uint64_t *len, uint64_t *at,
	struct vmimg_error *err) VMIMG_CHECKED;
/* They become zero; *len likewise. */
int vmimg_vmdk_zero_run(struct vmdk_update *u, uint64_t inside, uint64_t *len,
	struct vmimg_error *err) VMIMG_CHECKED;
/* No grain is in hand any more; its entry waits, if it changed. */
int vmimg_vmdk_leave_grain(struct vmdk_update *u, struct vmimg_error *err) VMIMG_CHECKED;

/* ---- update_flush.c ---- */

/* [at, at + len) of the file in hand becomes zero, soon. */
int vmimg_vmdk_punch(
	struct vmdk_update *u, uint64_t at, uint64_t len, struct vmimg_error *err) VMIMG_CHECKED;

/* The part in hand is done: its file has its holes, and reaches as far as its grains do. */
int vmimg_vmdk_end_part(struct vmdk_update *u, struct vmimg_error *err) VMIMG_CHECKED;
/* All data is in storage; then the entries that waited are. */
int vmimg_vmdk_flush(struct vmdk_update *u, struct vmimg_error *err) VMIMG_CHECKED;
