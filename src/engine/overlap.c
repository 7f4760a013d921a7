/* SPDX-License-Identifier: Apache-2.0 */
/* Only whole blocks are looked at: parts of one block may well be runs of their own. */
#include "engine/overlap.h"
#include "util/num.h"

#define MOST_BLOCKS (UINT64_C(1) << 26) /* 8 MiB of bits: 4 TiB of file at 64 KiB */

void vmimg_overlap_init(struct vmimg_overlap *overlap, const struct vmimg_disk *disk)
{
	*overlap = (struct vmimg_overlap){ 0 };
	if (!disk->block)
		return;
	overlap->blocks = vmimg_io_size(disk->io) / disk->block + 1;
	if (overlap->blocks <= MOST_BLOCKS)
		overlap->seen = calloc(overlap->blocks / 8 + 1, 1);
}

void vmimg_overlap_done(struct vmimg_overlap *overlap)
{
	free(overlap->seen);
}

static void note_block(struct vmimg_overlap *overlap, uint64_t index, uint64_t guest)
{
	uint8_t bit = (uint8_t)(1U << index % 8);

	if (index >= overlap->blocks)
		return;
	if (overlap->seen[index / 8] & bit && !overlap->found++)
		overlap->first = guest;
	overlap->seen[index / 8] |= bit;
}

void vmimg_overlap_note(struct vmimg_overlap *overlap, const struct vmimg_disk *disk,
	const struct vmimg_run *run, uint64_t at)
{
	uint64_t from = vmimg_align_up(vmimg_max(at, overlap->done), disk->block ? disk->block : 1);
	uint64_t end = at + run->len;

	if (!overlap->seen || end <= overlap->done)
		return;
	overlap->done = end;
	if (run->kind != VMIMG_RUN_DATA || run->io != disk->io)
		return;
	for (; from + disk->block <= end; from += disk->block)
		note_block(overlap, (run->at + (from - at)) / disk->block, from);
}
