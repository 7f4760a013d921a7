/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A VHDX being changed in place. Tables are changed in a stage (io/stage.h) and reach the file
 * through its log, in rounds: each is one entry, so that the file is what it was before the round
 * or what it is after it. Space in the file is handed out by a map of it, one bit for each MiB.
 */
#pragma once
#include "disk/edit.h"
#include "format/vhdx/vhdx.h"

struct vhdx_change {
	struct vmimg_disk *disk;
	struct vmimg_vhdx *vhdx;
	struct vmimg_io *io;    /* the file; borrowed */
	struct vmimg_io *stage; /* tables are read and written here; NULL before begin */
	unsigned head_index;    /* the header in use */
	struct vhdx_head head;  /* what it says, but for … */
	bool renamed;           /* … data_write, which the next one will say */
	size_t room;            /* pages that fit one round */
	bool hides; /* zeroes are to hide what a parent holds, one there is or one to come */

	struct vhdx_space {
		uint8_t *used;      /* one bit for each MiB of the file */
		uint64_t units;     /* of the file, in MiB */
		uint64_t cap;       /* bytes of used */
		uint64_t cursor[2]; /* no gap for one MiB, for a block, is before it */
	} space;
	struct vhdx_range *freed; /* by this round: nobody's once it is done */
	size_t freed_count, freed_cap;
};

/* For all operations: the image can be written and is sound. Replays a log that waits, into the
 * file. Writes nothing else. */
int vmimg_vhdx_change_open(
	struct vhdx_change *change, struct vmimg_disk *disk, struct vmimg_error *err) VMIMG_CHECKED;
/* Before the first write: the header tells of a writer. Once; more calls do nothing. */
int vmimg_vhdx_change_begin(struct vhdx_change *change, struct vmimg_error *err) VMIMG_CHECKED;
/* What the guest sees changes: the next header has that data write GUID. A round's header and its
 * tables count from the same moment on. */
void vmimg_vhdx_change_rename(struct vhdx_change *change, const struct vmimg_guid *data_write);
/* Ends a round when another block's worth of changes may not fit it any more. */
int vmimg_vhdx_change_room(struct vhdx_change *change, struct vmimg_error *err) VMIMG_CHECKED;
/* Ends a round: what was written elsewhere is flushed, then the tables go through the log. */
int vmimg_vhdx_change_commit(struct vhdx_change *change, struct vmimg_error *err) VMIMG_CHECKED;
/* A round of its own: the bytes at `at`, whole pages, become zero at once. */
int vmimg_vhdx_change_zero(struct vhdx_change *change, uint64_t at, uint64_t len,
	struct vmimg_error *err) VMIMG_CHECKED;
/* The last round, and both headers tell of no writer. */
int vmimg_vhdx_change_end(struct vhdx_change *change, struct vmimg_error *err) VMIMG_CHECKED;
void vmimg_vhdx_change_done(struct vhdx_change *change);
/* A GUID derived from an old one. */
int vmimg_vhdx_derive(const struct vmimg_guid *old, uint64_t salt, const char *what,
	struct vmimg_guid *guid, struct vmimg_error *err) VMIMG_CHECKED;

/* table.c. BAT entries, as the round has them. */
int vmimg_vhdx_get_entry(struct vhdx_change *change, uint64_t index, uint64_t *entry,
	struct vmimg_error *err) VMIMG_CHECKED;
int vmimg_vhdx_set_entry(struct vhdx_change *change, uint64_t index, uint64_t entry,
	struct vmimg_error *err) VMIMG_CHECKED;
/* Visits the entries that are not 0, from `first` to before `end`, in order. A visit may change the
 * entry it is at, and end rounds. */
typedef int vhdx_visit(void *ctx, uint64_t index, uint64_t entry, struct vmimg_error *err);
int vmimg_vhdx_walk(struct vhdx_change *change, uint64_t first, uint64_t end, vhdx_visit *visit,
	void *ctx, struct vmimg_error *err) VMIMG_CHECKED;
/* The bytes of the file that an entry of the image as it was opened holds; 0: none. What the
 * states without data have for a place is a trace of the past, and holds nothing. */
uint64_t vmimg_vhdx_held(const struct vhdx_change *change, uint64_t index, uint64_t entry);
/* Frees what the entries from `first` to before `end` hold; they stay as they are. */
int vmimg_vhdx_free_entries(struct vhdx_change *change, uint64_t first, uint64_t end,
	struct vmimg_error *err) VMIMG_CHECKED;
