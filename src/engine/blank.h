/* SPDX-License-Identifier: Apache-2.0 */
/* A new image with nothing in it. */
#pragma once
#include "disk/sink.h"

/* Gives the sink one chunk of nothing over all of its disk, and finishes it. */
int vmimg_blank_run(struct vmimg_sink *sink, struct vmimg_error *err) VMIMG_CHECKED;
