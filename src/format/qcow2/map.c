/* SPDX-License-Identifier: Apache-2.0 */
/*
 * From a guest offset to a place: L1, L2, cluster, subcluster. Entries are read in batches, and
 * neighbours that continue each other are one run.
 */
#include <inttypes.h>
#include "format/qcow2/qcow2.h"
#include "util/num.h"

#define BATCH 512U /* table entries looked at in one go: 4 or 8 KiB */

/* What one L2 entry says of a stretch of its cluster. */
struct place {
	enum vmimg_run_kind kind;
	bool allocated;
	uint64_t at;
	uint32_t packed;
};

const char *vmimg_qcow2_metadata_at(const struct vmimg_qcow2 *q, uint64_t at, uint64_t len)
{
	const struct {
		const char *what;
		uint64_t at, len;
	} parts[] = {
		{ "the header", 0, q->cluster },
		{ "the L1 table", q->header.l1_offset, (uint64_t)q->header.l1_size * 8 },
		{ "the refcount table", q->header.refcount_table,
			(uint64_t)q->header.refcount_table_clusters << q->header.cluster_bits },
	};

	for (size_t i = 0; i < VMIMG_ARRAY_LEN(parts); i++)
		if (at < parts[i].at + parts[i].len && parts[i].at < at + len)
			return parts[i].what;
	return NULL;
}

void vmimg_qcow2_packed_place(
	const struct vmimg_qcow2 *q, uint64_t entry, uint64_t *at, uint32_t *len)
{
	unsigned bits = 62 - (q->header.cluster_bits - 8);
	uint64_t sectors = (entry & (QCOW2_COMPRESSED - 1)) >> bits;

	*at = entry & ((UINT64_C(1) << bits) - 1);
	*len = (uint32_t)((sectors + 1) * 512 - *at % 512);
}

/* A table or data cluster that cannot be where the entry says. */
static int check_offset(const struct vmimg_qcow2 *q, const char *what, uint64_t offset,
	uint64_t entry_at, bool in_image, struct vmimg_error *err)
{
	const char *hit = in_image ? vmimg_qcow2_metadata_at(q, offset, q->cluster) : NULL;

	if (offset % q->cluster)
		return vmimg_fail(err, VMIMG_ECORRUPT,
			"%s at 0x%" PRIx64 " gives offset 0x%" PRIx64
			", not a multiple of the cluster size",
			what, entry_at, offset);
	if (hit)
		return vmimg_fail(err, VMIMG_ECORRUPT,
			"%s at 0x%" PRIx64 " points into %s (0x%" PRIx64 ")", what, entry_at, hit,
			offset);
	return 0;
}

static int decode_packed(struct vmimg_disk *disk, uint64_t entry, uint64_t entry_at,
	struct place *place, struct vmimg_error *err)
{
	struct vmimg_qcow2 *q = vmimg_qcow2_of(disk);
	uint64_t size = vmimg_io_size(disk->io);

	if (q->external)
		return vmimg_fail(err, VMIMG_ECORRUPT,
			"L2 entry at 0x%" PRIx64
			" is compressed, which an external data file cannot hold",
			entry_at);
	place->kind = VMIMG_RUN_PACKED;
	vmimg_qcow2_packed_place(q, entry, &place->at, &place->packed);
	if (place->at >= size)
		return vmimg_fail(err, VMIMG_ECORRUPT,
			"L2 entry at 0x%" PRIx64 " points past the end of the file (0x%" PRIx64
			", file 0x%" PRIx64 ")",
			entry_at, place->at, size);
	place->packed = (uint32_t)vmimg_min(place->packed, size - place->at);
	return 0;
}

