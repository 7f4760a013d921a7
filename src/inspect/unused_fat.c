/* SPDX-License-Identifier: Apache-2.0 */
/* FAT12, FAT16 and FAT32: entries of the table that are 0. All copies of the table must agree. */
#include <inttypes.h>
#include <string.h>
#include "inspect/fat.h"
#include "inspect/unused.h"
#include "util/bytes.h"
#include "util/num.h"
#include "util/zero.h"

#define CHUNK       16384U /* entries looked at together */
#define CHUNK_BYTES (CHUNK * 4 + 4)
#define NO_MIRROR   0x80U /* FAT32: only one of the copies is kept up */

struct tables {
	struct vmimg_io *io;
	struct vmimg_fat_shape shape;
	unsigned copies;
	uint64_t copy_len;
	uint8_t *bytes, *other, *bits; /* of one chunk */
};

static uint32_t entry(const struct tables *t, const uint8_t *bytes, uint32_t i)
{
	uint32_t value;

	switch (t->shape.bits) {
	case 32:
		return vmimg_get_le32(bytes + 4 * (size_t)i) & 0x0fffffff;
	case 16:
		return vmimg_get_le16(bytes + 2 * (size_t)i);
	default:
		value = vmimg_get_le16(bytes + (size_t)i * 3 / 2);
		return (i & 1 ? value >> 4 : value) & 0xfff;
	}
}

/* The entries from first on (an even number) into bytes, the same in every copy. */
static int read_chunk(struct tables *t, uint32_t first, uint32_t count, struct vmimg_error *err)
{
	uint64_t at = (uint64_t)first * t->shape.bits / 8;
	size_t len = (size_t)vmimg_div_up((uint64_t)count * t->shape.bits, 8);

	memset(t->bytes + len, 0, 4);
	if (vmimg_io_pread(t->io, t->bytes, len, t->shape.fat_at + at, err))
		return -1;
	for (unsigned i = 1; i < t->copies; i++) {
		if (vmimg_io_pread(
			    t->io, t->other, len, t->shape.fat_at + i * t->copy_len + at, err))
			return -1;
		if (memcmp(t->bytes, t->other, len))
			return vmimg_fail(err, VMIMG_ECORRUPT,
				"the copies of the table differ near entry %u: check it with "
				"fsck.fat",
				first);
	}
	return 0;
}

/* The first two entries stand for no cluster: the medium, and marks of an unclean end. */
static int judge_head(const struct tables *t, const uint8_t *sector, struct vmimg_error *err)
{
	unsigned bits = t->shape.bits;
	uint32_t ones = 0x0fffffff >> (bits == 32 ? 0 : 28 - bits);
	uint32_t clean = bits == 12 ? 0 : UINT32_C(3) << (bits == 32 ? 26 : 14);

	if (entry(t, t->bytes, 0) != ((ones & ~0xffU) | sector[21]))
		return vmimg_fail(err, VMIMG_ECORRUPT, "the table does not begin as one does");
	if ((entry(t, t->bytes, 1) & clean) != clean || sector[bits == 32 ? 65 : 37] & 3)
		return vmimg_fail(err, VMIMG_EREFUSED,
			"it was not unmounted, or has errors: check it with fsck.fat");
	return 0;
}

static void mark_used(struct tables *t, uint32_t skip, uint32_t count)
{
	for (uint32_t i = skip; i < count; i++)
		if (entry(t, t->bytes, i))
			t->bits[(i - skip) / 8] |= (uint8_t)(1U << (i - skip) % 8);
}

static int walk(struct tables *t, const uint8_t *sector, struct vmimg_unused_sink *sink,
	struct vmimg_error *err)
{
	const struct vmimg_fat_shape *shape = &t->shape;
	uint32_t end = shape->clusters + 2, count, root = shape->root_cluster;
	bool has_root = shape->bits != 32;
	uint64_t clear = 0;

	for (uint32_t first = 0; first < end; first += count) {
		uint32_t skip = first ? 0 : 2;

		count = (uint32_t)vmimg_min(CHUNK, end - first);
		if (read_chunk(t, first, count, err) || (!first && judge_head(t, sector, err)))
			return -1;
		has_root |= root >= 2 && root - first < count && entry(t, t->bytes, root - first);
		memset(t->bits, 0, CHUNK / 8);
		if (!vmimg_is_zero(t->bytes, CHUNK_BYTES))
			mark_used(t, skip, count);
		if (vmimg_unused_add_bits(sink, t->bits, count - skip,
			    shape->data_at + (uint64_t)(first + skip - 2) * shape->cluster,
			    shape->cluster, &clear, err))
			return -1;
	}
	return has_root ? 0 : vmimg_fail(err, VMIMG_ECORRUPT, "not even the root folder is in use");
}

int vmimg_unused_fat(struct vmimg_io *io, struct vmimg_unused_sink *sink, struct vmimg_error *err)
{
	VMIMG_AUTO(free) uint8_t *memory = vmimg_alloc_array(2, CHUNK_BYTES + CHUNK / 8, err);
	struct tables t = { .io = io, .bytes = memory };
	uint8_t sector[512];

	if (!memory || vmimg_io_pread(io, sector, sizeof(sector), 0, err))
		return -1;
	t.other = memory + CHUNK_BYTES;
	t.bits = t.other + CHUNK_BYTES;
	/* a second line of defence: it is not recognised otherwise */
	if (!vmimg_fat_parse(sector, &t.shape))
		return vmimg_fail(err, VMIMG_EFORMAT, "no FAT file system");
	if (!vmimg_range_inside(0, t.shape.size, vmimg_io_size(io)))
		return vmimg_fail(err, VMIMG_ECORRUPT,
			"the file system (0x%" PRIx64 " bytes) is larger than where it lies",
			t.shape.size);
	if (t.shape.bits == 32 && vmimg_get_le16(sector + 40) & NO_MIRROR)
		return vmimg_fail(err, VMIMG_EUNSUPPORTED, "its tables are not copies");
	t.copies = sector[16];
	t.copy_len = (t.shape.root_at - t.shape.fat_at) / t.copies;
	return walk(&t, sector, sink, err);
}
