/* SPDX-License-Identifier: Apache-2.0 */
/* A new image as the verbs that make one need it: its format and options, the file it becomes, the
 * backing file it names, and the sink that writes it. */
#pragma once
#include "cli/open.h"
#include "disk/sink.h"
#include "io/limit.h"
#include "io/output.h"

/* What the command line says; part of a verb's arguments. */
struct cli_target_args {
	const char *format;
	struct cli_create_options options;
	const char *backing, *backing_format;
	bool compress, unique, force, in_place, no_sync;
	bool blind;     /* the backing file is not to be opened */
	enum vmimg_level level;
};
/* The options for it, but for those whose letters differ from verb to verb. */
#define CLI_TARGET_OPTIONS(type, member)                                                           \
	{ 'o', NULL, "KEY=VALUE,...", "options of the format; -o help lists them", cli_set_create, \
		offsetof(type, member.options) },                                                  \
		{ 0, "force", NULL, "replace an existing file", cli_set_flag,                      \
			offsetof(type, member.force) },                                            \
		{ 0, "target-secret-file", "FILE",                                                 \
			"the passphrase of a new encrypted image: all bytes of FILE",              \
			cli_set_target_secret_file, offsetof(type, common.secrets) },              \
		{ 0, "unique", NULL, "random identities, not derived ones", cli_set_flag,          \
			offsetof(type, member.unique) },                                           \
	{                                                                                          \
		't', NULL, "CACHE", "unsafe: do not wait for storage; anything else waits",        \
			cli_set_cache, offsetof(type, member.no_sync)                              \
	}

/* For the verbs that take a backing file. */
#define CLI_BACKING_FORMAT_OPTION(type, member)                                   \
	{                                                                         \
		'F', NULL, "FMT", "the format of the backing file", cli_set_text, \
			offsetof(type, member.backing_format)                     \
	}

struct cli_target {
	const struct vmimg_format *format;
	const char *path;
	const struct cli_files *source; /* files that must not be replaced; NULL: none */
	struct cli_files old;           /* the file that is to be replaced, locked */
	struct vmimg_io *old_io;        /* while this is open; NULL: there is none */
	struct vmimg_output *output;
	struct vmimg_budget budget;
	struct vmimg_siblings siblings;
	struct vmimg_io *io; /* of the main file, with the limit around it */
	struct cli_image parent;
	struct vmimg_sink *sink;
};

/* The format that is named or, without a name, that path's suffix stands for. */
const struct vmimg_format *cli_target_format(
	const char *name, const char *path, struct vmimg_error *err) VMIMG_CHECKED;
/* A table of options, one a line. */
void cli_print_specs(const struct vmimg_option_spec *specs);
/* What "-o help" prints. named: the new file's name is given. */
void cli_print_create_options(const struct vmimg_format *format, bool named);
/* Takes what is not the format's own out of -o: backing_file, backing_fmt and, when size is not
 * NULL, size. */
int cli_target_split_options(
	struct cli_target_args *args, struct cli_size *size, struct vmimg_error *err) VMIMG_CHECKED;

/* For callers of qemu-img: every key is one that the format has, or one of the file below it. */
int cli_target_face_options(const struct cli_target_args *args, const struct vmimg_format *format,
	struct vmimg_error *err) VMIMG_CHECKED;
/* Takes out of -o what is said of the file below the image, which has no effect here. */
void cli_target_drop_options(struct cli_target_args *args);

/* Seconds that stand for "now" in outputs that must not differ from run to run. */
int cli_read_epoch(uint64_t *epoch, struct vmimg_error *err) VMIMG_CHECKED;

/* A backing file's name counts from the folder of the image at path that names it. To be freed. */
char *cli_path_beside(const char *path, const char *name, struct vmimg_error *err) VMIMG_CHECKED;
/* Opens what the image at path is to have as its backing file. The user has named it, so it is
 * opened; what it names in turn goes by --refs. format may be NULL. */
int cli_open_parent(struct cli_image *parent, const char *path, const char *name,
	const char *format, const struct cli_common *common, struct vmimg_error *err) VMIMG_CHECKED;

/* Makes sure that path can be written, and its backing file, if there is one, read. */
int cli_target_open(struct cli_target *target, const char *path, const struct cli_target_args *args,
	const struct cli_common *common, struct vmimg_error *err) VMIMG_CHECKED;
/* Makes the sink, having seen that nobody uses what is to be replaced. */
int cli_target_begin(struct cli_target *target, const struct cli_target_args *args,
	const struct cli_common *common, uint64_t size, struct vmimg_error *err) VMIMG_CHECKED;
int cli_target_publish(struct cli_target *target, struct vmimg_error *err) VMIMG_CHECKED;
void cli_target_close(struct cli_target *target);
static inline void cli_target_close_auto(struct cli_target *target)
{
	cli_target_close(target);
}
