/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Refcounts. Where every cluster that is in use has its place in a sound refcount block, the wrong
 * numbers are written there. Otherwise all of them are written anew behind the file's end, and the
 * header is turned to the new table; what the old one took is free then.
 */
#include <inttypes.h>
#include <string.h>
#include "format/qcow2/repair.h"
#include "util/num.h"

struct refcounts {
	struct vmimg_qcow2 *q;
	struct vmimg_io *rw;
	struct vmimg_report *fixed;
	struct vmimg_qcow2_clusters *clusters;
	uint64_t per_block; /* clusters that one refcount block counts */
	uint64_t most;      /* what an entry can hold */
	bool leaks_alone;
	uint64_t last, last_at; /* block that was looked for last, plus 1, and where it is */
};

/* ---- in their places ---- */

static uint64_t table_entries(const struct refcounts *r)
{
	return ((uint64_t)r->q->header.refcount_table_clusters << r->q->header.cluster_bits) / 8;
}

/* A refcount block; 0: there is none that can be trusted. */
static int read_place(struct refcounts *r, uint64_t index, uint64_t *at, struct vmimg_error *err)
{
	uint8_t raw[8];

	*at = 0;
	if (index >= table_entries(r))
		return 0;
	if (vmimg_io_pread(r->rw, raw, sizeof(raw), r->q->header.refcount_table + index * 8, err))
		return -1;
	*at = vmimg_get_be64(raw);
	/* something else may lie there as well */
	if (*at % r->q->cluster || *at / r->q->cluster >= r->clusters->count ||
		(*at && vmimg_qcow2_clusters_counted(r->clusters, *at / r->q->cluster) != 1))
		*at = 0;
	return 0;
}

/* That of a cluster. */
static int block_of(struct refcounts *r, uint64_t cluster, uint64_t *at, struct vmimg_error *err)
{
	uint64_t index = cluster / r->per_block;

	if (r->last != index + 1 && read_place(r, index, &r->last_at, err))
		return -1;
	r->last = index + 1;
	*at = r->last_at;
	return 0;
}

static bool table_sound(const struct refcounts *r)
{
	const struct vmimg_qcow2_header *h = &r->q->header;
	uint64_t len = (uint64_t)h->refcount_table_clusters << h->cluster_bits;
	uint64_t first = h->refcount_table / r->q->cluster;

	if (!len || !vmimg_range_inside(h->refcount_table, len, vmimg_io_size(r->rw)))
		return false;
	for (uint64_t i = first; i < first + h->refcount_table_clusters; i++)
		if (vmimg_qcow2_clusters_counted(r->clusters, i) != 1)
			return false;
	return true;
}

/* *can: every number that is wrong has a place to be put right in. *wrong: there is one. */
static int look(struct refcounts *r, bool *can, bool *wrong, struct vmimg_error *err)
{
	struct vmimg_qcow2_refs refs;

	*can = table_sound(r);
	*wrong = false;
	for (uint64_t i = 0; vmimg_qcow2_clusters_walk(r->clusters, &i, UINT64_MAX, &refs);
		i += refs.len) {
		uint64_t at;

		refs.len = vmimg_min(refs.len, r->per_block - i % r->per_block);
		if (refs.stated == refs.counted)
			continue;
		*wrong = true;
		if (refs.counted > r->most)
			return vmimg_fail(err, VMIMG_ELIMIT,
				"cluster %" PRIu64 " has %" PRIu32
				" references, more than its refcount can hold",
				i, refs.counted);
		if (*can && block_of(r, i, &at, err))
			return -1;
		*can = *can && at;
	}
	return 0;
}

static void tell(struct refcounts *r, uint64_t i, const struct vmimg_qcow2_refs *refs)
{
	bool leak = refs->stated > refs->counted;

	vmimg_report_add(r->fixed, leak ? VMIMG_FINDING_LEAK : VMIMG_FINDING_CORRUPTION,
		leak ? "leaked-cluster" : "refcount", i * r->q->cluster,
		"cluster %" PRIu64 ": its refcount is %" PRIu32 " now, not %" PRIu32, i,
		refs->counted, refs->stated);
}

/* With leaks_alone, what has no place in a sound block stays. So does what is in use once, and
 * counted more often: its COPIED flag would have to be set. */
static int find_place(struct refcounts *r, uint64_t i, const struct vmimg_qcow2_refs *refs,
	uint64_t *at, struct vmimg_error *err)
{
	*at = 0;
	if (refs->stated == refs->counted || (r->leaks_alone && refs->counted == 1))
		return 0;
	return block_of(r, i, at, err);
}

