/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Whether a cluster with refcount 1 is referred to once. Where it is not, a write through one of
 * the references, or freeing the cluster with it, would take away what the other one shows. A table
 * is read twice at most, however many refer to it.
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
	uint64_t last = vmimg_min((at + len - 1) / cluster + 1, s->clusters), refs;

	for (uint64_t i = at / cluster; i < last; i++) {
		if (!set_bit(s->seen, i))
			continue;
		if (vmimg_qcow2_change_refs(s->c, i * cluster, &refs, err))
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

static int note_l2(struct singles *s, uint64_t at, struct vmimg_error *err)
{
	const struct vmimg_qcow2 *q = s->c->q;
	uint64_t index = at / q->cluster, data = 0, len;

	if (note(s, at, q->cluster, err))
		return -1;
	if (index >= s->clusters || (set_bit(s->read[0], index) && set_bit(s->read[1], index)))
		return 0;
	if (vmimg_qcow2_read_l2(s->c, at, s->l2, err))
		return -1;
	for (uint32_t i = 0; i < q->cluster; i += q->extended ? 16 : 8) {
		vmimg_qcow2_data_place(q, vmimg_get_be64(s->l2 + i), &data, &len);
		if (len && note(s, data, len, err))
			return -1;
	}
	return 0;
}

static int note_l1(struct singles *s, uint64_t at, uint32_t entries, struct vmimg_error *err)
{
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

		if (l2 && note_l2(s, l2, err))
			return -1;
	}
	return 0;
}

static int note_all(struct singles *s, struct vmimg_error *err)
{
	const struct vmimg_qcow2 *q = s->c->q;

	for (size_t i = 0; i < s->c->block_count; i++)
		if (s->c->blocks[i].old_at && note(s, s->c->blocks[i].old_at, q->cluster, err))
			return -1;
	if (note(s, 0, q->cluster, err) ||
		note(s, q->header.refcount_table, vmimg_qcow2_refcount_table_len(q), err) ||
		note_l1(s, q->header.l1_offset, q->header.l1_size, err))
		return -1;
	for (size_t i = 0; i < q->snapshot_count; i++)
		if (note_l1(s, q->snapshots[i].entry.l1_offset, q->snapshots[i].entry.l1_size, err))
			return -1;
	return 0;
}

int vmimg_qcow2_check_singles(struct vmimg_qcow2_change *c, struct vmimg_error *err)
{
	struct singles s = { .c = c, .clusters = c->old_end };
	size_t len = (size_t)(s.clusters / 8 + 1);
	int failed = -1;

	if (s.clusters > MOST_CLUSTERS)
		return vmimg_fail(err, VMIMG_ELIMIT,
			"%" PRIu64 " clusters are more than is changed in place: convert it",
			s.clusters);
	s.seen = vmimg_alloc_array(len, 1, err);
	s.read[0] = vmimg_alloc_array(len, 1, err);
	s.read[1] = vmimg_alloc_array(len, 1, err);
	s.l2 = vmimg_alloc_buffer(c->q->cluster, err);
	if (s.seen && s.read[0] && s.read[1] && s.l2)
		failed = note_all(&s, err);
	free(s.seen);
	free(s.read[0]);
	free(s.read[1]);
	free(s.l2);
	return failed;
}
