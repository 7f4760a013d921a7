/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Where the guest's bytes live. A block is a sector bitmap followed by the block's sectors; a clear
 * bit means that the sector is not here: the parent has it, or it is zero.
 */
#include <inttypes.h>
#include <string.h>
#include "format/vhd/vhd.h"
#include "util/num.h"

/* Entries of the BAT, and bytes of a bitmap, looked at in one go. */
#define STRIDE 512U
/* Entries after which a run of absent blocks is long enough. */
#define ENOUGH 65536U

int vmimg_vhd_bat_entry(
	struct vmimg_vhd *vhd, uint64_t i, uint32_t *sector, struct vmimg_error *err)
{
	uint8_t bytes[4];

	if (vmimg_table_read(vhd->table, bytes, sizeof(bytes), vhd->bat_at + 4 * i, err))
		return vmimg_within(err, "block table");
	*sector = vmimg_get_be32(bytes);
	return 0;
}

int vmimg_vhd_walk(
	struct vmimg_vhd *vhd, vmimg_vhd_visit *visit, void *ctx, struct vmimg_error *err)
{
	uint8_t bytes[STRIDE * 4];

	for (uint64_t i = 0; i < vhd->entries; i += STRIDE) {
		uint64_t count = vmimg_min(STRIDE, vhd->entries - i);

		if (vmimg_table_read(vhd->table, bytes, count * 4, vhd->bat_at + 4 * i, err))
			return vmimg_within(err, "block table");
		for (uint64_t k = 0; k < count; k++) {
			uint32_t sector = vmimg_get_be32(bytes + 4 * k);

			if (sector != VMIMG_VHD_UNUSED && visit(ctx, i + k, sector, err))
				return -1;
		}
	}
	return 0;
}

static bool overlap(uint64_t a, uint64_t a_len, uint64_t b, uint64_t b_len)
{
	return a < b + b_len && b < a + a_len;
}

/* The copy of the footer, the header, the BAT. */
static bool over_tables(const struct vmimg_vhd *vhd, uint64_t at, uint64_t len)
{
	return overlap(at, len, 0, VMIMG_VHD_FOOTER_SIZE) ||
		overlap(at, len, vhd->footer.data_offset, VMIMG_VHD_HEADER_SIZE) ||
		overlap(at, len, vhd->bat_at, 4 * (uint64_t)vhd->header.entries);
}

static uint64_t whole_block(const struct vmimg_disk *disk)
{
	return (uint64_t)vmimg_vhd_block_sectors(disk) * VMIMG_VHD_SECTOR;
}

/* Of the disk's last block only what the disk has needs to be in the file. The rest, which is the
 * guest's when the disk grows, may reach over the footer, which moves then, and over nothing else.
 */
const char *vmimg_vhd_judge_entry(
	const struct vmimg_disk *disk, uint64_t i, uint32_t sector, const char **code)
{
	const struct vmimg_vhd *vhd = disk->state;
	uint64_t at = (uint64_t)sector * VMIMG_VHD_SECTOR;
	uint64_t len = vhd->bitmap_bytes + vmimg_min(disk->block, disk->size - i * disk->block);
	const char *unused;

	code = code ? code : &unused;
	*code = "bat-entry-past-end";
	if (!vmimg_range_inside(at, len, vmimg_io_size(vhd->io)))
		return "the block reaches past the end of the file";
	*code = "bat-entry-in-tables";
	if (!vmimg_range_inside(at, len, vhd->footer_at))
		return "the block lies over the footer";
	return over_tables(vhd, at, whole_block(disk))
		? "the block lies over the headers or the block table"
		: NULL;
}

uint64_t vmimg_vhd_cut(const struct vmimg_disk *disk, uint32_t sector)
{
	const struct vmimg_vhd *vhd = disk->state;
	uint64_t at = (uint64_t)sector * VMIMG_VHD_SECTOR, size = vmimg_io_size(vhd->io);
	uint64_t data = at + vhd->bitmap_bytes;

	if (vhd->footer_at < size || data >= size || over_tables(vhd, at, whole_block(disk)))
		return 0;
	return vmimg_align_down(size - data, VMIMG_VHD_SECTOR);
}

const char *vmimg_vhd_judge_batmap(
	const struct vmimg_vhd *vhd, const struct vmimg_vhd_batmap *batmap)
{
	uint64_t len = (uint64_t)batmap->sectors * VMIMG_VHD_SECTOR;

	if (!vmimg_range_inside(batmap->at, len, vhd->footer_at) ||
		len < vmimg_div_up(vhd->entries, 8))
		return "is too small or past the end of the file";
	if (over_tables(vhd, batmap->at, len) ||
		overlap(batmap->at, len, vhd->batmap_at, VMIMG_VHD_BATMAP_SIZE))
		return "lies over other tables";
	return NULL;
}

static bool over_batmap(const struct vmimg_vhd *vhd, uint64_t at, uint64_t len)
{
	uint64_t map = (uint64_t)vhd->batmap.sectors * VMIMG_VHD_SECTOR;

	return vhd->batmap_at &&
		(overlap(at, len, vhd->batmap_at, VMIMG_VHD_BATMAP_SIZE) ||
			(!vmimg_vhd_judge_batmap(vhd, &vhd->batmap) &&
				overlap(at, len, vhd->batmap.at, map)));
}

bool vmimg_vhd_over_batmap(const struct vmimg_disk *disk, uint32_t sector)
{
	return over_batmap(disk->state, (uint64_t)sector * VMIMG_VHD_SECTOR, whole_block(disk));
}

