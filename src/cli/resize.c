/* SPDX-License-Identifier: Apache-2.0 */
/* vmimg resize: a larger or a smaller disk, in place. */
#include <inttypes.h>
#include <string.h>
#include "cli/change.h"
#include "engine/in_place.h"
#include "inspect/parts.h"
#include "inspect/refit.h"
#include "inspect/view.h"
#include "io/stage.h"
#include "util/limits.h"
#include "util/num.h"
#include "util/text.h"

struct args {
	struct cli_common common;
	unsigned shrink; /* times that it was said */
	bool fix_gpt;
	unsigned grow; /* a partition; 0: none */
	const char *preallocation;
};

/* "10G", "+1G", "-1G". */
static int parse_target(const char *text, uint64_t now, uint64_t *size, struct vmimg_error *err)
{
	bool plus = text[0] == '+', minus = text[0] == '-';
	uint64_t bytes;

	if (vmimg_parse_size(text + (plus || minus), &bytes, err))
		return -1;
	if (minus && bytes > now)
		return vmimg_fail(err, VMIMG_EINVAL,
			"the disk has %" PRIu64 " bytes: it cannot lose %" PRIu64, now, bytes);
	*size = minus ? now - bytes : bytes;
	if (plus && (!vmimg_add(now, bytes, size) || *size > VMIMG_MAX_DISK))
		return vmimg_fail(err, VMIMG_ELIMIT, "a disk of more than 4 EiB");
	return 0;
}

/* What would be cut off must be nothing, unless the user insists. */
static int guard_data(struct vmimg_disk *disk, uint64_t size, struct vmimg_error *err)
{
	struct vmimg_run run;

	for (uint64_t at = size; at < disk->size; at += run.len) {
		if (vmimg_disk_resolve(disk, at, &run, NULL, err))
			return -1;
		if (run.kind == VMIMG_RUN_DATA || run.kind == VMIMG_RUN_PACKED)
			return vmimg_fail(err, VMIMG_EREFUSED,
				"the disk has data past %" PRIu64 " bytes, at %" PRIu64
				": --shrink cuts it off",
				size, at);
	}
	return 0;
}

/* A partition that would be cut is named, and takes a second --shrink. */
static int guard_partitions(
	const struct args *args, struct vmimg_disk *disk, uint64_t size, struct vmimg_error *err)
{
	VMIMG_AUTO(vmimg_io_unref) struct vmimg_io *view = vmimg_view_open(disk, err);
	VMIMG_AUTO(vmimg_parts_done) struct vmimg_parts parts = { 0 };

	if (!view || vmimg_parts_read(view, disk->sector_size, &parts, err))
		return -1;
	for (size_t i = 0; i < parts.count && args->shrink < 2; i++) {
		const struct vmimg_part *part = &parts.list[i];

		if (part->start + part->len > size && part->start + part->len <= disk->size)
			return vmimg_fail(err, VMIMG_EREFUSED,
				"partition %u ends at %" PRIu64 ", past %" PRIu64
				": --shrink given twice cuts it",
				part->index, part->start + part->len, size);
	}
	return 0;
}

/* Where qemu-img asks for --shrink, its callers rely on that, data or no data. */
static int guard(
	const struct args *args, struct vmimg_disk *disk, uint64_t size, struct vmimg_error *err)
{
	if (!args->common.face)
		return guard_data(disk, size, err);
	cli_warn("warning: Shrinking an image will delete all data beyond the shrunken image's "
		 "end. Before performing such an operation, make sure there is no important data "
		 "there.");
	return vmimg_fail(
		err, VMIMG_EREFUSED, "Use the --shrink option to perform a shrink operation.");
}

static bool reserves(const struct args *args)
{
	return args->preallocation && strcmp(args->preallocation, "off");
}

/* Before anything is changed. */
static int check_preallocation(const struct args *args, const struct vmimg_disk *disk,
	uint64_t size, struct vmimg_error *err)
{
	bool raw = !strcmp(disk->format->name, "raw");
	bool known = !reserves(args) || !strcmp(args->preallocation, "falloc") ||
		!strcmp(args->preallocation, "full") ||
		(!raw && !strcmp(args->preallocation, "metadata"));

	if (!known)
		return vmimg_fail(err, VMIMG_EINVAL, "--preallocation is off, %sfalloc or full, not '%.40s'",
			raw ? "" : "metadata, ", args->preallocation);
	if (!reserves(args))
		return 0;
	if (!raw && !disk->format->edit->allocate)
		return vmimg_fail(err, VMIMG_EUNSUPPORTED,
			"format %s grows without preallocation only", disk->format->name);
	return size >= disk->size ? 0
				  : vmimg_fail(err, VMIMG_EINVAL,
					    "Preallocation can only be used for growing images");
}

