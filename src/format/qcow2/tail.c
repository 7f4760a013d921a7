/* SPDX-License-Identifier: Apache-2.0 */
/* Taking space at the tail of a QCOW2 file, with refcounts that follow. */
#include <assert.h>
#include <inttypes.h>
#include <string.h>
#include "format/qcow2/writer.h"
#include "util/num.h"

/* Where the refcount block of a group lies, as a cluster. */
static uint64_t block_cluster(const struct vmimg_qcow2_tail *tail, uint64_t group)
{
	for (unsigned i = 0; i < tail->stretch_count; i++) {
		const struct vmimg_qcow2_stretch *stretch = &tail->stretches[i];

		if (group >= stretch->group && group - stretch->group < stretch->count)
			return stretch->blocks + (group - stretch->group);
	}
	if (group < tail->base / tail->group_len)
		return tail->low[group];
	return group == tail->base / tail->group_len ? tail->base : group * tail->group_len;
}

static uint64_t count_max(const struct vmimg_qcow2_tail *tail)
{
	return tail->refcount_order == 6 ? UINT64_MAX
					 : (UINT64_C(1) << (1U << tail->refcount_order)) - 1;
}

/* The refcount of cluster index of the group in memory. */
static uint64_t get_count(const struct vmimg_qcow2_tail *tail, uint64_t index)
{
	return vmimg_qcow2_get_refcount(tail->block, index, tail->refcount_order);
}

static void set_count(struct vmimg_qcow2_tail *tail, uint64_t index, uint64_t count)
{
	vmimg_qcow2_set_refcount(tail->block, index, tail->refcount_order, count);
}

static int write_block_of(struct vmimg_qcow2_tail *tail, const uint8_t *block, uint64_t group,
	struct vmimg_error *err)
{
	return vmimg_io_pwrite(tail->io, block, tail->cluster,
		block_cluster(tail, group) * tail->cluster, err);
}

static int write_block(struct vmimg_qcow2_tail *tail, struct vmimg_error *err)
{
	return write_block_of(tail, tail->block, (tail->next - 1) / tail->group_len, err);
}

/* The block in memory is done with; but data before the tail, or the cluster set aside for the
 * refcount table, may still be counted in the first. */
static int leave_group(struct vmimg_qcow2_tail *tail, struct vmimg_error *err)
{
	if (!tail->base_block) {
		uint8_t *block = vmimg_alloc_array(tail->cluster, 1, err);

		if (!block)
			return -1;
		tail->base_block = tail->block;
		tail->block = block;
		return 0;
	}
	if (write_block(tail, err))
		return -1;
	memset(tail->block, 0, tail->cluster);
	return 0;
}

/* The tail has come to a new group: its first cluster is for its refcounts, unless a table covers
 * it. */
static int enter_group(struct vmimg_qcow2_tail *tail, struct vmimg_error *err)
{
	if (leave_group(tail, err))
		return -1;
	tail->packed_at = 0;
	if (block_cluster(tail, tail->next / tail->group_len) != tail->next)
		return 0;
	set_count(tail, 0, 1);
	tail->next++;
	return 0;
}

/* Where QEMU has it, too: a cluster, which is enough for 16 TiB of the usual clusters. */
#define TABLE 1

int vmimg_qcow2_tail_init(struct vmimg_qcow2_tail *tail, struct vmimg_io *io, uint32_t cluster,
	unsigned refcount_order, struct vmimg_error *err)
{
	*tail = (struct vmimg_qcow2_tail){ .io = io,
		.cluster = cluster,
		.refcount_order = refcount_order,
		.table = TABLE,
		.base = TABLE + 1,
		.next = TABLE + 2,
		.group_len = ((uint64_t)cluster * 8) >> refcount_order };
	tail->block = vmimg_alloc_array(cluster, 1, err);
	if (!tail->block)
		return -1;
	for (uint64_t i = 0; i < tail->next; i++)
		set_count(tail, i, 1); /* the header, the refcount table, this block */
	return 0;
}

