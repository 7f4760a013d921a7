/* SPDX-License-Identifier: Apache-2.0 */
/* Bits are looked at a word at a time: a map is asked for every run. */
#include "engine/trim.h"
#include <string.h>
#include "engine/view.h"
#include "util/num.h"

#define UNIT 4096U
#define MOST (UINT64_C(1) << 28) /* bits: 32 MiB */

static bool is_unused(const struct vmimg_trim *trim, uint64_t at)
{
	uint64_t bit = at / trim->unit;

	return trim->bits && trim->bits[bit / 8] >> bit % 8 & 1;
}

/* Where, after at, the answer is another one; at most end. */
static uint64_t stretch_end(const struct vmimg_trim *trim, uint64_t at, uint64_t end)
{
	bool unused = is_unused(trim, at);
	uint8_t same = unused ? 0xff : 0;
	uint64_t bit = at / trim->unit + 1, last = vmimg_div_up(end, trim->unit);

	if (!trim->bits)
		return end;
	while (bit < last) {
		if (bit % 8 == 0 && trim->bits[bit / 8] == same)
			bit += 8;
		else if ((trim->bits[bit / 8] >> bit % 8 & 1) == unused)
			bit++;
		else
			break;
	}
	return vmimg_min(bit * trim->unit, end);
}

static int trim_map(
	struct vmimg_disk *disk, uint64_t at, struct vmimg_run *run, struct vmimg_error *err)
{
	const struct vmimg_trim *trim = disk->state;
	bool nothing;

	if (vmimg_disk_map(trim->inner, at, run, err))
		return -1;
	nothing = run->kind == VMIMG_RUN_ABSENT || run->kind == VMIMG_RUN_ZERO;
	if (nothing && trim->in_place && !run->allocated)
		run->kind = VMIMG_RUN_ABSENT;
	if (nothing)
		return 0;
	run->len = stretch_end(trim, at, at + run->len) - at;
	if (is_unused(trim, at))
		*run = (struct vmimg_run){ .kind = VMIMG_RUN_ZERO, .len = run->len };
	return 0;
}

static void trim_close(struct vmimg_disk *disk)
{
	(void)disk;
}

static const struct vmimg_format trim_format = {
	.name = "trim",
	.title = "what is in use of a disk",
	.map = trim_map,
	.close = trim_close,
};

void vmimg_trim_init(struct vmimg_trim *trim, struct vmimg_disk *disk, bool in_place)
{
	*trim = (struct vmimg_trim){ .inner = disk, .in_place = in_place, .unit = UNIT };
	while (vmimg_div_up(disk->size, trim->unit) > MOST)
		trim->unit *= 2;
	trim->count = vmimg_div_up(disk->size, trim->unit);
	vmimg_view_init(&trim->disk, &trim_format, disk, trim);
	trim->disk.parent = disk->parent;
}

void vmimg_trim_done(struct vmimg_trim *trim)
{
	free(trim->bits);
	trim->bits = NULL;
}

/* Only whole units are unused; the disk's last one may be short. */
int vmimg_trim_add(struct vmimg_trim *trim, uint64_t at, uint64_t len, struct vmimg_error *err)
{
	uint64_t bit, end;

	if (!vmimg_range_inside(at, len, trim->inner->size))
		return vmimg_fail(err, VMIMG_EINVAL, "an unused range outside the disk");
	if (!trim->bits && !(trim->bits = vmimg_alloc_array((size_t)trim->count / 8 + 1, 1, err)))
		return -1;
	bit = vmimg_div_up(at, trim->unit);
	end = at + len == trim->inner->size ? trim->count : (at + len) / trim->unit;
	for (; bit < end; bit++) {
		if (bit % 8 == 0 && end - bit >= 8) {
			size_t bytes = (size_t)((end - bit) / 8);

			memset(trim->bits + bit / 8, 0xff, bytes);
			bit += bytes * 8 - 1;
		} else {
			trim->bits[bit / 8] |= (uint8_t)(1U << bit % 8);
		}
	}
	trim->unused += len;
	return 0;
}
