/* SPDX-License-Identifier: Apache-2.0 */
/* vmimg pack: disks, and what is said of the machine around them, into a bundle. */
#include <inttypes.h>
#include <string.h>
#include <strings.h>
#include <unistd.h>
#include "bundle/bundle.h"
#include "bundle/ovf_targets.h"
#include "cli/machine_args.h"
#include "cli/pack_cloud.h"
#include "cli/progress.h"
#include "cli/target.h"
#include "engine/convert.h"
#include "io/null.h"

struct args {
	struct cli_common common;
	struct cli_machine_args machine;
	struct cli_cloud_args cloud;
	const char *output, *kind, *target, *hash;
	enum vmimg_level level;
	bool force, no_sync;
};

struct job {
	const struct args *args;
	const struct vmimg_bundle_format *format;
	struct cli_image *images; /* one for each drive */
	size_t count;
	struct vmimg_machine machine;
	struct vmimg_pool pool;
	struct vmimg_output *output;
	struct vmimg_siblings siblings;
	struct vmimg_bundle_sink *sink, *rehearsed;
	char *name;              /* of the members, without suffix */
	char *key, *certificate; /* texts */
	uint64_t epoch;
	uint64_t total, before; /* guest bytes of all drives, and of those that are done */
	struct cli_progress progress;
};

/* ---- what is asked for ------------------------------------------------------------------- */

static int choose_format(struct job *job, struct vmimg_error *err)
{
	const struct args *args = job->args;

	if (!args->output)
		return vmimg_fail(err, VMIMG_EINVAL, "it takes an output (-o FILE)");
	job->format = args->kind ? vmimg_bundle_format_find(args->kind)
				 : vmimg_bundle_format_for_name(args->output);
	if (!job->format)
		return vmimg_fail(err, VMIMG_EINVAL,
			args->kind ? "unknown kind of bundle '%.80s'"
				   : "the suffix of %.80s does not tell a kind of bundle: state "
				     "it with -O",
			args->kind ? args->kind : args->output);
	if (!job->format->create)
		return vmimg_fail(err, VMIMG_EINVAL, "%s is read, not written", job->format->title);
	if (!args->common.key != !args->common.certificate)
		return vmimg_fail(err, VMIMG_EINVAL, "--key and --cert go together");
	return 0;
}

static bool is_iso(const char *path)
{
	size_t len = strlen(path);

	return len > 4 && !strcasecmp(path + len - 4, ".iso");
}

static const char *base_name(const char *path)
{
	const char *slash = strrchr(path, '/');

	return slash ? slash + 1 : path;
}

static int add_drive(struct job *job, const char *path, struct vmimg_error *err)
{
	struct cli_open how = { .format = is_iso(path) ? "raw" : job->args->common.format,
		.spool_for = job->args->output,
		.refs = CLI_REFS_BESIDE };
	struct cli_image *image = &job->images[job->count];
	struct cli_common quiet = job->args->common;
	struct vmimg_drive *drive;

	job->count++;
	quiet.quiet |= is_iso(path);
	if (cli_image_open(image, path, &quiet, &how, err))
		return -1;
	drive = vmimg_machine_add(
		job->machine.drives, job->machine.drive_count, job->machine.drive_cap, err);
	if (!drive)
		return -1;
	drive->kind = is_iso(path) ? VMIMG_DRIVE_CD : VMIMG_DRIVE_DISK;
	drive->capacity = image->disk->size;
	drive->controller = VMIMG_NONE;
	if (drive->kind == VMIMG_DRIVE_CD)
		drive->file = vmimg_pool_text(&job->pool, base_name(path), err);
	job->total += image->disk->size;
	return drive->kind == VMIMG_DRIVE_CD && !drive->file ? -1 : 0;
}

static int set_name(struct job *job, struct vmimg_error *err)
{
	const char *name = job->args->machine.name;
	bool pipe = !strcmp(job->args->output, "-");
	const char *base = !pipe ? base_name(job->args->output) : name ? name : "machine";
	const char *dot = pipe ? NULL : strrchr(base, '.');

	job->name = dot && dot > base ? strndup(base, (size_t)(dot - base)) : strdup(base);
	if (!job->name)
		return vmimg_fail_nomem(err);
	job->machine.name = name ? name : job->name;
	return 0;
}

static int describe(struct job *job, struct vmimg_error *err)
{
	const struct args *args = job->args;

	job->machine.cpus = 1;
	job->machine.memory = UINT64_C(1) << 30;
	job->machine.hardware = NULL;
	if (set_name(job, err) || cli_machine_apply(&args->machine, &job->machine, &job->pool, err))
		return -1;
	if (args->common.key &&
		(!(job->key = cli_read_text(args->common.key, err)) ||
			!(job->certificate = cli_read_text(args->common.certificate, err))))
		return -1;
	return cli_read_epoch(&job->epoch, err);
}