int vmimg_qcow2_tail_adopt(struct vmimg_qcow2_tail *tail, struct vmimg_io *io, uint32_t cluster,
	unsigned refcount_order, uint64_t base, struct vmimg_error *err)
{
	if (vmimg_qcow2_tail_init(tail, io, cluster, refcount_order, err))
		return -1;
	memset(tail->block, 0, cluster);
	tail->table = 0;
	tail->base = base;
	tail->next = base + 1;
	tail->kept = vmimg_alloc_array(cluster, 1, err);
	tail->low = vmimg_alloc_array((size_t)(base / tail->group_len + 1), 8, err);
	if (!tail->kept || !tail->low)
		return -1;
	set_count(tail, base % tail->group_len, 1);
	return vmimg_qcow2_tail_keep(tail, 0, err); /* the header */
}

/* Gives the group that was passed its block, in the tail. */
static int leave_kept(struct vmimg_qcow2_tail *tail, struct vmimg_error *err)
{
	uint64_t at;

	if (!tail->kept_used)
		return 0;
	if (vmimg_qcow2_tail_cluster(tail, &at, err))
		return -1;
	tail->low[tail->kept_group] = at / tail->cluster;
	if (write_block_of(tail, tail->kept, tail->kept_group, err))
		return -1;
	memset(tail->kept, 0, tail->cluster);
	tail->kept_used = false;
	return 0;
}

int vmimg_qcow2_tail_keep(struct vmimg_qcow2_tail *tail, uint64_t index, struct vmimg_error *err)
{
	uint64_t group = index / tail->group_len;
	uint8_t *block = tail->kept;

	if (group == tail->base / tail->group_len) {
		block = tail->base_block ? tail->base_block : tail->block;
	} else {
		if (group != tail->kept_group && leave_kept(tail, err))
			return -1;
		tail->kept_group = group;
		tail->kept_used = true;
	}
	vmimg_qcow2_set_refcount(block, index % tail->group_len, tail->refcount_order, 1);
	return 0;
}

void vmimg_qcow2_tail_done(struct vmimg_qcow2_tail *tail)
{
	free(tail->block);
	free(tail->base_block);
	free(tail->kept);
	free(tail->low);
}

int vmimg_qcow2_tail_cluster(struct vmimg_qcow2_tail *tail, uint64_t *at, struct vmimg_error *err)
{
	if (!(tail->next % tail->group_len) && enter_group(tail, err))
		return -1;
	*at = tail->next * tail->cluster;
	set_count(tail, tail->next % tail->group_len, 1);
	tail->next++;
	return 0;
}

/* Where groups begin inside the count clusters from next on, or inside the blocks behind them,
 * notes that; returns how many blocks those are. */
static uint64_t note_stretch(struct vmimg_qcow2_tail *tail, uint64_t count)
{
	uint64_t first = vmimg_div_up(tail->next, tail->group_len), blocks = 0, before;

	do {
		before = blocks;
		blocks = vmimg_div_up(tail->next + count + before, tail->group_len) - first;
	} while (blocks != before);
	if (blocks) {
		assert(tail->stretch_count < VMIMG_ARRAY_LEN(tail->stretches));
		tail->stretches[tail->stretch_count++] =
			(struct vmimg_qcow2_stretch){ first, blocks, tail->next + count };
	}
	return blocks;
}

int vmimg_qcow2_tail_clusters(
	struct vmimg_qcow2_tail *tail, uint64_t count, uint64_t *at, struct vmimg_error *err)
{
	uint64_t unused, start = tail->next;

	if (!(start % tail->group_len)) {
		if (enter_group(tail, err))
			return -1;
		start = tail->next;
	}
	count += note_stretch(tail, count);
	while (tail->next < start + count)
		if (vmimg_qcow2_tail_cluster(tail, &unused, err))
			return -1;
	*at = start * tail->cluster;
	return 0;
}

