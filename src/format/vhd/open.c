/* SPDX-License-Identifier: Apache-2.0 */
/* Opening: the footer, the dynamic disk header, the files of a split image, the parent. */
#include <inttypes.h>
#include <stdio.h>
#include <string.h>
#include <strings.h>
#include <sys/stat.h>
#include "format/vhd/vhd.h"
#include "io/file.h"
#include "io/joined.h"
#include "util/claims.h"
#include "util/num.h"

#define MAX_PARTS   64 /* .v01 to .v63 follow the first */
#define BITMAP_PAGE 4096U

static void warn_flaws(struct vmimg_disk *disk)
{
	static const struct {
		unsigned flaw;
		const char *text;
	} texts[] = {
		{ VMIMG_VHD_HEAD_DAMAGED,
			"the copy of the footer at the start is damaged: the one at the end is "
			"used (repair restores it)" },
		{ VMIMG_VHD_TAIL_DAMAGED,
			"the footer at the end is damaged or missing: the copy at the start is "
			"used (repair restores it)" },
		{ VMIMG_VHD_HEAD_OLDER,
			"the footers at the start and at the end are not equal: the one at the "
			"end is used" },
		{ VMIMG_VHD_FOOTER_SUM, "the footer's checksum is wrong, in both copies" },
		{ VMIMG_VHD_HEADER_SUM, "the dynamic disk header's checksum is wrong" },
		{ VMIMG_VHD_SURPLUS, "the file holds more than the footer says" },
	};
	const struct vmimg_vhd *vhd = disk->state;

	for (size_t i = 0; i < VMIMG_ARRAY_LEN(texts); i++)
		if (vhd->flaws & texts[i].flaw)
			vmimg_disk_warn(disk, "%s", texts[i].text);
}

/* "disk.vhd" -> "disk.v01"; to be freed. NULL with *err untouched: the name does not end so. */
static char *part_name(const char *path, unsigned number)
{
	const char *slash = strrchr(path, '/'), *base = slash ? slash + 1 : path;
	const char *dot = strrchr(base, '.');
	char *name;

	if (!dot || strcasecmp(dot, ".vhd"))
		return NULL;
	if (asprintf(&name, "%.*s.%c%02u", (int)(dot - base), base, dot[1], number) < 0)
		return NULL;
	return name;
}

/* The next file of a split image, or NULL: there is none, or it is not to be opened. */
static struct vmimg_io *open_part(
	struct vmimg_disk *disk, const struct vmimg_open *options, unsigned number)
{
	const struct vmimg_resolver *resolver = options->resolver;
	const char *path = vmimg_file_path(disk->io);
	VMIMG_AUTO(free) char *name = path ? part_name(path, number) : NULL;
	struct vmimg_reference ref = { "extent", name, "raw" };
	struct vmimg_error err;
	struct vmimg_io *io =
		name && resolver ? resolver->open(resolver, &ref, disk->io, &err) : NULL;
	int i = io ? vmimg_disk_refer(disk, ref.kind, ref.name, ref.format, &err) : -1;

	if (i >= 0)
		disk->refs[i].opened = true;
	return io;
}

/* An image without a footer at its end may be the first file of several. */
static int join_parts(
	struct vmimg_disk *disk, const struct vmimg_open *options, struct vmimg_error *err)
{
	struct vmimg_vhd *vhd = disk->state;
	struct vmimg_io *parts[MAX_PARTS] = { disk->io }, *joined = NULL;
	unsigned count = 1;

	while (count < MAX_PARTS && (parts[count] = open_part(disk, options, count)))
		count++;
	if (count > 1)
		joined = vmimg_joined_open(parts, count, vmimg_io_name(disk->io), err);
	for (unsigned i = 1; i < count; i++)
		vmimg_io_unref(parts[i]);
	if (count > 1 && !joined)
		return -1;
	if (joined) {
		vmimg_io_unref(vhd->io);
		vhd->io = joined;
		vhd->parts = count;
	}
	return 0;
}

