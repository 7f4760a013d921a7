/* SPDX-License-Identifier: Apache-2.0 */
/* vmimg convert: a disk in one format into a disk in another. */
#include "cli/convert.h"
#include <inttypes.h>
#include <string.h>
#include "cli/convert_in_place.h"
#include "cli/keep_chain.h"
#include "cli/lay.h"
#include "cli/lost.h"
#include "cli/progress.h"
#include "disk/report.h"
#include "engine/convert.h"
#include "engine/digest.h"
#include "engine/salvage.h"
#include "util/text.h"

struct job {
	const struct cli_convert_args *args;
	const char *const *from; /* names of the sources */
	size_t from_count;
	const char *to;
	struct cli_sources sources;
	struct vmimg_disk *disk; /* what they are together */
	struct cli_target target;
	struct vmimg_salvage salvage; /* between disk and the sources, with --salvage */
	struct vmimg_lost unread;
	struct vmimg_converted done;
	json_t *lost;
	double seconds;
	char digest[2 * VMIMG_HASH_MAX + 1];
};

/* What the source's top layer lacks is left to the new backing file, which must be as large. */
static int check_backing(const struct job *job, struct vmimg_error *err)
{
	const struct vmimg_disk *old = job->disk->parent;
	const struct vmimg_disk *new = job->target.parent.disk;

	if (!old || !new || old->size == new->size)
		return 0;
	return vmimg_fail(err, VMIMG_EINVAL,
		"the new backing file has %" PRIu64 " bytes and the source's %" PRIu64
		": they cannot have the same content",
		new->size, old->size);
}

/* --strict: what check would call wrong is not converted. */
static int check_strictly(struct job *job, struct vmimg_error *err)
{
	const struct vmimg_disk *disk = job->disk;
	VMIMG_AUTO(free) struct vmimg_report *report = NULL;
	size_t warnings = json_array_size(disk->warnings);

	if (!job->args->common.strict)
		return 0;
	if (warnings)
		return vmimg_fail(err, VMIMG_ECORRUPT, "%s: %s (--strict)", vmimg_io_name(disk->io),
			json_string_value(json_array_get(disk->warnings, 0)));
	report = vmimg_new(struct vmimg_report, err);
	if (!report)
		return -1;
	if (disk->format->check && disk->format->check(job->disk, report, err))
		return -1;
	for (unsigned i = 0; i < report->kept_count; i++)
		if (report->kept[i].severity >= VMIMG_FINDING_CORRUPTION)
			return vmimg_fail(err, VMIMG_ECORRUPT, "%s: %s (--strict)",
				vmimg_io_name(disk->io), report->kept[i].text);
	return 0;
}

static void warn_unread(void *ctx, uint64_t at, uint64_t len, const struct vmimg_error *why)
{
	(void)ctx, (void)len;
	cli_warn("warning: error while reading offset %" PRIu64 ": %s", at, why->text);
}

/* With --salvage, what the tables have lost is found before anything is read, and read as zeroes. */
static int survey(struct job *job, struct vmimg_error *err)
{
	struct vmimg_run_how how = { .cancel = cli_catch_signals() };
	struct vmimg_error why = { 0 };

	if (!job->args->salvage)
		return 0;
	if (vmimg_survey_run(job->disk, &how, &job->unread, err))
		return -1;
	snprintf(why.text, sizeof(why.text), "%s", job->unread.why);
	for (size_t i = 0; i < job->unread.count && !job->args->common.quiet; i++)
		warn_unread(NULL, job->unread.ranges[i].at, job->unread.ranges[i].len, &why);
	vmimg_salvage_init(&job->salvage, job->disk, &job->unread);
	job->disk = &job->salvage.disk;
	return 0;
}

static int open_source(struct job *job, struct vmimg_error *err)
{
	const struct cli_common *common = &job->args->common;
	struct cli_open how = { .format = common->format,
		.snapshot = job->args->snapshot,
		.spool_for = job->to,
		.refs = CLI_REFS_BESIDE,
		.told = common->strict }; /* check_strictly takes a warning for an error */

	if (cli_sources_open(&job->sources, job->from, job->from_count, &job->args->window, common,
		    &how, err))
		return -1;
	job->disk = cli_sources_disk(&job->sources);
	return cli_files_spare(&job->sources.images[0].files, job->to, err) ||
			check_strictly(job, err) || survey(job, err)
		? -1
		: 0;
}

