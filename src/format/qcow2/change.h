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

#define QCOW2_MAX_CHANGED_BITS   21                  /* of a cluster's size; as QEMU */
#define QCOW2_MAX_REFCOUNT_TABLE (UINT64_C(8) << 20) /* bytes that QEMU opens */

struct vmimg_qcow2_block {
	uint8_t *old, *now; /* the refcounts of a group of clusters; NULL: not in memory */
	uint64_t old_at;    /* 0: there was none */
	uint64_t now_at;    /* 0: it has no new place yet */
	bool changed;       /* the new state has a block of its own */
	bool dirty;         /* which is not at now_at yet */
	bool hollow;        /* data that it counted has gone: there are holes to make */
};

struct vmimg_qcow2_change {
	struct vmimg_disk *disk;
	struct vmimg_qcow2 *q;
	struct vmimg_io *io;
	uint64_t group_len; /* clusters that a refcount block counts */
	struct vmimg_qcow2_block *blocks;
	size_t block_count, block_cap;
	uint64_t old_blocks; /* of the old table: those for what is in the file */
	size_t *held;        /* which blocks are in memory */
	size_t held_count, held_cap, held_most, hand;
	bool checked;                     /* check_singles was done */
	bool taking;                      /* no block may be given a place now */
	uint64_t taken;                   /* how often clusters were taken */
	uint64_t old_end;                 /* clusters in the file at first */
	uint64_t hint;                    /* no cluster before this one is free */
	struct vmimg_qcow2_header header; /* as it shall be */
	uint64_t cut;  /* the rest of the cluster that this is in reads as zeroes; 0: of none */
	/* What an unallocated place in there would show of the backing file is hidden by zeroes: whole
	 * clusters, or subclusters; empty: nothing is. */
	uint64_t hide_from, hide_to;
	/* Clusters of the disk in there that are nowhere get a place, and read as zeroes; empty: none
	 * do. Version 3. fill_end: where the last of them ends. */
	uint64_t fill_from, fill_to, fill_end;
	bool whole;    /* what lies beyond the disk's size, the state of a machine, is kept */
	bool new_head; /* so shall these, which are borrowed */
	const char *backing_name, *backing_format, *data_name;
	bool has_bitmaps;
	struct vmimg_qcow2_bitmaps bitmaps;
};

int vmimg_qcow2_change_begin(struct vmimg_qcow2_change *change, struct vmimg_disk *disk,
	struct vmimg_error *err) VMIMG_CHECKED;
void vmimg_qcow2_change_done(struct vmimg_qcow2_change *change);
/* Writes refcounts and table, then the header, with a flush before and after. */
int vmimg_qcow2_change_commit(
	struct vmimg_qcow2_change *change, struct vmimg_error *err) VMIMG_CHECKED;

/* head.c, for commit: all of the first cluster, synced before its first sector is written. */
int vmimg_qcow2_write_head(
	struct vmimg_qcow2_change *change, struct vmimg_error *err) VMIMG_CHECKED;
/* Gives back what only the old state used: holes, and a shorter file. After commit. */
int vmimg_qcow2_give_back(struct vmimg_qcow2_change *change, struct vmimg_error *err) VMIMG_CHECKED;

/* Cuts the file behind the last cluster that is in use. After commit. */
int vmimg_qcow2_cut(struct vmimg_qcow2_change *change, struct vmimg_error *err) VMIMG_CHECKED;

/* What a refcount can count. */
uint64_t vmimg_qcow2_change_most(const struct vmimg_qcow2_change *change);
/* Clusters in use. */
int vmimg_qcow2_change_used(
	struct vmimg_qcow2_change *change, uint64_t *used, struct vmimg_error *err) VMIMG_CHECKED;
/* Refcount blocks and table at or past from get a new place. */
int vmimg_qcow2_change_touch(
	struct vmimg_qcow2_change *change, uint64_t from, struct vmimg_error *err) VMIMG_CHECKED;
