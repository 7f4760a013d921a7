/* SPDX-License-Identifier: Apache-2.0 */
/* Another backing file for an image that is there. */
#pragma once
#include "cli/target.h"

struct cli_rebase {
	const char *name;   /* as it is to be written; "": none any more */
	const char *format; /* NULL: detected */
	bool unsafe;        /* the content of the old chain and the new one is the same */
};

int cli_rebase_to(const char *path, const struct cli_rebase *to, const struct cli_common *common,
	struct vmimg_error *err) VMIMG_CHECKED;