static int copy(struct job *job, struct vmimg_error *err)
{
	const struct cli_common *common = &job->args->common;
	bool all = job->args->sparse.given && !job->args->sparse.bytes; /* -S 0 */
	struct vmimg_sink *sink = job->target.sink;
	struct cli_progress progress;
	struct vmimg_convert convert = { .disk = job->disk,
		.sink = sink,
		.keep_zeroes = all,
		.fill = all,
		.unread = job->args->salvage ? warn_unread : NULL,
		.how = { .threads = common->threads,
			.cancel = cli_catch_signals(),
			.progress = cli_progress_step,
			.progress_ctx = &progress } };
	int failed;

	cli_progress_begin(&progress, common, !strcmp(job->to, "-"));
	failed = vmimg_convert_run(&convert, &job->done, err) ||
		cli_target_publish(&job->target, err);
	job->seconds = cli_seconds_since(&progress.begun);
	cli_progress_end(&progress);
	return failed ? -1 : 0;
}

/* Of the source, through the same map and reader that the conversion uses. */
static int take_digest(struct job *job, struct vmimg_error *err)
{
	struct vmimg_run_how how = { .threads = job->args->common.threads,
		.cancel = cli_catch_signals() };

	if (!job->args->digest)
		return 0;
	return vmimg_digest_run(job->disk, job->args->digest, &how, job->digest, err);
}

/* Of bitmaps that were asked for, one that was not closed is an error, or left out and told. */
static int check_bitmaps(const struct job *job, struct vmimg_error *err)
{
	for (size_t i = 0; i < job->disk->bitmap_count; i++) {
		const struct vmimg_bitmap *bitmap = &job->disk->bitmaps[i];
		char name[80];

		if (!bitmap->in_use)
			continue;
		vmimg_escape(name, sizeof(name), bitmap->name, strlen(bitmap->name));
		if (!job->args->skip_broken)
			return vmimg_fail(err, VMIMG_EREFUSED,
				"Cannot copy inconsistent bitmap '%s' (--skip-broken-bitmaps "
				"leaves it out)",
				name);
		if (job->args->common.face && !job->args->common.quiet)
			cli_warn("warning: Skipping inconsistent bitmap '%s'", name);
	}
	return 0;
}

/* As they are carried whenever they can be, asking for them is asking for an error where they
 * cannot. A caller of qemu-img gets them only then. *carries: they will be in the target. */
static int carry_bitmaps(struct job *job, bool *carries, struct vmimg_error *err)
{
	const struct cli_convert_args *args = job->args;
	const struct vmimg_disk *from = job->sources.images[0].disk;
	struct vmimg_sink *sink = job->target.sink;

	*carries = sink->ops->carry_bitmaps && !args->snapshot &&
		(args->bitmaps || !args->common.face);
	if (args->bitmaps && !*carries)
		return vmimg_fail(err, VMIMG_EUNSUPPORTED, "format %s does not take bitmaps",
			job->target.format->name);
	if (args->bitmaps && (job->from_count > 1 || strcmp(from->format->name, "qcow2") != 0))
		return vmimg_fail(err, VMIMG_EUNSUPPORTED, "%s",
			job->from_count > 1 ? "Copying bitmaps only possible with single source"
					    : "Source lacks bitmap support");
	if (!*carries || !job->disk->bitmap_count)
		return 0;
	if (args->bitmaps && check_bitmaps(job, err))
		return -1;
	return sink->ops->carry_bitmaps(sink, job->disk, err);
}

static int begin(struct job *job, struct vmimg_error *err)
{
	const struct cli_convert_args *args = job->args;

	if (!cli_target_begin(&job->target, &args->target, &args->common, job->disk->size, err))
		return 0;
	return args->common.face ? vmimg_within(err, "%s: error while converting %s", job->to,
					   cli_qemu_name(job->target.format))
				 : -1;
}

