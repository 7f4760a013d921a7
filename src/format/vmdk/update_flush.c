/* SPDX-License-Identifier: Apache-2.0 */
/* What waits until all data is flushed: entries, first of the redundant tables, then of the first
 * ones, while the headers say that tables are being changed. */
#include "format/vmdk/update.h"
#include "util/num.h"

/* The entries from i on that go out in one write: neighbours in one table. */
static size_t neighbours(
	const struct vmdk_update *u, size_t i, uint8_t bytes[VMIMG_VMDK_TABLE_MOST])
{
	const struct vmdk_entry *first = &u->entries[i];
	uint32_t per = u->parts[first->extent].c.g.entries;
	size_t n = 0;

	for (; i + n < u->entry_count && first[n].extent == first->extent &&
		first[n].grain == first->grain + n && first[n].grain / per == first->grain / per;
		n++)
		vmimg_put_le32(bytes + 4 * n, first[n].value);
	return n;
}

static int write_entries(struct vmdk_update *u, bool redundant, struct vmimg_error *err)
{
	uint8_t bytes[VMIMG_VMDK_TABLE_MOST];

	for (size_t i = 0, n; i < u->entry_count; i += n) {
		const struct vmdk_change *c = &u->parts[u->entries[i].extent].c;

		n = neighbours(u, i, bytes);
		if ((!redundant || c->g.rgd_at) &&
			vmimg_vmdk_put_entries(c, redundant, u->entries[i].grain, bytes, n, err))
			return -1;
	}
	return 0;
}

/* Grains that no entry leads to any more give their space back. */
static int free_grains(struct vmdk_update *u, struct vmimg_error *err)
{
	for (size_t i = 0; i < u->entry_count; i++) {
		const struct vmdk_entry *entry = &u->entries[i];
		const struct vmdk_change *c = &u->parts[entry->extent].c;
		uint64_t at = entry->freed * VMDK_SECTOR, size = vmimg_io_size(c->io);

		if (entry->freed && at < size &&
			vmimg_io_zero(c->io, at, vmimg_min(c->g.grain, size - at), err))
			return -1;
	}
	return 0;
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

int vmimg_vmdk_end_file(struct vmdk_update *u, struct vmimg_error *err)
{
	struct vmimg_io *io = u->parts[u->current].c.io;
	uint64_t end = u->mapped ? u->blocks.end * VMDK_SECTOR : 0;

	return end > u->old_end && vmimg_io_size(io) < end ? vmimg_io_resize(io, end, err) : 0;
}

int vmimg_vmdk_flush(struct vmdk_update *u, struct vmimg_error *err)
{
	if (vmimg_vmdk_end_file(u, err) || sync_parts(u, err) || mark_parts(u, err) ||
		write_entries(u, true, err) || sync_parts(u, err) || write_entries(u, false, err) ||
		sync_parts(u, err) || free_grains(u, err))
		return -1;
	u->entry_count = 0;
	return 0;
}
