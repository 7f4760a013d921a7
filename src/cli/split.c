/* SPDX-License-Identifier: Apache-2.0 */
/* vmimg split: a disk that starts, taken apart into kernel, ramdisk and root file system. */
#include <fcntl.h>
#include <string.h>
#include "bundle/kernel.h"
#include "bundle/uki.h"
#include "cli/progress.h"
#include "cli/target.h"
#include "engine/convert.h"
#include "inspect/kernels.h"
#include "inspect/view.h"
#include "io/joined.h"
#include "io/memory.h"
#include "util/num.h"

struct args {
	struct cli_common common;
	struct cli_target_args target; /* of the AMI */
	const char *aki, *ari, *ami;
};

struct job {
	const struct args *args;
	struct cli_image source;
	struct vmimg_io *view;
	struct vmimg_trees trees;
	struct vmimg_boot_choice choice;
	const struct vmimg_tree *root;
	struct vmimg_io *kernel, *ramdisk; /* ramdisk NULL: none */
	char *options;
	struct vmimg_output *kernel_out, *ramdisk_out;
	struct vmimg_disk *root_disk;
	struct cli_target target;
	struct vmimg_converted done;
};

static int check_args(const struct args *args, struct vmimg_error *err)
{
	if (args->aki && args->ami)
		return 0;
	return vmimg_fail(err, VMIMG_EINVAL,
		"it takes names for the kernel (--aki FILE) and the root file system (--ami FILE)");
}

/* ---- what is taken out ---- */

static struct vmimg_io *open_file(struct job *job, const char *path, struct vmimg_error *err)
{
	struct vmimg_node node;

	if (vmimg_boot_file(job->choice.tree->fs, path, &node, err))
		return NULL;
	return vmimg_fs_file_io(job->choice.tree->fs, &node, err);
}

/* Several ramdisks are one, each at a multiple of four bytes. */
static int open_ramdisks(struct job *job, struct vmimg_error *err)
{
	static const uint8_t zeroes[4];
	struct vmimg_io *parts[2 * VMIMG_BOOT_INITRDS] = { 0 };
	size_t count = 0;
	int failed = 0;

	for (unsigned i = 0; !failed && i < job->choice.initrd_count; i++) {
		struct vmimg_io *io = open_file(job, job->choice.initrds[i], err);
		size_t odd = io ? (size_t)(vmimg_io_size(io) % 4) : 0;

		failed = !io;
		parts[count] = io;
		count += io != NULL;
		if (odd && i + 1 < job->choice.initrd_count) {
			parts[count] = vmimg_memory_view(zeroes, 4 - odd, NULL, err);
			failed = !parts[count];
			count += parts[count] != NULL;
		}
	}
	if (!failed && count) {
		job->ramdisk = vmimg_joined_open(parts, count, "ramdisk", err);
		failed = !job->ramdisk;
	}
	for (size_t i = 0; i < count; i++)
		vmimg_io_unref(parts[i]);
	return failed ? -1 : 0;
}

static int open_unified(struct job *job, struct vmimg_error *err)
{
	VMIMG_AUTO(vmimg_io_unref) struct vmimg_io *image = open_file(job, job->choice.kernel, err);
	VMIMG_AUTO(vmimg_io_unref) struct vmimg_io *options = NULL;
	size_t len;

	if (!image || vmimg_uki_section(image, ".linux", &job->kernel, err) ||
		vmimg_uki_section(image, ".initrd", &job->ramdisk, err) ||
		vmimg_uki_section(image, ".cmdline", &options, err))
		return -1;
	if (!job->kernel)
		return vmimg_fail(
			err, VMIMG_EFORMAT, "%s has no kernel in it", vmimg_io_name(image));
	if (!options)
		return 0;
	len = (size_t)vmimg_min(vmimg_io_size(options), sizeof(job->choice.options) - 1);
	return vmimg_io_pread(options, job->choice.options, len, 0, err);
}

/* The arguments without those that only hold on the disk that is taken apart. */
static int clean_options(struct job *job, struct vmimg_error *err)
{
	static const char *const drop[] = { "root=", "initrd=", "BOOT_IMAGE=" };
	char *rest = job->choice.options, *word;
	size_t len = 0;

	job->options = vmimg_alloc_array(1, sizeof(job->choice.options) + 1, err);
	if (!job->options)
		return -1;
	for (word = strtok_r(rest, " \t\n", &rest); word; word = strtok_r(NULL, " \t\n", &rest)) {
		bool dropped = false;

		for (size_t i = 0; i < VMIMG_ARRAY_LEN(drop); i++)
			dropped |= !strncmp(word, drop[i], strlen(drop[i]));
		if (!dropped)
			len += (size_t)snprintf(job->options + len,
				sizeof(job->choice.options) + 1 - len, "%s%s", len ? " " : "",
				word);
	}
	return 0;
}

