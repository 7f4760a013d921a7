/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The tables of a hosted sparse extent being changed. There may be two sets of them. While they
 * change, and may differ, the header says that the extent was not closed; the first set counts.
 */
#include <inttypes.h>
#include <string.h>
#include "format/vmdk/edit.h"
#include "format/vmdk/taken.h"
#include "util/num.h"

#define WINDOW 4096U

int vmimg_vmdk_mark(struct vmdk_change *c, bool unclean, bool zeroed, struct vmimg_error *err)
{
	struct vmdk_header header;
	uint8_t bytes[512];

	if (vmimg_io_sync(c->io, err) || vmimg_io_pread(c->io, bytes, sizeof(bytes), 0, err))
		return -1;
	vmdk_header_decode(&header, bytes);
	header.unclean = unclean;
	if (zeroed) {
		header.flags |= VMDK_FLAG_ZEROED;
		header.version = (uint32_t)vmimg_max(header.version, 2);
	}
	vmdk_header_encode(&header, bytes);
	if (vmimg_io_pwrite(c->io, bytes, sizeof(bytes), 0, err) || vmimg_io_sync(c->io, err))
		return -1;
	c->marked = unclean;
	c->g.zeroed |= zeroed;
	return 0;
}

/* ---- walking ---- */

static int fail_place(const struct vmdk_change *c, const char *what, uint64_t index, uint64_t at,
	struct vmimg_error *err)
{
	return vmimg_fail(err, VMIMG_ECORRUPT,
		"%s: the entry of %s %" PRIu64 " leads to 0x%" PRIx64
		", which is not inside the file: repair it first",
		vmimg_io_name(c->io), what, index, at);
}

static int walk_grains(const struct vmdk_change *c, uint64_t table, uint64_t index,
	const struct vmdk_visit *visit, struct vmimg_error *err)
{
	uint64_t len = vmimg_vmdk_table_len(&c->g, index), at;
	uint8_t bytes[VMIMG_VMDK_TABLE_MOST];

	if (vmimg_io_pread(c->io, bytes, (size_t)len, table, err))
		return -1;
	for (uint64_t i = 0; i < len / 4; i++) {
		uint64_t grain = index * c->g.entries + i;

		if (vmimg_vmdk_grain_entry(&c->g, bytes + 4 * i, &at) != VMDK_ENTRY_AT)
			continue;
		if (at < 2 * VMDK_SECTOR || at >= vmimg_io_size(c->io))
			return fail_place(c, "grain", grain, at, err);
		if (visit->grain(visit->ctx, grain, (uint32_t)(at / VMDK_SECTOR), err))
			return -1;
	}
	return 0;
}

/* *hole: the end of the hole that was found last. */
static int walk_table(const struct vmdk_change *c, uint64_t at, uint64_t index, uint64_t *hole,
	const struct vmdk_visit *visit, struct vmimg_error *err)
{
	uint64_t len = vmimg_vmdk_table_len(&c->g, index), reach;
	bool empty = false;

	if (at < VMDK_SECTOR || !vmimg_range_inside(at, len, vmimg_io_size(c->io)))
		return fail_place(c, "grain table", index, at, err);
	if (visit->table && visit->table(visit->ctx, index, (uint32_t)(at / VMDK_SECTOR), err))
		return -1;
	if (!visit->grain)
		return 0;
	if (*hole < at + len || *hole - at > UINT64_C(1) << 30) {
		if (vmimg_io_extent(c->io, at, &empty, &reach, err))
			return -1;
		*hole = empty ? at + reach : 0;
	}
	return *hole >= at + len ? 0 : walk_grains(c, at, index, visit, err);
}

int vmimg_vmdk_walk(const struct vmdk_change *c, uint64_t directory_at,
	const struct vmdk_visit *visit, struct vmimg_error *err)
{
	uint8_t window[WINDOW];
	uint64_t hole = 0, at;

	for (uint64_t i = 0; i < c->g.gd_count;) {
		uint64_t count = vmimg_min(c->g.gd_count - i, WINDOW / 4);

		if (vmimg_io_pread(c->io, window, (size_t)count * 4, directory_at + 4 * i, err))
			return -1;
		for (uint64_t k = 0; k < count; k++, i++)
			if (vmimg_vmdk_directory_entry(&c->g, window + 4 * k, &at) ==
					VMDK_ENTRY_AT &&
				walk_table(c, at, i, &hole, visit, err))
				return -1;
	}
	return 0;
}