/* ---- where it goes: in the place of no file that is read ---- */

static int spare(const struct job *job, const char *path, struct vmimg_error *err)
{
	for (size_t i = 0; i < job->count; i++)
		if (cli_files_spare(&job->images[i].files, path, err))
			return -1;
	return 0;
}

/* ---- doing it ---------------------------------------------------------------------------- */

static struct vmimg_io *new_sibling(
	struct vmimg_siblings *siblings, const char *name, struct vmimg_error *err)
{
	struct job *job = (struct job *)(void *)((char *)siblings - offsetof(struct job, siblings));
	VMIMG_AUTO(free) char *path = cli_path_beside(job->args->output, name, err);

	return !path || spare(job, path, err) ? NULL : vmimg_output_sibling(job->output, name, err);
}

static int open_output(struct job *job, struct vmimg_error *err)
{
	const struct args *args = job->args;
	struct vmimg_output_how how = { .replace = args->force, .no_sync = args->no_sync };

	if (!strcmp(args->output, "-") && isatty(STDOUT_FILENO))
		return vmimg_fail(err, VMIMG_EINVAL, "a bundle is not written to a terminal");
	if (spare(job, args->output, err))
		return -1;
	job->output = vmimg_output_open(args->output, &how, err);
	if (!job->output)
		return -1;
	job->siblings.create = new_sibling;
	job->siblings.main_name = vmimg_output_name(job->output);
	return 0;
}

static int begin(struct job *job, struct vmimg_io *io, struct vmimg_error *err)
{
	const struct args *args = job->args;
	struct vmimg_bundle_create create = { .io = io,
		.siblings = &job->siblings,
		.machine = &job->machine,
		.name = job->name,
		.target = args->target,
		.hash = args->hash,
		.key = job->key,
		.certificate = job->certificate,
		.rehearsed = job->rehearsed,
		.epoch = job->epoch };

	job->sink = job->format->create(&create, err);
	return job->sink ? 0 : -1;
}

static void step(void *ctx, uint64_t done, uint64_t total)
{
	struct job *job = ctx;

	(void)total;
	cli_progress_step(&job->progress, job->before + done, job->total);
}

static struct vmimg_sink *new_disk(
	struct job *job, size_t i, struct vmimg_io *io, struct vmimg_error *err)
{
	bool cd = job->machine.drives[i].kind == VMIMG_DRIVE_CD;
	struct vmimg_create create = { .size = job->images[i].disk->size,
		.options = cd ? NULL : job->sink->options,
		.level = job->args->level,
		.epoch = job->epoch };
	const struct vmimg_format *format = vmimg_format_find(cd ? "raw" : job->sink->disk_format);

	return vmimg_sink_create(format, io, &create, err);
}

static int add_disk(struct job *job, size_t i, struct vmimg_error *err)
{
	struct vmimg_disk *disk = job->images[i].disk;
	VMIMG_AUTO(vmimg_sink_close) struct vmimg_sink *sink = NULL;
	struct vmimg_convert convert = { .disk = disk,
		.how = { .threads = job->args->common.threads,
			.cancel = cli_catch_signals(),
			.progress = step,
			.progress_ctx = job } };
	struct vmimg_converted done;
	struct vmimg_io *io;

	if (job->sink->ops->begin(job->sink, i, VMIMG_TAR_SIZE_LATER, &io, err))
		return -1;
	sink = new_disk(job, i, io, err);
	if (!sink)
		return -1;
	sink->keeps_absent = false;
	convert.sink = sink;
	if (vmimg_convert_run(&convert, &done, err))
		return -1;
	job->before += disk->size;
	return job->sink->ops->end(job->sink, i, disk->size - done.bytes_zero, err);
}

/* The whole bundle, once. */
static int write_bundle(
	struct job *job, const struct cli_call *call, struct vmimg_io *io, struct vmimg_error *err)
{
	if (begin(job, io, err))
		return -1;
	for (size_t i = 0; i < job->count; i++)
		if (add_disk(job, i, err))
			return vmimg_within(err, "%.100s", call->words[i]);
	return job->sink->ops->finish(job->sink, err);
}

/* For an output that cannot go back: all work is done once for the sizes and digests alone. */
static int rehearse(struct job *job, const struct cli_call *call, struct vmimg_error *err)
{
	VMIMG_AUTO(vmimg_io_unref) struct vmimg_io *null = vmimg_null_new("a rehearsal", err);

	if (!null || write_bundle(job, call, null, err))
		return -1;
	job->rehearsed = vmimg_take(job->sink);
	return 0;
}

