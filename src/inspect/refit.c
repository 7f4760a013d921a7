/* SPDX-License-Identifier: Apache-2.0 */
/* At any moment one of the GPT's copies is sound: the second is written, and in storage, before the
 * first is touched. */
#include "inspect/refit.h"
#include <inttypes.h>
#include <string.h>
#include <zlib.h>
#include "inspect/gpt.h"
#include "inspect/tables.h"
#include "util/bytes.h"
#include "util/num.h"

#define MBR_ENTRY 16U

/* ---- GPT ---- */

struct gpt {
	struct vmimg_gpt_copy copy;
	uint64_t sectors; /* that the entries take */
	uint64_t end;     /* the last sector, where the second header goes */
};

static bool is_used(const struct gpt_entry *entry)
{
	static const uint8_t unused[16];

	return memcmp(entry->type, unused, 16) != 0;
}

static struct gpt_entry get_entry(const struct gpt *gpt, uint32_t i)
{
	struct gpt_entry entry;

	gpt_entry_decode(&entry, gpt->copy.entries + (size_t)i * gpt->copy.header.entry_size);
	return entry;
}

static int check_inside(const struct gpt *gpt, uint32_t sector, struct vmimg_error *err)
{
	for (uint32_t i = 0; i < gpt->copy.header.count; i++) {
		struct gpt_entry entry = get_entry(gpt, i);

		if (is_used(&entry) && entry.last > gpt->copy.header.last)
			return vmimg_fail(err, VMIMG_EREFUSED,
				"partition %" PRIu32 " ends at %" PRIu64
				", and the second copy of the table needs what follows %" PRIu64,
				i + 1, (entry.last + 1) * sector,
				(gpt->copy.header.last + 1) * sector);
	}
	return 0;
}

/* Up to the next partition, or the last sector that can be used. */
static int grow_entry(struct gpt *gpt, unsigned number, struct vmimg_error *err)
{
	struct gpt_entry entry = { 0 };
	uint64_t end = gpt->copy.header.last;

	if (number <= gpt->copy.header.count)
		entry = get_entry(gpt, number - 1);
	if (!is_used(&entry))
		return vmimg_fail(err, VMIMG_EINVAL, "there is no partition %u", number);
	for (uint32_t i = 0; i < gpt->copy.header.count; i++) {
		struct gpt_entry other = get_entry(gpt, i);

		if (is_used(&other) && other.first > entry.first)
			end = vmimg_min(end, other.first - 1);
	}
	entry.last = vmimg_max(entry.last, end);
	gpt_entry_encode(
		&entry, gpt->copy.entries + (size_t)(number - 1) * gpt->copy.header.entry_size);
	return 0;
}

static int put_copy(struct vmimg_io *io, const struct gpt *gpt, uint32_t sector, bool second,
	struct vmimg_error *err)
{
	struct gpt_header h = gpt->copy.header;
	uint8_t raw[4096] = { 0 };

	if (second) {
		h.here = gpt->end;
		h.other = 1;
		h.entries = gpt->end - gpt->sectors;
	} else {
		h.here = 1;
		h.other = gpt->end;
	}
	h.entries_crc = (uint32_t)crc32(0, gpt->copy.entries, (unsigned)gpt->copy.bytes);
	h.header_crc = 0;
	gpt_header_encode(&h, raw);
	h.header_crc = (uint32_t)crc32(0, raw, h.header_size);
	gpt_header_encode(&h, raw);
	return vmimg_io_pwrite(io, gpt->copy.entries, gpt->copy.bytes, h.entries * sector, err) ||
			vmimg_io_pwrite(io, raw, sector, h.here * sector, err)
		? -1
		: 0;
}