static int reopen(
	const struct args *args, const char *path, struct cli_image *image, struct vmimg_error *err)
{
	cli_image_close(image);
	return cli_change_open(image, path, &args->common, err);
}

/* What is reserved reads as zeroes, so full, too, is done without writing any. */
static int reserve(const struct args *args, const char *path, struct cli_image *image, uint64_t old,
	uint64_t size, struct vmimg_error *err)
{
	bool held = reserves(args) && strcmp(args->preallocation, "metadata") != 0;

	if (!reserves(args) || size <= old)
		return 0;
	if (!strcmp(image->disk->format->name, "raw"))
		return vmimg_io_reserve(image->io, old, size - old, err);
	return reopen(args, path, image, err)
		? -1
		: image->disk->format->edit->allocate(image->disk, old, size, held, err);
}

static bool changes_tables(const struct args *args)
{
	return args->fix_gpt || args->grow;
}

/* The tables for a disk of size bytes, each half in memory: the GPT's second copy, and all else. */
struct tables {
	struct vmimg_io *view, *second, *first;
};

static void tables_done_auto(struct tables *t)
{
	vmimg_io_unref(t->first);
	vmimg_io_unref(t->second);
	vmimg_io_unref(t->view);
}

static int make_tables(const struct args *args, struct vmimg_disk *disk, uint64_t size,
	struct tables *t, struct vmimg_error *err)
{
	VMIMG_AUTO(vmimg_parts_done) struct vmimg_parts parts = { 0 };
	struct vmimg_refit refit = { .size = size, .grow = args->grow };

	t->view = vmimg_view_open(disk, err);
	t->second = t->view ? vmimg_stage_open(t->view, err) : NULL;
	t->first = t->second ? vmimg_stage_open(t->view, err) : NULL;
	refit.second = t->second;
	refit.first = t->first;
	if (!t->first || vmimg_parts_read(t->view, disk->sector_size, &parts, err))
		return -1;
	refit.sector_size = parts.sector_size;
	return vmimg_refit_tables(t->view, &refit, err);
}

/* Writes one half. It is computed from what is there. */
static int fit_half(const struct args *args, struct vmimg_disk *disk, uint64_t size, bool second,
	struct vmimg_error *err)
{
	VMIMG_AUTO(tables_done) struct tables t = { 0 };
	struct vmimg_io *half;
	size_t count;

	if (make_tables(args, disk, size, &t, err))
		return -1;
	half = second ? t.second : t.first;
	(void)vmimg_stage_pages(half, &count);
	return count ? vmimg_write_run(disk, half, err) : 0;
}

/* The image is opened anew after each step, which leaves its tables out of date. */
static int fit_tables(const struct args *args, const char *path, struct cli_image *image,
	uint64_t size, struct vmimg_error *err)
{
	return fit_half(args, image->disk, size, true, err) || reopen(args, path, image, err) ||
			fit_half(args, image->disk, size, false, err) ||
			reopen(args, path, image, err)
		? -1
		: 0;
}

/* What keeps a table from being changed is found before the disk is. */
static int try_tables(
	const struct args *args, struct vmimg_disk *disk, uint64_t size, struct vmimg_error *err)
{
	VMIMG_AUTO(tables_done) struct tables t = { 0 };

	if (!changes_tables(args))
		return 0;
	if (!disk->format->edit || !disk->format->edit->update)
		return vmimg_fail(err, VMIMG_EUNSUPPORTED,
			"format %s takes no new content in place, as a partition table needs",
			disk->format->name);
	return make_tables(args, disk, size, &t, err);
}

/* Where a backing file that is larger would show through behind the disk's old end, whole blocks can
 * be hidden: the one in which the disk ends has to be the image's own before. */
