/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Checking all that is reachable, each structure once: both headers, both region tables, the
 * metadata, the log's state, and every BAT entry. Who uses which MiB of the file is kept in one bit
 * a MiB, so memory follows the file's size; a hole of the file in the BAT is stepped over.
 */
#include <inttypes.h>
#include "format/vhdx/vhdx.h"
#include "util/num.h"

#define BATCH 512U /* BAT entries read at once */

/* Past any sane file: 64 TiB of blocks, and their tables. It bounds the map of used MiB. */
#define FILE_MAX (2 * VHDX_DISK_MAX)

struct check {
	struct vmimg_vhdx *vhdx;
	struct vmimg_report *report;
	uint8_t *used;              /* a bit for each MiB of the file */
	uint64_t mibs;              /* bits there are */
	uint64_t file;              /* bytes of the file */
	uint64_t expect;            /* where the next block would be, were nothing fragmented */
	uint64_t chunk;             /* the last one whose bitmap was looked for, plus one */
	uint64_t noise, reserved;   /* entries that are odd */
	struct vhdx_mender *mender; /* NULL: what is wrong is told */
	struct vmimg_error *err;    /* of the mender */
	bool failed;                /* it has */
};

static void corrupt(struct check *check, const char *code, uint64_t at, const char *text)
{
	vmimg_report_add(check->report, VMIMG_FINDING_CORRUPTION, code, at, "%s", text);
}

/* Claims whole MiB. False: one of them was taken. All are inside the map. */
static bool claim(struct check *check, uint64_t at, uint64_t len)
{
	uint64_t end = vmimg_min(vmimg_div_up(at + len, VHDX_MIB), check->mibs);
	bool free_of_others = true;

	for (uint64_t mib = at / VHDX_MIB; mib < end; mib++) {
		uint8_t bit = (uint8_t)(1U << mib % 8);

		free_of_others &= !(check->used[mib / 8] & bit);
		check->used[mib / 8] |= bit;
	}
	check->report->image_end = vmimg_max(check->report->image_end, at + len);
	return free_of_others;
}

static void claim_structure(struct check *check, const char *what, uint64_t at, uint64_t len)
{
	if (!vmimg_range_inside(at, len, check->file))
		vmimg_report_add(check->report, VMIMG_FINDING_CORRUPTION, "region-past-end", at,
			"the %s at 0x%" PRIx64 ", length 0x%" PRIx64
			", reaches past the end of the file (0x%" PRIx64 ")",
			what, at, len, check->file);
	else if (!claim(check, at, len))
		vmimg_report_add(check->report, VMIMG_FINDING_CORRUPTION, "region-overlap", at,
			"the %s at 0x%" PRIx64 ", length 0x%" PRIx64
			", overlaps something before it",
			what, at, len);
}

/* ---- headers, log, regions, metadata ------------------------------------------------------ */

static void check_headers(struct check *check, struct vmimg_io *file)
{
	struct vmimg_error why;
	struct vhdx_head head;

	for (unsigned i = 0; i < 2; i++)
		if (vmimg_vhdx_read_header(file, i, &head, &why))
			corrupt(check, "header", VHDX_HEADER_AT(i), why.text);
	claim_structure(check, "header section", 0, VHDX_HEAD_END);
	if (check->vhdx->head.log_range.len)
		claim_structure(check, "log", check->vhdx->head.log_range.at,
			check->vhdx->head.log_range.len);
}

static void check_log(struct check *check)
{
	uint64_t at = check->vhdx->head.log_range.at;

	if (check->vhdx->log == VHDX_LOG_REPLAYED)
		vmimg_report_add(check->report, VMIMG_FINDING_NOTE, "log-pending", at,
			"the log (entries: %" PRIu64
			") waits to be replayed; all else here is as after that",
			check->vhdx->log_entries);
	else if (check->vhdx->log == VHDX_LOG_TORN)
		corrupt(check, "log-torn", at,
			"the image was not closed, and its log holds no whole entry");
	else if (check->vhdx->log == VHDX_LOG_UNUSED)
		vmimg_report_add(check->report, VMIMG_FINDING_NOTE, "log-unused", at,
			"the image was not closed, but nothing was logged");
}

static int claim_region(void *ctx, const struct vhdx_region *region, struct vmimg_error *err)
{
	(void)err;
	claim_structure(ctx, "region", region->at, region->length);
	return 0;
}

