/* SPDX-License-Identifier: Apache-2.0 */
/* Groups in chunks, a hash table that finds them, and for walks an array in which they are sorted.
 */
#include "format/qcow2/clusters.h"
#include <stdlib.h>
#include <string.h>
#include "format/qcow2/change.h"
#include "util/kdf.h"
#include "util/num.h"
#include "util/zero.h"

#define GROUP       VMIMG_ARRAY_LEN(((struct vmimg_qcow2_cluster_group *)NULL)->clusters)
#define CHUNK       512U /* groups */
#define FIRST_ORDER 8
#define PIECE       4096U /* bytes of a refcount block */
#define MANY        1024U /* clusters that are a range */

typedef struct vmimg_qcow2_cluster_group group;
typedef struct vmimg_qcow2_cluster_range range;
typedef struct vmimg_qcow2_cluster_piece piece;

int vmimg_qcow2_clusters_init(struct vmimg_qcow2_clusters *c, const struct vmimg_qcow2 *q,
	uint64_t count, struct vmimg_error *err)
{
	c->count = count;
	c->refcount_order = q->header.refcount_order;
	c->piece_len = (uint32_t)vmimg_min(PIECE, q->cluster);
	c->order = FIRST_ORDER;
	c->slots = vmimg_alloc_array((size_t)1 << c->order, sizeof(*c->slots), err);
	if (!c->slots || vmimg_random(&c->seed, sizeof(c->seed), err))
		return -1;
	c->seed |= 1;
	return 0;
}

void vmimg_qcow2_clusters_done(struct vmimg_qcow2_clusters *c)
{
	for (uint32_t i = 0; i < c->group_count; i += CHUNK)
		free(c->chunks[i / CHUNK]);
	free(c->chunks);
	free(c->slots);
	free(c->sorted);
	free(c->ranges);
	for (size_t i = 0; i < c->piece_count; i++)
		free(c->pieces[i].bytes);
	free(c->pieces);
}

/* ---- records ---- */

static group *group_at(const struct vmimg_qcow2_clusters *c, uint32_t place)
{
	return &c->chunks[place / CHUNK][place % CHUNK];
}

/* The slot of that group, or the one where it would be. */
static uint32_t *slot_of(const struct vmimg_qcow2_clusters *c, uint64_t number)
{
	size_t mask = ((size_t)1 << c->order) - 1;
	size_t i = (size_t)((number + 1) * c->seed >> (64 - c->order));

	while (c->slots[i] && group_at(c, c->slots[i] - 1)->number != number)
		i = (i + 1) & mask;
	return &c->slots[i];
}

static int more_slots(struct vmimg_qcow2_clusters *c, struct vmimg_error *err)
{
	uint32_t *slots = vmimg_alloc_array((size_t)2 << c->order, sizeof(*slots), err);

	if (!slots)
		return -1;
	free(c->slots);
	c->slots = slots;
	c->order++;
	for (uint32_t i = 0; i < c->group_count; i++)
		*slot_of(c, group_at(c, i)->number) = i + 1;
	return 0;
}

static int add_group(struct vmimg_qcow2_clusters *c, uint64_t number, struct vmimg_error *err)
{
	uint32_t place = c->group_count;
	size_t chunk = place / CHUNK;

	if (place == UINT32_MAX - 1)
		return vmimg_fail(err, VMIMG_ELIMIT, "more clusters than can be checked");
	if (place >= (size_t)3 << c->order >> 2 && more_slots(c, err))
		return -1;
	if (place % CHUNK == 0) {
		if (vmimg_grow_array(&c->chunks, &c->chunk_cap, chunk + 1, sizeof(*c->chunks), err))
			return -1;
		c->chunks[chunk] = vmimg_alloc_array(CHUNK, sizeof(group), err);
		if (!c->chunks[chunk])
			return -1;
	}
	c->group_count++;
	group_at(c, place)->number = number;
	*slot_of(c, number) = c->last = place + 1;
	return 0;
}

static bool was_last(const struct vmimg_qcow2_clusters *c, uint64_t number)
{
	return c->last && group_at(c, c->last - 1)->number == number;
}

static struct vmimg_qcow2_cluster *find(struct vmimg_qcow2_clusters *c, uint64_t index)
{
	uint64_t number = index / GROUP;

	if (!was_last(c, number)) {
		uint32_t found = *slot_of(c, number);

		if (!found)
			return NULL;
		c->last = found;
	}
	return &group_at(c, c->last - 1)->clusters[index % GROUP];
}

struct vmimg_qcow2_cluster *vmimg_qcow2_clusters_at(
	struct vmimg_qcow2_clusters *c, uint64_t index, struct vmimg_error *err)
{
	struct vmimg_qcow2_cluster *cluster = find(c, index);

