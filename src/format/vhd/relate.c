/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Another parent, or none. The dynamic disk header has two sectors, which no single write replaces.
 * So the new one is written at the end of the file, with the texts of its locators; one footer
 * leads to it, then the other; and then, in the same way, it goes back to where the old one was.
 */
#include <string.h>
#include "format/vhd/change.h"
#include "format/vhd/sink.h"
#include "util/num.h"

struct relation {
	struct vmimg_disk *disk;
	struct vmimg_vhd_end end;
	struct vmimg_vhd_header header; /* the new one */
	uint64_t old_locators;          /* room for the new ones; 0: there is none */
	bool taken;                     /* by something else */
	const char *name;               /* NULL: no parent */
	uint32_t type;                  /* of the disk, as it shall be */
};

/* Two neighbours as they are written here; of others it is not known what surrounds them. */
static uint64_t find_neighbours(const struct vmimg_vhd *vhd)
{
	struct vmimg_vhd_locator first, second;

	vmimg_vhd_locator_decode(&first, vhd->header.locators);
	vmimg_vhd_locator_decode(&second, vhd->header.locators + VMIMG_VHD_LOCATOR_SIZE);
	return first.len && second.len && first.space == VMIMG_MAX_NAME &&
			second.space == VMIMG_MAX_NAME && first.at < VMIMG_MAX_DISK &&
			second.at == first.at + VMIMG_MAX_NAME
		? first.at
		: 0;
}

static int meets_room(void *ctx, uint64_t i, uint32_t sector, struct vmimg_error *err)
{
	struct relation *r = ctx;
	uint64_t at = (uint64_t)sector * VMIMG_VHD_SECTOR;
	uint64_t len = (uint64_t)vmimg_vhd_block_sectors(r->disk) * VMIMG_VHD_SECTOR;

	(void)i, (void)err;
	if (at < r->old_locators + VMIMG_VHD_LOCATOR_SPACE && r->old_locators < at + len)
		r->taken = true;
	return 0;
}

/* The old texts' place, unless the image has something else there as well. */
static int find_room(struct relation *r, struct vmimg_error *err)
{
	struct vmimg_vhd *vhd = r->disk->state;

	r->old_locators = find_neighbours(vhd);
	if (!r->old_locators)
		return 0;
	r->taken = !vmimg_vhd_is_free(vhd, r->old_locators, VMIMG_VHD_LOCATOR_SPACE);
	if (vmimg_vhd_walk(vhd, meets_room, r, err))
		return -1;
	r->old_locators = r->taken ? 0 : r->old_locators;
	return 0;
}

static int note_identity(
	struct relation *r, const struct vmimg_parent *parent, struct vmimg_error *err)
{
	const struct vmimg_vhd *vhd = r->disk->state;
	const struct vmimg_disk *disk = parent->disk;
	struct vmimg_identity identity = { 0 };

	if (!disk && vhd->footer.type != VMIMG_VHD_DIFFERENCING)
		return vmimg_fail(err, VMIMG_EINVAL,
			"a differencing VHD notes its parent's unique id, so the parent has to be "
			"opened");
	if (!disk)
		return 0;
	if (strcmp(disk->format->name, "vhd"))
		return vmimg_fail(err, VMIMG_EINVAL, "the parent of a VHD is a VHD, not %s",
			disk->format->title);
	disk->format->identity(disk, &identity);
	memcpy(r->header.parent_uuid, identity.uuid.bytes, sizeof(r->header.parent_uuid));
	r->header.parent_time = identity.time;
	return 0;
}

static int describe(struct relation *r, const struct vmimg_parent *parent, struct vmimg_error *err)
{
	const struct vmimg_vhd *vhd = r->disk->state;

	r->header = vhd->header;
	r->type = parent ? VMIMG_VHD_DIFFERENCING : VMIMG_VHD_DYNAMIC;
	if (parent) {
		r->name = parent->name;
		return find_room(r, err) || note_identity(r, parent, err) ? -1 : 0;
	}
	memset(r->header.parent_uuid, 0, sizeof(r->header.parent_uuid));
	memset(r->header.parent_name, 0, sizeof(r->header.parent_name));
	memset(r->header.locators, 0, sizeof(r->header.locators));
	r->header.parent_time = 0;
	return 0;
}

static int put_locators(struct relation *r, uint64_t at, struct vmimg_error *err)
{
	return r->name ? vmimg_vhd_name_parent(r->disk->io, &r->header, r->name, at, err) : 0;
}

/* The header to that place; the footer at the end leads there, then the one at the start. */
static int switch_to(struct relation *r, uint64_t at, struct vmimg_error *err)
{
	if (vmimg_vhd_put_header(r->disk, &r->header, at, VMIMG_VHD_HEADER_SIZE, err) ||
		vmimg_io_sync(r->disk->io, err))
		return -1;
	r->end.footer.data_offset = at;
	return vmimg_vhd_put_footer(r->disk, &r->end.footer, r->end.footer_at, err) ||
			vmimg_vhd_put_footer(r->disk, &r->end.footer, 0, err)
		? -1
		: 0;
}

static int change(struct relation *r, uint64_t free_at, struct vmimg_error *err)
{
	const struct vmimg_vhd *vhd = r->disk->state;
	uint64_t locators = r->name ? VMIMG_VHD_LOCATOR_SPACE : 0, cut_at = vhd->footer_at;

	if (vmimg_vhd_end_extend(&r->end, free_at, locators + VMIMG_VHD_HEADER_SIZE, err))
		return -1;
	r->end.footer.type = r->type;
	if (put_locators(r, free_at, err) || switch_to(r, free_at + locators, err))
		return -1;
	if (!r->old_locators)
		cut_at = vmimg_max(cut_at, free_at + locators);
	if ((r->old_locators && put_locators(r, r->old_locators, err)) ||
		switch_to(r, vhd->footer.data_offset, err))
		return -1;
	return vmimg_vhd_end_cut(&r->end, vmimg_align_up(cut_at, VMIMG_VHD_SECTOR), err);
}

int vmimg_vhd_change_parent(
	struct vmimg_disk *disk, const struct vmimg_parent *parent, struct vmimg_error *err)
{
	const struct vmimg_vhd *vhd = disk->state;
	struct relation r = { .disk = disk };
	struct vmimg_blocks blocks = { 0 };
	int result;

	if (!parent && vhd->footer.type != VMIMG_VHD_DIFFERENCING)
		return 0;
	if (vmimg_vhd_begin_blocks(disk, "another parent", err))
		return -1;
	vmimg_vhd_end_init(&r.end, disk);
	if (describe(&r, parent, err))
		return -1;
	result = vmimg_vhd_space(disk, &blocks, true, err) ||
			change(&r, blocks.end * VMIMG_VHD_SECTOR, err)
		? -1
		: 0;
	vmimg_blocks_done(&blocks);
	return result;
}