/* What take would take, without taking it. */
int vmimg_qcow2_change_find(struct vmimg_qcow2_change *change, uint64_t count, uint64_t *at,
	struct vmimg_error *err) VMIMG_CHECKED;
/* count clusters in a row that are free in the old state and in the new one; counted once. */
int vmimg_qcow2_change_take(struct vmimg_qcow2_change *change, uint64_t count, uint64_t *at,
	struct vmimg_error *err) VMIMG_CHECKED;
/* Adds delta to the refcounts of all clusters that [at, at + len) touches. */
int vmimg_qcow2_change_count(struct vmimg_qcow2_change *change, uint64_t at, uint64_t len,
	int delta, struct vmimg_error *err) VMIMG_CHECKED;
/* The same with -1, for what has been data: its space is given back. Tables stay where they are,
 * for the next change to write over. */
int vmimg_qcow2_change_drop(struct vmimg_qcow2_change *change, uint64_t at, uint64_t len,
	struct vmimg_error *err) VMIMG_CHECKED;
/* The refcount, in the new state, of the cluster at that offset. */
int vmimg_qcow2_change_refs(struct vmimg_qcow2_change *change, uint64_t at, uint64_t *refs,
	struct vmimg_error *err) VMIMG_CHECKED;
/* The same in both states. */
int vmimg_qcow2_change_both(struct vmimg_qcow2_change *change, uint64_t at, uint64_t *old,
	uint64_t *now, struct vmimg_error *err) VMIMG_CHECKED;
/* For commit. Gives a block that has changed its new place; writes all that have one. */
int vmimg_qcow2_change_place(
	struct vmimg_qcow2_change *change, size_t group, struct vmimg_error *err) VMIMG_CHECKED;
int vmimg_qcow2_change_settle(
	struct vmimg_qcow2_change *change, struct vmimg_error *err) VMIMG_CHECKED;

static inline uint64_t vmimg_qcow2_refcount_table_len(const struct vmimg_qcow2 *q)
{
	return (uint64_t)q->header.refcount_table_clusters << q->header.cluster_bits;
}

/* tables.c: L1 and L2 tables. Where the data of an L2 entry lies in the image; len 0: nowhere. */
void vmimg_qcow2_data_place(
	const struct vmimg_qcow2 *q, uint64_t entry, uint64_t *at, uint64_t *len);
/* *l1 is the caller's. */
int vmimg_qcow2_read_l1(struct vmimg_qcow2_change *change, uint64_t at, uint32_t entries,
	uint8_t **l1, struct vmimg_error *err) VMIMG_CHECKED;
int vmimg_qcow2_read_l2(struct vmimg_qcow2_change *change, uint64_t at, uint8_t *l2,
	struct vmimg_error *err) VMIMG_CHECKED;
/* A new active L1 table. The old one keeps its refcounts. */
int vmimg_qcow2_write_l1(struct vmimg_qcow2_change *change, const uint8_t *l1, uint32_t entries,
	struct vmimg_error *err) VMIMG_CHECKED;
int vmimg_qcow2_free_l1(struct vmimg_qcow2_change *change, uint64_t at, uint32_t entries,
	struct vmimg_error *err) VMIMG_CHECKED;
/* Adds delta to the refcounts of all that an L1 table refers to. */
int vmimg_qcow2_count_tree(struct vmimg_qcow2_change *change, uint64_t l1, uint32_t entries,
	int delta, struct vmimg_error *err) VMIMG_CHECKED;
/*
 * Makes the active state from the L1 table at from: a table of entries entries in new clusters,
 * with the COPIED flags that the new refcounts ask for, and L2 tables copied where theirs have to
 * change. What lies beyond the disk's size in the new header is dropped, unless change->whole. The
 * old table keeps its refcounts.
 */
int vmimg_qcow2_rebuild(struct vmimg_qcow2_change *change, uint64_t from, uint32_t from_entries,
	uint32_t entries, struct vmimg_error *err) VMIMG_CHECKED;