	if (!cluster && !add_group(c, index / GROUP, err))
		cluster = &group_at(c, c->last - 1)->clusters[index % GROUP];
	return cluster;
}

int vmimg_qcow2_clusters_refer(struct vmimg_qcow2_clusters *c, uint64_t first, uint64_t end,
	uint32_t refs, struct vmimg_error *err)
{
	if (end - first >= MANY) {
		c->ranges_sorted = false;
		if (vmimg_grow_array(
			    &c->ranges, &c->range_cap, c->range_count + 1, sizeof(*c->ranges), err))
			return -1;
		c->ranges[c->range_count++] = (range){ first, end, refs };
		return 0;
	}
	for (uint64_t i = first; i < end; i++) {
		struct vmimg_qcow2_cluster *cluster = vmimg_qcow2_clusters_at(c, i, err);

		if (!cluster)
			return -1;
		cluster->counted =
			cluster->counted > UINT32_MAX - refs ? UINT32_MAX : cluster->counted + refs;
	}
	return 0;
}

/* ---- refcounts as they are stated ---- */

int vmimg_qcow2_clusters_state(struct vmimg_qcow2_clusters *c, uint64_t first, const uint8_t *bytes,
	uint32_t len, struct vmimg_error *err)
{
	for (uint32_t at = 0; at < len; at += c->piece_len) {
		piece *new;

		if (vmimg_is_zero(bytes + at, c->piece_len))
			continue;
		if (vmimg_grow_array(
			    &c->pieces, &c->piece_cap, c->piece_count + 1, sizeof(*c->pieces), err))
			return -1;
		new = &c->pieces[c->piece_count];
		new->first = first + (((uint64_t)at * 8) >> c->refcount_order);
		new->bytes = vmimg_alloc_array(c->piece_len, 1, err);
		if (!new->bytes)
			return -1;
		memcpy(new->bytes, bytes + at, c->piece_len);
		c->piece_count++;
	}
	return 0;
}

/* ---- what there is at or after a cluster ---- */

/* Where entry i of an array ends: clusters. */
typedef uint64_t end_of(const struct vmimg_qcow2_clusters *c, size_t i);

static uint64_t group_end(const struct vmimg_qcow2_clusters *c, size_t i)
{
	return (c->sorted[i]->number + 1) * GROUP;
}

static uint64_t range_end(const struct vmimg_qcow2_clusters *c, size_t i)
{
	return c->ranges[i].end;
}

static uint64_t piece_end(const struct vmimg_qcow2_clusters *c, size_t i)
{
	return c->pieces[i].first + (((uint64_t)c->piece_len * 8) >> c->refcount_order);
}

/* The first entry that ends after index, from where the last search ended: most go on from there.
 */
static size_t search(const struct vmimg_qcow2_clusters *c, end_of *end, size_t count, size_t last,
	uint64_t index)
{
	size_t low = 0, high = count;

	for (size_t i = last; i < count && i < last + 2; i++)
		if (end(c, i) > index && (!i || end(c, i - 1) <= index))
			return i;
	while (low < high) {
		size_t middle = low + (high - low) / 2;

		if (end(c, middle) <= index)
			low = middle + 1;
		else
			high = middle;
	}
	return low;
}

static const piece *piece_from(struct vmimg_qcow2_clusters *c, uint64_t index)
{
	c->piece_next = search(c, piece_end, c->piece_count, c->piece_next, index);
	return c->piece_next < c->piece_count ? &c->pieces[c->piece_next] : NULL;
}

static group *group_from(struct vmimg_qcow2_clusters *c, uint64_t index)
{
	c->group_next = search(c, group_end, c->sorted_count, c->group_next, index);
	return c->group_next < c->sorted_count ? c->sorted[c->group_next] : NULL;
}

static const range *range_from(struct vmimg_qcow2_clusters *c, uint64_t index)
{
	c->range_next = search(c, range_end, c->range_count, c->range_next, index);
	return c->range_next < c->range_count ? &c->ranges[c->range_next] : NULL;
}

static uint32_t stated_in(const struct vmimg_qcow2_clusters *c, const piece *p, uint64_t index)
{
	return p && p->first <= index
		? (uint32_t)vmimg_min(
			  vmimg_qcow2_get_refcount(p->bytes, index - p->first, c->refcount_order),
			  UINT32_MAX)
		: 0;
}

uint32_t vmimg_qcow2_clusters_stated(struct vmimg_qcow2_clusters *c, uint64_t index)
{
	return stated_in(c, piece_from(c, index), index);
}

