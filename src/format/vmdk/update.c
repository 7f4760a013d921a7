/* SPDX-License-Identifier: Apache-2.0 */
/*
 * New content in place. Data goes over the grain that has it, or into a new one that no entry leads
 * to; all is flushed; then come the redundant tables and the first ones (entries.c). In plain
 * extents data just takes its place.
 *
 * A grain is in an extent whole: where a parent shows through, whole grains are what can be written
 * without reading it.
 */
#include "format/vmdk/update.h"
#include "util/num.h"

#define CHUNK   (256U << 10)
#define GRANULE 4096U

static struct vmdk_update *update_of(struct vmimg_sink *sink)
{
	return (struct vmdk_update *)sink;
}

/* One run of bytes (NULL: zeroes), across extents and grains. */
static int place(struct vmdk_update *u, uint64_t guest, uint64_t len, const uint8_t *bytes,
	struct vmimg_error *err)
{
	for (uint64_t step, at; len; guest += step, len -= step) {
		size_t i = vmimg_vmdk_find_part(u, guest);
		const struct vmdk_extent *e = u->parts[i].e;
		uint64_t inside = guest - e->start;

		step = vmimg_min(len, e->len - inside);
		if (e->zero && bytes)
			return vmimg_fail(err, VMIMG_EUNSUPPORTED,
				"extent %zu is of zeroes, and can hold nothing else: convert it",
				i);
		if (!e->zero && vmimg_vmdk_enter_part(u, i, err))
			return -1;
		if (e->zero)
			continue;
		if (!bytes) {
			if (vmimg_vmdk_zero_run(u, inside, &step, err))
				return -1;
			continue;
		}
		if (vmimg_vmdk_writable_run(u, inside, &step, &at, err))
			return -1;
		vmimg_chunk_store(u->chunk, u->parts[i].c.io, at, bytes, (size_t)step);
		bytes += step;
	}
	return 0;
}

static int place_data(void *ctx, struct vmimg_chunk *chunk, uint64_t guest,
	const struct vmimg_piece *piece, struct vmimg_error *err)
{
	(void)chunk;
	return place(ctx, guest, piece->size, piece->bytes, err);
}

static int place_zeroes(void *ctx, uint64_t guest, uint64_t len, struct vmimg_error *err)
{
	return place(ctx, guest, len, NULL, err);
}

static int update_place(struct vmimg_sink *sink, struct vmimg_chunk *chunk, struct vmimg_error *err)
{
	static const struct vmimg_chunk_visitor visitor = { place_data, place_zeroes, 0 };
	struct vmdk_update *u = update_of(sink);

	u->chunk = chunk;
	u->content += vmimg_chunk_fold(chunk);
	return vmimg_chunk_visit(chunk, &visitor, u, err);
}

static int change_cid(struct vmdk_update *u, struct vmimg_error *err)
{
	return u->same_content ? 0 : vmimg_vmdk_change_cid(u->disk, u->content, err);
}

static int update_finish(struct vmimg_sink *sink, struct vmimg_error *err)
{
	struct vmdk_update *u = update_of(sink);

	if (vmimg_vmdk_end_part(u, err) || vmimg_vmdk_flush(u, err) || change_cid(u, err))
		return -1;
	for (size_t i = 0; i < u->v->extent_count; i++)
		if (u->parts[i].c.marked && vmimg_vmdk_mark(&u->parts[i].c, false, false, err))
			return -1;
	return 0;
}

static void update_close(struct vmimg_sink *sink)
{
	struct vmdk_update *u = update_of(sink);

	if (u->mapped)
		vmimg_blocks_done(&u->blocks);
	for (size_t i = 0; u->parts && i < u->v->extent_count; i++)
		vmimg_io_unref(u->parts[i].c.io);
	free(u->parts);
	free(u->entries);
	vmimg_holes_done(&u->holes);
	free(u);
}

static const struct vmimg_sink_ops update_ops = {
	.place = update_place,
	.finish = update_finish,
	.close = update_close,
};

/* ---- making it ---- */

