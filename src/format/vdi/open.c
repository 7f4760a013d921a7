/* SPDX-License-Identifier: Apache-2.0 */
/* Opening: the header, a look over the block map, the parent. */
#include <inttypes.h>
#include "format/vdi/vdi.h"
#include "util/claims.h"
#include "util/num.h"

/* Before anybody relies on the data: every used entry leads to a block of its own, in the file. */
static int verify_map(struct vmimg_disk *disk, struct vmimg_error *err)
{
	struct vmimg_vdi *vdi = disk->state;
	struct vmimg_claims claims = { 0 };
	size_t next = 0;
	uint32_t entry = 0;
	int result = 0;

	for (uint32_t i = 0; !result && i < vdi->entries; i++) {
		const char *wrong;

		result = vmimg_vdi_map_entry(vdi, i, &entry, err);
		if (result || entry >= VMIMG_VDI_ZERO)
			continue;
		wrong = vmimg_vdi_judge_entry(disk, i, entry, NULL);
		result = wrong ? vmimg_fail(err, VMIMG_ECORRUPT,
					 "block map entry %" PRIu32 " at 0x%" PRIx64
					 " is 0x%08" PRIx32 ": %s",
					 i, vdi->header.map_at + 4 * (uint64_t)i, entry, wrong)
			       : vmimg_claims_add(&claims, entry, err);
	}
	if (!result && vmimg_claims_overlap(&claims, 1, &next, &entry))
		result = vmimg_fail(err, VMIMG_ECORRUPT,
			"two blocks of the disk are block %" PRIu32 " of the file", entry);
	vmimg_claims_done(&claims);
	return result;
}

int vmimg_vdi_open(
	struct vmimg_disk *disk, const struct vmimg_open *options, struct vmimg_error *err)
{
	struct vmimg_vdi *vdi = disk->state = vmimg_new(struct vmimg_vdi, err);
	const struct vmimg_vdi_header *header;
	uint64_t entries;

	if (!vdi || vmimg_vdi_read_header(disk->io, &vdi->header, err))
		return -1;
	header = &vdi->header;
	disk->size = header->disk_size;
	disk->block = header->block_size;
	entries = vmimg_div_up(disk->size, disk->block);
	if (entries > VMIMG_VDI_MAX_BLOCKS)
		return vmimg_fail(err, VMIMG_ELIMIT, "a block map of %" PRIu64 " entries", entries);
	vdi->entries = (uint32_t)entries;
	vdi->table = vmimg_table_new(disk->io, err);
	if (!vdi->table)
		return -1;
	if (!options->alone && !options->lenient && verify_map(disk, err))
		return -1;
	return vmimg_vdi_has_parent(header) ? vmimg_vdi_open_parent(disk, options, err) : 0;
}

void vmimg_vdi_close(struct vmimg_disk *disk)
{
	struct vmimg_vdi *vdi = disk->state;

	if (!vdi)
		return;
	vmimg_table_free(vdi->table);
	free(vdi);
	disk->state = NULL;
}