static int convert(struct job *job, struct vmimg_error *err)
{
	const struct cli_convert_args *args = job->args;
	bool carries;

	if (cli_target_open(&job->target, job->to, &args->target, &args->common, err) ||
		open_source(job, err))
		return -1;
	job->target.source = &job->sources.images[0].files;
	if (begin(job, err) || check_backing(job, err) || carry_bitmaps(job, &carries, err))
		return -1;
	job->lost = cli_lost(job->disk, carries, err);
	return job->lost && !take_digest(job, err) ? copy(job, err) : -1;
}

static json_t *side_json(const char *path, const char *format)
{
	json_t *side = json_object();

	vmimg_json_text(side, "filename", path);
	vmimg_json_text(side, "format", format);
	return side;
}

static int print_summary(const struct job *job, const char *from_format, const char *to_format,
	uint64_t size, struct vmimg_error *err)
{
	const struct vmimg_converted *done = &job->done;
	json_t *root = json_object();

	vmimg_json_uint(root, "virtual-size", size);
	json_object_set_new(root, "schema", json_string("vmimg.convert/1"));
	json_object_set_new(root, "source", side_json(job->from[0], from_format));
	json_object_set_new(root, "target", side_json(job->to, to_format));
	vmimg_json_uint(root, "bytes-read", done->bytes_read);
	vmimg_json_uint(root, "bytes-written", done->bytes_written);
	vmimg_json_uint(root, "bytes-cloned", done->bytes_cloned);
	vmimg_json_uint(root, "bytes-zero", done->bytes_zero);
	json_object_set_new(root, "seconds", json_real(job->seconds));
	vmimg_json_uint(root, "threads", done->threads);
	if (job->args->digest) {
		json_t *digest = json_object();

		vmimg_json_text(digest, job->args->digest, job->digest);
		json_object_set_new(root, "digest", digest);
	}
	json_object_set(root, "lost", job->lost);
	return cli_print_json(strcmp(job->to, "-") ? stdout : stderr, root, err);
}

static void warn_shared(const struct job *job)
{
	if (job->done.shared_blocks)
		cli_warn("warning: %s is damaged: %" PRIu64
			 " blocks of it serve more than one place, first at guest offset 0x%" PRIx64
			 " (vmimg check says more; --strict refuses)",
			vmimg_io_name(job->disk->io), job->done.shared_blocks, job->done.shared_at);
}

static int report(struct job *job, struct vmimg_error *err)
{
	char name[400];

	if (!job->args->common.quiet) {
		warn_shared(job);
		if (!job->args->common.face)
			cli_print_lost(job->lost);
		if (!job->args->common.face && !strcmp(job->target.format->name, "raw") &&
			strcmp(job->disk->format->name, "raw"))
			cli_warn_disguise(job->disk, job->to);
	}
	if (job->args->common.json)
		return print_summary(job, job->disk->format->name, job->target.format->name,
			job->target.sink->size, err);
	if (job->args->digest)
		fprintf(strcmp(job->to, "-") ? stdout : stderr, "%s  %s\n", job->digest,
			vmimg_escape(name, sizeof(name), job->to, strlen(job->to)));
	return CLI_OK;
}

/* Layer by layer; each becomes a file beside DST. */
static int keep_chain(const struct job *job, struct vmimg_error *err)
{
	const struct cli_convert_args *args = job->args;

	if (job->from_count > 1 || args->target.backing || args->snapshot || args->digest ||
		args->window.skip || args->window.length.given || args->target.in_place ||
		!strcmp(job->to, "-"))
		return vmimg_fail(
			err, VMIMG_EINVAL, "--keep-chain is for one image as a whole, into files");
	return cli_keep_chain(
		job->from[0], job->to, job->target.format, &args->target, &args->common, err);
}

/* Into a raw disk from its beginning on: a new image, written where the old one is. */
static bool is_plain(const struct job *job)
{
	return !strcmp(job->target.format->name, "raw") && !job->args->into;
}

