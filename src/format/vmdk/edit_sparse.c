/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The size of a hosted sparse extent. The header's sector says the size and where the directories
 * and the descriptor are; so new ones go to the end of the file, and one write of that sector makes
 * them the image. Then a descriptor inside is brought back to its old place, where some readers
 * look without asking the header, by a second such write.
 */
#include <string.h>
#include "format/vmdk/edit.h"
#include "util/num.h"

struct change {
	struct vmimg_io *io;
	const struct vmdk_grains *g;
	const struct vmdk_resized *to;
	struct vmdk_header header;
	uint64_t end;      /* of the file, in sectors */
	uint64_t grain_at; /* sector of to->grain; 0: it is not written */
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

static int put_text(struct change *c, uint64_t at, struct vmimg_error *err)
{
	VMIMG_AUTO(free) char *room = vmimg_alloc_array((size_t)c->g->descriptor_len, 1, err);

	if (!room)
		return -1;
	memcpy(room, c->to->text, strlen(c->to->text));
	return vmimg_io_pwrite(c->io, room, (size_t)c->g->descriptor_len, at, err);
}

/* Ends the file at a multiple of the grain. */
static void align_end(struct change *c)
{
	c->end = vmimg_align_up(c->end * VMDK_SECTOR, c->g->grain) / VMDK_SECTOR;
}

/* ---- tables ---- */

/* Entries of the table, from i on, under which a parent would show: grains of zeroes. */
static bool hide(const struct change *c, uint64_t index, uint64_t i, uint8_t *table)
{
	uint64_t guest = index * vmimg_vmdk_table_span(c->g) + i * c->g->grain;
	bool some = false;

	for (; i < c->g->entries && guest < c->to->hidden; i++, guest += c->g->grain) {
		vmimg_put_le32(table + 4 * i, 1);
		some = true;
	}
	return some;
}

/* What the last grain of the old size holds past the disk's end would be the guest's: it becomes
 * zero; and so does what a parent would show there. */
static int end_grain(struct change *c, uint8_t *entry, struct vmimg_error *err)
{
	uint64_t inside = c->g->capacity % c->g->grain, at;
	enum vmdk_entry_kind kind = vmimg_vmdk_grain_entry(c->g, entry, &at);

	if (inside && kind == VMDK_ENTRY_AT)
		return vmimg_io_zero(c->io, at + inside, c->g->grain - inside, err);
	if (kind != VMDK_ENTRY_ABSENT || !c->to->grain)
		return 0;
	if (!c->grain_at) {
		align_end(c);
		c->grain_at = c->end;
		c->end += c->g->grain / VMDK_SECTOR;
		if (vmimg_io_pwrite(
			    c->io, c->to->grain, c->g->grain, c->grain_at * VMDK_SECTOR, err))
			return -1;
	}
	vmimg_put_le32(entry, (uint32_t)c->grain_at);
	return 0;
}

/* The last table of the old size, with no entries past it but such, in a place of its own. */
static int copy_last_table(struct change *c, uint8_t *directory, struct vmimg_error *err)
{
	const struct vmdk_grains *g = c->g;
	uint8_t table[VMIMG_VMDK_TABLE_MOST] = { 0 }, *entry = directory + 4 * (g->gd_count - 1);
	size_t len = (size_t)vmimg_vmdk_table_len(g, g->gd_count - 1);
	bool there;
	uint64_t at;

	there = vmimg_vmdk_directory_entry(g, entry, &at) == VMDK_ENTRY_AT;
	if (there && vmimg_io_pread(c->io, table, len, at, err))
		return -1;
	if (end_grain(c, table + len - 4, err))
		return -1;
	if (!hide(c, g->gd_count - 1, len / 4, table) && !there && !c->grain_at)
		return 0;
	if (vmimg_io_pwrite(c->io, table, sizeof(table), c->end * VMDK_SECTOR, err))
		return -1;
	vmimg_put_le32(entry, (uint32_t)c->end);
	c->end += sizeof(table) / VMDK_SECTOR;
	return 0;
}

/* New tables are holes, but where there is something to hide. */
static int add_table(struct change *c, uint64_t index, struct vmimg_error *err)
{
	uint8_t table[VMIMG_VMDK_TABLE_MOST] = { 0 };

	return hide(c, index, 0, table)
		? vmimg_io_pwrite(c->io, table, sizeof(table), c->end * VMDK_SECTOR, err)
		: 0;
}

/* A directory like the one at old_at, with tables up to count. */
static int put_directory(struct change *c, uint64_t old_at, uint64_t count, uint64_t *sector,
	struct vmimg_error *err)
{
	const uint64_t table = VMIMG_VMDK_TABLE_MOST / VMDK_SECTOR;
	VMIMG_AUTO(free) uint8_t *bytes = vmimg_alloc_array((size_t)count, 4, err);

