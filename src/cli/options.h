/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Options as tables: each verb lists groups of them, and one parser reads them all. It is strict:
 * no abbreviations, no option that is not in a table, no value that is not of its kind.
 */
#pragma once
#include <stdbool.h>
#include <stddef.h>
#include "disk/options.h"

struct cli_option {
	char letter;      /* 0: none */
	const char *name; /* without the dashes; NULL: none */
	const char *arg;  /* what its value is called; NULL: it takes none */
	const char *help; /* NULL: accepted, not shown */
	/* Puts the value (NULL for a flag) where it belongs. */
	int (*set)(void *to, const char *value, struct vmimg_error *err);
	size_t at; /* offset of to in the verb's arguments */
};

/* -o of the verbs that make images. */
struct cli_create_options {
	struct vmimg_options list;
	bool help; /* -o help was asked for */
};

/* A size that may be zero. */
struct cli_size {
	bool given;
	uint64_t bytes;
};

int cli_set_flag(void *to, const char *value, struct vmimg_error *err);   /* bool */
int cli_set_text(void *to, const char *value, struct vmimg_error *err);   /* const char * */
int cli_set_size(void *to, const char *value, struct vmimg_error *err);   /* uint64_t > 0 */
int cli_set_length(void *to, const char *value, struct vmimg_error *err); /* struct cli_size */
int cli_set_count(void *to, const char *value, struct vmimg_error *err);  /* unsigned, 1 to 256 */
int cli_set_output(void *to, const char *value, struct vmimg_error *err); /* bool: json */
int cli_set_create(void *to, const char *value, struct vmimg_error *err); /* cli_create_options */
int cli_set_hash(
	void *to, const char *value, struct vmimg_error *err); /* const char *: of a manifest */
int cli_set_level(void *to, const char *value, struct vmimg_error *err);  /* enum vmimg_level */
int cli_set_cache(void *to, const char *value, struct vmimg_error *err);  /* bool: do not sync */
int cli_set_nothing(void *to, const char *value, struct vmimg_error *err);
int cli_refuse(void *to, const char *value, struct vmimg_error *err);

/* Reads argv (the words after the verb) into args; the others come first in words, which has room
 * for argc of them. *help: --help was there, and nothing else counts. */
struct cli_words {
	const char **words;
	size_t count;
	bool help;
};
int cli_parse(const struct cli_option *const *groups, void *args, int argc, char *const argv[],
	struct cli_words *words, struct vmimg_error *err) VMIMG_CHECKED;
/* The options, one by one, as --help shows them. */
void cli_print_options(const struct cli_option *const *groups);