static int find_parts(struct job *job, struct vmimg_error *err)
{
	struct vmimg_kernel kernel;

	job->view = vmimg_view_open(job->source.disk, err);
	if (!job->view ||
		vmimg_trees_open(job->view, job->source.disk->sector_size, &job->trees, err))
		return -1;
	job->root = vmimg_trees_root(&job->trees, err);
	if (!job->root || vmimg_boot_choose(&job->trees, &job->choice, err))
		return -1;
	if (job->choice.unified) {
		if (open_unified(job, err))
			return -1;
	} else {
		job->kernel = open_file(job, job->choice.kernel, err);
		if (!job->kernel || open_ramdisks(job, err))
			return -1;
	}
	if (vmimg_kernel_read(job->kernel, &kernel, err))
		return vmimg_within(err, "the kernel that the %s names", job->choice.source);
	return clean_options(job, err);
}

/* ---- writing ---- */

static int copy(struct vmimg_io *from, struct vmimg_io *to, struct vmimg_error *err)
{
	enum { STEP = 256 << 10 };
	VMIMG_AUTO(free) uint8_t *buf = vmimg_alloc_buffer(STEP, err);
	uint64_t size = vmimg_io_size(from), len;

	if (!buf)
		return -1;
	for (uint64_t at = 0; at < size; at += len) {
		len = vmimg_min(size - at, STEP);
		if (vmimg_io_pread(from, buf, (size_t)len, at, err) ||
			vmimg_io_pwrite(to, buf, (size_t)len, at, err))
			return -1;
	}
	return 0;
}

static int open_outputs(struct job *job, struct vmimg_error *err)
{
	const struct args *args = job->args;
	struct vmimg_output_how how = { .replace = args->target.force,
		.no_sync = args->target.no_sync };

	if (args->common.sandbox) {
		cli_sandbox_write(args->common.sandbox, args->aki);
		cli_sandbox_write(args->common.sandbox, args->ami);
		if (args->ari)
			cli_sandbox_write(args->common.sandbox, args->ari);
	}
	if (cli_files_spare(&job->source.files, args->aki, err) ||
		cli_files_spare(&job->source.files, args->ami, err) ||
		(args->ari && cli_files_spare(&job->source.files, args->ari, err)))
		return -1;
	job->kernel_out = vmimg_output_open(args->aki, &how, err);
	if (!job->kernel_out)
		return -1;
	job->ramdisk_out = args->ari ? vmimg_output_open(args->ari, &how, err) : NULL;
	if (args->ari && !job->ramdisk_out)
		return -1;
	return cli_target_open(&job->target, args->ami, &args->target, &args->common, err);
}

static int write_root(struct job *job, struct vmimg_error *err)
{
	const struct cli_common *common = &job->args->common;
	struct vmimg_open raw = { .format = "raw" };
	struct cli_progress progress;
	struct vmimg_convert convert = { .how = { .threads = common->threads,
						 .cancel = cli_catch_signals(),
						 .progress = cli_progress_step,
						 .progress_ctx = &progress } };
	int failed;

	job->root_disk = vmimg_disk_open(job->root->io, &raw, err);
	if (!job->root_disk ||
		cli_target_begin(
			&job->target, &job->args->target, common, job->root_disk->size, err))
		return -1;
	convert.disk = job->root_disk;
	convert.sink = job->target.sink;
	cli_progress_begin(&progress, common, false);
	failed = vmimg_convert_run(&convert, &job->done, err);
	cli_progress_end(&progress);
	return failed;
}

static int write_all(struct job *job, struct vmimg_error *err)
{
	if (copy(job->kernel, vmimg_output_io(job->kernel_out), err) ||
		(job->ramdisk && job->ramdisk_out &&
			copy(job->ramdisk, vmimg_output_io(job->ramdisk_out), err)) ||
		write_root(job, err))
		return -1;
	if (cli_target_publish(&job->target, err))
		return -1;
	if (job->ramdisk && job->ramdisk_out && vmimg_output_publish(job->ramdisk_out, err))
		return -1;
	return vmimg_output_publish(job->kernel_out, err);
}

