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

/* Clusters in a row that entries in a row refer to. */
struct stretch {
	uint64_t at, len;
};

static int count_stretch(
	struct vmimg_qcow2_change *c, const struct stretch *s, int delta, struct vmimg_error *err)
{
	uint64_t len = vmimg_min(s->len, vmimg_io_size(c->io) - s->at);

	if (!len)
		return 0;
	return delta < 0 ? vmimg_qcow2_change_drop(c, s->at, len, err)
			 : vmimg_qcow2_change_count(c, s->at, len, delta, err);
}

/* Packed clusters share host clusters: each counts by itself. */
static bool goes_on(const struct stretch *s, uint64_t at, uint64_t entry, uint32_t cluster)
{
	return s->len && at == s->at + s->len && !(entry & QCOW2_COMPRESSED) &&
		!(s->at % cluster) && !(s->len % cluster);
}

static int count_l2(
	struct vmimg_qcow2_change *c, const uint8_t *l2, int delta, struct vmimg_error *err)
{
	uint64_t at = 0, len, size = vmimg_io_size(c->io);
	struct stretch now = { 0 };

	for (uint64_t i = 0; i < UINT64_C(1) << c->q->l2_bits; i++) {
		uint64_t entry = vmimg_get_be64(l2 + i * entry_size(c->q));

		vmimg_qcow2_data_place(c->q, entry, &at, &len);
		if (len && at >= size)
			return vmimg_fail(err, VMIMG_ECORRUPT,
				"data at 0x%" PRIx64
				" would be past the end of the file: repair the image first",
				at);
		if (len && goes_on(&now, at, entry, c->q->cluster)) {
			now.len += len;
		} else if (len) {
			if (count_stretch(c, &now, delta, err))
				return -1;
			now = (struct stretch){ at, len };
		}
	}
	return count_stretch(c, &now, delta, err);
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
	return len ? vmimg_qcow2_change_drop(c, at, len, err) : 0;
}

/* What the size cuts off in an L2 table whose first entry is for guest. */
static int cut_l2(
	struct vmimg_qcow2_change *c, uint8_t *l2, uint64_t guest, struct vmimg_error *err)
{
	for (uint64_t i = 0; i < UINT64_C(1) << c->q->l2_bits; i++) {
		uint8_t *raw = l2 + i * entry_size(c->q);
		uint64_t at = guest + i * c->q->cluster;

		if (c->cut > at && c->cut - at < c->q->cluster &&
			vmimg_qcow2_clear_rest(c, raw, at, err))
			return -1;
		if (at >= c->header.size && !c->whole && drop_entry(c, raw, err))
			return -1;
	}
	return 0;
}

/* The COPIED flags of plain clusters follow their refcounts. */
static int set_flags(struct vmimg_qcow2_change *c, uint8_t *l2, struct vmimg_error *err)
{
	uint64_t refs;

	for (uint64_t i = 0; i < UINT64_C(1) << c->q->l2_bits && !c->q->external; i++) {
		uint8_t *raw = l2 + i * entry_size(c->q);
		uint64_t entry = vmimg_get_be64(raw);

		if (entry & QCOW2_COMPRESSED || !(entry & QCOW2_OFFSET))
			continue;
		if (vmimg_qcow2_change_refs(c, entry & QCOW2_OFFSET, &refs, err))
			return -1;
		vmimg_put_be64(raw, refs == 1 ? entry | QCOW2_COPIED : entry & ~QCOW2_COPIED);
	}
	return 0;
}

/* ---- a new tree ---- */

static bool hides(const struct vmimg_qcow2_change *c, uint64_t guest, uint64_t len)
{
	return guest < c->hide_to && guest + len > c->hide_from;
}

/* Subclusters that are neither there nor zeroes yet. */
static void hide_subclusters(const struct vmimg_qcow2_change *c, uint8_t *raw, uint64_t guest)
{
	uint32_t unit = c->q->cluster / QCOW2_SUBCLUSTERS;
	uint64_t bits = vmimg_get_be64(raw + 8);

	for (unsigned i = 0; i < QCOW2_SUBCLUSTERS; i++)
		if (guest + i * unit >= c->hide_from && !(bits >> i & 1))
			bits |= UINT64_C(1) << (i + 32);
	vmimg_put_be64(raw + 8, bits);
}

/* Of an L2 table whose first entry is for guest. */
static void hide_l2(const struct vmimg_qcow2_change *c, uint8_t *l2, uint64_t guest)
{
	for (uint64_t i = 0; i < UINT64_C(1) << c->q->l2_bits; i++) {
		uint8_t *raw = l2 + i * entry_size(c->q);
		uint64_t at = guest + i * c->q->cluster, entry = vmimg_get_be64(raw);

		if (!hides(c, at, c->q->cluster) || entry & QCOW2_COMPRESSED)
			continue;
		if (c->q->extended)
			hide_subclusters(c, raw, at);
		else if (at >= c->hide_from && !(entry & QCOW2_OFFSET))
			vmimg_put_be64(raw, entry | QCOW2_ZERO);
	}
}

static bool fills(const struct vmimg_qcow2_change *c, uint64_t guest, uint64_t len)
{
	return guest < c->fill_to && guest + len > c->fill_from;
}

