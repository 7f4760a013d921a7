/* SPDX-License-Identifier: Apache-2.0 */
/* What a conversion of an empty disk would do, without its workers. */
#include "engine/blank.h"

int vmimg_blank_run(struct vmimg_sink *sink, struct vmimg_error *err)
{
	VMIMG_AUTO(free)
	struct vmimg_store *stores = vmimg_alloc_array(sink->more_stores + 1, sizeof(*stores), err);
	struct vmimg_chunk chunk = { .len = sink->size,
		.kind = sink->keeps_absent || sink->blank_as_is ? VMIMG_PIECE_ABSENT : VMIMG_PIECE_ZERO,
		.stores = stores };

	if (!stores || (sink->size && sink->ops->place(sink, &chunk, err)))
		return -1;
	for (size_t i = 0; i < chunk.store_count; i++)
		if (vmimg_io_pwrite(
			    stores[i].io, stores[i].bytes, stores[i].len, stores[i].at, err))
			return -1;
	return sink->ops->finish(sink, err);
}
