/* SPDX-License-Identifier: Apache-2.0 */
/* The sink is made once, on nothing, to learn its options' faults and its granule. */
#include "engine/measure.h"
#include "engine/source.h"
#include "io/null.h"
#include "util/num.h"

/* Bytes of data that are looked at in one deal. */
#define STEP (UINT32_C(1) << 30)

static struct vmimg_io *null_sibling(
	struct vmimg_siblings *siblings, const char *name, struct vmimg_error *err)
{
	(void)siblings;
	return vmimg_null_new(name, err);
}

static struct vmimg_sink *try_sink(const struct vmimg_format *format,
	const struct vmimg_create *create, struct vmimg_error *err)
{
	VMIMG_AUTO(vmimg_io_unref) struct vmimg_io *io = vmimg_null_new("image", err);
	struct vmimg_siblings siblings = { null_sibling, "image" };
	struct vmimg_create copy = *create;

	copy.siblings = &siblings;
	return io ? vmimg_sink_create(format, io, &copy, err) : NULL;
}

/* Whole units in which the source has data. */
static int count_data(struct vmimg_disk *disk, const struct vmimg_sink *sink, uint64_t *data,
	struct vmimg_error *err)
{
	uint32_t unit = sink->unit ? sink->unit : sink->granule;
	struct vmimg_source source;
	struct vmimg_deal deal;
	int failed;

	*data = 0;
	vmimg_source_init(&source, disk, unit, STEP);
	source.keep_absent = sink->keeps_absent && disk->parent;
	while (!(failed = vmimg_source_deal(&source, &deal, err)) && deal.len)
		if (deal.kind == VMIMG_PIECE_DATA)
			*data += vmimg_align_up(deal.len, unit);
	vmimg_source_done(&source);
	return failed;
}

int vmimg_measure_run(const struct vmimg_format *format, const struct vmimg_create *create,
	struct vmimg_disk *disk, struct vmimg_measured *result, struct vmimg_error *err)
{
	struct vmimg_create dry = *create;
	VMIMG_AUTO(vmimg_sink_close) struct vmimg_sink *sink = NULL;
	struct vmimg_measured measured = { 0 };
	uint64_t data = 0;

	dry.dry = true;
	sink = try_sink(format, &dry, err);
	if (!sink)
		return -1;
	if (!format->measure)
		return vmimg_fail(err, VMIMG_EUNSUPPORTED,
			"the size of a %s image cannot be known before it is written",
			format->name);
	if (disk && count_data(disk, sink, &data, err))
		return -1;
	if (format->measure(&dry, data, &measured.required, err) ||
		format->measure(
			&dry, vmimg_align_up(create->size, sink->granule), &measured.full, err))
		return -1;
	if (disk && disk->format->bitmap_read && sink->ops->measure_bitmaps)
		measured.carries = sink->ops->measure_bitmaps(sink, disk, &measured.bitmaps);
	*result = measured;
	return 0;
}
