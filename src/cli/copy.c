/* SPDX-License-Identifier: Apache-2.0 */
/* For verbs that write whole images on the way to something else. */
#include "cli/copy.h"
#include <string.h>
#include "cli/progress.h"
#include "cli/repair_options.h"

static int pour(struct cli_target *target, struct vmimg_disk *disk, const struct cli_common *common,
	struct vmimg_converted *done, struct vmimg_error *err)
{
	struct cli_progress progress;
	struct vmimg_convert convert = { .disk = disk,
		.sink = target->sink,
		.how = { .threads = common->threads,
			.cancel = cli_catch_signals(),
			.progress = cli_progress_step,
			.progress_ctx = &progress } };
	int failed;

	cli_progress_begin(&progress, common, false);
	failed = vmimg_convert_run(&convert, done, err) || cli_target_publish(target, err);
	cli_progress_end(&progress);
	return failed ? -1 : 0;
}

int cli_copy_run(const struct cli_copy *copy, const struct cli_common *common,
	struct vmimg_converted *done, struct vmimg_error *err)
{
	VMIMG_AUTO(cli_target_close)
	struct cli_target target = { .format = copy->format, .source = copy->files };

	if (cli_files_spare(copy->files, copy->path, err) ||
		cli_target_open(&target, copy->path, copy->target, common, err) ||
		cli_target_begin(&target, copy->target, common, copy->disk->size, err))
		return -1;
	return pour(&target, copy->disk, common, done, err);
}

/* Whether anything is compressed in it: the new one is to be compressed then, too. */
static bool is_packed(struct vmimg_disk *disk)
{
	struct vmimg_error unused;
	struct vmimg_run run;

	for (uint64_t at = 0; at < disk->size; at += run.len) {
		if (vmimg_disk_map(disk, at, &run, &unused))
			return false;
		if (run.kind == VMIMG_RUN_PACKED)
			return true;
	}
	return false;
}

int cli_copy_like(
	struct cli_copy *copy, struct vmimg_disk *disk, const char *format, struct vmimg_error *err)
{
	copy->format = cli_target_format(format ? format : disk->format->name, NULL, err);
	if (!copy->format)
		return -1;
	if (copy->format != disk->format)
		return 0;
	copy->target->compress |= is_packed(disk);
	return cli_options_like(copy->target, disk, err);
}

const char *cli_parent_name(const struct vmimg_disk *disk)
{
	for (size_t i = 0; i < disk->ref_count; i++)
		if (!strcmp(disk->refs[i].ref.kind, "backing") ||
			!strcmp(disk->refs[i].ref.kind, "parent"))
			return disk->refs[i].ref.name;
	return NULL;
}

int cli_count_data(struct vmimg_disk *disk, uint64_t *data, struct vmimg_error *err)
{
	struct vmimg_run run;

	*data = 0;
	for (uint64_t at = 0; at < disk->size; at += run.len) {
		if (vmimg_disk_map(disk, at, &run, err))
			return -1;
		if (run.kind == VMIMG_RUN_DATA || run.kind == VMIMG_RUN_PACKED)
			*data += run.len;
	}
	return 0;
}
