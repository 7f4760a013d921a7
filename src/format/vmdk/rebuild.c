/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A stream without its end. Each grain says in its marker where it belongs, so tables, directory
 * and footer can be made anew. They are laid over the file where its good part ends; repair writes
 * them there.
 */
#include <inttypes.h>
#include <string.h>
#include "format/vmdk/rebuild.h"
#include "io/overlay.h"
#include "util/num.h"

/* Tables of 1 TiB of the usual grains take 80 MiB; but a header may promise any directory. It is in
 * memory twice for a moment. */
#define MOST_TAIL (UINT64_C(96) << 20)

/* ---- the new end ---- */

struct tail {
	const struct vmdk_walk *w;
	uint8_t *bytes; /* what is laid over the file at `at` */
	uint64_t at, len;
	uint64_t from, between; /* sectors before it that are passed over */
	uint64_t gd_at;
};

static void put_marker(uint8_t *to, uint64_t value, uint32_t type)
{
	struct vmdk_marker marker = { .value = value, .type = type };

	vmdk_marker_encode(&marker, to);
}

static uint64_t table_bytes(const struct vmdk_walk *w)
{
	return vmimg_align_up(4 * (uint64_t)w->g->entries, VMDK_SECTOR);
}

static uint64_t directory_bytes(const struct vmdk_walk *w)
{
	return vmimg_align_up(4 * w->g->gd_count, VMDK_SECTOR);
}

static uint32_t table_of(const struct vmdk_walk *w, size_t i)
{
	return w->found[i].grain / w->g->entries;
}

static uint64_t count_tables(const struct vmdk_walk *w)
{
	uint64_t tables = 0;

	for (size_t i = 0; i < w->count; i++)
		tables += !i || table_of(w, i) != table_of(w, i - 1);
	return tables;
}

/* Where a tail goes that begins at from or later: it has to end the file, which does not shrink.
 * What lies between is passed over as the sectors of an old table. */
static int place_tail(struct tail *t, uint64_t from, uint64_t len, struct vmimg_error *err)
{
	uint64_t end = vmimg_align_up(vmimg_max(from + len, t->w->size), VMDK_SECTOR);

	if (end / VMDK_SECTOR > UINT32_MAX)
		return vmimg_fail(err, VMIMG_ELIMIT, "the file would be larger than 2 TiB");
	if (len > MOST_TAIL)
		return vmimg_fail(err, VMIMG_ELIMIT,
			"tables and directory of %" PRIu64 " bytes are more than is built anew",
			len);
	t->at = end - len;
	t->len = len;
	t->from = from;
	t->between = (t->at - from) / VMDK_SECTOR;
	t->bytes = vmimg_alloc_array((size_t)len, 1, err);
	return t->bytes ? 0 : -1;
}

/* Tables and directory, each behind its marker. */
static void put_tables(struct tail *t, uint8_t *to)
{
	const struct vmdk_walk *w = t->w;
	uint64_t tables = count_tables(w), table = table_bytes(w);
	uint8_t *directory = to + tables * (VMDK_SECTOR + table), *entries = NULL;

	for (size_t i = 0; i < w->count; i++) {
		if (!i || table_of(w, i) != table_of(w, i - 1)) {
			put_marker(to, table / VMDK_SECTOR, VMDK_MARKER_GT);
			entries = to + VMDK_SECTOR;
			vmimg_put_le32(directory + VMDK_SECTOR + 4 * (uint64_t)table_of(w, i),
				(uint32_t)((t->at + (uint64_t)(entries - t->bytes)) / VMDK_SECTOR));
			to = entries + table;
		}
		vmimg_put_le32(
			entries + 4 * (w->found[i].grain % w->g->entries), w->found[i].sector);
	}
	put_marker(directory, directory_bytes(w) / VMDK_SECTOR, VMDK_MARKER_GD);
	t->gd_at = t->at + (uint64_t)(directory - t->bytes) + VMDK_SECTOR;
}

/* The header with the directory's place, as the last but one sector. */
static int put_footer(struct tail *t, struct vmimg_error *err)
{
	uint8_t *to = t->bytes + t->len - 3 * VMDK_SECTOR;
	struct vmdk_header header;

	put_marker(to, 1, VMDK_MARKER_FOOTER);
	if (vmimg_io_pread(t->w->io, to + VMDK_SECTOR, VMDK_SECTOR, 0, err))
		return -1;
	vmdk_header_decode(&header, to + VMDK_SECTOR);
	header.gd_offset = t->gd_at / VMDK_SECTOR;
	memcpy(header.line_ends, VMDK_LINE_ENDS, sizeof(header.line_ends));
	vmdk_header_encode(&header, to + VMDK_SECTOR);
	return 0;
}

static int make_tail(struct tail *t, struct vmimg_error *err)
{
	const struct vmdk_walk *w = t->w;
	uint64_t len =
		count_tables(w) * (VMDK_SECTOR + table_bytes(w)) + VMDK_SECTOR + directory_bytes(w);
	uint64_t end = w->g->at_end ? 3 * VMDK_SECTOR : 0;
	uint64_t from = w->g->at_end ? w->good_end : vmimg_align_up(w->size, VMDK_SECTOR);

	if (place_tail(t, from, len + end, err))
		return -1;
	put_tables(t, t->bytes);
	return w->g->at_end ? put_footer(t, err) : 0;
}

