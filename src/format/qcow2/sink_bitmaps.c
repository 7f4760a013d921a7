/* SPDX-License-Identifier: Apache-2.0 */
/* Carrying the source's bitmaps into the new image. */
#include <inttypes.h>
#include <string.h>
#include "format/qcow2/sink.h"
#include "util/num.h"

/* Writes one cluster of bits; *entry is what the bitmap's table says of it. */
static int write_bits(struct vmimg_qcow2_sink *s, const uint8_t *bits, size_t len, uint64_t *entry,
	struct vmimg_error *err)
{
	uint64_t at;

	if (vmimg_qcow2_bits_alike(bits, len, entry))
		return 0;
	if (vmimg_qcow2_tail_cluster(&s->tail, &at, err))
		return -1;
	*entry = at;
	return vmimg_io_pwrite(s->io, bits, s->cluster, at, err);
}

static int write_bitmap(struct vmimg_qcow2_sink *s, struct vmimg_disk *disk, size_t index,
	struct vmimg_qcow2_bitmap_entry *entry, struct vmimg_error *err)
{
	const struct vmimg_bitmap *bitmap = &disk->bitmaps[index];
	uint64_t per_cluster = (uint64_t)s->cluster * 8, value;
	VMIMG_AUTO(free) uint8_t *bits = vmimg_alloc_array(s->cluster, 1, err);
	VMIMG_AUTO(free) uint8_t *table = NULL;

	entry->table_size = (uint32_t)vmimg_div_up(bitmap->bits, per_cluster);
	table = vmimg_alloc_array(entry->table_size, 8, err);
	if (!bits || !table)
		return -1;
	for (uint32_t i = 0; i < entry->table_size; i++) {
		uint64_t count = vmimg_min(per_cluster, bitmap->bits - i * per_cluster);

		if (disk->format->bitmap_read(disk, index, i * per_cluster, count, bits, err))
			return -1;
		vmimg_qcow2_bits_end(bits, s->cluster, count);
		if (write_bits(s, bits, (size_t)vmimg_div_up(count, 8), &value, err))
			return -1;
		vmimg_put_be64(table + i * 8, value);
	}
	if (vmimg_qcow2_tail_clusters(&s->tail,
		    vmimg_div_up((uint64_t)entry->table_size * 8, s->cluster), &entry->table_offset,
		    err))
		return -1;
	return vmimg_io_pwrite(
		s->io, table, (size_t)entry->table_size * 8, entry->table_offset, err);
}

static int add_to_directory(uint8_t **directory, size_t *cap, size_t *len,
	const struct vmimg_qcow2_bitmap_entry *entry, const char *name, struct vmimg_error *err)
{
	size_t size = (size_t)vmimg_align_up(24U + entry->name_size, 8);

	if (vmimg_grow_array(directory, cap, *len + size, 1, err))
		return -1;
	memset(*directory + *len, 0, size);
	vmimg_qcow2_bitmap_entry_encode(entry, *directory + *len);
	memcpy(*directory + *len + 24, name, entry->name_size);
	*len += size;
	return 0;
}

int vmimg_qcow2_carry_bitmaps(
	struct vmimg_sink *sink, struct vmimg_disk *disk, struct vmimg_error *err)
{
	struct vmimg_qcow2_sink *s = (struct vmimg_qcow2_sink *)sink;
	VMIMG_AUTO(free) uint8_t *directory = NULL;
	size_t cap = 0, len = 0;

	if (s->header.version < 3)
		return vmimg_fail(err, VMIMG_EUNSUPPORTED, "compat=0.10 has no bitmaps");
	s->tail.packed_at = 0;
	for (size_t i = 0; i < disk->bitmap_count; i++) {
		const struct vmimg_bitmap *bitmap = &disk->bitmaps[i];
		struct vmimg_qcow2_bitmap_entry entry = { .type = QCOW2_BITMAP_DIRTY,
			.flags = bitmap->enabled ? QCOW2_BITMAP_AUTO : 0,
			.granularity_bits = (uint8_t)vmimg_log2(bitmap->granularity),
			.name_size = (uint16_t)strlen(bitmap->name) };

		if (bitmap->in_use)
			continue;
		if (write_bitmap(s, disk, i, &entry, err) ||
			add_to_directory(&directory, &cap, &len, &entry, bitmap->name, err))
			return -1;
		s->bitmaps.count++;
	}
	if (!len)
		return 0;
	s->bitmaps.directory_size = len;
	if (vmimg_qcow2_tail_clusters(
		    &s->tail, vmimg_div_up(len, s->cluster), &s->bitmaps.directory, err))
		return -1;
	return vmimg_io_pwrite(s->io, directory, len, s->bitmaps.directory, err);
}

bool vmimg_qcow2_measure_bitmaps(
	const struct vmimg_sink *sink, const struct vmimg_disk *disk, uint64_t *bytes)
{
	const struct vmimg_qcow2_sink *s = (const struct vmimg_qcow2_sink *)sink;
	uint64_t directory = 0, clusters = 0;

	if (s->header.version < 3)
		return false;
	for (size_t i = 0; i < disk->bitmap_count; i++) {
		const struct vmimg_bitmap *bitmap = &disk->bitmaps[i];
		uint64_t bits = vmimg_div_up(bitmap->bits, (uint64_t)s->cluster * 8);

		if (bitmap->in_use)
			continue;
		clusters += bits + vmimg_div_up(bits * 8, s->cluster);
		directory += vmimg_align_up(24U + strlen(bitmap->name), 8);
	}
	*bytes = (clusters + vmimg_div_up(directory, s->cluster)) * s->cluster;
	return true;
}