static int lay(struct job *job, struct vmimg_error *err)
{
	const struct cli_convert_args *args = job->args;
	struct cli_lay lay = { .from = job->from,
		.from_count = job->from_count,
		.to = job->to,
		.format = args->target.format,
		.snapshot = args->snapshot,
		.window = args->window,
		.grow = args->into };
	struct cli_laid laid = { 0 };

	if (args->digest || args->bitmaps || args->target.backing || args->target.compress ||
		args->target.options.list.count)
		return vmimg_fail(err, VMIMG_EINVAL,
			"what is written into an image that is there takes no options of a new "
			"one");
	if (cli_lay_run(&lay, &args->common, &laid, err))
		return -1;
	if (!args->common.json)
		return CLI_OK;
	job->done = laid.done;
	job->seconds = laid.seconds;
	job->lost = json_array();
	return print_summary(job, laid.from_format, laid.to_format, laid.size, err);
}

static int convert_in_place(const struct cli_call *call, struct vmimg_error *err)
{
	struct cli_convert_args *args = call->args;
	const char *to = call->count == 2 ? call->words[1] : NULL;
	const struct vmimg_format *format;
	int result;

	if (!call->count || call->count > 2 || args->snapshot || args->target.backing ||
		args->window.skip || args->window.length.given || args->target.compress)
		return vmimg_fail(
			err, VMIMG_EINVAL, "--in-place takes SRC as it is, and maybe its new name");
	format = cli_target_format(args->target.format, to ? to : call->words[0], err);
	if (!format)
		return -1;
	result =
		cli_convert_in_place(call->words[0], to, format, &args->target, &args->common, err);
	vmimg_options_done(&args->target.options.list);
	return result;
}

static int take_options(struct cli_convert_args *args, const struct vmimg_format *format,
	struct vmimg_error *err)
{
	if (cli_target_split_options(&args->target, NULL, err) ||
		(args->common.face && cli_target_face_options(&args->target, format, err)))
		return -1;
	cli_target_drop_options(&args->target);
	return 0;
}

static int do_job(struct job *job, struct vmimg_error *err)
{
	if (job->args->common.face && job->args->target.backing &&
		!job->args->target.backing_format)
		return vmimg_fail(
			err, VMIMG_EINVAL, "Use of backing file requires explicit backing format");
	if (job->args->target.backing && job->from_count > 1)
		return vmimg_fail(err, VMIMG_EINVAL,
			"Having a backing file for the target makes no sense when concatenating "
			"multiple input images");
	if (job->args->keep_chain)
		return keep_chain(job, err);
	if (job->args->target.in_place && !is_plain(job))
		return lay(job, err);
	return convert(job, err) ? -1 : report(job, err);
}

int cli_convert_run(const struct cli_call *call, struct vmimg_error *err)
{
	struct cli_convert_args *args = call->args;
	struct job job = { .args = args };
	int result;

	job.from = call->words;
	job.from_count = call->count ? call->count - 1 : 0;
	job.to = call->count ? call->words[call->count - 1] : "";
	if (args->in_place)
		return convert_in_place(call, err);
	if (!call->count && !args->target.format && !args->common.face)
		return vmimg_fail(err, VMIMG_EINVAL, "it takes SRC and DST");
	job.target.format = args->into ? vmimg_format_find("raw")
				       : cli_target_format(args->target.format, job.to, err);
	if (!job.target.format)
		return -1;
	if (args->target.options.help) {
		cli_print_create_options(job.target.format, job.from_count);
		return CLI_OK;
	}
	if (!job.from_count)
		return vmimg_fail(err, VMIMG_EINVAL,
			args->common.face ? "Must specify image file name"
					  : "it takes SRC and DST");
	if (args->common.face && args->target.in_place && args->target.options.list.count)
		return vmimg_fail(
			err, VMIMG_EINVAL, "-o has no effect when skipping image creation");
	result = take_options(args, job.target.format, err) ? -1 : do_job(&job, err);
	cli_target_close(&job.target);
	cli_sources_close(&job.sources);
	vmimg_lost_done(&job.unread);
	vmimg_options_done(&args->target.options.list);
	json_decref(job.lost);
	return result;
}

static int set_skip(void *to, const char *value, struct vmimg_error *err)
{
	struct cli_size size;

	if (cli_set_length(&size, value, err))
		return -1;
	*(uint64_t *)to = size.bytes;
	return 0;
}

static int set_sparse(void *to, const char *value, struct vmimg_error *err)
{
	struct cli_size *size = to;

	if (cli_set_length(to, value, err))
		return -1;
	return size->bytes % 512 ? vmimg_fail(err, VMIMG_EINVAL, "it is a multiple of 512") : 0;
}

