/* SPDX-License-Identifier: Apache-2.0 */
/* vmimg boot-disk: a kernel, a ramdisk and a root file system into one disk that starts. */
#include "bundle/boot_disk.h"
#include <string.h>
#include <sys/stat.h>
#include "bundle/kernel.h"
#include "bundle/ramdisk.h"
#include "cli/boot_parts.h"
#include "cli/progress.h"
#include "cli/target.h"
#include "engine/convert.h"
#include "inspect/fs.h"
#include "inspect/parts.h"
#include "inspect/view.h"
#include "io/file.h"

struct args {
	struct cli_common common;
	struct cli_target_args target;
	const char *aki, *ami, *ari, *append, *firmware;
	bool mbr;
};

struct job {
	const struct args *args;
	const char *to;
	struct cli_image ami;
	struct vmimg_io *kernel_io, *ramdisk_io, *root_io;
	struct vmimg_kernel kernel;
	struct vmimg_fs_info fs;
	char root_name[64]; /* "UUID=…" */
	char *os_release;
	struct cli_boot_parts parts;
	struct vmimg_io *whole_io;
	struct vmimg_disk *whole;
	struct cli_target target;
	struct vmimg_converted done;
};

static bool wants_bios(const struct args *args)
{
	return !args->firmware || strcmp(args->firmware, "efi") != 0;
}

static int check_args(const struct args *args, struct vmimg_error *err)
{
	if (!args->aki || !args->ami)
		return vmimg_fail(err, VMIMG_EINVAL,
			"it takes a kernel (--aki FILE) and a root file system (--ami FILE)");
	if (args->firmware && strcmp(args->firmware, "bios") && strcmp(args->firmware, "efi") &&
		strcmp(args->firmware, "both"))
		return vmimg_fail(err, VMIMG_EINVAL, "--firmware is bios, efi or both, not '%.40s'",
			args->firmware);
	return 0;
}

/* All files that are named, before anything in them is looked at. */
static int open_files(struct job *job, struct vmimg_error *err)
{
	const struct args *args = job->args;
	struct cli_open how = {
		.format = args->common.format, .spool_for = job->to, .refs = CLI_REFS_BESIDE
	};

	job->kernel_io = vmimg_file_open(args->aki, false, err);
	if (!job->kernel_io)
		return vmimg_within(err, "--aki");
	job->ramdisk_io = args->ari ? vmimg_file_open(args->ari, false, err) : NULL;
	if (args->ari && !job->ramdisk_io)
		return vmimg_within(err, "--ari");
	if (args->common.sandbox)
		cli_sandbox_read_beside(args->common.sandbox, args->ami);
	if (cli_image_open(&job->ami, args->ami, &args->common, &how, err))
		return vmimg_within(err, "--ami");
	if (cli_files_add(&job->ami.files, job->kernel_io, err) ||
		(job->ramdisk_io && cli_files_add(&job->ami.files, job->ramdisk_io, err)))
		return -1;
	return cli_files_spare(&job->ami.files, job->to, err);
}

static int read_kernel(struct job *job, struct vmimg_error *err)
{
	if (vmimg_kernel_read(job->kernel_io, &job->kernel, err))
		return vmimg_within(err, "--aki");
	if (job->kernel.cut_short)
		return vmimg_fail(err, VMIMG_ECORRUPT, "--aki: %s ends before its kernel does",
			vmimg_io_name(job->kernel_io));
	return 0;
}

static int read_ramdisk(struct job *job, struct vmimg_error *err)
{
	VMIMG_AUTO(free) struct vmimg_ramdisk *ramdisk = NULL;

	if (!job->args->ari)
		return 0;
	ramdisk = vmimg_new(struct vmimg_ramdisk, err);
	if (!ramdisk)
		return -1;
	if (vmimg_ramdisk_read(job->ramdisk_io, ramdisk, err))
		return vmimg_within(err, "--ari");
	return 0;
}

static int refuse_whole_disk(struct job *job, struct vmimg_error *err)
{
	__attribute__((cleanup(vmimg_parts_done_auto))) struct vmimg_parts parts = { 0 };

	if (vmimg_parts_read(job->root_io, job->ami.disk->sector_size, &parts, err))
		return -1;
	if (parts.scheme == VMIMG_SCHEME_NONE || !parts.count)
		return 0;
	return vmimg_fail(err, VMIMG_EINVAL,
		"--ami: %s is a whole disk with a partition table (%s), not one file system: "
		"vmimg split takes such a disk apart",
		vmimg_io_name(job->ami.io), vmimg_scheme_name(parts.scheme));
}