bool vmimg_vhd_is_split(const struct vmimg_disk *disk)
{
	const struct vmimg_vhd *vhd = disk->state;
	const char *path = vmimg_file_path(disk->io);
	const char *slash = path ? strrchr(path, '/') : NULL;
	VMIMG_AUTO(free) char *name = NULL;
	VMIMG_AUTO(free) char *second = NULL;
	struct stat st;

	if (vhd->parts > 1)
		return true;
	if (vhd->footer_at < vmimg_io_size(disk->io) || !path || !(name = part_name(path, 1)))
		return false;
	if (asprintf(&second, "%.*s%s", slash ? (int)(slash + 1 - path) : 0, path, name) < 0) {
		second = NULL;
		return false;
	}
	return !lstat(second, &st);
}

static int has_tail(struct vmimg_io *io, bool *yes, struct vmimg_error *err)
{
	uint8_t tail[VMIMG_VHD_FOOTER_SIZE];
	uint64_t size = vmimg_io_size(io);
	size_t len = (size_t)vmimg_min(size, sizeof(tail));

	if (vmimg_io_pread(io, tail, len, size - len, err))
		return -1;
	*yes = vmimg_vhd_tail_len(tail, len) != 0;
	return 0;
}

static int read_footer(
	struct vmimg_disk *disk, const struct vmimg_open *options, struct vmimg_error *err)
{
	struct vmimg_vhd *vhd = disk->state;
	bool whole;

	if (has_tail(vhd->io, &whole, err))
		return -1;
	if (!whole && !options->alone && join_parts(disk, options, err))
		return -1;
	return vmimg_vhd_read_footer(vhd, err);
}

static int open_fixed(struct vmimg_disk *disk, struct vmimg_error *err)
{
	struct vmimg_vhd *vhd = disk->state;

	disk->size = vmimg_vhd_guest_size(&vhd->footer, vhd->footer_at);
	if (disk->size > vhd->footer_at)
		return vmimg_fail(err, VMIMG_ECORRUPT,
			"a fixed disk of %" PRIu64 " bytes in a file that holds %" PRIu64
			" before the footer: truncated?",
			disk->size, vhd->footer_at);
	if (disk->size < vhd->footer_at)
		vhd->flaws |= VMIMG_VHD_SURPLUS;
	return 0;
}

static int check_header(const struct vmimg_vhd *vhd, struct vmimg_error *err)
{
	const struct vmimg_vhd_header *header = &vhd->header;
	uint64_t at = vhd->footer.data_offset;
	const uint64_t table = (uint64_t)header->entries * 4;

	if (memcmp(header->cookie, VMIMG_VHD_HEADER_COOKIE, sizeof(header->cookie)))
		return vmimg_fail(
			err, VMIMG_ECORRUPT, "there is no dynamic disk header at 0x%" PRIx64, at);
	if (header->version >> 16 != VMIMG_VHD_VERSION >> 16)
		return vmimg_fail(err, VMIMG_EUNSUPPORTED,
			"dynamic disk header version 0x%08" PRIx32 ", not 1.x", header->version);
	if (!vmimg_is_pow2(header->block_size) || header->block_size < VMIMG_VHD_SECTOR ||
		header->block_size > VMIMG_VHD_MAX_BLOCK)
		return vmimg_fail(err, VMIMG_ECORRUPT,
			"a block size of %" PRIu32 " bytes (0x%" PRIx64
			") is not a power of two from 512 to 256 MiB",
			header->block_size, at + 32);
	if (!vmimg_range_inside(header->table_offset, table, vhd->footer_at))
		return vmimg_fail(err, VMIMG_ECORRUPT,
			"the block table (%" PRIu32 " entries at 0x%" PRIx64
			") reaches past the end of the file (0x%" PRIx64 ")",
			header->entries, header->table_offset, vhd->footer_at);
	if (header->table_offset < VMIMG_VHD_FOOTER_SIZE ||
		(header->table_offset < at + VMIMG_VHD_HEADER_SIZE &&
			header->table_offset + table > at))
		return vmimg_fail(err, VMIMG_ECORRUPT,
			"the block table at 0x%" PRIx64 " lies inside the headers",
			header->table_offset);
	return 0;
}

