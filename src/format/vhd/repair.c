/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Repair: the copies of the footer from the sound one, checksums, and BAT entries that lead nowhere
 * or into space that an earlier block has. Of a block that the end of the file cuts what is there
 * stays. What a child has lost is a block of zeroes at the end of the file: without one the parent
 * would show there. Space that nobody uses is left: taking it back would mean to move data.
 */
#include <inttypes.h>
#include <string.h>
#include "disk/report.h"
#include "format/vhd/sink.h"
#include "util/num.h"
#include "util/spots.h"

struct repair {
	struct vmimg_disk *disk;
	struct vmimg_vhd *vhd;
	struct vmimg_io *rw;
	struct vmimg_report *fixed;
	struct vmimg_spots spots;            /* that blocks have */
	uint8_t foot[VMIMG_VHD_FOOTER_SIZE]; /* the copy that was chosen */
	uint64_t end; /* where the next block that is added goes; 0: none was yet */
};

/* The bytes of the copy that was chosen: what is reserved in them is kept. */
static int read_chosen(
	struct repair *r, uint8_t bytes[VMIMG_VHD_FOOTER_SIZE], struct vmimg_error *err)
{
	bool from_head = r->vhd->flaws & VMIMG_VHD_TAIL_DAMAGED;
	uint64_t at = from_head ? 0 : r->vhd->footer_at;
	size_t len = (size_t)vmimg_min(VMIMG_VHD_FOOTER_SIZE, vmimg_io_size(r->rw) - at);

	memset(bytes, 0, VMIMG_VHD_FOOTER_SIZE);
	if (vmimg_io_pread(r->rw, bytes, len, at, err))
		return -1;
	vmimg_put_be32(bytes + VMIMG_VHD_FOOTER_SUM_AT,
		vmimg_vhd_sum(bytes, VMIMG_VHD_FOOTER_SIZE, VMIMG_VHD_FOOTER_SUM_AT));
	return 0;
}

/* Where the last block ends that stays, all of it. */
static int find_blocks_end(struct repair *r, uint64_t *end, struct vmimg_error *err)
{
	uint32_t sector = 0;

	*end = 0;
	for (uint64_t i = 0; i < r->vhd->entries; i++) {
		if (vmimg_vhd_bat_entry(r->vhd, i, &sector, err))
			return -1;
		if (sector != VMIMG_VHD_UNUSED &&
			(!vmimg_vhd_judge_entry(r->disk, i, sector, NULL) ||
				vmimg_vhd_cut(r->disk, sector)))
			*end = vmimg_max(*end, sector + (uint64_t)vmimg_vhd_block_sectors(r->disk));
	}
	*end *= VMIMG_VHD_SECTOR;
	return 0;
}

/*
 * Where the footer at the end goes. A damaged one that is still there is written over; a file
 * without one ends in the data of its last block, and gets it behind that.
 */
static int find_tail(struct repair *r, uint64_t *at, struct vmimg_error *err)
{
	uint64_t size = vmimg_io_size(r->rw), end = 0;

	*at = r->vhd->footer_at;
	if (*at < size)
		return 0;
	if (find_blocks_end(r, &end, err))
		return -1;
	*at = size >= VMIMG_VHD_FOOTER_SIZE && end <= size - VMIMG_VHD_FOOTER_SIZE &&
			!(size % VMIMG_VHD_SECTOR)
		? size - VMIMG_VHD_FOOTER_SIZE
		: vmimg_align_up(vmimg_max(size, end), VMIMG_VHD_SECTOR);
	return 0;
}

/* What is wrong with them. */
static unsigned footer_flaws(const struct repair *r)
{
	return r->vhd->footer.type == VMIMG_VHD_FIXED ? 0
						      : r->vhd->flaws &
			(VMIMG_VHD_HEAD_DAMAGED | VMIMG_VHD_TAIL_DAMAGED | VMIMG_VHD_HEAD_OLDER |
				VMIMG_VHD_FOOTER_SUM);
}

