/* SPDX-License-Identifier: Apache-2.0 */
/* The sink over an existing image, and what is poured into it. */
#include "engine/in_place.h"
#include "engine/view.h"

static const struct vmimg_update same_content = { .same_content = true };
static const struct vmimg_update new_content = { 0 };
static const struct vmimg_update no_content = { .same_content = true, .only_zeroes = true };

static struct vmimg_sink *open_update(
	struct vmimg_disk *disk, const struct vmimg_update *update, struct vmimg_error *err)
{
	const struct vmimg_edit_ops *edit = disk->format->edit;
	struct vmimg_sink *sink;

	if (!edit || !edit->update) {
		vmimg_fail(err, VMIMG_EUNSUPPORTED, "%s: format %s takes no new content in place",
			vmimg_io_name(disk->io), disk->format->name);
		return NULL;
	}
	sink = edit->update(disk, update, err);
	if (!sink)
		return NULL;
	if (!sink->ops->start || !sink->ops->start(sink, err))
		return sink;
	vmimg_sink_close(sink);
	return NULL;
}

static int pour(struct vmimg_convert *convert, struct vmimg_disk *into,
	const struct vmimg_update *update, const struct vmimg_run_how *how,
	struct vmimg_converted *done, struct vmimg_error *err)
{
	VMIMG_AUTO(vmimg_sink_close) struct vmimg_sink *sink = open_update(into, update, err);

	if (!sink)
		return -1;
	convert->sink = sink;
	convert->layer = true;
	convert->how = *how;
	return vmimg_convert_run(convert, done, err) || vmimg_io_sync(into->io, err) ? -1 : 0;
}

int vmimg_commit_run(struct vmimg_disk *top, struct vmimg_disk *base,
	const struct vmimg_run_how *how, struct vmimg_converted *done, struct vmimg_error *err)
{
	struct vmimg_layers layers;
	struct vmimg_convert convert = { .disk = &layers.disk };

	vmimg_layers_init(&layers, top, base);
	return pour(&convert, base, &same_content, how, done, err);
}

int vmimg_rebase_run(struct vmimg_disk *top, struct vmimg_disk *parent,
	const struct vmimg_run_how *how, struct vmimg_converted *done, struct vmimg_error *err)
{
	struct vmimg_below below;
	struct vmimg_convert convert = {
		.disk = &below.disk, .only = VMIMG_ONLY_DIFFERENCES, .against = parent
	};
	struct vmimg_update update = { .same_content = true, .new_parent = parent };

	vmimg_below_init(&below, top, parent);
	return pour(&convert, top, &update, how, done, err);
}

int vmimg_compact_run(struct vmimg_trim *trim, const struct vmimg_run_how *how,
	struct vmimg_converted *done, struct vmimg_error *err)
{
	struct vmimg_convert convert = { .disk = &trim->disk, .only = VMIMG_ONLY_ZEROES };

	return pour(&convert, trim->inner, &no_content, how, done, err);
}

int vmimg_lay_run(struct vmimg_disk *disk, struct vmimg_disk *source, uint64_t at,
	const struct vmimg_run_how *how, struct vmimg_converted *done, struct vmimg_error *err)
{
	struct vmimg_laid laid;
	struct vmimg_convert convert = { .disk = &laid.disk };

	vmimg_laid_init(&laid, disk, source, at);
	return pour(&convert, disk, &new_content, how, done, err);
}

int vmimg_write_run(struct vmimg_disk *disk, struct vmimg_io *stage, struct vmimg_error *err)
{
	static const struct vmimg_run_how how = { .threads = 1 };
	struct vmimg_patched patched;
	struct vmimg_convert convert = { .disk = &patched.disk, .keep_zeroes = true };
	struct vmimg_converted done;

	vmimg_patched_init(&patched, disk, stage);
	return pour(&convert, disk, &new_content, &how, &done, err);
}