/* The directory that is there, and a footer that leads to it. */
static int keep_directory(struct tail *t, struct vmimg_error *err)
{
	const struct vmdk_walk *w = t->w;

	t->gd_at = w->gd_at;
	if (w->g->at_end)
		return place_tail(t, w->gd_end, 3 * VMDK_SECTOR, err) || put_footer(t, err) ? -1
											    : 0;
	t->at = w->size;
	return 0;
}

/* Whether the directory that a marker tells of leads to every grain that was found. *yes. */
static int directory_fits(const struct vmdk_walk *w, bool *yes, struct vmimg_error *err)
{
	uint8_t entry[4], table[VMIMG_VMDK_TABLE_MOST];
	uint64_t at = 0;

	*yes = w->gd_at != 0;
	for (size_t i = 0; *yes && i < w->count; i++) {
		if (!i || table_of(w, i) != table_of(w, i - 1)) {
			if (vmimg_io_pread(w->io, entry, sizeof(entry),
				    w->gd_at + 4 * (uint64_t)table_of(w, i), err))
				return -1;
			at = vmimg_get_le32(entry) * VMDK_SECTOR;
			*yes = at && vmimg_range_inside(at, 4 * w->g->entries, w->size);
			if (*yes && vmimg_io_pread(w->io, table, 4 * w->g->entries, at, err))
				return -1;
		}
		*yes = *yes &&
			vmimg_get_le32(table + 4 * (w->found[i].grain % w->g->entries)) ==
				w->found[i].sector;
	}
	return 0;
}

/* ---- laid over the file ---- */

/* The header leads to the new directory where no footer does. */
static int lay_over(struct vmdk_rebuilt *r, struct tail *t, struct vmimg_error *err)
{
	const struct vmdk_walk *w = t->w;
	VMIMG_AUTO(free)
	uint8_t *memory = vmimg_alloc_array((size_t)t->len + 2 * VMDK_SECTOR, 1, err);
	uint8_t *between, *tail;
	struct vmimg_patch patches[3];
	struct vmdk_header header;
	size_t count = 1;

	if (!memory || vmimg_io_pread(w->io, memory, VMDK_SECTOR, 0, err))
		return -1;
	between = memory + VMDK_SECTOR;
	tail = between + VMDK_SECTOR;
	vmdk_header_decode(&header, memory);
	if (!w->g->at_end) {
		header.gd_offset = t->gd_at / VMDK_SECTOR;
		header.rgd_offset = 0;
		header.flags &= ~VMDK_FLAG_REDUNDANT;
	}
	vmdk_header_encode(&header, memory);
	patches[0] = (struct vmimg_patch){ 0, VMDK_SECTOR, memory };
	if (t->between) {
		put_marker(between, t->between - 1, VMDK_MARKER_GT);
		patches[count++] = (struct vmimg_patch){ t->from, VMDK_SECTOR, between };
	}
	if (t->len) {
		memcpy(tail, t->bytes, (size_t)t->len);
		patches[count++] = (struct vmimg_patch){ t->at, t->len, tail };
	}
	r->io = vmimg_overlay_open(w->io, t->at + t->len, patches, count, memory, err);
	if (!r->io)
		return -1;
	(void)vmimg_take(memory);
	return 0;
}

static int make(
	struct vmdk_rebuilt *r, struct vmdk_walk *w, struct vmdk_grains *g, struct vmimg_error *err)
{
	struct tail tail = { .w = w };
	bool fits;
	int failed;

	if (vmimg_vmdk_walk_markers(w, err))
		return -1;
	if (!w->count && !w->gd_at)
		return vmimg_fail(err, VMIMG_ECORRUPT,
			"neither a directory nor a marker of a grain is found in the stream");
	if (vmimg_vmdk_note_unknown(r, w, err) || directory_fits(w, &fits, err))
		return -1;
	r->old_directory = fits;
	failed = fits ? keep_directory(&tail, err) : make_tail(&tail, err);
	if (fits) /* it tells of all grains there were */
		r->count = 0;
	if (!failed)
		failed = lay_over(r, &tail, err);
	free(tail.bytes);
	g->gd_at = tail.gd_at;
	g->rgd_at = 0;
	r->grains = w->count;
	return failed ? -1 : 0;
}

struct vmdk_rebuilt *vmimg_vmdk_rebuild(
	struct vmdk_grains *g, struct vmimg_io *io, struct vmimg_error *err)
{
	struct vmdk_rebuilt *r = vmimg_new(struct vmdk_rebuilt, err);
	VMIMG_AUTO(free) struct vmdk_walk *w = vmimg_new(struct vmdk_walk, err);
	int failed = -1;

	if (r && w) {
		w->g = g;
		w->io = io;
		w->size = vmimg_io_size(io);
		failed = make(r, w, g, err);
		free(w->found);
		free(w->gaps);
	}
	if (!failed)
		return r;
	vmimg_vmdk_rebuilt_free(r);
	return NULL;
}

bool vmimg_vmdk_is_unknown(const struct vmdk_rebuilt *r, uint64_t at, uint64_t *end)
{
	size_t low = 0, high = r->count;

	while (low < high) {
		size_t middle = low + (high - low) / 2;

		if (r->unknown[middle].end <= at)
			low = middle + 1;
		else
			high = middle;
	}
	if (low == r->count || r->unknown[low].start > at)
		return false;
	*end = r->unknown[low].end;
	return true;
}

void vmimg_vmdk_rebuilt_free(struct vmdk_rebuilt *r)
{
	if (!r)
		return;
	vmimg_io_unref(r->io);
	free(r->unknown);
	free(r);
}