static const struct cli_option options[] = {
	{ 'O', NULL, "FMT", "the format of DST (by its suffix)", cli_set_text,
		offsetof(struct cli_convert_args, target.format) },
	CLI_TARGET_OPTIONS(struct cli_convert_args, target),
	CLI_BACKING_FORMAT_OPTION(struct cli_convert_args, target),
	{ 'c', NULL, NULL, "compress", cli_set_flag,
		offsetof(struct cli_convert_args, target.compress) },
	{ 0, "level", "LEVEL", "of compression: fast, default or best", cli_set_level,
		offsetof(struct cli_convert_args, target.level) },
	{ 'B', NULL, "FILE", "DST's backing file: what SRC's top layer lacks is left to it",
		cli_set_text, offsetof(struct cli_convert_args, target.backing) },
	{ 'b', NULL, "FILE", NULL, cli_set_text,
		offsetof(struct cli_convert_args, target.backing) },
	{ 'u', NULL, NULL, "do not open DST's backing file", cli_set_flag,
		offsetof(struct cli_convert_args, target.blind) },
	{ 'l', NULL, "SNAPSHOT", "convert an internal snapshot, by id or name", cli_set_text,
		offsetof(struct cli_convert_args, snapshot) },
	{ 'n', NULL, NULL, "write into DST as it is, a device or an image", cli_set_flag,
		offsetof(struct cli_convert_args, target.in_place) },
	{ 'S', NULL, "SIZE", "0: all of DST is data, zeroes as well; any other size has no effect",
		set_sparse, offsetof(struct cli_convert_args, sparse) },
	{ 'W', NULL, NULL, "accepted, and without effect: writes are always out of order",
		cli_set_nothing, 0 },
	{ 0, "digest", "NAME", "a digest of the disk as well: sha256, tree ...", cli_set_text,
		offsetof(struct cli_convert_args, digest) },
	{ 0, "in-place", NULL,
		"the data stays where it is: between raw, fixed VHD and flat VMDK; raw to qcow2, "
		"vhdx, vdi",
		cli_set_flag, offsetof(struct cli_convert_args, in_place) },
	{ 0, "keep-chain", NULL,
		"every layer becomes a file of its own beside DST, and they are linked",
		cli_set_flag, offsetof(struct cli_convert_args, keep_chain) },
	{ 0, "salvage", NULL, "what cannot be read becomes zeroes, with a warning", cli_set_flag,
		offsetof(struct cli_convert_args, salvage) },
	{ 0, "bitmaps", NULL, "fail where bitmaps cannot be carried", cli_set_flag,
		offsetof(struct cli_convert_args, bitmaps) },
	{ 0, "skip-broken-bitmaps", NULL, "but for those that were not closed", cli_set_flag,
		offsetof(struct cli_convert_args, skip_broken) },
	{ 'r', "rate", "SIZE", "no more than that many bytes of the disk a second", cli_set_size,
		offsetof(struct cli_convert_args, common.rate) },
	{ 0, "skip", "SIZE", NULL, set_skip, offsetof(struct cli_convert_args, window.skip) },
	{ 0, "length", "SIZE", NULL, cli_set_length,
		offsetof(struct cli_convert_args, window.length) },
	{ 0, "strict", NULL, "refuse what check would complain about", cli_set_flag,
		offsetof(struct cli_convert_args, common.strict) },
	{ 0, "max-output", "SIZE", "do not let DST become larger", cli_set_size,
		offsetof(struct cli_convert_args, common.max_output) },
	{ 0 },
};

static const struct cli_option *const groups[] = { options, cli_format_options, cli_source_options,
	cli_work_options, cli_report_options, NULL };

const struct cli_verb cli_convert = {
	.name = "convert",
	.operands = "SRC... DST",
	.summary = "Writes a disk in another format",
	.detail = "DST appears when it is whole, and not at all when something fails. Several SRC "
		  "become one\n"
		  "disk, one after the other.",
	.most = SIZE_MAX,
	.args_size = sizeof(struct cli_convert_args),
	.reach = CLI_READS_TO_LAST,
	.options = groups,
	.run = cli_convert_run,
};