/* A name that may stand in the kernel's arguments. */
static bool is_plain(const char *text)
{
	return *text && strlen(text) < 50 &&
		!text[strspn(text,
			"abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ"
			"0123456789-_.:")];
}

/* Only a ramdisk looks into file systems for names; the kernel alone knows partitions. */
static void choose_root(struct job *job)
{
	if (!job->args->ari || !job->fs.type)
		return;
	if (is_plain(job->fs.uuid))
		snprintf(job->root_name, sizeof(job->root_name), "UUID=%s", job->fs.uuid);
	else if (is_plain(job->fs.label))
		snprintf(job->root_name, sizeof(job->root_name), "LABEL=%s", job->fs.label);
}

static void read_os_release(struct job *job)
{
	struct vmimg_error ignored;
	VMIMG_AUTO(vmimg_fs_close) struct vmimg_fs *fs = vmimg_fs_open(job->root_io, &ignored);
	size_t len;

	if (!fs)
		return;
	job->os_release = vmimg_fs_read_file(fs, "/etc/os-release", 16384, &len, &ignored);
	if (!job->os_release)
		job->os_release =
			vmimg_fs_read_file(fs, "/usr/lib/os-release", 16384, &len, &ignored);
	if (job->os_release && !*job->os_release) {
		free(job->os_release);
		job->os_release = NULL;
	}
}

static int read_root(struct job *job, struct vmimg_error *err)
{
	job->root_io = vmimg_view_open(job->ami.disk, err);
	if (!job->root_io || refuse_whole_disk(job, err) ||
		vmimg_fs_recognise(job->root_io, &job->fs, err))
		return -1;
	if (!job->fs.type && !job->args->common.quiet)
		cli_warn("warning: no file system is known in %s: it goes in as it is",
			vmimg_io_name(job->ami.io));
	if (job->fs.type)
		read_os_release(job);
	choose_root(job);
	return 0;
}

/* An old kernel has nothing that firmware could start. */
static bool wants_efi(const struct job *job)
{
	const char *firmware = job->args->firmware;

	if (firmware && strcmp(firmware, "both"))
		return !strcmp(firmware, "efi");
	if (!job->kernel.efi_stub && !job->args->common.quiet)
		cli_warn("warning: %s has no EFI stub: the disk starts under a BIOS only",
			vmimg_io_name(job->kernel_io));
	return job->kernel.efi_stub;
}

static int assemble(struct job *job, struct vmimg_error *err)
{
	const struct args *args = job->args;
	struct vmimg_boot_disk how = { .kernel = job->kernel_io,
		.ramdisk = job->ramdisk_io,
		.root = job->root_io,
		.root_name = *job->root_name ? job->root_name : NULL,
		.append = args->append,
		.os_release = job->os_release,
		.mbr = args->mbr,
		.unique = args->target.unique };
	struct vmimg_open raw = { .format = "raw" };

	if (cli_read_epoch(&how.epoch, err) ||
		cli_boot_parts_find(&job->parts, job->kernel.architecture, wants_bios(args),
			wants_efi(job), &how, err))
		return -1;
	if (!how.stub && !how.boot_code)
		return vmimg_fail(err, VMIMG_EUNSUPPORTED,
			"a kernel for %s without an EFI stub cannot be started by anything",
			job->kernel.architecture);
	job->whole_io = vmimg_boot_disk_open(&how, err);
	job->whole = job->whole_io ? vmimg_disk_open(job->whole_io, &raw, err) : NULL;
	return job->whole ? 0 : -1;
}

static int write_out(struct job *job, struct vmimg_error *err)
{
	const struct cli_common *common = &job->args->common;
	struct cli_progress progress;
	struct vmimg_convert convert = { .disk = job->whole,
		.how = { .threads = common->threads,
			.cancel = cli_catch_signals(),
			.progress = cli_progress_step,
			.progress_ctx = &progress } };
	int failed;

	if (cli_target_begin(&job->target, &job->args->target, common, job->whole->size, err))
		return -1;
	convert.sink = job->target.sink;
	cli_progress_begin(&progress, common, !strcmp(job->to, "-"));
	failed = vmimg_convert_run(&convert, &job->done, err) ||
		cli_target_publish(&job->target, err);
	cli_progress_end(&progress);
	return failed ? -1 : 0;
}