/* Of such a table, too. Where the clusters lie there may be anything: they are zeroes by their flag. */
static int fill_l2(
	struct vmimg_qcow2_change *c, uint8_t *l2, uint64_t guest, struct vmimg_error *err)
{
	for (uint64_t i = 0; i < UINT64_C(1) << c->q->l2_bits; i++) {
		uint8_t *raw = l2 + i * entry_size(c->q);
		uint64_t at = guest + i * c->q->cluster, entry = vmimg_get_be64(raw), place;

		if (at < c->fill_from || at >= c->fill_to ||
			entry & (QCOW2_COMPRESSED | QCOW2_OFFSET))
			continue;
		if (vmimg_qcow2_change_take(c, 1, &place, err))
			return -1;
		c->fill_end = vmimg_max(c->fill_end, place + c->q->cluster);
		vmimg_put_be64(raw, place | QCOW2_COPIED | (c->q->extended ? 0 : QCOW2_ZERO));
		if (c->q->extended)
			vmimg_put_be64(raw + 8, UINT64_C(0xffffffff) << 32);
	}
	return 0;
}

#define BEHIND (1U << 20)

/* Makes the new tree. Its L2 tables lie side by side, and are written together. */
struct tree {
	struct vmimg_qcow2_change *c;
	uint8_t *old, *l2; /* a table */
	uint8_t *behind;   /* BEHIND bytes of tables that are not written yet */
	uint64_t at, len;  /* where they belong */
};

static int write_behind(struct tree *t, struct vmimg_error *err)
{
	uint64_t len = t->len;

	t->len = 0;
	return len ? vmimg_io_pwrite(t->c->io, t->behind, (size_t)len, t->at, err) : 0;
}

static int write_l2(struct tree *t, uint64_t at, struct vmimg_error *err)
{
	uint32_t cluster = t->c->q->cluster;

	if ((t->len + cluster > BEHIND || at != t->at + t->len) && write_behind(t, err))
		return -1;
	if (cluster > BEHIND)
		return vmimg_io_pwrite(t->c->io, t->l2, cluster, at, err);
	t->at = t->len ? t->at : at;
	memcpy(t->behind + t->len, t->l2, cluster);
	t->len += cluster;
	return 0;
}

/*
 * One L1 entry of the new table. An L2 table that stays as it is stays where it is, shared if need
 * be; one that changes is written to a new place, and the old one loses this reference.
 */
static int rebuild_entry(struct tree *t, uint8_t *raw, uint64_t guest, struct vmimg_error *err)
{
	uint64_t at = vmimg_get_be64(raw) & QCOW2_OFFSET, refs;
	struct vmimg_qcow2_change *c = t->c;
	uint64_t covers = (uint64_t)c->q->cluster << c->q->l2_bits;
	bool hidden = hides(c, guest, covers), filled = fills(c, guest, covers);

	if (!at && !hidden && !filled)
		return 0;
	memset(t->old, 0, c->q->cluster);
	if (at && vmimg_qcow2_read_l2(c, at, t->old, err))
		return -1;
	memcpy(t->l2, t->old, c->q->cluster);
	if (cut_l2(c, t->l2, guest, err) || set_flags(c, t->l2, err))
		return -1;
	if (hidden)
		hide_l2(c, t->l2, guest);
	if (filled && fill_l2(c, t->l2, guest, err))
		return -1;
	if (memcmp(t->l2, t->old, c->q->cluster)) {
		if ((at && vmimg_qcow2_change_count(c, at, c->q->cluster, -1, err)) ||
			vmimg_qcow2_change_take(c, 1, &at, err) || write_l2(t, at, err))
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

/* What is cut off goes first, for the flags of what stays may depend on it: an image can refer to
 * one cluster twice. */
static int rebuild_all(struct tree *t, const uint8_t *l1, uint8_t *new, uint32_t count,
	uint32_t entries, struct vmimg_error *err)
{
	uint64_t covers = (uint64_t)t->c->q->cluster << t->c->q->l2_bits;
	uint64_t first = vmimg_min(t->c->header.size / covers, count ? count - 1 : 0);

	for (uint64_t n = 0; n < count; n++) {
		uint64_t i = (first + n) % count, guest = i * covers;
		bool beyond = i >= entries || (guest >= t->c->header.size && !t->c->whole);

		if (beyond && i < entries)
			memset(new + i * 8, 0, 8);
		if (beyond ? drop_l2(t->c, vmimg_get_be64(l1 + i * 8), t->l2, err)
			   : rebuild_entry(t, new + i * 8, guest, err))
			return -1;
	}
	for (uint64_t i = count; i < entries; i++)
		if (rebuild_entry(t, new + i * 8, i * covers, err))
			return -1;
	return write_behind(t, err);
}

int vmimg_qcow2_rebuild(struct vmimg_qcow2_change *c, uint64_t from, uint32_t from_entries,
	uint32_t entries, struct vmimg_error *err)
{
	VMIMG_AUTO(free) uint8_t *old = vmimg_alloc_buffer(c->q->cluster, err);
	VMIMG_AUTO(free) uint8_t *l2 = vmimg_alloc_buffer(c->q->cluster, err);
	VMIMG_AUTO(free) uint8_t *behind = vmimg_alloc_buffer(BEHIND, err);
	VMIMG_AUTO(free) uint8_t *new = vmimg_alloc_array(entries ? entries : 1, 8, err);
	VMIMG_AUTO(free) uint8_t *l1 = NULL;
	struct tree t = { .c = c, .old = old, .l2 = l2, .behind = behind };

	if (!old || !l2 || !behind || !new || vmimg_qcow2_read_l1(c, from, from_entries, &l1, err))
		return -1;
	memcpy(new, l1, (size_t)vmimg_min(from_entries, entries) * 8);
	return rebuild_all(&t, l1, new, from_entries, entries, err)
		? -1
		: vmimg_qcow2_write_l1(c, new, entries, err);
}
