/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A sink that is given nothing but absence writes what its format has around the data: a footer, or
 * a descriptor. Where the data has to change its name it gets the new one first, and loses the old
 * one last. Formats that begin where the data does adopt it (engine/adopt.h).
 */
#include "cli/convert_in_place.h"
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>
#include "cli/change.h"
#include "cli/progress.h"
#include "engine/adopt.h"
#include "engine/blank.h"
#include "io/file.h"

struct job {
	struct cli_image image;
	struct vmimg_io *data; /* where the disk's bytes lie, from 0 on */
	uint64_t size;
	const char *to;
	const struct vmimg_format *format;
	const struct cli_target_args *args;
};

/* The one file that has every byte of the disk at the byte's own offset. */
static int find_data(struct job *job, struct vmimg_error *err)
{
	struct vmimg_disk *disk = job->image.disk;
	struct vmimg_run run;

	job->size = disk->size;
	job->data = strcmp(disk->format->name, "raw") ? NULL : disk->io;
	for (uint64_t at = 0; at < disk->size && job->data != disk->io; at += run.len) {
		if (vmimg_disk_map(disk, at, &run, err))
			return -1;
		if (disk->parent || run.at != at || !run.io || (at && run.io != job->data))
			return vmimg_fail(err, VMIMG_EUNSUPPORTED,
				"%s: the disk does not lie in one file as it is: convert it into a "
				"new one",
				vmimg_io_name(disk->io));
		job->data = run.io;
		if (run.len == disk->size)
			break;
	}
	return job->data ? 0 : vmimg_fail(err, VMIMG_EINVAL, "a disk of no bytes");
}

static int rename_data(const char *from, const char *to, struct vmimg_error *err)
{
	if (!to || !strcmp(from, to))
		return 0;
	if (renameat2(AT_FDCWD, from, AT_FDCWD, to, RENAME_NOREPLACE))
		return vmimg_fail_sys(err, errno, "renaming %.80s to %.80s", from, to);
	return vmimg_file_sync_folder(to, err);
}

static int read_options(
	const struct job *job, struct vmimg_options *list, struct vmimg_error *err)
{
	const struct vmimg_options *given = &job->args->options.list;

	for (size_t i = 0; i < given->count; i++)
		if (vmimg_options_set(list, given->items[i].key, given->items[i].value, err))
			return -1;
	return 0;
}

/* ---- formats around the data in the same file ---- */

static int wrap(struct job *job, struct vmimg_io *io, struct vmimg_siblings *siblings,
	struct vmimg_error *err)
{
	struct vmimg_options list = { 0 };
	struct vmimg_create create = {
		.size = job->size, .options = &list, .siblings = siblings, .unique = true
	}; /* identities that come from the content would have to read it */
	VMIMG_AUTO(vmimg_sink_close) struct vmimg_sink *sink = NULL;
	int failed = read_options(job, &list, err);

	if (!failed)
		failed = vmimg_options_set(
			&list, "subformat", siblings ? "monolithicFlat" : "fixed", err);
	sink = failed ? NULL : vmimg_sink_create(job->format, io, &create, err);
	failed = !sink || vmimg_blank_run(sink, err);
	vmimg_options_done(&list);
	return failed ? -1 : 0;
}

/* The footer comes after the data, which is whole without it. */
static int to_vhd(struct job *job, const char *from, struct vmimg_error *err)
{
	struct vmimg_error unused;

	if (job->data != job->image.io)
		return vmimg_fail(err, VMIMG_EUNSUPPORTED, "make it raw first");
	if (wrap(job, job->data, NULL, err) || vmimg_io_sync(job->data, err)) {
		(void)!vmimg_io_resize(job->data, job->size, &unused);
		return -1;
	}
	return rename_data(from, job->to, err);
}

/* ---- formats whose head lies where the data begins ---- */

/* A command that was cut off may be given again as it was, when its work was done. */
static int refuse_twice(struct job *job, struct vmimg_error *err)
{
	struct vmimg_error unused;

	if (vmimg_disk_probe(job->data, &unused) != job->format)
		return 0;
	return vmimg_fail(err, VMIMG_EREFUSED, "%s is %s already: it is not made one twice",
		vmimg_io_name(job->data), job->format->title);
}

static int check_file(struct job *job, struct vmimg_error *err)
{
	if (job->data != job->image.io || job->size != vmimg_io_size(job->data))
		return vmimg_fail(err, VMIMG_EUNSUPPORTED, "make it raw first");
	if (job->data->is_device)
		return vmimg_fail(err, VMIMG_EUNSUPPORTED,
			"%s is a device, which cannot grow: convert it into a new image",
			vmimg_io_name(job->data));
	return refuse_twice(job, err);
}

