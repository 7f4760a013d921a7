/* SPDX-License-Identifier: Apache-2.0 */
/* unused [gaps] FILE: prints what the file systems of a raw disk declare unused, a range a line,
 * and what is left alone. */
#include "inspect/unused.h"
#include <inttypes.h>
#include <stdio.h>
#include <string.h>
#include "io/file.h"

static int each(void *ctx, uint64_t at, uint64_t len, struct vmimg_error *err)
{
	(void)ctx;
	(void)err;
	printf("%" PRIu64 " %" PRIu64 "\n", at, len);
	return 0;
}

static void left(void *ctx, unsigned part, const char *type, const char *why)
{
	(void)ctx;
	printf("left %u %s %s\n", part, type ? type : "-", why);
}

int main(int argc, char **argv)
{
	bool gaps = argc > 2 && !strcmp(argv[1], "gaps");
	struct vmimg_unused how = { .gaps = gaps, .each = each, .left = left };
	struct vmimg_error err;
	struct vmimg_io *io = argc > 1 ? vmimg_file_open(argv[argc - 1], false, &err) : NULL;
	int failed = !io || vmimg_unused_walk(io, &how, &err);

	if (failed && argc > 1)
		fprintf(stderr, "%s\n", err.text);
	vmimg_io_unref(io);
	return failed;
}
