/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A source that can only be read from front to back (a pipe, a compressed file) put into an unnamed
 * temporary file, where it can be read at any offset. Zeroes are left as holes. Nothing is left
 * behind, whatever happens.
 */
#pragma once
#include "io/io.h"

struct vmimg_spool {
	int fd;              /* read from where it stands to its end; stays the caller's */
	struct vmimg_io *io; /* read instead of fd; NULL: fd it is */
	const char *name;    /* for messages */
	const char *folder;  /* where the temporary file goes; NULL: $TMPDIR, or else /var/tmp */
	bool as_it_is;       /* do not unpack */
	uint64_t limit;      /* bytes of the temporary file; 0: none */
	const atomic_bool *cancel; /* NULL: goes on */
};

struct vmimg_io *vmimg_spool(
	const struct vmimg_spool *spool, struct vmimg_error *err) VMIMG_CHECKED;
