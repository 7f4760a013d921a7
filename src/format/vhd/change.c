/* SPDX-License-Identifier: Apache-2.0 */
/* Footers, the header, the end of the file, and the space in it, for changes in place. */
#include "format/vhd/change.h"
#include <inttypes.h>
#include <string.h>
#include "util/num.h"

/* How much further than needed the footer goes at most: each step costs a flush. */
#define MOST_GROWTH (UINT64_C(64) << 20)

/* ---- before the change ---- */

int vmimg_vhd_begin(struct vmimg_disk *disk, struct vmimg_error *err)
{
	const struct vmimg_vhd *vhd = disk->state;
	bool split = vmimg_vhd_is_split(disk);

	if (split || disk->io->is_device)
		return vmimg_fail(err, VMIMG_EUNSUPPORTED,
			split ? "it is split into several files"
			      : "its footer lies at the end of a device");
	if (vhd->flaws & ~(unsigned)VMIMG_VHD_HARMLESS)
		return vmimg_fail(err, VMIMG_EREFUSED,
			"its footer or header is damaged: repair it before it is changed");
	return vhd->flaws & VMIMG_VHD_HEAD_OLDER ? vmimg_vhd_put_footer(disk, &vhd->footer, 0, err)
						 : 0;
}

int vmimg_vhd_begin_blocks(struct vmimg_disk *disk, const char *what, struct vmimg_error *err)
{
	const struct vmimg_vhd *vhd = disk->state;

	if (vhd->footer.type == VMIMG_VHD_FIXED)
		return vmimg_fail(err, VMIMG_EUNSUPPORTED,
			"a fixed VHD is as large as its disk, with no parent: %s has no meaning",
			what);
	return vmimg_vhd_begin(disk, err);
}

/* ---- footer and header ---- */

int vmimg_vhd_put_footer(struct vmimg_disk *disk, const struct vmimg_vhd_footer *footer,
	uint64_t at, struct vmimg_error *err)
{
	uint8_t bytes[VMIMG_VHD_FOOTER_SIZE] = { 0 };

	vmimg_vhd_footer_encode(footer, bytes);
	vmimg_put_be32(bytes + VMIMG_VHD_FOOTER_SUM_AT,
		vmimg_vhd_sum(bytes, sizeof(bytes), VMIMG_VHD_FOOTER_SUM_AT));
	if (vmimg_io_pwrite(disk->io, bytes, sizeof(bytes), at, err))
		return -1;
	return vmimg_io_sync(disk->io, err);
}

int vmimg_vhd_put_footers(
	struct vmimg_disk *disk, const struct vmimg_vhd_footer *footer, struct vmimg_error *err)
{
	const struct vmimg_vhd *vhd = disk->state;

	if (vmimg_vhd_put_footer(disk, footer, vhd->footer_at, err))
		return -1;
	return footer->type == VMIMG_VHD_FIXED ? 0 : vmimg_vhd_put_footer(disk, footer, 0, err);
}

int vmimg_vhd_put_header(struct vmimg_disk *disk, const struct vmimg_vhd_header *header,
	uint64_t at, size_t len, struct vmimg_error *err)
{
	const struct vmimg_vhd *vhd = disk->state;
	uint8_t bytes[VMIMG_VHD_HEADER_SIZE];

	if (vmimg_io_pread(disk->io, bytes, sizeof(bytes), vhd->footer.data_offset, err))
		return -1;
	vmimg_vhd_header_encode(header, bytes);
	vmimg_put_be32(bytes + VMIMG_VHD_HEADER_SUM_AT,
		vmimg_vhd_sum(bytes, sizeof(bytes), VMIMG_VHD_HEADER_SUM_AT));
	return vmimg_io_pwrite(disk->io, bytes, len, at, err);
}

/* ---- the end of the file ---- */

void vmimg_vhd_end_init(struct vmimg_vhd_end *end, struct vmimg_disk *disk)
{
	const struct vmimg_vhd *vhd = disk->state;

	*end = (struct vmimg_vhd_end){ .disk = disk,
		.footer = vhd->footer,
		.footer_at = vhd->footer_at,
		.used_to = vmimg_io_size(vhd->io) };
}

