/* SPDX-License-Identifier: Apache-2.0 */
/*
 * From version 2 to 3, and back. Bit 0 of an L2 entry has no meaning in version 2, and is the zero
 * flag in version 3: on the way up no entry may have it, on the way down those that do become
 * unallocated, or zeroes where a backing file would shine through.
 */
#include <inttypes.h>
#include <string.h>
#include "format/qcow2/amend.h"
#include "util/num.h"

/* What happens to an L2 table. *changed: l2 is not what it was. */
struct walk {
	struct vmimg_qcow2_change *c;
	int (*table)(struct walk *, uint8_t *l2, uint64_t at, uint64_t guest, struct vmimg_error *);
	uint8_t *l2, *old;
	uint8_t *l1;  /* of the tree that was walked, as it shall be */
	uint64_t end; /* how long the file has to be */
};

static bool is_zero_flag(uint64_t entry)
{
	return !(entry & QCOW2_COMPRESSED) && entry & QCOW2_ZERO;
}

/* A table that changes is written to a new place, once for each reference. */
static int walk_l2(struct walk *w, uint64_t *at, uint64_t guest, struct vmimg_error *err)
{
	struct vmimg_qcow2_change *c = w->c;
	uint64_t old = *at;

	if (vmimg_qcow2_read_l2(c, old, w->old, err))
		return -1;
	memcpy(w->l2, w->old, c->q->cluster);
	if (w->table(w, w->l2, old, guest, err))
		return -1;
	if (!memcmp(w->l2, w->old, c->q->cluster))
		return 0;
	return vmimg_qcow2_change_take(c, 1, at, err) ||
			vmimg_io_pwrite(c->io, w->l2, c->q->cluster, *at, err) ||
			vmimg_qcow2_change_count(c, old, c->q->cluster, -1, err)
		? -1
		: 0;
}

static int walk_tree(
	struct walk *w, uint64_t at, uint32_t entries, bool *changed, struct vmimg_error *err)
{
	uint64_t covers = (uint64_t)w->c->q->cluster << w->c->q->l2_bits, l2, old;

	*changed = false;
	free(w->l1);
	w->l1 = NULL;
	if (entries > QCOW2_MAX_L1_ENTRIES)
		return vmimg_fail(
			err, VMIMG_ECORRUPT, "an L1 table of %" PRIu32 " entries", entries);
	if (vmimg_qcow2_read_l1(w->c, at, entries, &w->l1, err))
		return -1;
	for (uint64_t i = 0; i < entries; i++) {
		l2 = old = vmimg_get_be64(w->l1 + i * 8) & QCOW2_OFFSET;
		if (!l2)
			continue;
		if (walk_l2(w, &l2, i * covers, err))
			return -1;
		if (l2 != old)
			vmimg_put_be64(w->l1 + i * 8, l2 | QCOW2_COPIED);
		*changed |= l2 != old;
	}
	return 0;
}

static int walk_snapshot(
	struct walk *w, struct vmimg_qcow2_snapshot_entry *e, bool *moved, struct vmimg_error *err)
{
	size_t len = (size_t)e->l1_size * 8;
	uint64_t old = e->l1_offset;
	bool changed;

	if (walk_tree(w, old, e->l1_size, &changed, err))
		return -1;
	if (!changed)
		return 0;
	*moved = true;
	return vmimg_qcow2_change_take(
		       w->c, vmimg_div_up(len, w->c->q->cluster), &e->l1_offset, err) ||
			vmimg_io_pwrite(w->c->io, w->l1, len, e->l1_offset, err) ||
			vmimg_qcow2_free_l1(w->c, old, e->l1_size, err)
		? -1
		: 0;
}

static int walk_all(struct walk *w, bool *moved, struct vmimg_error *err)
{
	struct vmimg_qcow2_change *c = w->c;
	const struct vmimg_qcow2_header *h = &c->q->header;
	bool changed;

	*moved = false;
	w->l2 = vmimg_alloc_buffer(c->q->cluster, err);
	w->old = vmimg_alloc_buffer(c->q->cluster, err);
	if (!w->l2 || !w->old || walk_tree(w, h->l1_offset, h->l1_size, &changed, err))
		return -1;
	if (changed &&
		(vmimg_qcow2_write_l1(c, w->l1, h->l1_size, err) ||
			vmimg_qcow2_free_l1(c, h->l1_offset, h->l1_size, err)))
		return -1;
	for (size_t i = 0; i < c->q->snapshot_count; i++)
		if (walk_snapshot(w, &c->q->snapshots[i].entry, moved, err))
			return -1;
	return 0;
}

static int walk(struct walk *w, bool *moved, struct vmimg_error *err)
{
	int failed = walk_all(w, moved, err);

	free(w->l1);
	free(w->l2);
	free(w->old);
	return failed;
}

/* ---- up ---- */

