/* SPDX-License-Identifier: Apache-2.0 */
/* Opening: the header, a look over the block map, the parent. */
#include <inttypes.h>
#include "format/vdi/vdi.h"
#include "util/claims.h"
#include "util/num.h"

size_t vmimg_vdi_most_blocks(const struct vmimg_disk *disk)
{
	const struct vmimg_vdi *vdi = disk->state;

	return vmimg_io_size(disk->io) / vdi->header.block_size + 1;
}

struct verify {
	const struct vmimg_disk *disk;
	struct vmimg_claims claims;
};

static int verify_entry(void *ctx, uint64_t i, uint32_t entry, struct vmimg_error *err)
{
	struct verify *verify = ctx;
	const struct vmimg_vdi *vdi = verify->disk->state;
	const char *wrong = vmimg_vdi_judge_entry(verify->disk, i, entry, NULL);

	if (wrong)
		return vmimg_fail(err, VMIMG_ECORRUPT,
			"block map entry %" PRIu64 " at 0x%" PRIx64 " is 0x%08" PRIx32 ": %s", i,
			vdi->header.map_at + 4 * i, entry, wrong);
	if (vmimg_claims_add(&verify->claims, entry, err))
		return -1;
	if (verify->claims.clashes)
		return vmimg_fail(err, VMIMG_ECORRUPT,
			"block map entry %" PRIu64 " is 0x%08" PRIx32
			": two blocks share the same space",
			i, entry);
	return 0;
}

/* Before anybody relies on the data: every used entry leads to a block of its own, in the file. */
static int verify_map(struct vmimg_disk *disk, struct vmimg_error *err)
{
	struct verify verify = { .disk = disk,
		.claims = { .width = 1, .most = vmimg_vdi_most_blocks(disk) } };
	uint32_t entry = 0;
	size_t next = 0;
	int result = vmimg_vdi_walk(disk->state, verify_entry, &verify, err);

	if (!result && vmimg_claims_overlap(&verify.claims, &next, &entry))
		result = vmimg_fail(err, VMIMG_ECORRUPT,
			"two blocks of the disk are block %" PRIu32 " of the file", entry);
	vmimg_claims_done(&verify.claims);
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