int vmimg_vhd_end_extend(
	struct vmimg_vhd_end *end, uint64_t at, uint64_t len, struct vmimg_error *err)
{
	struct vmimg_io *io = end->disk->io;
	uint64_t growth = vmimg_min(MOST_GROWTH, 4 * len + end->footer_at / 4);
	uint64_t far = vmimg_align_up(at + len + growth, VMIMG_VHD_SECTOR);

	if (at + len > end->footer_at) {
		uint64_t old = end->footer_at;

		if (vmimg_vhd_put_footer(end->disk, &end->footer, far, err) ||
			vmimg_io_zero(io, old, VMIMG_VHD_FOOTER_SIZE, err))
			return -1;
		end->footer_at = far;
	}
	if (at >= end->used_to)
		return 0;
	return vmimg_io_zero(io, at, vmimg_min(len, end->used_to - at), err);
}

int vmimg_vhd_end_cut(struct vmimg_vhd_end *end, uint64_t at, struct vmimg_error *err)
{
	struct vmimg_io *io = end->disk->io;

	if (at == end->footer_at || (at < end->footer_at && at + VMIMG_VHD_SECTOR > end->footer_at))
		return 0; /* the two would overlap */
	if (vmimg_vhd_put_footer(end->disk, &end->footer, at, err) ||
		vmimg_io_resize(io, at + VMIMG_VHD_FOOTER_SIZE, err))
		return -1;
	end->footer_at = at;
	return vmimg_io_sync(io, err);
}

/* ---- what is where ---- */

static int add_bytes(
	struct vmimg_blocks *blocks, uint64_t at, uint64_t len, struct vmimg_error *err)
{
	uint64_t start = at / VMIMG_VHD_SECTOR;
	uint64_t end = vmimg_div_up(at + len, VMIMG_VHD_SECTOR);

	return vmimg_blocks_add(blocks, start, end - start, err);
}

/* Writers differ in whether the space of a locator is in bytes or in sectors. */
static int add_locators(
	struct vmimg_blocks *blocks, const struct vmimg_vhd *vhd, struct vmimg_error *err)
{
	for (unsigned i = 0; i < VMIMG_VHD_LOCATORS; i++) {
		struct vmimg_vhd_locator locator;
		uint64_t len;

		vmimg_vhd_locator_decode(
			&locator, vhd->header.locators + i * VMIMG_VHD_LOCATOR_SIZE);
		len = locator.space < locator.len ? (uint64_t)locator.space * VMIMG_VHD_SECTOR
						  : locator.space;
		len = vmimg_max(len, locator.len);
		if (locator.len && vmimg_range_inside(locator.at, len, vmimg_io_size(vhd->io)) &&
			add_bytes(blocks, locator.at, len, err))
			return -1;
	}
	return 0;
}

static int add_batmap(struct vmimg_blocks *blocks, struct vmimg_vhd *vhd, struct vmimg_error *err)
{
	struct vmimg_vhd_batmap batmap;

	if (!vhd->batmap_at)
		return 0;
	if (vmimg_vhd_read_batmap(vhd, &batmap, err) ||
		add_bytes(blocks, vhd->batmap_at, VMIMG_VHD_BATMAP_SIZE, err))
		return -1;
	return add_bytes(blocks, batmap.at, (uint64_t)batmap.sectors * VMIMG_VHD_SECTOR, err);
}

struct adding {
	const struct vmimg_disk *disk;
	struct vmimg_blocks *blocks;
};

/* The image may have been opened without a look at the BAT. */
static int add_block(void *ctx, uint64_t i, uint32_t sector, struct vmimg_error *err)
{
	struct adding *adding = ctx;
	const char *wrong = vmimg_vhd_judge_entry(adding->disk, i, sector, NULL);

	if (!wrong && vmimg_vhd_over_batmap(adding->disk, sector))
		wrong = "the block lies over the batmap";
	if (wrong)
		return vmimg_fail(err, VMIMG_ECORRUPT,
			"BAT entry %" PRIu64 " is 0x%08" PRIx32 ": %s (repair it first)", i, sector,
			wrong);
	return vmimg_blocks_add(adding->blocks, sector, adding->blocks->width, err);
}

