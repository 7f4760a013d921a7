/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Sparse extents emptied and squeezed. Emptied: the header leads to directories without tables, at
 * the end of the file, while the tables that are there become zero, and then to these again.
 */
#include <inttypes.h>
#include "format/vmdk/edit.h"
#include "util/num.h"

/* What both need of a disk: sparse extents that can be changed. done: what plain ones cannot be;
 * NULL: they stay as they are. */
static int check_sparse(const struct vmimg_disk *disk, const char *done, struct vmimg_error *err)
{
	const struct vmdk *v = vmdk_of(disk);

	if (disk->io->is_device || v->missing || v->header_differs)
		return vmimg_fail(err, VMIMG_EUNSUPPORTED, "%s",
			disk->io->is_device ? "it lies on a device" : "repair it first");
	for (size_t i = 0; i < v->extent_count; i++) {
		const struct vmdk_extent *e = &v->extents[i];

		if (e->zero)
			continue;
		if (!e->io)
			return vmimg_fail(err, VMIMG_EINVAL, "extent %zu is not there", i);
		if (!e->sparse && !done)
			continue;
		if (!e->sparse)
			return vmimg_fail(err, VMIMG_EUNSUPPORTED,
				"%s is a plain extent, which cannot be %s", vmimg_io_name(e->io),
				done);
		if (vmimg_vmdk_check_kind(&e->g, err))
			return -1;
		if (e->g.through_rgd)
			return vmimg_fail(err, VMIMG_EREFUSED,
				"%s: its grain directory is damaged: repair it first",
				vmimg_io_name(e->io));
	}
	return v->has_descriptor ? vmimg_vmdk_check_descriptor(disk, err) : 0;
}

/* ---- emptied ---- */

/* One write of the header makes the extent's directories those at these sectors. */
static int lead_to(struct vmdk_change *c, uint64_t rgd, uint64_t gd, struct vmimg_error *err)
{
	struct vmdk_header header;
	uint8_t bytes[512];

	if (vmimg_io_sync(c->io, err) || vmimg_io_pread(c->io, bytes, sizeof(bytes), 0, err))
		return -1;
	vmdk_header_decode(&header, bytes);
	if (c->g.rgd_at)
		header.rgd_offset = rgd;
	header.gd_offset = gd;
	header.unclean = 0;
	vmdk_header_encode(&header, bytes);
	if (vmimg_io_pwrite(c->io, bytes, sizeof(bytes), 0, err))
		return -1;
	return vmimg_io_sync(c->io, err);
}

struct clearing {
	const struct vmdk_change *c;
	uint64_t end; /* sectors; of the tables */
};

static int clear_table(void *ctx, uint64_t i, uint32_t sector, struct vmimg_error *err)
{
	struct clearing *clearing = ctx;
	uint64_t len = vmimg_vmdk_table_len(&clearing->c->g, i);

	clearing->end = vmimg_max(clearing->end, sector + vmimg_div_up(len, VMDK_SECTOR));
	return vmimg_io_zero(clearing->c->io, sector * VMDK_SECTOR, len, err);
}

static int empty_extent(struct vmdk_change *c, struct vmimg_error *err)
{
	const struct vmdk_grains *g = &c->g;
	uint64_t sectors = vmimg_div_up(4 * g->gd_count, VMDK_SECTOR);
	uint64_t at = vmimg_div_up(vmimg_io_size(c->io), VMDK_SECTOR);
	struct clearing clearing = { c, g->overhead / VMDK_SECTOR };
	struct vmdk_visit visit = { clear_table, NULL, &clearing };

	if (vmimg_io_resize(c->io, (at + 2 * sectors) * VMDK_SECTOR, err) ||
		lead_to(c, at, at + sectors, err) ||
		(g->rgd_at && vmimg_vmdk_walk(c, g->rgd_at, &visit, err)) ||
		vmimg_vmdk_walk(c, g->gd_at, &visit, err) ||
		lead_to(c, g->rgd_at / VMDK_SECTOR, g->gd_at / VMDK_SECTOR, err))
		return -1;
	clearing.end = vmimg_max(
		clearing.end, vmimg_div_up(vmimg_max(g->gd_at, g->rgd_at), VMDK_SECTOR) + sectors);
	clearing.end = vmimg_max(
		clearing.end, vmimg_div_up(g->descriptor_at + g->descriptor_len, VMDK_SECTOR));
	return vmimg_io_resize(c->io, clearing.end * VMDK_SECTOR, err) || vmimg_io_sync(c->io, err)
		? -1
		: 0;
}

/* ---- squeezed ---- */

struct moving {
	const struct vmdk_change *c;
	struct vmdk_table first, redundant;
	struct vmimg_holes *holes; /* that wait; NULL: none do */
};