/* sub: which subcluster, when the image has them. */
static int decode_l2(struct vmimg_disk *disk, const uint8_t *raw, uint64_t entry_at, unsigned sub,
	struct place *place, struct vmimg_error *err)
{
	struct vmimg_qcow2 *q = vmimg_qcow2_of(disk);
	uint64_t entry = vmimg_get_be64(raw), offset = entry & QCOW2_OFFSET;
	uint64_t bits = q->extended ? vmimg_get_be64(raw + 8) : 0;
	bool allocated = offset || (q->external && entry & QCOW2_COPIED);
	bool zero = q->extended ? bits >> (32 + sub) & 1 : q->header.version == 3 && entry & 1;

	*place = (struct place){ .kind = VMIMG_RUN_ABSENT };
	if (entry & QCOW2_COMPRESSED)
		return decode_packed(disk, entry, entry_at, place, err);
	if (allocated && check_offset(q, "L2 entry", offset, entry_at, !q->external, err))
		return -1;
	if (q->extended && zero && bits >> sub & 1)
		return vmimg_fail(err, VMIMG_ECORRUPT,
			"L2 entry at 0x%" PRIx64
			" says of subcluster %u that it is zero and allocated",
			entry_at, sub);
	if (q->extended && !allocated && bits & UINT32_MAX)
		return vmimg_fail(err, VMIMG_ECORRUPT,
			"L2 entry at 0x%" PRIx64 " has subclusters, but no cluster", entry_at);
	if (zero)
		place->kind = VMIMG_RUN_ZERO;
	else if (q->extended ? bits >> sub & 1 : allocated)
		place->kind = VMIMG_RUN_DATA;
	place->allocated = allocated;
	place->at = offset + (uint64_t)sub * (q->cluster / QCOW2_SUBCLUSTERS);
	return 0;
}

/* Whether next goes on where the run of len bytes from first ends. */
static bool continues(const struct place *first, const struct place *next, uint64_t len)
{
	if (first->kind != next->kind || first->kind == VMIMG_RUN_PACKED)
		return false;
	if (first->kind == VMIMG_RUN_DATA)
		return next->at == first->at + len;
	return first->kind == VMIMG_RUN_ABSENT || first->allocated == next->allocated;
}

static void fill_run(struct vmimg_disk *disk, const struct place *place, uint64_t skip,
	uint64_t len, struct vmimg_run *run)
{
	struct vmimg_qcow2 *q = vmimg_qcow2_of(disk);

	run->kind = place->kind;
	run->allocated = place->allocated;
	run->len = len - skip;
	run->io = place->kind == VMIMG_RUN_PACKED ? disk->io : q->data;
	run->at = place->at;
	if (place->kind == VMIMG_RUN_PACKED) {
		run->block.codec = q->codec;
		run->block.packed = place->packed;
		run->block.unpacked = q->cluster;
		run->block.skip = (uint32_t)skip;
	} else {
		run->at += skip;
	}
}

/* The run at guest offset at, whose L2 table lies at l2. */
static int map_l2(struct vmimg_disk *disk, uint64_t l2, uint64_t at, struct vmimg_run *run,
	struct vmimg_error *err)
{
	struct vmimg_qcow2 *q = vmimg_qcow2_of(disk);
	unsigned entry_size = q->extended ? 16 : 8, subs = q->extended ? QCOW2_SUBCLUSTERS : 1;
	uint32_t unit = q->cluster / subs;
	uint64_t index = at / q->cluster & ((UINT64_C(1) << q->l2_bits) - 1);
	uint64_t count = vmimg_min((UINT64_C(1) << q->l2_bits) - index, BATCH), len = unit;
	unsigned sub = (unsigned)(at % q->cluster / unit);
	uint8_t raw[BATCH * 16];
	struct place first, next;

