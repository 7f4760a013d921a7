/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Grain tables whose directory entries are lost in both directories. Writers lay all tables of a
 * set one behind the other: the entries that are left say where a lost one lies, and that both sets
 * have the same there says that it is one.
 */
#include <string.h>
#include "format/vmdk/vmdk.h"
#include "util/num.h"

#define WINDOW 4096U

static uint64_t table_room(const struct vmdk_grains *g)
{
	return vmimg_align_up((uint64_t)g->entries * g->entry_size, VMDK_SECTOR);
}

/* The place of table 0 that the entry of table i speaks for; 0: none. */
static uint64_t vote_of(
	const struct vmdk_grains *g, uint64_t size, uint64_t i, const uint8_t *entry)
{
	uint64_t at, ahead = i * table_room(g);

	if (vmimg_vmdk_directory_entry(g, entry, &at) != VMDK_ENTRY_AT ||
		!vmimg_range_inside(at, vmimg_vmdk_table_len(g, i), size))
		return 0;
	return at > ahead ? at - ahead : 0;
}

/* The majority's vote, by the rule of Boyer and Moore. */
int vmimg_vmdk_regular(const struct vmdk_grains *g, struct vmimg_io *io, uint64_t directory_at,
	uint64_t *first, struct vmimg_error *err)
{
	uint64_t votes = 0, vote;
	uint8_t window[WINDOW];

	*first = 0;
	for (uint64_t i = 0; i < g->gd_count;) {
		uint64_t count = vmimg_min(g->gd_count - i, WINDOW / g->entry_size);

		if (vmimg_io_pread(io, window, (size_t)(count * g->entry_size),
			    directory_at + i * g->entry_size, err))
			return -1;
		for (uint64_t k = 0; k < count; k++, i++) {
			vote = vote_of(g, vmimg_io_size(io), i, window + k * g->entry_size);
			if (!vote)
				continue;
			if (!votes)
				*first = vote;
			votes += vote == *first ? 1 : UINT64_MAX;
		}
	}
	return 0;
}

uint64_t vmimg_vmdk_regular_place(
	const struct vmdk_grains *g, uint64_t size, uint64_t first, uint64_t index)
{
	uint64_t at = first + index * table_room(g);

	return first && vmimg_range_inside(at, vmimg_vmdk_table_len(g, index), size) ? at : 0;
}

static bool has_grains_inside(
	const struct vmdk_grains *g, const uint8_t *table, size_t len, uint64_t size)
{
	uint64_t at;

	for (size_t i = 0; i < len; i += 4)
		if (vmimg_vmdk_grain_entry(g, table + i, &at) == VMDK_ENTRY_AT &&
			(at < VMDK_SECTOR || at >= size))
			return false;
	return true;
}

bool vmimg_vmdk_lost_table(
	const struct vmdk_grains *g, struct vmimg_io *io, uint64_t index, uint64_t *at)
{
	uint64_t size = vmimg_io_size(io);
	uint64_t other = vmimg_vmdk_regular_place(g, size, g->regular_rgd, index);
	size_t len = (size_t)vmimg_vmdk_table_len(g, index);
	uint8_t bytes[VMIMG_VMDK_TABLE_MOST], copy[VMIMG_VMDK_TABLE_MOST];
	struct vmimg_error unused;

	*at = vmimg_vmdk_regular_place(g, size, g->regular, index);
	return g->kind == VMDK_HOSTED && *at && other && *at != other &&
		!vmimg_io_pread(io, bytes, len, *at, &unused) &&
		!vmimg_io_pread(io, copy, len, other, &unused) && !memcmp(bytes, copy, len) &&
		has_grains_inside(g, bytes, len, size);
}