static int walk(void *ctx, vmimg_blocks_visit *visit, void *visit_ctx, struct vmimg_error *err)
{
	const struct moving *m = ctx;
	struct vmdk_visit grains = { NULL, visit, visit_ctx };

	return vmimg_vmdk_walk(m->c, m->c->g.gd_at, &grains, err);
}

static int copy_grain(void *ctx, struct vmimg_copier *copier, uint64_t i, uint64_t from,
	uint64_t to, struct vmimg_error *err)
{
	const struct moving *m = ctx;
	uint64_t at = from * VMDK_SECTOR;

	(void)i;
	return vmimg_copier_add(copier, at, to * VMDK_SECTOR,
		vmimg_min(m->c->g.grain, vmimg_io_size(m->c->io) - at), err);
}

static int lead(void *ctx, uint64_t i, uint64_t to, struct vmimg_error *err)
{
	struct moving *m = ctx;

	if (m->c->g.rgd_at && vmimg_vmdk_table_put(&m->redundant, i, (uint32_t)to, err))
		return -1;
	return vmimg_vmdk_table_put(&m->first, i, (uint32_t)to, err);
}

/* What the file will not be cut by becomes a hole; grains go there. */
static int planned(void *ctx, uint64_t limit, struct vmimg_error *err)
{
	const struct moving *m = ctx;

	return m->holes ? vmimg_holes_punch(m->holes, m->c->io, 0, limit * VMDK_SECTOR, err) : 0;
}

static int move_grains(const struct vmdk_change *c, struct vmimg_blocks *blocks,
	struct vmimg_holes *holes, struct vmimg_error *err)
{
	struct moving moving = { .c = c,
		.holes = holes,
		.first = { .c = c, .directory_at = c->g.gd_at },
		.redundant = { .c = c, .directory_at = c->g.rgd_at } };
	const struct vmimg_blocks_image image = { c->io, &moving, walk, copy_grain, lead, planned,
		holes };

	return vmimg_blocks_squeeze(blocks, &image, err) ||
			vmimg_vmdk_table_leave(&moving.redundant, err) ||
			vmimg_vmdk_table_leave(&moving.first, err)
		? -1
		: 0;
}

int vmimg_vmdk_squeeze_extent(
	struct vmdk_change *c, struct vmimg_holes *holes, struct vmimg_error *err)
{
	struct vmimg_blocks blocks = { 0 };
	uint64_t end = 0, limit;
	int failed = vmimg_vmdk_mark(c, true, false, err) || vmimg_vmdk_mirror(c, err) ||
		vmimg_vmdk_space(c, &blocks, err) || move_grains(c, &blocks, holes, err);

	limit = blocks.limit * VMDK_SECTOR;

	vmimg_blocks_done(&blocks);
	if (failed)
		return -1;
	blocks = (struct vmimg_blocks){ 0 };
	failed = vmimg_vmdk_space(c, &blocks, err);
	end = blocks.end * VMDK_SECTOR;
	vmimg_blocks_done(&blocks);
	/* tables may hold the end */
	if (failed || (holes && vmimg_holes_punch(holes, c->io, limit, end, err)) ||
		vmimg_vmdk_mark(c, false, false, err))
		return -1;
	if (vmimg_io_size(c->io) <= end)
		return 0;
	return vmimg_io_resize(c->io, end, err) || vmimg_io_sync(c->io, err) ? -1 : 0;
}

static int squeeze_alone(struct vmdk_change *c, struct vmimg_error *err)
{
	return vmimg_vmdk_squeeze_extent(c, NULL, err);
}

/* ---- every extent ---- */

static int each_extent(struct vmimg_disk *disk, const char *done,
	int (*change)(struct vmdk_change *, struct vmimg_error *), uint64_t *saved,
	struct vmimg_error *err)
{
	const struct vmdk *v = vmdk_of(disk);
	int failed = check_sparse(disk, done, err);

	for (size_t i = 0; !failed && i < v->extent_count; i++) {
		struct vmdk_change c = { .g = v->extents[i].g };
		uint64_t before;

		if (v->extents[i].zero || !v->extents[i].sparse)
			continue;
		c.io = vmimg_vmdk_writable(disk, &v->extents[i], err);
		before = c.io ? vmimg_io_size(c.io) : 0;
		failed = !c.io || vmimg_vmdk_verify(&c, err) || change(&c, err);
		if (c.io && vmimg_io_size(c.io) < before)
			*saved += before - vmimg_io_size(c.io);
		vmimg_io_unref(c.io);
	}
	vmimg_table_forget(v->table);
	return failed ? -1 : 0;
}

int vmimg_vmdk_empty(struct vmimg_disk *disk, struct vmimg_error *err)
{
	uint64_t saved = 0;

	return each_extent(disk, "emptied", empty_extent, &saved, err);
}

int vmimg_vmdk_squeeze(struct vmimg_disk *disk, uint64_t *saved, struct vmimg_error *err)
{
	*saved = 0;
	return each_extent(disk, NULL, squeeze_alone, saved, err);
}
