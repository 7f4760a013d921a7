/* SPDX-License-Identifier: Apache-2.0 */
/* What "ovf edit" and "ovf sign" share: an opened bundle into a new one. */
#pragma once
#include "cli/machine_args.h"
#include "cli/open.h"

struct cli_ovf_edit {
	struct cli_machine_args machine;
	const char *output, *kind, *target, *hash, *key, *certificate;
	bool force, no_sync;
};

/* The new bundle, with what was changed printed. */
int cli_ovf_rewrite(struct cli_image *image, const struct cli_ovf_edit *edit,
	const struct cli_common *common, struct vmimg_error *err) VMIMG_CHECKED;
