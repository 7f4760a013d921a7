/* SPDX-License-Identifier: Apache-2.0 */
/* What is asked for of persistent bitmaps: one is added, changed or goes, or the disk's size
 * changes under all of them. */
#include <inttypes.h>
#include <string.h>
#include "disk/edit.h"
#include "format/qcow2/bitmaps.h"
#include "util/num.h"

#define WINDOW 4096U /* bytes of a source's bits at a time */

struct edit {
	struct vmimg_qcow2_change *c;
	const struct vmimg_bitmap_change *want; /* NULL: the disk changes */
	size_t source;                          /* which of source_disk's */
	bool other;                             /* as in resize_bitmaps */
	struct vmimg_qcow2_bits bits;
};

/* ---- bits ---- */

/* Those of the source, one for each granule, into the cluster of bits that begins with first. */
static int merge_bits(struct edit *e, uint64_t granularity, uint64_t first, uint64_t count,
	struct vmimg_error *err)
{
	struct vmimg_disk *from = e->want->source_disk;
	const struct vmimg_bitmap *source = &from->bitmaps[e->source];
	uint64_t at = first * granularity / source->granularity & ~UINT64_C(7);
	uint64_t end = vmimg_div_up((first + count) * granularity, source->granularity), step;
	uint8_t window[WINDOW];

	for (end = vmimg_min(end, source->bits); at < end; at += step) {
		step = vmimg_min(end - at, WINDOW * 8U);
		if (from->format->bitmap_read(from, e->source, at, step, window, err))
			return -1;
		for (uint64_t i = at; i < at + step; i++)
			if (window[(i - at) / 8] >> (i - at) % 8 & 1)
				vmimg_qcow2_bits_set(&e->bits,
					i * source->granularity / granularity,
					vmimg_div_up((i + 1) * source->granularity, granularity));
	}
	return 0;
}

/* All bits, a cluster at a time, as they shall be. */
static int change_bits(struct edit *e, uint64_t granularity, struct vmimg_error *err)
{
	uint64_t per = (uint64_t)e->c->q->cluster * 8;
	bool enabled = e->c->disk->bitmaps[e->bits.index].enabled;

	for (uint64_t i = 0; i < e->bits.entries; i++) {
		if (vmimg_qcow2_bits_load(&e->bits, i, err))
			return -1;
		if (e->want && e->want->act == VMIMG_BITMAP_CLEAR)
			memset(e->bits.now, 0, e->c->q->cluster);
		if (e->want && e->want->act == VMIMG_BITMAP_MERGE &&
			merge_bits(e, granularity, i * per, per, err))
			return -1;
		if (e->other && enabled)
			vmimg_qcow2_bits_set(&e->bits, i * per, e->bits.count);
	}
	return 0;
}

static int rewrite(struct edit *e, size_t index, struct vmimg_qcow2_bitmap_entry *entry,
	struct vmimg_error *err)
{
	bool goes = e->want && e->want->act == VMIMG_BITMAP_REMOVE;
	int failed = vmimg_qcow2_bits_open(&e->bits, e->c, index, err);

	if (!failed && goes)
		failed = vmimg_qcow2_bits_drop(&e->bits, err);
	else if (!failed)
		failed = change_bits(e, UINT64_C(1) << entry->granularity_bits, err) ||
			vmimg_qcow2_bits_finish(&e->bits, entry, err);
	vmimg_qcow2_bits_done(&e->bits);
	return failed ? -1 : 0;
}

/* ---- bitmaps ---- */

static int change_one(void *ctx, size_t index, struct vmimg_qcow2_bitmap_entry *entry, bool *gone,
	struct vmimg_error *err)
{
	struct edit *e = ctx;

	if (!e->want)
		return rewrite(e, index, entry, err);
	if (strcmp(e->want->name, e->c->disk->bitmaps[index].name))
		return 0;
	switch (e->want->act) {
	case VMIMG_BITMAP_ENABLE:
		entry->flags |= QCOW2_BITMAP_AUTO;
		return 0;
	case VMIMG_BITMAP_DISABLE:
		entry->flags &= ~QCOW2_BITMAP_AUTO;
		return 0;
	case VMIMG_BITMAP_REMOVE:
		*gone = true;
		break;
	case VMIMG_BITMAP_ADD:
	case VMIMG_BITMAP_CLEAR:
	case VMIMG_BITMAP_MERGE:
		break;
	}
	return rewrite(e, index, entry, err);
}

static int make_new(
	const struct edit *e, struct vmimg_qcow2_bitmap_entry *entry, struct vmimg_error *err)
{
	uint64_t unit = vmimg_max(4096, vmimg_min(e->c->q->cluster, 65536));

	unit = e->want->granularity ? e->want->granularity : unit;
	*entry = (struct vmimg_qcow2_bitmap_entry){ .type = QCOW2_BITMAP_DIRTY,
		.flags = e->want->disabled ? 0 : QCOW2_BITMAP_AUTO,
		.granularity_bits = (uint8_t)vmimg_log2(unit),
		.name_size = (uint16_t)strlen(e->want->name) };
	return vmimg_qcow2_bits_new(e->c, entry, err);
}

