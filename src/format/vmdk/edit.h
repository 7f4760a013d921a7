/* SPDX-License-Identifier: Apache-2.0 */
/* What the changes of a VMDK in place share: edit.c (the descriptor, sizes, with edit_sparse.c,
 * edit_extents.c and edit_text.c), update.c (content), entries.c and table_edit.c (tables),
 * relate.c (the descriptor's keys: parents, settings), space.c (emptied, squeezed). */
#pragma once
#include "disk/blocks.h"
#include "disk/edit.h"
#include "format/vmdk/vmdk.h"
#include "io/output.h"

/* ---- edit_sparse.c ---- */

/* What a sparse extent becomes. */
struct vmdk_resized {
	uint64_t size;    /* its capacity, bytes */
	const char *text; /* of the descriptor inside; NULL: it stays, or there is none */
	/* growing: from the old size up to here a parent would show through; 0: it would not */
	uint64_t hidden;
	/* what its last grain is to hold, where that is cut by the old size and not in the extent;
	 * NULL: it may stay so */
	const uint8_t *grain;
};
/* One write of the header's sector makes it that. */
int vmimg_vmdk_resize_sparse(struct vmimg_io *io, const struct vmdk_grains *g,
	const struct vmdk_resized *to, struct vmimg_error *err) VMIMG_CHECKED;

/* ---- edit_extents.c ---- */

/* A disk whose descriptor has a file of its own. */
int vmimg_vmdk_resize_extents(
	struct vmimg_disk *disk, uint64_t size, struct vmimg_error *err) VMIMG_CHECKED;

/* ---- edit.c ---- */

/* The descriptor lies in the file that was opened, not in an extent's. */
int vmimg_vmdk_check_descriptor(
	const struct vmimg_disk *disk, struct vmimg_error *err) VMIMG_CHECKED;
/* Whether a sparse extent is of the kind that is changed in place. */
int vmimg_vmdk_check_kind(const struct vmdk_grains *g, struct vmimg_error *err) VMIMG_CHECKED;
/* Whether it can get that size, and nothing in it is damaged. */
int vmimg_vmdk_check_sparse(
	const struct vmdk_extent *e, uint64_t size, struct vmimg_error *err) VMIMG_CHECKED;
/* What the guest sees of the extent's last grain, followed by zeroes, when the disk ends inside
 * that and a parent shows something behind its end: fresh memory. Else *grain = NULL. */
int vmimg_vmdk_last_grain(struct vmimg_disk *disk, const struct vmdk_extent *e, uint8_t **grain,
	struct vmimg_error *err) VMIMG_CHECKED;
/* The descriptor's text as it is, in fresh memory, followed by a NUL. */
char *vmimg_vmdk_read_text(struct vmimg_disk *disk, struct vmimg_error *err) VMIMG_CHECKED;
/* Puts that text in its place, at once. */
int vmimg_vmdk_put_text(
	struct vmimg_disk *disk, const char *text, struct vmimg_error *err) VMIMG_CHECKED;
/* Publishes output with that text as the descriptor, and the permissions of the old one. */
int vmimg_vmdk_publish_text(struct vmimg_output *output, struct vmimg_io *old, const char *text,
	struct vmimg_error *err) VMIMG_CHECKED;
/* The extent's file, for writing; the caller gives it back. */
struct vmimg_io *vmimg_vmdk_writable(struct vmimg_disk *disk, const struct vmdk_extent *e,
	struct vmimg_error *err) VMIMG_CHECKED;

/* ---- edit_text.c ---- */

/* The extents that a descriptor describes from now on. */
struct vmdk_new_lines {
	size_t kept;   /* of the lines, the others go */
	uint64_t last; /* sectors of the last one of those */
	const struct vmdk_line *added;
	size_t added_count;
	uint64_t sectors; /* of the whole disk */
};
/* The text with those, NUL-terminated; the caller frees it. */
char *vmimg_vmdk_resized_text(const struct vmdk_descriptor *d, const char *text,
	const struct vmdk_new_lines *lines, struct vmimg_error *err) VMIMG_CHECKED;

/* A key of the descriptor that changes. */
struct vmdk_key {
	const char *key;
	const char *value; /* NULL: the key goes */
	bool bare;         /* the value stands without quotes */
};
/* The text with those keys; fresh memory. */
char *vmimg_vmdk_keyed_text(const char *text, const struct vmdk_key *keys, size_t count,
	struct vmimg_error *err) VMIMG_CHECKED;

/* ---- entries.c: the tables of a hosted sparse extent, being changed ---- */

struct vmdk_change {
	struct vmimg_io *io;
	struct vmdk_grains g;
	bool marked; /* the header says that tables are being changed */
};

