/* SPDX-License-Identifier: Apache-2.0 */
/* From qemu-img's command line to a native verb's: options by getopt_long, as there, then names. */
#include <getopt.h>
#include <limits.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include "cli/face/dd.h"
#include "cli/face/face.h"
#include "cli/face/mend.h"
#include "cli/face/name.h"
#include "cli/face/texts.h"
#include "cli/face/words.h"
#include "cli/run.h"

#define OPTIONS_MAX 48
enum { LONG_ONLY = 256 }; /* getopt's value of options without a letter, and on */

struct face {
	const struct face_command *command;
	struct face_words words; /* for the native verb */
	bool given[OPTIONS_MAX]; /* by their places among the command's options */
	bool described, described_to;
	size_t bare; /* so many sources are taken without their backing files */
	bool help;
	bool counted; /* the command line makes sense */
};

/* ---- options ------------------------------------------------------------------------------- */

struct getopt_tables {
	char letters[2 * OPTIONS_MAX + 2];
	struct option names[OPTIONS_MAX + 2];
};

/* ":" first: nothing is printed, and a missing value is told from an unknown option. */
static void fill_tables(const struct face_option *options, struct getopt_tables *tables)
{
	char *letters = tables->letters;
	struct option *names = tables->names;

	memset(tables, 0, sizeof(*tables));
	*letters++ = ':';
	*letters++ = 'h';
	*names++ = (struct option){ "help", no_argument, NULL, 'h' };
	for (int i = 0; (options[i].letter || options[i].name) && i < OPTIONS_MAX; i++) {
		if (options[i].letter)
			*letters++ = options[i].letter;
		if (options[i].letter && options[i].value)
			*letters++ = ':';
		if (options[i].name)
			*names++ = (struct option){ options[i].name,
				options[i].value ? required_argument : no_argument, NULL,
				LONG_ONLY + i };
	}
}

static const struct face_option *find_option(const struct face_option *options, int found)
{
	if (found >= LONG_ONLY)
		return &options[found - LONG_ONLY];
	while (options->letter != found)
		options++;
	return options;
}

static bool is_given(const struct face *face, const char *which)
{
	const struct face_option *options = face->command->options;

	for (size_t i = 0; options[i].letter || options[i].name; i++)
		if (face->given[i] &&
			(which[1] ? options[i].name && !strcmp(options[i].name, which)
				  : options[i].letter == *which))
			return true;
	return false;
}

static int check_rules(const struct face *face, struct vmimg_error *err)
{
	for (const struct face_rule *rule = face_rules; rule->option; rule++)
		if ((!rule->command || !strcmp(rule->command, face->command->name)) &&
			is_given(face, rule->option) && is_given(face, rule->other) == rule->with)
			return vmimg_fail(err, VMIMG_EINVAL, "%s", rule->text);
	return 0;
}

static int take_option(struct face *face, const struct face_option *option, const char *value,
	struct vmimg_error *err)
{
	switch (option->act) {
	case FACE_PASS:
		return value ? face_words_add_pair(&face->words, option->native, value, err)
			     : face_words_add(&face->words, option->native, err);
	case FACE_REFUSE:
		return vmimg_fail(err, VMIMG_EUNSUPPORTED, "%s", option->native);
	case FACE_DESCRIBED:
		face->described = true;
		break;
	case FACE_DESCRIBED_TO:
		face->described_to = true;
		break;
	case FACE_DROP:
		break;
	}
	return 0;
}

static int fail_option(struct vmimg_error *err, int found, const char *word)
{
	return vmimg_fail(err, VMIMG_EINVAL, "%s '%.80s'",
		found == ':' ? "missing argument for option" : "unrecognized option", word);
}

