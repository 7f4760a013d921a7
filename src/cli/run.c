/* SPDX-License-Identifier: Apache-2.0 */
/* What is the same for all verbs: parsing, help, and what the sandbox leaves them. */
#include "cli/run.h"
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include "cli/inside.h"

void cli_print_verb_help(const struct cli_verb *verb)
{
	printf("usage: vmimg %s [OPTIONS] %s\n%s.\n", verb->name, verb->operands, verb->summary);
	if (verb->detail)
		printf("\n%s\n", verb->detail);
	printf("\n");
	cli_print_options(verb->options);
}

static int check_count(
	const struct cli_verb *verb, const struct cli_words *words, struct vmimg_error *err)
{
	if (words->count >= verb->least && words->count <= verb->most)
		return 0;
	return vmimg_fail(err, VMIMG_EINVAL, "%s: it takes %s (vmimg %s --help)",
		words->count < verb->least ? "something is missing" : "that is too much",
		*verb->operands ? verb->operands : "no operands", verb->name);
}

/* The folders of images, where their references are, as far as policy goes. */
static void reach_image(
	struct cli_sandbox *sandbox, const struct cli_common *common, const char *path)
{
	if (!strcmp(path, "-"))
		return;
	if (common->untrusted || common->refs == CLI_REFS_NONE)
		cli_sandbox_read(sandbox, path);
	else if (common->refs == CLI_REFS_ANY)
		cli_sandbox_read(sandbox, "/");
	else
		cli_sandbox_read_beside(sandbox, path);
}

/* Says what the verb may reach; the sandbox is entered when the first image is opened. */
static void set_reach(
	const struct cli_verb *verb, const struct cli_call *call, struct cli_sandbox *sandbox)
{
	struct cli_common *common = call->args;
	/* "convert -o help" has no operands at all */
	bool writes = verb->reach == CLI_READS_TO_LAST && call->count;
	size_t images = call->count - writes;
	const char *folder = getenv("TMPDIR");

	if (verb->reach == CLI_FREE || common->free)
		return;
	common->sandbox = sandbox;
	for (size_t i = 0; i < images; i++) {
		const char *word = call->words[i];
		size_t len =
			verb->reach == CLI_READS_INSIDE ? cli_image_length(word) : strlen(word);
		VMIMG_AUTO(free) char *path = strndup(word, len);

		if (path)
			reach_image(sandbox, common, path);
	}
	if (writes)
		cli_sandbox_write(sandbox, call->words[images]);
	if (common->key)
		cli_sandbox_read(sandbox, common->key);
	if (common->certificate)
		cli_sandbox_read(sandbox, common->certificate);
	cli_sandbox_scratch(sandbox, folder && *folder ? folder : "/var/tmp");
}

int cli_run(const struct cli_verb *verb, int argc, char **argv, bool face, struct vmimg_error *err)
{
	VMIMG_AUTO(free) void *args = vmimg_alloc_array(1, verb->args_size, err);
	VMIMG_AUTO(free)
	const char **list = vmimg_alloc_array((size_t)argc + 1, sizeof(*list), err);
	struct cli_words words = { .words = list };
	struct cli_call call = { .args = args, .words = list };
	struct cli_sandbox sandbox = { 0 };
	int code;

	if (!args || !list)
		return -1;
	if (cli_parse(verb->options, args, argc, argv, &words, err)) {
		cli_secrets_free(((struct cli_common *)args)->secrets);
		return -1;
	}
	if (words.help) {
		cli_print_verb_help(verb);
		return CLI_OK;
	}
	if (check_count(verb, &words, err))
		return -1;
	call.count = words.count;
	if (face)
		((struct cli_common *)args)->face = true;
	if (verb->translate && verb->translate(&call, list, err)) {
		cli_secrets_free(((struct cli_common *)args)->secrets);
		return -1;
	}
	set_reach(verb, &call, &sandbox);
	code = verb->run(&call, err);
	cli_sandbox_done(&sandbox);
	cli_secrets_free(((struct cli_common *)args)->secrets);
	return code;
}
