/* SPDX-License-Identifier: Apache-2.0 */
/* L1 and L2 tables as trees of references: counting them, and copying them with the right flags. */
#include <inttypes.h>
#include <string.h>
#include "format/qcow2/change.h"
#include "util/num.h"

static unsigned entry_size(const struct vmimg_qcow2 *q)
{
	return q->extended ? 16 : 8;
}

void vmimg_qcow2_data_place(
	const struct vmimg_qcow2 *q, uint64_t entry, uint64_t *at, uint64_t *len)
{
	uint32_t packed;

	*len = 0;
	if (entry & QCOW2_COMPRESSED) {
		vmimg_qcow2_packed_place(q, entry, at, &packed);
		*len = packed;
	} else if (!q->external && entry & QCOW2_OFFSET) {
		*at = entry & QCOW2_OFFSET;
		*len = q->cluster;
	}
}

int vmimg_qcow2_read_l1(struct vmimg_qcow2_change *c, uint64_t at, uint32_t entries, uint8_t **l1,
	struct vmimg_error *err)
{
	*l1 = vmimg_alloc_array(entries ? entries : 1, 8, err);
	if (!*l1 || vmimg_io_pread(c->io, *l1, (size_t)entries * 8, at, err))
		return vmimg_within(err, "L1 table at 0x%" PRIx64, at);
	return 0;
}

int vmimg_qcow2_read_l2(
	struct vmimg_qcow2_change *c, uint64_t at, uint8_t *l2, struct vmimg_error *err)
{
	if (at % c->q->cluster)
		return vmimg_fail(err, VMIMG_ECORRUPT,
			"an L2 table at 0x%" PRIx64 " is not aligned: repair the image first", at);
	if (vmimg_io_pread(c->io, l2, c->q->cluster, at, err))
		return vmimg_within(err, "L2 table");
	return 0;
}

static int count_l2(
	struct vmimg_qcow2_change *c, const uint8_t *l2, int delta, struct vmimg_error *err)
{
	uint64_t at = 0, len, size = vmimg_io_size(c->io);

	for (uint64_t i = 0; i < UINT64_C(1) << c->q->l2_bits; i++) {
		vmimg_qcow2_data_place(c->q, vmimg_get_be64(l2 + i * entry_size(c->q)), &at, &len);
		if (len && at >= size)
			return vmimg_fail(err, VMIMG_ECORRUPT,
				"data at 0x%" PRIx64
				" would be past the end of the file: repair the image first",
				at);
		if (len && vmimg_qcow2_change_count(c, at, vmimg_min(len, size - at), delta, err))
			return -1;
	}
	return 0;
}

int vmimg_qcow2_count_tree(struct vmimg_qcow2_change *c, uint64_t at, uint32_t entries, int delta,
	struct vmimg_error *err)
{
	VMIMG_AUTO(free) uint8_t *l2 = vmimg_alloc_buffer(c->q->cluster, err);
	VMIMG_AUTO(free) uint8_t *l1 = NULL;

	if (!l2 || vmimg_qcow2_read_l1(c, at, entries, &l1, err))
		return -1;
	for (uint32_t i = 0; i < entries; i++) {
		uint64_t l2_at = vmimg_get_be64(l1 + i * UINT64_C(8)) & QCOW2_OFFSET;

		if (!l2_at)
			continue;
		if (vmimg_qcow2_read_l2(c, l2_at, l2, err) || count_l2(c, l2, delta, err) ||
			vmimg_qcow2_change_count(c, l2_at, c->q->cluster, delta, err))
			return -1;
	}
	return 0;
}

/* Forgets the entry, and its reference to data. */
static int drop_entry(struct vmimg_qcow2_change *c, uint8_t *raw, struct vmimg_error *err)
{
	uint64_t at = 0, len;

	vmimg_qcow2_data_place(c->q, vmimg_get_be64(raw), &at, &len);
	memset(raw, 0, entry_size(c->q));
	return len ? vmimg_qcow2_change_count(c, at, len, -1, err) : 0;
}

/* The COPIED flag of a plain cluster follows its refcount. */
static int set_flag(struct vmimg_qcow2_change *c, uint8_t *raw, struct vmimg_error *err)
{
	uint64_t entry = vmimg_get_be64(raw), refs;

	if (entry & QCOW2_COMPRESSED || c->q->external || !(entry & QCOW2_OFFSET))
		return 0;
	if (vmimg_qcow2_change_refs(c, entry & QCOW2_OFFSET, &refs, err))
		return -1;
	vmimg_put_be64(raw, refs == 1 ? entry | QCOW2_COPIED : entry & ~QCOW2_COPIED);
	return 0;
}

