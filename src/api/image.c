/* SPDX-License-Identifier: Apache-2.0 */
/* New images through the public interface: the output, the sink that fills it, its name at last. */
#include <inttypes.h>
#include <stddef.h>
#include "api/work.h"
#include "disk/options.h"
#include "engine/blank.h"
#include "engine/convert.h"
#include "io/file.h"
#include "io/lock.h"
#include "io/output.h"
#include "util/limits.h"

struct making {
	struct vmimg_output *output;
	struct vmimg_siblings siblings;
	struct vmimg_io *old; /* the file that is to be replaced, locked */
	struct vmimg_options options;
	struct vmimg_sink *sink;
};

static void making_done_auto(struct making *making)
{
	vmimg_sink_close(making->sink);
	vmimg_options_done(&making->options);
	vmimg_output_close(making->output);
	vmimg_io_unref(making->old);
}

static struct vmimg_io *new_sibling(
	struct vmimg_siblings *siblings, const char *name, struct vmimg_error *err)
{
	struct making *making =
		(struct making *)(void *)((char *)siblings - offsetof(struct making, siblings));

	return vmimg_output_sibling(making->output, name, err);
}

static const struct vmimg_format *find_format(
	const struct vmimg_new *image, struct vmimg_error *err)
{
	const struct vmimg_format *format = image->format ? vmimg_format_find(image->format)
							  : vmimg_format_for_name(image->path);

	if (!format)
		vmimg_fail(err, VMIMG_EINVAL,
			image->format ? "unknown format '%.80s'"
				      : "the suffix of %.80s does not tell a format",
			image->format ? image->format : image->path);
	return format;
}

/* A file that a running machine uses is not replaced. */
static int lock_old(struct making *making, const struct vmimg_new *image, struct vmimg_error *err)
{
	struct vmimg_error unused;

	if (image->replace)
		making->old = vmimg_file_open(image->path, false, &unused);
	return making->old ? vmimg_io_lock(making->old, VMIMG_LOCK_REPLACE, err) : 0;
}

static int begin(struct making *making, const struct vmimg_new *image, uint64_t size,
	struct vmimg_error *err)
{
	const struct vmimg_format *format = find_format(image, err);
	const struct vmimg_output_how how = { .replace = image->replace,
		.no_sync = image->no_sync };
	struct vmimg_create create = { .size = size,
		.options = &making->options,
		.siblings = &making->siblings,
		.parent = image->parent,
		.parent_name = image->parent_name,
		.parent_format = image->parent ? vmimg_disk_format(image->parent) : NULL,
		.compress = image->compress,
		.level = image->level,
		.secret = image->secret,
		.unique = image->unique,
		.epoch = image->epoch };

	if (!format)
		return -1;
	if (size > VMIMG_MAX_DISK)
		return vmimg_fail(
			err, VMIMG_ELIMIT, "a disk of %" PRIu64 " bytes is more than 4 EiB", size);
	if (!image->parent != !image->parent_name)
		return vmimg_fail(err, VMIMG_EINVAL,
			"a parent needs both: the disk, and the name to be written");
	if ((image->options && vmimg_options_add(&making->options, image->options, err)) ||
		lock_old(making, image, err))
		return -1;
	making->output = vmimg_output_open(image->path, &how, err);
	if (!making->output)
		return -1;
	making->siblings = (struct vmimg_siblings){ .create = new_sibling,
		.main_name = vmimg_output_name(making->output) };
	making->sink = vmimg_sink_create(format, vmimg_output_io(making->output), &create, err);
	return making->sink ? 0 : -1;
}

int vmimg_image_create(const struct vmimg_new *image, uint64_t size, struct vmimg_error *err)
{
	VMIMG_AUTO(making_done) struct making making = { 0 };

	return begin(&making, image, size, err) || vmimg_blank_run(making.sink, err) ||
			vmimg_output_publish(making.output, err)
		? -1
		: 0;
}

int vmimg_image_convert(struct vmimg_disk *disk, const struct vmimg_new *image,
	const struct vmimg_work *work, struct vmimg_error *err)
{
	VMIMG_AUTO(making_done) struct making making = { 0 };
	struct vmimg_converted done;
	struct vmimg_convert convert = { .disk = disk, .layer = image->parent != NULL };
	struct api_work how;

	if (begin(&making, image, disk->size, err))
		return -1;
	api_work_init(&how, work);
	convert.sink = making.sink;
	convert.how = how.how;
	return vmimg_convert_run(&convert, &done, err) || vmimg_output_publish(making.output, err)
		? -1
		: 0;
}
