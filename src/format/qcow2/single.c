/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Whether an image can be changed without harm to what the change is not about. A cluster with
 * refcount 1 is referred to once: else a write through one of the references, or freeing the
 * cluster with it, would take away what the other one shows. One that is referred to has a
 * refcount: else it would be taken for free. And data is in the file: else the file would grow over
 * it, and show zeroes. A table is read twice at most, however many refer to it.
 */
#include <inttypes.h>
#include "format/qcow2/change.h"
#include "util/num.h"

#define MOST_CLUSTERS (UINT64_C(1) << 28) /* three bits each: 96 MiB, mostly untouched */

struct singles {
	struct vmimg_qcow2_change *c;
	uint64_t clusters; /* in the file */
	uint8_t *seen;     /* a bit for each: referred to */
	uint8_t *read[2];  /* as an L2 table that was read, once and twice */
	uint8_t *l2;
};

static bool set_bit(uint8_t *bits, uint64_t index)
{
	uint8_t bit = (uint8_t)(1U << index % 8);
	bool was = bits[index / 8] & bit;

	bits[index / 8] |= bit;
	return was;
}

/* A reference to [at, at + len). What is outside the file is for those who come to use it. */
static int note(struct singles *s, uint64_t at, uint64_t len, struct vmimg_error *err)
{
	uint32_t cluster = s->c->q->cluster;
	uint64_t last = vmimg_min((at + len - 1) / cluster + 1, s->clusters), refs, now;

	for (uint64_t i = at / cluster; i < last; i++) {
		if (!set_bit(s->seen, i))
			continue;
		if (vmimg_qcow2_change_both(s->c, i * cluster, &refs, &now, err))
			return -1;
		if (refs < 2)
			return vmimg_fail(err, VMIMG_ECORRUPT,
				"the cluster at 0x%" PRIx64
				" is in use twice and has refcount %" PRIu64
				": repair the image first",
				i * cluster, refs);
	}
	return 0;
}

/* An entry for guest, on a disk that ends at end. */
static int note_entry(struct singles *s, const uint8_t *raw, uint64_t guest, uint64_t end,
	struct vmimg_error *err)
{
	const struct vmimg_qcow2 *q = s->c->q;
	uint64_t entry = vmimg_get_be64(raw), at = 0, len, size = vmimg_io_size(s->c->io);
	uint64_t room = guest < end ? vmimg_min(q->cluster, end - guest) : 1, needed;

	/* in a data file, which has no refcounts, each has the place that it has on the disk */
	if (q->external && !(entry & QCOW2_COMPRESSED) && entry & (QCOW2_OFFSET | QCOW2_COPIED) &&
		(entry & QCOW2_OFFSET) != guest)
		return vmimg_fail(err, VMIMG_ECORRUPT,
			"the cluster for %" PRIu64 " is at 0x%" PRIx64
			" in the data file, which is not its place: repair the image first",
			guest, entry & QCOW2_OFFSET);
	vmimg_qcow2_data_place(q, entry, &at, &len);
	if (!len)
		return 0;
	needed = vmimg_qcow2_needed(q, raw, room);
	if (needed && !vmimg_range_inside(at, needed, size))
		return vmimg_fail(err, VMIMG_ECORRUPT,
			"data at 0x%" PRIx64 " is past the end of the file (0x%" PRIx64
			"): repair the image first",
			at, size);
	return note(s, at, len, err);
}

static int note_l2(
	struct singles *s, uint64_t at, uint64_t guest, uint64_t end, struct vmimg_error *err)
{
	const struct vmimg_qcow2 *q = s->c->q;
	uint64_t index = at / q->cluster;

	if (note(s, at, q->cluster, err))
		return -1;
	if (index >= s->clusters || (set_bit(s->read[0], index) && set_bit(s->read[1], index)))
		return 0;
	if (vmimg_qcow2_read_l2(s->c, at, s->l2, err))
		return -1;
	for (uint32_t i = 0; i < q->cluster; i += q->extended ? 16 : 8, guest += q->cluster)
		if (note_entry(s, s->l2 + i, guest, end, err))
			return -1;
	return 0;
}

static int note_l1(
	struct singles *s, uint64_t at, uint32_t entries, uint64_t end, struct vmimg_error *err)
{
	uint64_t covers = (uint64_t)s->c->q->cluster << s->c->q->l2_bits;
	VMIMG_AUTO(free) uint8_t *l1 = NULL;