static int skip_region(void *ctx, const struct vhdx_region *region, struct vmimg_error *err)
{
	(void)ctx, (void)region, (void)err;
	return 0;
}

static void check_regions(struct check *check)
{
	struct vmimg_error why;

	for (unsigned i = 0; i < 2; i++) {
		bool in_use = i == check->vhdx->regions_index;

		if (vmimg_vhdx_read_regions(
			    check->vhdx->io, i, in_use ? claim_region : skip_region, check, &why))
			corrupt(check, "region-table", VHDX_REGIONS_AT(i), why.text);
	}
}

static void check_metadata(struct check *check)
{
	uint64_t at = check->vhdx->metadata.at;

	if (check->vhdx->params.made_up & VHDX_MADE_UP_PHYSICAL)
		corrupt(check, "physical-sector-size", at,
			"the metadata has no physical sector size of 512 or 4096");
	if (check->vhdx->params.made_up & VHDX_MADE_UP_DISK_ID)
		corrupt(check, "disk-id", at, "the metadata has no virtual disk id");
}

/* ---- the BAT ------------------------------------------------------------------------------ */

static void bad_entry(
	struct check *check, const char *code, uint64_t index, uint64_t entry, const char *what)
{
	uint64_t at = check->vhdx->bat.at + index * 8;

	if (check->mender) {
		if (!check->failed)
			check->failed = check->mender->mend(
				check->mender, code, index, entry, what, check->err);
		return;
	}
	vmimg_report_add(check->report, VMIMG_FINDING_CORRUPTION, code, at,
		"BAT entry %" PRIu64 ", 0x%" PRIx64 " at 0x%" PRIx64 ", %s", index, entry, at,
		what);
}

/* A block of len bytes, of which the first `need` hold something. */
static void check_place(
	struct check *check, uint64_t index, uint64_t entry, uint64_t len, uint64_t need)
{
	uint64_t at = VHDX_BAT_AT(entry);

	if (at < VHDX_HEAD_END)
		bad_entry(check, "bat-entry-in-headers", index, entry, "points into the headers");
	else if (!vmimg_range_inside(at, need, check->file))
		bad_entry(check, "bat-entry-past-end", index, entry,
			"points past the end of the file");
	else if (!claim(check, at, len))
		bad_entry(check, "bat-entry-overlap", index, entry,
			"points to what is in use already");
	else if (!vmimg_range_inside(at, len, check->file))
		vmimg_report_add(check->report, VMIMG_FINDING_NOTE, "block-cut", at,
			"the block at 0x%" PRIx64
			" is cut by the end of the file, behind the disk's end",
			at);
}

/* A block that is present in part needs its chunk's bitmap. Looks once a chunk. */
static int check_has_bitmap(struct check *check, uint64_t b, struct vmimg_error *err)
{
	struct vmimg_vhdx *vhdx = check->vhdx;
	uint64_t chunk = b / vhdx->geometry.ratio, entry;
	uint64_t index = vhdx_bitmap_index(&vhdx->geometry, chunk);

	if (check->chunk == chunk + 1)
		return 0;
	check->chunk = chunk + 1;
	if (vmimg_table_read(vhdx->table, &entry, sizeof(entry), vhdx->bat.at + index * 8, err))
		return -1;
	entry = vmimg_get_le64(&entry);
	if (VHDX_BAT_STATE(entry) != VHDX_BLOCK_PRESENT)
		bad_entry(check, "bitmap-missing", index, entry,
			"names no sector bitmap, and a block of its chunk is present in part");
	return 0;
}

static int check_payload(
	struct check *check, uint64_t b, uint64_t index, uint64_t entry, struct vmimg_error *err)
{
	const struct vhdx_params *params = &check->vhdx->params;
	unsigned state = VHDX_BAT_STATE(entry);

	if (state == 4)
		bad_entry(
			check, "bat-entry-state", index, entry, "has a state that does not exist");
	else if (state == VHDX_BLOCK_PARTIAL && !params->has_parent)
		bad_entry(check, "bat-entry-state", index, entry,
			"is present in part, in a disk without a parent");
	if (state != VHDX_BLOCK_PRESENT && (state != VHDX_BLOCK_PARTIAL || !params->has_parent))
		return 0;
	check->report->allocated_blocks++;
	check->report->fragmented_blocks += check->expect && VHDX_BAT_AT(entry) != check->expect;
	check->expect = VHDX_BAT_AT(entry) + params->block;
	check_place(check, index, entry, params->block,
		vmimg_min(params->block, params->size - b * params->block));
	return state == VHDX_BLOCK_PARTIAL ? check_has_bitmap(check, b, err) : 0;
}