/* ---- space ---- */

struct adding {
	const struct vmdk_change *c;
	struct vmimg_blocks *blocks;
};

static int add_table(void *ctx, uint64_t i, uint32_t sector, struct vmimg_error *err)
{
	const struct adding *adding = ctx;
	uint64_t len = vmimg_vmdk_table_len(&adding->c->g, i);

	return vmimg_blocks_add(adding->blocks, sector, vmimg_div_up(len, VMDK_SECTOR), err);
}

static int add_grain(void *ctx, uint64_t i, uint32_t sector, struct vmimg_error *err)
{
	const struct adding *adding = ctx;

	(void)i;
	return vmimg_blocks_add(adding->blocks, sector, adding->blocks->width, err);
}

static int add_bytes(
	struct vmimg_blocks *blocks, uint64_t at, uint64_t len, struct vmimg_error *err)
{
	uint64_t first = at / VMDK_SECTOR, end = vmimg_div_up(at + len, VMDK_SECTOR);

	return vmimg_blocks_add(blocks, first, end - first, err);
}

int vmimg_vmdk_space(
	const struct vmdk_change *c, struct vmimg_blocks *blocks, struct vmimg_error *err)
{
	const struct vmdk_grains *g = &c->g;
	struct adding adding = { c, blocks };
	struct vmdk_visit visit = { add_table, NULL, &adding };
	uint64_t width = g->grain / VMDK_SECTOR, head = vmimg_max(g->overhead, VMDK_SECTOR);

	vmimg_blocks_init(blocks, width, width, head / VMDK_SECTOR % width);
	if (add_bytes(blocks, 0, head, err) ||
		(g->descriptor_at && add_bytes(blocks, g->descriptor_at, g->descriptor_len, err)) ||
		add_bytes(blocks, g->gd_at, 4 * g->gd_count, err))
		return -1;
	if (g->rgd_at &&
		(add_bytes(blocks, g->rgd_at, 4 * g->gd_count, err) ||
			vmimg_vmdk_walk(c, g->rgd_at, &visit, err)))
		return -1;
	visit.grain = add_grain;
	if (vmimg_vmdk_walk(c, g->gd_at, &visit, err))
		return -1;
	vmimg_blocks_room(blocks, head / VMDK_SECTOR);
	return 0;
}

/* ---- nothing on top of anything ---- */

struct verify {
	const struct vmdk_change *c;
	struct vmdk_taken taken;
};

static int claim(struct verify *v, const char *what, uint64_t index, uint64_t at, uint64_t len,
	struct vmimg_error *err)
{
	uint64_t size = vmimg_io_size(v->c->io);

	if (at >= size || vmimg_vmdk_take(&v->taken, at, vmimg_min(len, size - at)))
		return at < size ? 0 : fail_place(v->c, what, index, at, err);
	return vmimg_fail(err, VMIMG_ECORRUPT,
		"%s: %s %" PRIu64 " at 0x%" PRIx64
		" lies over something else, which would change with it: repair it first",
		vmimg_io_name(v->c->io), what, index, at);
}

static int claim_table(void *ctx, uint64_t i, uint32_t sector, struct vmimg_error *err)
{
	struct verify *v = ctx;

	return claim(
		v, "grain table", i, sector * VMDK_SECTOR, vmimg_vmdk_table_len(&v->c->g, i), err);
}

static int claim_grain(void *ctx, uint64_t i, uint32_t sector, struct vmimg_error *err)
{
	struct verify *v = ctx;

	return claim(v, "grain", i, sector * VMDK_SECTOR, v->c->g.grain, err);
}

static int claim_all(struct verify *v, struct vmimg_error *err)
{
	const struct vmdk_grains *g = &v->c->g;
	struct vmdk_visit tables = { claim_table, NULL, v }, grains = { NULL, claim_grain, v };

	if (claim(v, "header", 0, 0, VMDK_SECTOR, err) ||
		(g->descriptor_at &&
			claim(v, "descriptor", 0, g->descriptor_at, g->descriptor_len, err)) ||
		claim(v, "grain directory", 0, g->gd_at, 4 * g->gd_count, err))
		return -1;
	if (g->rgd_at &&
		(claim(v, "grain directory", 1, g->rgd_at, 4 * g->gd_count, err) ||
			vmimg_vmdk_walk(v->c, g->rgd_at, &tables, err)))
		return -1;
	return vmimg_vmdk_walk(v->c, g->gd_at, &tables, err) ||
			vmimg_vmdk_walk(v->c, g->gd_at, &grains, err)
		? -1
		: 0;
}