	if (!entries)
		return 0;
	if (entries > QCOW2_MAX_L1_ENTRIES)
		return vmimg_fail(err, VMIMG_ECORRUPT, "a snapshot has a bad L1 table");
	if (note(s, at, entries * UINT64_C(8), err) ||
		vmimg_qcow2_read_l1(s->c, at, entries, &l1, err))
		return -1;
	for (uint64_t i = 0; i < entries; i++) {
		uint64_t l2 = vmimg_get_be64(l1 + i * 8) & QCOW2_OFFSET;

		if (l2 && note_l2(s, l2, i * covers, end, err))
			return -1;
	}
	return 0;
}

/* Bitmaps, and the header of LUKS. */
static int note_extensions(struct singles *s, struct vmimg_error *err)
{
	const struct vmimg_qcow2 *q = s->c->q;

	if (q->has_crypto && q->crypto.length && note(s, q->crypto.offset, q->crypto.length, err))
		return -1;
	if (!s->c->disk->bitmap_count)
		return 0;
	if (q->bitmaps.directory_size &&
		note(s, q->bitmaps.directory, q->bitmaps.directory_size, err))
		return -1;
	for (size_t i = 0; i < s->c->disk->bitmap_count; i++)
		if (q->bitmap_places[i].entries &&
			note(s, q->bitmap_places[i].table,
				q->bitmap_places[i].entries * UINT64_C(8), err))
			return -1;
	return 0;
}

static int note_all(struct singles *s, struct vmimg_error *err)
{
	const struct vmimg_qcow2 *q = s->c->q;
	uint64_t table = 0; /* bytes of that of the snapshots */

	for (size_t i = 0; i < s->c->block_count; i++)
		if (s->c->blocks[i].old_at && note(s, s->c->blocks[i].old_at, q->cluster, err))
			return -1;
	if (note(s, 0, q->cluster, err) ||
		note(s, q->header.refcount_table, vmimg_qcow2_refcount_table_len(q), err) ||
		note_l1(s, q->header.l1_offset, q->header.l1_size, q->header.size, err) ||
		note_extensions(s, err))
		return -1;
	for (size_t i = 0; i < q->snapshot_count; i++) {
		const struct vmimg_qcow2_snapshot *snapshot = &q->snapshots[i];
		const struct vmimg_qcow2_snapshot_entry *e = &snapshot->entry;

		table = vmimg_align_up(table, 8) + 40 + e->extra_size + e->id_size + e->name_size;
		if (note_l1(s, snapshot->entry.l1_offset, snapshot->entry.l1_size,
			    snapshot->extra.disk_size ? snapshot->extra.disk_size : q->header.size,
			    err))
			return -1;
	}
	return table ? note(s, q->header.snapshots_offset, table, err) : 0;
}

/* All that is referred to is counted. */
static int check_counted(struct singles *s, struct vmimg_error *err)
{
	uint32_t cluster = s->c->q->cluster;
	uint64_t refs, now;

	for (uint64_t i = 0; i < s->clusters; i++) {
		if (!s->seen[i / 8]) {
			i |= 7;
			continue;
		}
		if (!(s->seen[i / 8] >> i % 8 & 1))
			continue;
		if (vmimg_qcow2_change_both(s->c, i * cluster, &refs, &now, err))
			return -1;
		if (!refs)
			return vmimg_fail(err, VMIMG_ECORRUPT,
				"the cluster at 0x%" PRIx64
				" is in use and has refcount 0: repair the image first",
				i * cluster);
	}
	return 0;
}

int vmimg_qcow2_check_singles(struct vmimg_qcow2_change *c, struct vmimg_error *err)
{
	struct singles s = { .c = c, .clusters = c->old_end };
	size_t len = (size_t)(s.clusters / 8 + 1);
	int failed = -1;

	if (c->checked)
		return 0;
	c->checked = true;
	if (s.clusters > MOST_CLUSTERS)
		return vmimg_fail(err, VMIMG_ELIMIT,
			"%" PRIu64 " clusters are more than is changed in place: convert it",
			s.clusters);
	s.seen = vmimg_alloc_array(len, 1, err);
	s.read[0] = vmimg_alloc_array(len, 1, err);
	s.read[1] = vmimg_alloc_array(len, 1, err);
	s.l2 = vmimg_alloc_buffer(c->q->cluster, err);
	if (s.seen && s.read[0] && s.read[1] && s.l2)
		failed = note_all(&s, err) || check_counted(&s, err) ? -1 : 0;
	free(s.seen);
	free(s.read[0]);
	free(s.read[1]);
	free(s.l2);
	return failed;
}
