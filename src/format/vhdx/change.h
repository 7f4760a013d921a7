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
	struct vhdx_head head;  /* what it says */
	size_t room;            /* pages that fit one round */

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
/* How many pages the round has. */
size_t vmimg_vhdx_change_pages(const struct vhdx_change *change);
/* Ends a round: what was written elsewhere is flushed, then the tables go through the log. */
int vmimg_vhdx_change_commit(struct vhdx_change *change, struct vmimg_error *err) VMIMG_CHECKED;
/* A round of its own: the bytes at `at`, whole pages, become zero at once. */
int vmimg_vhdx_change_zero(struct vhdx_change *change, uint64_t at, uint64_t len,
	struct vmimg_error *err) VMIMG_CHECKED;
/* The last round, and a header that tells of no writer. data_write: the new one; NULL: it stays. */
int vmimg_vhdx_change_end(struct vhdx_change *change, const struct vmimg_guid *data_write,
	struct vmimg_error *err) VMIMG_CHECKED;
void vmimg_vhdx_change_done(struct vhdx_change *change);
/* A GUID derived from an old one. */
int vmimg_vhdx_derive(const struct vmimg_guid *old, uint64_t salt, const char *what,
	struct vmimg_guid *guid, struct vmimg_error *err) VMIMG_CHECKED;

/* BAT entries, as the round has them. */
int vmimg_vhdx_get_entry(struct vhdx_change *change, uint64_t index, uint64_t *entry,
	struct vmimg_error *err) VMIMG_CHECKED;
int vmimg_vhdx_set_entry(struct vhdx_change *change, uint64_t index, uint64_t entry,
	struct vmimg_error *err) VMIMG_CHECKED;

/* space.c. Marks what is in use; done by change_open. */
int vmimg_vhdx_space_load(struct vhdx_change *change, struct vmimg_error *err) VMIMG_CHECKED;
/* len bytes of zeroes (whole MiB), in a gap or at the end of the file. */
int vmimg_vhdx_space_take(struct vhdx_change *change, uint64_t len, uint64_t *at,
	struct vmimg_error *err) VMIMG_CHECKED;
/* Free when the round is done. */
int vmimg_vhdx_space_free(struct vhdx_change *change, uint64_t at, uint64_t len,
	struct vmimg_error *err) VMIMG_CHECKED;
/* After a round: what was freed becomes holes. */
int vmimg_vhdx_space_settle(struct vhdx_change *change, struct vmimg_error *err) VMIMG_CHECKED;
/* Cuts off what is free at the end of the file. */
int vmimg_vhdx_space_cut(struct vhdx_change *change, struct vmimg_error *err) VMIMG_CHECKED;
/* The first gap of len bytes before limit; false: there is none. Nothing is taken. */
bool vmimg_vhdx_space_gap(struct vhdx_change *change, uint64_t len, uint64_t limit, uint64_t *at);

/* update.c */
struct vmimg_sink *vmimg_vhdx_update(
	struct vmimg_disk *disk, const struct vmimg_update *update, struct vmimg_error *err);
int vmimg_vhdx_empty(struct vmimg_disk *disk, struct vmimg_error *err) VMIMG_CHECKED;
