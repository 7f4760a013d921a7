/* SPDX-License-Identifier: Apache-2.0 */
/* Persistent bitmaps: the directory, and the bits through their table. */
#include <inttypes.h>
#include <string.h>
#include "format/qcow2/qcow2.h"
#include "util/num.h"
#include "util/zero.h"

static int check_entry(const struct vmimg_disk *disk, const struct vmimg_qcow2_bitmap_entry *entry,
	uint64_t at, struct vmimg_error *err)
{
	const struct vmimg_qcow2 *q = vmimg_qcow2_of(disk);
	uint64_t per_cluster, needed;

	if (entry->type != QCOW2_BITMAP_DIRTY)
		return vmimg_fail(err, VMIMG_EUNSUPPORTED,
			"bitmap at 0x%" PRIx64 " is of type %u, which is not known", at,
			entry->type);
	if (entry->granularity_bits < 9 || entry->granularity_bits > 31 || !entry->name_size ||
		entry->name_size > 1023)
		return vmimg_fail(err, VMIMG_ECORRUPT,
			"bitmap at 0x%" PRIx64 " has granularity 2^%u and a name of %u bytes", at,
			entry->granularity_bits, entry->name_size);
	per_cluster = ((uint64_t)q->cluster * 8) << entry->granularity_bits;
	needed = vmimg_div_up(q->header.size, per_cluster);
	if (entry->table_size != needed || entry->table_offset % q->cluster)
		return vmimg_fail(err, VMIMG_ECORRUPT,
			"bitmap at 0x%" PRIx64 " has a table of %" PRIu32 " entries at 0x%" PRIx64
			", the disk needs %" PRIu64,
			at, entry->table_size, entry->table_offset, needed);
	return 0;
}

static int keep_entry(struct vmimg_disk *disk, const struct vmimg_qcow2_bitmap_entry *entry,
	uint64_t name_at, struct vmimg_error *err)
{
	struct vmimg_qcow2 *q = vmimg_qcow2_of(disk);
	struct vmimg_bitmap *bitmap;
	size_t places = disk->bitmap_cap;

	if (vmimg_grow_array(&disk->bitmaps, &disk->bitmap_cap, disk->bitmap_count + 1,
		    sizeof(*bitmap), err) ||
		vmimg_grow_array(&q->bitmap_places, &places, disk->bitmap_cap,
			sizeof(*q->bitmap_places), err))
		return -1;
	bitmap = &disk->bitmaps[disk->bitmap_count];
	bitmap->name = vmimg_alloc_array((size_t)entry->name_size + 1, 1, err);
	if (!bitmap->name)
		return -1;
	q->bitmap_places[disk->bitmap_count++] =
		(struct vmimg_qcow2_bitmap_place){ entry->table_offset, entry->table_size };
	bitmap->granularity = UINT64_C(1) << entry->granularity_bits;
	bitmap->in_use = entry->flags & QCOW2_BITMAP_IN_USE;
	bitmap->enabled = entry->flags & QCOW2_BITMAP_AUTO;
	bitmap->bits = vmimg_div_up(q->header.size, bitmap->granularity);
	return vmimg_table_read(q->table, bitmap->name, entry->name_size, name_at, err);
}

int vmimg_qcow2_read_bitmaps(struct vmimg_disk *disk, struct vmimg_error *err)
{
	struct vmimg_qcow2 *q = vmimg_qcow2_of(disk);
	uint64_t at = q->bitmaps.directory, end = at + q->bitmaps.directory_size;

	if (!q->has_bitmaps || !(q->header.autoclear & QCOW2_AUTOCLEAR_BITMAPS))
		return 0; /* without the bit, they are out of date by definition */
	if (q->bitmaps.count > QCOW2_MAX_BITMAPS || at % q->cluster ||
		q->bitmaps.directory_size > QCOW2_MAX_BITMAP_DIRECTORY)
		return vmimg_fail(err, VMIMG_ECORRUPT,
			"a directory of %" PRIu32 " bitmaps in %" PRIu64 " bytes at 0x%" PRIx64,
			q->bitmaps.count, q->bitmaps.directory_size, at);
	for (uint32_t i = 0; i < q->bitmaps.count; i++) {
		struct vmimg_qcow2_bitmap_entry entry;
		uint8_t raw[24];
		uint64_t next;

		if (!vmimg_range_inside(at, sizeof(raw), end) ||
			vmimg_table_read(q->table, raw, sizeof(raw), at, err))
			return vmimg_fail(err, VMIMG_ECORRUPT,
				"the bitmap directory ends before bitmap %" PRIu32, i + 1);
		vmimg_qcow2_bitmap_entry_decode(&entry, raw);
		next = at + sizeof(raw) + entry.extra_size + entry.name_size;
		if (next > end)
			return vmimg_fail(err, VMIMG_ECORRUPT,
				"bitmap at 0x%" PRIx64 " reaches past its directory", at);
		if (check_entry(disk, &entry, at, err) ||
			keep_entry(disk, &entry, next - entry.name_size, err))
			return -1;
		at = vmimg_align_up(next, 8);
	}
	return 0;
}

/* Bytes [at, at + len) of a bitmap, all within one cluster of it. */
static int read_piece(struct vmimg_disk *disk, const struct vmimg_qcow2_bitmap_place *place,
	uint64_t at, uint8_t *to, size_t len, struct vmimg_error *err)
{
	struct vmimg_qcow2 *q = vmimg_qcow2_of(disk);
	uint64_t index = at / q->cluster, entry, offset;
	uint8_t raw[8];

	if (index >= place->entries)
		return vmimg_fail(err, VMIMG_EINVAL, "past the end of the bitmap");
	if (vmimg_table_read(q->table, raw, sizeof(raw), place->table + index * 8, err))
		return -1;
	entry = vmimg_get_be64(raw);
	offset = entry & QCOW2_OFFSET;
	if (!offset) {
		memset(to, entry & QCOW2_BITMAP_ALL_ONES ? 0xff : 0, len);
		return 0;
	}
	return vmimg_io_pread(disk->io, to, len, offset + at % q->cluster, err);
}

int vmimg_qcow2_bitmap_read(struct vmimg_disk *disk, size_t index, uint64_t first, uint64_t count,
	uint8_t *bits, struct vmimg_error *err)
{
	const struct vmimg_qcow2 *q = vmimg_qcow2_of(disk);
	uint64_t at = first / 8, end = vmimg_div_up(first + count, 8);

	if (first % 8)
		return vmimg_fail(err, VMIMG_EINVAL, "bitmaps are read from a multiple of 8 bits");
	while (at < end) {
		size_t step = (size_t)vmimg_min(end - at, q->cluster - at % q->cluster);

		if (read_piece(disk, &q->bitmap_places[index], at, bits, step, err))
			return vmimg_within(err, "bitmap %zu", index + 1);
		bits += step;
		at += step;
	}
	return 0;
}

bool vmimg_qcow2_bits_alike(const uint8_t *bits, size_t len, uint64_t *entry)
{
	bool ones = len && bits[0] == 0xff && !memcmp(bits, bits + 1, len - 1);

	*entry = ones ? QCOW2_BITMAP_ALL_ONES : 0;
	return ones || vmimg_is_zero(bits, len);
}

void vmimg_qcow2_bits_end(uint8_t *bits, size_t cap, uint64_t count)
{
	size_t whole = (size_t)(count / 8);

	if (count % 8)
		bits[whole] &= (uint8_t)((1U << count % 8) - 1);
	whole += count % 8 != 0;
	memset(bits + whole, 0, cap - whole);
}
