/* SPDX-License-Identifier: Apache-2.0 */
/* Check: every entry of the block map, and the count of blocks in the header. */
#include <inttypes.h>
#include "disk/entry_check.h"
#include "format/vdi/vdi.h"
#include "util/num.h"

struct check {
	const struct vmimg_disk *disk;
	struct vmimg_report *report;
	struct vmimg_entry_check entries;
	uint64_t expected; /* entry that would follow the one visited last; 0: none was */
	uint64_t past;     /* one more than the largest entry */
};

static int visit(void *ctx, uint64_t i, uint32_t entry, struct vmimg_error *err)
{
	struct check *c = ctx;
	const struct vmimg_vdi *vdi = c->disk->state;
	struct vmimg_report *report = c->report;
	const char *code, *wrong = vmimg_vdi_judge_entry(c->disk, i, entry, &code);

	if (vmimg_entry_check_enough(&c->entries, err))
		return -1;
	report->allocated_blocks++;
	if (wrong) {
		vmimg_entry_check_wrong(&c->entries, code, vdi->header.map_at + 4 * i,
			"block map entry %" PRIu64 " is 0x%08" PRIx32 ": %s", i, entry, wrong);
		return 0;
	}
	if (c->expected && entry != c->expected)
		report->fragmented_blocks++;
	c->expected = (uint64_t)entry + 1;
	c->past = vmimg_max(c->past, c->expected);
	return vmimg_claims_add(&c->entries.claims, entry, err);
}

/* A new block would be put where the header says that the used ones end. */
static void check_count(struct check *c)
{
	const struct vmimg_vdi *vdi = c->disk->state;
	uint64_t said = vdi->header.allocated, used = c->report->allocated_blocks;

	if (said < c->past) {
		vmimg_report_add(c->report, VMIMG_FINDING_CORRUPTION, "allocated-count", 0,
			"the header counts %" PRIu64 " blocks, and block %" PRIu64 " is in use",
			said, c->past - 1);
	} else if (said > used) {
		vmimg_report_add(c->report, VMIMG_FINDING_LEAK, "blocks-leaked", 0,
			"the header counts %" PRIu64 " blocks, of which %" PRIu64 " are in use",
			said, used);
		vmimg_report_count(c->report, VMIMG_FINDING_LEAK, said - used - 1);
	}
}

int vmimg_vdi_check(struct vmimg_disk *disk, struct vmimg_report *report, struct vmimg_error *err)
{
	struct vmimg_vdi *vdi = disk->state;
	const struct vmimg_vdi_header *header = &vdi->header;
	struct check check = { .disk = disk,
		.report = report,
		.entries = { .report = report,
			.claims = { .width = 1, .most = vmimg_vdi_most_blocks(disk) } } };
	int result;

	report->total_blocks = vdi->entries;
	result = vmimg_entry_check_end(&check.entries, vmimg_vdi_walk(vdi, visit, &check, err),
		"block-used-twice", header->data_at, vmimg_vdi_stride(header));
	if (!result) {
		check_count(&check);
		report->image_end = header->data_at + check.past * vmimg_vdi_stride(header);
	}
	vmimg_entry_check_done(&check.entries);
	return result;
}