static int check_extent(const struct vmdk_update *u, size_t i, struct vmimg_error *err)
{
	const struct vmdk_extent *e = u->parts[i].e;
	const char *name = e->io ? vmimg_io_name(e->io) : "";

	if (e->zero)
		return 0;
	if (!e->io)
		return vmimg_fail(err, VMIMG_EINVAL, "extent %zu is not there", i);
	if (e->sparse && vmimg_vmdk_check_kind(&e->g, err))
		return -1;
	if (e->line && e->line->access == VMDK_RDONLY)
		return vmimg_fail(err, VMIMG_EREFUSED,
			"the descriptor says that extent %s is only read (RDONLY)", name);
	if (!e->sparse)
		return 0;
	if (e->g.through_rgd)
		return vmimg_fail(err, VMIMG_EREFUSED,
			"%s: its grain directory is damaged: repair it before it is changed", name);
	if (u->hides && e->start % e->g.grain)
		return vmimg_fail(err, VMIMG_EUNSUPPORTED,
			"%s does not begin with a whole grain of the disk: convert it", name);
	return 0;
}

static int check_update(const struct vmdk_update *u, struct vmimg_error *err)
{
	const struct vmdk *v = u->v;

	if (u->disk->io->is_device)
		return vmimg_fail(err, VMIMG_EUNSUPPORTED, "it lies on a device");
	if (v->missing || v->header_differs)
		return vmimg_fail(err, VMIMG_EREFUSED, "%s: repair it before it is changed",
			v->missing ? "some of its extents are missing"
				   : "its header and its descriptor state different sizes");
	if (v->has_descriptor && v->descriptor.track_path && !u->same_content)
		return vmimg_fail(err, VMIMG_EUNSUPPORTED,
			"it has a record of changes, which would miss these");
	for (size_t i = 0; i < v->extent_count; i++)
		if (check_extent(u, i, err))
			return -1;
	return v->has_descriptor ? vmimg_vmdk_check_descriptor(u->disk, err) : 0;
}

static void set_sink(struct vmdk_update *u)
{
	uint64_t grains = 0;
	uint32_t granule = GRANULE;

	for (size_t i = 0; i < u->v->extent_count; i++) {
		const struct vmdk_extent *e = u->parts[i].e;

		if (!e->sparse || e->zero)
			continue;
		grains += vmimg_div_up(e->len, e->g.grain);
		granule = u->hides ? (uint32_t)vmimg_max(granule, e->g.grain) : granule;
	}
	u->sink = (struct vmimg_sink){ .ops = &update_ops,
		.size = u->disk->size,
		.granule = granule,
		.chunk = (uint32_t)vmimg_align_up(CHUNK, granule),
		.unit = u->disk->block,
		/* a granule may lie in several extents, or small grains */
		.more_stores = vmimg_align_up(CHUNK, granule) / VMDK_SECTOR,
		.in_order = grains > VMDK_MOST_WAITING,
		.keeps_absent = true,
		.wants_digest = !u->same_content,
		.splits_zeroes = true };
}

struct vmimg_sink *vmimg_vmdk_update(
	struct vmimg_disk *disk, const struct vmimg_update *update, struct vmimg_error *err)
{
	struct vmdk *v = vmdk_of(disk);
	struct vmdk_update *u = vmimg_new(struct vmdk_update, err);

	if (!u)
		return NULL;
	u->disk = disk;
	u->v = v;
	u->hides = (update && update->new_parent) ||
		(v->has_descriptor && v->descriptor.parent_cid != VMDK_NO_PARENT);
	u->same_content = update && update->same_content;
	u->only_zeroes = update && update->only_zeroes;
	u->parts = vmimg_alloc_array(v->extent_count, sizeof(*u->parts), err);
	for (size_t i = 0; u->parts && i < v->extent_count; i++)
		u->parts[i].e = &v->extents[i];
	if (u->parts && !check_update(u, err)) {
		set_sink(u);
		return &u->sink;
	}
	update_close(&u->sink);
	return NULL;
}
