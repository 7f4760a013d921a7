/* SPDX-License-Identifier: Apache-2.0 */
/* What waits until all data is flushed: entries, first of the redundant tables, then of the first
 * ones, while the headers say that tables are being changed. */
#include "format/vmdk/update.h"
#include "util/num.h"

static int write_entries(struct vmdk_update *u, bool redundant, struct vmimg_error *err)
{
	struct vmdk_table table = { 0 };

	for (size_t i = 0; i < u->entry_count; i++) {
		const struct vmdk_entry *entry = &u->entries[i];
		const struct vmdk_change *c = &u->parts[entry->extent].c;

		if (redundant && !c->g.rgd_at)
			continue;
		if (table.c != c && table.c && vmimg_vmdk_table_leave(&table, err))
			return -1;
		table.c = c;
		table.directory_at = redundant ? c->g.rgd_at : c->g.gd_at;
		if (vmimg_vmdk_table_put(&table, entry->grain, entry->value, err))
			return -1;
	}
	return table.c ? vmimg_vmdk_table_leave(&table, err) : 0;
}

/* What is done with every file that is open for writing. */
static int sync_parts(struct vmdk_update *u, struct vmimg_error *err)
{
	for (size_t i = 0; i < u->v->extent_count; i++)
		if (u->parts[i].c.io && vmimg_io_sync(u->parts[i].c.io, err))
			return -1;
	return 0;
}

/* Before the entries: the headers say that tables are being changed, and know of zero grains. */
static int mark_parts(struct vmdk_update *u, struct vmimg_error *err)
{
	for (size_t i = 0; i < u->entry_count; i++) {
		struct vmdk_change *c = &u->parts[u->entries[i].extent].c;
		bool zeroed = u->entries[i].value == 1 && !c->g.zeroed;

		if ((!c->marked || zeroed) && vmimg_vmdk_mark(c, true, zeroed, err))
			return -1;
	}
	return 0;
}

static int make_holes(struct vmdk_update *u, struct vmimg_error *err)
{
	struct vmimg_io *io = u->parts[u->current].c.io;

	if (u->holes.count && vmimg_holes_punch(&u->holes, io, 0, UINT64_MAX, err))
		return -1;
	u->holes.count = 0;
	return 0;
}

int vmimg_vmdk_punch(struct vmdk_update *u, uint64_t at, uint64_t len, struct vmimg_error *err)
{
	if (u->holes.count >= VMIMG_MOST_HOLES && make_holes(u, err))
		return -1;
	return vmimg_holes_add(&u->holes, at, len, err);
}

/* Where a squeeze follows, the file is cut by most of its holes: they wait for it. */
static bool squeezes(const struct vmdk_update *u)
{
	return u->only_zeroes && u->holes.count && u->parts[u->current].e->sparse;
}

static int end_file(struct vmdk_update *u, struct vmimg_error *err)
{
	struct vmimg_io *io = u->parts[u->current].c.io;
	uint64_t end = u->mapped ? u->blocks.end * VMDK_SECTOR : 0;

	if (!squeezes(u) && make_holes(u, err))
		return -1;
	return end > u->old_end && vmimg_io_size(io) < end ? vmimg_io_resize(io, end, err) : 0;
}

int vmimg_vmdk_end_part(struct vmdk_update *u, struct vmimg_error *err)
{
	struct vmdk_change *c = &u->parts[u->current].c;

	if (vmimg_vmdk_leave_grain(u, err) || end_file(u, err))
		return -1;
	if (squeezes(u) &&
		(vmimg_vmdk_flush(u, err) || vmimg_vmdk_squeeze_extent(c, &u->holes, err)))
		return -1;
	u->holes.count = 0;
	if (u->mapped)
		vmimg_blocks_done(&u->blocks);
	u->mapped = false;
	return 0;
}

int vmimg_vmdk_flush(struct vmdk_update *u, struct vmimg_error *err)
{
	if (end_file(u, err) || sync_parts(u, err) || mark_parts(u, err) ||
		write_entries(u, true, err) || sync_parts(u, err) || write_entries(u, false, err) ||
		sync_parts(u, err))
		return -1;
	u->entry_count = 0;
	return 0;
}
