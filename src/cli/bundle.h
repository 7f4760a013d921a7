/* SPDX-License-Identifier: Apache-2.0 */
/* Bundles as verbs that work on one disk see them, and their description. */
#pragma once
#include "cli/open.h"

/* When image->io is a bundle, opens it and (unless how->bundle is set and --disk was not given) the
 * disk that --disk names, or the only one. Otherwise does nothing, and --disk is an error. */
int cli_bundle_open(struct cli_image *image, const struct cli_common *common,
	const struct cli_open *how, struct vmimg_error *err) VMIMG_CHECKED;
/* What info prints of a bundle. */
int cli_bundle_print(struct vmimg_bundle *bundle, const struct cli_common *common,
	struct vmimg_error *err) VMIMG_CHECKED;
/* What the reader found odd. */
void cli_bundle_warn(const struct vmimg_bundle *bundle, const struct cli_common *common);
