/* SPDX-License-Identifier: Apache-2.0 */
/* What of the file is in use, one bit for each MiB, for everything in a VHDX is whole MiB. */
#include <string.h>
#include "format/vhdx/change.h"
#include "util/num.h"

static bool is_used(const struct vhdx_space *s, uint64_t unit)
{
	return unit < s->units && s->used[unit / 8] >> unit % 8 & 1;
}

static int need_units(struct vhdx_space *s, uint64_t units, struct vmimg_error *err)
{
	uint64_t bytes = vmimg_align_up(units / 8 + 1, 4096);
	uint8_t *grown;

	if (bytes > s->cap) {
		grown = realloc(s->used, (size_t)bytes);
		if (!grown)
			return vmimg_fail_nomem(err);
		memset(grown + s->cap, 0, (size_t)(bytes - s->cap));
		s->used = grown;
		s->cap = bytes;
	}
	s->units = vmimg_max(s->units, units);
	return 0;
}

/* [at, at + len) of the file, as far as it is inside. */
static void mark(struct vhdx_space *s, uint64_t at, uint64_t len, bool used)
{
	uint64_t end = vmimg_min(vmimg_div_up(at + len, VHDX_MIB), s->units);

	for (uint64_t i = at / VHDX_MIB; i < end; i++) {
		if (used)
			s->used[i / 8] |= (uint8_t)(1U << i % 8);
		else
			s->used[i / 8] &= (uint8_t) ~(1U << i % 8);
	}
}

static int mark_region(void *ctx, const struct vhdx_region *region, struct vmimg_error *err)
{
	(void)err;
	mark(ctx, region->at, region->length, true);
	return 0;
}

/* Places that states without data name are kept clear of as well: other software may go back to
 * them. A block may reach past the end of the file. */
static int mark_block(void *ctx, uint64_t index, uint64_t entry, struct vmimg_error *err)
{
	struct vhdx_change *c = ctx;
	uint64_t at = VHDX_BAT_AT(entry), len = vmimg_vhdx_held(c, index, entry);

	if (len && need_units(&c->space, (at + len) / VHDX_MIB, err))
		return -1;
	mark(&c->space, at, at && !len ? c->vhdx->params.block : len, true);
	return 0;
}

int vmimg_vhdx_space_load(struct vhdx_change *c, struct vmimg_error *err)
{
	const struct vmimg_vhdx *vhdx = c->vhdx;
	struct vhdx_space *s = &c->space;

	free(s->used);
	*s = (struct vhdx_space){ 0 };
	if (need_units(s, vmimg_div_up(vmimg_io_size(c->io), VHDX_MIB), err))
		return -1;
	mark(s, 0, VHDX_HEAD_END, true);
	mark(s, vhdx->head.log_range.at, vhdx->head.log_range.len, true);
	if (vmimg_vhdx_read_regions(c->io, vhdx->regions_index, mark_region, s, err))
		return -1;
	return vmimg_vhdx_walk(c, 0, vhdx->geometry.entries, mark_block, c, err);
}

bool vmimg_vhdx_space_gap(struct vhdx_change *c, uint64_t len, uint64_t limit, uint64_t *at)
{
	struct vhdx_space *s = &c->space;
	uint64_t need = len / VHDX_MIB, end = vmimg_min(limit / VHDX_MIB, s->units), found = 0;
	uint64_t *cursor = &s->cursor[len > VHDX_MIB];

	for (uint64_t i = *cursor; i < end; i++) {
		found = is_used(s, i) ? 0 : found + 1;
		if (found == need) {
			*at = (i + 1 - need) * VHDX_MIB;
			*cursor = *at / VHDX_MIB;
			return true;
		}
	}
	*cursor = vmimg_max(*cursor, end - vmimg_min(found, end));
	return false;
}

int vmimg_vhdx_space_take(
	struct vhdx_change *c, uint64_t len, uint64_t *at, struct vmimg_error *err)
{
	uint64_t size = vmimg_io_size(c->io), end;

	if (vmimg_vhdx_space_gap(c, len, UINT64_MAX, at)) {
		if (*at < size && vmimg_io_zero(c->io, *at, vmimg_min(len, size - *at), err))
			return -1;
	} else {
		*at = c->space.units * VHDX_MIB;
	}
	end = *at + len;
	if (need_units(&c->space, end / VHDX_MIB, err) ||
		(end > size && vmimg_io_resize(c->io, end, err)))
		return -1;
	if (c->stage && end > vmimg_io_size(c->stage) && vmimg_io_resize(c->stage, end, err))
		return -1;
	mark(&c->space, *at, len, true);
	return 0;
}

void vmimg_vhdx_space_mark(struct vhdx_change *c, uint64_t at, uint64_t len)
{
	mark(&c->space, at, len, true);
}

int vmimg_vhdx_space_free(struct vhdx_change *c, uint64_t at, uint64_t len, struct vmimg_error *err)
{
	struct vhdx_range *last = c->freed_count ? &c->freed[c->freed_count - 1] : NULL;

	if (last && last->at + last->len == at) {
		last->len += len;
		return 0;
	}
	if (vmimg_grow_array(&c->freed, &c->freed_cap, c->freed_count + 1, sizeof(*c->freed), err))
		return -1;
	c->freed[c->freed_count++] = (struct vhdx_range){ at, len };
	return 0;
}

int vmimg_vhdx_space_settle(struct vhdx_change *c, struct vmimg_error *err)
{
	uint64_t size = vmimg_io_size(c->io);

	for (size_t i = 0; i < c->freed_count; i++) {
		const struct vhdx_range *range = &c->freed[i];

		if (range->at < size &&
			vmimg_io_zero(
				c->io, range->at, vmimg_min(range->len, size - range->at), err))
			return -1;
		mark(&c->space, range->at, range->len, false);
	}
	if (c->freed_count)
		memset(c->space.cursor, 0, sizeof(c->space.cursor));
	c->freed_count = 0;
	return 0;
}

int vmimg_vhdx_space_fill(struct vhdx_change *c, struct vmimg_error *err)
{
	uint64_t end = c->space.units * VHDX_MIB;

	return end > vmimg_io_size(c->io) ? vmimg_io_resize(c->io, end, err) : 0;
}

int vmimg_vhdx_space_cut(struct vhdx_change *c, struct vmimg_error *err)
{
	uint64_t end = c->space.units;

	while (end && !is_used(&c->space, end - 1))
		end--;
	c->space.units = end;
	end *= VHDX_MIB;
	return end < vmimg_io_size(c->io) ? vmimg_io_resize(c->io, end, err) : 0;
}
