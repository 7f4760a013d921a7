/* SPDX-License-Identifier: Apache-2.0 */
/* Internal snapshots, and what else is a change of refcounts, a new active tree, a new header. */
#include "disk/edit.h"
#include <inttypes.h>
#include <stdio.h>
#include <string.h>
#include "format/qcow2/bitmaps.h"
#include "format/qcow2/crypt.h"
#include "io/file.h"
#include "util/num.h"

/* ---- the snapshot table ---- */

static size_t entry_len(const struct vmimg_qcow2_snapshot *s)
{
	return (size_t)vmimg_align_up(40U + 24U + strlen(s->id) + strlen(s->name), 8);
}

/* Always with the extra data of version 3, so that the size and the clock are there. */
static void encode_entry(
	const struct vmimg_qcow2 *q, const struct vmimg_qcow2_snapshot *s, uint8_t *to)
{
	struct vmimg_qcow2_snapshot_entry entry = s->entry;
	struct vmimg_qcow2_snapshot_extra extra = s->extra;

	entry.id_size = (uint16_t)strlen(s->id);
	entry.name_size = (uint16_t)strlen(s->name);
	entry.extra_size = 24;
	if (!extra.disk_size)
		extra.disk_size = q->header.size;
	if (!s->has_icount)
		extra.icount = UINT64_MAX;
	vmimg_qcow2_snapshot_entry_encode(&entry, to);
	vmimg_qcow2_snapshot_extra_encode(&extra, to + 40);
	memcpy(to + 64, s->id, entry.id_size);
	memcpy(to + 64 + entry.id_size, s->name, entry.name_size);
}

/* Space that the table takes now. */
static uint64_t old_table_len(const struct vmimg_qcow2 *q)
{
	uint64_t len = 0;

	for (size_t i = 0; i < q->snapshot_count; i++) {
		const struct vmimg_qcow2_snapshot_entry *e = &q->snapshots[i].entry;

		len = vmimg_align_up(len, 8) + 40 + e->extra_size + e->id_size + e->name_size;
	}
	return len;
}

int vmimg_qcow2_write_snapshots(struct vmimg_qcow2_change *c,
	const struct vmimg_qcow2_snapshot *drop, const struct vmimg_qcow2_snapshot *add,
	struct vmimg_error *err)
{
	const struct vmimg_qcow2 *q = c->q;
	VMIMG_AUTO(free) uint8_t *bytes = NULL;
	size_t len = add ? entry_len(add) : 0, at = 0;
	uint64_t old_len = old_table_len(q);

	for (size_t i = 0; i < q->snapshot_count; i++)
		len += &q->snapshots[i] == drop ? 0 : entry_len(&q->snapshots[i]);
	if (old_len && vmimg_qcow2_change_count(c, q->header.snapshots_offset, old_len, -1, err))
		return -1;
	c->header.snapshot_count = (uint32_t)(q->snapshot_count - !!drop + !!add);
	c->header.snapshots_offset = 0;
	if (!len)
		return 0;
	bytes = vmimg_alloc_array(len, 1, err);
	if (!bytes)
		return -1;
	for (size_t i = 0; i < q->snapshot_count; i++) {
		if (&q->snapshots[i] == drop)
			continue;
		encode_entry(q, &q->snapshots[i], bytes + at);
		at += entry_len(&q->snapshots[i]);
	}
	if (add)
		encode_entry(q, add, bytes + at);
	if (vmimg_qcow2_change_take(
		    c, vmimg_div_up(len, q->cluster), &c->header.snapshots_offset, err))
		return -1;
	return vmimg_io_pwrite(c->io, bytes, len, c->header.snapshots_offset, err);
}

/* ---- what the operations do ---- */

struct request {
	uint64_t size;    /* resize; allocate: up to there */
	uint64_t from;    /* allocate */
	const char *name; /* snapshots */
	uint64_t sec;
	uint32_t nsec;
};

static int do_resize(struct vmimg_qcow2_change *c, const struct request *r, struct vmimg_error *err)
{
	return vmimg_qcow2_change_size(c, r->size, err);
}

/* An id that is a number, one more than the largest there is, as QEMU has it. */
static void next_id(const struct vmimg_qcow2 *q, char id[24])
{
	unsigned long long most = 0, number;

	for (size_t i = 0; i < q->snapshot_count; i++) {
		number = strtoull(q->snapshots[i].id, NULL, 10);
		most = number > most && number < UINT64_MAX ? number : most;
	}
	snprintf(id, 24, "%llu", most + 1);
}