/* Makes room for so many entries. A BAT that has to move is copied, and the region tables lead to
 * the copy, after a round of its own. */
int vmimg_vhdx_need_entries(
	struct vhdx_change *change, uint64_t entries, struct vmimg_error *err) VMIMG_CHECKED;
/* The BAT's copy at that place, free and len bytes long, becomes the BAT. */
int vmimg_vhdx_move_table(struct vhdx_change *change, uint64_t at, uint64_t len,
	struct vmimg_error *err) VMIMG_CHECKED;

/* space.c. Marks what is in use; done by change_open. Again: forgets what it knew. */
int vmimg_vhdx_space_load(struct vhdx_change *change, struct vmimg_error *err) VMIMG_CHECKED;
/* len bytes of zeroes (whole MiB), in a gap or at the end of the file. */
int vmimg_vhdx_space_take(struct vhdx_change *change, uint64_t len, uint64_t *at,
	struct vmimg_error *err) VMIMG_CHECKED;
/* Somebody has put something there. */
void vmimg_vhdx_space_mark(struct vhdx_change *change, uint64_t at, uint64_t len);
/* Free when the round is done. */
int vmimg_vhdx_space_free(struct vhdx_change *change, uint64_t at, uint64_t len,
	struct vmimg_error *err) VMIMG_CHECKED;
/* After a round: what was freed becomes holes. */
int vmimg_vhdx_space_settle(struct vhdx_change *change, struct vmimg_error *err) VMIMG_CHECKED;
/* The file reaches to the end of its last block, which may be cut behind the disk's end. */
int vmimg_vhdx_space_fill(struct vhdx_change *change, struct vmimg_error *err) VMIMG_CHECKED;
/* Cuts off what is free at the end of the file. */
int vmimg_vhdx_space_cut(struct vhdx_change *change, struct vmimg_error *err) VMIMG_CHECKED;
/* The first gap of len bytes that ends at limit or before; false: there is none. Nothing is taken.
 */
bool vmimg_vhdx_space_gap(struct vhdx_change *change, uint64_t len, uint64_t limit, uint64_t *at);

/* place.c: what a range of the guest, inside one block, becomes. Each call adds at most one page of
 * the BAT, and with a parent one more and the bitmap's. */
/* Where its data is to be written; a block without a place gets one, which is zero. */
int vmimg_vhdx_place(struct vhdx_change *change, uint64_t guest, uint64_t len, uint64_t *at,
	struct vmimg_error *err) VMIMG_CHECKED;
/* It reads as zeroes. */
int vmimg_vhdx_zero_part(struct vhdx_change *change, uint64_t guest, uint64_t len,
	struct vmimg_error *err) VMIMG_CHECKED;
/* The whole block reads as zeroes, and gives its place back; in a fixed disk it keeps it. */
int vmimg_vhdx_zero_block(
	struct vhdx_change *change, uint64_t block, struct vmimg_error *err) VMIMG_CHECKED;
/* All of the block is here, so that its bits no longer count. */
int vmimg_vhdx_fill_block(
	struct vhdx_change *change, uint64_t block, struct vmimg_error *err) VMIMG_CHECKED;
/* Sectors of a block that is present in part and are not here become zeroes, which nobody sees
 * until the block is present. bits: where its bitmap is. */
int vmimg_vhdx_zero_gaps(struct vhdx_change *change, uint64_t block_at, uint64_t bits,
	struct vmimg_error *err) VMIMG_CHECKED;

/* ---- the operations of disk/edit.h ---- */

int vmimg_vhdx_resize(
	struct vmimg_disk *disk, uint64_t size, struct vmimg_error *err) VMIMG_CHECKED;
struct vmimg_sink *vmimg_vhdx_update(
	struct vmimg_disk *disk, const struct vmimg_update *update, struct vmimg_error *err);
int vmimg_vhdx_empty(struct vmimg_disk *disk, struct vmimg_error *err) VMIMG_CHECKED;
int vmimg_vhdx_change_parent(struct vmimg_disk *disk, const struct vmimg_parent *parent,
	struct vmimg_error *err) VMIMG_CHECKED;
int vmimg_vhdx_squeeze(
	struct vmimg_disk *disk, uint64_t *saved, struct vmimg_error *err) VMIMG_CHECKED;
int vmimg_vhdx_set(struct vmimg_disk *disk, const struct vmimg_options *options,
	struct vmimg_error *err) VMIMG_CHECKED;
extern const struct vmimg_option_spec vmimg_vhdx_settings[];
