/* SPDX-License-Identifier: Apache-2.0 */
/* The bits of one persistent bitmap, and the table that says where they are. */
#include <inttypes.h>
#include <string.h>
#include "format/qcow2/bitmaps.h"
#include "util/num.h"

#define MAX_TABLE (UINT64_C(32) << 20) /* bytes in memory */

static uint64_t table_bytes(uint32_t entries)
{
	return (uint64_t)entries * 8;
}

static uint64_t per_cluster(const struct vmimg_qcow2_bits *b)
{
	return (uint64_t)b->c->q->cluster * 8;
}

static uint32_t entries_for(const struct vmimg_qcow2_change *c, uint64_t bits)
{
	return (uint32_t)vmimg_min(UINT32_MAX, vmimg_div_up(bits, (uint64_t)c->q->cluster * 8));
}

static const struct vmimg_qcow2_bitmap_place *place_of(const struct vmimg_qcow2_bits *b)
{
	return &b->c->q->bitmap_places[b->index];
}

int vmimg_qcow2_bits_open(struct vmimg_qcow2_bits *b, struct vmimg_qcow2_change *c, size_t index,
	struct vmimg_error *err)
{
	const struct vmimg_bitmap *bitmap = &c->disk->bitmaps[index];
	uint32_t room;

	*b = (struct vmimg_qcow2_bits){ .c = c, .index = index, .at = UINT64_MAX };
	b->count = vmimg_div_up(c->header.size, bitmap->granularity);
	b->entries = entries_for(c, b->count);
	room = (uint32_t)vmimg_max(vmimg_max(b->entries, place_of(b)->entries), 1);
	if (table_bytes(room) > MAX_TABLE)
		return vmimg_fail(err, VMIMG_ELIMIT,
			"bitmap '%.60s' has a table of %" PRIu32
			" entries, more than is changed in place",
			bitmap->name, room);
	b->table = vmimg_alloc_array(room, 8, err);
	b->now = vmimg_alloc_buffer(c->q->cluster, err);
	b->old = vmimg_alloc_buffer(c->q->cluster, err);
	return b->table && b->now && b->old &&
			!vmimg_io_pread(c->io, b->table, (size_t)table_bytes(place_of(b)->entries),
				place_of(b)->table, err)
		? 0
		: -1;
}

void vmimg_qcow2_bits_done(struct vmimg_qcow2_bits *b)
{
	free(b->table);
	free(b->now);
	free(b->old);
}

static int leave(struct vmimg_qcow2_bits *b, struct vmimg_error *err)
{
	uint32_t cluster = b->c->q->cluster;
	uint64_t at = b->at, count, value;

	b->at = UINT64_MAX;
	if (at == UINT64_MAX || !memcmp(b->now, b->old, cluster))
		return 0;
	count = vmimg_min(per_cluster(b), b->count - at * per_cluster(b));
	value = vmimg_get_be64(b->table + at * 8) & QCOW2_OFFSET;
	if (value && vmimg_qcow2_change_drop(b->c, value, cluster, err))
		return -1;
	if (!vmimg_qcow2_bits_alike(b->now, (size_t)vmimg_div_up(count, 8), &value) &&
		(vmimg_qcow2_change_take(b->c, 1, &value, err) ||
			vmimg_io_pwrite(b->c->io, b->now, cluster, value, err)))
		return -1;
	vmimg_put_be64(b->table + at * 8, value);
	return 0;
}

int vmimg_qcow2_bits_load(struct vmimg_qcow2_bits *b, uint64_t at, struct vmimg_error *err)
{
	uint64_t per = per_cluster(b), first = at * per, known;
	struct vmimg_disk *disk = b->c->disk;
	uint32_t cluster = b->c->q->cluster;

	if (b->at == at)
		return 0;
	if (leave(b, err))
		return -1;
	known = disk->bitmaps[b->index].bits;
	known = known > first ? vmimg_min(per, known - first) : 0;
	memset(b->old, 0, cluster);
	if (known && vmimg_qcow2_bitmap_read(disk, b->index, first, per, b->old, err))
		return -1;
	memcpy(b->now, b->old, cluster);
	vmimg_qcow2_bits_end(b->now, cluster, vmimg_min(known, b->count - first));
	b->at = at;
	return 0;
}

void vmimg_qcow2_bits_set(struct vmimg_qcow2_bits *b, uint64_t first, uint64_t end)
{
	uint64_t from = b->at * per_cluster(b), to = vmimg_min(from + per_cluster(b), b->count);

	first = vmimg_max(first, from) - from;
	end = vmimg_min(end, to) - vmimg_min(from, vmimg_min(end, to));
	for (; first < end && (first % 8 || end - first < 8); first++)
		b->now[first / 8] |= (uint8_t)(1U << first % 8);
	if (first < end)
		memset(b->now + first / 8, 0xff, (size_t)(end / 8 - first / 8));
	for (first = vmimg_max(first, end & ~UINT64_C(7)); first < end; first++)
		b->now[first / 8] |= (uint8_t)(1U << first % 8);
}

static int drop_from(struct vmimg_qcow2_bits *b, uint64_t from, struct vmimg_error *err)
{
	const struct vmimg_qcow2_bitmap_place *place = place_of(b);

	for (uint64_t i = from; i < place->entries; i++) {
		uint64_t at = vmimg_get_be64(b->table + i * 8) & QCOW2_OFFSET;

		if (at && vmimg_qcow2_change_drop(b->c, at, b->c->q->cluster, err))
			return -1;
	}
	return place->entries
		? vmimg_qcow2_change_count(b->c, place->table, table_bytes(place->entries), -1, err)
		: 0;
}

/* A new table for the entry. */
static int write_table(struct vmimg_qcow2_change *c, const uint8_t *table, uint32_t entries,
	struct vmimg_qcow2_bitmap_entry *entry, struct vmimg_error *err)
{
	entry->table_size = entries;
	entry->table_offset = 0;
	if (!entries)
		return 0;
	return vmimg_qcow2_change_take(c, vmimg_div_up(table_bytes(entries), c->q->cluster),
		       &entry->table_offset, err) ||
			vmimg_io_pwrite(c->io, table, (size_t)table_bytes(entries),
				entry->table_offset, err)
		? -1
		: 0;
}

int vmimg_qcow2_bits_finish(
	struct vmimg_qcow2_bits *b, struct vmimg_qcow2_bitmap_entry *entry, struct vmimg_error *err)
{
	return leave(b, err) || drop_from(b, b->entries, err) ||
			write_table(b->c, b->table, b->entries, entry, err)
		? -1
		: 0;
}

int vmimg_qcow2_bits_drop(struct vmimg_qcow2_bits *b, struct vmimg_error *err)
{
	return drop_from(b, 0, err);
}

int vmimg_qcow2_bits_new(struct vmimg_qcow2_change *c, struct vmimg_qcow2_bitmap_entry *entry,
	struct vmimg_error *err)
{
	uint64_t unit = UINT64_C(1) << entry->granularity_bits;
	uint32_t entries = entries_for(c, vmimg_div_up(c->header.size, unit));
	VMIMG_AUTO(free) uint8_t *table = NULL;

	if (table_bytes(entries) > MAX_TABLE)
		return vmimg_fail(err, VMIMG_ELIMIT,
			"a bitmap of granularity %" PRIu64 " would need a table of %" PRIu32
			" entries: a larger one will do",
			unit, entries);
	table = vmimg_alloc_array(entries ? entries : 1, 8, err);
	return table ? write_table(c, table, entries, entry, err) : -1;
}
