/* SPDX-License-Identifier: Apache-2.0 */
/* Errors in the words that callers of qemu-img look for. */
#pragma once
#include "util/error.h"

void face_reword(struct vmimg_error *err);