int vmimg_vmdk_verify(const struct vmdk_change *c, struct vmimg_error *err)
{
	struct verify verify = { .c = c };
	int failed;

	if (!c->g.gd_count)
		return 0;
	failed = vmimg_vmdk_taken_init(&verify.taken, vmimg_io_size(c->io), err) ||
		claim_all(&verify, err);
	vmimg_vmdk_taken_done(&verify.taken);
	return failed ? -1 : 0;
}

/* ---- entries ---- */

int vmimg_vmdk_entry_place(const struct vmdk_change *c, uint64_t directory_at, uint64_t grain,
	uint64_t *at, struct vmimg_error *err)
{
	uint64_t index = grain / c->g.entries, table;
	uint8_t bytes[4];

	*at = 0;
	if (vmimg_io_pread(c->io, bytes, sizeof(bytes), directory_at + 4 * index, err))
		return -1;
	if (vmimg_vmdk_directory_entry(&c->g, bytes, &table) == VMDK_ENTRY_AT)
		*at = table + 4 * (grain % c->g.entries);
	return 0;
}

/* An empty table means what no table means, so it may come at once. */
static int add_one(struct vmdk_change *c, uint64_t directory_at, struct vmimg_blocks *blocks,
	uint64_t grain, struct vmimg_error *err)
{
	uint64_t sectors = vmimg_div_up(4 * (uint64_t)c->g.entries, VMDK_SECTOR), at, file;
	uint8_t bytes[4];

	if (!directory_at || vmimg_vmdk_entry_place(c, directory_at, grain, &at, err))
		return directory_at ? -1 : 0;
	if (at)
		return 0;
	file = vmimg_io_size(c->io) / VMDK_SECTOR;
	at = blocks->end;
	blocks->end += sectors;
	if (blocks->end > UINT32_MAX)
		return vmimg_fail(err, VMIMG_ELIMIT, "the file would be larger than 2 TiB");
	if (file < blocks->end ? vmimg_io_resize(c->io, blocks->end * VMDK_SECTOR, err) : 0)
		return -1;
	if (vmimg_io_zero(c->io, at * VMDK_SECTOR, sectors * VMDK_SECTOR, err) ||
		vmimg_io_sync(c->io, err))
		return -1;
	vmimg_put_le32(bytes, (uint32_t)at);
	return vmimg_io_pwrite(
		c->io, bytes, sizeof(bytes), directory_at + 4 * (grain / c->g.entries), err);
}

int vmimg_vmdk_add_table(
	struct vmdk_change *c, struct vmimg_blocks *blocks, uint64_t grain, struct vmimg_error *err)
{
	if (!c->marked && vmimg_vmdk_mark(c, true, false, err))
		return -1;
	return add_one(c, c->g.rgd_at, blocks, grain, err) ||
			add_one(c, c->g.gd_at, blocks, grain, err)
		? -1
		: 0;
}

/* ---- after a crash ---- */

static int mirror_table(void *ctx, uint64_t i, uint32_t sector, struct vmimg_error *err)
{
	const struct vmdk_change *c = ctx;
	size_t len = (size_t)vmimg_vmdk_table_len(&c->g, i);
	uint8_t bytes[VMIMG_VMDK_TABLE_MOST], copy[VMIMG_VMDK_TABLE_MOST];
	uint64_t at;

	if (vmimg_vmdk_entry_place(c, c->g.rgd_at, i * c->g.entries, &at, err))
		return -1;
	if (!at || at == sector * VMDK_SECTOR)
		return 0;
	if (vmimg_io_pread(c->io, bytes, len, sector * VMDK_SECTOR, err) ||
		vmimg_io_pread(c->io, copy, len, at, err))
		return -1;
	return memcmp(bytes, copy, len) ? vmimg_io_pwrite(c->io, bytes, len, at, err) : 0;
}

int vmimg_vmdk_mirror(const struct vmdk_change *c, struct vmimg_error *err)
{
	struct vmdk_visit visit = { mirror_table, NULL, (void *)(uintptr_t)c };

	return c->g.rgd_at ? vmimg_vmdk_walk(c, c->g.gd_at, &visit, err) : 0;
}
