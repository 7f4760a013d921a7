/* SPDX-License-Identifier: Apache-2.0 */
/* Creation options: "-o key=value,…" held against the table of what a format takes. */
#pragma once
#include <stdbool.h>
#include <stdint.h>
#include "util/error.h"

enum vmimg_option_kind {
	VMIMG_OPTION_SIZE,   /* a size with a unit, or a plain number */
	VMIMG_OPTION_BOOL,   /* on|off */
	VMIMG_OPTION_CHOICE, /* one of values */
	VMIMG_OPTION_TEXT,
};

struct vmimg_option_spec {
	const char *name; /* "prefix.*": all keys that begin so */
	enum vmimg_option_kind kind;
	const char *values; /* CHOICE: "a|b|c" */
	const char *help;   /* one line, the default in brackets */
};

struct vmimg_options {
	struct vmimg_option {
		char *key, *value;
	} * items;
	size_t count, cap;
};

/* Adds what "key=value,key=value" says (",," is a comma inside a value; a key alone means on).
 * A later value of the same key wins. */
int vmimg_options_add(
	struct vmimg_options *options, const char *text, struct vmimg_error *err) VMIMG_CHECKED;
int vmimg_options_set(struct vmimg_options *options, const char *key, const char *value,
	struct vmimg_error *err) VMIMG_CHECKED;
void vmimg_options_done(struct vmimg_options *options);

/* What the table (NULL: it is empty) says of a key; NULL: nothing. */
const struct vmimg_option_spec *vmimg_options_find(
	const struct vmimg_option_spec *specs, const char *key);
/* Every option is one that the table knows, with a value of its kind. specs may be NULL. */
int vmimg_options_verify(const struct vmimg_options *options, const struct vmimg_option_spec *specs,
	const char *format, struct vmimg_error *err) VMIMG_CHECKED;

/* Values of verified options; otherwise when the option is not given. Text is borrowed. */
const char *vmimg_options_text(
	const struct vmimg_options *options, const char *key, const char *otherwise);
uint64_t vmimg_options_size(
	const struct vmimg_options *options, const char *key, uint64_t otherwise);
bool vmimg_options_bool(const struct vmimg_options *options, const char *key, bool otherwise);
