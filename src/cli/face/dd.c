/* SPDX-License-Identifier: Apache-2.0 */
/* dd is a conversion of a stretch. */
#include "cli/face/dd.h"
#include <inttypes.h>
#include <stdio.h>
#include <string.h>
#include "cli/face/name.h"
#include "util/num.h"
#include "util/text.h"

#define BLOCK_MAX INT32_MAX

struct dd {
	uint64_t block, count, skip;
	bool counted;
	const char *in, *out;
};

static int set_number(uint64_t *to, const char *key, const char *value, struct vmimg_error *err)
{
	return vmimg_parse_size(value, to, err) ? vmimg_within(err, "invalid number: %s", key) : 0;
}

static int set_block(struct dd *dd, const char *value, struct vmimg_error *err)
{
	if (set_number(&dd->block, "bs", value, err))
		return -1;
	if (!dd->block || dd->block > BLOCK_MAX)
		return vmimg_fail(err, VMIMG_EINVAL,
			"Invalid bs specified. Must be between 1 and %d.", BLOCK_MAX);
	return 0;
}

static int set(struct dd *dd, char *word, struct vmimg_error *err)
{
	char *equals = strchr(word, '=');

	if (equals)
		*equals = '\0';
	if (equals && !strcmp(word, "if"))
		dd->in = equals + 1;
	else if (equals && !strcmp(word, "of"))
		dd->out = equals + 1;
	else if (equals && !strcmp(word, "bs"))
		return set_block(dd, equals + 1, err);
	else if (equals && !strcmp(word, "skip"))
		return set_number(&dd->skip, word, equals + 1, err);
	else if (equals && !strcmp(word, "count"))
		return dd->counted = true, set_number(&dd->count, word, equals + 1, err);
	else
		return vmimg_fail(err, VMIMG_EINVAL, "unrecognized operand %.80s", word);
	return 0;
}

/* "--skip BYTES" of "skip=BLOCKS". */
static int add_blocks(struct face_words *words, const char *option, uint64_t blocks,
	const struct dd *dd, struct vmimg_error *err)
{
	char text[24];
	uint64_t bytes;

	if (!vmimg_mul(blocks, dd->block, &bytes))
		return vmimg_fail(err, VMIMG_EINVAL,
			"%" PRIu64 " blocks of %" PRIu64 " bytes are more than can be counted",
			blocks, dd->block);
	snprintf(text, sizeof(text), "%" PRIu64, bytes);
	return face_words_add_pair(words, option, text, err);
}

static int add_name(struct face_words *operands, const char *name, struct vmimg_error *err)
{
	struct face_image image;
	int failed;

	if (face_name(name, false, &image, err))
		return -1;
	failed = face_words_add(operands, image.path, err);
	face_image_done(&image);
	return failed;
}

int face_dd(struct face_words *words, size_t count, char **given, struct face_words *operands,
	struct vmimg_error *err)
{
	struct dd dd = { .block = 512 };

	for (size_t i = 0; i < count; i++)
		if (set(&dd, given[i], err))
			return -1;
	if (!dd.in || !dd.out)
		return vmimg_fail(err, VMIMG_EINVAL, "Must specify both input and output files");
	if (dd.skip && add_blocks(words, "--skip", dd.skip, &dd, err))
		return -1;
	if (dd.counted && add_blocks(words, "--length", dd.count, &dd, err))
		return -1;
	return add_name(operands, dd.in, err) || add_name(operands, dd.out, err) ? -1 : 0;
}
