/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Refcounts of the old and of the new state side by side. Blocks are in memory while they are
 * looked at; one that has to go before the change is made is written to its new place.
 */
#include "format/qcow2/change.h"
#include <inttypes.h>
#include <string.h>
#include "util/num.h"

#define BLOCK_ROOM (UINT64_C(32) << 20) /* bytes of refcount blocks in memory */
#define MOST_AHEAD (UINT64_C(1) << 16)  /* refcount blocks that a change may add at the end */

uint64_t vmimg_qcow2_change_most(const struct vmimg_qcow2_change *c)
{
	unsigned order = c->q->header.refcount_order;

	return order == 6 ? UINT64_MAX : (UINT64_C(1) << (1U << order)) - 1;
}

static int read_table(struct vmimg_qcow2_change *c, struct vmimg_error *err)
{
	uint64_t len = vmimg_qcow2_refcount_table_len(c->q),
		 used = vmimg_div_up(
			 vmimg_div_up(vmimg_io_size(c->io), c->q->cluster), c->group_len);
	uint8_t raw[8];

	if (len > QCOW2_MAX_REFCOUNT_TABLE)
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
	c->block_count = c->old_blocks = used;
	return 0;
}

/* ---- blocks ---- */

/* Writes a block that has changed to its new place, which it gets if it has none. */
static int settle_block(struct vmimg_qcow2_change *c, size_t group, struct vmimg_error *err)
{
	struct vmimg_qcow2_block *block = &c->blocks[group];

	if (!block->dirty)
		return 0;
	if (!block->now_at && vmimg_qcow2_change_place(c, group, err))
		return -1;
	block = &c->blocks[group]; /* the array may have moved */
	block->dirty = false;
	return vmimg_io_pwrite(c->io, block->now, c->q->cluster, block->now_at, err);
}

/*
 * Drops one block from memory when there are too many. While a cluster is being taken no block may
 * get a place, which would take another one: then only those go that have one, or need none.
 */
static int make_room(struct vmimg_qcow2_change *c, struct vmimg_error *err)
{
	for (size_t tries = 0; c->held_count >= c->held_most && tries < c->held_count; tries++) {
		size_t hand = c->hand++ % c->held_count, group = c->held[hand];
		bool outer = c->taking;

		if (outer && c->blocks[group].dirty && !c->blocks[group].now_at)
			continue;
		c->taking = true;
		if (settle_block(c, group, err))
			return -1;
		c->taking = outer;
		free(c->blocks[group].old);
		free(c->blocks[group].now);
		c->blocks[group].old = c->blocks[group].now = NULL;
		c->held[hand] = c->held[--c->held_count];
		return 0;
	}
	return 0;
}

static int load_block(struct vmimg_qcow2_change *c, size_t group, struct vmimg_error *err)
{
	struct vmimg_qcow2_block *block = &c->blocks[group];

	if (vmimg_grow_array(&c->held, &c->held_cap, c->held_count + 1, sizeof(*c->held), err))
		return -1;
	block->old = vmimg_alloc_array(c->q->cluster, 1, err);
	block->now = vmimg_alloc_array(c->q->cluster, 1, err);
	if (!block->old || !block->now)
		return -1;
	c->held[c->held_count++] = group;
	if (block->old_at && vmimg_io_pread(c->io, block->old, c->q->cluster, block->old_at, err))
		return vmimg_within(err, "refcount block %zu", group);
	if (block->now_at)
		return vmimg_io_pread(c->io, block->now, c->q->cluster, block->now_at, err);
	memcpy(block->now, block->old, c->q->cluster);
	return 0;
}

/* A reference far past the end of the file would ask for a list as long as the way there. */
static bool is_far(const struct vmimg_qcow2_change *c, uint64_t group)
{
	return group > vmimg_io_size(c->io) / c->q->cluster / c->group_len + MOST_AHEAD;
}

/* The block of a group, read when it is not in memory; made when there was none. Valid until the
 * next call. */
static struct vmimg_qcow2_block *block_of(
	struct vmimg_qcow2_change *c, uint64_t group, struct vmimg_error *err)
{
	if (group >= c->block_count) {
		if (is_far(c, group)) {
			vmimg_fail(err, VMIMG_ECORRUPT,
				"a cluster at 0x%" PRIx64 " is referred to, far past the end of "
				"the file: repair the image first",
				group * c->group_len * c->q->cluster);
			return NULL;
		}
		if (vmimg_grow_array(&c->blocks, &c->block_cap, group + 1, sizeof(*c->blocks), err))
			return NULL;
		c->block_count = group + 1;
	}
	if (!c->blocks[group].now && make_room(c, err))
		return NULL;
	/* making room may have read it */
	if (!c->blocks[group].now && load_block(c, group, err)) {
		free(c->blocks[group].now);
		free(c->blocks[group].old);
		c->blocks[group].now = c->blocks[group].old = NULL;
		return NULL;
	}
	return &c->blocks[group];
}