static void check_bitmap(struct check *check, uint64_t index, uint64_t entry)
{
	bool present = VHDX_BAT_STATE(entry) == VHDX_BLOCK_PRESENT;

	if (!check->vhdx->params.has_parent)
		check->noise++; /* not read by anybody; QEMU before 8.1 leaves its traces here */
	else if (present)
		check_place(check, index, entry, VHDX_MIB, VHDX_MIB);
	else if (VHDX_BAT_STATE(entry) != VHDX_BLOCK_NOT_PRESENT)
		bad_entry(check, "bat-entry-state", index, entry,
			"is of a sector bitmap, with a state that does not exist");
}

static int check_entry(struct check *check, uint64_t index, uint64_t entry, struct vmimg_error *err)
{
	const struct vhdx_geometry *g = &check->vhdx->geometry;
	uint64_t chunk = index / (g->ratio + 1), place = index % (g->ratio + 1);
	uint64_t b = chunk * g->ratio + place;

	check->reserved += (entry & VHDX_BAT_RESERVED) != 0;
	if (place == g->ratio)
		check_bitmap(check, index, entry);
	else if (b < g->blocks)
		return check_payload(check, b, index, entry, err);
	return 0;
}

/* The next entry that is not in a hole of the file, where there is one at index. */
static int skip_hole(struct check *check, uint64_t index, uint64_t *next, struct vmimg_error *err)
{
	uint64_t len;
	bool hole;

	if (vmimg_io_extent(check->vhdx->io, check->vhdx->bat.at + index * 8, &hole, &len, err))
		return -1;
	*next = hole ? index + len / 8 : index;
	return 0;
}

static int check_bat(struct check *check, struct vmimg_error *err)
{
	struct vmimg_vhdx *vhdx = check->vhdx;
	uint64_t entries[BATCH], index = 0;

	while (index < vhdx->geometry.entries && !check->failed) {
		uint32_t count;

		if (!(index % (8 * BATCH)) && skip_hole(check, index, &index, err))
			return -1;
		if (index >= vhdx->geometry.entries)
			break;
		count = (uint32_t)vmimg_min(BATCH - index % BATCH, vhdx->geometry.entries - index);
		if (vmimg_table_read(
			    vhdx->table, entries, count * 8, vhdx->bat.at + index * 8, err))
			return -1;
		for (uint32_t i = 0; i < count; i++) {
			uint64_t entry = vmimg_get_le64(&entries[i]);

			if (entry && check_entry(check, index + i, entry, err))
				return -1;
		}
		index += count;
	}
	return 0;
}

/* Odd, but nothing that a reader looks at: one line each, however often. */
static void note_oddities(struct check *check)
{
	if (check->noise)
		vmimg_report_add(check->report, VMIMG_FINDING_NOTE, "bitmap-entry-unused",
			check->vhdx->bat.at,
			"%" PRIu64
			" BAT entries of sector bitmaps are set, in a disk without a parent",
			check->noise);
	if (check->reserved)
		vmimg_report_add(check->report, VMIMG_FINDING_NOTE, "bat-entry-reserved",
			check->vhdx->bat.at, "%" PRIu64 " BAT entries have reserved bits set",
			check->reserved);
}

int vmimg_vhdx_check_for(struct vmimg_disk *disk, struct vmimg_report *report,
	struct vhdx_mender *mender, struct vmimg_error *err)
{
	struct vmimg_vhdx *vhdx = disk->state;
	struct check check = { .vhdx = vhdx,
		.report = report,
		.file = vmimg_io_size(vhdx->io),
		.mender = mender,
		.err = err };
	int result;

	check.mibs = vmimg_div_up(vmimg_min(check.file, FILE_MAX), VHDX_MIB);
	check.used = vmimg_alloc_array(check.mibs / 8 + 1, 1, err);
	if (!check.used)
		return -1;
	report->total_blocks = vhdx->geometry.blocks;
	check_headers(&check, disk->io);
	check_log(&check);
	check_regions(&check);
	check_metadata(&check);
	result = check_bat(&check, err) || check.failed;
	note_oddities(&check);
	free(check.used);
	return result ? -1 : 0;
}

int vmimg_vhdx_check(struct vmimg_disk *disk, struct vmimg_report *report, struct vmimg_error *err)
{
	return vmimg_vhdx_check_for(disk, report, NULL, err);
}