/* After all else, when it is known where the file ends. */
static int repair_footers(struct repair *r, struct vmimg_error *err)
{
	uint64_t tail = vmimg_io_size(r->rw);
	unsigned flaws = footer_flaws(r);

	if (!flaws) /* but the one at the end follows what was added */
		return r->end && vmimg_io_pwrite(r->rw, r->foot, sizeof(r->foot), tail, err) ? -1
											     : 0;
	if (!r->end && find_tail(r, &tail, err))
		return -1;
	vmimg_report_add(r->fixed,
		flaws == VMIMG_VHD_HEAD_OLDER ? VMIMG_FINDING_NOTE : VMIMG_FINDING_CORRUPTION,
		"footer", tail,
		"the footer at 0x%" PRIx64 " and its copy at the start are the same again", tail);
	return vmimg_io_pwrite(r->rw, r->foot, sizeof(r->foot), 0, err) ||
			vmimg_io_pwrite(r->rw, r->foot, sizeof(r->foot), tail, err)
		? -1
		: 0;
}

static int repair_header(struct repair *r, struct vmimg_error *err)
{
	uint64_t at = r->vhd->footer.data_offset;
	uint8_t bytes[VMIMG_VHD_HEADER_SIZE];

	if (!(r->vhd->flaws & VMIMG_VHD_HEADER_SUM))
		return 0;
	if (vmimg_io_pread(r->rw, bytes, sizeof(bytes), at, err))
		return -1;
	vmimg_put_be32(bytes + VMIMG_VHD_HEADER_SUM_AT,
		vmimg_vhd_sum(bytes, sizeof(bytes), VMIMG_VHD_HEADER_SUM_AT));
	vmimg_report_add(r->fixed, VMIMG_FINDING_CORRUPTION, "header-checksum", at,
		"the dynamic disk header's checksum is right again");
	return vmimg_io_pwrite(r->rw, bytes, sizeof(bytes), at, err);
}

/* A block of zeroes, all of which are here, behind all others: where the footer is until then. */
static int add_blank(struct repair *r, uint32_t *sector, struct vmimg_error *err)
{
	uint32_t size = r->disk->block, bitmap = r->vhd->bitmap_bytes;
	VMIMG_AUTO(free) uint8_t *bits = vmimg_alloc_array(bitmap, 1, err);
	uint64_t at = r->end, end = 0;

	if (!bits || (!at && find_blocks_end(r, &end, err)))
		return -1;
	at = at ? at : vmimg_vhd_first_block(vmimg_max(r->vhd->footer_at, end), bitmap);
	end = at + bitmap + size;
	if (end / VMIMG_VHD_SECTOR >= VMIMG_VHD_UNUSED)
		return vmimg_fail(err, VMIMG_ELIMIT, "a dynamic VHD file ends at 2 TiB");
	memset(bits, 0xff, vmimg_div_up(size / VMIMG_VHD_SECTOR, 8));
	if (vmimg_io_pwrite(r->rw, bits, bitmap, at, err) ||
		(vmimg_io_size(r->rw) < end && vmimg_io_resize(r->rw, end, err)))
		return -1;
	*sector = (uint32_t)(at / VMIMG_VHD_SECTOR);
	r->end = at + vmimg_vhd_block_stride(size, bitmap);
	return 0;
}

static void tell(struct repair *r, uint64_t i, uint32_t sector, const char *wrong, const char *now)
{
	r->fixed->given_up++;
	vmimg_report_add(r->fixed, VMIMG_FINDING_CORRUPTION, "bat-entry", r->vhd->bat_at + 4 * i,
		"BAT entry %" PRIu64 " was 0x%08" PRIx32 ": %s: %s", i, sector, wrong, now);
}

