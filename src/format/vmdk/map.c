/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Where guest bytes live: extent, grain directory, grain table. Runs go as far as one grain table
 * reaches, or as far as the directory has nothing; the engine joins them. Tables are read in small
 * windows through one cache, so nothing here depends on what a header claims.
 */
#include <inttypes.h>
#include "format/vmdk/repair.h"
#include "util/num.h"

#define WINDOW 4096U /* bytes of table looked at in one go */

static const struct vmdk_extent *find_extent(const struct vmdk *v, uint64_t at)
{
	size_t low = 0, high = v->extent_count;

	while (high - low > 1) {
		size_t middle = low + (high - low) / 2;

		if (v->extents[middle].start <= at)
			low = middle;
		else
			high = middle;
	}
	return &v->extents[low];
}

/* Reads entries [first, …) of a table at `at`; *count is cut to what a window holds. */
static int read_entries(const struct vmdk *v, const struct vmdk_extent *e, uint64_t at,
	uint64_t first, uint64_t *count, uint8_t window[WINDOW], struct vmimg_error *err)
{
	uint32_t size = e->g.entry_size;

	*count = vmimg_min(*count, WINDOW / size);
	return vmimg_table_read_from(
		v->table, e->io, window, (size_t)*count * size, at + first * size, err);
}

static int fail_entry(const struct vmdk_extent *e, const char *what, uint64_t table_at,
	uint64_t index, uint64_t entry, struct vmimg_error *err)
{
	return vmimg_fail(err, VMIMG_ECORRUPT,
		"%s: %s entry 0x%" PRIx64 " at 0x%" PRIx64 " points outside the file (0x%" PRIx64
		")",
		vmimg_io_name(e->io), what, entry, table_at + index * e->g.entry_size,
		vmimg_io_size(e->io));
}

static uint64_t raw_entry(const struct vmdk_grains *g, const uint8_t *entry)
{
	return g->entry_size == 8 ? vmimg_get_le64(entry) : vmimg_get_le32(entry);
}

/* Whether the grain at `at`, of which len bytes are needed, lies in the file. */
static bool grain_inside(const struct vmdk_extent *e, uint64_t at, uint64_t len)
{
	return at >= VMDK_SECTOR &&
		vmimg_range_inside(at, e->g.packed ? VMDK_GRAIN_HEAD : len, vmimg_io_size(e->io));
}

/* What the redundant directory knows of the grain at guest offset `inside`: for recovery. */
static enum vmdk_entry_kind ask_redundant(const struct vmdk *v, const struct vmdk_extent *e,
	uint64_t inside, uint64_t need, uint64_t *at)
{
	const struct vmdk_grains *g = &e->g;
	uint64_t span = vmimg_vmdk_table_span(g), one = 1, table;
	enum vmdk_entry_kind kind;
	struct vmimg_error unused;
	uint8_t window[WINDOW];

	if (!v->lenient || !g->rgd_at || g->through_rgd)
		return VMDK_ENTRY_BAD;
	if (read_entries(v, e, g->rgd_at, inside / span, &one, window, &unused) ||
		vmimg_vmdk_directory_entry(g, window, &table) != VMDK_ENTRY_AT ||
		read_entries(v, e, table, inside % span / g->grain, &one, window, &unused))
		return VMDK_ENTRY_BAD;
	kind = vmimg_vmdk_grain_entry(g, window, at);
	return kind == VMDK_ENTRY_AT && !grain_inside(e, *at, need) ? VMDK_ENTRY_BAD : kind;
}

/* How many of the count entries in window, from the first on, are of kind; for those that point at
 * plain grains: how many lie one behind the other in the file. */
static uint64_t same_entries(const struct vmdk_extent *e, const uint8_t *window, uint64_t count,
	enum vmdk_entry_kind kind, uint64_t at)
{
	const struct vmdk_grains *g = &e->g;
	uint64_t n = 1, next;