static int correct(struct refcounts *r, struct vmimg_error *err)
{
	VMIMG_AUTO(free) uint8_t *block = vmimg_alloc_buffer(r->q->cluster, err);
	struct vmimg_qcow2_refs refs;
	uint64_t held = 0, at; /* the block in hand */

	if (!block)
		return -1;
	for (uint64_t i = 0; vmimg_qcow2_clusters_walk(r->clusters, &i, UINT64_MAX, &refs); i++) {
		if (find_place(r, i, &refs, &at, err))
			return -1;
		if (!at)
			continue;
		if (at != held) {
			if (held && vmimg_io_pwrite(r->rw, block, r->q->cluster, held, err))
				return -1;
			if (vmimg_io_pread(r->rw, block, r->q->cluster, at, err))
				return -1;
			held = at;
		}
		tell(r, i, &refs);
		vmimg_qcow2_set_refcount(
			block, i % r->per_block, r->q->header.refcount_order, refs.counted);
	}
	return held ? vmimg_io_pwrite(r->rw, block, r->q->cluster, held, err) : 0;
}

/* first is a cluster in the block at that place. */
static int free_in_block(
	struct refcounts *r, uint8_t *block, uint64_t at, uint64_t first, struct vmimg_error *err)
{
	unsigned order = r->q->header.refcount_order;
	uint64_t freed = 0;

	if (vmimg_io_pread(r->rw, block, r->q->cluster, at, err))
		return -1;
	for (uint64_t i = first % r->per_block; i < r->per_block; i++) {
		freed += vmimg_qcow2_get_refcount(block, i, order) != 0;
		vmimg_qcow2_set_refcount(block, i, order, 0);
	}
	if (!freed)
		return 0;
	vmimg_report_add(r->fixed, VMIMG_FINDING_LEAK, "refcount-past-end", VMIMG_NOWHERE,
		"%" PRIu64 " clusters past the end of the file have no refcount in block %" PRIu64
		" any more",
		freed, first / r->per_block);
	vmimg_report_count(r->fixed, VMIMG_FINDING_LEAK, freed - 1);
	return vmimg_io_pwrite(r->rw, block, r->q->cluster, at, err);
}

static int free_blocks(struct refcounts *r, struct vmimg_error *err)
{
	VMIMG_AUTO(free) uint8_t *block = vmimg_alloc_buffer(r->q->cluster, err);
	uint64_t end = table_entries(r) * r->per_block, at;

	if (!block)
		return -1;
	for (uint64_t i = r->clusters->count; i < end; i = (i / r->per_block + 1) * r->per_block)
		if (block_of(r, i, &at, err) || (at && free_in_block(r, block, at, i, err)))
			return -1;
	return 0;
}

/* ---- anew ---- */

/* The new table and its blocks, which count themselves: as many as it takes. */
struct room {
	uint64_t first; /* cluster: the table, the blocks behind it */
	uint64_t table, blocks;
};

static struct room plan_room(const struct refcounts *r)
{
	struct room room = { .first = r->clusters->count };
	uint64_t blocks = 0, table = 0;

	do {
		room.blocks = blocks;
		room.table = table;
		blocks = vmimg_div_up(room.first + room.table + room.blocks, r->per_block);
		table = vmimg_div_up(blocks * 8, r->q->cluster);
	} while (blocks != room.blocks || table != room.table);
	return room;
}

/* The block for the clusters from first on. Clusters that nothing was counted of are skipped: a
 * file can be nearly all hole. */
static void fill_block(struct refcounts *r, const struct room *room, uint64_t first, uint8_t *block)
{
	uint64_t end = first + r->per_block, last = room->first + room->table + room->blocks;
	struct vmimg_qcow2_refs refs;
	uint32_t order = r->q->header.refcount_order;

	memset(block, 0, r->q->cluster);
	for (uint64_t i = first; vmimg_qcow2_clusters_walk(r->clusters, &i, end, &refs); i++)
		vmimg_qcow2_set_refcount(block, i - first, order, refs.counted);
	for (uint64_t i = vmimg_max(first, room->first); i < vmimg_min(end, last); i++)
		vmimg_qcow2_set_refcount(block, i - first, order, 1);
}

static int write_blocks(struct refcounts *r, const struct room *room, struct vmimg_error *err)
{
	VMIMG_AUTO(free) uint8_t *block = vmimg_alloc_buffer(r->q->cluster, err);

	if (!block)
		return -1;
	for (uint64_t b = 0; b < room->blocks; b++) {
		fill_block(r, room, b * r->per_block, block);
		if (vmimg_io_pwrite(r->rw, block, r->q->cluster,
			    (room->first + room->table + b) * r->q->cluster, err))
			return -1;
	}
	return 0;
}

static int write_table(struct refcounts *r, const struct room *room, struct vmimg_error *err)
{
	uint64_t at = room->first * r->q->cluster;

	if (vmimg_io_write_zeroes(r->rw, at, room->table * r->q->cluster, err))
		return -1;
	for (uint64_t b = 0; b < room->blocks; b++) {
		uint8_t raw[8];

		vmimg_put_be64(raw, (room->first + room->table + b) * r->q->cluster);
		if (vmimg_io_pwrite(r->rw, raw, sizeof(raw), at + b * 8, err))
			return -1;
	}
	return 0;
}