/* trees.c: the entries of a table that are not 0, 8 bytes each, all in the file; holes cost nothing. */
typedef int vmimg_qcow2_visit(void *ctx, uint64_t index, uint64_t entry, struct vmimg_error *err);
int vmimg_qcow2_each_entry(struct vmimg_io *io, uint64_t at, uint64_t count,
	vmimg_qcow2_visit *visit, void *ctx, struct vmimg_error *err) VMIMG_CHECKED;

/* All L1 tables, of the active state and of the snapshots. */
struct vmimg_qcow2_walk {
	struct vmimg_qcow2_change *c;
	/* Called with each L1 entry that refers to an L2 table, for the guest offset from which on
	 * it counts; may change it, and then the L1 table gets a new place. */
	int (*table)(struct vmimg_qcow2_walk *, uint64_t *entry, uint64_t guest,
		struct vmimg_error *);
	uint64_t end; /* so do L1 tables, and the snapshot table, at or past it */
};
int vmimg_qcow2_walk_trees(
	struct vmimg_qcow2_walk *walk, struct vmimg_error *err) VMIMG_CHECKED;

/* cut.c: an L2 entry's cluster for guest, in which c->cut lies. */
int vmimg_qcow2_clear_rest(struct vmimg_qcow2_change *change, uint8_t *entry, uint64_t guest,
	struct vmimg_error *err) VMIMG_CHECKED;
/* A compressed entry's cluster. */
int vmimg_qcow2_unpack(struct vmimg_qcow2_change *change, struct vmimg_reader *reader,
	uint64_t entry, uint8_t *to, struct vmimg_error *err) VMIMG_CHECKED;

/* update.c, as in disk/edit.h */
struct vmimg_update;
struct vmimg_sink *vmimg_qcow2_update(struct vmimg_disk *disk, const struct vmimg_update *how,
	struct vmimg_error *err) VMIMG_CHECKED;

/* parent.c */
struct vmimg_parent;
int vmimg_qcow2_set_parent(struct vmimg_disk *disk, const struct vmimg_parent *parent,
	struct vmimg_error *err) VMIMG_CHECKED;
/* Whether the change's names of other files can be. */
int vmimg_qcow2_check_names(
	const struct vmimg_qcow2_change *change, struct vmimg_error *err) VMIMG_CHECKED;

/* edit.c: the snapshot table without drop (NULL: all stay), with add (NULL: none). */
int vmimg_qcow2_write_snapshots(struct vmimg_qcow2_change *change,
	const struct vmimg_qcow2_snapshot *drop, const struct vmimg_qcow2_snapshot *add,
	struct vmimg_error *err) VMIMG_CHECKED;

/* single.c: nothing that has refcount 1 is referred to twice, nothing that has 0 at all, in the old
 * state. Once; more calls do nothing. Done before the first cluster is taken. */
int vmimg_qcow2_check_singles(
	struct vmimg_qcow2_change *change, struct vmimg_error *err) VMIMG_CHECKED;

/* squeeze.c */
int vmimg_qcow2_squeeze(
	struct vmimg_disk *disk, uint64_t *saved, struct vmimg_error *err) VMIMG_CHECKED;

/* amend.c */
extern const struct vmimg_option_spec vmimg_qcow2_amendable[];
int vmimg_qcow2_amend(struct vmimg_disk *disk, const struct vmimg_options *options,
	struct vmimg_error *err) VMIMG_CHECKED;
/* resize.c: entries that an L1 table needs for a disk of that size. */
uint32_t vmimg_qcow2_l1_entries(const struct vmimg_qcow2 *q, uint64_t size);
/* Whether the size can be changed, the change of it, and what is left to do when it is made. */
int vmimg_qcow2_check_resize(
	const struct vmimg_disk *disk, uint64_t size, struct vmimg_error *err) VMIMG_CHECKED;
int vmimg_qcow2_change_size(
	struct vmimg_qcow2_change *change, uint64_t size, struct vmimg_error *err) VMIMG_CHECKED;
int vmimg_qcow2_settle_size(
	struct vmimg_disk *disk, uint64_t size, struct vmimg_error *err) VMIMG_CHECKED;
