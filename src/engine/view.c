/* SPDX-License-Identifier: Apache-2.0 */
/* Maps made of maps. */
#include "engine/view.h"
#include "util/num.h"

static void view_close(struct vmimg_disk *disk)
{
	(void)disk;
}

void vmimg_view_init(struct vmimg_disk *view, const struct vmimg_format *format,
	struct vmimg_disk *disk, void *state)
{
	*view = (struct vmimg_disk){ .format = format,
		.io = disk->io,
		.size = disk->size,
		.sector_size = disk->sector_size,
		.parent = disk,
		.state = state };
}

static bool is_nothing(const struct vmimg_run *run)
{
	return run->kind == VMIMG_RUN_ABSENT || run->kind == VMIMG_RUN_ZERO;
}

/* ---- layers ---- */

/* Past the top layer's end the base keeps what it has; below, a layer that ends hides with zeroes
 * what is longer. */
static int layers_map(
	struct vmimg_disk *disk, uint64_t at, struct vmimg_run *run, struct vmimg_error *err)
{
	const struct vmimg_layers *layers = disk->state;
	uint64_t len = disk->size - at;
	struct vmimg_disk *layer = layers->top;

	for (; layer != layers->base; layer = layer->parent) {
		if (at >= layer->size) {
			*run = (struct vmimg_run){ .kind = layer == layers->top ? VMIMG_RUN_ABSENT
										: VMIMG_RUN_ZERO,
				.len = len };
			return 0;
		}
		if (vmimg_disk_map(layer, at, run, err))
			return -1;
		run->len = len = vmimg_min(run->len, len);
		if (run->kind != VMIMG_RUN_ABSENT)
			return 0;
	}
	return 0;
}

static const struct vmimg_format layers_format = {
	.name = "layers",
	.title = "some layers of a chain",
	.map = layers_map,
	.close = view_close,
};

void vmimg_layers_init(struct vmimg_layers *layers, struct vmimg_disk *top, struct vmimg_disk *base)
{
	layers->top = top;
	layers->base = base;
	vmimg_view_init(&layers->disk, &layers_format, base, layers);
}

/* ---- what lies below ---- */

/* The run through a chain that may end, or not be there. */
static int resolve(
	struct vmimg_disk *disk, uint64_t at, struct vmimg_run *run, struct vmimg_error *err)
{
	if (disk && at < disk->size)
		return vmimg_disk_resolve(disk, at, run, NULL, err);
	*run = (struct vmimg_run){ .kind = VMIMG_RUN_ZERO, .len = UINT64_MAX };
	return 0;
}

/* The same bytes of the same file, or nothing in both. */
static bool is_same(const struct vmimg_run *a, const struct vmimg_run *b)
{
	if (is_nothing(a) || is_nothing(b))
		return is_nothing(a) && is_nothing(b);
	return a->kind == b->kind && a->io && b->io && vmimg_io_same(a->io, b->io) &&
		a->at == b->at && a->block.skip == b->block.skip && a->encrypted == b->encrypted;
}

static int below_map(
	struct vmimg_disk *disk, uint64_t at, struct vmimg_run *run, struct vmimg_error *err)
{
	const struct vmimg_below *below = disk->state;
	struct vmimg_run old, new;

	if (vmimg_disk_map(below->top, at, run, err))
		return -1;
	if (run->kind != VMIMG_RUN_ABSENT) {
		*run = (struct vmimg_run){ .kind = VMIMG_RUN_ABSENT, .len = run->len };
		return 0;
	}
	if (resolve(below->top->parent, at, &old, err) || resolve(below->parent, at, &new, err))
		return -1;
	old.len = vmimg_min(run->len, vmimg_min(old.len, new.len));
	*run = old;
	if (is_same(&old, &new))
		*run = (struct vmimg_run){ .kind = VMIMG_RUN_ABSENT, .len = old.len };
	else if (is_nothing(&old))
		*run = (struct vmimg_run){ .kind = VMIMG_RUN_ZERO, .len = old.len };
	return 0;
}

static const struct vmimg_format below_format = {
	.name = "below",
	.title = "what an image takes from its parents",
	.map = below_map,
	.close = view_close,
};

void vmimg_below_init(struct vmimg_below *below, struct vmimg_disk *top, struct vmimg_disk *parent)
{
	below->top = top;
	below->parent = parent;
	vmimg_view_init(&below->disk, &below_format, top, below);
}

/* ---- another disk over a stretch ---- */

static int laid_map(
	struct vmimg_disk *disk, uint64_t at, struct vmimg_run *run, struct vmimg_error *err)
{
	const struct vmimg_laid *laid = disk->state;
	uint64_t end = laid->at + laid->source->size;

	*run = (struct vmimg_run){ .kind = VMIMG_RUN_ABSENT, .len = disk->size - at };
	if (at < laid->at)
		run->len = laid->at - at;
	if (at < laid->at || at >= end)
		return 0;
	if (vmimg_disk_resolve(laid->source, at - laid->at, run, NULL, err))
		return -1;
	if (run->kind == VMIMG_RUN_ABSENT)
		*run = (struct vmimg_run){ .kind = VMIMG_RUN_ZERO, .len = run->len };
	return 0;
}

static const struct vmimg_format laid_format = {
	.name = "laid",
	.title = "a disk over a stretch of another",
	.map = laid_map,
	.close = view_close,
};

void vmimg_laid_init(
	struct vmimg_laid *laid, struct vmimg_disk *disk, struct vmimg_disk *source, uint64_t at)
{
	laid->source = source;
	laid->at = at;
	vmimg_view_init(&laid->disk, &laid_format, disk, laid);
}

/* ---- patches ---- */

static int patched_map(
	struct vmimg_disk *disk, uint64_t at, struct vmimg_run *run, struct vmimg_error *err)
{
	const struct vmimg_patched *patched = disk->state;
	size_t count;
	const struct vmimg_stage_page *pages = vmimg_stage_pages(patched->stage, &count);

	(void)err;
	*run = (struct vmimg_run){ .kind = VMIMG_RUN_ABSENT, .len = disk->size - at };
	for (size_t i = 0; i < count; i++) {
		if (pages[i].at + VMIMG_STAGE_PAGE <= at)
			continue;
		if (pages[i].at > at)
			run->len = pages[i].at - at;
		else
			*run = (struct vmimg_run){ .kind = VMIMG_RUN_DATA,
				.io = patched->stage,
				.at = at,
				.len = pages[i].at + VMIMG_STAGE_PAGE - at };
		break;
	}
	return 0;
}

static const struct vmimg_format patched_format = {
	.name = "patched",
	.title = "single changes",
	.map = patched_map,
	.close = view_close,
};

void vmimg_patched_init(
	struct vmimg_patched *patched, struct vmimg_disk *disk, struct vmimg_io *stage)
{
	patched->stage = stage;
	vmimg_view_init(&patched->disk, &patched_format, disk, patched);
}
