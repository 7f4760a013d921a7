/* SPDX-License-Identifier: Apache-2.0 */
/* Groups in chunks, a hash table that finds them, and for walks an array in which they are sorted.
 */
#include "format/qcow2/clusters.h"
#include <stdlib.h>
#include <string.h>
#include "util/auto.h"
#include "util/kdf.h"
#include "util/num.h"

#define GROUP       VMIMG_ARRAY_LEN(((struct vmimg_qcow2_cluster_group *)NULL)->clusters)
#define CHUNK       512U /* groups */
#define FIRST_ORDER 8

typedef struct vmimg_qcow2_cluster_group group;

int vmimg_qcow2_clusters_init(
	struct vmimg_qcow2_clusters *c, uint64_t count, struct vmimg_error *err)
{
	c->count = count;
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
}

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

struct vmimg_qcow2_cluster *vmimg_qcow2_clusters_find(
	struct vmimg_qcow2_clusters *c, uint64_t index)
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
	struct vmimg_qcow2_cluster *cluster = vmimg_qcow2_clusters_find(c, index);

	return cluster ? cluster
		: add_group(c, index / GROUP, err)
		? NULL
		: &group_at(c, c->last - 1)->clusters[index % GROUP];
}

/* ---- walks ---- */

static int compare(const void *a, const void *b)
{
	const group *const *left = a, *const *right = b;

	return ((*left)->number > (*right)->number) - ((*left)->number < (*right)->number);
}

int vmimg_qcow2_clusters_sort(struct vmimg_qcow2_clusters *c, struct vmimg_error *err)
{
	group **sorted;
	bool ascending = true;

	c->next = 0;
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
		qsort(sorted, c->group_count, sizeof(*sorted), compare);
	free(c->sorted);
	c->sorted = sorted;
	c->sorted_count = c->group_count;
	return 0;
}

/* The place in the array of the first group with that number or a larger one. */
static uint32_t search(const struct vmimg_qcow2_clusters *c, uint64_t number)
{
	uint32_t low = 0, high = c->sorted_count;

	while (low < high) {
		uint32_t middle = low + (high - low) / 2;

		if (c->sorted[middle]->number < number)
			low = middle + 1;
		else
			high = middle;
	}
	return low;
}

bool vmimg_qcow2_clusters_next(
	struct vmimg_qcow2_clusters *c, uint64_t *index, struct vmimg_qcow2_cluster **cluster)
{
	uint64_t number = *index / GROUP;

	if (c->next >= c->sorted_count || c->sorted[c->next]->number > number)
		c->next = search(c, number);
	while (c->next < c->sorted_count && c->sorted[c->next]->number < number) {
		c->next++; /* most walks go from one to the next */
		if (c->next < c->sorted_count && c->sorted[c->next]->number < number)
			c->next = search(c, number);
	}
	if (c->next >= c->sorted_count)
		return false;
	if (c->sorted[c->next]->number > number)
		*index = c->sorted[c->next]->number * GROUP;
	*cluster = &c->sorted[c->next]->clusters[*index % GROUP];
	return *index < c->count;
}
