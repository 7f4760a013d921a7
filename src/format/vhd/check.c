/* SPDX-License-Identifier: Apache-2.0 */
/* Check: the copies of the footer, the header, every entry of the block table, Xen's batmap. */
#include <inttypes.h>
#include <string.h>
#include "disk/entry_check.h"
#include "format/vhd/vhd.h"
#include "util/num.h"

struct check {
	const struct vmimg_disk *disk;
	struct vmimg_report *report;
	struct vmimg_entry_check entries;
	uint64_t last_end; /* of the block visited last, in sectors */
};

static void report_flaws(const struct vmimg_vhd *vhd, struct vmimg_report *report)
{
	const struct {
		unsigned flaw;
		enum vmimg_severity severity;
		const char *code;
		uint64_t at;
		const char *text;
	} texts[] = {
		{ VMIMG_VHD_HEAD_DAMAGED, VMIMG_FINDING_CORRUPTION, "head-footer", 0,
			"the copy of the footer at the start is damaged" },
		{ VMIMG_VHD_TAIL_DAMAGED, VMIMG_FINDING_CORRUPTION, "tail-footer", vhd->footer_at,
			"the footer at the end is damaged or missing" },
		{ VMIMG_VHD_HEAD_OLDER, VMIMG_FINDING_NOTE, "footers-differ", 0,
			"the footers at the start and at the end are not equal" },
		{ VMIMG_VHD_FOOTER_SUM, VMIMG_FINDING_CORRUPTION, "footer-checksum", vhd->footer_at,
			"the footer's checksum is wrong, in both copies" },
		{ VMIMG_VHD_HEADER_SUM, VMIMG_FINDING_CORRUPTION, "header-checksum",
			vhd->footer.data_offset, "the dynamic disk header's checksum is wrong" },
		{ VMIMG_VHD_SURPLUS, VMIMG_FINDING_LEAK, "surplus", vhd->footer.current_size,
			"the file holds more than the footer says" },
	};

	for (size_t i = 0; i < VMIMG_ARRAY_LEN(texts); i++)
		if (vhd->flaws & texts[i].flaw)
			vmimg_report_add(report, texts[i].severity, texts[i].code, texts[i].at,
				"%s", texts[i].text);
}

static int visit(void *ctx, uint64_t i, uint32_t sector, struct vmimg_error *err)
{
	struct check *c = ctx;
	const struct vmimg_vhd *vhd = c->disk->state;
	struct vmimg_report *report = c->report;
	const char *code, *wrong = vmimg_vhd_judge_entry(c->disk, i, sector, &code);
	uint64_t end = (uint64_t)sector + c->entries.claims.width;

	if (vmimg_entry_check_enough(&c->entries, err))
		return -1;
	report->allocated_blocks++;
	if (!wrong && vmimg_vhd_over_batmap(c->disk, sector)) {
		code = "bat-entry-in-batmap";
		wrong = "the block lies over the batmap";
	}
	if (wrong) {
		vmimg_entry_check_wrong(&c->entries, code, vhd->bat_at + 4 * i,
			"BAT entry %" PRIu64 " is 0x%08" PRIx32 ": %s", i, sector, wrong);
		return 0;
	}
	if (c->last_end &&
		(sector < c->last_end || sector - c->last_end >= c->entries.claims.width))
		report->fragmented_blocks++;
	c->last_end = end;
	return vmimg_claims_add(&c->entries.claims, sector, err);
}

/* Room for whole blocks between those in use. Room after the last is none of a leak: Windows lets
 * the file grow in larger steps. */
static void report_leaks(struct check *c)
{
	uint64_t room = vmimg_claims_room(&c->entries.claims);

	if (!room)
		return;
	vmimg_report_add(c->report, VMIMG_FINDING_LEAK, "blocks-leaked", VMIMG_NOWHERE,
		"between the blocks in use is room for %" PRIu64 " more", room);
	vmimg_report_count(c->report, VMIMG_FINDING_LEAK, room - 1);
}

/* The batmap says which blocks are full; its checksum is over the map alone. */
static int check_batmap(struct check *c, struct vmimg_error *err)
{
	const struct vmimg_vhd *vhd = c->disk->state;
	const struct vmimg_vhd_batmap *batmap = &vhd->batmap;
	const char *wrong = vhd->batmap_at ? vmimg_vhd_judge_batmap(vhd, batmap) : NULL;
	uint64_t len = (uint64_t)batmap->sectors * VMIMG_VHD_SECTOR;
	uint8_t bytes[VMIMG_VHD_BATMAP_SIZE];
	uint32_t sum = 0;

	if (!vhd->batmap_at)
		return 0;
	if (wrong) {
		vmimg_report_add(c->report, VMIMG_FINDING_CORRUPTION, "batmap-place",
			vhd->batmap_at, "the batmap (%" PRIu64 " bytes at 0x%" PRIx64 ") %s", len,
			batmap->at, wrong);
		return 0;
	}
	for (uint64_t done = 0; done < len; done += sizeof(bytes)) {
		if (vmimg_table_read(vhd->table, bytes, sizeof(bytes), batmap->at + done, err))
			return -1;
		for (size_t i = 0; i < sizeof(bytes); i++)
			sum += bytes[i];
	}
	if (batmap->checksum != ~sum)
		vmimg_report_add(c->report, VMIMG_FINDING_CORRUPTION, "batmap-checksum",
			vhd->batmap_at, "the batmap's checksum is wrong");
	return 0;
}

static int check_blocks(struct check *c, struct vmimg_error *err)
{
	int walked = vmimg_vhd_walk(c->disk->state, visit, c, err);

	if (vmimg_entry_check_end(&c->entries, walked, "blocks-overlap", 0, VMIMG_VHD_SECTOR))
		return -1;
	report_leaks(c);
	return check_batmap(c, err);
}

int vmimg_vhd_check(struct vmimg_disk *disk, struct vmimg_report *report, struct vmimg_error *err)
{
	const struct vmimg_vhd *vhd = disk->state;
	struct check check = { .disk = disk, .report = report, .entries = { .report = report } };
	int result;

	report_flaws(vhd, report);
	report->image_end = vmimg_io_size(vhd->io);
	if (vhd->footer.type == VMIMG_VHD_FIXED)
		return 0;
	report->total_blocks = vhd->entries;
	check.entries.claims.width = vmimg_vhd_block_sectors(disk);
	check.entries.claims.most = vmimg_vhd_most_blocks(disk);
	result = check_blocks(&check, err);
	vmimg_entry_check_done(&check.entries);
	return result;
}
