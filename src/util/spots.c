/* SPDX-License-Identifier: Apache-2.0 */
/* A hash table of starts. In a stretch as long as one range is wide no two of them begin, so that a
 * range can meet the one of its own stretch, of that before and of that behind. */
#include "util/spots.h"
#include <stdlib.h>
#include "util/auto.h"
#include "util/kdf.h"

#define FIRST_ORDER 10

/* The slot of what begins in that stretch, or the one where it would be. */
static uint32_t *find(const struct vmimg_spots *spots, uint64_t stretch)
{
	size_t mask = ((size_t)1 << spots->order) - 1;
	size_t i = (size_t)((stretch + 1) * spots->seed >> (64 - spots->order));

	while (spots->slots[i] && (spots->slots[i] - 1) / spots->width != stretch)
		i = (i + 1) & mask;
	return &spots->slots[i];
}

static int grow(struct vmimg_spots *spots, struct vmimg_error *err)
{
	struct vmimg_spots larger = *spots;

	larger.order = spots->slots ? spots->order + 1 : FIRST_ORDER;
	if (!spots->slots && vmimg_random(&larger.seed, sizeof(larger.seed), err))
		return -1;
	larger.seed |= 1;
	larger.slots = vmimg_alloc_array((size_t)1 << larger.order, sizeof(*larger.slots), err);
	if (!larger.slots)
		return -1;
	for (size_t i = 0; spots->slots && i >> spots->order == 0; i++)
		if (spots->slots[i])
			*find(&larger, (spots->slots[i] - 1) / spots->width) = spots->slots[i];
	free(spots->slots);
	*spots = larger;
	return 0;
}

static bool meets(const struct vmimg_spots *spots, uint64_t stretch, uint32_t start)
{
	uint32_t other = *find(spots, stretch);

	if (!other--)
		return false;
	return other < start ? start - other < spots->width : other - start < spots->width;
}

int vmimg_spots_take(
	struct vmimg_spots *spots, uint32_t start, bool *vacant, struct vmimg_error *err)
{
	uint64_t stretch = start / spots->width;

	if ((!spots->slots || spots->count >= (size_t)3 << spots->order >> 2) && grow(spots, err))
		return -1;
	*vacant = !meets(spots, stretch, start) && !meets(spots, stretch + 1, start) &&
		!(stretch && meets(spots, stretch - 1, start));
	if (*vacant) {
		*find(spots, stretch) = start + 1;
		spots->count++;
	}
	return 0;
}

void vmimg_spots_done(struct vmimg_spots *spots)
{
	free(spots->slots);
	spots->slots = NULL;
}
