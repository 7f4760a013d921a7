/* SPDX-License-Identifier: Apache-2.0 */
/*
 * An io that remembers what was done to it, in order, for tests of what a crash leaves behind: a
 * crash keeps all that was done before the last sync, and any part of what was done after it.
 */
#pragma once
#include "io/io.h"

enum vmimg_record_kind { VMIMG_RECORD_WRITE, VMIMG_RECORD_SYNC, VMIMG_RECORD_RESIZE };

struct vmimg_record {
	enum vmimg_record_kind kind;
	unsigned file;    /* of several, whose records are one */
	uint64_t at, len; /* RESIZE: at is the new size */
	uint8_t *bytes;   /* WRITE: owned */
};

struct vmimg_recording {
	struct vmimg_record *list;
	size_t count, cap;
};

/* Passes everything on to inner (referenced), and notes it as done to that file: several may share
 * a recording. One thread at a time may write. */
struct vmimg_io *vmimg_recorder_open(struct vmimg_io *inner, unsigned file,
	struct vmimg_recording *recording, struct vmimg_error *err) VMIMG_CHECKED;
void vmimg_recording_done(struct vmimg_recording *recording);
