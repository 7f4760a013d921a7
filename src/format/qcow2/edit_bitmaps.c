/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Changing the persistent bitmaps. What of a bitmap changes goes to free clusters, and so does its
 * table; the directory is written anew, and the extension in the header turns to it (change.h).
 */
#include <inttypes.h>
#include <string.h>
#include "disk/edit.h"
#include "format/qcow2/change.h"
#include "util/num.h"

#define MAX_TABLE  (UINT64_C(32) << 20) /* bytes of a bitmap's table in memory */
#define WINDOW     4096U                /* bytes of a source's bits at a time */
#define ENTRY_SIZE 24U

struct edit {
	struct vmimg_qcow2_change *c;
	const struct vmimg_bitmap_change *want; /* NULL: the disk's size changes */
	size_t source;                          /* which of source_disk's */
	uint8_t *directory;                     /* as it shall be */
	size_t len, cap;
	uint32_t count;
	uint8_t *bits, *before; /* a cluster */
};

static uint64_t table_bytes(uint32_t entries)
{
	return (uint64_t)entries * 8;
}

/* ---- bits ---- */

/* Bits of the source, one for each granule, into those that begin with bit first. */
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
		for (uint64_t i = 0; i < step; i++) {
			uint64_t low, high;

			if (!(window[i / 8] >> i % 8 & 1))
				continue;
			low = (at + i) * source->granularity / granularity;
			high = vmimg_div_up((at + i + 1) * source->granularity, granularity);
			high = vmimg_min(high, first + count);
			for (low = vmimg_max(low, first); low < high; low++)
				e->bits[(low - first) / 8] |= (uint8_t)(1U << (low - first) % 8);
		}
	}
	return 0;
}

/* A cluster of a bitmap: *value is what the table said of it, and says then. */
static int change_bits(struct edit *e, size_t index, uint64_t first, uint64_t bits_now,
	uint64_t *value, struct vmimg_error *err)
{
	struct vmimg_disk *disk = e->c->disk;
	const struct vmimg_bitmap *bitmap = &disk->bitmaps[index];
	uint32_t cluster = e->c->q->cluster;
	uint64_t per = (uint64_t)cluster * 8, old = *value & QCOW2_OFFSET;
	uint64_t count = vmimg_min(per, bits_now - first), known;
	enum vmimg_bitmap_act act = e->want ? e->want->act : VMIMG_BITMAP_MERGE;

	memset(e->before, 0, cluster);
	known = bitmap->bits > first ? vmimg_min(per, bitmap->bits - first) : 0;
	if (known && vmimg_qcow2_bitmap_read(disk, index, first, per, e->before, err))
		return -1;
	memcpy(e->bits, e->before, cluster);
	vmimg_qcow2_bits_end(
		e->bits, cluster, act == VMIMG_BITMAP_CLEAR ? 0 : vmimg_min(known, count));
	if (e->want && act == VMIMG_BITMAP_MERGE &&
		merge_bits(e, bitmap->granularity, first, count, err))
		return -1;
	if (!memcmp(e->bits, e->before, cluster))
		return 0;
	if (old && vmimg_qcow2_change_drop(e->c, old, cluster, err))
		return -1;
	if (vmimg_qcow2_bits_alike(e->bits, (size_t)vmimg_div_up(count, 8), value))
		return 0;
	return vmimg_qcow2_change_take(e->c, 1, value, err) ||
			vmimg_io_pwrite(e->c->io, e->bits, cluster, *value, err)
		? -1
		: 0;
}

/* ---- tables ---- */

static int read_table(
	struct edit *e, size_t index, uint8_t **table, uint32_t room, struct vmimg_error *err)
{
	const struct vmimg_qcow2_bitmap_place *place = &e->c->q->bitmap_places[index];

	room = (uint32_t)vmimg_max(vmimg_max(room, place->entries), 1);
	if (table_bytes(room) > MAX_TABLE)
		return vmimg_fail(err, VMIMG_ELIMIT,
			"bitmap '%.60s' has a table of %" PRIu32
			" entries, more than is changed in place",
			e->c->disk->bitmaps[index].name, room);
	*table = vmimg_alloc_array(room, 8, err);
	return !*table ||
			vmimg_io_pread(e->c->io, *table, (size_t)table_bytes(place->entries),
				place->table, err)
		? -1
		: 0;
}

/* A new table for the entry. */
static int write_table(struct edit *e, const uint8_t *table, uint32_t entries,
	struct vmimg_qcow2_bitmap_entry *entry, struct vmimg_error *err)
{
	uint64_t clusters = vmimg_div_up(table_bytes(entries), e->c->q->cluster);

