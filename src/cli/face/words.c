/* SPDX-License-Identifier: Apache-2.0 */
#include "cli/face/words.h"
#include <stdlib.h>

int face_words_add(struct face_words *words, const char *word, struct vmimg_error *err)
{
	char *copy;

	if (vmimg_grow_array(
		    &words->items, &words->cap, words->count + 2, sizeof(*words->items), err))
		return -1;
	copy = vmimg_strdup(word, err);
	if (!copy)
		return -1;
	words->items[words->count++] = copy;
	words->items[words->count] = NULL;
	return 0;
}

int face_words_add_pair(
	struct face_words *words, const char *option, const char *value, struct vmimg_error *err)
{
	return face_words_add(words, option, err) || face_words_add(words, value, err) ? -1 : 0;
}

void face_words_done(struct face_words *words)
{
	for (size_t i = 0; i < words->count; i++)
		free(words->items[i]);
	free(words->items);
	*words = (struct face_words){ 0 };
}
