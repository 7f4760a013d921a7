/* SPDX-License-Identifier: Apache-2.0 */
/* MBR partition tables: four entries at 446 of sector 0 and, in an extended one, a chain of sectors
 * with one logical partition each. */
#include <inttypes.h>
#include "inspect/fs.h"
#include "inspect/tables.h"
#include "util/bytes.h"
#include "util/num.h"

#define ENTRY        16
#define MAX_LOGICALS 128

struct entry {
	uint8_t status, type;
	uint32_t start, count; /* sectors */
};

static struct entry get_entry(const uint8_t *sector, unsigned i)
{
	const uint8_t *at = sector + VMIMG_MBR_ENTRIES + ENTRY * i;

	return (struct entry){ at[0], at[4], vmimg_get_le32(at + 8), vmimg_get_le32(at + 12) };
}

static bool is_signed(const uint8_t *sector)
{
	return sector[510] == 0x55 && sector[511] == 0xaa;
}

/* A boot sector of a file system ends in the same two bytes, with text or code where the table
 * would be. */
bool vmimg_mbr_is_sane(const uint8_t *sector0)
{
	unsigned used = 0;

	if (!is_signed(sector0))
		return false;
	for (unsigned i = 0; i < 4; i++) {
		struct entry e = get_entry(sector0, i);

		if (e.status & 0x7f)
			return false;
		if (e.type && !e.count)
			return false;
		used += e.type != 0;
	}
	return used != 0;
}

static bool is_extended(uint8_t type)
{
	return type == 0x05 || type == 0x0f || type == 0x85;
}

static int add(struct vmimg_parts *parts, unsigned index, const struct entry *e, uint64_t base,
	struct vmimg_error *err)
{
	struct vmimg_part *part = vmimg_parts_add(parts, err);

	if (!part)
		return -1;
	part->index = index;
	part->scheme = VMIMG_SCHEME_MBR;
	part->start = (base + e->start) * parts->sector_size;
	part->len = (uint64_t)e->count * parts->sector_size;
	part->mbr_type = e->type;
	part->type_name = vmimg_mbr_type_name(e->type);
	part->bootable = e->status == 0x80;
	part->extended = index < 5 && is_extended(e->type);
	part->logical = index > 4;
	return 0;
}

/* Walks the chain. Each link's first entry is a partition, relative to the link; its second the
 * next link, relative to the extended partition. */
static int add_logicals(struct vmimg_io *io, struct vmimg_parts *parts, uint64_t extended,
	unsigned *index, struct vmimg_error *err)
{
	uint64_t link = extended, seen[MAX_LOGICALS];
	uint8_t sector[512];

	for (unsigned n = 0; n < MAX_LOGICALS; n++) {
		struct entry here, next;

		for (unsigned i = 0; i < n; i++)
			if (seen[i] == link) {
				vmimg_parts_warn(
					parts, "the chain of logical partitions is a loop");
				return 0;
			}
		seen[n] = link;
		if (!vmimg_range_inside(link * parts->sector_size, 512, vmimg_io_size(io))) {
			vmimg_parts_warn(parts,
				"a logical partition's table at sector %" PRIu64
				" lies past the end of the disk",
				link);
			return 0;
		}
		if (vmimg_io_pread(io, sector, 512, link * parts->sector_size, err))
			return -1;
		if (!is_signed(sector)) {
			vmimg_parts_warn(
				parts, "no table of a logical partition at sector %" PRIu64, link);
			return 0;
		}
		here = get_entry(sector, 0);
		next = get_entry(sector, 1);
		if (here.type && here.count && add(parts, (*index)++, &here, link, err))
			return -1;
		if (!is_extended(next.type) || !next.count)
			return 0;
		link = extended + next.start;
	}
	vmimg_parts_warn(parts, "more than %d logical partitions", MAX_LOGICALS);
	return 0;
}

/* ---- the size of a sector ----------------------------------------------------------------- */

/* Whether something known lies where an entry points to when sectors have this size; -1: a read
 * failed. */
static int leads_somewhere(
	struct vmimg_io *io, const struct entry *e, uint32_t sector_size, struct vmimg_error *err)
{
	struct vmimg_part part = { .start = (uint64_t)e->start * sector_size,
		.len = (uint64_t)e->count * sector_size };
	VMIMG_AUTO(vmimg_io_unref) struct vmimg_io *view = NULL;
	struct vmimg_fs_info info;
	uint8_t sector[512];

	if (!e->type || !vmimg_range_inside(part.start, sizeof(sector), vmimg_io_size(io)))
		return 0;
	if (is_extended(e->type)) {
		if (vmimg_io_pread(io, sector, sizeof(sector), part.start, err))
			return -1;
		return is_signed(sector);
	}
	view = vmimg_part_open(io, &part, err);
	if (!view || vmimg_fs_recognise(view, &info, err))
		return -1;
	return info.type != NULL;
}

static int leads_anywhere(
	struct vmimg_io *io, const uint8_t *sector0, uint32_t sector_size, struct vmimg_error *err)
{
	for (unsigned i = 0; i < 4; i++) {
		struct entry e = get_entry(sector0, i);
		int leads = leads_somewhere(io, &e, sector_size, err);

		if (leads)
			return leads;
	}
	return 0;
}

/* The table does not say how long its sectors are, but what lies where they lead does. */
static int find_sector_size(struct vmimg_io *io, const uint8_t *sector0, struct vmimg_parts *parts,
	struct vmimg_error *err)
{
	static const uint32_t sizes[] = { 512, 4096 };

	for (size_t i = 0; i < VMIMG_ARRAY_LEN(sizes); i++) {
		int leads = leads_anywhere(io, sector0, sizes[i], err);

		if (leads < 0)
			return -1;
		if (!leads)
			continue;
		parts->sector_size = sizes[i];
		return 0;
	}
	return 0;
}

int vmimg_parts_read_mbr(struct vmimg_io *io, const uint8_t *sector0, uint32_t sector_size,
	struct vmimg_parts *parts, struct vmimg_error *err)
{
	unsigned logical = 5;

	if (!vmimg_mbr_is_sane(sector0))
		return 0;
	parts->scheme = VMIMG_SCHEME_MBR;
	if (sector_size <= 512 && find_sector_size(io, sector0, parts, err))
		return -1;
	for (unsigned i = 0; i < 4; i++) {
		struct entry e = get_entry(sector0, i);

		if (e.type && add(parts, i + 1, &e, 0, err))
			return -1;
	}
	for (unsigned i = 0; i < 4; i++) {
		struct entry e = get_entry(sector0, i);

		if (is_extended(e.type) && add_logicals(io, parts, e.start, &logical, err))
			return -1;
	}
	return 1;
}