/* What has to change in an L2 table whose first entry is for guest. */
static int adjust_l2(
	struct vmimg_qcow2_change *c, uint8_t *l2, uint64_t guest, struct vmimg_error *err)
{
	for (uint64_t i = 0; i < UINT64_C(1) << c->q->l2_bits; i++) {
		uint8_t *raw = l2 + i * entry_size(c->q);
		uint64_t at = guest + i * c->q->cluster;
		bool beyond = at >= c->header.size;

		if (c->cut > at && c->cut - at < c->q->cluster &&
			vmimg_qcow2_clear_rest(c, raw, at, err))
			return -1;
		if (beyond ? drop_entry(c, raw, err) : set_flag(c, raw, err))
			return -1;
	}
	return 0;
}

/*
 * One L1 entry of the new table. An L2 table that stays as it is stays where it is, shared if need
 * be; one that changes is written to a new place, and the old one loses this reference.
 */
static int rebuild_entry(struct vmimg_qcow2_change *c, uint8_t *raw, uint64_t guest, uint8_t *old,
	uint8_t *l2, struct vmimg_error *err)
{
	uint64_t at = vmimg_get_be64(raw) & QCOW2_OFFSET, refs;

	if (!at)
		return 0;
	if (vmimg_qcow2_read_l2(c, at, old, err))
		return -1;
	memcpy(l2, old, c->q->cluster);
	if (adjust_l2(c, l2, guest, err))
		return -1;
	if (memcmp(l2, old, c->q->cluster)) {
		if (vmimg_qcow2_change_count(c, at, c->q->cluster, -1, err) ||
			vmimg_qcow2_change_take(c, 1, &at, err) ||
			vmimg_io_pwrite(c->io, l2, c->q->cluster, at, err))
			return -1;
	}
	if (vmimg_qcow2_change_refs(c, at, &refs, err))
		return -1;
	vmimg_put_be64(raw, at | (refs == 1 ? QCOW2_COPIED : 0));
	return 0;
}

/* An L2 table whose whole range is cut off. */
static int drop_l2(
	struct vmimg_qcow2_change *c, uint64_t entry, uint8_t *l2, struct vmimg_error *err)
{
	uint64_t at = entry & QCOW2_OFFSET;

	if (!at)
		return 0;
	if (vmimg_qcow2_read_l2(c, at, l2, err) || count_l2(c, l2, -1, err))
		return -1;
	return vmimg_qcow2_change_count(c, at, c->q->cluster, -1, err);
}

int vmimg_qcow2_write_l1(
	struct vmimg_qcow2_change *c, const uint8_t *l1, uint32_t entries, struct vmimg_error *err)
{
	size_t len = (size_t)entries * 8;

	if (vmimg_qcow2_change_take(
		    c, vmimg_max(vmimg_div_up(len, c->q->cluster), 1), &c->header.l1_offset, err))
		return -1;
	c->header.l1_size = entries;
	return vmimg_io_pwrite(c->io, l1, len, c->header.l1_offset, err);
}

int vmimg_qcow2_free_l1(
	struct vmimg_qcow2_change *c, uint64_t at, uint32_t entries, struct vmimg_error *err)
{
	return entries ? vmimg_qcow2_change_count(c, at, (uint64_t)entries * 8, -1, err) : 0;
}

int vmimg_qcow2_rebuild(struct vmimg_qcow2_change *c, uint64_t from, uint32_t from_entries,
	uint32_t entries, struct vmimg_error *err)
{
	uint64_t covers = (uint64_t)c->q->cluster << c->q->l2_bits;
	VMIMG_AUTO(free) uint8_t *old = vmimg_alloc_buffer(c->q->cluster, err);
	VMIMG_AUTO(free) uint8_t *l2 = vmimg_alloc_buffer(c->q->cluster, err);
	VMIMG_AUTO(free) uint8_t *new = vmimg_alloc_array(entries ? entries : 1, 8, err);
	VMIMG_AUTO(free) uint8_t *l1 = NULL;

	if (!old || !l2 || !new || vmimg_qcow2_read_l1(c, from, from_entries, &l1, err))
		return -1;
	memcpy(new, l1, (size_t)vmimg_min(from_entries, entries) * 8);
	for (uint32_t i = 0; i < from_entries; i++) {
		uint64_t guest = i * covers;
		bool beyond = i >= entries || guest >= c->header.size;

		if (beyond && i < entries)
			memset(new + i *UINT64_C(8), 0, 8);
		if (beyond ? drop_l2(c, vmimg_get_be64(l1 + i * UINT64_C(8)), l2, err)
			   : rebuild_entry(c, new + i *UINT64_C(8), guest, old, l2, err))
			return -1;
	}
	return vmimg_qcow2_write_l1(c, new, entries, err);
}
