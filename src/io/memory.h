/* SPDX-License-Identifier: Apache-2.0 */
/* An io over memory: for parsers of small things, and for tests. */
#pragma once
#include "io/io.h"

/* Reads from bytes, which stay the caller's and must outlive the io. */
struct vmimg_io *vmimg_memory_view(
	const void *bytes, size_t len, const char *name, struct vmimg_error *err) VMIMG_CHECKED;
/* A writable one that starts empty and grows. One thread at a time may write. */
struct vmimg_io *vmimg_memory_new(const char *name, struct vmimg_error *err) VMIMG_CHECKED;
/* The bytes, valid until the next write. */
const uint8_t *vmimg_memory_bytes(const struct vmimg_io *io);
