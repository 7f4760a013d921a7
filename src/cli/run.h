/* SPDX-License-Identifier: Apache-2.0 */
/* Running a verb from the words after its name. */
#pragma once
#include "cli/cli.h"

/* The exit code, or -1 with err set. face: for a caller of qemu-img (cli/face). */
int cli_run(const struct cli_verb *verb, int argc, char **argv, bool face, struct vmimg_error *err);
void cli_print_verb_help(const struct cli_verb *verb);