static int read_header(struct vmimg_vhd *vhd, struct vmimg_error *err)
{
	uint64_t at = vhd->footer.data_offset;
	uint8_t bytes[VMIMG_VHD_HEADER_SIZE];

	if (vmimg_io_pread(vhd->io, bytes, sizeof(bytes), at, err))
		return vmimg_within(err, "dynamic disk header");
	if (at < VMIMG_VHD_FOOTER_SIZE || !vmimg_range_inside(at, sizeof(bytes), vhd->footer_at))
		return vmimg_fail(err, VMIMG_ECORRUPT,
			"the dynamic disk header at 0x%" PRIx64 " lies over a footer", at);
	vmimg_vhd_header_decode(&vhd->header, bytes);
	if (check_header(vhd, err))
		return -1;
	if (vhd->header.checksum != vmimg_vhd_sum(bytes, sizeof(bytes), VMIMG_VHD_HEADER_SUM_AT))
		vhd->flaws |= VMIMG_VHD_HEADER_SUM;
	return 0;
}

/* Xen puts its batmap header in the sector after the BAT. */
static int find_batmap(struct vmimg_disk *disk, struct vmimg_error *err)
{
	struct vmimg_vhd *vhd = disk->state;
	uint64_t at =
		vmimg_align_up(vhd->bat_at + (uint64_t)vhd->header.entries * 4, VMIMG_VHD_SECTOR);
	uint8_t bytes[VMIMG_VHD_BATMAP_SIZE];
	struct vmimg_vhd_batmap batmap;

	if (memcmp(vhd->footer.creator, "tap", 3) ||
		!vmimg_range_inside(at, sizeof(bytes), vmimg_io_size(vhd->io)))
		return 0;
	if (vmimg_table_read(vhd->table, bytes, sizeof(bytes), at, err))
		return -1;
	vmimg_vhd_batmap_decode(&batmap, bytes);
	if (memcmp(batmap.cookie, VMIMG_VHD_BATMAP_COOKIE, sizeof(batmap.cookie)))
		return 0;
	vhd->batmap_at = at;
	vhd->batmap = batmap;
	vhd->encrypted = batmap.key_cookie == 1;
	if (vhd->encrypted)
		vmimg_disk_warn(disk, "the data is encrypted, and is read as it is stored");
	return 0;
}

uint32_t vmimg_vhd_block_sectors(const struct vmimg_disk *disk)
{
	const struct vmimg_vhd *vhd = disk->state;

	return (vhd->bitmap_bytes + disk->block) / VMIMG_VHD_SECTOR;
}

size_t vmimg_vhd_most_blocks(const struct vmimg_disk *disk)
{
	const struct vmimg_vhd *vhd = disk->state;

	return vmimg_io_size(vhd->io) / VMIMG_VHD_SECTOR / vmimg_vhd_block_sectors(disk) + 1;
}