static int change_all(struct edit *e, struct vmimg_error *err)
{
	struct vmimg_qcow2_new_directory how = { .each = change_one, .ctx = e };
	struct vmimg_qcow2_bitmap_entry entry;

	if (e->want && e->want->act == VMIMG_BITMAP_ADD) {
		if (make_new(e, &entry, err))
			return -1;
		how.more = &entry;
		how.name = e->want->name;
	}
	return vmimg_qcow2_write_directory(e->c, &how, err);
}

int vmimg_qcow2_resize_bitmaps(struct vmimg_qcow2_change *c, bool other, struct vmimg_error *err)
{
	struct edit e = { .c = c, .other = other };

	return c->has_bitmaps && c->bitmaps.count ? change_all(&e, err) : 0;
}

/* ---- what can be asked for ---- */

static const struct vmimg_bitmap *find(
	const struct vmimg_disk *disk, const char *name, struct vmimg_error *err)
{
	for (size_t i = 0; i < disk->bitmap_count; i++)
		if (!strcmp(disk->bitmaps[i].name, name))
			return &disk->bitmaps[i];
	(void)!vmimg_fail(err, VMIMG_EINVAL, "Dirty bitmap '%.60s' not found", name);
	return NULL;
}

static int check_usable(const struct vmimg_bitmap *bitmap, struct vmimg_error *err)
{
	return bitmap->in_use ? vmimg_fail(err, VMIMG_EREFUSED,
					"Bitmap '%.60s' is inconsistent and cannot be used: "
					"remove it",
					bitmap->name)
			      : 0;
}

static int check_merge(struct edit *e, struct vmimg_error *err)
{
	struct vmimg_disk *from = e->want->source_disk;
	const struct vmimg_bitmap *source = find(from, e->want->source, err);

	if (!source || check_usable(source, err))
		return -1;
	e->source = (size_t)(source - from->bitmaps);
	return from->size == e->c->disk->size
		? 0
		: vmimg_fail(err, VMIMG_EINVAL,
			  "Bitmaps are of different sizes (destination size is %" PRIu64
			  ", source size is %" PRIu64 ") and can't be merged",
			  e->c->disk->size, from->size);
}

static int check_new(const struct edit *e, struct vmimg_error *err)
{
	uint64_t unit = e->want->granularity;

	for (size_t i = 0; i < e->c->disk->bitmap_count; i++)
		if (!strcmp(e->c->disk->bitmaps[i].name, e->want->name))
			return vmimg_fail(
				err, VMIMG_EINVAL, "Bitmap already exists: %.60s", e->want->name);
	if (!*e->want->name)
		return vmimg_fail(err, VMIMG_EINVAL, "Bitmap name cannot be empty");
	if (strlen(e->want->name) > 1023)
		return vmimg_fail(err, VMIMG_EINVAL, "Bitmap name is too long");
	if (unit && (unit & (unit - 1) || unit < 512 || unit > UINT64_C(1) << 31))
		return vmimg_fail(
			err, VMIMG_EINVAL, "Granularity must be power of 2 and at least 512");
	return 0;
}

static int check(struct edit *e, struct vmimg_error *err)
{
	const struct vmimg_bitmap *bitmap;

	if (e->c->q->header.version < 3)
		return vmimg_fail(
			err, VMIMG_EUNSUPPORTED, "Cannot store dirty bitmaps in qcow2 v2 files");
	if (vmimg_qcow2_check_directory(e->c, err))
		return -1;
	if (e->want->act == VMIMG_BITMAP_ADD)
		return check_new(e, err);
	bitmap = find(e->c->disk, e->want->name, err);
	if (!bitmap || (e->want->act != VMIMG_BITMAP_REMOVE && check_usable(bitmap, err)))
		return -1;
	return e->want->act == VMIMG_BITMAP_MERGE ? check_merge(e, err) : 0;
}

int vmimg_qcow2_bitmap(
	struct vmimg_disk *disk, const struct vmimg_bitmap_change *want, struct vmimg_error *err)
{
	struct vmimg_qcow2_change c;
	struct edit e = { .c = &c, .want = want };
	int failed = vmimg_qcow2_change_begin(&c, disk, err);

	if (!failed)
		failed = check(&e, err) || change_all(&e, err) ||
			vmimg_qcow2_change_commit(&c, err) || vmimg_qcow2_give_back(&c, err);
	vmimg_qcow2_change_done(&c);
	return failed ? -1 : 0;
}
