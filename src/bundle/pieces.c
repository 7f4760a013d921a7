/* SPDX-License-Identifier: Apache-2.0 */
#include "bundle/pieces.h"
#include <string.h>
#include "io/joined.h"
#include "io/memory.h"
#include "io/null.h"

int vmimg_pieces_io(struct vmimg_pieces *pieces, struct vmimg_io *io, struct vmimg_error *err)
{
	if (vmimg_grow_array(
		    &pieces->list, &pieces->cap, pieces->count + 1, sizeof(*pieces->list), err))
		return -1;
	pieces->list[pieces->count++] = vmimg_io_ref(io);
	pieces->size += vmimg_io_size(io);
	return 0;
}

int vmimg_pieces_bytes(
	struct vmimg_pieces *pieces, const void *bytes, size_t len, struct vmimg_error *err)
{
	VMIMG_AUTO(vmimg_io_unref) struct vmimg_io *io = vmimg_memory_new(NULL, err);

	if (!io || vmimg_io_pwrite(io, bytes, len, 0, err))
		return -1;
	return vmimg_pieces_io(pieces, io, err);
}

int vmimg_pieces_zeroes(struct vmimg_pieces *pieces, uint64_t len, struct vmimg_error *err)
{
	VMIMG_AUTO(vmimg_io_unref) struct vmimg_io *io = vmimg_null_new(NULL, err);

	if (!io || vmimg_io_resize(io, len, err))
		return -1;
	return vmimg_pieces_io(pieces, io, err);
}

int vmimg_pieces_fill(struct vmimg_pieces *pieces, uint64_t size, struct vmimg_error *err)
{
	return size > pieces->size ? vmimg_pieces_zeroes(pieces, size - pieces->size, err) : 0;
}

struct vmimg_io *vmimg_pieces_join(
	struct vmimg_pieces *pieces, const char *name, struct vmimg_error *err)
{
	return vmimg_joined_open(pieces->list, pieces->count, name, err);
}

void vmimg_pieces_done(struct vmimg_pieces *pieces)
{
	for (size_t i = 0; i < pieces->count; i++)
		vmimg_io_unref(pieces->list[i]);
	free(pieces->list);
	memset(pieces, 0, sizeof(*pieces));
}
