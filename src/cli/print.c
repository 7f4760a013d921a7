/* SPDX-License-Identifier: Apache-2.0 */
/* What goes to standard output and standard error, and whether it got there. */
#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include "cli/cli.h"
#include "util/text.h"

static const char *program = "vmimg";

void cli_set_program(const char *name)
{
	program = name;
}

bool cli_is_face(void)
{
	return !strcmp(program, "qemu-img");
}

void cli_warn(const char *fmt, ...)
{
	char text[400];
	va_list args;

	va_start(args, fmt);
	vsnprintf(text, sizeof(text), fmt, args);
	va_end(args);
	vmimg_mask(text); /* words of the command line come as they are */
	fflush(stdout);   /* so that a terminal or a log shows both in the order they happened */
	fprintf(stderr, "%s: %s\n", program, text);
}

int cli_print_json(FILE *to, json_t *root, struct vmimg_error *err)
{
	int failed = !root || json_dumpf(root, to, JSON_INDENT(4)) || fputc('\n', to) == EOF;

	json_decref(root);
	if (failed && !ferror(to))
		return vmimg_fail_nomem(err);
	return 0; /* a failed write is met in cli_flush */
}

int cli_flush(struct vmimg_error *err)
{
	errno = 0;
	if (!fflush(stdout) && !ferror(stdout))
		return 0;
	return vmimg_fail_sys(err, errno ? errno : EIO, "writing to standard output");
}
