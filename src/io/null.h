/* SPDX-License-Identifier: Apache-2.0 */
/* An io that takes everything and keeps nothing but its size: for trying out what a writer does. */
#pragma once
#include "io/io.h"

/* What is read back is zero. */
struct vmimg_io *vmimg_null_new(const char *name, struct vmimg_error *err) VMIMG_CHECKED;
