/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The three files of an AMI, a kernel, a ramdisk and a root file system, where nothing describes
 * them: in a folder, told apart by what is in them, or named one by one. They are described here in
 * the words of pack -O ami, and are then a bundle like one that it has written.
 */
#pragma once
#include "cli/cli.h"

enum { CLI_TRIPLE_KERNEL, CLI_TRIPLE_RAMDISK, CLI_TRIPLE_ROOT, CLI_TRIPLE };

struct cli_triple {
	struct vmimg_resolver resolver; /* gives the three by their names, and nothing else */
	struct cli_triple_part {
		char *name; /* without a folder; NULL: there is none */
		struct vmimg_io *io;
	} parts[CLI_TRIPLE];
};

/* Paths; NULL: not given. */
struct cli_named {
	const char *aki, *ari, *ami;
};

bool cli_is_folder(const char *path);
/* Each finds all there is, and that it is what it should be. VMIMG_EINVAL: it is not clear which
 * files are meant. The sandbox is entered before anything in them is looked at. What was taken is
 * given back by done, after a failure too. */
int cli_triple_folder(struct cli_triple *triple, const char *path, const struct cli_common *common,
	struct vmimg_error *err) VMIMG_CHECKED;
int cli_triple_named(struct cli_triple *triple, const struct cli_named *named,
	const struct cli_common *common, struct vmimg_error *err) VMIMG_CHECKED;
/* The description, called name. */
struct vmimg_io *cli_triple_describe(
	struct cli_triple *triple, const char *name, struct vmimg_error *err) VMIMG_CHECKED;
void cli_triple_done(struct cli_triple *triple);
