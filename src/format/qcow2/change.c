/* SPDX-License-Identifier: Apache-2.0 */
/* Refcounts of the old and of the new state side by side, and the write that exchanges them. */
#include "format/qcow2/change.h"
#include <inttypes.h>
#include <string.h>
#include "util/num.h"

#define MAX_TABLE (UINT64_C(8) << 20) /* bytes of refcount table that QEMU opens */

static uint64_t table_len(const struct vmimg_qcow2 *q)
{
	return (uint64_t)q->header.refcount_table_clusters << q->header.cluster_bits;
}

static uint64_t count_max(const struct vmimg_qcow2_change *c)
{
	unsigned order = c->q->header.refcount_order;

	return order == 6 ? UINT64_MAX : (UINT64_C(1) << (1U << order)) - 1;
}

static int read_table(struct vmimg_qcow2_change *c, struct vmimg_error *err)
{
	uint64_t len = table_len(c->q),
		 used = vmimg_div_up(
			 vmimg_div_up(vmimg_io_size(c->io), c->q->cluster), c->group_len);
	uint8_t raw[8];

	if (len > MAX_TABLE)
		return vmimg_fail(err, VMIMG_ELIMIT, "a refcount table of %" PRIu64 " bytes", len);
	used = vmimg_min(used, len / 8);
	if (vmimg_grow_array(&c->blocks, &c->block_cap, used, sizeof(*c->blocks), err))
		return -1;
	for (uint64_t i = 0; i < used; i++) {
		if (vmimg_table_read(c->q->table, raw, 8, c->q->header.refcount_table + i * 8, err))
			return -1;
		c->blocks[i].old_at = vmimg_get_be64(raw);
		if (c->blocks[i].old_at % c->q->cluster)
			return vmimg_fail(err, VMIMG_ECORRUPT,
				"refcount block %" PRIu64 " cannot be at 0x%" PRIx64
				": repair the image first",
				i, c->blocks[i].old_at);
	}
	c->block_count = used;
	return 0;
}

int vmimg_qcow2_change_begin(
	struct vmimg_qcow2_change *c, struct vmimg_disk *disk, struct vmimg_error *err)
{
	struct vmimg_qcow2 *q = vmimg_qcow2_of(disk);
	uint64_t marks = QCOW2_INCOMPATIBLE_CORRUPT | QCOW2_INCOMPATIBLE_DIRTY;

	*c = (struct vmimg_qcow2_change){ .disk = disk,
		.q = q,
		.io = disk->io,
		.header = q->header,
		.group_len = ((uint64_t)q->cluster * 8) >> q->header.refcount_order };
	if (q->header.incompatible & marks)
		return vmimg_fail(err, VMIMG_ECORRUPT, "the image is marked %s: repair it first",
			q->header.incompatible & QCOW2_INCOMPATIBLE_CORRUPT ? "corrupt" : "dirty");
	return read_table(c, err);
}

void vmimg_qcow2_change_done(struct vmimg_qcow2_change *c)
{
	for (size_t i = 0; i < c->block_count; i++) {
		free(c->blocks[i].old);
		free(c->blocks[i].now);
	}
	free(c->blocks);
}

/* ---- refcounts ---- */

/* The block of a group, read when it is first asked for; made when there was none. */
static struct vmimg_qcow2_block *block_of(
	struct vmimg_qcow2_change *c, uint64_t group, struct vmimg_error *err)
{
	struct vmimg_qcow2_block *block;

	if (group >= c->block_count) {
		if (vmimg_grow_array(&c->blocks, &c->block_cap, group + 1, sizeof(*block), err))
			return NULL;
		c->block_count = group + 1;
	}
	block = &c->blocks[group];
	if (block->now)
		return block;
	block->old = vmimg_alloc_array(c->q->cluster, 1, err);
	block->now = vmimg_alloc_array(c->q->cluster, 1, err);
	if (!block->old || !block->now)
		return NULL;
	if (!block->old_at)
		return block;
	if (vmimg_io_pread(c->io, block->old, c->q->cluster, block->old_at, err)) {
		vmimg_within(err, "refcount block %" PRIu64, group);
		return NULL;
	}
	memcpy(block->now, block->old, c->q->cluster);
	return block;
}

int vmimg_qcow2_change_count(
	struct vmimg_qcow2_change *c, uint64_t at, uint64_t len, int delta, struct vmimg_error *err)
{
	unsigned order = c->q->header.refcount_order;