	if (!bytes || vmimg_io_pread(c->io, bytes, (size_t)c->g->gd_count * 4, old_at, err) ||
		copy_last_table(c, bytes, err))
		return -1;
	for (uint64_t i = c->g->gd_count; i < count; i++, c->end += table) {
		if (c->end > UINT32_MAX - table)
			return vmimg_fail(err, VMIMG_ELIMIT, "the file would be larger than 2 TiB");
		if (add_table(c, i, err))
			return -1;
		vmimg_put_le32(bytes + 4 * i, (uint32_t)c->end);
	}
	*sector = c->end;
	c->end += vmimg_div_up(4 * count, VMDK_SECTOR);
	if (c->end > UINT32_MAX)
		return vmimg_fail(err, VMIMG_ELIMIT, "the file would be larger than 2 TiB");
	return vmimg_io_pwrite(c->io, bytes, (size_t)count * 4, *sector * VMDK_SECTOR, err);
}

static int grow(struct change *c, struct vmimg_error *err)
{
	const struct vmdk_grains *g = c->g;
	uint64_t count = vmimg_div_up(c->to->size, vmimg_vmdk_table_span(g));

	if (c->to->hidden > g->capacity) {
		c->header.flags |= VMDK_FLAG_ZEROED;
		c->header.version = (uint32_t)vmimg_max(c->header.version, 2);
	}
	if (g->rgd_at && put_directory(c, g->rgd_at, count, &c->header.rgd_offset, err))
		return -1;
	return put_directory(c, g->gd_at, count, &c->header.gd_offset, err);
}

/* ---- the whole ---- */

/* The new descriptor becomes the image's by the same write as all else. */
static int put_with_text(struct change *c, struct vmimg_error *err)
{
	uint64_t old_at = c->header.descriptor_offset, text_at = c->end;

	if (put_text(c, text_at * VMDK_SECTOR, err))
		return -1;
	c->header.descriptor_offset = text_at;
	if (put_header(c, err) || put_text(c, old_at * VMDK_SECTOR, err))
		return -1;
	c->header.descriptor_offset = old_at;
	if (put_header(c, err))
		return -1;
	return vmimg_io_resize(c->io, text_at * VMDK_SECTOR, err) || vmimg_io_sync(c->io, err) ? -1
											       : 0;
}

static int put_alone(struct change *c, struct vmimg_error *err)
{
	bool grows = c->to->size > c->g->capacity;

	if (grows && vmimg_io_resize(c->io, c->end * VMDK_SECTOR, err))
		return -1;
	return put_header(c, err);
}

int vmimg_vmdk_resize_sparse(struct vmimg_io *io, const struct vmdk_grains *g,
	const struct vmdk_resized *to, struct vmimg_error *err)
{
	struct change c = { .io = io, .g = g, .to = to };
	uint8_t bytes[512];

	if (vmimg_io_pread(io, bytes, sizeof(bytes), 0, err))
		return -1;
	vmdk_header_decode(&c.header, bytes);
	c.end = vmimg_div_up(vmimg_io_size(io), VMDK_SECTOR);
	align_end(&c);
	c.header.capacity = to->size / VMDK_SECTOR;
	if (to->size > g->capacity && grow(&c, err))
		return -1;
	align_end(&c);
	return to->text ? put_with_text(&c, err) : put_alone(&c, err);
}