static int own_last_block(struct vmimg_disk *disk, struct vmimg_error *err)
{
	VMIMG_AUTO(vmimg_io_unref) struct vmimg_io *view = vmimg_view_open(disk, err);
	VMIMG_AUTO(vmimg_io_unref) struct vmimg_io *stage = NULL;
	size_t len = (size_t)(disk->size % disk->block);
	VMIMG_AUTO(free) uint8_t *bytes = vmimg_alloc_array(len, 1, err);

	if (!view || !bytes || !(stage = vmimg_stage_open(view, err)))
		return -1;
	return vmimg_io_pread(view, bytes, len, disk->size - len, err) ||
			vmimg_io_pwrite(stage, bytes, len, disk->size - len, err)
		? -1
		: vmimg_write_run(disk, stage, err);
}

static int grow_past_parent(const struct args *args, const char *path, struct cli_image *image,
	uint64_t size, struct vmimg_error *err)
{
	struct vmimg_disk *disk = image->disk;

	if (size <= disk->size || !disk->parent || disk->parent->size <= disk->size ||
		!disk->block || !(disk->size % disk->block) || !disk->format->edit->update)
		return 0;
	return own_last_block(disk, err) ? -1 : reopen(args, path, image, err);
}

/* Before a disk shrinks, its tables do; after it has grown, they follow. */
static int resize(const struct args *args, const char *path, struct cli_image *image, uint64_t size,
	struct vmimg_error *err)
{
	bool shrinks = size < image->disk->size;

	if (changes_tables(args) && shrinks && fit_tables(args, path, image, size, err))
		return -1;
	if (grow_past_parent(args, path, image, size, err))
		return -1;
	if (size != image->disk->size && image->disk->format->edit->resize(image->disk, size, err))
		return -1;
	if (!changes_tables(args) || shrinks)
		return 0;
	if (reopen(args, path, image, err) || fit_tables(args, path, image, image->disk->size, err))
		return vmimg_within(err, "the disk is resized, its partition table is not done");
	return 0;
}

static int run(const struct cli_call *call, struct vmimg_error *err)
{
	const struct args *args = call->args;
	VMIMG_AUTO(cli_image_close) struct cli_image image = { 0 };
	const struct vmimg_edit_ops *edit;
	uint64_t size = 0, old;

	if (cli_change_open(&image, call->words[0], &args->common, err) ||
		parse_target(call->words[1], image.disk->size, &size, err))
		return -1;
	if (!size && args->common.face)
		return vmimg_fail(err, VMIMG_EINVAL, "New image size must be positive");
	edit = image.disk->format->edit;
	if (!edit || !edit->resize)
		return cli_change_unsupported(&image, "resizing in place", err);
	if (size < image.disk->size && !args->shrink && guard(args, image.disk, size, err))
		return -1;
	if (size < image.disk->size && !args->common.face &&
		guard_partitions(args, image.disk, size, err))
		return -1;
	old = image.disk->size;
	if (try_tables(args, image.disk, size, err) ||
		check_preallocation(args, image.disk, size, err) ||
		resize(args, call->words[0], &image, size, err) ||
		reserve(args, call->words[0], &image, old, size, err))
		return args->common.face ? -1 : vmimg_within(err, "%s", vmimg_io_name(image.io));
	if (!args->common.quiet)
		printf("Image resized.\n");
	return CLI_OK;
}

static int set_shrink(void *to, const char *value, struct vmimg_error *err)
{
	(void)value, (void)err;
	++*(unsigned *)to;
	return 0;
}

static const struct cli_option options[] = {
	{ 0, "shrink", NULL, "cut off data that lies past the new end; twice: partitions too",
		set_shrink, offsetof(struct args, shrink) },
	{ 0, "fix-gpt", NULL, "move the second copy of the GPT to the new end", cli_set_flag,
		offsetof(struct args, fix_gpt) },
	{ 0, "grow-part", "N",
		"let partition N reach to the next one or the end; implies --fix-gpt",
		cli_set_count, offsetof(struct args, grow) },
	{ 0, "preallocation", "MODE", "of what is added: off, falloc or full, metadata too in qcow2 (off)",
		cli_set_text, offsetof(struct args, preallocation) },
	{ 'q', "quiet", NULL, "print nothing but errors", cli_set_flag,
		offsetof(struct args, common.quiet) },
	{ 0 },
};
static const struct cli_option *const groups[] = { options, cli_format_options, cli_source_options,
	NULL };

const struct cli_verb cli_resize = {
	.name = "resize",
	.operands = "IMAGE [+|-]SIZE",
	.summary = "Makes a disk larger or smaller, in place",
	.least = 2,
	.most = 2,
	.args_size = sizeof(struct args),
	.options = groups,
	.run = run,
};
