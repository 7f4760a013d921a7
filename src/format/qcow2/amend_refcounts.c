/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Refcounts of another width: new blocks and a new table, side by side in clusters that are free,
 * and one write of the header that says where they are and how wide. The old blocks are free then.
 */
#include <inttypes.h>
#include <string.h>
#include "format/qcow2/amend.h"
#include "util/num.h"

struct width {
	struct vmimg_qcow2_change *c;
	unsigned order;
	uint64_t group_len;             /* clusters that a new block counts */
	uint64_t start, blocks, tables; /* clusters: the new blocks, and behind them the table */
	uint64_t *freed;                /* clusters of the old ones, in order */
	size_t freed_count, freed_cap;
	uint8_t *block;
};

/* ---- what becomes free ---- */

static int add_freed(struct width *w, uint64_t at, struct vmimg_error *err)
{
	if (vmimg_grow_array(&w->freed, &w->freed_cap, w->freed_count + 1, sizeof(*w->freed), err))
		return -1;
	w->freed[w->freed_count++] = at / w->c->q->cluster;
	return 0;
}

static int compare(const void *a, const void *b)
{
	const uint64_t *one = a, *two = b;

	return *one < *two ? -1 : *one > *two;
}

static int list_freed(struct width *w, struct vmimg_error *err)
{
	const struct vmimg_qcow2 *q = w->c->q;
	uint64_t len = vmimg_qcow2_refcount_table_len(q), size = vmimg_io_size(w->c->io), at;
	uint8_t raw[8];

	for (uint64_t i = 0; i < len; i += q->cluster)
		if (add_freed(w, q->header.refcount_table + i, err))
			return -1;
	for (uint64_t i = 0; i < len / 8; i++) {
		if (vmimg_table_read(q->table, raw, 8, q->header.refcount_table + i * 8, err))
			return -1;
		at = vmimg_get_be64(raw);
		if (at && at < size && add_freed(w, at, err))
			return -1;
	}
	qsort(w->freed, w->freed_count, sizeof(*w->freed), compare);
	return 0;
}

/* ---- the new ones ---- */

/* Where they lie, and how many there are: they count themselves. */
static int choose_place(struct width *w, struct vmimg_error *err)
{
	uint64_t cluster = w->c->q->cluster, end = w->c->old_end, at;

	do {
		w->blocks = vmimg_div_up(end, w->group_len);
		w->tables = vmimg_div_up(w->blocks * 8, cluster);
		if (w->tables * cluster > QCOW2_MAX_REFCOUNT_TABLE)
			return vmimg_fail(err, VMIMG_ELIMIT,
				"the refcount table would be larger than QEMU opens");
		if (vmimg_qcow2_change_find(w->c, w->blocks + w->tables, &at, err))
			return -1;
		w->start = at / cluster;
		end = vmimg_max(end, w->start + w->blocks + w->tables);
	} while (w->blocks < vmimg_div_up(end, w->group_len));
	return 0;
}

static int too_narrow(const struct width *w, uint64_t index, uint64_t refs, struct vmimg_error *err)
{
	return vmimg_fail(err, VMIMG_EUNSUPPORTED,
		"Cannot decrease refcount entry width to %u bits: Cluster at offset 0x%" PRIx64
		" has a refcount of %" PRIu64,
		1U << w->order, index * w->c->q->cluster, refs);
}

/* The block for clusters from first on. *freed: the first that may be among them. */
static int fill_block(struct width *w, uint64_t first, size_t *freed, struct vmimg_error *err)
{
	uint64_t most = w->order == 6 ? UINT64_MAX : (UINT64_C(1) << (1U << w->order)) - 1, refs;
	uint64_t ours = w->start + w->blocks + w->tables;

	memset(w->block, 0, w->c->q->cluster);
	for (uint64_t i = first; i < first + w->group_len && i < vmimg_max(w->c->old_end, ours);
		i++) {
		bool new = i >= w->start &&i < ours;

		if (vmimg_qcow2_change_refs(w->c, i * w->c->q->cluster, &refs, err))
			return -1;
		for (; *freed < w->freed_count && w->freed[*freed] == i; ++*freed)
			refs -= refs != 0;
		refs = new ? 1 : refs;
		if (refs > most)
			return too_narrow(w, i, refs, err);
		vmimg_qcow2_set_refcount(w->block, i - first, w->order, refs);
	}
	return 0;
}

static int write_all(struct width *w, struct vmimg_error *err)
{
	struct vmimg_qcow2_change *c = w->c;
	uint64_t cluster = c->q->cluster, at = w->start * cluster;
	VMIMG_AUTO(free) uint8_t *table = vmimg_alloc_array(w->tables * cluster, 1, err);
	size_t freed = 0;

	w->block = vmimg_alloc_buffer(cluster, err);
	if (!table || !w->block)
		return -1;
	for (uint64_t i = 0; i < w->blocks; i++, at += cluster) {
		if (fill_block(w, i * w->group_len, &freed, err) ||
			vmimg_io_pwrite(c->io, w->block, cluster, at, err))
			return -1;
		vmimg_put_be64(table + i * 8, at);
	}
	c->header.refcount_table = at;
	c->header.refcount_table_clusters = (uint32_t)w->tables;
	c->header.refcount_order = w->order;
	return vmimg_io_pwrite(c->io, table, (size_t)(w->tables * cluster), at, err);
}

/* The refcounts of the old width stay what is in memory, so no space is given back by them. */
int vmimg_qcow2_set_width(struct vmimg_disk *disk, unsigned order, struct vmimg_error *err)
{
	struct vmimg_qcow2_change c;
	struct width w = { .c = &c, .order = order };
	int failed = vmimg_qcow2_change_begin(&c, disk, err);

	w.group_len = ((uint64_t)c.q->cluster * 8) >> order;
	if (!failed)
		failed = list_freed(&w, err) || choose_place(&w, err) || write_all(&w, err) ||
			vmimg_qcow2_change_commit(&c, err);
	vmimg_qcow2_change_done(&c);
	free(w.freed);
	free(w.block);
	return failed ? -1 : 0;
}
