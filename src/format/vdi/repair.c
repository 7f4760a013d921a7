/* SPDX-License-Identifier: Apache-2.0 */
/* Repair: map entries that lead nowhere or where an earlier one leads are discarded, and the header
 * counts the blocks that are in the file. Of a block that the end of the file cuts what is there
 * stays. */
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>
#include "disk/report.h"
#include "format/vdi/vdi.h"
#include "util/num.h"
#include "util/spots.h"

#define ALLOCATED_AT_0 368 /* where the header counts them, in versions 0 and 1 */
#define ALLOCATED_AT_1 388
#define MOST_BITS      (UINT64_C(1) << 28)

struct repair {
	struct vmimg_disk *disk;
	struct vmimg_vdi *vdi;
	struct vmimg_io *rw;
	struct vmimg_report *fixed;
	uint8_t *taken; /* one bit for each block of the file; NULL: spots, the file is so large */
	struct vmimg_spots spots;
	uint64_t past; /* one more than the largest entry */
};

static int take(struct repair *r, uint32_t entry, bool *vacant, struct vmimg_error *err)
{
	uint8_t bit = (uint8_t)(1U << entry % 8);

	if (!r->taken)
		return vmimg_spots_take(&r->spots, entry, vacant, err);
	*vacant = !(r->taken[entry / 8] & bit);
	r->taken[entry / 8] |= bit;
	return 0;
}

static void tell(struct repair *r, uint64_t i, uint32_t entry, const char *wrong, const char *now)
{
	r->fixed->given_up++;
	vmimg_report_add(r->fixed, VMIMG_FINDING_CORRUPTION, "map-entry",
		r->vdi->header.map_at + 4 * i,
		"block map entry %" PRIu64 " was 0x%08" PRIx32 ": %s: %s", i, entry, wrong, now);
}

static int keep(
	struct repair *r, uint64_t i, uint32_t entry, const char *wrong, struct vmimg_error *err)
{
	uint64_t end = vmimg_vdi_block_at(r->vdi, entry) + r->disk->block;

	r->past = vmimg_max(r->past, (uint64_t)entry + 1);
	if (!wrong)
		return 0;
	tell(r, i, entry, wrong, "what is missing is zero now");
	return vmimg_io_size(r->rw) < end ? vmimg_io_resize(r->rw, end, err) : 0;
}

static int visit(void *ctx, uint64_t i, uint32_t entry, struct vmimg_error *err)
{
	struct repair *r = ctx;
	const char *code = NULL, *wrong = vmimg_vdi_judge_entry(r->disk, i, entry, &code);
	bool stays =
		!wrong || (!strcmp(code, "map-entry-past-end") && vmimg_vdi_cut(r->disk, entry));
	bool vacant = false;
	uint8_t raw[4];

	if (stays && take(r, entry, &vacant, err))
		return -1;
	if (vacant)
		return keep(r, i, entry, wrong, err);
	tell(r, i, entry, stays ? "an earlier block has that space" : wrong, "discarded");
	/* not "absent": what a parent has there is not what was written here */
	vmimg_put_le32(raw, VMIMG_VDI_ZERO);
	return vmimg_io_pwrite(r->rw, raw, sizeof(raw), r->vdi->header.map_at + 4 * i, err);
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
	struct repair r = {
		.disk = disk, .vdi = disk->state, .rw = rw, .fixed = fixed, .spots = { .width = 1 }
	};
	uint64_t most = vmimg_vdi_most_blocks(disk);
	int failed;

	if (most <= MOST_BITS && !(r.taken = vmimg_alloc_array((size_t)most / 8 + 1, 1, err)))
		return -1;
	failed = vmimg_vdi_walk(disk->state, visit, &r, err);
	free(r.taken);
	vmimg_spots_done(&r.spots);
	return failed ? -1 : repair_count(&r, err);
}
