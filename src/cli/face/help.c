/* SPDX-License-Identifier: Apache-2.0 */
/* --help and --version, whose lines callers look for: "qemu-img version N", "Supported formats:",
 * and the options of a subcommand. */
#include <stdio.h>
#include "cli/face/face.h"
#include "disk/format.h"

/* The release whose command line, texts and JSON this is. */
#define LIKE "7.2.0"

static void print_option(const struct face_option *option)
{
	const char *value = option->value ? " value" : "";

	if (option->act == FACE_REFUSE)
		return;
	if (option->letter)
		printf(" [-%c%s]", option->letter, value);
	else
		printf(" [--%s%s]", option->name, value);
}

/* Formats that qemu-img knows as well, by its names. */
static void print_formats(void)
{
	printf("\nSupported formats:");
	for (const struct vmimg_format *const *format = vmimg_formats; *format; format++)
		if (cli_qemu_name(*format))
			printf(" %s", cli_qemu_name(*format));
	printf("\n");
}

void face_print_version(void)
{
	printf("qemu-img version " LIKE " (vmimg %s)\n", vmimg_version());
}

void face_print_help(void)
{
	face_print_version();
	printf("usage: qemu-img [standard options] command [command options]\n"
	       "vmimg, under the name and with the command line of QEMU's disk image utility\n\n"
	       "    '-h', '--help'       display this help and exit\n"
	       "    '-V', '--version'    output version information and exit\n"
	       "    '-T', '--trace'      taken, without effect\n\n"
	       "Command syntax:\n");
	for (const struct face_command *command = face_commands; command->name; command++) {
		if (!command->verb)
			continue;
		printf("  %s", command->name);
		for (const struct face_option *o = command->options; o->letter || o->name; o++)
			print_option(o);
		printf(" %s\n", command->operands);
	}
	print_formats();
}
