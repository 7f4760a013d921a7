/* SPDX-License-Identifier: Apache-2.0 */
/* The table of verbs, and what is the same for all: parsing, help, the one line of an error. */
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include "cli/cli.h"
#include "cli/inside.h"

#define POINT(name) &cli_##name,
static const struct cli_verb *const verbs[] = { CLI_VERBS(POINT) NULL };

static const struct cli_verb *find_verb(const char *name)
{
	for (size_t i = 0; verbs[i]; i++)
		if (!strcmp(verbs[i]->name, name))
			return verbs[i];
	return NULL;
}

static void print_help(void)
{
	printf("usage: vmimg VERB [OPTIONS] ...\n"
	       "Reads, writes, converts and checks images of virtual machines' disks.\n\n");
	for (size_t i = 0; verbs[i]; i++)
		printf("  %-10s%s\n", verbs[i]->name, verbs[i]->summary);
	printf("\nvmimg VERB --help tells more of each, vmimg --version the version.\n"
	       "Sizes take k, M, G, T, P or E: powers of 1024.\n");
}

static void print_verb_help(const struct cli_verb *verb)
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

static int run_verb(const struct cli_verb *verb, int argc, char **argv, struct vmimg_error *err)
{
	VMIMG_AUTO(free) void *args = vmimg_alloc_array(1, verb->args_size, err);
	VMIMG_AUTO(free)
	const char **list = vmimg_alloc_array((size_t)argc + 1, sizeof(*list), err);
	struct cli_words words = { .words = list };
	struct cli_call call = { .args = args, .words = list };
	struct cli_sandbox sandbox = { 0 };
	int code;

	if (!args || !list || cli_parse(verb->options, args, argc, argv, &words, err))
		return -1;
	if (words.help) {
		print_verb_help(verb);
		return CLI_OK;
	}
	if (check_count(verb, &words, err))
		return -1;
	call.count = words.count;
	set_reach(verb, &call, &sandbox);
	code = verb->run(&call, err);
	cli_sandbox_done(&sandbox);
	return code;
}

/* The verb's own exit code, or that of the error, which is said here and nowhere else. */
static int conclude(const struct cli_verb *verb, int code, struct vmimg_error *err)
{
	struct vmimg_error late;

	if (code < 0) {
		code = verb && verb->exit_code ? verb->exit_code(err->status)
					       : cli_exit_code(err->status);
		cli_warn("%s%s%s", verb ? verb->name : "", verb ? ": " : "", err->text);
	}
	if (cli_flush(&late)) {
		cli_warn("%s", late.text);
		return code ? code : CLI_SYSTEM;
	}
	return code;
}

static int run_help(int argc, char **argv, struct vmimg_error *err)
{
	const struct cli_verb *verb = argc > 1 ? find_verb(argv[1]) : NULL;

	if (argc > 1 && !verb)
		return vmimg_fail(err, VMIMG_EINVAL,
			"there is no verb '%.40s' (vmimg --help lists them)", argv[1]);
	if (verb)
		print_verb_help(verb);
	else
		print_help();
	return CLI_OK;
}

static bool is_word(const char *word, const char *a, const char *b, const char *c)
{
	return !strcmp(word, a) || !strcmp(word, b) || !strcmp(word, c);
}

int main(int argc, char **argv)
{
	struct vmimg_error err = { 0 };
	const struct cli_verb *verb;

	signal(SIGPIPE, SIG_IGN); /* a write that fails says so itself */
	signal(SIGXFSZ, SIG_IGN);
	if (argc < 2) {
		vmimg_fail(&err, VMIMG_EINVAL, "a verb is missing (vmimg --help lists them)");
		return conclude(NULL, -1, &err);
	}
	if (is_word(argv[1], "help", "--help", "-h"))
		return conclude(NULL, run_help(argc - 1, argv + 1, &err), &err);
	if (is_word(argv[1], "version", "--version", "-V")) {
		printf("vmimg %s\n", vmimg_version());
		return conclude(NULL, CLI_OK, &err);
	}
	verb = find_verb(argv[1]);
	if (!verb) {
		vmimg_fail(&err, VMIMG_EINVAL, "there is no verb '%.40s' (vmimg --help lists them)",
			argv[1]);
		return conclude(NULL, -1, &err);
	}
	return conclude(verb, run_verb(verb, argc - 2, argv + 2, &err), &err);
}