/* Leaves the operands at the end of argv, from optind on. */
static int take_options(struct face *face, int argc, char **argv, struct vmimg_error *err)
{
	struct getopt_tables tables;
	int found;

	fill_tables(face->command->options, &tables);
	optind = 0; /* begin anew, permuting this time */
	while ((found = getopt_long(argc, argv, tables.letters, tables.names, NULL)) != -1) {
		const struct face_option *option;

		if (found == '?' || found == ':')
			return fail_option(err, found, argv[optind - 1]);
		if (found == 'h') {
			face->help = true;
			return 0;
		}
		option = find_option(face->command->options, found);
		face->given[option - face->command->options] = true;
		if (take_option(face, option, option->value ? optarg : NULL, err))
			return -1;
	}
	return check_rules(face, err);
}

/* ---- operands ------------------------------------------------------------------------------ */

/* A symbolic link stays, and what it points to is replaced. */
static void follow_link(char **path)
{
	struct stat st;
	char *real;

	if (lstat(*path, &st) || !S_ISLNK(st.st_mode) || !(real = realpath(*path, NULL)))
		return;
	free(*path);
	*path = real;
}

/* A description's driver counts like -f, -F for the second of two, or -O for what convert writes.
 */
static int take_name(struct face *face, const char *word, bool target, struct face_words *operands,
	struct vmimg_error *err)
{
	bool second = operands->count == 1 && face->command->sources == 2;
	const char *option = target && face->command->sources ? "-O" : second ? "-F" : "-f";
	struct face_image image;
	int failed = 0;

	if (face_name(word, target ? face->described_to : face->described, &image, err))
		return -1;
	if (image.format)
		failed = face_words_add_pair(&face->words, option, image.format, err);
	face->bare += image.bare;
	for (size_t i = 0; !failed && !target && i < image.secrets.count; i++)
		failed = face_words_add_pair(
			&face->words, "--key-secret", image.secrets.items[i], err);
	if (target)
		follow_link(&image.path);
	if (!failed)
		failed = face_words_add(operands, image.path, err);
	face_image_done(&image);
	return failed;
}

static int check_count(const struct face_command *command, size_t count, struct vmimg_error *err)
{
	const char *otherwise = command->size ? "Expecting image file name and size"
					      : "Expecting one image file name";

	if (count >= command->least && count <= command->most)
		return 0;
	return vmimg_fail(
		err, VMIMG_EINVAL, "%s", command->wrong_count ? command->wrong_count : otherwise);
}

/* The native verbs take all sources so, or none. */
static int take_bare(struct face *face, size_t sources, struct vmimg_error *err)
{
	if (!face->bare)
		return 0;
	if (face->command->changes || face->bare != sources)
		return vmimg_fail(err, VMIMG_EUNSUPPORTED, "'backing' is not taken %s",
			face->command->changes ? "where an image is changed"
					       : "of some images, and left to others");
	return face_words_add(&face->words, "--bare", err);
}

static int take_operands(struct face *face, size_t count, char **words, struct face_words *operands,
	struct vmimg_error *err)
{
	const struct face_command *command = face->command;
	size_t target = command->target ? (command->sources ? count - 1 : 0) : SIZE_MAX;

	if (command->dd)
		return face_dd(&face->words, count, words, face->described, operands, err);
	for (size_t i = 0; i < count; i++)
		if (i == target || i < command->sources
				? take_name(face, words[i], i == target, operands, err)
				: face_words_add(operands, words[i], err))
			return -1;
	return take_bare(face, target < count ? count - 1 : count, err);
}

/* ---- running ------------------------------------------------------------------------------- */

/* "resize IMAGE -1G": a size, though it looks like an option. NULL: there is none such. */
static char *set_size_aside(const struct face_command *command, int *argc, char **argv)
{
	char *last = argv[*argc - 1];

	if (!command->size || *argc < 2 || last[0] != '-' || !strspn(last + 1, "0123456789"))
		return NULL;
	--*argc;
	return last;
}

static int translate(struct face *face, int argc, char **argv, struct face_words *operands,
	struct vmimg_error *err)
{
	const struct face_command *command = face->command;
	char *size = set_size_aside(command, &argc, argv);

