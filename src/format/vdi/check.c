/* SPDX-License-Identifier: Apache-2.0 */
/* Check: every entry of the block map, and the count of blocks in the header. */
#include <inttypes.h>
#include "disk/report.h"
#include "format/vdi/vdi.h"
#include "util/claims.h"
#include "util/limits.h"
#include "util/num.h"

/* Wrong entries after which a table is ruined beyond interest. */
#define ENOUGH (UINT64_C(1) << 20)

struct check {
	const struct vmimg_disk *disk;
	struct vmimg_report *report;
	struct vmimg_claims claims;
	uint64_t wrong;    /* entries that lead nowhere */
	uint64_t expected; /* entry that would follow the one visited last; 0: none was */
	uint64_t past;     /* one more than the largest entry */
};

static int visit(void *ctx, uint64_t i, uint32_t entry, struct vmimg_error *err)
{
	struct check *c = ctx;
	const struct vmimg_vdi *vdi = c->disk->state;
	struct vmimg_report *report = c->report;
	const char *code, *wrong = vmimg_vdi_judge_entry(c->disk, i, entry, &code);

	if (c->wrong + c->claims.clashes > ENOUGH)
		return vmimg_fail(err, VMIMG_ELIMIT, "enough");
	report->allocated_blocks++;
	if (wrong && ++c->wrong <= VMIMG_MAX_FINDINGS)
		vmimg_report_add(report, VMIMG_FINDING_CORRUPTION, code, vdi->header.map_at + 4 * i,
			"block map entry %" PRIu64 " is 0x%08" PRIx32 ": %s", i, entry, wrong);
	if (wrong)
		return 0;
	if (c->expected && entry != c->expected)
		report->fragmented_blocks++;
	c->expected = (uint64_t)entry + 1;
	c->past = vmimg_max(c->past, c->expected);
	return vmimg_claims_add(&c->claims, entry, err);
}

/* Whether the walk ended because enough had been seen; err is of no meaning then. */
static bool gave_up(struct check *c)
{
	if (c->wrong + c->claims.clashes <= ENOUGH)
		return false;
	vmimg_report_add(c->report, VMIMG_FINDING_NOTE, "gave-up", VMIMG_NOWHERE,
		"the rest of the table was not looked at");
	return true;
}

/* Those that were too many to be told one by one. */
static void report_more(struct check *c)
{
	if (c->wrong > VMIMG_MAX_FINDINGS)
		vmimg_report_count(
			c->report, VMIMG_FINDING_CORRUPTION, c->wrong - VMIMG_MAX_FINDINGS);
}

static void report_overlaps(struct check *c)
{
	uint32_t entry;
	size_t next = 0;

	while (vmimg_claims_overlap(&c->claims, &next, &entry))
		vmimg_report_add(c->report, VMIMG_FINDING_CORRUPTION, "block-used-twice",
			vmimg_vdi_block_at(c->disk->state, entry),
			"two blocks of the disk are block %" PRIu32 " of the file", entry);
	if (!c->claims.clashes)
		return;
	vmimg_report_add(c->report, VMIMG_FINDING_CORRUPTION, "block-used-twice", VMIMG_NOWHERE,
		"two blocks of the disk are the same block of the file, %" PRIu64 " times",
		c->claims.clashes);
	vmimg_report_count(c->report, VMIMG_FINDING_CORRUPTION, c->claims.clashes - 1);
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
		.claims = { .width = 1, .most = vmimg_vdi_most_blocks(disk) } };
	int result;

	report->total_blocks = vdi->entries;
	result = vmimg_vdi_walk(vdi, visit, &check, err) && !gave_up(&check) ? -1 : 0;
	if (!result) {
		report_more(&check);
		report_overlaps(&check);
		check_count(&check);
		report->image_end = header->data_at +
			check.past * ((uint64_t)header->block_extra + header->block_size);
	}
	vmimg_claims_done(&check.claims);
	return result;
}
