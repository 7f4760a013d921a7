/* SPDX-License-Identifier: Apache-2.0 */
/* Getting a new image ready to be filled, and giving it its name. */
#include "cli/target.h"
#include <inttypes.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <unistd.h>
#include "cli/face/option_help.h"
#include "io/file.h"
#include "util/limits.h"
#include "util/num.h"

static bool ends_in(const char *path, const char *suffix)
{
	size_t len = strlen(path), end = strlen(suffix);

	return len >= end && !strcasecmp(path + len - end, suffix);
}

const struct vmimg_format *cli_target_format(
	const char *name, const char *path, struct vmimg_error *err)
{
	const struct vmimg_format *format =
		name ? vmimg_format_find(name) : vmimg_format_for_name(path);

	if (format && format->create)
		return format;
	if (cli_is_face() && name)
		vmimg_fail(err, VMIMG_EINVAL,
			format ? "Format driver '%.40s' does not support image creation"
			       : "Unknown file format '%.40s'",
			name);
	else if (format)
		vmimg_fail(err, VMIMG_EINVAL, "format %s can be read, not written", format->name);
	else if (name)
		vmimg_fail(err, VMIMG_EINVAL, "unknown format '%.40s' (vmimg formats lists them)",
			name);
	else if (ends_in(path, ".ova") || ends_in(path, ".ovf"))
		vmimg_fail(err, VMIMG_EINVAL, "%.80s is a bundle: vmimg pack makes it", path);
	else if (!*path)
		vmimg_fail(
			err, VMIMG_EINVAL, "neither the new image's name nor its format is given");
	else
		vmimg_fail(err, VMIMG_EINVAL,
			"the suffix of %.80s does not tell a format: state it (vmimg formats "
			"lists them)",
			path);
	return NULL;
}

static const char *kind_name(const struct vmimg_option_spec *spec)
{
	switch (spec->kind) {
	case VMIMG_OPTION_SIZE:
		return "size";
	case VMIMG_OPTION_BOOL:
		return "bool (on/off)";
	case VMIMG_OPTION_CHOICE:
		return spec->values;
	case VMIMG_OPTION_TEXT:
		break;
	}
	return "str";
}

void cli_print_specs(const struct vmimg_option_spec *spec)
{
	for (; spec && spec->name; spec++) {
		int used = printf("  %s=<%s>", spec->name, kind_name(spec));

		printf("%*s- %s\n", used < 25 ? 25 - used : 1, "", spec->help);
	}
}

void cli_print_create_options(const struct vmimg_format *format, bool named)
{
	if (cli_is_face() && cli_qemu_name(format)) {
		face_print_create_options(cli_qemu_name(format), named);
		return;
	}
	printf("Supported %s options:\n", format->name);
	cli_print_specs(format->options);
}

/* Takes the last value of key out of the list; NULL: it is not there. The value is leaked to the
 * end of the program, as all words of the command line are. */
static const char *take_option(struct vmimg_options *list, const char *key)
{
	const char *value = NULL;
	size_t kept = 0;

	for (size_t i = 0; i < list->count; i++) {
		if (strcmp(list->items[i].key, key)) {
			list->items[kept++] = list->items[i];
			continue;
		}
		free(list->items[i].key);
		value = list->items[i].value;
	}
	list->count = kept;
	return value;
}

int cli_target_split_options(
	struct cli_target_args *args, struct cli_size *size, struct vmimg_error *err)
{
	const char *file = take_option(&args->options.list, "backing_file");
	const char *format = take_option(&args->options.list, "backing_fmt");
	const char *bytes = size ? take_option(&args->options.list, "size") : NULL;

	args->backing = file ? file : args->backing;
	args->backing_format = format ? format : args->backing_format;
	return bytes ? cli_set_length(size, bytes, err) : 0;
}

/* Of the file below the image; and of a conversion the size, which the source tells. */
static const char *const below[] = { "nocow", "extent_size_hint", "size" };

static bool is_below(const char *key)
{
	for (size_t i = 0; i < VMIMG_ARRAY_LEN(below); i++)
		if (!strcmp(key, below[i]))
			return true;
	return false;
}

int cli_target_face_options(const struct cli_target_args *args, const struct vmimg_format *format,
	struct vmimg_error *err)
{
	const struct vmimg_options *list = &args->options.list;

	for (size_t i = 0; i < list->count; i++)
		if (!is_below(list->items[i].key) &&
			!vmimg_options_find(format->options, list->items[i].key))
			return vmimg_fail(
				err, VMIMG_EINVAL, "Invalid parameter '%.40s'", list->items[i].key);
	return 0;
}