static json_t *part_json(const struct vmimg_tree *tree, const char *file)
{
	json_t *object = json_object();

	vmimg_json_text(object, "filename", file);
	vmimg_json_uint(object, "partition", tree->part);
	if (tree->info.type)
		vmimg_json_text(object, "file-system", tree->info.type);
	return object;
}

static int report(const struct job *job, struct vmimg_error *err)
{
	json_t *root = json_object(), *part;

	json_object_set_new(root, "schema", json_string("vmimg.split/1"));
	vmimg_json_text(root, "chosen-by", job->choice.source);
	vmimg_json_text(root, "command-line", job->options);
	part = part_json(job->choice.tree, job->args->aki);
	vmimg_json_text(part, "path", job->choice.kernel);
	json_object_set_new(root, "kernel", part);
	if (job->ramdisk && job->args->ari) {
		part = part_json(job->choice.tree, job->args->ari);
		if (job->choice.initrd_count)
			vmimg_json_text(part, "path", job->choice.initrds[0]);
		json_object_set_new(root, "ramdisk", part);
	}
	json_object_set_new(root, "root", part_json(job->root, job->args->ami));
	if (job->args->common.json)
		return cli_print_json(stdout, root, err);
	if (!job->args->common.quiet) {
		printf("kernel and ramdisk of partition %u, by %s; root file system: partition %u "
		       "(%s)\n",
			job->choice.tree->part, job->choice.source, job->root->part,
			job->root->info.type ? job->root->info.type : "unknown");
		if (*job->options)
			printf("arguments of the kernel: %s\n",
				json_string_value(json_object_get(root, "command-line")));
	}
	json_decref(root);
	return CLI_OK;
}

static void warn(const struct job *job)
{
	if (job->args->common.quiet)
		return;
	if (job->ramdisk && !job->args->ari)
		cli_warn("warning: there is a ramdisk as well, which is left out without --ari");
	if (!job->ramdisk && job->args->ari)
		cli_warn("warning: the kernel is started without a ramdisk: %s is not written",
			job->args->ari);
}

static void job_done(struct job *job)
{
	cli_target_close(&job->target);
	vmimg_disk_close(job->root_disk);
	vmimg_output_close(job->ramdisk_out);
	vmimg_output_close(job->kernel_out);
	vmimg_io_unref(job->ramdisk);
	vmimg_io_unref(job->kernel);
	vmimg_trees_close(&job->trees);
	vmimg_io_unref(job->view);
	cli_image_close(&job->source);
	free(job->options);
}

static int run(const struct cli_call *call, struct vmimg_error *err)
{
	struct args *args = call->args;
	struct cli_open how = { .format = args->common.format,
		.spool_for = args->ami ? args->ami : "",
		.refs = CLI_REFS_BESIDE };
	struct job job = { .args = args };
	int result;

	if (check_args(args, err))
		return -1;
	if (!args->target.format && !vmimg_format_for_name(args->ami))
		args->target.format = "raw";
	job.target.format = cli_target_format(args->target.format, args->ami, err);
	if (!job.target.format)
		return -1;
	result = open_outputs(&job, err) ||
			cli_image_open(&job.source, call->words[0], &args->common, &how, err) ||
			find_parts(&job, err) || write_all(&job, err)
		? -1
		: report(&job, err);
	if (!result)
		warn(&job);
	job_done(&job);
	vmimg_options_done(&args->target.options.list);
	return result;
}

static const struct cli_option options[] = {
	{ 0, "aki", "FILE", "where the kernel goes", cli_set_text, offsetof(struct args, aki) },
	{ 0, "ari", "FILE", "where the ramdisk goes", cli_set_text, offsetof(struct args, ari) },
	{ 0, "ami", "FILE", "where the root file system goes", cli_set_text,
		offsetof(struct args, ami) },
	{ 'O', NULL, "FMT", "the format of the root file system's image (raw)", cli_set_text,
		offsetof(struct args, target.format) },
	{ 0, "force", NULL, "replace existing files", cli_set_flag,
		offsetof(struct args, target.force) },
	{ 0 },
};

static const struct cli_option *const groups[] = { options, cli_format_options, cli_source_options,
	cli_work_options, cli_report_options, NULL };

const struct cli_verb cli_split = {
	.name = "split",
	.operands = "DISK --aki KERNEL --ari RAMDISK --ami ROOT",
	.summary = "Takes a disk that starts apart into kernel, ramdisk and file system",
	.detail = "The kernel is the one that the disk's boot loader would start. Nothing is "
		  "mounted.",
	.least = 1,
	.most = 1,
	.args_size = sizeof(struct args),
	.reach = CLI_READS,
	.options = groups,
	.run = run,
};