int vmimg_vhd_space(struct vmimg_disk *disk, struct vmimg_blocks *blocks, bool with_blocks,
	struct vmimg_error *err)
{
	struct vmimg_vhd *vhd = disk->state;
	struct adding adding = { disk, blocks };
	uint32_t step = 4096 / VMIMG_VHD_SECTOR, bitmap = vhd->bitmap_bytes / VMIMG_VHD_SECTOR;

	vmimg_blocks_init(
		blocks, vmimg_vhd_block_sectors(disk), step, (step - bitmap % step) % step);
	if (add_bytes(blocks, 0, VMIMG_VHD_FOOTER_SIZE, err) ||
		add_bytes(blocks, vhd->footer.data_offset, VMIMG_VHD_HEADER_SIZE, err) ||
		add_bytes(blocks, vhd->bat_at, 4 * (uint64_t)vhd->header.entries, err) ||
		add_locators(blocks, vhd, err) || add_batmap(blocks, vhd, err) ||
		(with_blocks && vmimg_vhd_walk(vhd, add_block, &adding, err)))
		return -1;
	vmimg_blocks_room(blocks, 0);
	return 0;
}

/* ---- Xen's batmap ---- */

static int load_batmap(
	struct vmimg_vhd *vhd, struct vmimg_vhd_batmap *batmap, struct vmimg_error *err)
{
	uint8_t bytes[VMIMG_VHD_BATMAP_SIZE];

	if (vmimg_io_pread(vhd->io, bytes, sizeof(bytes), vhd->batmap_at, err))
		return vmimg_within(err, "batmap");
	vmimg_vhd_batmap_decode(batmap, bytes);
	return 0;
}

int vmimg_vhd_read_batmap(
	struct vmimg_vhd *vhd, struct vmimg_vhd_batmap *batmap, struct vmimg_error *err)
{
	const char *wrong;

	if (load_batmap(vhd, batmap, err))
		return -1;
	wrong = vmimg_vhd_judge_batmap(vhd, batmap);
	return wrong ? vmimg_fail(err, VMIMG_ECORRUPT,
			       "the batmap (%" PRIu32 " sectors at 0x%" PRIx64 ") %s",
			       batmap->sectors, batmap->at, wrong)
		     : 0;
}

/* The map's checksum is the complement of the sum of its bytes: of none, when no bit is set. */
int vmimg_vhd_put_batmap(struct vmimg_disk *disk, uint64_t header_at, uint64_t map_at,
	uint32_t sectors, struct vmimg_error *err)
{
	struct vmimg_vhd *vhd = disk->state;
	uint8_t bytes[VMIMG_VHD_BATMAP_SIZE];
	struct vmimg_vhd_batmap batmap;

	if (vmimg_io_pread(disk->io, bytes, sizeof(bytes), vhd->batmap_at, err))
		return -1;
	vmimg_vhd_batmap_decode(&batmap, bytes);
	batmap.at = map_at;
	batmap.sectors = sectors;
	batmap.checksum = UINT32_MAX;
	vmimg_vhd_batmap_encode(&batmap, bytes);
	return vmimg_io_pwrite(disk->io, bytes, sizeof(bytes), header_at, err);
}

int vmimg_vhd_clear_batmap(struct vmimg_disk *disk, struct vmimg_blocks *blocks,
	struct vmimg_vhd_end *end, struct vmimg_error *err)
{
	struct vmimg_vhd *vhd = disk->state;
	struct vmimg_vhd_batmap batmap;
	uint64_t at = blocks->end * VMIMG_VHD_SECTOR;

	if (!vhd->batmap_at)
		return 0;
	/* a change before may have put it past what was the end */
	if (load_batmap(vhd, &batmap, err))
		return -1;
	if (batmap.checksum == UINT32_MAX)
		return 0;
	blocks->end += batmap.sectors;
	if (vmimg_vhd_end_extend(end, at, (uint64_t)batmap.sectors * VMIMG_VHD_SECTOR, err) ||
		vmimg_io_sync(disk->io, err) ||
		vmimg_vhd_put_batmap(disk, vhd->batmap_at, at, batmap.sectors, err))
		return -1;
	return vmimg_io_sync(disk->io, err);
}
