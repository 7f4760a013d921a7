/* SPDX-License-Identifier: Apache-2.0 */
/* The end of a change: refcounts and their table, the header, and space that is free then. */
#include <inttypes.h>
#include <string.h>
#include "format/qcow2/change.h"
#include "util/num.h"

/* Gives every changed block a new place. That changes refcounts, and so perhaps more blocks. */
static int place_blocks(struct vmimg_qcow2_change *c, bool *more, struct vmimg_error *err)
{
	*more = false;
	for (size_t i = 0; i < c->block_count; i++) {
		if (!c->blocks[i].changed || c->blocks[i].now_at)
			continue;
		*more = true;
		if (vmimg_qcow2_change_place(c, i, err))
			return -1;
	}
	return 0;
}

/* Blocks that count nothing but clusters past the end of the file: the new table has none of them.
 */
static int free_far_blocks(struct vmimg_qcow2_change *c, struct vmimg_error *err)
{
	uint64_t entries = vmimg_qcow2_refcount_table_len(c->q) / 8,
		 size = c->old_end * c->q->cluster;
	uint8_t raw[8];

	for (uint64_t i = c->old_blocks; i < entries; i++) {
		uint64_t at;

		if (vmimg_table_read(c->q->table, raw, 8, c->q->header.refcount_table + i * 8, err))
			return -1;
		at = vmimg_get_be64(raw);
		if (at && at < size && vmimg_qcow2_change_count(c, at, c->q->cluster, -1, err))
			return -1;
	}
	return 0;
}

/* Places blocks and table until nothing new has come up. */
static int place_all(struct vmimg_qcow2_change *c, struct vmimg_error *err)
{
	uint64_t clusters = 0, needed;
	bool more = true;

	if (vmimg_qcow2_change_count(c, c->q->header.refcount_table,
		    vmimg_qcow2_refcount_table_len(c->q), -1, err) ||
		free_far_blocks(c, err))
		return -1;
	while (more) {
		if (place_blocks(c, &more, err))
			return -1;
		needed = vmimg_max(c->header.refcount_table_clusters,
			vmimg_div_up((uint64_t)c->block_count * 8, c->q->cluster));
		if (needed <= clusters)
			continue;
		if (clusters &&
			vmimg_qcow2_change_count(
				c, c->header.refcount_table, clusters * c->q->cluster, -1, err))
			return -1;
		clusters = needed;
		if (clusters * c->q->cluster > QCOW2_MAX_REFCOUNT_TABLE)
			return vmimg_fail(err, VMIMG_ELIMIT,
				"the refcount table would be larger than QEMU opens");
		if (vmimg_qcow2_change_take(c, clusters, &c->header.refcount_table, err))
			return -1;
		c->header.refcount_table_clusters = (uint32_t)clusters;
		more = true;
	}
	return 0;
}

static int write_refcounts(struct vmimg_qcow2_change *c, struct vmimg_error *err)
{
	uint64_t len = (uint64_t)c->header.refcount_table_clusters * c->q->cluster;
	VMIMG_AUTO(free) uint8_t *table = vmimg_alloc_array((size_t)len, 1, err);

	if (!table)
		return -1;
	for (size_t i = 0; i < c->block_count; i++) {
		const struct vmimg_qcow2_block *block = &c->blocks[i];

		vmimg_put_be64(table + i * 8, block->changed ? block->now_at : block->old_at);
	}
	return vmimg_qcow2_change_settle(c, err)
		? -1
		: vmimg_io_pwrite(c->io, table, (size_t)len, c->header.refcount_table, err);
}

/* Fields that all are in the first sector. */
static int write_header(struct vmimg_qcow2_change *c, struct vmimg_error *err)
{
	uint8_t raw[112] = { 0 };
	size_t len = c->header.version == 3 ? QCOW2_V3_LENGTH : QCOW2_V2_LENGTH;

	if (c->new_head)
		return vmimg_qcow2_write_head(c, err);
	vmimg_qcow2_header_encode(&c->header, raw);
	return vmimg_io_sync(c->io, err) || vmimg_io_pwrite(c->io, raw, len, 0, err) ? -1 : 0;
}

/* The file ends with a whole cluster, so that every table that is in use is all there. */
static int settle_end(struct vmimg_qcow2_change *c, struct vmimg_error *err)
{
	uint64_t size = vmimg_io_size(c->io);

	return c->io->is_device ? 0
				: vmimg_io_resize(c->io, vmimg_align_up(size, c->q->cluster), err);
}

/* ---- space ---- */

/* Whether a cluster can go: one that the old state counted, or that it had not. Where a damaged
 * image refers to what has refcount 0, that stays. */
static int can_go(struct vmimg_qcow2_change *c, uint64_t index, bool *can, struct vmimg_error *err)
{
	uint64_t old, now;

	if (vmimg_qcow2_change_both(c, index * c->q->cluster, &old, &now, err))
		return -1;
	*can = !now && (old || index >= c->old_end);
	return 0;
}

/* Holes for the clusters of one group that held data. */
static int punch_group(
	struct vmimg_qcow2_change *c, size_t group, uint64_t clusters, struct vmimg_error *err)
{
	uint64_t from = group * c->group_len, end = vmimg_min(from + c->group_len, clusters);
	bool can;

	for (uint64_t i = from; i <= end; i++) {
		can = false;
		if (i < end && can_go(c, i, &can, err))
			return -1;
		if (can)
			continue;
		if (i > from &&
			vmimg_io_zero(c->io, from * c->q->cluster, (i - from) * c->q->cluster, err))
			return -1;
		from = i + 1;
	}
	return 0;
}

int vmimg_qcow2_give_back(struct vmimg_qcow2_change *c, struct vmimg_error *err)
{
	uint64_t clusters = vmimg_io_size(c->io) / c->q->cluster, end = clusters;
	bool can = true;

	if (c->io->is_device)
		return 0;
	while (end && can) {
		if (can_go(c, end - 1, &can, err))
			return -1;
		end -= can;
	}
	if (end < clusters && vmimg_io_resize(c->io, end * c->q->cluster, err))
		return -1;
	for (size_t group = 0; group < c->block_count; group++)
		if (c->blocks[group].hollow && punch_group(c, group, end, err))
			return -1;
	return 0;
}

int vmimg_qcow2_cut(struct vmimg_qcow2_change *c, struct vmimg_error *err)
{
	uint64_t end = vmimg_io_size(c->io) / c->q->cluster, old, now = 0;

	while (!now && end) {
		if (vmimg_qcow2_change_both(c, --end * c->q->cluster, &old, &now, err))
			return -1;
	}
	return c->io->is_device ? 0 : vmimg_io_resize(c->io, (end + 1) * c->q->cluster, err);
}

static bool counts_changed(const struct vmimg_qcow2_change *c)
{
	for (size_t i = 0; i < c->block_count; i++)
		if (c->blocks[i].changed)
			return true;
	return false;
}

static bool header_changed(const struct vmimg_qcow2_change *c)
{
	uint8_t old[112] = { 0 }, now[112] = { 0 };

	vmimg_qcow2_header_encode(&c->q->header, old);
	vmimg_qcow2_header_encode(&c->header, now);
	return c->new_head || memcmp(old, now, sizeof(old));
}

int vmimg_qcow2_change_commit(struct vmimg_qcow2_change *c, struct vmimg_error *err)
{
	if (counts_changed(c) &&
		(place_all(c, err) || write_refcounts(c, err) || settle_end(c, err)))
		return -1;
	if (header_changed(c) && write_header(c, err))
		return -1;
	return vmimg_io_sync(c->io, err);
}