bool vmimg_vhd_is_free(const struct vmimg_vhd *vhd, uint64_t at, uint64_t len)
{
	return vmimg_range_inside(at, len, vhd->footer_at) && !over_tables(vhd, at, len) &&
		!over_batmap(vhd, at, len);
}

/* How many blocks from i on are not in the file. */
static int count_absent(struct vmimg_vhd *vhd, uint64_t i, uint64_t *count, struct vmimg_error *err)
{
	uint8_t bytes[STRIDE * 4];
	uint64_t start = i;

	while (i < vhd->entries && i - start < ENOUGH) {
		uint64_t step = vmimg_min(STRIDE, vhd->entries - i), k = 0;

		if (vmimg_table_read(vhd->table, bytes, step * 4, vhd->bat_at + 4 * i, err))
			return vmimg_within(err, "block table");
		while (k < step && vmimg_get_be32(bytes + 4 * k) == VMIMG_VHD_UNUSED)
			k++;
		i += k;
		if (k < step)
			break;
	}
	*count = i - start;
	return 0;
}

/* How many bits from `from` on, of the count bits at bytes, equal the first. */
static uint32_t count_bits(const uint8_t *bytes, uint32_t from, uint32_t count, bool set)
{
	const uint8_t whole = set ? 0xff : 0;
	uint32_t i = from;

	while (i < count) {
		if (!(i % 8) && count - i >= 8 && bytes[i / 8] == whole) {
			i += 8;
			continue;
		}
		if (((bytes[i / 8] >> (7 - i % 8)) & 1) != set)
			break;
		i++;
	}
	return i - from;
}

/* The sectors of one block from `sector` on that are all here, or all not here. */
static int measure_run(struct vmimg_vhd *vhd, uint64_t bitmap_at, uint32_t sector, uint32_t sectors,
	bool *here, uint32_t *count, struct vmimg_error *err)
{
	uint8_t bytes[STRIDE];
	uint32_t done = 0;

	while (sector + done < sectors) {
		uint32_t first = (sector + done) / 8 / STRIDE * STRIDE; /* byte of the bitmap */
		uint32_t from = sector + done - first * 8;
		uint32_t have = (uint32_t)vmimg_min(sectors - first * 8, STRIDE * 8), run;

		if (vmimg_table_read(
			    vhd->bitmaps, bytes, vmimg_div_up(have, 8), bitmap_at + first, err))
			return vmimg_within(err, "sector bitmap");
		if (!done)
			*here = bytes[from / 8] >> (7 - from % 8) & 1;
		run = count_bits(bytes, from, have, *here);
		done += run;
		if (from + run < have)
			break;
	}
	*count = done;
	return 0;
}

static int map_block(struct vmimg_disk *disk, uint64_t at, uint32_t sector, struct vmimg_run *run,
	struct vmimg_error *err)
{
	struct vmimg_vhd *vhd = disk->state;
	uint64_t bitmap_at = (uint64_t)sector * VMIMG_VHD_SECTOR, skip = at % disk->block;
	uint32_t sectors = disk->block / VMIMG_VHD_SECTOR, count;
	uint32_t within = (uint32_t)(skip % VMIMG_VHD_SECTOR);
	bool here;

	if (measure_run(vhd, bitmap_at, (uint32_t)(skip / VMIMG_VHD_SECTOR), sectors, &here, &count,
		    err))
		return -1;
	run->kind = here ? VMIMG_RUN_DATA : VMIMG_RUN_ABSENT;
	run->len = (uint64_t)count * VMIMG_VHD_SECTOR - within;
	run->io = vhd->io;
	run->at = bitmap_at + vhd->bitmap_bytes + skip;
	return 0;
}

/* For recovery: what there is of a block that the end of the file cuts. */
static int map_wrong(struct vmimg_disk *disk, uint64_t at, uint32_t sector, struct vmimg_run *run,
	struct vmimg_error *err)
{
	uint64_t block = at / disk->block, inside = at % disk->block;
	const char *wrong = vmimg_vhd_judge_entry(disk, block, sector, NULL);
	uint64_t have = vmimg_vhd_cut(disk, sector);

	if (have && map_block(disk, at, sector, run, err))
		return -1;
	if (have && (inside < have || run->kind == VMIMG_RUN_ABSENT)) {
		if (run->kind == VMIMG_RUN_DATA)
			run->len = vmimg_min(run->len, have - inside);
		return 0;
	}
	return vmimg_fail(err, VMIMG_ECORRUPT, "BAT entry %" PRIu64 " is 0x%08" PRIx32 ": %s",
		block, sector, wrong);
}

int vmimg_vhd_map(
	struct vmimg_disk *disk, uint64_t at, struct vmimg_run *run, struct vmimg_error *err)
{
	struct vmimg_vhd *vhd = disk->state;
	uint64_t block, count;
	uint32_t sector = VMIMG_VHD_UNUSED;

	if (vhd->footer.type == VMIMG_VHD_FIXED) {
		run->kind = VMIMG_RUN_DATA;
		run->len = disk->size - at;
		run->io = vhd->io;
		run->at = at;
		return 0;
	}
	block = at / disk->block;
	if (count_absent(vhd, block, &count, err))
		return -1;
	if (count) {
		run->kind = VMIMG_RUN_ABSENT;
		run->len = (block + count) * disk->block - at;
		return 0;
	}
	if (vmimg_vhd_bat_entry(vhd, block, &sector, err))
		return -1;
	return vmimg_vhd_judge_entry(disk, block, sector, NULL)
		? map_wrong(disk, at, sector, run, err)
		: map_block(disk, at, sector, run, err);
}
