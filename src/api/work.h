/* SPDX-License-Identifier: Apache-2.0 */
/* struct vmimg_work as the engine takes it. */
#pragma once
#include "engine/flow.h"

struct api_work {
	struct vmimg_run_how how; /* points into this struct: it stays where it is */
	const struct vmimg_work *wanted;
	atomic_bool cancel;
};

/* wanted: NULL: nothing special. */
void api_work_init(struct api_work *work, const struct vmimg_work *wanted);