	if (vmimg_table_read(
		    q->table, raw, (size_t)(count * entry_size), l2 + index * entry_size, err))
		return vmimg_within(err, "L2 table at 0x%" PRIx64, l2);
	if (decode_l2(disk, raw, l2 + index * entry_size, sub, &first, err))
		return -1;
	if (first.kind == VMIMG_RUN_PACKED) { /* the whole cluster, whatever the subclusters */
		fill_run(disk, &first, at % q->cluster, q->cluster, run);
		return 0;
	}
	for (uint64_t i = sub + 1; i < count * subs; i++, len += unit) {
		uint64_t step = i / subs * entry_size;

		/* what is wrong with a later entry is said when it is asked for */
		if (decode_l2(disk, raw + step, l2 + index * entry_size + step,
			    (unsigned)(i % subs), &next, err) ||
			!continues(&first, &next, len))
			break;
	}
	fill_run(disk, &first, at % unit, len, run);
	return 0;
}

/* How many entries of the L1 table from index on, of most, are in a hole. */
static int l1_hole(const struct vmimg_disk *disk, uint64_t index, uint64_t most, uint64_t *count,
	struct vmimg_error *err)
{
	uint64_t at = vmimg_qcow2_of(disk)->l1_offset + index * 8, len = 0;
	bool hole = false;

	if (most && at < vmimg_io_size(disk->io) && vmimg_io_extent(disk->io, at, &hole, &len, err))
		return -1;
	*count = hole ? vmimg_min(len / 8, most) : 0;
	return 0;
}

/* Guest bytes of the stretch of empty L1 entries from index on. The table may be longer than the
 * disk needs. */
static int empty_l1(
	const struct vmimg_disk *disk, uint64_t index, uint64_t *len, struct vmimg_error *err)
{
	struct vmimg_qcow2 *q = vmimg_qcow2_of(disk);
	uint64_t covers = (uint64_t)q->cluster << q->l2_bits, count;
	uint64_t end = vmimg_min(q->l1_size, vmimg_div_up(disk->size, covers));
	uint8_t raw[BATCH * 8];

	for (*len = 0; index < end; index += count, *len += count * covers) {
		count = vmimg_min(end - index, BATCH);
		if (vmimg_table_read(
			    q->table, raw, (size_t)count * 8, q->l1_offset + index * 8, err))
			return vmimg_within(err, "L1 table");
		for (uint64_t i = 0; i < count; i++, *len += covers)
			if (vmimg_get_be64(raw + i * 8) & QCOW2_OFFSET)
				return 0;
		index += count;
		if (l1_hole(disk, index, end - index, &count, err))
			return -1;
	}
	return 0;
}

uint64_t vmimg_qcow2_needed(const struct vmimg_qcow2 *q, const uint8_t *raw, uint64_t room)
{
	uint64_t entry = vmimg_get_be64(raw), bits;
	uint32_t unit = q->cluster / QCOW2_SUBCLUSTERS;

	if (entry & QCOW2_COMPRESSED)
		return 1; /* where they end is not known */
	if (!q->extended)
		return q->header.version == 3 && entry & QCOW2_ZERO ? 0 : room;
	bits = vmimg_get_be64(raw + 8) & UINT64_C(0xffffffff);
	return bits ? vmimg_min(room, (vmimg_log2(bits) + UINT64_C(1)) * unit) : 0;
}

int vmimg_qcow2_map(
	struct vmimg_disk *disk, uint64_t at, struct vmimg_run *run, struct vmimg_error *err)
{
	struct vmimg_qcow2 *q = vmimg_qcow2_of(disk);
	uint64_t covers = (uint64_t)q->cluster << q->l2_bits, index = at / covers, l2;
	uint64_t l1_entry_at = q->l1_offset + index * 8;
	uint8_t raw[8];

	if (vmimg_table_read(q->table, raw, sizeof(raw), l1_entry_at, err))
		return vmimg_within(err, "L1 table");
	l2 = vmimg_get_be64(raw) & QCOW2_OFFSET;
	if (!l2) {
		run->kind = VMIMG_RUN_ABSENT;
		if (empty_l1(disk, index, &run->len, err))
			return -1;
		run->len -= at % covers;
		return 0;
	}
	if (check_offset(q, "L1 entry", l2, l1_entry_at, true, err)) {
		run->len = covers - at % covers;
		return -1;
	}
	return map_l2(disk, l2, at, run, err);
}
