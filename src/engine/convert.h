/* SPDX-License-Identifier: Apache-2.0 */
/* A disk into a sink: the main job. */
#pragma once
#include "engine/flow.h"

struct vmimg_converted {
	uint64_t bytes_read;    /* guest data read from the source */
	uint64_t bytes_written; /* stores done, tables not counted */
	uint64_t bytes_cloned;  /* shared with the source instead */
	uint64_t bytes_zero;    /* guest bytes that are zero or absent, and were not written */
	uint64_t shared_blocks; /* blocks of the source's file that serve more than one place */
	uint64_t shared_at;     /* guest offset of the first one */
	unsigned threads;
};

/* What of the disk's data is given to the sink; the rest becomes ABSENT. */
enum vmimg_only {
	VMIMG_ALL,
	VMIMG_ONLY_DIFFERENCES, /* granules that are not the same in another disk */
	VMIMG_ONLY_ZEROES,      /* granules that are zero */
};

struct vmimg_convert {
	struct vmimg_disk *disk;
	struct vmimg_sink *sink; /* sink->size >= the disk's: the rest is zeroes */
	bool repack;             /* pack again what is packed already in the sink's codec */
	bool layer;           /* what the disk lacks stays so, even if its parent is not opened */
	bool keep_zeroes;     /* data that is zero is written all the same (-S 0) */
	bool fill;            /* so is what is no data at all */
	/* Told of stretches that cannot be read, which then are zero; from any thread. NULL: that is
	 * an error. */
	void (*unread)(void *ctx, uint64_t at, uint64_t len, const struct vmimg_error *why);
	void *unread_ctx;
	enum vmimg_only only; /* VMIMG_ALL: into a new image */
	struct vmimg_disk *against; /* DIFFERENCES: from this one; NULL: from zeroes */
	struct vmimg_run_how how;
};

/* Does everything up to and including the sink's finish. */
int vmimg_convert_run(const struct vmimg_convert *convert, struct vmimg_converted *result,
	struct vmimg_error *err) VMIMG_CHECKED;
