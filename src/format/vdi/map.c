/* SPDX-License-Identifier: Apache-2.0 */
/* Where the guest's bytes live: one table of 32-bit block numbers. */
#include <inttypes.h>
#include "format/vdi/vdi.h"
#include "util/num.h"

/* Entries looked at in one go, and those after which a run is long enough. */
#define STRIDE 512U
#define ENOUGH 65536U

int vmimg_vdi_walk(
	struct vmimg_vdi *vdi, vmimg_vdi_visit *visit, void *ctx, struct vmimg_error *err)
{
	uint8_t bytes[STRIDE * 4];

	for (uint64_t i = 0; i < vdi->entries; i += STRIDE) {
		uint64_t count = vmimg_min(STRIDE, vdi->entries - i);

		if (vmimg_table_read(vdi->table, bytes, count * 4, vdi->header.map_at + 4 * i, err))
			return vmimg_within(err, "block map");
		for (uint64_t k = 0; k < count; k++) {
			uint32_t entry = vmimg_get_le32(bytes + 4 * k);

			if (entry < VMIMG_VDI_ZERO && visit(ctx, i + k, entry, err))
				return -1;
		}
	}
	return 0;
}

uint64_t vmimg_vdi_block_at(const struct vmimg_vdi *vdi, uint32_t entry)
{
	const struct vmimg_vdi_header *header = &vdi->header;

	return header->data_at + entry * ((uint64_t)header->block_extra + header->block_size) +
		header->block_extra;
}

const char *vmimg_vdi_judge_entry(
	const struct vmimg_disk *disk, uint64_t i, uint32_t entry, const char **code)
{
	const struct vmimg_vdi *vdi = disk->state;
	uint64_t at = vmimg_vdi_block_at(vdi, entry);
	uint64_t len = vmimg_min(disk->block, disk->size - i * disk->block);
	const char *unused;

	code = code ? code : &unused;
	*code = "map-entry-past-end";
	if (!vmimg_range_inside(at, len, vmimg_io_size(disk->io)))
		return "the block reaches past the end of the file";
	*code = "map-entry-in-tables";
	if (at < vdi->header.map_at + 4 * (uint64_t)vdi->header.blocks)
		return "the block lies over the header or the block map";
	return NULL;
}

uint64_t vmimg_vdi_cut(const struct vmimg_disk *disk, uint32_t entry)
{
	const struct vmimg_vdi *vdi = disk->state;
	uint64_t at = vmimg_vdi_block_at(vdi, entry), size = vmimg_io_size(disk->io);
	bool over = at < vdi->header.map_at + 4 * (uint64_t)vdi->header.blocks;

	return !over && at < size && size - at < disk->block ? size - at : 0;
}

/* Whether the k-th block after one whose entry is `first` goes on from it. */
static bool goes_on(const struct vmimg_vdi *vdi, uint32_t first, uint32_t entry, uint64_t k)
{
	if (first >= VMIMG_VDI_ZERO)
		return entry == first;
	return entry < VMIMG_VDI_ZERO && entry == first + k && (!k || !vdi->header.block_extra);
}

/* How many blocks from i on are one run, and the entry of the first; 0: something is wrong with
 * that. Whoever steps over such entries would otherwise look at the ones behind over and over. */
static int measure_run(struct vmimg_disk *disk, uint64_t i, uint32_t *first, uint64_t *count,
	struct vmimg_error *err)
{
	struct vmimg_vdi *vdi = disk->state;
	uint8_t bytes[STRIDE * 4];
	uint64_t done = 0;

	*count = 0;
	while (i + done < vdi->entries && done < ENOUGH) {
		uint64_t step = vmimg_min(STRIDE, vdi->entries - i - done), k = 0;

		if (vmimg_table_read(
			    vdi->table, bytes, step * 4, vdi->header.map_at + 4 * (i + done), err))
			return vmimg_within(err, "block map");
		if (!done)
			*first = vmimg_get_le32(bytes);
		if (!done && *first < VMIMG_VDI_ZERO &&
			vmimg_vdi_judge_entry(disk, i, *first, NULL))
			return 0;
		while (k < step && goes_on(vdi, *first, vmimg_get_le32(bytes + 4 * k), done + k))
			k++;
		done += k;
		if (k < step)
			break;
	}
	*count = done;
	return 0;
}

/* For recovery: what there is of a block that the file's end cuts. */
static int map_wrong(struct vmimg_disk *disk, uint64_t at, uint32_t entry, struct vmimg_run *run,
	struct vmimg_error *err)
{
	uint64_t block = at / disk->block, inside = at % disk->block;
	const char *wrong = vmimg_vdi_judge_entry(disk, block, entry, NULL);
	uint64_t have = vmimg_vdi_cut(disk, entry);

	if (inside >= have)
		return vmimg_fail(err, VMIMG_ECORRUPT,
			"block map entry %" PRIu64 " is 0x%08" PRIx32 ": %s", block, entry, wrong);
	run->len = have - inside;
	run->at = vmimg_vdi_block_at(disk->state, entry) + inside;
	run->kind = VMIMG_RUN_DATA;
	run->io = disk->io;
	return 0;
}

int vmimg_vdi_map(
	struct vmimg_disk *disk, uint64_t at, struct vmimg_run *run, struct vmimg_error *err)
{
	struct vmimg_vdi *vdi = disk->state;
	uint64_t block = at / disk->block, count = 0;
	uint32_t entry = VMIMG_VDI_ABSENT;

	if (measure_run(disk, block, &entry, &count, err))
		return -1;
	if (!count)
		return map_wrong(disk, at, entry, run, err);
	run->kind = entry == VMIMG_VDI_ABSENT ? VMIMG_RUN_ABSENT
		: entry == VMIMG_VDI_ZERO     ? VMIMG_RUN_ZERO
					      : VMIMG_RUN_DATA;
	if (run->kind == VMIMG_RUN_DATA) {
		/* what is wrong with a later one is said when it is asked for */
		while (vmimg_vdi_judge_entry(
			disk, block + count - 1, entry + (uint32_t)(count - 1), NULL))
			count--;
		run->io = disk->io;
		run->at = vmimg_vdi_block_at(vdi, entry) + at % disk->block;
	}
	run->len = (block + count) * disk->block - at;
	return 0;
}