/* Whether len bytes fit at packed_at: in this group, and with counts that can still grow. */
static bool packed_fits(const struct vmimg_qcow2_tail *tail, uint32_t len)
{
	uint64_t end = tail->packed_at + len;
	uint64_t last = (end - 1) / tail->cluster;

	return tail->packed_at &&
		get_count(tail, (tail->next - 1) % tail->group_len) < count_max(tail) &&
		(last < tail->next || tail->next % tail->group_len);
}

int vmimg_qcow2_tail_packed(
	struct vmimg_qcow2_tail *tail, uint32_t len, uint64_t *at, struct vmimg_error *err)
{
	uint64_t unused, index = (tail->next - 1) % tail->group_len;

	if (packed_fits(tail, len)) {
		*at = tail->packed_at;
		set_count(tail, index, get_count(tail, index) + 1);
		if ((*at + len - 1) / tail->cluster >= tail->next &&
			vmimg_qcow2_tail_cluster(tail, &unused, err))
			return -1;
	} else if (vmimg_qcow2_tail_cluster(tail, at, err)) {
		return -1;
	}
	tail->packed_at = (*at + len) % tail->cluster ? *at + len : 0;
	return 0;
}

/* Clusters of a refcount table for all of the file, itself included. */
static uint64_t table_clusters(const struct vmimg_qcow2_tail *tail)
{
	uint64_t per_cluster = tail->cluster / 8, count = 0, groups;

	if (tail->table && vmimg_div_up(tail->next, tail->group_len) <= per_cluster)
		return 1;
	do { /* it counts itself, and may enter groups of its own */
		count++;
		groups = vmimg_div_up(tail->next + count + vmimg_div_up(count, tail->group_len) + 1,
				 tail->group_len) +
			1;
		count = vmimg_max(count, vmimg_div_up(groups, per_cluster));
	} while (count * per_cluster < groups);
	return count;
}

/* The cluster set aside, if that is enough; else it is given up for clusters at the tail. */
static int place_table(
	struct vmimg_qcow2_tail *tail, uint64_t count, uint64_t *table, struct vmimg_error *err)
{
	uint8_t *first = tail->base_block ? tail->base_block : tail->block;

	*table = tail->table * tail->cluster;
	if (tail->table && count == 1)
		return 0;
	if (tail->table)
		vmimg_qcow2_set_refcount(first, tail->table, tail->refcount_order, 0);
	return vmimg_qcow2_tail_clusters(tail, count, table, err);
}

static int write_table(
	struct vmimg_qcow2_tail *tail, uint64_t count, uint64_t table, struct vmimg_error *err)
{
	uint64_t per_cluster = tail->cluster / 8;
	uint64_t groups = vmimg_div_up(tail->next, tail->group_len);
	VMIMG_AUTO(free) uint8_t *raw = vmimg_alloc_array(tail->cluster, 1, err);

	if (!raw)
		return -1;
	for (uint64_t c = 0; c < count; c++) {
		memset(raw, 0, tail->cluster);
		for (uint64_t i = 0; i < per_cluster && c * per_cluster + i < groups; i++)
			vmimg_put_be64(raw + i * 8,
				block_cluster(tail, c * per_cluster + i) * tail->cluster);
		if (vmimg_io_pwrite(tail->io, raw, tail->cluster, table + c * tail->cluster, err))
			return -1;
	}
	return 0;
}

int vmimg_qcow2_tail_finish(
	struct vmimg_qcow2_tail *tail, uint64_t *table, uint32_t *clusters, struct vmimg_error *err)
{
	uint64_t count;

	if (leave_kept(tail, err))
		return -1;
	count = table_clusters(tail);
	if (place_table(tail, count, table, err) || write_block(tail, err) ||
		(tail->base_block && write_block_of(tail, tail->base_block,
					     tail->base / tail->group_len, err)) ||
		write_table(tail, count, *table, err))
		return -1;
	*clusters = (uint32_t)count;
	return 0;
}