	for (; n < count; n++) {
		if (vmimg_vmdk_grain_entry(g, window + n * g->entry_size, &next) != kind)
			break;
		if (kind == VMDK_ENTRY_AT &&
			(next != at + n * g->grain || !grain_inside(e, next, g->grain)))
			break;
	}
	return n;
}

static int map_grains(const struct vmdk *v, const struct vmdk_extent *e, uint64_t table,
	uint64_t inside, struct vmimg_run *run, struct vmimg_error *err)
{
	const struct vmdk_grains *g = &e->g;
	uint64_t first = inside % vmimg_vmdk_table_span(g) / g->grain, skip = inside % g->grain;
	uint64_t count = vmimg_min(g->entries - first,
		vmimg_div_up(vmimg_min(e->len, g->capacity) - inside + skip, g->grain));
	uint64_t need = vmimg_min(g->grain, e->len - inside + skip), at = 0;
	enum vmdk_entry_kind kind;
	uint8_t window[WINDOW];

	if (g->packed)
		count = vmimg_min(count, 64);
	if (read_entries(v, e, table, first, &count, window, err))
		return vmimg_within(err, "grain table");
	kind = vmimg_vmdk_grain_entry(g, window, &at);
	if ((kind == VMDK_ENTRY_BAD || (kind == VMDK_ENTRY_AT && !grain_inside(e, at, need)))) {
		kind = ask_redundant(v, e, inside, need, &at);
		if (kind == VMDK_ENTRY_BAD)
			return fail_entry(
				e, "grain table", table, first, raw_entry(g, window), err);
		count = 1;
	}
	if (kind == VMDK_ENTRY_AT && g->packed) {
		run->kind = VMIMG_RUN_PACKED;
		run->io = e->io;
		run->block.codec = &vmimg_codec_zlib;
		run->block.unpacked = g->grain;
		run->block.skip = (uint32_t)skip;
		run->len = g->grain - skip;
		return vmimg_vmdk_packed_grain(
			g, e->io, at, inside - skip, &run->at, &run->block.packed, err);
	}
	run->len = same_entries(e, window, count, kind, at) * g->grain - skip;
	run->kind = kind == VMDK_ENTRY_ABSENT ? VMIMG_RUN_ABSENT
		: kind == VMDK_ENTRY_ZERO     ? VMIMG_RUN_ZERO
					      : VMIMG_RUN_DATA;
	if (kind == VMDK_ENTRY_AT) {
		run->io = e->io;
		run->at = at + skip;
	}
	return 0;
}

/* How many of the tables that the count entries in window name, from the first on, lie one behind
 * the other in a hole of the file: writers give every table its place beforehand, so a disk of many
 * TiB has GiB of tables that were never written. */
static int tables_in_hole(const struct vmdk_extent *e, const uint8_t *window, uint64_t count,
	uint64_t table, uint64_t *n, struct vmimg_error *err)
{
	const struct vmdk_grains *g = &e->g;
	uint64_t each = (uint64_t)g->entries * g->entry_size, len, next;
	bool hole;

	*n = 0;
	if (vmimg_io_extent(e->io, table, &hole, &len, err))
		return -1;
	while (hole && *n < count && (*n + 1) * each <= len &&
		vmimg_vmdk_directory_entry(g, window + *n * g->entry_size, &next) ==
			VMDK_ENTRY_AT &&
		next == table + *n * each)
		++*n;
	return 0;
}

static bool table_inside(const struct vmdk_extent *e, uint64_t index, uint64_t at)
{
	return vmimg_range_inside(at, vmimg_vmdk_table_len(&e->g, index), vmimg_io_size(e->io));
}

/* For recovery: the table that the redundant directory has instead, or that the layout would have.
 */
