/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A change of a QCOW2 image in place. New tables, L2 tables and refcount blocks among them, are
 * written to clusters that are free in the old state; then one write of the header makes all of
 * them the image, since the header says where the L1 table, the refcount table and the snapshot
 * table are. Until that write the old state is untouched; after it the new one is complete. There
 * is nothing to repair.
 */
#pragma once
#include "format/qcow2/qcow2.h"

struct vmimg_qcow2_block {
	uint8_t *old, *now; /* the refcounts of a group of clusters; NULL: not read yet */
	uint64_t old_at;    /* 0: there was none */
	uint64_t now_at;
	bool changed;
};

struct vmimg_qcow2_change {
	struct vmimg_disk *disk;
	struct vmimg_qcow2 *q;
	struct vmimg_io *io;
	uint64_t group_len; /* clusters that a refcount block counts */
	struct vmimg_qcow2_block *blocks;
	size_t block_count, block_cap;
	uint64_t hint;                    /* no cluster before this one is free */
	struct vmimg_qcow2_header header; /* as it shall be */
};

int vmimg_qcow2_change_begin(struct vmimg_qcow2_change *change, struct vmimg_disk *disk,
	struct vmimg_error *err) VMIMG_CHECKED;
void vmimg_qcow2_change_done(struct vmimg_qcow2_change *change);
/* Writes refcounts and table, then the header, with a flush before and after. */
int vmimg_qcow2_change_commit(
	struct vmimg_qcow2_change *change, struct vmimg_error *err) VMIMG_CHECKED;

/* count clusters in a row that are free in the old state and in the new one; counted once. */
int vmimg_qcow2_change_take(struct vmimg_qcow2_change *change, uint64_t count, uint64_t *at,
	struct vmimg_error *err) VMIMG_CHECKED;
/* Adds delta to the refcounts of all clusters that [at, at + len) touches. */
int vmimg_qcow2_change_count(struct vmimg_qcow2_change *change, uint64_t at, uint64_t len,
	int delta, struct vmimg_error *err) VMIMG_CHECKED;
/* The refcount, in the new state, of the cluster at that offset. */
int vmimg_qcow2_change_refs(struct vmimg_qcow2_change *change, uint64_t at, uint64_t *refs,
	struct vmimg_error *err) VMIMG_CHECKED;

/* tables.c: L1 and L2 tables. Adds delta to the refcounts of all that an L1 table refers to. */
int vmimg_qcow2_count_tree(struct vmimg_qcow2_change *change, uint64_t l1, uint32_t entries,
	int delta, struct vmimg_error *err) VMIMG_CHECKED;
/*
 * Makes the active state from the L1 table at from: a table of entries entries in new clusters,
 * with the COPIED flags that the new refcounts ask for, and L2 tables copied where theirs have to
 * change. What lies beyond the disk's size in the new header is dropped. The old table keeps its
 * refcounts.
 */
int vmimg_qcow2_rebuild(struct vmimg_qcow2_change *change, uint64_t from, uint32_t from_entries,
	uint32_t entries, struct vmimg_error *err) VMIMG_CHECKED;