/* ---- the beginning and the end ---- */

/* A file that ends inside a cluster, or refcounts of clusters past its end: something has cut it, or
 * was about to make it longer. Which one it was shows in what is referred to. */
static int check_end(struct vmimg_qcow2_change *c, struct vmimg_error *err)
{
	uint64_t entries = vmimg_qcow2_refcount_table_len(c->q) / 8,
		 slot = c->old_end % c->group_len;
	struct vmimg_qcow2_block *block;
	uint8_t raw[8] = { 0 };
	uint64_t refs = vmimg_io_size(c->io) % c->q->cluster;

	for (uint64_t i = c->old_blocks; i < entries && !vmimg_get_be64(raw); i++)
		if (vmimg_table_read(c->q->table, raw, 8, c->q->header.refcount_table + i * 8, err))
			return -1;
	if (!refs && slot && c->old_end / c->group_len < c->old_blocks) {
		block = block_of(c, c->old_end / c->group_len, err);
		if (!block)
			return -1;
		for (; slot < c->group_len && !refs; slot++)
			refs = vmimg_qcow2_get_refcount(
				block->now, slot, c->q->header.refcount_order);
	}
	return refs || vmimg_get_be64(raw) ? vmimg_qcow2_check_singles(c, err) : 0;
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
		.backing_name = q->backing_name,
		.backing_format = q->backing_format,
		.data_name = q->data_name,
		.has_bitmaps = q->has_bitmaps,
		.bitmaps = q->bitmaps,
		.group_len = ((uint64_t)q->cluster * 8) >> q->header.refcount_order,
		.held_most = vmimg_max(BLOCK_ROOM / (q->cluster * UINT64_C(2)), 8),
		.old_end = vmimg_div_up(vmimg_io_size(disk->io), q->cluster) };
	c->header.autoclear &= QCOW2_AUTOCLEAR_BITMAPS | QCOW2_AUTOCLEAR_RAW_DATA;
	if (q->header.cluster_bits > QCOW2_MAX_CHANGED_BITS ||
		q->header.l1_size > QCOW2_MAX_L1_ENTRIES)
		return vmimg_fail(err, VMIMG_ELIMIT,
			"clusters of %" PRIu32 " bytes and %" PRIu32
			" L1 entries are more than is changed in place: convert it",
			q->cluster, q->header.l1_size);
	if (q->header.incompatible & marks)
		return vmimg_fail(err, VMIMG_ECORRUPT, "the image is marked %s: repair it first",
			q->header.incompatible & QCOW2_INCOMPATIBLE_CORRUPT ? "corrupt" : "dirty");
	return read_table(c, err) || check_end(c, err) ? -1 : 0;
}

void vmimg_qcow2_change_done(struct vmimg_qcow2_change *c)
{
	for (size_t i = 0; i < c->block_count; i++) {
		free(c->blocks[i].old);
		free(c->blocks[i].now);
	}
	free(c->blocks);
	free(c->held);
}

/* ---- counting ---- */

static int cannot_count(uint64_t index, int delta, struct vmimg_error *err)
{
	return delta < 0 ? vmimg_fail(err, VMIMG_ECORRUPT,
				   "cluster %" PRIu64
				   " is in use and has refcount 0: repair the image first",
				   index)
			 : vmimg_fail(err, VMIMG_ELIMIT,
				   "the refcount of cluster %" PRIu64
				   " cannot grow: refcount_bits is too small for a snapshot",
				   index);
}

/* hollow: what comes to nothing has been data. */
static int count_range(struct vmimg_qcow2_change *c, uint64_t at, uint64_t len, int delta,
	bool hollow, struct vmimg_error *err)
{
	uint64_t i = at / c->q->cluster, end = (at + len - 1) / c->q->cluster + 1, step, slot;
	unsigned order = c->q->header.refcount_order;

	for (; i < end; i += step) {
		struct vmimg_qcow2_block *block = block_of(c, i / c->group_len, err);

		if (!block)
			return -1;
		slot = i % c->group_len;
		step = vmimg_min(end - i, c->group_len - slot);
		len = vmimg_qcow2_add_refcounts(block->now, slot, step, order, delta);
		block->changed = block->dirty = true;
		if (len < step)
			return cannot_count(i + len, delta, err);
		block->hollow |= hollow &&
			vmimg_qcow2_find_unused(block->now, block->now, slot, slot + step, order) <
				slot + step;
	}
	return 0;
}

int vmimg_qcow2_change_count(
	struct vmimg_qcow2_change *c, uint64_t at, uint64_t len, int delta, struct vmimg_error *err)
{
	return count_range(c, at, len, delta, false, err);
}

