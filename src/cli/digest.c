/* SPDX-License-Identifier: Apache-2.0 */
/* vmimg digest: the identity of a disk's content. */
#include "engine/digest.h"
#include <string.h>
#include "cli/open.h"
#include "cli/progress.h"
#include "util/text.h"

struct args {
	struct cli_common common;
	const char *algorithm, *snapshot;
};

static int digest(struct vmimg_disk *disk, const struct cli_common *common, const char *algorithm,
	char *hex, struct vmimg_error *err)
{
	struct cli_progress progress;
	struct vmimg_run_how how = {
		.threads = common->threads, .progress = cli_progress_step, .progress_ctx = &progress
	};
	int failed;

	cli_progress_begin(&progress, common, true);
	failed = vmimg_digest_run(disk, algorithm, &how, hex, err);
	cli_progress_end(&progress);
	return failed;
}

static int run(const struct cli_call *call, struct vmimg_error *err)
{
	const struct args *args = call->args;
	const struct cli_common *common = &args->common;
	const char *algorithm = args->algorithm ? args->algorithm : "sha256";
	VMIMG_AUTO(cli_image_close) struct cli_image image = { 0 };
	struct cli_open how = { .format = common->format,
		.snapshot = args->snapshot,
		.spool_for = "",
		.refs = CLI_REFS_BESIDE };
	char hex[2 * VMIMG_HASH_MAX + 1], name[400];
	json_t *root;

	if (cli_image_open(&image, call->words[0], common, &how, err))
		return -1;
	if (digest(image.disk, common, algorithm, hex, err))
		return -1;
	if (!common->json) {
		printf("%s  %s\n", hex,
			vmimg_escape(name, sizeof(name), call->words[0], strlen(call->words[0])));
		return CLI_OK;
	}
	root = json_object();
	vmimg_json_uint(root, "virtual-size", image.disk->size);
	vmimg_json_text(root, "filename", call->words[0]);
	vmimg_json_text(root, "format", image.disk->format->name);
	json_object_set_new(root, "schema", json_string("vmimg.digest/1"));
	vmimg_json_text(root, "algorithm", algorithm);
	vmimg_json_text(root, algorithm, hex);
	return cli_print_json(stdout, root, err);
}

static const struct cli_option options[] = {
	{ 0, "algorithm", "NAME", "sha256, another digest of OpenSSL's, or tree (sha256)",
		cli_set_text, offsetof(struct args, algorithm) },
	{ 'l', NULL, "SNAPSHOT", "of an internal snapshot, by id or name", cli_set_text,
		offsetof(struct args, snapshot) },
	{ 0 },
};

static const struct cli_option *const groups[] = { options, cli_format_options, cli_report_options,
	cli_work_options, cli_source_options, NULL };

const struct cli_verb cli_digest = {
	.name = "digest",
	.operands = "IMAGE",
	.summary = "Prints a digest of the disk's content, the same in any format",
	.detail = "sha256 is what sha256sum prints for the raw disk. tree costs nothing on holes "
		  "and uses\n"
		  "all processors: SHA-256 over the size, and the offset and SHA-256 of each 64 "
		  "KiB block\n"
		  "that is not zero.",
	.least = 1,
	.most = 1,
	.args_size = sizeof(struct args),
	.reach = CLI_READS,
	.options = groups,
	.run = run,
};
