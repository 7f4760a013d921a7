/* SPDX-License-Identifier: Apache-2.0 */
/* Repair: map entries that lead nowhere or where an earlier one leads are discarded, and the header
 * counts the blocks that are in the file. */
#include <inttypes.h>
#include "disk/report.h"
#include "format/vdi/vdi.h"
#include "util/num.h"

#define ALLOCATED_AT_0 368 /* where the header counts them, in versions 0 and 1 */
#define ALLOCATED_AT_1 388

struct repair {
	struct vmimg_disk *disk;
	struct vmimg_vdi *vdi;
	struct vmimg_io *rw;
	struct vmimg_report *fixed;
	uint8_t *taken; /* one bit for each block of the file */
	uint64_t past;  /* one more than the largest entry */
};

static bool take(struct repair *r, uint32_t entry)
{
	uint8_t bit = (uint8_t)(1U << entry % 8);
	bool vacant = !(r->taken[entry / 8] & bit);

	r->taken[entry / 8] |= bit;
	return vacant;
}

static int visit(void *ctx, uint64_t i, uint32_t entry, struct vmimg_error *err)
{
	struct repair *r = ctx;
	const char *wrong = vmimg_vdi_judge_entry(r->disk, i, entry, NULL);
	uint64_t at = r->vdi->header.map_at + 4 * i;
	uint8_t raw[4];

	if (!wrong && !take(r, entry))
		wrong = "an earlier block has that space";
	if (!wrong) {
		r->past = vmimg_max(r->past, (uint64_t)entry + 1);
		return 0;
	}
	r->fixed->given_up++;
	vmimg_report_add(r->fixed, VMIMG_FINDING_CORRUPTION, "map-entry", at,
		"block map entry %" PRIu64 " was 0x%08" PRIx32 ": %s: discarded", i, entry, wrong);
	/* not "absent": what a parent has there is not what was written here */
	vmimg_put_le32(raw, VMIMG_VDI_ZERO);
	return vmimg_io_pwrite(r->rw, raw, sizeof(raw), at, err);
}

static int repair_count(struct repair *r, struct vmimg_error *err)
{
	const struct vmimg_vdi_header *header = &r->vdi->header;
	uint64_t at = header->major ? ALLOCATED_AT_1 : ALLOCATED_AT_0;
	uint8_t raw[4];

	if (header->allocated == r->past)
		return 0;
	vmimg_report_add(r->fixed,
		header->allocated < r->past ? VMIMG_FINDING_CORRUPTION : VMIMG_FINDING_LEAK,
		"allocated-count", at, "the header counts %" PRIu64 " blocks now, not %" PRIu32,
		r->past, header->allocated);
	vmimg_put_le32(raw, (uint32_t)r->past);
	return vmimg_io_pwrite(r->rw, raw, sizeof(raw), at, err);
}

int vmimg_vdi_repair(struct vmimg_disk *disk, struct vmimg_io *rw, struct vmimg_report *fixed,
	struct vmimg_error *err)
{
	VMIMG_AUTO(free)
	uint8_t *taken = vmimg_alloc_array(vmimg_vdi_most_blocks(disk) / 8 + 1, 1, err);
	struct repair r = {
		.disk = disk, .vdi = disk->state, .rw = rw, .fixed = fixed, .taken = taken
	};

	if (!taken || vmimg_vdi_walk(disk->state, visit, &r, err))
		return -1;
	return repair_count(&r, err);
}
