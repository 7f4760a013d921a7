/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A stream without its end. Each grain says in its marker where it belongs, so tables, directory and
 * footer can be made anew. They are laid over the file where its good part ends; repair writes them
 * there. Where something lies that is no marker, the walk goes on with the next sector: what that
 * was is not known, and neither is what lay between the grains on both sides of it.
 */
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>
#include "format/vmdk/repair.h"
#include "io/overlay.h"
#include "util/num.h"

/* 128 MiB of them: 1 TiB of guest with grains of 64 KiB. */
#define MOST_GRAINS ((size_t)1 << 24)
#define WINDOW      32768U
#define HEAD        16U /* bytes of a marker, or of one and the beginning of a grain's data */

struct found {
	uint32_t grain, sector;
};

struct walk {
	const struct vmdk_grains *g;
	struct vmimg_io *io;
	uint64_t size;
	struct found *found;
	size_t count, cap;
	size_t *gaps; /* something unknown lies before the grain of that index */
	size_t gap_count, gap_cap;
	bool in_gap, shuffled, complete;
	uint64_t good_end;      /* of the last grain, bytes */
	uint64_t gd_at, gd_end; /* the last directory that a marker tells of; 0: none */
	uint8_t window[WINDOW]; /* of the file, from window_at on */
	uint64_t window_at;
	size_t window_len;
};

/* ---- the walk ---- */

static int note_grain(struct walk *w, const struct vmdk_marker *marker, uint64_t at, uint64_t end,
	struct vmimg_error *err)
{
	uint32_t grain = (uint32_t)(marker->value * VMDK_SECTOR / w->g->grain);

	if (w->count == MOST_GRAINS)
		return vmimg_fail(err, VMIMG_ELIMIT,
			"a stream of more than %zu grains is not rebuilt", MOST_GRAINS);
	if (vmimg_grow_array(&w->found, &w->cap, w->count + 1, sizeof(*w->found), err))
		return -1;
	if (w->in_gap) {
		if (vmimg_grow_array(
			    &w->gaps, &w->gap_cap, w->gap_count + 1, sizeof(*w->gaps), err))
			return -1;
		w->gaps[w->gap_count++] = w->count;
	}
	w->in_gap = false;
	w->shuffled |= w->count && w->found[w->count - 1].grain >= grain;
	w->found[w->count++] = (struct found){ grain, (uint32_t)(at / VMDK_SECTOR) };
	w->good_end = vmimg_align_up(end, VMDK_SECTOR);
	return 0;
}

/* The marker of a grain that is all there, with data that begin as zlib's do. */
static bool is_grain(const struct walk *w, const struct vmdk_marker *marker, uint64_t at,
	const uint8_t *data)
{
	uint64_t sectors = w->g->grain / VMDK_SECTOR;

	return marker->size && marker->size < 2 * w->g->grain && !(marker->value % sectors) &&
		marker->value < w->g->capacity / VMDK_SECTOR &&
		marker->value / sectors <= UINT32_MAX && at / VMDK_SECTOR <= UINT32_MAX &&
		vmimg_range_inside(at + VMDK_GRAIN_HEAD, marker->size, w->size) &&
		(data[0] & 15) == 8 && !((data[0] << 8 | data[1]) % 31);
}

/* A sector that tells of so many more behind it. False: no such marker. */
static bool skip_special(
	struct walk *w, const struct vmdk_marker *marker, uint64_t at, uint64_t *next)
{
	uint64_t behind = at + VMDK_SECTOR;

	if (marker->size || marker->type < VMDK_MARKER_GT || marker->type > VMDK_MARKER_PROGRESS ||
		marker->value > (w->size - at) / VMDK_SECTOR)
		return false;
	*next = behind + marker->value * VMDK_SECTOR;
	if (marker->type == VMDK_MARKER_GD &&
		vmimg_range_inside(behind, w->g->gd_count * 4, w->size) &&
		marker->value * VMDK_SECTOR >= w->g->gd_count * 4) {
		w->gd_at = behind;
		w->gd_end = *next;
		w->complete = true;
	}
	return true;
}

static bool is_zero(const uint8_t *bytes, size_t len)
{
	while (len && !bytes[len - 1])
		len--;
	return !len;
}

/* The sector's beginning, zeroes past the file's end. In gaps many are read at once. */
static int read_head(struct walk *w, uint64_t at, uint8_t head[HEAD], struct vmimg_error *err)
{
	size_t len = (size_t)vmimg_min(HEAD, w->size - at);

	if (at < w->window_at || at + len > w->window_at + w->window_len) {
		w->window_at = at;
		w->window_len = (size_t)vmimg_min(w->in_gap ? WINDOW : HEAD, w->size - at);
		if (vmimg_io_pread(w->io, w->window, w->window_len, at, err))
			return -1;
	}
	memset(head, 0, HEAD);
	memcpy(head, w->window + (at - w->window_at), len);
	return 0;
}

/* Nothing is told in a hole: *next is its end. */
static int skip_hole(struct walk *w, uint64_t at, uint64_t *next, struct vmimg_error *err)
{
	uint64_t len;
	bool hole;

	if (vmimg_io_extent(w->io, at, &hole, &len, err))
		return -1;
	if (hole)
		*next = vmimg_max(*next, (at + len) / VMDK_SECTOR * VMDK_SECTOR);
	return 0;
}

