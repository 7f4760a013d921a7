/* SPDX-License-Identifier: Apache-2.0 */
/* A pipe, socket or terminal as an io that is written from front to back. */
#pragma once
#include "io/io.h"

/* Does not close fd. Writes must come in order; a gap is filled with zeroes; one thread at a time.
 * A reader that went away is VMIMG_ESYSTEM with EPIPE (the caller ignores SIGPIPE). */
struct vmimg_io *vmimg_stream_writer(
	int fd, const char *name, struct vmimg_error *err) VMIMG_CHECKED;
