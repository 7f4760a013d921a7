/* SPDX-License-Identifier: Apache-2.0 */
/* Something large put together from pieces in a row (bytes made here, zeroes, other ios), to be
 * read as one io: nothing is copied, and zeroes stay holes. */
#pragma once
#include "io/io.h"

struct vmimg_pieces {
	struct vmimg_io **list;
	size_t count, cap;
	uint64_t size; /* of all so far */
};

/* Copies the bytes. */
int vmimg_pieces_bytes(struct vmimg_pieces *pieces, const void *bytes, size_t len,
	struct vmimg_error *err) VMIMG_CHECKED;
int vmimg_pieces_zeroes(
	struct vmimg_pieces *pieces, uint64_t len, struct vmimg_error *err) VMIMG_CHECKED;
/* Shares the io. */
int vmimg_pieces_io(
	struct vmimg_pieces *pieces, struct vmimg_io *io, struct vmimg_error *err) VMIMG_CHECKED;
/* Zeroes up to that size; it is not below what is there. */
int vmimg_pieces_fill(
	struct vmimg_pieces *pieces, uint64_t size, struct vmimg_error *err) VMIMG_CHECKED;
/* The whole; at least one piece is there. */
struct vmimg_io *vmimg_pieces_join(
	struct vmimg_pieces *pieces, const char *name, struct vmimg_error *err) VMIMG_CHECKED;
void vmimg_pieces_done(struct vmimg_pieces *pieces);
static inline void vmimg_pieces_done_auto(struct vmimg_pieces *pieces)
{
	vmimg_pieces_done(pieces);
}
