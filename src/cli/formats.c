/* SPDX-License-Identifier: Apache-2.0 */
/* vmimg formats: what there is, and what can be done with each. */
#include <stdio.h>
#include "cli/cli.h"

struct args {
	struct cli_common common;
};

static int print_table(void)
{
	for (size_t i = 0; vmimg_formats[i]; i++) {
		const struct vmimg_format *format = vmimg_formats[i];

		printf("%-8s %-5s %-5s  %s\n", format->name, format->create ? "rw" : "r",
			format->check ? "check" : "", format->title);
	}
	return CLI_OK;
}

static json_t *format_json(const struct vmimg_format *format)
{
	json_t *item = json_object();

	vmimg_json_text(item, "name", format->name);
	vmimg_json_text(item, "title", format->title);
	vmimg_json_text(item, "suffixes", format->suffixes);
	vmimg_json_bool(item, "read", true);
	vmimg_json_bool(item, "write", format->create != NULL);
	vmimg_json_bool(item, "check", format->check != NULL);
	vmimg_json_bool(item, "snapshots", format->snapshots);
	return item;
}

static int run(const struct cli_call *call, struct vmimg_error *err)
{
	const struct args *args = call->args;
	json_t *root, *list;

	if (!args->common.json)
		return print_table();
	root = json_object();
	list = json_array();
	json_object_set_new(root, "schema", json_string("vmimg.formats/1"));
	json_object_set_new(root, "formats", list);
	for (size_t i = 0; vmimg_formats[i]; i++)
		json_array_append_new(list, format_json(vmimg_formats[i]));
	return cli_print_json(stdout, root, err);
}

static const struct cli_option *const groups[] = { cli_report_options, NULL };

const struct cli_verb cli_formats = {
	.name = "formats",
	.operands = "",
	.summary = "Lists the formats of images",
	.args_size = sizeof(struct args),
	.options = groups,
	.run = run,
};