void cli_target_drop_options(struct cli_target_args *args)
{
	for (size_t i = 0; cli_is_face() && i < VMIMG_ARRAY_LEN(below); i++)
		(void)take_option(&args->options.list, below[i]);
}

char *cli_path_beside(const char *path, const char *name, struct vmimg_error *err)
{
	const char *slash = strrchr(path, '/');
	char *joined;

	if (name[0] == '/' || !slash || !strcmp(path, "-"))
		return vmimg_strdup(name, err);
	if (asprintf(&joined, "%.*s%s", (int)(slash - path + 1), path, name) >= 0)
		return joined;
	vmimg_fail_nomem(err);
	return NULL;
}

int cli_open_parent(struct cli_image *parent, const char *path, const char *name,
	const char *format, const struct cli_common *common, struct vmimg_error *err)
{
	struct cli_open how = { .format = format, .refs = CLI_REFS_BESIDE };
	struct cli_common quiet = {
		.quiet = true,
		.refs = common->refs,
		.untrusted = common->untrusted,
		.share = common->share,
		.sandbox = common->sandbox,
		.secrets = common->secrets,
	};
	VMIMG_AUTO(free) char *beside = cli_path_beside(path, name, err);

	if (beside && common->sandbox)
		cli_sandbox_read_beside(common->sandbox, beside);
	return beside ? cli_image_open(parent, beside, &quiet, &how, err) : -1;
}

/* A format whose images know their parent by its identity has parents of its own kind only. */
static const char *backing_format(const struct cli_target *target,
	const struct cli_target_args *args, const struct cli_common *common)
{
	return args->backing_format || common->face || !target->format->identity
		? args->backing_format
		: target->format->name;
}

static int open_parent(struct cli_target *target, const struct cli_target_args *args,
	const struct cli_common *common, struct vmimg_error *err)
{
	const char *format = backing_format(target, args, common);

	if (!args->backing)
		return args->backing_format
			? vmimg_fail(err, VMIMG_EINVAL, "-F without a backing file")
			: 0;
	if (!format)
		return vmimg_fail(err, VMIMG_EINVAL,
			common->face && !*args->backing
				? "Expected backing file name, got empty string"
				: common->face
				? "Backing file specified without backing format"
				: "the format of the backing file must be stated with "
				  "-F: it is not guessed later either");
	if (!vmimg_format_find(format))
		return vmimg_fail(
			err, VMIMG_EINVAL, "unknown format '%.40s' of the backing file", format);
	if (args->blind)
		return 0;
	if (cli_open_parent(&target->parent, target->path, args->backing, format, common, err))
		return vmimg_within(err, "backing file");
	return 0;
}

/* "/folder/data" is data to an image in that folder. */
static const char *name_beside(const char *path, const char *name)
{
	const char *slash = strrchr(name, '/'), *end = strrchr(path, '/');
	char of_name[PATH_MAX], of_path[PATH_MAX];
	struct stat a, b;

	if (!slash)
		return name;
	snprintf(of_name, sizeof(of_name), "%.*s/", (int)(slash - name), name);
	snprintf(of_path, sizeof(of_path), "%.*s/", end ? (int)(end - path) : 1, end ? path : ".");
	return !stat(of_name, &a) && !stat(of_path, &b) && a.st_dev == b.st_dev &&
			a.st_ino == b.st_ino
		? slash + 1
		: name;
}

static struct vmimg_io *new_sibling(
	struct vmimg_siblings *siblings, const char *name, struct vmimg_error *err)
{
	struct cli_target *target = (struct cli_target *)(void *)((char *)siblings -
		offsetof(struct cli_target, siblings));
	VMIMG_AUTO(vmimg_io_unref) struct vmimg_io *io = NULL;
	VMIMG_AUTO(free) char *path = cli_path_beside(target->path, name, err);
	struct stat st;

	if (!path)
		return NULL;
	name = name_beside(target->path, name);
	if (target->source && !stat(path, &st) && cli_files_has(target->source, &st)) {
		vmimg_fail(err, VMIMG_EINVAL,
			"%.100s is being read: it cannot be a part of the output as well", path);
		return NULL;
	}
	io = vmimg_output_sibling(target->output, name, err);
	if (!io || !target->budget.limit)
		return vmimg_take(io);
	return vmimg_limit_open(io, &target->budget, err);
}