static int check_table(
	struct walk *w, uint8_t *l2, uint64_t at, uint64_t guest, struct vmimg_error *err)
{
	(void)guest;
	for (uint32_t i = 0; i < w->c->q->cluster; i += 8)
		if (is_zero_flag(vmimg_get_be64(l2 + i)))
			return vmimg_fail(err, VMIMG_EUNSUPPORTED,
				"the L2 entry at 0x%" PRIx64
				" has a bit set that would mean zeroes in compat=1.1: convert it",
				at + i);
	return 0;
}

/* Snapshots get the fields that version 3 asks for. */
int vmimg_qcow2_upgrade(struct vmimg_qcow2_change *c, struct vmimg_error *err)
{
	struct walk w = { .c = c, .table = check_table };
	bool moved;

	if (walk(&w, &moved, err))
		return -1;
	c->header.version = 3;
	c->new_head = true;
	return c->q->snapshot_count ? vmimg_qcow2_write_snapshots(c, NULL, NULL, err) : 0;
}

/* ---- down ---- */

/* A cluster of zeroes over the backing file. */
static int put_zeroes(struct walk *w, uint64_t guest, uint64_t *at, struct vmimg_error *err)
{
	struct vmimg_qcow2_change *c = w->c;
	const struct vmimg_qcow2 *q = c->q;
	VMIMG_AUTO(free) uint8_t *bytes = NULL;

	if (q->header.crypt_method && !q->cipher)
		return vmimg_fail(err, VMIMG_EREFUSED,
			"zeroes over the backing file are to be encrypted, and no secret was given "
			"(--secret-file)");
	if (vmimg_qcow2_change_take(c, 1, at, err))
		return -1;
	w->end = vmimg_max(w->end, *at + q->cluster);
	if (!q->cipher) /* past the end of a file there is nothing else */
		return *at >= c->old_end * q->cluster && !c->io->is_device
			? 0
			: vmimg_io_zero(c->io, *at, q->cluster, err);
	bytes = vmimg_alloc_array(q->cluster, 1, err);
	return !bytes ||
			vmimg_cipher_encrypt(q->cipher,
				vmimg_qcow2_cipher_at(q, *at, guest) / VMIMG_SECTOR, bytes, bytes,
				q->cluster, err) ||
			vmimg_io_pwrite(c->io, bytes, q->cluster, *at, err)
		? -1
		: 0;
}

static int expand_table(
	struct walk *w, uint8_t *l2, uint64_t at, uint64_t guest, struct vmimg_error *err)
{
	struct vmimg_qcow2_change *c = w->c;

	(void)at;
	for (uint32_t i = 0; i < c->q->cluster; i += 8, guest += c->q->cluster) {
		uint64_t entry = vmimg_get_be64(l2 + i), zeroes = 0;

		if (!is_zero_flag(entry))
			continue;
		if (c->q->backing_name && put_zeroes(w, guest, &zeroes, err))
			return -1;
		if (entry & QCOW2_OFFSET &&
			vmimg_qcow2_change_drop(c, entry & QCOW2_OFFSET, c->q->cluster, err))
			return -1;
		vmimg_put_be64(l2 + i, zeroes ? zeroes | QCOW2_COPIED : 0);
	}
	return 0;
}

int vmimg_qcow2_check_downgrade(
	const struct vmimg_disk *disk, uint64_t size, struct vmimg_error *err)
{
	static const char *const names[] = { "lazy refcounts", "marks of damage",
		"external data files", "compression types", "extended L2 entries" };
	const struct vmimg_qcow2 *q = vmimg_qcow2_of(disk);

	for (unsigned bit = 0; bit < VMIMG_ARRAY_LEN(names); bit++)
		if (q->header.incompatible >> bit & 1)
			return vmimg_fail(err, VMIMG_EUNSUPPORTED,
				"compat=0.10 has no %s, which the image uses: convert it",
				names[bit]);
	if (q->has_bitmaps)
		return vmimg_fail(
			err, VMIMG_EUNSUPPORTED, "compat=0.10 has no bitmaps: remove them first");
	for (size_t i = 0; i < q->snapshot_count; i++) {
		const struct vmimg_qcow2_snapshot *s = &q->snapshots[i];

		if ((s->extra.disk_size && s->extra.disk_size != size) ||
			s->extra.vm_state_size != s->entry.vm_state_size)
			return vmimg_fail(err, VMIMG_EUNSUPPORTED,
				"snapshot '%.60s' is of another size than the disk, or has more "
				"state than compat=0.10 can say",
				s->name);
	}
	return 0;
}

int vmimg_qcow2_downgrade(struct vmimg_qcow2_change *c, struct vmimg_error *err)
{
	struct walk w = { .c = c, .table = expand_table };
	bool moved;

	if (c->header.refcount_order != 4)
		return vmimg_fail(err, VMIMG_EUNSUPPORTED, "compat=0.10 requires refcount_bits=16");
	if (vmimg_qcow2_check_singles(c, err) || walk(&w, &moved, err))
		return -1;
	if (w.end > vmimg_io_size(c->io) && vmimg_io_resize(c->io, w.end, err))
		return -1;
	c->header.version = 2;
	c->header.compatible = c->header.autoclear = 0;
	c->new_head = true;
	return moved ? vmimg_qcow2_write_snapshots(c, NULL, NULL, err) : 0;
}
