/* SPDX-License-Identifier: Apache-2.0 */
/* The parser of options, and the setters for each kind of value. */
#include "cli/options.h"
#include <ctype.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include "codec/codec.h"
#include "util/limits.h"
#include "util/num.h"
#include "util/text.h"

int cli_set_flag(void *to, const char *value, struct vmimg_error *err)
{
	(void)value, (void)err;
	*(bool *)to = true;
	return 0;
}

int cli_set_text(void *to, const char *value, struct vmimg_error *err)
{
	(void)err;
	*(const char **)to = value;
	return 0;
}

int cli_set_size(void *to, const char *value, struct vmimg_error *err)
{
	uint64_t bytes;

	if (vmimg_parse_size(value, &bytes, err))
		return -1;
	if (!bytes)
		return vmimg_fail(err, VMIMG_EINVAL, "a size of zero makes no sense");
	*(uint64_t *)to = bytes;
	return 0;
}

int cli_set_length(void *to, const char *value, struct vmimg_error *err)
{
	struct cli_size *size = to;

	size->given = true;
	return vmimg_parse_size(value, &size->bytes, err);
}

int cli_set_count(void *to, const char *value, struct vmimg_error *err)
{
	char *end;
	long count = strtol(value, &end, 10);

	if (*end || end == value || count < 1 || count > VMIMG_MAX_THREADS)
		return vmimg_fail(err, VMIMG_EINVAL, "'%.40s' is not a number from 1 to %d", value,
			VMIMG_MAX_THREADS);
	*(unsigned *)to = (unsigned)count;
	return 0;
}

int cli_set_output(void *to, const char *value, struct vmimg_error *err)
{
	if (strcmp(value, "json") && strcmp(value, "human"))
		return vmimg_fail(err, VMIMG_EINVAL, "it is json or human, not '%.40s'", value);
	*(bool *)to = !strcmp(value, "json");
	return 0;
}

int cli_set_create(void *to, const char *value, struct vmimg_error *err)
{
	struct cli_create_options *options = to;

	if (!strcmp(value, "help") || !strcmp(value, "?")) {
		options->help = true;
		return 0;
	}
	if (vmimg_options_add(&options->list, value, err))
		return -1;
	options->help |= vmimg_options_text(&options->list, "help", NULL) != NULL;
	return 0;
}

/* Those that OVF names; others may be known to OpenSSL, and to no reader. */
int cli_set_hash(void *to, const char *value, struct vmimg_error *err)
{
	if (strcmp(value, "sha1") != 0 && strcmp(value, "sha256") != 0 &&
		strcmp(value, "sha512") != 0)
		return vmimg_fail(
			err, VMIMG_EINVAL, "it is sha1, sha256 or sha512, not '%.40s'", value);
	*(const char **)to = value;
	return 0;
}

int cli_set_level(void *to, const char *value, struct vmimg_error *err)
{
	static const char *const names[] = { "default", "fast", "best" }; /* as the enum */

	for (size_t i = 0; i < VMIMG_ARRAY_LEN(names); i++)
		if (!strcmp(value, names[i])) {
			*(enum vmimg_level *)to = (enum vmimg_level)i;
			return 0;
		}
	return vmimg_fail(err, VMIMG_EINVAL, "it is fast, default or best, not '%.40s'", value);
}

int cli_set_cache(void *to, const char *value, struct vmimg_error *err)
{
	static const char *const names[] = { "unsafe", "none", "off", "writeback", "writethrough",
		"directsync" };

	for (size_t i = 0; i < VMIMG_ARRAY_LEN(names); i++)
		if (!strcmp(value, names[i])) {
			*(bool *)to = i == 0;
			return 0;
		}
	return vmimg_fail(err, VMIMG_EINVAL,
		"it is unsafe, none, writeback, writethrough or directsync, not '%.40s'", value);
}

int cli_set_nothing(void *to, const char *value, struct vmimg_error *err)
{
	(void)to, (void)value, (void)err;
	return 0;
}

int cli_refuse(void *to, const char *value, struct vmimg_error *err)
{
	(void)to, (void)value;
	return vmimg_fail(err, VMIMG_EINVAL,
		"QEMU's object and node descriptions are not taken: name a file, and -f its "
		"format");
}

