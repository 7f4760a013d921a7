/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Repair: a log is replayed, the copy of a table that is damaged is made from the sound one, and
 * BAT entries that check finds wrong read as zeroes. A block that the file's end cuts keeps what is
 * there. Whatever was fixed, the header that is not in use becomes the newer one, without a log, so
 * that a damaged one is replaced in passing.
 */
#include <inttypes.h>
#include <string.h>
#include "disk/report.h"
#include "format/vhdx/vhdx.h"
#include "util/num.h"

struct repair {
	struct vhdx_mender mender;
	struct vmimg_disk *disk;
	struct vmimg_vhdx *vhdx;
	struct vmimg_io *rw;
	struct vmimg_report *fixed;
	uint64_t before; /* fixes when the round began */
};

static uint64_t fixes(const struct repair *r)
{
	const uint64_t *count = r->fixed->count;

	return count[VMIMG_FINDING_NOTE] + count[VMIMG_FINDING_CORRUPTION];
}

/* ---- the log ---- */

static int repair_log(struct repair *r, struct vmimg_error *err)
{
	uint64_t at = r->vhdx->head.log_range.at;

	switch (r->vhdx->log) {
	case VHDX_LOG_CLEAN:
		return 0;
	case VHDX_LOG_UNUSED:
		vmimg_report_add(r->fixed, VMIMG_FINDING_NOTE, "log-unused", at,
			"no header names the log any more, to which nothing was written");
		return 0;
	case VHDX_LOG_TORN:
		vmimg_report_add(r->fixed, VMIMG_FINDING_CORRUPTION, "log-torn", at,
			"no header names the log any more, which held no whole entry: the tables "
			"stay as they were before it");
		return 0;
	case VHDX_LOG_REPLAYED:
		vmimg_report_add(r->fixed, VMIMG_FINDING_NOTE, "log-pending", at,
			"the log (entries: %" PRIu64 ") was replayed", r->vhdx->log_entries);
		return vmimg_vhdx_replay_into(r->vhdx, r->rw, err);
	}
	return 0;
}

/* ---- copies ---- */

static void note_header(struct repair *r)
{
	unsigned other = 1U - r->vhdx->head_index;
	struct vmimg_error why;
	struct vhdx_head head;

	if (vmimg_vhdx_read_header(r->rw, other, &head, &why) && why.status == VMIMG_ECORRUPT)
		vmimg_report_add(r->fixed, VMIMG_FINDING_CORRUPTION, "header",
			VHDX_HEADER_AT(other), "header %u is made anew from header %u", other + 1,
			r->vhdx->head_index + 1);
}

static int skip_region(void *ctx, const struct vhdx_region *region, struct vmimg_error *err)
{
	(void)ctx, (void)region, (void)err;
	return 0;
}

static int repair_regions(struct repair *r, struct vmimg_error *err)
{
	unsigned sound = r->vhdx->regions_index, other = 1U - sound;
	VMIMG_AUTO(free) uint8_t *bytes = vmimg_alloc_buffer(VHDX_REGIONS_SIZE, err);
	struct vmimg_error why;

	/* the first one is not in use when there is anything at all wrong with it */
	if (!bytes)
		return -1;
	if (!sound &&
		(!vmimg_vhdx_read_regions(r->rw, other, skip_region, NULL, &why) ||
			why.status != VMIMG_ECORRUPT))
		return 0;
	vmimg_report_add(r->fixed, VMIMG_FINDING_CORRUPTION, "region-table", VHDX_REGIONS_AT(other),
		"region table %u is made anew from table %u", other + 1, sound + 1);
	return vmimg_io_pread(r->rw, bytes, VHDX_REGIONS_SIZE, VHDX_REGIONS_AT(sound), err) ||
			vmimg_io_pwrite(
				r->rw, bytes, VHDX_REGIONS_SIZE, VHDX_REGIONS_AT(other), err)
		? -1
		: 0;
}

/* ---- metadata ---- */

static int put_item(
	struct repair *r, const char *guid, const void *bytes, size_t len, struct vmimg_error *err)
{
	return vmimg_vhdx_put_item(r->rw, &r->vhdx->metadata, guid,
		VHDX_METADATA_REQUIRED | VHDX_METADATA_VIRTUAL, bytes, len, err);
}

static int repair_metadata(struct repair *r, struct vmimg_error *err)
{
	const struct vhdx_params *params = &r->vhdx->params;
	char text[VMIMG_GUID_TEXT];
	uint8_t bytes[16];

	if (params->made_up & VHDX_MADE_UP_PHYSICAL) {
		vmimg_put_le32(bytes, params->physical);
		vmimg_report_add(r->fixed, VMIMG_FINDING_CORRUPTION, "physical-sector-size",
			r->vhdx->metadata.at, "the physical sector size is %" PRIu32 " again",
			params->physical);
		if (put_item(r, VHDX_GUID_PHYSICAL_SECTOR, bytes, 4, err))
			return -1;
	}
	if (!(params->made_up & VHDX_MADE_UP_DISK_ID))
		return 0;
	vmimg_guid_put_mixed(&params->disk_id, bytes);
	vmimg_report_add(r->fixed, VMIMG_FINDING_CORRUPTION, "disk-id", r->vhdx->metadata.at,
		"the virtual disk id, which was lost, is %s now",
		vmimg_guid_format(text, &params->disk_id));
	return put_item(r, VHDX_GUID_DISK_ID, bytes, 16, err);
}

