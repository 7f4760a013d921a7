/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Changing an OVF or OVA: the document's tree is edited, so that what is not known here stays, and
 * a new bundle is written with the files as they are. Only for bundles of the kinds "ovf" and
 * "ova".
 */
#pragma once
#include "bundle/bundle.h"

/* Sets in the document's first machine what machine says (NULL, 0 and empty lists: as it is). Each
 * change is a string in changes. */
int vmimg_ovf_set(struct vmimg_bundle *bundle, const struct vmimg_machine *machine, json_t *changes,
	struct vmimg_error *err) VMIMG_CHECKED;
/* Changes what the target would refuse. The same list. */
int vmimg_ovf_adapt(struct vmimg_bundle *bundle, const char *target, json_t *changes,
	struct vmimg_error *err) VMIMG_CHECKED;
/* What the target would refuse: objects {code, text}. The document is not to be written after. */
int vmimg_ovf_lint(struct vmimg_bundle *bundle, const char *target, json_t *findings,
	struct vmimg_error *err) VMIMG_CHECKED;
/* Writes the document and all files as a new archive, or as a descriptor with files beside it
 * (copied: false leaves those out that lie there already), with a new manifest. */
int vmimg_ovf_rewrite(struct vmimg_bundle *bundle, const struct vmimg_bundle_create *create,
	bool archive, bool copied, struct vmimg_error *err) VMIMG_CHECKED;
