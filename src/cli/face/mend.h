/* SPDX-License-Identifier: Apache-2.0 */
/* An image that the program which wrote it last did not close is repaired before it is changed, as
 * QEMU does when it opens one for writing. */
#pragma once
#include "util/error.h"

/* format NULL: detected. Of images that were closed, and of what cannot be opened, nothing. */
int face_mend(const char *path, const char *format, struct vmimg_error *err) VMIMG_CHECKED;