static int repair_entry(struct repair *r, uint64_t i, uint32_t sector, struct vmimg_error *err)
{
	bool child = r->vhd->footer.type == VMIMG_VHD_DIFFERENCING;
	const char *wrong = vmimg_vhd_judge_entry(r->disk, i, sector, NULL);
	bool cut = wrong && vmimg_vhd_cut(r->disk, sector), vacant = false;
	uint32_t now = VMIMG_VHD_UNUSED;
	uint8_t raw[4];

	if ((!wrong || cut) && vmimg_spots_take(&r->spots, sector, &vacant, err))
		return -1;
	if (vacant) {
		if (cut) /* the footer goes behind it */
			tell(r, i, sector, wrong, "what is missing is zero now");
		return 0;
	}
	wrong = wrong && !cut ? wrong : "the block lies over another one";
	tell(r, i, sector, wrong, child ? "zero now" : "cleared");
	if (child && add_blank(r, &now, err))
		return -1;
	vmimg_put_be32(raw, now);
	return vmimg_io_pwrite(r->rw, raw, sizeof(raw), r->vhd->bat_at + 4 * i, err);
}

static int repair_table(struct repair *r, struct vmimg_error *err)
{
	uint32_t sector = 0;

	if (r->vhd->footer.type == VMIMG_VHD_FIXED)
		return 0;
	r->spots.width = vmimg_vhd_block_sectors(r->disk);
	for (uint64_t i = 0; i < r->vhd->entries; i++) {
		if (vmimg_vhd_bat_entry(r->vhd, i, &sector, err))
			return -1;
		if (sector != VMIMG_VHD_UNUSED && repair_entry(r, i, sector, err))
			return -1;
	}
	return 0;
}

/* Xen's batmap says which blocks are full; its checksum is over the map alone. */
static int repair_batmap(struct repair *r, struct vmimg_error *err)
{
	uint8_t bytes[VMIMG_VHD_BATMAP_SIZE], raw[4];
	struct vmimg_vhd_batmap batmap;
	uint32_t sum = 0;
	uint64_t len;

	if (!r->vhd->batmap_at)
		return 0;
	if (vmimg_io_pread(r->rw, bytes, sizeof(bytes), r->vhd->batmap_at, err))
		return -1;
	vmimg_vhd_batmap_decode(&batmap, bytes);
	len = (uint64_t)batmap.sectors * VMIMG_VHD_SECTOR;
	if (!vmimg_range_inside(batmap.at, len, vmimg_io_size(r->rw)))
		return 0;
	for (uint64_t done = 0; done < len; done += sizeof(bytes)) {
		if (vmimg_io_pread(r->rw, bytes, sizeof(bytes), batmap.at + done, err))
			return -1;
		for (size_t i = 0; i < sizeof(bytes); i++)
			sum += bytes[i];
	}
	if (batmap.checksum == ~sum)
		return 0;
	vmimg_report_add(r->fixed, VMIMG_FINDING_CORRUPTION, "batmap-checksum", r->vhd->batmap_at,
		"the batmap's checksum is right again");
	vmimg_put_be32(raw, ~sum);
	return vmimg_io_pwrite(r->rw, raw, sizeof(raw), r->vhd->batmap_at + 24, err);
}

int vmimg_vhd_repair(struct vmimg_disk *disk, struct vmimg_io *rw, struct vmimg_report *fixed,
	struct vmimg_error *err)
{
	struct vmimg_vhd *vhd = disk->state;
	struct repair r = { .disk = disk, .vhd = vhd, .rw = rw, .fixed = fixed };
	bool failed;

	if (vhd->parts > 1) /* a second line of defence: the command line has refused it */
		return vmimg_fail(err, VMIMG_EUNSUPPORTED,
			"an image in several files is not repaired in place: name a new file with "
			"-o");
	failed = read_chosen(&r, r.foot, err) || repair_header(&r, err) || repair_table(&r, err) ||
		repair_footers(&r, err) || repair_batmap(&r, err);
	vmimg_spots_done(&r.spots);
	return failed ? -1 : 0;
}