static int pack(struct job *job, const struct cli_call *call, struct vmimg_error *err)
{
	struct vmimg_io *io;
	bool twice;
	int failed;

	if (choose_format(job, err) || describe(job, err))
		return -1;
	if (job->args->common.sandbox)
		cli_sandbox_write(job->args->common.sandbox, job->args->output);
	for (size_t i = 0; i < call->count; i++)
		if (add_drive(job, call->words[i], err))
			return -1;
	if (open_output(job, err))
		return -1;
	io = vmimg_output_io(job->output);
	twice = io->in_order && job->format->rehearses;
	job->total *= twice ? 2 : 1;
	cli_progress_begin(&job->progress, &job->args->common, !strcmp(job->args->output, "-"));
	failed = (twice && rehearse(job, call, err)) || write_bundle(job, call, io, err);
	cli_progress_end(&job->progress);
	return failed ? -1 : vmimg_output_publish(job->output, err);
}

/* One image and what starts it. */
static int run_cloud(const struct args *args, const char *kind, const struct cli_call *call,
	struct vmimg_error *err)
{
	struct cli_cloud_pack pack = { .common = &args->common,
		.args = &args->cloud,
		.kind = kind,
		.output = args->output,
		.source = call->words[0],
		.name = args->machine.name,
		.force = args->force,
		.no_sync = args->no_sync };

	if (!args->output)
		return vmimg_fail(err, VMIMG_EINVAL, "it takes an output (-o FILE)");
	if (call->count != 1)
		return vmimg_fail(err, VMIMG_EINVAL, "such a bundle has one image");
	return cli_pack_cloud(&pack, err) ? -1 : CLI_OK;
}

static int run(const struct cli_call *call, struct vmimg_error *err)
{
	struct job job = { .args = call->args };
	const struct vmimg_bundle_format *by_name = job.args->output && !job.args->kind
		? vmimg_bundle_format_for_name(job.args->output)
		: NULL;
	const char *kind = by_name ? by_name->name : job.args->kind;
	int result = -1;

	if (cli_is_cloud(kind))
		return run_cloud(job.args, kind, call, err);
	job.images = vmimg_alloc_array(call->count + 1, sizeof(*job.images), err);
	if (job.images)
		result = pack(&job, call, err);
	vmimg_bundle_sink_close(job.sink);
	vmimg_bundle_sink_close(job.rehearsed);
	vmimg_output_close(job.output);
	for (size_t i = 0; i < job.count; i++)
		cli_image_close(&job.images[i]);
	free(job.images);
	vmimg_machine_done(&job.machine);
	vmimg_pool_done(&job.pool);
	free(job.name);
	free(job.key);
	free(job.certificate);
	return result ? -1 : CLI_OK;
}

static const struct cli_option options[] = {
	{ 'o', NULL, "FILE", "the bundle; its suffix tells the kind", cli_set_text,
		offsetof(struct args, output) },
	{ 'O', NULL, "KIND", "the kind of bundle: ova, ovf, ami, uec, ec2", cli_set_text,
		offsetof(struct args, kind) },
	{ 0, "target", "TARGET", "for whom: " VMIMG_OVF_TARGETS, cli_set_text,
		offsetof(struct args, target) },
	CLI_MACHINE_OPTIONS(struct args, machine),
	CLI_CLOUD_OPTIONS(struct args, cloud),
	{ 0, "bus", "BUS", "of the disks: scsi, sata, ide or nvme", cli_set_text,
		offsetof(struct args, machine.bus) },
	{ 0, "hash", "NAME", "of the manifest: sha1, sha256 or sha512 (sha256)", cli_set_hash,
		offsetof(struct args, hash) },
	{ 0, "level", "LEVEL", "of compression: fast, default or best", cli_set_level,
		offsetof(struct args, level) },
	{ 0, "force", NULL, "replace an existing file", cli_set_flag,
		offsetof(struct args, force) },
	{ 't', NULL, "CACHE", "unsafe: do not wait for storage; anything else waits", cli_set_cache,
		offsetof(struct args, no_sync) },
	{ 0 },
};

static const struct cli_option *const groups[] = { options, cli_format_options, cli_source_options,
	cli_work_options, NULL };

const struct cli_verb cli_pack = {
	.name = "pack",
	.operands = "DISK...",
	.summary = "Builds a bundle: OVA, OVF with its files, UEC tarball, EC2",
	.detail = "Each DISK becomes a stream-optimised VMDK, made and hashed in one pass while "
		  "the bundle is\nwritten; an .iso becomes a CD.",
	.least = 1,
	.most = CLI_MAX_REPEATS,
	.args_size = sizeof(struct args),
	.reach = CLI_READS,
	.options = groups,
	.run = run,
};
