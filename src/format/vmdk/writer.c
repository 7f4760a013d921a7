/* SPDX-License-Identifier: Apache-2.0 */
/* The main file, the settings, and the files of extents. */
#include "format/vmdk/write.h"

int vmimg_vmdk_writer_plan(
	struct vmdk_writer *w, const struct vmimg_create *create, struct vmimg_error *err)
{
	if (!create->siblings)
		return vmimg_fail(err, VMIMG_EINVAL, "subformat %s takes several files",
			w->settings.create_type);
	w->lines = vmimg_vmdk_plan(&w->settings, create->siblings->main_name, &w->count, err);
	return w->lines ? 0 : -1;
}

struct vmimg_io *vmimg_vmdk_writer_file(
	struct vmdk_writer *w, const struct vmimg_create *create, size_t i, struct vmimg_error *err)
{
	return create->siblings->create(create->siblings, w->lines[i].name, err);
}

void vmimg_vmdk_writer_done(struct vmdk_writer *w)
{
	vmimg_vmdk_lines_free(w->lines, w->count);
	vmimg_io_unref(w->io);
}

struct vmimg_sink *vmimg_vmdk_writer_new(const struct vmdk_writer_kind *kind, struct vmimg_io *io,
	const struct vmimg_create *create, const struct vmdk_settings *settings,
	struct vmimg_error *err)
{
	struct vmdk_writer *w = vmimg_alloc_array(1, kind->object, err);

	if (!w)
		return NULL;
	w->settings = *settings;
	w->io = vmimg_io_ref(io);
	w->content = settings->sectors;
	w->sink = (struct vmimg_sink){ .ops = kind->ops,
		.size = settings->sectors * VMDK_SECTOR,
		.granule = kind->granule,
		.chunk = kind->chunk,
		.wants_digest = vmimg_vmdk_wants_digest(settings),
		.splits_zeroes = true };
	if (!kind->make(w, create, err))
		return &w->sink;
	vmimg_sink_close(&w->sink);
	return NULL;
}