static int report(const struct job *job, struct vmimg_error *err)
{
	json_t *root;

	if (!job->args->common.json)
		return CLI_OK;
	root = json_object();
	vmimg_json_uint(root, "virtual-size", job->whole->size);
	json_object_set_new(root, "schema", json_string("vmimg.boot-disk/1"));
	vmimg_json_text(root, "filename", job->to);
	vmimg_json_text(root, "format", job->target.format->name);
	vmimg_json_text(root, "partition-table", job->args->mbr ? "mbr" : "gpt");
	if (job->fs.type)
		vmimg_json_text(root, "file-system", job->fs.type);
	return cli_print_json(strcmp(job->to, "-") ? stdout : stderr, root, err);
}

static void job_done(struct job *job)
{
	cli_target_close(&job->target);
	vmimg_disk_close(job->whole);
	vmimg_io_unref(job->whole_io);
	cli_boot_parts_done(&job->parts);
	free(job->os_release);
	vmimg_io_unref(job->root_io);
	vmimg_io_unref(job->ramdisk_io);
	vmimg_io_unref(job->kernel_io);
	cli_image_close(&job->ami);
}

static int run(const struct cli_call *call, struct vmimg_error *err)
{
	struct args *args = call->args;
	struct job job = {
		.args = args, .to = call->count ? call->words[0] : "", .parts.helper = -1
	};
	int result;

	job.target.format = cli_target_format(args->target.format, job.to, err);
	if (!job.target.format)
		return -1;
	if (args->target.options.help) {
		cli_print_create_options(job.target.format, true);
		return CLI_OK;
	}
	if (!call->count)
		return vmimg_fail(err, VMIMG_EINVAL, "it takes OUT, the disk to be made");
	result = check_args(args, err) || cli_boot_parts_begin(&job.parts, wants_bios(args), err) ||
			cli_target_open(&job.target, job.to, &args->target, &args->common, err) ||
			open_files(&job, err) || read_kernel(&job, err) ||
			read_ramdisk(&job, err) || read_root(&job, err) || assemble(&job, err) ||
			write_out(&job, err)
		? -1
		: report(&job, err);
	job_done(&job);
	vmimg_options_done(&args->target.options.list);
	return result;
}

static const struct cli_option options[] = {
	{ 0, "aki", "FILE", "the kernel", cli_set_text, offsetof(struct args, aki) },
	{ 0, "ami", "FILE", "the root file system, in any format", cli_set_text,
		offsetof(struct args, ami) },
	{ 0, "ari", "FILE", "the ramdisk", cli_set_text, offsetof(struct args, ari) },
	{ 0, "append", "ARGS", "more arguments for the kernel", cli_set_text,
		offsetof(struct args, append) },
	{ 0, "mbr", NULL, "an MBR partition table instead of a GPT", cli_set_flag,
		offsetof(struct args, mbr) },
	{ 0, "firmware", "KIND", "what is to start it: bios, efi or both (both)", cli_set_text,
		offsetof(struct args, firmware) },
	{ 'O', NULL, "FMT", "the format of OUT (by its suffix)", cli_set_text,
		offsetof(struct args, target.format) },
	CLI_TARGET_OPTIONS(struct args, target),
	{ 'c', NULL, NULL, "compress", cli_set_flag, offsetof(struct args, target.compress) },
	{ 0, "max-output", "SIZE", "do not let OUT become larger", cli_set_size,
		offsetof(struct args, common.max_output) },
	{ 0 },
};

static const struct cli_option *const groups[] = { options, cli_format_options, cli_source_options,
	cli_work_options, cli_report_options, NULL };

const struct cli_verb cli_boot_disk = {
	.name = "boot-disk",
	.operands = "--aki KERNEL --ami ROOT [--ari RAMDISK] OUT",
	.summary = "Makes one disk that starts of a kernel, a ramdisk and a file system",
	.detail =
		"The disk starts under a BIOS by syslinux and under UEFI by systemd's stub, which\n"
		"must be installed here. The root file system is the last partition.",
	.most = 1,
	.args_size = sizeof(struct args),
	.reach = CLI_READS_TO_LAST,
	.options = groups,
	.run = run,
};
