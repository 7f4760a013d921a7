/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What check knows of each host cluster: the refcount that the image states and the one that is
 * counted. Kept in pages that exist only where something was noted, so that memory follows what the
 * file holds and not what it claims.
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
	struct vmimg_qcow2_cluster **pages;
	uint64_t page_count;
};

/* For clusters 0 to count - 1. VMIMG_ELIMIT when that is more than can be checked. */
int vmimg_qcow2_clusters_init(
	struct vmimg_qcow2_clusters *c, uint64_t count, struct vmimg_error *err) VMIMG_CHECKED;
void vmimg_qcow2_clusters_done(struct vmimg_qcow2_clusters *c);
/* The cluster's record, made when it is not there yet. index < count. NULL: out of memory. */
struct vmimg_qcow2_cluster *vmimg_qcow2_clusters_at(
	struct vmimg_qcow2_clusters *c, uint64_t index, struct vmimg_error *err) VMIMG_CHECKED;
/* The first cluster at or after *index that has a record; false: there is none. */
bool vmimg_qcow2_clusters_next(const struct vmimg_qcow2_clusters *c, uint64_t *index,
	struct vmimg_qcow2_cluster **cluster);
