/* SPDX-License-Identifier: Apache-2.0 */
/* What waits is one stretch; it is copied when something comes that does not go on there. */
#include "io/copier.h"
#include "util/num.h"

#define STEP (UINT64_C(1) << 20) /* bytes copied in one go */

void vmimg_copier_init(struct vmimg_copier *copier, struct vmimg_io *io)
{
	*copier = (struct vmimg_copier){ .io = io };
}

static int copy_data(
	struct vmimg_copier *c, uint64_t from, uint64_t to, uint64_t len, struct vmimg_error *err)
{
	if (!c->buffer && !(c->buffer = vmimg_alloc_buffer(STEP, err)))
		return -1;
	for (uint64_t done = 0, step; done < len; done += step) {
		step = vmimg_min(len - done, STEP);
		if (vmimg_io_pread(c->io, c->buffer, (size_t)step, from + done, err) ||
			vmimg_io_pwrite(c->io, c->buffer, (size_t)step, to + done, err))
			return -1;
	}
	return 0;
}

/* Asking costs less than making a hole where there is one already. */
static int copy_hole(struct vmimg_copier *c, uint64_t to, uint64_t len, struct vmimg_error *err)
{
	uint64_t held = 0;
	bool hole = false;

	if (to < vmimg_io_size(c->io) && vmimg_io_extent(c->io, to, &hole, &held, err))
		return -1;
	return hole && held >= len ? 0 : vmimg_io_zero(c->io, to, len, err);
}

/* Data between two holes, or a hole. */
static int copy_part(struct vmimg_copier *c, uint64_t from, uint64_t to, uint64_t most,
	uint64_t *step, struct vmimg_error *err)
{
	bool hole;

	if (vmimg_io_extent(c->io, from, &hole, step, err))
		return -1;
	*step = vmimg_min(*step, most);
	return hole ? copy_hole(c, to, *step, err) : copy_data(c, from, to, *step, err);
}

static int copy_range(
	struct vmimg_copier *c, uint64_t from, uint64_t to, uint64_t len, struct vmimg_error *err)
{
	bool cloned = false;

	if (!(from % 4096) && !(to % 4096) && !(len % 4096) &&
		vmimg_io_clone(c->io, c->io, from, to, len, &cloned, err))
		return -1;
	for (uint64_t done = 0, step; !cloned && done < len; done += step)
		if (copy_part(c, from + done, to + done, len - done, &step, err))
			return -1;
	return 0;
}

int vmimg_copier_flush(struct vmimg_copier *c, struct vmimg_error *err)
{
	uint64_t len = c->len;
	bool hole = false;

	c->len = 0;
	for (uint64_t done = 0, step = len; done < len; done += step) {
		if (c->holes)
			hole = vmimg_holes_find(c->holes, c->from + done, &step);
		step = vmimg_min(step, len - done);
		if (hole ? copy_hole(c, c->to + done, step, err)
			 : copy_range(c, c->from + done, c->to + done, step, err))
			return -1;
	}
	return 0;
}

int vmimg_copier_add(
	struct vmimg_copier *c, uint64_t from, uint64_t to, uint64_t len, struct vmimg_error *err)
{
	if (c->len && c->from + c->len == from && c->to + c->len == to) {
		c->len += len;
		return 0;
	}
	if (vmimg_copier_flush(c, err))
		return -1;
	c->from = from;
	c->to = to;
	c->len = len;
	return 0;
}

void vmimg_copier_done(struct vmimg_copier *copier)
{
	free(copier->buffer);
	copier->buffer = NULL;
}
