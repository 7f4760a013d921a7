/* SPDX-License-Identifier: Apache-2.0 */
/* vmimg cat: a file inside an image, to standard output. */
#include <errno.h>
#include <unistd.h>
#include "cli/inside.h"
#include "io/stream.h"

#define PIECE (1U << 20)

struct args {
	struct cli_common common;
};

static int copy(struct cli_inside *inside, struct vmimg_error *err)
{
	VMIMG_AUTO(free) uint8_t *buf = vmimg_alloc_buffer(PIECE, err);
	VMIMG_AUTO(vmimg_io_unref)
	struct vmimg_io *out = vmimg_stream_writer(STDOUT_FILENO, "standard output", err);
	uint64_t at = 0;
	size_t got;

	if (!buf || !out)
		return -1;
	do {
		if (vmimg_fs_read(inside->fs, &inside->node, buf, PIECE, at, &got, err) ||
			vmimg_io_pwrite(out, buf, got, at, err))
			return -1;
		at += got;
	} while (got);
	return CLI_OK;
}

static int run(const struct cli_call *call, struct vmimg_error *err)
{
	const struct args *args = call->args;
	VMIMG_AUTO(cli_inside_close) struct cli_inside inside = { 0 };

	if (cli_inside_open(&inside, call->words[0], true, &args->common, err))
		return -1;
	return copy(&inside, err);
}

static const struct cli_option *const groups[] = { cli_format_options, cli_source_options, NULL };

const struct cli_verb cli_cat = {
	.name = "cat",
	.operands = "IMAGE:[PARTITION]/PATH",
	.summary = "Prints a file inside an image",
	.least = 1,
	.most = 1,
	.args_size = sizeof(struct args),
	.reach = CLI_READS_INSIDE,
	.options = groups,
	.run = run,
};
