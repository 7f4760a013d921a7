/* SPDX-License-Identifier: Apache-2.0 */
/* Archives of files with holes, put together as pieces without copying: old GNU tar, type S, which
 * is what clouds' tools read. Source: the GNU tar manual, "Storing Sparse Files". */
#pragma once
#include "bundle/pieces.h"

/* A member: its headers and, of io, what is not a hole. The bytes depend on name, content, holes
 * and epoch alone. The name has at most 100 bytes. */
int vmimg_tar_add_sparse(struct vmimg_pieces *archive, const char *name, struct vmimg_io *io,
	uint64_t epoch, struct vmimg_error *err) VMIMG_CHECKED;
/* The end of the archive, padded to whole records. */
int vmimg_tar_add_end(struct vmimg_pieces *archive, struct vmimg_error *err) VMIMG_CHECKED;
