/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A QCOW2 file being written from front to back. Space is only ever taken at the tail. The
 * refcounts of a stretch of clusters (a group: as many as one refcount block counts) are kept in
 * memory while the tail is in it, and written when the tail leaves (of group 0 at the end); the block
 * lies in the first cluster of its group (the third in group 0, behind the header and the refcount
 * table), so that the refcount table is known at the end without having been kept. A table of more
 * than one cluster lies at the end, and the cluster set aside for it is left free. Tables in a row may cover the beginnings of groups,
 * whose blocks then follow behind the table. Where the tail begins behind data that was there
 * before (an adopted disk), the blocks of groups of that data lie in the tail, where it happened to
 * be when the group was passed.
 */
#pragma once
#include "format/qcow2/qcow2.h"

struct vmimg_qcow2_tail {
	struct vmimg_io *io; /* borrowed */
	uint32_t cluster;
	unsigned refcount_order;
	uint64_t next;      /* the first cluster that is free */
	uint64_t packed_at; /* where the next compressed bytes may go, in the cluster before next;
			     * 0: nowhere, begin a cluster */
	uint64_t group_len; /* clusters in a group */
	/* Tables that are longer than a group: the blocks of groups that begin inside one follow
	 * behind it. */
	struct vmimg_qcow2_stretch {
		uint64_t group, count; /* the first of those groups, and how many */
		uint64_t blocks;       /* the cluster of the first one's block */
	} stretches[3];                /* L1 table, LUKS header, refcount table */
	unsigned stretch_count;
	uint8_t *block; /* the refcounts of the group that next - 1 is in: one cluster */
	uint64_t table; /* the cluster set aside for the refcount table; 0: none */
	uint64_t base;  /* the cluster of the first group's block: behind the table, or the first of
			 * the tail of a file that has data before it */
	uint8_t *base_block; /* the refcounts of that group, when the tail has left it; else NULL */
	/* Of a file that has data before the tail begins: */
	uint64_t *low;       /* of the groups before: the cluster of each one's block; 0: none */
	uint8_t *kept;       /* the refcounts of the group among those that is being passed */
	uint64_t kept_group; /* which */
	bool kept_used;      /* it has any */
};

int vmimg_qcow2_tail_init(struct vmimg_qcow2_tail *tail, struct vmimg_io *io, uint32_t cluster,
	unsigned refcount_order, struct vmimg_error *err) VMIMG_CHECKED;
/* The same where the clusters before base may hold data: those that do are named, in order, by
 * vmimg_qcow2_tail_keep. */
int vmimg_qcow2_tail_adopt(struct vmimg_qcow2_tail *tail, struct vmimg_io *io, uint32_t cluster,
	unsigned refcount_order, uint64_t base, struct vmimg_error *err) VMIMG_CHECKED;
int vmimg_qcow2_tail_keep(
	struct vmimg_qcow2_tail *tail, uint64_t index, struct vmimg_error *err) VMIMG_CHECKED;
void vmimg_qcow2_tail_done(struct vmimg_qcow2_tail *tail);
/* One cluster; *at is its offset. Contiguous calls give contiguous clusters, but for refcount
 * blocks. */
int vmimg_qcow2_tail_cluster(
	struct vmimg_qcow2_tail *tail, uint64_t *at, struct vmimg_error *err) VMIMG_CHECKED;
/* count clusters in a row. */
int vmimg_qcow2_tail_clusters(struct vmimg_qcow2_tail *tail, uint64_t count, uint64_t *at,
	struct vmimg_error *err) VMIMG_CHECKED;
/* len bytes (at most a cluster) for compressed data; they may share clusters with others. */
int vmimg_qcow2_tail_packed(struct vmimg_qcow2_tail *tail, uint32_t len, uint64_t *at,
	struct vmimg_error *err) VMIMG_CHECKED;
/* Takes space for the refcount table and writes it and the last block: no more can be taken. */
int vmimg_qcow2_tail_finish(struct vmimg_qcow2_tail *tail, uint64_t *table, uint32_t *clusters,
	struct vmimg_error *err) VMIMG_CHECKED;