/* ---- the BAT ---- */

static int put_entry(struct repair *r, uint64_t index, uint64_t entry, struct vmimg_error *err)
{
	uint8_t bytes[8];

	vmimg_put_le64(bytes, entry);
	return vmimg_io_pwrite(r->rw, bytes, sizeof(bytes), r->vhdx->bat.at + 8 * index, err);
}

static void tell(struct repair *r, const char *code, uint64_t index, uint64_t entry,
	const char *what, const char *now)
{
	r->fixed->given_up++;
	vmimg_report_add(r->fixed, VMIMG_FINDING_CORRUPTION, code, r->vhdx->bat.at + 8 * index,
		"BAT entry %" PRIu64 " was 0x%" PRIx64 ": it %s: %s", index, entry, what, now);
}

/* Not "not present": what a parent has there is not what was written here. */
static int clear_entry(struct repair *r, const char *code, uint64_t index, uint64_t entry,
	const char *what, struct vmimg_error *err)
{
	bool bitmap = vhdx_is_bitmap_index(&r->vhdx->geometry, index);

	tell(r, code, index, entry, what, bitmap ? "cleared" : "zero now");
	return put_entry(r, index, bitmap ? 0 : VHDX_BLOCK_ZERO, err);
}

/* Which sectors of them are here is not known any more. */
static int clear_partial(
	struct repair *r, const char *code, uint64_t bitmap, struct vmimg_error *err)
{
	const struct vhdx_geometry *g = &r->vhdx->geometry;
	uint64_t first = bitmap - g->ratio, entry;

	for (uint64_t i = first; i < bitmap && vhdx_block_of(g, i) < g->blocks; i++) {
		if (vmimg_io_pread(r->rw, &entry, sizeof(entry), r->vhdx->bat.at + 8 * i, err))
			return -1;
		entry = vmimg_get_le64(&entry);
		if (VHDX_BAT_STATE(entry) == VHDX_BLOCK_PARTIAL &&
			clear_entry(r, code, i, entry,
				"is present in part, and its chunk has no sector bitmap", err))
			return -1;
	}
	return 0;
}

/* The end of the file cuts the block: what is gone is zeroes, what is there stays. */
static bool is_cut(const struct repair *r, uint64_t index, uint64_t entry)
{
	uint64_t at = VHDX_BAT_AT(entry);

	return vhdx_holds_data(entry) && !vhdx_is_bitmap_index(&r->vhdx->geometry, index) &&
		at >= VHDX_HEAD_END && at < vmimg_io_size(r->rw);
}

static int fill_up(struct repair *r, const char *code, uint64_t index, uint64_t entry,
	const char *what, struct vmimg_error *err)
{
	uint64_t size = vmimg_io_size(r->rw),
		 whole = vmimg_align_down(size, r->vhdx->params.logical);

	tell(r, code, index, entry, what, "what is missing is zero now");
	if (whole < size && vmimg_io_zero(r->rw, whole, size - whole, err))
		return -1;
	return vmimg_io_resize(r->rw, VHDX_BAT_AT(entry) + r->vhdx->params.block, err);
}

static int mend(struct vhdx_mender *mender, const char *code, uint64_t index, uint64_t entry,
	const char *what, struct vmimg_error *err)
{
	struct repair *r = (struct repair *)mender;

	if (!strcmp(code, "bitmap-missing"))
		return clear_partial(r, code, index, err);
	if (!strcmp(code, "bat-entry-past-end") && is_cut(r, index, entry))
		return fill_up(r, code, index, entry, what, err);
	return clear_entry(r, code, index, entry, what, err);
}

static int repair_table(struct repair *r, struct vmimg_error *err)
{
	VMIMG_AUTO(free) struct vmimg_report *found = vmimg_new(struct vmimg_report, err);

	return found ? vmimg_vhdx_check_for(r->disk, found, &r->mender, err) : -1;
}

/* ---- */

/* A file that has changed has another file write GUID ([MS-VHDX] 2.2.2). */
static int put_header(struct repair *r, struct vmimg_error *err)
{
	struct vhdx_head head = r->vhdx->head;

	if (fixes(r) == r->before)
		return 0;
	head.sequence++;
	head.log = (struct vmimg_guid){ 0 };
	if (vmimg_guid_make(&head.file_write, false,
		    vmimg_get_le64(head.file_write.bytes) ^ head.sequence, "vhdx file write", err))
		return -1;
	return vmimg_vhdx_put_header(r->rw, 1U - r->vhdx->head_index, &head, err);
}

int vmimg_vhdx_repair(struct vmimg_disk *disk, struct vmimg_io *rw, struct vmimg_report *fixed,
	struct vmimg_error *err)
{
	struct repair r = { { mend }, disk, disk->state, rw, fixed, 0 };

	r.before = fixes(&r);
	note_header(&r);
	if (repair_log(&r, err))
		return -1;
	/* a log may have changed all else: that is looked at when the image is opened anew */
	if (r.vhdx->log == VHDX_LOG_CLEAN &&
		(repair_regions(&r, err) || repair_metadata(&r, err) || repair_table(&r, err)))
		return -1;
	return put_header(&r, err);
}
