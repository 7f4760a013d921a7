/* SPDX-License-Identifier: Apache-2.0 */
/* From marker to marker. Where something lies that is none, the walk goes on with the next sector:
 * what that was is not known, and neither is what lay between the grains on both sides of it. */
#include <stdlib.h>
#include <string.h>
#include "format/vmdk/rebuild.h"
#include "util/num.h"

/* 128 MiB of them: 1 TiB of guest with grains of 64 KiB. */
#define MOST_GRAINS ((size_t)1 << 24)
#define HEAD        16U /* bytes of a marker, or of one and the beginning of a grain's data */

/* ---- the walk ---- */

static int note_grain(struct vmdk_walk *w, const struct vmdk_marker *marker, uint64_t at,
	uint64_t end, struct vmimg_error *err)
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
	w->found[w->count++] = (struct vmdk_found){ grain, (uint32_t)(at / VMDK_SECTOR) };
	w->good_end = vmimg_align_up(end, VMDK_SECTOR);
	return 0;
}

/* The marker of a grain that is all there, with data that begin as zlib's do. */
static bool is_grain(const struct vmdk_walk *w, const struct vmdk_marker *marker, uint64_t at,
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
	struct vmdk_walk *w, const struct vmdk_marker *marker, uint64_t at, uint64_t *next)
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
static int read_head(struct vmdk_walk *w, uint64_t at, uint8_t head[HEAD], struct vmimg_error *err)
{
	size_t len = (size_t)vmimg_min(HEAD, w->size - at);

	if (at < w->window_at || at + len > w->window_at + w->window_len) {
		w->window_at = at;
		w->window_len =
			(size_t)vmimg_min(w->in_gap ? VMDK_WALK_WINDOW : HEAD, w->size - at);
		if (vmimg_io_pread(w->io, w->window, w->window_len, at, err))
			return -1;
	}
	memset(head, 0, HEAD);
	memcpy(head, w->window + (at - w->window_at), len);
	return 0;
}

/* Nothing is told in a hole: *next is its end. */
static int skip_hole(struct vmdk_walk *w, uint64_t at, uint64_t *next, struct vmimg_error *err)
{
	uint64_t len;
	bool hole;

	if (vmimg_io_extent(w->io, at, &hole, &len, err))
		return -1;
	if (hole)
		*next = vmimg_max(*next, (at + len) / VMDK_SECTOR * VMDK_SECTOR);
	return 0;
}

int vmimg_vmdk_walk_markers(struct vmdk_walk *w, struct vmimg_error *err)
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
	const struct vmdk_found *left = a, *right = b;

	return left->grain != right->grain
		? (left->grain > right->grain) - (left->grain < right->grain)
		: (left->sector > right->sector) - (left->sector < right->sector);
}

static uint64_t guest_of(const struct vmdk_walk *w, size_t i)
{
	return (uint64_t)w->found[i].grain * w->g->grain;
}

/* Grains came in guest order: what is missing belongs between its neighbours. */
static int note_gaps(struct vmdk_rebuilt *r, const struct vmdk_walk *w, struct vmimg_error *err)
{
	for (size_t i = 0; i < w->gap_count; i++) {
		size_t k = w->gaps[i];

		if (add_unknown(r, k ? guest_of(w, k - 1) + w->g->grain : 0, guest_of(w, k), err))
			return -1;
	}
	if (w->complete)
		return 0;
	return add_unknown(
		r, w->count ? guest_of(w, w->count - 1) + w->g->grain : 0, w->g->capacity, err);
}

/* They came in any: all that was not found may be what is missing. */
static int note_rest(struct vmdk_rebuilt *r, const struct vmdk_walk *w, struct vmimg_error *err)
{
	uint64_t end = 0;

	for (size_t i = 0; i < w->count; i++) {
		if (add_unknown(r, end, guest_of(w, i), err))
			return -1;
		end = guest_of(w, i) + w->g->grain;
	}
	return add_unknown(r, end, w->g->capacity, err);
}

int vmimg_vmdk_note_unknown(struct vmdk_rebuilt *r, struct vmdk_walk *w, struct vmimg_error *err)
{
	if (!w->shuffled)
		return note_gaps(r, w, err);
	qsort(w->found, w->count, sizeof(*w->found), compare);
	return w->complete && !w->gap_count ? 0 : note_rest(r, w, err);
}