	entry->table_size = entries;
	entry->table_offset = 0;
	if (!entries)
		return 0;
	return vmimg_qcow2_change_take(e->c, clusters, &entry->table_offset, err) ||
			vmimg_io_pwrite(e->c->io, table, (size_t)table_bytes(entries),
				entry->table_offset, err)
		? -1
		: 0;
}

static int drop_bits(
	struct edit *e, const uint8_t *table, uint64_t from, uint64_t to, struct vmimg_error *err)
{
	for (uint64_t i = from; i < to; i++) {
		uint64_t at = vmimg_get_be64(table + i * 8) & QCOW2_OFFSET;

		if (at && vmimg_qcow2_change_drop(e->c, at, e->c->q->cluster, err))
			return -1;
	}
	return 0;
}

static uint32_t entries_for(const struct edit *e, uint64_t size, unsigned granularity_bits)
{
	return (uint32_t)vmimg_min(UINT32_MAX,
		vmimg_div_up(size, ((uint64_t)e->c->q->cluster * 8) << granularity_bits));
}

/* Bits and table of a bitmap for the disk's new size; all: they go. */
static int rewrite(struct edit *e, size_t index, struct vmimg_qcow2_bitmap_entry *entry, bool all,
	struct vmimg_error *err)
{
	const struct vmimg_qcow2_bitmap_place *place = &e->c->q->bitmap_places[index];
	uint64_t size = e->c->header.size, per = (uint64_t)e->c->q->cluster * 8, value;
	uint32_t entries = all ? 0 : entries_for(e, size, entry->granularity_bits);
	VMIMG_AUTO(free) uint8_t *table = NULL;

	if (read_table(e, index, &table, entries, err) ||
		drop_bits(e, table, entries, place->entries, err))
		return -1;
	for (uint32_t i = 0; i < entries; i++) {
		value = vmimg_get_be64(table + i * UINT64_C(8));
		if (change_bits(e, index, i * per,
			    vmimg_div_up(size, UINT64_C(1) << entry->granularity_bits), &value,
			    err))
			return -1;
		vmimg_put_be64(table + i * UINT64_C(8), value);
	}
	if (place->entries &&
		vmimg_qcow2_change_count(e->c, place->table, table_bytes(place->entries), -1, err))
		return -1;
	return all ? 0 : write_table(e, table, entries, entry, err);
}

/* ---- the directory ---- */

static int append(struct edit *e, const struct vmimg_qcow2_bitmap_entry *entry, const void *rest,
	struct vmimg_error *err)
{
	size_t len = ENTRY_SIZE + (size_t)entry->extra_size + entry->name_size;
	size_t size = (size_t)vmimg_align_up(len, 8);

	if (e->len + size > QCOW2_MAX_BITMAP_DIRECTORY || e->count == QCOW2_MAX_BITMAPS)
		return vmimg_fail(err, VMIMG_ELIMIT, "there are %" PRIu32 " bitmaps", e->count);
	if (vmimg_grow_array(&e->directory, &e->cap, e->len + size, 1, err))
		return -1;
	memset(e->directory + e->len, 0, size);
	vmimg_qcow2_bitmap_entry_encode(entry, e->directory + e->len);
	memcpy(e->directory + e->len + ENTRY_SIZE, rest, len - ENTRY_SIZE);
	e->len += size;
	e->count++;
	return 0;
}

/* What becomes of a bitmap that there is; *gone: nothing. */
static int change_one(struct edit *e, size_t index, struct vmimg_qcow2_bitmap_entry *entry,
	bool *gone, struct vmimg_error *err)
{
	*gone = false;
	if (!e->want)
		return rewrite(e, index, entry, false, err);
	if (strcmp(e->want->name, e->c->disk->bitmaps[index].name))
		return 0;
	switch (e->want->act) {
	case VMIMG_BITMAP_ADD:
		return vmimg_fail(err, VMIMG_EINVAL, "Bitmap already exists: %.60s", e->want->name);
	case VMIMG_BITMAP_REMOVE:
		*gone = true;
		return rewrite(e, index, entry, true, err);
	case VMIMG_BITMAP_ENABLE:
		entry->flags |= QCOW2_BITMAP_AUTO;
		return 0;
	case VMIMG_BITMAP_DISABLE:
		entry->flags &= ~QCOW2_BITMAP_AUTO;
		return 0;
	case VMIMG_BITMAP_CLEAR:
	case VMIMG_BITMAP_MERGE:
		break;
	}
	return rewrite(e, index, entry, false, err);
}

