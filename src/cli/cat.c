/* SPDX-License-Identifier: Apache-2.0 */
/* vmimg cat: a file inside an image, to standard output. */
#include <inttypes.h>
#include <unistd.h>
#include "cli/inside.h"
#include "io/stream.h"
#include "util/num.h"

#define PIECE (1U << 20)
#define LEAST (UINT64_C(1) << 30) /* may always be printed */

struct args {
	struct cli_common common;
};

/* A size that a stranger made up may take years to read as zeroes. */
static int check_size(
	const struct cli_inside *inside, const struct cli_common *common, struct vmimg_error *err)
{
	uint64_t most = vmimg_max(LEAST, vmimg_min(inside->image.disk->size, UINT64_MAX / 4) * 4);

	most = common->max_output ? common->max_output : most;
	if (inside->node.kind != VMIMG_NODE_FILE || inside->node.size <= most)
		return 0;
	return vmimg_fail(err, VMIMG_ELIMIT,
		"the file has %" PRIu64 " bytes, and the limit is %" PRIu64 " (--max-output)",
		inside->node.size, most);
}

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

	if (cli_inside_open(&inside, call->words[0], true, &args->common, err) ||
		check_size(&inside, &args->common, err))
		return -1;
	return copy(&inside, err);
}

static const struct cli_option options[] = {
	{ 0, "max-output", "SIZE", "print no more than that (4 times the disk, at least 1G)",
		cli_set_size, offsetof(struct args, common.max_output) },
	{ 0 },
};

static const struct cli_option *const groups[] = { options, cli_format_options, cli_source_options,
	NULL };

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