int vmimg_qcow2_change_drop(
	struct vmimg_qcow2_change *c, uint64_t at, uint64_t len, struct vmimg_error *err)
{
	return count_range(c, at, len, -1, true, err);
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

static int counts_of(struct vmimg_qcow2_change *c, uint64_t index, uint64_t *old, uint64_t *now,
	struct vmimg_error *err)
{
	struct vmimg_qcow2_block *block = block_of(c, index / c->group_len, err);
	unsigned order = c->q->header.refcount_order;
	uint64_t slot = index % c->group_len;

	if (!block)
		return -1;
	*old = vmimg_qcow2_get_refcount(block->old, slot, order);
	*now = vmimg_qcow2_get_refcount(block->now, slot, order);
	return 0;
}

int vmimg_qcow2_change_both(struct vmimg_qcow2_change *c, uint64_t at, uint64_t *old, uint64_t *now,
	struct vmimg_error *err)
{
	return counts_of(c, at / c->q->cluster, old, now, err);
}

/* Where count free clusters in a row begin. Looking may push blocks out of memory, which take
 * clusters: then it begins again. */
static int find_free(
	struct vmimg_qcow2_change *c, uint64_t count, uint64_t *start, struct vmimg_error *err)
{
	unsigned order = c->q->header.refcount_order;
	uint64_t run = 0, taken = c->taken, at, slot;

	*start = c->hint;
	while (run < count) {
		struct vmimg_qcow2_block *block = block_of(c, (*start + run) / c->group_len, err);

		if (!block)
			return -1;
		if (taken != c->taken) {
			taken = c->taken;
			*start = c->hint;
			run = 0;
			continue;
		}
		slot = (*start + run) % c->group_len;
		at = vmimg_qcow2_find_unused(
			block->old, block->now, slot, run ? slot + 1 : c->group_len, order);
		if (at > slot) {
			*start += run + at - slot;
			run = 0;
		} else {
			run++;
		}
	}
	c->hint = count == 1 ? *start : c->hint;
	return 0;
}

int vmimg_qcow2_change_find(
	struct vmimg_qcow2_change *c, uint64_t count, uint64_t *at, struct vmimg_error *err)
{
	uint64_t start;

	if (find_free(c, count, &start, err))
		return -1;
	*at = start * c->q->cluster;
	return 0;
}

int vmimg_qcow2_change_take(
	struct vmimg_qcow2_change *c, uint64_t count, uint64_t *at, struct vmimg_error *err)
{
	bool outer = c->taking;
	uint64_t start;
	int failed;

	/* what refcounts call free may be in use */
	if (vmimg_qcow2_check_singles(c, err) || find_free(c, count, &start, err))
		return -1;
	c->taking = true; /* nothing comes between finding them and counting them */
	c->taken++;
	*at = start * c->q->cluster;
	failed = vmimg_qcow2_change_count(c, *at, count * c->q->cluster, 1, err);
	c->taking = outer;
	return failed;
}

int vmimg_qcow2_change_place(struct vmimg_qcow2_change *c, size_t group, struct vmimg_error *err)
{
	bool outer = c->taking;
	uint64_t at, old_at = c->blocks[group].old_at;
	int failed;

	c->taking = true; /* or it could be given another place in between */
	failed = vmimg_qcow2_change_take(c, 1, &at, err);
	if (!failed)
		c->blocks[group].now_at = at;
	if (!failed && old_at)
		failed = vmimg_qcow2_change_count(c, old_at, c->q->cluster, -1, err);
	c->taking = outer;
	return failed;
}

int vmimg_qcow2_change_settle(struct vmimg_qcow2_change *c, struct vmimg_error *err)
{
	for (size_t i = 0; i < c->block_count; i++)
		if (settle_block(c, i, err))
			return -1;
	return 0;
}

int vmimg_qcow2_change_used(struct vmimg_qcow2_change *c, uint64_t *used, struct vmimg_error *err)
{
	uint64_t old, now;

	*used = 0;
	for (uint64_t i = 0; i < c->block_count * c->group_len; i++) {
		if (!(i % c->group_len) && !c->blocks[i / c->group_len].old_at &&
			!c->blocks[i / c->group_len].changed) {
			i += c->group_len - 1;
			continue;
		}
		if (counts_of(c, i, &old, &now, err))
			return -1;
		*used += now != 0;
	}
	return 0;
}

int vmimg_qcow2_change_touch(struct vmimg_qcow2_change *c, uint64_t from, struct vmimg_error *err)
{
	for (size_t i = 0; i < c->block_count; i++) {
		struct vmimg_qcow2_block *block;

		if (c->blocks[i].old_at < from)
			continue;
		block = block_of(c, i, err);
		if (!block)
			return -1;
		block->changed = block->dirty = true;
	}
	/* the table is written anew with any of them */
	if (c->q->header.refcount_table >= from && c->block_count && block_of(c, 0, err))
		c->blocks[0].changed = c->blocks[0].dirty = true;
	return 0;
}
