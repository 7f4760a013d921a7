/* SPDX-License-Identifier: Apache-2.0 */
/* The Apple partition map (Inside Macintosh: Devices, chapter 3): "ER" in block 0, then one block
 * an entry, each saying how many there are. */
#include <string.h>
#include "inspect/tables.h"
#include "util/bytes.h"
#include "util/num.h"

#define MAX_ENTRIES 256U

static int add(struct vmimg_parts *parts, unsigned index, const uint8_t *entry, uint32_t block,
	struct vmimg_error *err)
{
	struct vmimg_part *part = vmimg_parts_add(parts, err);

	if (!part)
		return -1;
	part->index = index;
	part->scheme = VMIMG_SCHEME_APM;
	part->start = (uint64_t)vmimg_get_be32(entry + 8) * block;
	part->len = (uint64_t)vmimg_get_be32(entry + 12) * block;
	memcpy(part->name, entry + 16, 32);
	memcpy(part->apm_type, entry + 48, 32);
	part->attributes = vmimg_get_be32(entry + 88);
	return 0;
}

int vmimg_parts_read_apm(struct vmimg_io *io, const uint8_t *sector0, struct vmimg_parts *parts,
	struct vmimg_error *err)
{
	uint32_t block = vmimg_get_be16(sector0 + 2), count = 1;
	uint8_t entry[512];

	if (sector0[0] != 'E' || sector0[1] != 'R' || block < 512 || block > 4096 ||
		!vmimg_is_pow2(block))
		return 0;
	for (uint32_t i = 0; i < count && i < MAX_ENTRIES; i++) {
		uint64_t at = (uint64_t)(i + 1) * block;

		if (!vmimg_range_inside(at, sizeof(entry), vmimg_io_size(io)))
			break;
		if (vmimg_io_pread(io, entry, sizeof(entry), at, err))
			return -1;
		if (entry[0] != 'P' || entry[1] != 'M')
			break;
		if (i == 0)
			count = vmimg_get_be32(entry + 4);
		if (add(parts, i + 1, entry, block, err))
			return -1;
	}
	if (!parts->count)
		return 0;
	parts->scheme = VMIMG_SCHEME_APM;
	parts->sector_size = block;
	return 1;
}
