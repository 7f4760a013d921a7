/* SPDX-License-Identifier: Apache-2.0 */
/* A stretch of another io that is written from front to back and hashed as it passes: a file that
 * is put into a bundle, whose digest is wanted when it is done, without reading it again. */
#pragma once
#include "io/io.h"
#include "util/hash.h"

/* What is written at 0 goes to inner at `at`, and so on; a gap is filled with zeroes. inner is
 * shared (referenced); hash is the caller's, and may be NULL. One thread at a time. */
struct vmimg_io *vmimg_digest_open(struct vmimg_io *inner, uint64_t at, struct vmimg_hash *hash,
	const char *name, struct vmimg_error *err) VMIMG_CHECKED;
