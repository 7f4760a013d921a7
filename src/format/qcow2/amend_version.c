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

struct version {
	struct vmimg_qcow2_walk walk;
	/* What happens to an L2 table, which is at that place. */
	int (*table)(
		struct version *, uint8_t *l2, uint64_t at, uint64_t guest, struct vmimg_error *);
	uint8_t *l2, *old;
	uint64_t end; /* how long the file has to be */
};

static bool is_zero_flag(uint64_t entry)
{
	return !(entry & QCOW2_COMPRESSED) && entry & QCOW2_ZERO;
}

/* A table that changes is written to a new place, once for each reference. */
static int change_l2(
	struct vmimg_qcow2_walk *walk, uint64_t *entry, uint64_t guest, struct vmimg_error *err)
{
	struct version *v = (struct version *)walk;
	struct vmimg_qcow2_change *c = walk->c;
	uint64_t old = *entry & QCOW2_OFFSET, at;

	if (vmimg_qcow2_read_l2(c, old, v->old, err))
		return -1;
	memcpy(v->l2, v->old, c->q->cluster);
	if (v->table(v, v->l2, old, guest, err))
		return -1;
	if (!memcmp(v->l2, v->old, c->q->cluster))
		return 0;
	if (vmimg_qcow2_change_take(c, 1, &at, err) ||
		vmimg_io_pwrite(c->io, v->l2, c->q->cluster, at, err) ||
		vmimg_qcow2_change_count(c, old, c->q->cluster, -1, err))
		return -1;
	*entry = at | QCOW2_COPIED;
	return 0;
}

static int change_tables(struct version *v, struct vmimg_error *err)
{
	int failed = -1;

	v->walk.table = change_l2;
	v->walk.end = UINT64_MAX;
	v->l2 = vmimg_alloc_buffer(v->walk.c->q->cluster, err);
	v->old = vmimg_alloc_buffer(v->walk.c->q->cluster, err);
	if (v->l2 && v->old)
		failed = vmimg_qcow2_walk_trees(&v->walk, err);
	free(v->l2);
	free(v->old);
	return failed;
}

/* ---- up ---- */

static int check_table(
	struct version *v, uint8_t *l2, uint64_t at, uint64_t guest, struct vmimg_error *err)
{
	(void)guest;
	for (uint32_t i = 0; i < v->walk.c->q->cluster; i += 8)
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
	struct version v = { .walk.c = c, .table = check_table };

	if (change_tables(&v, err))
		return -1;
	c->header.version = 3;
	c->new_head = true;
	return c->q->snapshot_count ? vmimg_qcow2_write_snapshots(c, NULL, NULL, err) : 0;
}

/* ---- down ---- */

/* A cluster of zeroes over the backing file. */
static int put_zeroes(struct version *v, uint64_t guest, uint64_t *at, struct vmimg_error *err)
{
	struct vmimg_qcow2_change *c = v->walk.c;
	const struct vmimg_qcow2 *q = c->q;
	VMIMG_AUTO(free) uint8_t *bytes = NULL;

	if (q->header.crypt_method && !q->cipher)
		return vmimg_fail(err, VMIMG_EREFUSED,
			"zeroes over the backing file are to be encrypted, and no secret was given "
			"(--secret-file)");
	if (vmimg_qcow2_change_take(c, 1, at, err))
		return -1;
	v->end = vmimg_max(v->end, *at + q->cluster);
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
	struct version *v, uint8_t *l2, uint64_t at, uint64_t guest, struct vmimg_error *err)
{
	struct vmimg_qcow2_change *c = v->walk.c;

	(void)at;
	for (uint32_t i = 0; i < c->q->cluster; i += 8, guest += c->q->cluster) {
		uint64_t entry = vmimg_get_be64(l2 + i), zeroes = 0;

		if (!is_zero_flag(entry))
			continue;
		if (c->q->backing_name && put_zeroes(v, guest, &zeroes, err))
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
	struct version v = { .walk.c = c, .table = expand_table };

	if (c->header.refcount_order != 4)
		return vmimg_fail(err, VMIMG_EUNSUPPORTED, "compat=0.10 requires refcount_bits=16");
	if (vmimg_qcow2_check_singles(c, err) || change_tables(&v, err))
		return -1;
	if (v.end > vmimg_io_size(c->io) && vmimg_io_resize(c->io, v.end, err))
		return -1;
	c->header.version = 2;
	c->header.compatible = c->header.autoclear = 0;
	c->new_head = true;
	return 0;
}
