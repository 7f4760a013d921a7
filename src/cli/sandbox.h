/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Before the first byte of an image is interpreted, the process gives up what it does not need:
 * Landlock leaves it the files that this run is about, seccomp the system calls that reading and
 * writing them take. A parser that is led astray then has nowhere to go. In force from the first
 * image that is opened to the end of the process.
 */
#pragma once
#include <stdbool.h>
#include <stddef.h>
#include "util/error.h"

struct cli_sandbox {
	struct cli_sandbox_rule {
		char *path;
		unsigned long long access; /* of Landlock */
	} rules[256];
	size_t count;
	bool entered;
};

/* What may still be reached, in order of growing trust. Paths are copied; one that is not there is
 * no rule. Before entering; afterwards nothing happens. */
void cli_sandbox_read(
	struct cli_sandbox *sandbox, const char *path); /* a file, or all in a folder */
void cli_sandbox_read_beside(
	struct cli_sandbox *sandbox, const char *path); /* and all in its folder */
/* A new file, given its name at the end: its folder. A device: the device. "-": nothing. */
void cli_sandbox_write(struct cli_sandbox *sandbox, const char *path);
/* Unnamed temporary files in that folder. */
void cli_sandbox_scratch(struct cli_sandbox *sandbox, const char *folder);

/* Once; again is nothing. Where the kernel cannot, it fails only if it must. */
int cli_sandbox_enter(
	struct cli_sandbox *sandbox, bool must, struct vmimg_error *err) VMIMG_CHECKED;
/* Forgets the rules. What was entered stays in force. */
void cli_sandbox_done(struct cli_sandbox *sandbox);
