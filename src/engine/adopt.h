/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Another format around a raw disk whose data stays where it is: what the format's head lies over
 * is written behind the data, and so are the tables; then comes the head. All of it under an undo
 * journal, so that the file is the raw disk or the image, whatever moment a crash picks.
 */
#pragma once
#include "disk/sink.h"
#include "engine/flow.h"
#include "io/journal.h"

struct vmimg_adopt {
	struct vmimg_disk *raw;           /* its io can be written, and is a file as long as it */
	const struct vmimg_format *format; /* one that adopts */
	const struct vmimg_options *options;
	struct vmimg_journal *journal; /* of that file */
	struct vmimg_run_how how;      /* one thread does it all */
};

/* The image is in storage when this returns. When it fails, the raw disk is what it was; where even
 * that cannot be reached, err says so and the undo file stays. */
int vmimg_adopt_run(const struct vmimg_adopt *adopt, struct vmimg_error *err) VMIMG_CHECKED;
/* The same without a journal, and nothing is synced: for sinks made with vmimg_create.adopt. */
int vmimg_adopt_pour(struct vmimg_disk *raw, struct vmimg_sink *sink, uint64_t end,
	const struct vmimg_run_how *how, struct vmimg_error *err) VMIMG_CHECKED;
