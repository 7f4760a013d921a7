/* SPDX-License-Identifier: Apache-2.0 */
/* What qemu-img would not say of an image is left out: some callers know each field there can be.
 */
#pragma once
#include <jansson.h>

/* Changes what info reports of one disk. */
void face_prune_info(json_t *root);
