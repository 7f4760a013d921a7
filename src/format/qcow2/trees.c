/* SPDX-License-Identifier: Apache-2.0 */
/* All trees of an image, each L2 table once for each L1 entry that refers to it. */
#include <inttypes.h>
#include "format/qcow2/change.h"
#include "util/num.h"

#define BATCH 512U /* entries read in one go */

int vmimg_qcow2_each_entry(struct vmimg_io *io, uint64_t at, uint64_t count,
	vmimg_qcow2_visit *visit, void *ctx, struct vmimg_error *err)
{
	uint8_t raw[BATCH * 8];
	uint64_t len;
	bool hole;

	for (uint64_t i = 0; i < count;) {
		if (vmimg_io_extent(io, at + i * 8, &hole, &len, err))
			return -1;
		if (hole && len >= 8) {
			i += vmimg_min(len / 8, count - i);
			continue;
		}
		len = vmimg_min(count - i, BATCH);
		if (vmimg_io_pread(io, raw, (size_t)len * 8, at + i * 8, err))
			return -1;
		for (uint64_t j = 0; j < len; j++, i++) {
			uint64_t entry = vmimg_get_be64(raw + j * 8);

			if (entry && visit(ctx, i, entry, err))
				return -1;
		}
	}
	return 0;
}

/* One L1 table, as it shall be, in *l1, which is the caller's. */
static int walk_tree(struct vmimg_qcow2_walk *w, uint64_t at, uint32_t entries, uint8_t **l1,
	bool *changed, struct vmimg_error *err)
{
	const struct vmimg_qcow2 *q = w->c->q;
	uint64_t covers = (uint64_t)q->cluster << q->l2_bits;

	if (at % q->cluster || entries > QCOW2_MAX_L1_ENTRIES)
		return vmimg_fail(err, VMIMG_ECORRUPT,
			"an L1 table of %" PRIu32 " entries at 0x%" PRIx64, entries, at);
	*changed = entries && at >= w->end;
	if (vmimg_qcow2_read_l1(w->c, at, entries, l1, err))
		return -1;
	for (uint64_t i = 0; i < entries; i++) {
		uint64_t entry = vmimg_get_be64(*l1 + i * 8), old = entry;

		if (!(entry & QCOW2_OFFSET))
			continue;
		if (w->table(w, &entry, i * covers, err))
			return -1;
		*changed |= entry != old;
		vmimg_put_be64(*l1 + i * 8, entry);
	}
	return 0;
}

static int walk_active(struct vmimg_qcow2_walk *w, struct vmimg_error *err)
{
	const struct vmimg_qcow2_header *h = &w->c->q->header;
	VMIMG_AUTO(free) uint8_t *l1 = NULL;
	bool changed;

	if (walk_tree(w, h->l1_offset, h->l1_size, &l1, &changed, err))
		return -1;
	if (!changed)
		return 0;
	return vmimg_qcow2_write_l1(w->c, l1, h->l1_size, err)
		? -1
		: vmimg_qcow2_free_l1(w->c, h->l1_offset, h->l1_size, err);
}

static int walk_snapshot(struct vmimg_qcow2_walk *w, struct vmimg_qcow2_snapshot_entry *e,
	bool *moved, struct vmimg_error *err)
{
	size_t len = (size_t)e->l1_size * 8;
	VMIMG_AUTO(free) uint8_t *l1 = NULL;
	uint64_t old = e->l1_offset;
	bool changed;

	if (walk_tree(w, old, e->l1_size, &l1, &changed, err))
		return -1;
	if (!changed)
		return 0;
	*moved = true;
	if (vmimg_qcow2_change_take(
		    w->c, vmimg_div_up(len, w->c->q->cluster), &e->l1_offset, err) ||
		vmimg_io_pwrite(w->c->io, l1, len, e->l1_offset, err))
		return -1;
	return vmimg_qcow2_free_l1(w->c, old, e->l1_size, err);
}

int vmimg_qcow2_walk_trees(struct vmimg_qcow2_walk *w, struct vmimg_error *err)
{
	struct vmimg_qcow2 *q = w->c->q;
	bool moved = q->snapshot_count && q->header.snapshots_offset >= w->end;

	if (walk_active(w, err))
		return -1;
	for (size_t i = 0; i < q->snapshot_count; i++)
		if (walk_snapshot(w, &q->snapshots[i].entry, &moved, err))
			return -1;
	return moved ? vmimg_qcow2_write_snapshots(w->c, NULL, NULL, err) : 0;
}
