/* SPDX-License-Identifier: Apache-2.0 */
/* Errors in the words that callers of qemu-img look for. */
#pragma once
#include "util/error.h"

#define FACE_TEXT 600

/* What is to be printed of err, which may be several lines. */
void face_reword(struct vmimg_error *err, char out[FACE_TEXT]);