static int do_create(struct vmimg_qcow2_change *c, const struct request *r, struct vmimg_error *err)
{
	const struct vmimg_qcow2 *q = c->q;
	VMIMG_AUTO(free) char *name = vmimg_strdup(r->name, err);
	char id[24];
	struct vmimg_qcow2_snapshot snapshot = { .entry = { .l1_offset = q->header.l1_offset,
							 .l1_size = q->header.l1_size,
							 .date_sec = (uint32_t)r->sec,
							 .date_nsec = r->nsec },
		.extra = { .disk_size = q->header.size },
		.has_icount = true, /* 0, as qemu-img notes it where no machine runs */
		.id = id,
		.name = name };

	if (!name)
		return -1;
	next_id(q, id);
	/* the old L1 table becomes the snapshot's as it lies there */
	if (vmimg_qcow2_count_tree(c, q->header.l1_offset, q->header.l1_size, 1, err) ||
		vmimg_qcow2_rebuild(
			c, q->header.l1_offset, q->header.l1_size, q->header.l1_size, err))
		return -1;
	return vmimg_qcow2_write_snapshots(c, NULL, &snapshot, err);
}

static int find(const struct vmimg_qcow2_change *c, const char *name,
	const struct vmimg_qcow2_snapshot **found, struct vmimg_error *err)
{
	*found = vmimg_qcow2_find_snapshot(c->q, name);
	if (!*found)
		return vmimg_fail(err, VMIMG_EINVAL, "there is no snapshot '%.60s'", name);
	if ((*found)->entry.l1_offset % c->q->cluster ||
		(*found)->entry.l1_size > QCOW2_MAX_L1_ENTRIES)
		return vmimg_fail(err, VMIMG_ECORRUPT, "snapshot '%.60s' has a bad L1 table", name);
	return 0;
}

static int do_apply(struct vmimg_qcow2_change *c, const struct request *r, struct vmimg_error *err)
{
	const struct vmimg_qcow2 *q = c->q;
	const struct vmimg_qcow2_snapshot *s;
	uint32_t entries;

	if (find(c, r->name, &s, err))
		return -1;
	c->header.size = s->extra.disk_size ? s->extra.disk_size : q->header.size;
	c->whole = true; /* a machine that was saved with it is loaded from the active state */
	entries = (uint32_t)vmimg_max(vmimg_qcow2_l1_entries(q, c->header.size), s->entry.l1_size);
	/* first up, then down: what both states use never comes to nothing */
	if (vmimg_qcow2_resize_bitmaps(c, true, err) ||
		vmimg_qcow2_count_tree(c, s->entry.l1_offset, s->entry.l1_size, 1, err) ||
		vmimg_qcow2_count_tree(c, q->header.l1_offset, q->header.l1_size, -1, err) ||
		vmimg_qcow2_rebuild(c, s->entry.l1_offset, s->entry.l1_size, entries, err))
		return -1;
	return vmimg_qcow2_free_l1(c, q->header.l1_offset, q->header.l1_size, err);
}

static int do_delete(struct vmimg_qcow2_change *c, const struct request *r, struct vmimg_error *err)
{
	const struct vmimg_qcow2 *q = c->q;
	const struct vmimg_qcow2_snapshot *s;

	if (find(c, r->name, &s, err) || vmimg_qcow2_check_singles(c, err) ||
		vmimg_qcow2_count_tree(c, s->entry.l1_offset, s->entry.l1_size, -1, err) ||
		vmimg_qcow2_free_l1(c, s->entry.l1_offset, s->entry.l1_size, err) ||
		vmimg_qcow2_rebuild(
			c, q->header.l1_offset, q->header.l1_size, q->header.l1_size, err) ||
		vmimg_qcow2_free_l1(c, q->header.l1_offset, q->header.l1_size, err))
		return -1;
	return vmimg_qcow2_write_snapshots(c, s, NULL, err);
}

/* ---- entrances ---- */

static int change(struct vmimg_disk *disk, const struct request *request,
	int (*act)(struct vmimg_qcow2_change *, const struct request *, struct vmimg_error *),
	struct vmimg_error *err)
{
	struct vmimg_qcow2_change c;
	int result = vmimg_qcow2_change_begin(&c, disk, err);

	if (!result)
		result = act(&c, request, err);
	if (!result)
		result = vmimg_qcow2_change_commit(&c, err);
	if (!result)
		result = vmimg_qcow2_give_back(&c, err);
	vmimg_qcow2_change_done(&c);
	return result;
}

static int qcow2_resize(struct vmimg_disk *disk, uint64_t size, struct vmimg_error *err)
{
	struct request request = { .size = size };

	if (size == disk->size)
		return 0;
	if (vmimg_qcow2_check_resize(disk, size, err) || change(disk, &request, do_resize, err))
		return -1;
	return vmimg_qcow2_settle_size(disk, size, err);
}

static int do_fill(struct vmimg_qcow2_change *c, const struct request *r, struct vmimg_error *err)
{
	const struct vmimg_qcow2_header *h = &c->q->header;

	c->fill_from = vmimg_align_up(r->from, c->q->cluster);
	c->fill_to = r->size;
	if (vmimg_qcow2_rebuild(c, h->l1_offset, h->l1_size, h->l1_size, err) ||
		vmimg_qcow2_free_l1(c, h->l1_offset, h->l1_size, err))
		return -1;
	return c->fill_end > vmimg_io_size(c->io) ? vmimg_io_resize(c->io, c->fill_end, err) : 0;
}