	for (uint64_t i = at / c->q->cluster; i <= (at + len - 1) / c->q->cluster; i++) {
		struct vmimg_qcow2_block *block = block_of(c, i / c->group_len, err);
		uint64_t count;

		if (!block)
			return -1;
		count = vmimg_qcow2_get_refcount(block->now, i % c->group_len, order);
		if (delta < 0 && !count)
			return vmimg_fail(err, VMIMG_ECORRUPT,
				"cluster %" PRIu64
				" is in use and has refcount 0: repair the image first",
				i);
		if (delta > 0 && count == count_max(c))
			return vmimg_fail(err, VMIMG_ELIMIT,
				"the refcount of cluster %" PRIu64
				" cannot grow: refcount_bits is too small for a snapshot",
				i);
		vmimg_qcow2_set_refcount(
			block->now, i % c->group_len, order, delta > 0 ? count + 1 : count - 1);
		block->changed = true;
	}
	return 0;
}

int vmimg_qcow2_change_refs(
	struct vmimg_qcow2_change *c, uint64_t at, uint64_t *refs, struct vmimg_error *err)
{
	uint64_t index = at / c->q->cluster;
	struct vmimg_qcow2_block *block = block_of(c, index / c->group_len, err);

	if (!block)
		return -1;
	*refs = vmimg_qcow2_get_refcount(
		block->now, index % c->group_len, c->q->header.refcount_order);
	return 0;
}

static int is_free(
	struct vmimg_qcow2_change *c, uint64_t index, bool *free_in_both, struct vmimg_error *err)
{
	struct vmimg_qcow2_block *block = block_of(c, index / c->group_len, err);
	unsigned order = c->q->header.refcount_order;
	uint64_t slot = index % c->group_len;

	if (!block)
		return -1;
	*free_in_both = !vmimg_qcow2_get_refcount(block->old, slot, order) &&
		!vmimg_qcow2_get_refcount(block->now, slot, order);
	return 0;
}

int vmimg_qcow2_change_take(
	struct vmimg_qcow2_change *c, uint64_t count, uint64_t *at, struct vmimg_error *err)
{
	uint64_t start = c->hint, run = 0;
	bool fits;

	while (run < count) {
		if (is_free(c, start + run, &fits, err))
			return -1;
		run++;
		if (fits)
			continue;
		start += run;
		run = 0;
		if (count == 1)
			c->hint = start;
	}
	*at = start * c->q->cluster;
	return vmimg_qcow2_change_count(c, *at, count * c->q->cluster, 1, err);
}

/* ---- commit ---- */

/* Gives every changed block a new place. That changes refcounts, and so perhaps more blocks. */
static int place_blocks(struct vmimg_qcow2_change *c, bool *more, struct vmimg_error *err)
{
	*more = false;
	for (size_t i = 0; i < c->block_count; i++) {
		uint64_t at;

		if (!c->blocks[i].changed || c->blocks[i].now_at)
			continue;
		*more = true;
		if (vmimg_qcow2_change_take(c, 1, &at, err))
			return -1;
		c->blocks[i].now_at = at; /* the array may have moved: not by pointer */
		if (c->blocks[i].old_at &&
			vmimg_qcow2_change_count(c, c->blocks[i].old_at, c->q->cluster, -1, err))
			return -1;
	}
	return 0;
}

/* Places blocks and table until nothing new has come up. */
static int place_all(struct vmimg_qcow2_change *c, struct vmimg_error *err)
{
	uint64_t clusters = 0, needed;
	bool more = true;

	if (vmimg_qcow2_change_count(c, c->q->header.refcount_table, table_len(c->q), -1, err))
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
		if (clusters * c->q->cluster > MAX_TABLE)
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
		if (block->changed &&
			vmimg_io_pwrite(c->io, block->now, c->q->cluster, block->now_at, err))
			return -1;
	}
	return vmimg_io_pwrite(c->io, table, (size_t)len, c->header.refcount_table, err);
}

/* Only the fields of version 2: nothing else changes, and 72 bytes are in one sector. */
static int write_header(struct vmimg_qcow2_change *c, struct vmimg_error *err)
{
	uint8_t raw[112] = { 0 };

	vmimg_qcow2_header_encode(&c->header, raw);
	return vmimg_io_pwrite(c->io, raw, QCOW2_V2_LENGTH, 0, err);
}

/* The file ends with a whole cluster, so that every table that is in use is all there. */
static int settle_end(struct vmimg_qcow2_change *c, struct vmimg_error *err)
{
	uint64_t size = vmimg_io_size(c->io);

	return c->io->is_device ? 0
				: vmimg_io_resize(c->io, vmimg_align_up(size, c->q->cluster), err);
}

int vmimg_qcow2_change_commit(struct vmimg_qcow2_change *c, struct vmimg_error *err)
{
	if (place_all(c, err) || write_refcounts(c, err) || settle_end(c, err) ||
		vmimg_io_sync(c->io, err) || write_header(c, err))
		return -1;
	return vmimg_io_sync(c->io, err);
}