/* A file that a running machine uses is neither replaced nor written to. */
static int lock_old(struct cli_target *target, const struct cli_target_args *args,
	const struct cli_common *common, struct vmimg_error *err)
{
	enum vmimg_lock mode = args->in_place ? VMIMG_LOCK_WRITE : VMIMG_LOCK_REPLACE;
	struct vmimg_error unused;

	if (args->force || args->in_place)
		target->old_io = vmimg_file_open(target->path, args->in_place, &unused);
	if (!target->old_io)
		return 0;
	cli_files_init(&target->old, common, NULL, mode);
	return cli_files_add(&target->old, target->old_io, err);
}

/* The option that names the secret of a new image. */
static const char *key_option(const struct vmimg_format *format)
{
	return strcmp(format->name, "luks") ? "encrypt.key-secret" : "key-secret";
}

int cli_target_open(struct cli_target *target, const char *path, const struct cli_target_args *args,
	const struct cli_common *common, struct vmimg_error *err)
{
	struct vmimg_output_how how = {
		.replace = args->force, .in_place = args->in_place, .no_sync = args->no_sync
	};
	struct vmimg_io *io;

	target->path = path;
	if (cli_secrets_set_target(common->secrets,
		    vmimg_options_text(&args->options.list, key_option(target->format), NULL), err))
		return -1;
	if (!strcmp(path, "-") && isatty(STDOUT_FILENO))
		return vmimg_fail(err, VMIMG_EINVAL, "an image is not written to a terminal");
	if (args->in_place && strcmp(target->format->name, "raw"))
		return vmimg_fail(err, VMIMG_EUNSUPPORTED,
			"-n writes raw disks and devices only, not into a %s image",
			target->format->name);
	target->output = vmimg_output_open(path, &how, err);
	if (!target->output || open_parent(target, args, common, err))
		return -1;
	target->budget.limit = common->max_output;
	target->siblings.create = new_sibling;
	target->siblings.main_name = vmimg_output_name(target->output);
	io = vmimg_output_io(target->output);
	target->io = target->budget.limit ? vmimg_limit_open(io, &target->budget, err)
					  : vmimg_io_ref(io);
	return target->io ? 0 : -1;
}

int cli_read_epoch(uint64_t *epoch, struct vmimg_error *err)
{
	const char *text = getenv("SOURCE_DATE_EPOCH");
	char *end;

	*epoch = 0;
	if (!text || !*text)
		return 0;
	*epoch = strtoull(text, &end, 10);
	if (*end || text[strspn(text, "0123456789")])
		return vmimg_fail(err, VMIMG_EINVAL,
			"SOURCE_DATE_EPOCH is '%.40s', not a number of seconds", text);
	return 0;
}

/* QEMU counts a disk in sectors, and leaves out what follows the last whole one: its callers get
 * one more, others are told. */
static uint64_t disk_size(
	const struct cli_target *target, const struct cli_common *common, uint64_t size)
{
	unsigned rest = (unsigned)(size % VMIMG_SECTOR);

	if (!rest || strcmp(target->format->name, "qcow2") != 0 || size > VMIMG_MAX_DISK)
		return size;
	if (common->face)
		return size - rest + VMIMG_SECTOR;
	if (!common->quiet)
		cli_warn("warning: %s has %" PRIu64
			 " bytes, no whole sectors: QEMU does not see the last %u",
			target->path, size, rest);
	return size;
}

int cli_target_begin(struct cli_target *target, const struct cli_target_args *args,
	const struct cli_common *common, uint64_t size, struct vmimg_error *err)
{
	const char *format = backing_format(target, args, common);
	struct vmimg_create create = { .size = disk_size(target, common, size),
		.options = &args->options.list,
		.siblings = &target->siblings,
		.parent = target->parent.disk,
		.parent_name = args->backing,
		.compress = args->compress,
		.level = args->level,
		.secret = cli_secrets_target(common->secrets),
		.unique = args->unique };

	if (size > VMIMG_MAX_DISK)
		return vmimg_fail(
			err, VMIMG_ELIMIT, "a disk of %" PRIu64 " bytes is more than 4 EiB", size);
	if (args->backing && format)
		create.parent_format = vmimg_format_find(format)->name;
	if (cli_read_epoch(&create.epoch, err) || lock_old(target, args, common, err))
		return -1;
	target->sink = vmimg_sink_create(target->format, target->io, &create, err);
	return target->sink ? 0 : -1;
}

int cli_target_publish(struct cli_target *target, struct vmimg_error *err)
{
	return vmimg_output_publish(target->output, err);
}

void cli_target_close(struct cli_target *target)
{
	vmimg_sink_close(target->sink);
	vmimg_io_unref(target->io);
	vmimg_output_close(target->output);
	vmimg_io_unref(target->old_io);
	cli_files_done(&target->old);
	cli_image_close(&target->parent);
	memset(target, 0, sizeof(*target));
}