uint32_t vmimg_qcow2_clusters_counted(struct vmimg_qcow2_clusters *c, uint64_t index)
{
	const struct vmimg_qcow2_cluster *cluster = find(c, index);
	uint64_t counted = cluster ? cluster->counted : 0;
	const range *r = c->ranges_sorted ? range_from(c, index) : NULL;

	if (r && r->first <= index)
		counted += (uint64_t)r->refs;
	for (size_t i = 0; !c->ranges_sorted && i < c->range_count; i++)
		if (index >= c->ranges[i].first && index < c->ranges[i].end)
			counted += (uint64_t)c->ranges[i].refs;
	return (uint32_t)vmimg_min(counted, UINT32_MAX);
}

/* ---- walks ---- */

static int compare_groups(const void *a, const void *b)
{
	const group *const *left = a, *const *right = b;

	return ((*left)->number > (*right)->number) - ((*left)->number < (*right)->number);
}

static int sort_groups(struct vmimg_qcow2_clusters *c, struct vmimg_error *err)
{
	group **sorted;
	bool ascending = true;

	if (c->sorted && c->sorted_count == c->group_count)
		return 0;
	sorted = vmimg_alloc_array((size_t)c->group_count + 1, sizeof(group *), err);
	if (!sorted)
		return -1;
	for (uint32_t i = 0; i < c->group_count; i++) {
		sorted[i] = group_at(c, i);
		ascending &= !i || sorted[i - 1]->number < sorted[i]->number;
	}
	if (!ascending)
		qsort(sorted, c->group_count, sizeof(*sorted), compare_groups);
	free(c->sorted);
	c->sorted = sorted;
	c->sorted_count = c->group_count;
	return 0;
}

static int compare_ranges(const void *a, const void *b)
{
	const range *left = a, *right = b;

	return (left->first > right->first) - (left->first < right->first);
}

/* Each becomes two places where the number of references changes; in order, these are ranges that
 * do not overlap. */
static int sort_ranges(struct vmimg_qcow2_clusters *c, struct vmimg_error *err)
{
	size_t count = c->range_count;
	int64_t refs = 0;

	c->range_next = 0;
	if (c->ranges_sorted || !count)
		return 0;
	if (vmimg_grow_array(&c->ranges, &c->range_cap, 2 * count, sizeof(*c->ranges), err))
		return -1;
	for (size_t i = 0; i < count; i++)
		c->ranges[count + i] = (range){ c->ranges[i].end, 0, -c->ranges[i].refs };
	c->range_count = 2 * count;
	qsort(c->ranges, c->range_count, sizeof(*c->ranges), compare_ranges);
	count = 0;
	for (size_t i = 0; i + 1 < c->range_count; i++) {
		range next = { c->ranges[i].first, c->ranges[i + 1].first, 0 };

		refs += c->ranges[i].refs;
		next.refs = refs;
		if (refs && next.end > next.first)
			c->ranges[count++] = next;
	}
	c->range_count = count;
	c->ranges_sorted = true;
	return 0;
}

int vmimg_qcow2_clusters_sort(struct vmimg_qcow2_clusters *c, struct vmimg_error *err)
{
	return sort_groups(c, err) || sort_ranges(c, err) ? -1 : 0;
}

bool vmimg_qcow2_clusters_next(
	struct vmimg_qcow2_clusters *c, uint64_t *index, struct vmimg_qcow2_cluster **cluster)
{
	group *g = group_from(c, *index);

	if (!g)
		return false;
	*index = vmimg_max(*index, g->number * GROUP);
	*cluster = &g->clusters[*index % GROUP];
	return *index < c->count;
}

bool vmimg_qcow2_clusters_walk(struct vmimg_qcow2_clusters *c, uint64_t *index, uint64_t end,
	struct vmimg_qcow2_refs *refs)
{
	const group *g = group_from(c, *index);
	const range *r = range_from(c, *index);
	const piece *p = piece_from(c, *index);
	uint64_t first = g ? g->number * GROUP : UINT64_MAX, counted = 0;

	first = r ? vmimg_min(first, r->first) : first;
	first = p ? vmimg_min(first, p->first) : first;
	*index = vmimg_max(*index, first);
	end = vmimg_min(end, c->count);
	if (*index >= end)
		return false;
	if (g && g->number == *index / GROUP)
		counted = g->clusters[*index % GROUP].counted;
	if (r && r->first <= *index) {
		counted += (uint64_t)r->refs;
		end = vmimg_min(end, r->end);
	}
	end = g ? vmimg_min(end, vmimg_max(g->number * GROUP, *index + 1)) : end;
	end = p ? vmimg_min(end, vmimg_max(p->first, *index + 1)) : end;
	*refs = (struct vmimg_qcow2_refs){ stated_in(c, p, *index),
		(uint32_t)vmimg_min(counted, UINT32_MAX), end - *index };
	return true;
}