static int open_dynamic(struct vmimg_disk *disk, struct vmimg_error *err)
{
	struct vmimg_vhd *vhd = disk->state;
	uint64_t blocks, held;

	if (read_header(vhd, err))
		return -1;
	held = (uint64_t)vhd->header.entries * vhd->header.block_size;
	disk->block = vhd->header.block_size;
	disk->size = vmimg_vhd_guest_size(&vhd->footer, held);
	blocks = vmimg_div_up(disk->size, disk->block);
	if (blocks > vhd->header.entries)
		return vmimg_fail(err, VMIMG_ECORRUPT,
			"a disk of %" PRIu64 " bytes in %" PRIu32 " blocks of %" PRIu32 " bytes",
			disk->size, vhd->header.entries, disk->block);
	if (blocks > VMIMG_VHD_MAX_ENTRIES)
		return vmimg_fail(
			err, VMIMG_ELIMIT, "a block table of %" PRIu64 " entries", blocks);
	vhd->entries = (uint32_t)blocks;
	vhd->bat_at = vhd->header.table_offset;
	vhd->bitmap_bytes = (uint32_t)vmimg_align_up(
		vmimg_div_up(disk->block / VMIMG_VHD_SECTOR, 8), VMIMG_VHD_SECTOR);
	vhd->table = vmimg_table_new(vhd->io, err);
	vhd->bitmaps = vmimg_table_new_paged(vhd->io, BITMAP_PAGE, err);
	return vhd->table && vhd->bitmaps ? find_batmap(disk, err) : -1;
}

struct verify {
	const struct vmimg_disk *disk;
	struct vmimg_claims claims;
};

static int verify_entry(void *ctx, uint64_t i, uint32_t sector, struct vmimg_error *err)
{
	struct verify *verify = ctx;
	const struct vmimg_vhd *vhd = verify->disk->state;
	const char *wrong = vmimg_vhd_judge_entry(verify->disk, i, sector, NULL);

	if (wrong)
		return vmimg_fail(err, VMIMG_ECORRUPT,
			"BAT entry %" PRIu64 " at 0x%" PRIx64 " is 0x%08" PRIx32 ": %s", i,
			vhd->bat_at + 4 * i, sector, wrong);
	if (vmimg_claims_add(&verify->claims, sector, err))
		return -1;
	if (verify->claims.clashes)
		return vmimg_fail(err, VMIMG_ECORRUPT,
			"BAT entry %" PRIu64 " is 0x%08" PRIx32 ": two blocks share the same space",
			i, sector);
	return 0;
}

/* Before anybody relies on the data: every used entry of the BAT leads to a place of its own. */
static int verify_bat(struct vmimg_disk *disk, struct vmimg_error *err)
{
	struct verify verify = { .disk = disk,
		.claims = { .width = vmimg_vhd_block_sectors(disk),
			.most = vmimg_vhd_most_blocks(disk) } };
	uint32_t sector = 0;
	size_t next = 0;
	int result = vmimg_vhd_walk(disk->state, verify_entry, &verify, err);

	if (!result && vmimg_claims_overlap(&verify.claims, &next, &sector))
		result = vmimg_fail(err, VMIMG_ECORRUPT, "two blocks share the space at 0x%" PRIx64,
			(uint64_t)sector * VMIMG_VHD_SECTOR);
	vmimg_claims_done(&verify.claims);
	return result;
}

int vmimg_vhd_open(
	struct vmimg_disk *disk, const struct vmimg_open *options, struct vmimg_error *err)
{
	struct vmimg_vhd *vhd = disk->state = vmimg_new(struct vmimg_vhd, err);

	if (!vhd)
		return -1;
	vhd->io = vmimg_io_ref(disk->io);
	vhd->parts = 1;
	if (read_footer(disk, options, err))
		return -1;
	if (vhd->footer.type == VMIMG_VHD_FIXED ? open_fixed(disk, err) : open_dynamic(disk, err))
		return -1;
	warn_flaws(disk);
	if (vhd->footer.type == VMIMG_VHD_FIXED)
		return 0;
	if (!options->alone && !options->lenient && verify_bat(disk, err))
		return -1;
	return vhd->footer.type == VMIMG_VHD_DIFFERENCING
		? vmimg_vhd_open_parent(disk, options, err)
		: 0;
}

void vmimg_vhd_close(struct vmimg_disk *disk)
{
	struct vmimg_vhd *vhd = disk->state;

	if (!vhd)
		return;
	vmimg_table_free(vhd->table);
	vmimg_table_free(vhd->bitmaps);
	vmimg_io_unref(vhd->io);
	free(vhd);
	disk->state = NULL;
}