static bool find_table(
	const struct vmdk *v, const struct vmdk_extent *e, uint64_t index, uint64_t *table)
{
	struct vmimg_error unused;
	uint8_t window[WINDOW];
	uint64_t one = 1;

	if (!v->lenient || !e->g.rgd_at || e->g.through_rgd)
		return false;
	return (!read_entries(v, e, e->g.rgd_at, index, &one, window, &unused) &&
		       vmimg_vmdk_directory_entry(&e->g, window, table) == VMDK_ENTRY_AT &&
		       table_inside(e, index, *table)) ||
		vmimg_vmdk_lost_table(&e->g, e->io, index, table);
}

static int map_sparse(const struct vmdk *v, const struct vmdk_extent *e, uint64_t inside,
	struct vmimg_run *run, struct vmimg_error *err)
{
	const struct vmdk_grains *g = &e->g;
	uint64_t span = vmimg_vmdk_table_span(g), first = inside / span, n = 1, table = 0, unused;
	uint64_t count = g->gd_count - first;
	enum vmdk_entry_kind kind;
	uint8_t window[WINDOW];

	if (first >= g->gd_count)
		return vmimg_fail(err, VMIMG_ECORRUPT,
			"%s: its header says a capacity of %" PRIu64
			" bytes, the descriptor %" PRIu64,
			vmimg_io_name(e->io), g->capacity, e->len);
	if (read_entries(v, e, g->gd_at, first, &count, window, err))
		return vmimg_within(err, "grain directory");
	kind = vmimg_vmdk_directory_entry(g, window, &table);
	if (kind == VMDK_ENTRY_BAD || (kind == VMDK_ENTRY_AT && !table_inside(e, first, table))) {
		if (find_table(v, e, first, &table))
			return map_grains(v, e, table, inside, run, err);
		run->len = span - inside % span;
		return fail_entry(e, "grain directory", g->gd_at, first, raw_entry(g, window), err);
	}
	if (kind == VMDK_ENTRY_AT && inside % span == 0) {
		if (tables_in_hole(e, window, count, table, &n, err))
			return -1;
		run->kind = VMIMG_RUN_ABSENT;
		run->len = n * span;
		if (n)
			return 0;
	}
	if (kind == VMDK_ENTRY_AT)
		return map_grains(v, e, table, inside, run, err);
	while (n < count &&
		vmimg_vmdk_directory_entry(g, window + n * g->entry_size, &unused) == kind)
		n++;
	run->kind = kind == VMDK_ENTRY_ZERO ? VMIMG_RUN_ZERO : VMIMG_RUN_ABSENT;
	run->len = (first + n) * span - inside;
	return 0;
}

/* A run that ends where the next unknown range begins need not be cut: there are no grains in that.
 */
static bool is_unknown(
	const struct vmdk *v, uint64_t inside, struct vmimg_run *run, struct vmimg_error *err)
{
	uint64_t end;

	if (!vmimg_vmdk_is_unknown(v->rebuilt, inside, &end))
		return false;
	run->len = end - inside;
	(void)!vmimg_fail(err, VMIMG_ECORRUPT,
		"the stream is damaged: what it had from guest offset 0x%" PRIx64 " to 0x%" PRIx64
		" is not known",
		inside, end);
	return true;
}

int vmimg_vmdk_map(
	struct vmimg_disk *disk, uint64_t at, struct vmimg_run *run, struct vmimg_error *err)
{
	const struct vmdk *v = vmdk_of(disk);
	const struct vmdk_extent *e = find_extent(v, at);
	uint64_t inside = at - e->start;

	if (e->zero) {
		run->kind = VMIMG_RUN_ZERO;
		run->len = e->len - inside;
		return 0;
	}
	if (!e->sparse || !e->io) {
		run->len = e->len - inside;
		run->kind = VMIMG_RUN_DATA;
		run->io = e->io;
		run->at = e->at + inside;
		return 0;
	}
	if (v->rebuilt && is_unknown(v, inside, run, err))
		return -1;
	if (map_sparse(v, e, inside, run, err))
		return -1;
	run->len = vmimg_min(run->len, e->len - inside);
	return 0;
}