	for (const char *const *word = command->always; *word; word++)
		if (face_words_add(&face->words, *word, err))
			return -1;
	if (take_options(face, argc, argv, err) || face->help)
		return face->help ? 0 : -1;
	if (size)
		argv[argc++] = size;
	if (check_count(command, (size_t)(argc - optind), err))
		return -1;
	face->counted = true;
	if (take_operands(face, (size_t)(argc - optind), argv + optind, operands, err) ||
		face_words_add(&face->words, "--", err))
		return -1;
	for (size_t i = 0; i < operands->count; i++)
		if (face_words_add(&face->words, operands->items[i], err))
			return -1;
	return 0;
}

/* What follows the last such option, or NULL: it is not there. */
static const char *find_value(const struct face_words *words, const char *option)
{
	const char *value = NULL;

	for (size_t i = 0; i + 1 < words->count; i++)
		if (!strcmp(words->items[i], option))
			value = words->items[i + 1];
	return value;
}

/* The exit code, or -1. *failure: what it is in that case. */
static int run_command(const struct face_command *command, int argc, char **argv, int *failure,
	struct vmimg_error *err)
{
	struct face face = { .command = command };
	struct face_words operands = { 0 };
	int code = 0;

	if (!command->verb)
		return vmimg_fail(
			err, VMIMG_EUNSUPPORTED, "%s: %s", command->name, command->always[0]);
	if (translate(&face, argc, argv, &operands, err)) {
		*failure = face.counted ? command->failure : 1;
		code = -1;
	} else if (face.help) {
		face_print_help();
	} else {
		*failure = command->failure;
		if (command->changes && operands.count && !find_value(&face.words, "-l"))
			code = face_mend(
				operands.items[0], find_value(&face.words, "-f"), err);
		if (!code)
			code = cli_run(command->verb, (int)face.words.count, face.words.items, true, err);
	}
	face_words_done(&operands);
	face_words_done(&face.words);
	return code;
}

static const struct face_command *find_command(const char *name)
{
	for (const struct face_command *command = face_commands; command->name; command++)
		if (!strcmp(command->name, name))
			return command;
	return NULL;
}

/* The options before the subcommand. *first: its place in argv; 0: all is said. */
static int take_standard_options(int argc, char **argv, int *first, struct vmimg_error *err)
{
	static const struct option names[] = { { "help", no_argument, NULL, 'h' },
		{ "version", no_argument, NULL, 'V' }, { "trace", required_argument, NULL, 'T' },
		{ 0 } };
	int found;

	while ((found = getopt_long(argc, argv, "+:hVT:", names, NULL)) != -1) {
		if (found == '?' || found == ':')
			return fail_option(err, found, argv[optind - 1]);
		if (found == 'h')
			face_print_help();
		if (found == 'V')
			face_print_version();
		if (found != 'T')
			return *first = 0;
	}
	*first = optind;
	return optind < argc ? 0 : vmimg_fail(err, VMIMG_EINVAL, "Not enough arguments");
}

static int run(int argc, char **argv, int *failure, struct vmimg_error *err)
{
	const struct face_command *command;
	int first = 0;

	opterr = 0;
	if (take_standard_options(argc, argv, &first, err))
		return -1;
	if (!first)
		return 0;
	command = find_command(argv[first]);
	if (!command)
		return vmimg_fail(err, VMIMG_EINVAL, "Command not found: %.80s", argv[first]);
	return run_command(command, argc - first, argv + first, failure, err);
}

int cli_face_main(int argc, char **argv)
{
	struct vmimg_error err = { 0 }, late;
	char text[FACE_TEXT];
	int failure = 1, code;

	cli_set_program("qemu-img");
	code = run(argc, argv, &failure, &err);
	if (code < 0) {
		face_reword(&err, text);
		fflush(stdout);
		fprintf(stderr, "qemu-img: %s\n", text);
		code = failure;
	}
	if (!cli_flush(&late))
		return code;
	cli_warn("%s", late.text);
	return code ? code : 1;
}
