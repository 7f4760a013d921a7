/* SPDX-License-Identifier: Apache-2.0 */
/* dd is a conversion of a stretch. */
#include "cli/face/dd.h"
#include <inttypes.h>
#include <stdio.h>
#include "cli/dd_operands.h"
#include "cli/face/name.h"

static int add_bytes(
	struct face_words *words, const char *option, uint64_t bytes, struct vmimg_error *err)
{
	char text[24];

	snprintf(text, sizeof(text), "%" PRIu64, bytes);
	return face_words_add_pair(words, option, text, err);
}

/* described: by keys, as the input is then. */
static int add_name(struct face_words *words, struct face_words *operands, const char *name,
	bool described, struct vmimg_error *err)
{
	struct face_image image;
	int failed = 0;

	if (face_name(name, described, &image, err))
		return -1;
	if (described && image.format)
		failed = face_words_add_pair(words, "-f", image.format, err);
	failed = failed || face_words_add(operands, image.path, err);
	face_image_done(&image);
	return failed ? -1 : 0;
}

int face_dd(struct face_words *words, size_t count, char **given, bool described,
	struct face_words *operands, struct vmimg_error *err)
{
	struct cli_dd dd;

	if (cli_dd_read_few(&dd, (const char *const *)given, count, err))
		return -1;
	if (!dd.in || !dd.out)
		return vmimg_fail(err, VMIMG_EINVAL, "Must specify both input and output files");
	if (dd.skip && add_bytes(words, "--skip", dd.skip, err))
		return -1;
	if (dd.counted && add_bytes(words, "--length", dd.length, err))
		return -1;
	return add_name(words, operands, dd.in, described, err) ||
			add_name(words, operands, dd.out, false, err)
		? -1
		: 0;
}