static int add_new(struct edit *e, struct vmimg_error *err)
{
	uint64_t unit = vmimg_max(4096, vmimg_min(e->c->q->cluster, 65536));
	struct vmimg_qcow2_bitmap_entry entry = { .type = QCOW2_BITMAP_DIRTY,
		.flags = e->want->disabled ? 0 : QCOW2_BITMAP_AUTO,
		.name_size = (uint16_t)strlen(e->want->name) };
	VMIMG_AUTO(free) uint8_t *table = NULL;
	uint32_t entries;

	unit = e->want->granularity ? e->want->granularity : unit;
	entry.granularity_bits = (uint8_t)vmimg_log2(unit);
	entries = entries_for(e, e->c->header.size, entry.granularity_bits);
	if (table_bytes(entries) > MAX_TABLE)
		return vmimg_fail(err, VMIMG_ELIMIT,
			"a bitmap of granularity %" PRIu64 " would need a table of %" PRIu32
			" entries: a larger one will do",
			unit, entries);
	table = vmimg_alloc_array(entries ? entries : 1, 8, err);
	return !table || write_table(e, table, entries, &entry, err) ||
			append(e, &entry, e->want->name, err)
		? -1
		: 0;
}

/* All bitmaps, as they shall be. */
static int walk(struct edit *e, const uint8_t *old, struct vmimg_error *err)
{
	for (size_t i = 0, at = 0; i < e->c->disk->bitmap_count; i++) {
		struct vmimg_qcow2_bitmap_entry entry;
		const uint8_t *rest = old + at + ENTRY_SIZE;
		bool gone;

		vmimg_qcow2_bitmap_entry_decode(&entry, old + at);
		at = (size_t)vmimg_align_up(
			at + ENTRY_SIZE + entry.extra_size + entry.name_size, 8);
		if (change_one(e, i, &entry, &gone, err) || (!gone && append(e, &entry, rest, err)))
			return -1;
	}
	return e->want && e->want->act == VMIMG_BITMAP_ADD ? add_new(e, err) : 0;
}

static int write_directory(struct edit *e, struct vmimg_error *err)
{
	struct vmimg_qcow2_change *c = e->c;
	uint64_t size = c->bitmaps.directory_size;

	if (c->has_bitmaps && size &&
		vmimg_qcow2_change_count(c, c->bitmaps.directory, size, -1, err))
		return -1;
	c->new_head = true;
	c->has_bitmaps = e->count;
	c->header.autoclear &= ~QCOW2_AUTOCLEAR_BITMAPS;
	if (!e->count)
		return 0;
	c->header.autoclear |= QCOW2_AUTOCLEAR_BITMAPS;
	c->bitmaps = (struct vmimg_qcow2_bitmaps){ .count = e->count, .directory_size = e->len };
	return vmimg_qcow2_change_take(
		       c, vmimg_div_up(e->len, c->q->cluster), &c->bitmaps.directory, err) ||
			vmimg_io_pwrite(c->io, e->directory, e->len, c->bitmaps.directory, err)
		? -1
		: 0;
}

static int change_all(struct edit *e, struct vmimg_error *err)
{
	struct vmimg_qcow2_change *c = e->c;
	size_t size = c->has_bitmaps ? (size_t)c->bitmaps.directory_size : 0;
	VMIMG_AUTO(free) uint8_t *old = NULL;

	if (c->has_bitmaps && c->disk->bitmap_count != c->bitmaps.count)
		return vmimg_fail(err, VMIMG_EUNSUPPORTED,
			"its bitmaps are out of date or cannot be read: repair it first");
	old = vmimg_alloc_array(size + 8, 1, err); /* its last entry may lack the padding */
	e->bits = vmimg_alloc_buffer(c->q->cluster, err);
	e->before = vmimg_alloc_buffer(c->q->cluster, err);
	if (!old || !e->bits || !e->before ||
		(size && vmimg_io_pread(c->io, old, size, c->bitmaps.directory, err)))
		return -1;
	return walk(e, old, err) ? -1 : write_directory(e, err);
}

static int change_and_free(struct edit *e, struct vmimg_error *err)
{
	int failed = change_all(e, err);

	free(e->directory);
	free(e->bits);
	free(e->before);
	return failed;
}

int vmimg_qcow2_resize_bitmaps(struct vmimg_qcow2_change *c, struct vmimg_error *err)
{
	struct edit e = { .c = c };

	return c->has_bitmaps && c->bitmaps.count ? change_and_free(&e, err) : 0;
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
		failed = check(&e, err) || change_and_free(&e, err) ||
			vmimg_qcow2_change_commit(&c, err) || vmimg_qcow2_give_back(&c, err);
	vmimg_qcow2_change_done(&c);
	return failed ? -1 : 0;
}