/* Writes the header's sector, between two flushes: whether tables are being changed; zeroed: that
 * an entry of 1 is a grain of zeroes. */
int vmimg_vmdk_mark(
	struct vmdk_change *c, bool unclean, bool zeroed, struct vmimg_error *err) VMIMG_CHECKED;
/* What a walk visits, each may be NULL: tables (i of the directory, at a sector), and grains. */
struct vmdk_visit {
	vmimg_blocks_visit *table, *grain;
	void *ctx;
};
/* All tables of the directory at directory_at. */
int vmimg_vmdk_walk(const struct vmdk_change *c, uint64_t directory_at,
	const struct vmdk_visit *visit, struct vmimg_error *err) VMIMG_CHECKED;
/* The sectors in use: init, add and room of disk/blocks.h. */
int vmimg_vmdk_space(const struct vmdk_change *c, struct vmimg_blocks *blocks,
	struct vmimg_error *err) VMIMG_CHECKED;
/* Makes the redundant tables what the first ones are: after a crash they may differ. */
int vmimg_vmdk_mirror(const struct vmdk_change *c, struct vmimg_error *err) VMIMG_CHECKED;
/* Refuses an extent in which two things lie in one place: what one of them is given would change
 * the other. */
int vmimg_vmdk_verify(const struct vmdk_change *c, struct vmimg_error *err) VMIMG_CHECKED;
/* Where the grain's entry is, in the tables of the directory at directory_at; 0: there is no table.
 */
int vmimg_vmdk_entry_place(const struct vmdk_change *c, uint64_t directory_at, uint64_t grain,
	uint64_t *at, struct vmimg_error *err) VMIMG_CHECKED;
/* Gives the grain a table in each directory that lacks one, behind all that is in use. */
int vmimg_vmdk_add_table(struct vmdk_change *c, struct vmimg_blocks *blocks, uint64_t grain,
	struct vmimg_error *err) VMIMG_CHECKED;

/* ---- table_edit.c ---- */

/* One of the tables of a directory, in hand; the caller sets c and directory_at, all else is 0. */
struct vmdk_table {
	const struct vmdk_change *c;
	uint64_t directory_at;
	bool held;
	uint64_t index, at;  /* of the one in hand; at 0: it is not there */
	uint32_t first, end; /* entries that changed lie in between; end 0: none did */
	uint8_t bytes[VMIMG_VMDK_TABLE_MOST];
};
/* The table of that grain is in hand from now on; the one before is written, if it changed. */
int vmimg_vmdk_table_hold(
	struct vmdk_table *t, uint64_t grain, struct vmimg_error *err) VMIMG_CHECKED;
/* The entry of the grain, whose table has to be there, becomes value. */
int vmimg_vmdk_table_put(struct vmdk_table *t, uint64_t grain, uint32_t value,
	struct vmimg_error *err) VMIMG_CHECKED;
/* None is in hand any more, and all changes are written. */
int vmimg_vmdk_table_leave(struct vmdk_table *t, struct vmimg_error *err) VMIMG_CHECKED;

struct vmimg_sink *vmimg_vmdk_update(
	struct vmimg_disk *disk, const struct vmimg_update *update, struct vmimg_error *err);

/* ---- space.c, relate.c ---- */

int vmimg_vmdk_empty(struct vmimg_disk *disk, struct vmimg_error *err) VMIMG_CHECKED;
/* The gaps between the grains of a sparse extent are closed; where the last ones were, the file
 * ends. holes (NULL: none): what is zero, or nobody's, and of which no hole was made yet. */
int vmimg_vmdk_squeeze_extent(
	struct vmdk_change *c, struct vmimg_holes *holes, struct vmimg_error *err) VMIMG_CHECKED;
int vmimg_vmdk_squeeze(
	struct vmimg_disk *disk, uint64_t *saved, struct vmimg_error *err) VMIMG_CHECKED;
/* A name that a descriptor can hold, in its encoding. */
int vmimg_vmdk_check_name(
	const struct vmdk_descriptor *d, const char *name, struct vmimg_error *err) VMIMG_CHECKED;
int vmimg_vmdk_set_parent(struct vmimg_disk *disk, const struct vmimg_parent *parent,
	struct vmimg_error *err) VMIMG_CHECKED;
/* Another CID, by which children know what they were made on, and a long content ID that ends in
 * it. content: a hash of what was written. */
int vmimg_vmdk_change_cid(
	struct vmimg_disk *disk, uint64_t content, struct vmimg_error *err) VMIMG_CHECKED;
int vmimg_vmdk_set(struct vmimg_disk *disk, const struct vmimg_options *options,
	struct vmimg_error *err) VMIMG_CHECKED;
extern const struct vmimg_option_spec vmimg_vmdk_set_options[];