static int adopt(struct job *job, const char *from, struct vmimg_error *err)
{
	VMIMG_AUTO(vmimg_journal_close) struct vmimg_journal *journal = NULL;
	struct vmimg_options list = { 0 };
	struct vmimg_adopt how = { .raw = job->image.disk,
		.format = job->format,
		.options = &list,
		.how = { .cancel = cli_catch_signals() } };
	int failed;

	if (check_file(job, err))
		return -1;
	journal = vmimg_journal_open(from, job->data, err);
	how.journal = journal;
	failed = !journal || read_options(job, &list, err) || vmimg_adopt_run(&how, err);
	vmimg_options_done(&list);
	return failed ? -1 : rename_data(from, job->to, err);
}

/* ---- a descriptor beside the data ---- */

struct flat {
	struct vmimg_siblings siblings;
	struct job *job;
	char *path; /* the data's new name */
};

/* The file that the format asks for is there already: it gets that name. */
static struct vmimg_io *name_data(
	struct vmimg_siblings *siblings, const char *name, struct vmimg_error *err)
{
	struct flat *flat = (struct flat *)siblings;
	const char *from = vmimg_file_path(flat->job->data);
	char *path = cli_path_beside(flat->job->to, name, err);

	if (!path)
		return NULL;
	if (flat->path || link(from, path)) {
		vmimg_fail_sys(err, flat->path ? EINVAL : errno, "naming %.80s", path);
		free(path);
		return NULL;
	}
	flat->path = path;
	return vmimg_io_ref(flat->job->data);
}

static int write_descriptor(struct job *job, struct flat *flat, struct vmimg_error *err)
{
	struct vmimg_output_how how = { 0 };
	VMIMG_AUTO(vmimg_output_close)
	struct vmimg_output *output = vmimg_output_open(job->to, &how, err);

	if (!output)
		return -1;
	flat->siblings.main_name = vmimg_output_name(output);
	return wrap(job, vmimg_output_io(output), &flat->siblings, err) ||
			vmimg_io_sync(job->data, err) || vmimg_file_sync_folder(job->to, err) ||
			vmimg_output_publish(output, err)
		? -1
		: 0;
}

static int to_vmdk(struct job *job, const char *from, struct vmimg_error *err)
{
	struct flat flat = { .siblings = { .create = name_data }, .job = job };
	int failed;

	if (!job->to || job->data != job->image.io)
		return vmimg_fail(err, VMIMG_EINVAL, "%s",
			job->to ? "make it raw first"
				: "name the descriptor: convert --in-place disk.raw disk.vmdk");
	failed = write_descriptor(job, &flat, err);
	if (failed && flat.path)
		unlink(flat.path);
	if (!failed && (unlink(from) || vmimg_file_sync_folder(from, err)))
		failed = vmimg_fail_sys(err, errno, "removing the old name %.80s", from);
	free(flat.path);
	return failed;
}

/* ---- raw ---- */

static int drop_descriptor(struct job *job, const char *from, struct vmimg_error *err)
{
	const char *data = vmimg_file_path(job->data);

	if (!job->to)
		return vmimg_fail(err, VMIMG_EINVAL,
			"name the raw disk: convert --in-place disk.vmdk disk.raw");
	if (link(data, job->to))
		return vmimg_fail_sys(err, errno, "naming %.80s", job->to);
	if (vmimg_file_sync_folder(job->to, err)) {
		unlink(job->to);
		return -1;
	}
	if (unlink(from) || unlink(data))
		return vmimg_fail_sys(err, errno, "removing the old names of %.80s", job->to);
	return vmimg_file_sync_folder(from, err);
}

/* What follows the data in its file is cut off, in one step. */
static int to_raw(struct job *job, const char *from, struct vmimg_error *err)
{
	if (job->data != job->image.io)
		return drop_descriptor(job, from, err);
	if (vmimg_io_resize(job->data, job->size, err) || vmimg_io_sync(job->data, err))
		return -1;
	return rename_data(from, job->to, err);
}

int cli_convert_in_place(const char *from, const char *to, const struct vmimg_format *format,
	const struct cli_target_args *args, const struct cli_common *common,
	struct vmimg_error *err)
{
	struct job job = { .to = to, .format = format, .args = args };
	bool there = false;
	int failed = cli_change_open_undone(&job.image, from, common, err);

	if (!failed)
		there = to && job.image.disk->format == format && format->adopts;
	if (!failed && !there)
		failed = find_data(&job, err);

	if (!failed && to && !access(to, F_OK))
		failed = vmimg_fail(err, VMIMG_EEXIST, "%.80s exists", to);
	if (failed)
		failed = -1;
	else if (there) /* all that an earlier call had left to do */
		failed = rename_data(from, to, err);
	else if (format->adopts)
		failed = adopt(&job, from, err);
	else if (!strcmp(format->name, "raw"))
		failed = to_raw(&job, from, err);
	else if (!strcmp(format->name, "vhd"))
		failed = to_vhd(&job, from, err);
	else if (!strcmp(format->name, "vmdk"))
		failed = to_vmdk(&job, from, err);
	else
		failed = vmimg_fail(err, VMIMG_EUNSUPPORTED,
			"format %s has its tables among the data: convert into a new image",
			format->name);
	cli_image_close(&job.image);
	return failed ? -1 : CLI_OK;
}
