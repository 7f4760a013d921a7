/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What check knows of each host cluster: the refcount that the image states and the one that is
 * counted. Kept in groups of a few clusters that exist only where something was noted, found by
 * their number in a hash table: memory and time follow what is noted, and not how large the file
 * claims to be nor how its clusters are scattered.
 */
#pragma once
#include "format/qcow2/qcow2.h"

struct vmimg_qcow2_cluster {
	uint32_t stated; /* both stop at UINT32_MAX */
	uint32_t counted;
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
	uint32_t sorted_count, next;               /* next: where the last search in it ended */
};

/* For clusters 0 to count - 1. */
int vmimg_qcow2_clusters_init(
	struct vmimg_qcow2_clusters *c, uint64_t count, struct vmimg_error *err) VMIMG_CHECKED;
void vmimg_qcow2_clusters_done(struct vmimg_qcow2_clusters *c);
/* The cluster's record, made when it is not there yet. index < count. NULL: out of memory. */
struct vmimg_qcow2_cluster *vmimg_qcow2_clusters_at(
	struct vmimg_qcow2_clusters *c, uint64_t index, struct vmimg_error *err) VMIMG_CHECKED;
/* NULL: there is none. */
struct vmimg_qcow2_cluster *vmimg_qcow2_clusters_find(
	struct vmimg_qcow2_clusters *c, uint64_t index);
/* To be called before a walk: what is made after this is not part of it. */
int vmimg_qcow2_clusters_sort(
	struct vmimg_qcow2_clusters *c, struct vmimg_error *err) VMIMG_CHECKED;
/* The first cluster at or after *index that has a record; false: there is none. */
bool vmimg_qcow2_clusters_next(
	struct vmimg_qcow2_clusters *c, uint64_t *index, struct vmimg_qcow2_cluster **cluster);