static int walk_markers(struct walk *w, struct vmimg_error *err)
{
	uint64_t at = vmimg_align_up(w->g->overhead, VMDK_SECTOR), next;

	w->good_end = at;
	for (; at < w->size; at = next) {
		struct vmdk_marker marker;
		uint8_t bytes[HEAD];

		if (read_head(w, at, bytes, err))
			return -1;
		vmdk_marker_decode(&marker, bytes);
		next = at + VMDK_SECTOR;
		if (is_grain(w, &marker, at, bytes + VMDK_GRAIN_HEAD)) {
			next = vmimg_align_up(at + VMDK_GRAIN_HEAD + marker.size, VMDK_SECTOR);
			if (note_grain(w, &marker, at, at + VMDK_GRAIN_HEAD + marker.size, err))
				return -1;
		} else if (!skip_special(w, &marker, at, &next)) {
			/* they end a stream; writers without footers leave some between grains */
			bool zero = is_zero(bytes, sizeof(bytes));

			if (zero && skip_hole(w, at, &next, err))
				return -1;
			w->in_gap |= !zero || (w->g->at_end && next < w->size);
		}
	}
	/* writers that put the directory in front end with the last grain */
	w->complete |= !w->g->at_end && !w->in_gap;
	return 0;
}

/* ---- what is not known ---- */

static int add_unknown(
	struct vmdk_rebuilt *r, uint64_t start, uint64_t end, struct vmimg_error *err)
{
	if (start >= end)
		return 0;
	if (vmimg_grow_array(&r->unknown, &r->cap, r->count + 1, sizeof(*r->unknown), err))
		return -1;
	r->unknown[r->count++] = (struct vmdk_unknown){ start, end };
	return 0;
}

static int compare(const void *a, const void *b)
{
	const struct found *left = a, *right = b;

	return left->grain != right->grain ? (left->grain > right->grain) - (left->grain < right->grain)
					   : (left->sector > right->sector) - (left->sector < right->sector);
}

static uint64_t guest_of(const struct walk *w, size_t i)
{
	return (uint64_t)w->found[i].grain * w->g->grain;
}

/* Grains came in guest order: what is missing belongs between its neighbours. */
static int note_gaps(struct vmdk_rebuilt *r, const struct walk *w, struct vmimg_error *err)
{
	for (size_t i = 0; i < w->gap_count; i++) {
		size_t k = w->gaps[i];

		if (add_unknown(r, k ? guest_of(w, k - 1) + w->g->grain : 0, guest_of(w, k), err))
			return -1;
	}
	if (w->complete)
		return 0;
	return add_unknown(r, w->count ? guest_of(w, w->count - 1) + w->g->grain : 0,
		w->g->capacity, err);
}

/* They came in any: all that was not found may be what is missing. */
static int note_rest(struct vmdk_rebuilt *r, const struct walk *w, struct vmimg_error *err)
{
	uint64_t end = 0;

	for (size_t i = 0; i < w->count; i++) {
		if (add_unknown(r, end, guest_of(w, i), err))
			return -1;
		end = guest_of(w, i) + w->g->grain;
	}
	return add_unknown(r, end, w->g->capacity, err);
}

static int note_unknown(struct vmdk_rebuilt *r, struct walk *w, struct vmimg_error *err)
{
	if (!w->shuffled)
		return note_gaps(r, w, err);
	qsort(w->found, w->count, sizeof(*w->found), compare);
	return w->complete && !w->gap_count ? 0 : note_rest(r, w, err);
}

/* ---- the new end ---- */

struct tail {
	const struct walk *w;
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

static uint64_t table_bytes(const struct walk *w)
{
	return vmimg_align_up(4 * (uint64_t)w->g->entries, VMDK_SECTOR);
}

static uint64_t directory_bytes(const struct walk *w)
{
	return vmimg_align_up(4 * w->g->gd_count, VMDK_SECTOR);
}

static uint32_t table_of(const struct walk *w, size_t i)
{
	return w->found[i].grain / w->g->entries;
}

static uint64_t count_tables(const struct walk *w)
{
	uint64_t tables = 0;

	for (size_t i = 0; i < w->count; i++)
		tables += !i || table_of(w, i) != table_of(w, i - 1);
	return tables;
}

/* Where a tail goes that begins at from or later: it has to end the file, which does not shrink. What
 * lies between is passed over as the sectors of an old table. */
static int place_tail(struct tail *t, uint64_t from, uint64_t len, struct vmimg_error *err)
{
	uint64_t end = vmimg_align_up(vmimg_max(from + len, t->w->size), VMDK_SECTOR);

	if (end / VMDK_SECTOR > UINT32_MAX)
		return vmimg_fail(err, VMIMG_ELIMIT, "the file would be larger than 2 TiB");
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
	const struct walk *w = t->w;
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
		vmimg_put_le32(entries + 4 * (w->found[i].grain % w->g->entries), w->found[i].sector);
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
	const struct walk *w = t->w;
	uint64_t len = count_tables(w) * (VMDK_SECTOR + table_bytes(w)) + VMDK_SECTOR +
		directory_bytes(w);
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
	const struct walk *w = t->w;

	t->gd_at = w->gd_at;
	if (w->g->at_end)
		return place_tail(t, w->gd_end, 3 * VMDK_SECTOR, err) || put_footer(t, err) ? -1 : 0;
	t->at = w->size;
	return 0;
}

/* Whether the directory that a marker tells of leads to every grain that was found. *yes. */
static int directory_fits(const struct walk *w, bool *yes, struct vmimg_error *err)
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
	const struct walk *w = t->w;
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

static int make(struct vmdk_rebuilt *r, struct walk *w, struct vmdk_grains *g, struct vmimg_error *err)
{
	struct tail tail = { .w = w };
	bool fits;
	int failed;

	if (walk_markers(w, err))
		return -1;
	if (!w->count && !w->gd_at)
		return vmimg_fail(err, VMIMG_ECORRUPT,
			"neither a directory nor a marker of a grain is found in the stream");
	if (note_unknown(r, w, err) || directory_fits(w, &fits, err))
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
	VMIMG_AUTO(free) struct walk *w = vmimg_new(struct walk, err);
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