static const struct cli_option *find_letter(const struct cli_option *const *groups, char letter)
{
	for (; *groups; groups++)
		for (const struct cli_option *o = *groups; o->set; o++)
			if (o->letter == letter)
				return o;
	return NULL;
}

static const struct cli_option *find_name(
	const struct cli_option *const *groups, const char *name, size_t len)
{
	for (; *groups; groups++)
		for (const struct cli_option *o = *groups; o->set; o++)
			if (o->name && !strncmp(o->name, name, len) && !o->name[len])
				return o;
	return NULL;
}

struct parser {
	const struct cli_option *const *groups;
	char *args;
	char *const *argv; /* the words that are left */
	char *const *end;
};

/* Stores value; when the option needs one and has none yet, it is the next word. */
static int take(struct parser *p, const struct cli_option *option, const char *shown,
	const char *value, struct vmimg_error *err)
{
	if (!option->arg && value)
		return vmimg_fail(err, VMIMG_EINVAL, "option %s takes no value", shown);
	if (option->arg && !value) {
		if (p->argv == p->end)
			return vmimg_fail(err, VMIMG_EINVAL, "option %s needs a value: %s", shown,
				option->arg);
		value = *p->argv++;
	}
	return option->set(p->args + option->at, value, err) ? vmimg_within(err, "option %s", shown)
							     : 0;
}

/* "--name" or "--name=value" */
static int take_long(struct parser *p, const char *word, struct vmimg_error *err)
{
	const char *equals = strchr(word, '=');
	size_t len = equals ? (size_t)(equals - word) : strlen(word);
	const struct cli_option *option = find_name(p->groups, word + 2, len - 2);
	char shown[60];

	snprintf(shown, sizeof(shown), "%.*s", (int)vmimg_min(len, 50), word);
	if (!option)
		return vmimg_fail(err, VMIMG_EINVAL, "unknown option %s", shown);
	return take(p, option, shown, equals ? equals + 1 : NULL, err);
}

/* "-x", "-xVALUE", "-xyz" */
static int take_short(struct parser *p, const char *word, struct vmimg_error *err)
{
	for (word++; *word; word++) {
		const struct cli_option *option = find_letter(p->groups, *word);
		char shown[3] = { '-', *word, 0 };

		if (!option)
			return vmimg_fail(err, VMIMG_EINVAL, "unknown option %s", shown);
		if (option->arg)
			return take(p, option, shown, word[1] ? word + 1 : NULL, err);
		if (take(p, option, shown, NULL, err))
			return -1;
	}
	return 0;
}

static bool is_help(const char *word)
{
	return !strcmp(word, "--help") || !strcmp(word, "-h");
}

int cli_parse(const struct cli_option *const *groups, void *args, int argc, char *const argv[],
	struct cli_words *words, struct vmimg_error *err)
{
	struct parser p = { groups, args, argv, argv + argc };
	bool only_words = false;

	while (p.argv < p.end) {
		const char *word = *p.argv++;

		/* "-1G" is a size that is taken away: no option begins with a digit */
		if (only_words || word[0] != '-' || !word[1] || isdigit((unsigned char)word[1])) {
			words->words[words->count++] = word;
		} else if (!strcmp(word, "--")) {
			only_words = true;
		} else if (is_help(word)) {
			words->help = true;
			return 0;
		} else if (word[1] == '-' ? take_long(&p, word, err) : take_short(&p, word, err)) {
			return -1;
		}
	}
	return 0;
}

static void print_option(const struct cli_option *option)
{
	char left[80];
	int used = snprintf(left, sizeof(left), "  ");

	if (option->letter)
		used += snprintf(left + used, sizeof(left) - (size_t)used, "-%c%s%s",
			option->letter, !option->name && option->arg ? " " : "",
			option->name          ? ", "
				: option->arg ? option->arg
					      : "");
	if (option->name)
		snprintf(left + used, sizeof(left) - (size_t)used, "--%s%s%s", option->name,
			option->arg ? "=" : "", option->arg ? option->arg : "");
	if (strlen(left) > 27)
		printf("%s\n%28s%s\n", left, "", option->help);
	else
		printf("%-28s%s\n", left, option->help);
}

void cli_print_options(const struct cli_option *const *groups)
{
	for (; *groups; groups++)
		for (const struct cli_option *o = *groups; o->set; o++)
			if (o->help)
				print_option(o);
}
