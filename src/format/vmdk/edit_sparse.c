/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The size of a hosted sparse extent with its descriptor inside. The header's sector says the size
 * and where the directories and the descriptor are; so new ones go to the end of the file, and one
 * write of that sector makes them the image. Then the descriptor is brought back to its old place,
 * where some readers look without asking the header, by a second such write.
 */
#include <inttypes.h>
#include <string.h>
#include "format/vmdk/edit.h"
#include "util/num.h"

struct change {
	struct vmimg_io *io;
	const struct vmdk_grains *g;
	struct vmdk_header header;
	uint64_t end; /* of the file, in sectors */
};

static int put_header(struct change *c, struct vmimg_error *err)
{
	uint8_t bytes[512];

	if (vmimg_io_sync(c->io, err) || vmimg_io_pread(c->io, bytes, sizeof(bytes), 0, err))
		return -1;
	vmdk_header_encode(&c->header, bytes);
	if (vmimg_io_pwrite(c->io, bytes, sizeof(bytes), 0, err))
		return -1;
	return vmimg_io_sync(c->io, err);
}

static int put_text(struct change *c, const char *text, uint64_t at, struct vmimg_error *err)
{
	VMIMG_AUTO(free) char *room = vmimg_alloc_array((size_t)c->g->descriptor_len, 1, err);

	if (!room)
		return -1;
	memcpy(room, text, strlen(text));
	return vmimg_io_pwrite(c->io, room, (size_t)c->g->descriptor_len, at, err);
}

/* What the last grain holds past the disk's end would be the guest's: it becomes zero. */
static int clear_grain(const struct change *c, const uint8_t *entry, struct vmimg_error *err)
{
	uint64_t inside = c->g->capacity % c->g->grain, at;

	if (!inside || vmimg_vmdk_grain_entry(c->g, entry, &at) != VMDK_ENTRY_AT)
		return 0;
	return vmimg_io_zero(c->io, at + inside, c->g->grain - inside, err);
}

/* The last table of the old size, with no entries past it, in a place of its own. */
static int copy_last_table(struct change *c, uint8_t *directory, struct vmimg_error *err)
{
	const struct vmdk_grains *g = c->g;
	uint8_t table[VMIMG_VMDK_TABLE_MOST] = { 0 }, *entry = directory + 4 * (g->gd_count - 1);
	size_t len = (size_t)vmimg_vmdk_table_len(g, g->gd_count - 1);
	uint64_t at;

	if (vmimg_vmdk_directory_entry(g, entry, &at) != VMDK_ENTRY_AT)
		return 0;
	if (vmimg_io_pread(c->io, table, len, at, err) || clear_grain(c, table + len - 4, err) ||
		vmimg_io_pwrite(c->io, table, sizeof(table), c->end * VMDK_SECTOR, err))
		return -1;
	vmimg_put_le32(entry, (uint32_t)c->end);
	c->end += sizeof(table) / VMDK_SECTOR;
	return 0;
}

/* A directory like the one at old_at, with tables up to count. The new tables are holes. */
static int put_directory(struct change *c, uint64_t old_at, uint64_t count, uint64_t *sector,
	struct vmimg_error *err)
{
	const uint64_t table = VMIMG_VMDK_TABLE_MOST / VMDK_SECTOR;
	VMIMG_AUTO(free) uint8_t *bytes = vmimg_alloc_array((size_t)count, 4, err);

	if (!bytes || vmimg_io_pread(c->io, bytes, (size_t)c->g->gd_count * 4, old_at, err) ||
		copy_last_table(c, bytes, err))
		return -1;
	for (uint64_t i = c->g->gd_count; i < count; i++, c->end += table)
		vmimg_put_le32(bytes + 4 * i, (uint32_t)c->end);
	*sector = c->end;
	c->end += vmimg_div_up(4 * count, VMDK_SECTOR);
	if (c->end > UINT32_MAX)
		return vmimg_fail(err, VMIMG_ELIMIT, "the file would be larger than 2 TiB");
	return vmimg_io_pwrite(c->io, bytes, (size_t)count * 4, *sector * VMDK_SECTOR, err);
}

static int grow(struct change *c, uint64_t size, struct vmimg_error *err)
{
	const struct vmdk_grains *g = c->g;
	uint64_t count = vmimg_div_up(size, vmimg_vmdk_table_span(g));

	if (g->rgd_at && put_directory(c, g->rgd_at, count, &c->header.rgd_offset, err))
		return -1;
	return put_directory(c, g->gd_at, count, &c->header.gd_offset, err);
}

int vmimg_vmdk_resize_sparse(struct vmimg_io *io, const struct vmdk_grains *g, const char *text,
	uint64_t size, struct vmimg_error *err)
{
	struct change c = { .io = io, .g = g };
	uint64_t old_at, text_at;
	uint8_t bytes[512];

	if (vmimg_io_pread(io, bytes, sizeof(bytes), 0, err))
		return -1;
	vmdk_header_decode(&c.header, bytes);
	c.end = vmimg_align_up(vmimg_io_size(io), g->grain) / VMDK_SECTOR;
	old_at = c.header.descriptor_offset;
	c.header.capacity = size / VMDK_SECTOR;
	if (size > g->capacity && grow(&c, size, err))
		return -1;
	c.end = vmimg_align_up(c.end * VMDK_SECTOR, g->grain) / VMDK_SECTOR;
	text_at = c.end;
	if (put_text(&c, text, text_at * VMDK_SECTOR, err))
		return -1;
	c.header.descriptor_offset = text_at;
	if (put_header(&c, err) || put_text(&c, text, old_at * VMDK_SECTOR, err))
		return -1;
	c.header.descriptor_offset = old_at;
	if (put_header(&c, err))
		return -1;
	return vmimg_io_resize(io, text_at * VMDK_SECTOR, err) || vmimg_io_sync(io, err) ? -1 : 0;
}