/* The entry that guards a GPT from those who know only MBRs; a hybrid one has others beside it. */
static int put_guard(struct vmimg_io *io, const struct gpt *gpt, struct vmimg_error *err)
{
	uint8_t sector0[512];

	if (vmimg_io_pread(io, sector0, sizeof(sector0), 0, err))
		return -1;
	for (unsigned i = 0; i < 4; i++) {
		uint8_t *entry = sector0 + VMIMG_MBR_ENTRIES + MBR_ENTRY * i;

		if (entry[4] == 0xee && vmimg_get_le32(entry + 8) == 1 && sector0[511] == 0xaa)
			vmimg_put_le32(entry + 12, (uint32_t)vmimg_min(gpt->end, UINT32_MAX));
	}
	return vmimg_io_pwrite(io, sector0, sizeof(sector0), 0, err);
}

static int refit_gpt(struct gpt *gpt, const struct vmimg_refit *refit, struct vmimg_error *err)
{
	uint32_t sector = refit->sector_size;
	struct gpt_header *h = &gpt->copy.header;

	gpt->sectors = vmimg_div_up(gpt->copy.bytes, sector);
	gpt->end = refit->size / sector - 1;
	if (refit->size / sector < h->first + gpt->sectors + 2)
		return vmimg_fail(err, VMIMG_EREFUSED, "the disk would be too small for its table");
	h->last = gpt->end - gpt->sectors - 1;
	if (check_inside(gpt, sector, err) || (refit->grow && grow_entry(gpt, refit->grow, err)))
		return -1;
	return put_copy(refit->second, gpt, sector, true, err) ||
			put_copy(refit->first, gpt, sector, false, err) ||
			put_guard(refit->first, gpt, err)
		? -1
		: 0;
}

/* ---- MBR ---- */

static int refit_mbr(uint8_t *sector0, const struct vmimg_refit *refit, struct vmimg_error *err)
{
	unsigned number = refit->grow;
	uint8_t *entry = sector0 + VMIMG_MBR_ENTRIES + MBR_ENTRY * (number - 1);
	uint64_t end = vmimg_min(refit->size / refit->sector_size, UINT32_MAX), start;

	if (!number)
		return 0;
	if (number > 4)
		return vmimg_fail(err, VMIMG_EUNSUPPORTED,
			"partition %u is a logical one: only 1 to 4 of an MBR are grown", number);
	if (!entry[4])
		return vmimg_fail(err, VMIMG_EINVAL, "there is no partition %u", number);
	start = vmimg_get_le32(entry + 8);
	for (unsigned i = 0; i < 4; i++) {
		const uint8_t *other = sector0 + VMIMG_MBR_ENTRIES + MBR_ENTRY * i;

		if (other[4] && vmimg_get_le32(other + 8) > start)
			end = vmimg_min(end, vmimg_get_le32(other + 8));
	}
	if (end > start + vmimg_get_le32(entry + 12)) {
		vmimg_put_le32(entry + 12, (uint32_t)(end - start));
		memcpy(entry + 5, "\xfe\xff\xff", 3); /* beyond what cylinders can tell */
	}
	return vmimg_io_pwrite(refit->first, sector0, 512, 0, err);
}

int vmimg_refit_tables(
	struct vmimg_io *disk, const struct vmimg_refit *refit, struct vmimg_error *err)
{
	struct gpt gpt = { 0 };
	uint8_t sector0[512];
	int result = -1;

	if (refit->sector_size > 4096 || vmimg_io_size(disk) < 3 * (uint64_t)refit->sector_size)
		return vmimg_fail(err, VMIMG_EINVAL, "the disk is too small for a partition table");
	if (vmimg_io_pread(disk, sector0, sizeof(sector0), 0, err) ||
		vmimg_gpt_read_copy(disk, refit->sector_size, refit->sector_size, &gpt.copy, err))
		result = -1;
	else if (gpt.copy.there && gpt.copy.wrong)
		vmimg_fail(err, VMIMG_ECORRUPT, "the first copy of the GPT: %s", gpt.copy.wrong);
	else if (gpt.copy.there)
		result = refit_gpt(&gpt, refit, err);
	else if (vmimg_mbr_is_sane(sector0))
		result = refit_mbr(sector0, refit, err);
	else
		vmimg_fail(err, VMIMG_EINVAL, "the disk has no partition table that is known here");
	free(gpt.copy.entries);
	return result;
}
