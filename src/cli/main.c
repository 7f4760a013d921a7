/* SPDX-License-Identifier: Apache-2.0 */
/* The table of verbs, and what is the same for all: help, the one line of an error. */
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include "cli/face/face.h"
#include "cli/run.h"

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
		cli_print_verb_help(verb);
	else
		print_help();
	return CLI_OK;
}

static bool is_word(const char *word, const char *a, const char *b, const char *c)
{
	return !strcmp(word, a) || !strcmp(word, b) || !strcmp(word, c);
}

static bool is_named(const char *path, const char *name)
{
	const char *slash = path ? strrchr(path, '/') : NULL;

	return path && !strcmp(slash ? slash + 1 : path, name);
}

int main(int argc, char **argv)
{
	struct vmimg_error err = { 0 };
	const struct cli_verb *verb;

	signal(SIGPIPE, SIG_IGN); /* a write that fails says so itself */
	signal(SIGXFSZ, SIG_IGN);
	if (is_named(argv[0], "qemu-img"))
		return cli_face_main(argc, argv);
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
	return conclude(verb, cli_run(verb, argc - 2, argv + 2, false, &err), &err);
}
