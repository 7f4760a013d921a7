/* SPDX-License-Identifier: Apache-2.0 */
/* A command line being put together: words that are owned, in a list that ends with NULL. */
#pragma once
#include <stddef.h>
#include "util/auto.h"
#include "util/error.h"

struct face_words {
	char **items;
	size_t count, cap;
};

int face_words_add(
	struct face_words *words, const char *word, struct vmimg_error *err) VMIMG_CHECKED;
/* Both, one after the other. */
int face_words_add_pair(struct face_words *words, const char *option, const char *value,
	struct vmimg_error *err) VMIMG_CHECKED;
void face_words_done(struct face_words *words);
