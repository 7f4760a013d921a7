/* SPDX-License-Identifier: Apache-2.0 */
/* Strict parsing: an option that is not known, or a value that is not of its kind, is an error that
 * lists what would have been right. */
#include "disk/options.h"
#include <string.h>
#include "util/auto.h"
#include "util/text.h"

int vmimg_options_set(
	struct vmimg_options *options, const char *key, const char *value, struct vmimg_error *err)
{
	struct vmimg_option *item;

	if (vmimg_grow_array(
		    &options->items, &options->cap, options->count + 1, sizeof(*item), err))
		return -1;
	item = &options->items[options->count++];
	item->key = vmimg_strdup(key, err);
	item->value = vmimg_strdup(value, err);
	return item->key && item->value ? 0 : -1;
}

/* Cuts the first item off *rest, undoing ",,"; the item ends in NUL. */
static char *next_item(char **rest)
{
	char *start = *rest, *to = start, *from = start;

	while (*from && (*from != ',' || from[1] == ',')) {
		from += *from == ',';
		*to++ = *from++;
	}
	*rest = *from ? from + 1 : NULL;
	*to = '\0';
	return start;
}

int vmimg_options_add(struct vmimg_options *options, const char *text, struct vmimg_error *err)
{
	VMIMG_AUTO(free) char *copy = vmimg_strdup(text, err);
	char *rest = copy;

	if (!copy)
		return -1;
	while (rest) {
		char *key = next_item(&rest);
		char *equals = strchr(key, '=');

		if (equals)
			*equals = '\0';
		if (!*key)
			return vmimg_fail(
				err, VMIMG_EINVAL, "'%.80s': an option has no name", text);
		if (vmimg_options_set(options, key, equals ? equals + 1 : "on", err))
			return -1;
	}
	return 0;
}

void vmimg_options_done(struct vmimg_options *options)
{
	for (size_t i = 0; i < options->count; i++) {
		free(options->items[i].key);
		free(options->items[i].value);
	}
	free(options->items);
	memset(options, 0, sizeof(*options));
}

static bool is_choice(const char *value, const char *values)
{
	size_t len = strlen(value);

	if (strchr(value, '|'))
		return false;
	for (const char *p = values; p; p = strchr(p, '|') ? strchr(p, '|') + 1 : NULL)
		if (!strncmp(p, value, len) && (p[len] == '|' || !p[len]))
			return true;
	return false;
}

static int verify_value(const struct vmimg_option *option, const struct vmimg_option_spec *spec,
	struct vmimg_error *err)
{
	uint64_t bytes;

	if (spec->kind == VMIMG_OPTION_SIZE && vmimg_parse_size(option->value, &bytes, err))
		return vmimg_within(err, "option %s", spec->name);
	if (spec->kind == VMIMG_OPTION_BOOL && !is_choice(option->value, "on|off"))
		return vmimg_fail(err, VMIMG_EINVAL, "option %s is on or off, not '%.40s'",
			spec->name, option->value);
	if (spec->kind == VMIMG_OPTION_CHOICE && !is_choice(option->value, spec->values))
		return vmimg_fail(err, VMIMG_EINVAL, "option %s is one of %s, not '%.40s'",
			spec->name, spec->values, option->value);
	return 0;
}

const struct vmimg_option_spec *vmimg_options_find(
	const struct vmimg_option_spec *specs, const char *key)
{
	for (; specs && specs->name; specs++) {
		size_t len = strlen(specs->name);

		if (!strcmp(specs->name, key) ||
			(specs->name[len - 1] == '*' && strlen(key) >= len &&
				!strncmp(specs->name, key, len - 1)))
			return specs;
	}
	return NULL;
}

int vmimg_options_verify(const struct vmimg_options *options, const struct vmimg_option_spec *specs,
	const char *format, struct vmimg_error *err)
{
	for (size_t i = 0; i < options->count; i++) {
		const struct vmimg_option_spec *spec =
			vmimg_options_find(specs, options->items[i].key);

		if (!spec)
			return vmimg_fail(err, VMIMG_EINVAL,
				"format %s has no option '%.40s' (-o help lists them)", format,
				options->items[i].key);
		if (verify_value(&options->items[i], spec, err))
			return -1;
	}
	return 0;
}

const char *vmimg_options_text(
	const struct vmimg_options *options, const char *key, const char *otherwise)
{
	for (size_t i = options ? options->count : 0; i-- > 0;)
		if (!strcmp(options->items[i].key, key))
			return options->items[i].value;
	return otherwise;
}

uint64_t vmimg_options_size(
	const struct vmimg_options *options, const char *key, uint64_t otherwise)
{
	const char *text = vmimg_options_text(options, key, NULL);
	struct vmimg_error unused;
	uint64_t bytes;

	return text && !vmimg_parse_size(text, &bytes, &unused) ? bytes : otherwise;
}

bool vmimg_options_bool(const struct vmimg_options *options, const char *key, bool otherwise)
{
	const char *text = vmimg_options_text(options, key, NULL);

	return text ? !strcmp(text, "on") : otherwise;
}