static int qcow2_allocate(struct vmimg_disk *disk, uint64_t from, uint64_t to, bool held,
	struct vmimg_error *err)
{
	const struct vmimg_qcow2 *q = vmimg_qcow2_of(disk);
	struct request request = { .from = from, .size = to };

	if (q->header.version == 2 || q->external)
		return vmimg_fail(err, VMIMG_EUNSUPPORTED, "%s grows without preallocation only",
			q->external ? "an image with a data file" : "an image of compat=0.10");
	if (change(disk, &request, do_fill, err))
		return -1;
	return held ? vmimg_io_reserve(disk->io, 0, vmimg_io_size(disk->io), err) : 0;
}

static int do_empty(struct vmimg_qcow2_change *c, const struct request *r, struct vmimg_error *err)
{
	const struct vmimg_qcow2_header *h = &c->q->header;
	uint32_t entries = vmimg_qcow2_l1_entries(c->q, h->size);
	VMIMG_AUTO(free) uint8_t *l1 = vmimg_alloc_array(entries, 8, err);

	(void)r;
	if (!l1 || vmimg_qcow2_check_singles(c, err) ||
		vmimg_qcow2_count_tree(c, h->l1_offset, h->l1_size, -1, err) ||
		vmimg_qcow2_free_l1(c, h->l1_offset, h->l1_size, err))
		return -1;
	return vmimg_qcow2_write_l1(c, l1, entries, err);
}

static int qcow2_empty(struct vmimg_disk *disk, struct vmimg_error *err)
{
	const struct vmimg_qcow2 *q = vmimg_qcow2_of(disk);
	VMIMG_AUTO(vmimg_io_unref) struct vmimg_io *data = NULL;
	struct request request = { 0 };

	if (!q->external)
		return change(disk, &request, do_empty, err);
	if (!q->data)
		return vmimg_fail(err, VMIMG_EREFUSED,
			"its data is in another file, which was not opened: allow it (--refs)");
	if (q->header.autoclear & QCOW2_AUTOCLEAR_RAW_DATA)
		return vmimg_fail(
			err, VMIMG_EUNSUPPORTED, "its data file is raw, and shows no backing file");
	data = vmimg_file_reopen(q->data, err);
	return !data || change(disk, &request, do_empty, err)
		? -1
		: vmimg_io_zero(data, 0, vmimg_io_size(data), err);
}

static int check_snapshots(
	const struct vmimg_disk *disk, const char *name, bool create, struct vmimg_error *err)
{
	const struct vmimg_qcow2 *q = vmimg_qcow2_of(disk);

	if (q->external)
		return vmimg_fail(err, VMIMG_EUNSUPPORTED,
			"an image with an external data file has no snapshots");
	if (!create)
		return 0;
	if (!*name || strlen(name) > 255)
		return vmimg_fail(err, VMIMG_EINVAL, "a snapshot's name has 1 to 255 bytes");
	if (q->snapshot_count >= QCOW2_MAX_SNAPSHOTS)
		return vmimg_fail(err, VMIMG_ELIMIT, "there are %zu snapshots", q->snapshot_count);
	return 0;
}

static int qcow2_snapshot_create(struct vmimg_disk *disk, const char *name, uint64_t sec,
	uint32_t nsec, struct vmimg_error *err)
{
	struct request request = { .name = name, .sec = sec, .nsec = nsec };

	return check_snapshots(disk, name, true, err) ? -1 : change(disk, &request, do_create, err);
}

static int qcow2_snapshot_apply(struct vmimg_disk *disk, const char *which, struct vmimg_error *err)
{
	struct request request = { .name = which };

	return check_snapshots(disk, which, false, err) ? -1
							: change(disk, &request, do_apply, err);
}

static int qcow2_snapshot_delete(
	struct vmimg_disk *disk, const char *which, struct vmimg_error *err)
{
	struct request request = { .name = which };

	return check_snapshots(disk, which, false, err) ? -1
							: change(disk, &request, do_delete, err);
}

const struct vmimg_edit_ops vmimg_qcow2_edit = {
	.resize = qcow2_resize,
	.allocate = qcow2_allocate,
	.rekey = vmimg_qcow2_rekey,
	.snapshot_create = qcow2_snapshot_create,
	.snapshot_apply = qcow2_snapshot_apply,
	.snapshot_delete = qcow2_snapshot_delete,
	.update = vmimg_qcow2_update,
	.empty = qcow2_empty,
	.squeeze = vmimg_qcow2_squeeze,
	.set_parent = vmimg_qcow2_set_parent,
	.amend = vmimg_qcow2_amend,
	.amendable = vmimg_qcow2_amendable,
	.bitmap = vmimg_qcow2_bitmap,
};
