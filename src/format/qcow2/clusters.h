/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What check knows of each host cluster: the refcount that the image states and the one that is
 * counted. Memory and time follow what the file holds, and not how large it claims to be nor how
 * its clusters are scattered: refcount blocks are kept as they are, but for what is zero in them;
 * references to a table that goes over many clusters as one range; all others in groups of a few
 * clusters that exist only where something was noted, found by their number in a hash table.
 */
#pragma once
#include "format/qcow2/qcow2.h"

struct vmimg_qcow2_cluster {
	uint32_t counted;  /* stops at UINT32_MAX; without ranges */
	uint32_t l2_refs;  /* how many L1 entries say that an L2 table is here */
	uint32_t l1_index; /* of the first one in the active L1 table, plus 1; 0: none */
};

struct vmimg_qcow2_clusters {
	uint64_t count;
	struct vmimg_qcow2_cluster_group {
		uint64_t number; /* of its first cluster, in groups */
		struct vmimg_qcow2_cluster clusters[8];
	} * *chunks; /* of many groups each: they stay where they are */
	size_t chunk_cap;
	uint32_t group_count;
	uint32_t *slots; /* a group's place plus 1; 0: none */
	unsigned order;  /* 2^order slots */
	uint64_t seed;   /* nobody can know which groups meet in one slot */
	uint32_t last;   /* the group that was asked for last, plus 1 */
	struct vmimg_qcow2_cluster_group **sorted; /* by number */
	uint32_t sorted_count;
	struct vmimg_qcow2_cluster_range {
		uint64_t first, end;
		int64_t refs;
	} * ranges; /* as they came; once sorted, apart and ascending */
	size_t range_count, range_cap;
	bool ranges_sorted;
	struct vmimg_qcow2_cluster_piece {
		uint64_t first; /* cluster */
		uint8_t *bytes;
	} * pieces; /* of refcount blocks, ascending */
	size_t piece_count, piece_cap;
	uint32_t piece_len;
	unsigned refcount_order;
	/* where the last searches in these arrays ended */
	size_t group_next, range_next, piece_next;
};

/* For clusters 0 to count - 1 of that image. */
int vmimg_qcow2_clusters_init(struct vmimg_qcow2_clusters *c, const struct vmimg_qcow2 *q,
	uint64_t count, struct vmimg_error *err) VMIMG_CHECKED;
void vmimg_qcow2_clusters_done(struct vmimg_qcow2_clusters *c);

/* The cluster's record, made when it is not there yet. index < count. NULL: out of memory. */
struct vmimg_qcow2_cluster *vmimg_qcow2_clusters_at(
	struct vmimg_qcow2_clusters *c, uint64_t index, struct vmimg_error *err) VMIMG_CHECKED;
/* Counts refs references to each of the clusters. */
int vmimg_qcow2_clusters_refer(struct vmimg_qcow2_clusters *c, uint64_t first, uint64_t end,
	uint32_t refs, struct vmimg_error *err) VMIMG_CHECKED;
/* The refcounts that the image has from cluster first on: len bytes of a block, or all of it.
 * Called in ascending order. */
int vmimg_qcow2_clusters_state(struct vmimg_qcow2_clusters *c, uint64_t first, const uint8_t *bytes,
	uint32_t len, struct vmimg_error *err) VMIMG_CHECKED;
/* Both stop at UINT32_MAX. */
uint32_t vmimg_qcow2_clusters_stated(struct vmimg_qcow2_clusters *c, uint64_t index);
uint32_t vmimg_qcow2_clusters_counted(struct vmimg_qcow2_clusters *c, uint64_t index);

/* To be called before a walk: what is noted after this is not part of it. */
int vmimg_qcow2_clusters_sort(
	struct vmimg_qcow2_clusters *c, struct vmimg_error *err) VMIMG_CHECKED;
/* The first cluster at or after *index that has a record; false: there is none. */
bool vmimg_qcow2_clusters_next(
	struct vmimg_qcow2_clusters *c, uint64_t *index, struct vmimg_qcow2_cluster **cluster);
/* The first at or after *index and before end of which either may not be 0. */
struct vmimg_qcow2_refs {
	uint32_t stated, counted;
	uint64_t len; /* clusters of which the same is true: more than one only inside a range */
};
bool vmimg_qcow2_clusters_walk(struct vmimg_qcow2_clusters *c, uint64_t *index, uint64_t end,
	struct vmimg_qcow2_refs *refs);
