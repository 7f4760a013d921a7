/* SPDX-License-Identifier: Apache-2.0 */
/* vmimg lint: what a target would refuse, without giving it anything. */
#include <stdio.h>
#include <string.h>
#include "bundle/ovf_edit.h"
#include "bundle/ovf_targets.h"
#include "cli/open.h"

struct args {
	struct cli_common common;
	const char *target;
};

static int print(json_t *findings, const struct args *args, struct vmimg_error *err)
{
	json_t *finding, *root;
	size_t i;

	if (args->common.json) {
		root = json_object();
		json_object_set_new(root, "schema", json_string("vmimg.lint/1"));
		json_object_set_new(root, "target", json_string(args->target));
		json_object_set(root, "findings", findings);
		return cli_print_json(stdout, root, err);
	}
	json_array_foreach(findings, i, finding)
		printf("%s: %s\n", json_string_value(json_object_get(finding, "code")),
			json_string_value(json_object_get(finding, "text")));
	return CLI_OK;
}

static int lint(const struct args *args, struct vmimg_bundle *bundle, struct vmimg_error *err)
{
	json_t *findings = json_array();
	int result = vmimg_ovf_lint(bundle, args->target, findings, err)
		? -1
		: print(findings, args, err);
	bool clean = !json_array_size(findings);

	json_decref(findings);
	return result < 0 || clean ? result : CLI_MALFORMED;
}

static int run(const struct cli_call *call, struct vmimg_error *err)
{
	const struct args *args = call->args;
	VMIMG_AUTO(cli_image_close) struct cli_image image = { 0 };
	struct cli_open how = { .format = args->common.format,
		.spool_for = "",
		.refs = CLI_REFS_BESIDE,
		.bundle = true };
	const char *name;

	if (!args->target || strncmp(args->target, "ova-", 4))
		return vmimg_fail(err, VMIMG_EINVAL, "--target is one of " VMIMG_OVF_TARGETS);
	if (cli_image_open(&image, call->words[0], &args->common, &how, err))
		return -1;
	name = image.bundle ? image.bundle->format->name : "";
	if (strcmp(name, "ova") && strcmp(name, "ovf"))
		return vmimg_fail(
			err, VMIMG_EFORMAT, "%.200s is neither OVF nor OVA", call->words[0]);
	return lint(args, image.bundle, err);
}

static const struct cli_option options[] = {
	{ 0, "target", "TARGET", VMIMG_OVF_TARGETS, cli_set_text, offsetof(struct args, target) },
	{ 0 },
};

static const struct cli_option *const groups[] = { options, cli_format_options, cli_report_options,
	cli_source_options, NULL };

const struct cli_verb cli_lint = {
	.name = "lint",
	.operands = "BUNDLE",
	.summary = "Says what a target would refuse",
	.detail =
		"The exit code is 0 when there is nothing, and 4 otherwise. \"ovf edit --target\" "
		"changes what\nis marked as dialect.",
	.least = 1,
	.most = 1,
	.args_size = sizeof(struct args),
	.reach = CLI_READS,
	.options = groups,
	.run = run,
};