/* What is counted anew is what look() has found small enough, or less: the old blocks are not in use. */
static int rebuild(struct refcounts *r, struct vmimg_error *err)
{
	struct room room = plan_room(r);
	uint8_t raw[12];

	if (write_blocks(r, &room, err) || write_table(r, &room, err))
		return -1;
	vmimg_put_be64(raw, room.first * r->q->cluster);
	vmimg_put_be32(raw + 8, (uint32_t)room.table);
	vmimg_report_add(r->fixed, VMIMG_FINDING_CORRUPTION, "refcount-table", 48,
		"the refcounts are built anew: %" PRIu64 " blocks, the table at 0x%" PRIx64,
		room.blocks, room.first * r->q->cluster);
	return vmimg_io_pwrite(r->rw, raw, sizeof(raw), 48, err);
}

static int count_again(struct refcounts *r, struct vmimg_disk *disk, struct vmimg_report *unused,
	struct vmimg_error *err)
{
	vmimg_qcow2_clusters_done(r->clusters);
	*r->clusters = (struct vmimg_qcow2_clusters){ 0 };
	return vmimg_qcow2_count(disk, false, r->clusters, unused, err) ||
			vmimg_qcow2_clusters_sort(r->clusters, err)
		? -1
		: rebuild(r, err);
}

static void init(struct refcounts *r, struct vmimg_disk *disk, struct vmimg_io *rw,
	struct vmimg_report *fixed, struct vmimg_qcow2_clusters *clusters)
{
	struct vmimg_qcow2 *q = vmimg_qcow2_of(disk);
	unsigned bits = 1U << q->header.refcount_order;

	*r = (struct refcounts){ .q = q,
		.rw = rw,
		.fixed = fixed,
		.clusters = clusters,
		.per_block = ((uint64_t)q->cluster * 8) >> q->header.refcount_order,
		.most = bits >= 32 ? UINT32_MAX : (UINT64_C(1) << bits) - 1 };
}

static bool is_past_end(const struct vmimg_finding *finding)
{
	return !strcmp(finding->code, "refcount-past-end");
}

static bool is_damaged(const struct refcounts *r, const struct vmimg_report *found)
{
	bool damaged = !table_sound(r);

	for (unsigned i = 0; i < found->kept_count; i++)
		damaged |= !strncmp(found->kept[i].code, "refcount-", 9) &&
			!is_past_end(&found->kept[i]);
	return damaged;
}

/* A writer that was cut off has counted clusters that it never wrote. */
static int free_past_end(
	struct refcounts *r, const struct vmimg_report *found, struct vmimg_error *err)
{
	bool any = false;

	for (unsigned i = 0; i < found->kept_count; i++)
		any |= is_past_end(&found->kept[i]);
	return any ? free_blocks(r, err) : 0;
}

/* Whether one is counted too low, so that the refcounts are not to be trusted. */
static bool is_low(struct refcounts *r)
{
	struct vmimg_qcow2_refs refs;
	bool low = false;

	for (uint64_t i = 0; vmimg_qcow2_clusters_walk(r->clusters, &i, UINT64_MAX, &refs);
		i += refs.len)
		low |= refs.stated < refs.counted;
	return low;
}

/* ---- both ---- */

typedef int repair_counted(
	struct refcounts *, struct vmimg_disk *, struct vmimg_report *found, struct vmimg_error *);

/* Counts, and lets repair do with that what it does. */
static int with_counts(struct vmimg_disk *disk, struct vmimg_io *rw, struct vmimg_report *fixed,
	repair_counted *repair, struct vmimg_error *err)
{
	VMIMG_AUTO(free) struct vmimg_report *found = vmimg_new(struct vmimg_report, err);
	struct vmimg_qcow2_clusters clusters = { 0 };
	struct refcounts r;
	int result = -1;

	if (!found)
		return -1;
	init(&r, disk, rw, fixed, &clusters);
	if (!vmimg_qcow2_count(disk, true, &clusters, found, err) &&
		!vmimg_qcow2_clusters_sort(&clusters, err))
		result = repair(&r, disk, found, err);
	vmimg_qcow2_clusters_done(&clusters);
	return result;
}

static int repair_all(struct refcounts *r, struct vmimg_disk *disk, struct vmimg_report *found,
	struct vmimg_error *err)
{
	bool can = false, wrong = false;

	if (look(r, &can, &wrong, err))
		return -1;
	if (is_damaged(r, found) || (wrong && !can))
		return count_again(r, disk, found, err);
	return wrong && correct(r, err) ? -1 : free_past_end(r, found, err);
}

static int repair_leaks(struct refcounts *r, struct vmimg_disk *disk, struct vmimg_report *found,
	struct vmimg_error *err)
{
	(void)disk;
	if (is_damaged(r, found) || found->count[VMIMG_FINDING_ERROR] || is_low(r))
		return 0;
	r->leaks_alone = true;
	return correct(r, err) ? -1 : free_past_end(r, found, err);
}

int vmimg_qcow2_repair_refcounts(struct vmimg_disk *disk, struct vmimg_io *rw,
	struct vmimg_report *fixed, struct vmimg_error *err)
{
	return with_counts(disk, rw, fixed, repair_all, err);
}

int vmimg_qcow2_repair_leaks(struct vmimg_disk *disk, struct vmimg_io *rw,
	struct vmimg_report *fixed, struct vmimg_error *err)
{
	return with_counts(disk, rw, fixed, repair_leaks, err);
}
