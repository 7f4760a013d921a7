/* SPDX-License-Identifier: Apache-2.0 */
/* What the public interface says of a disk that is open. */
#include <inttypes.h>
#include "api/checked.h"
#include "api/work.h"
#include "engine/check.h"
#include "engine/compare.h"
#include "engine/digest.h"

int vmimg_detect(struct vmimg_io *io, const char **format, struct vmimg_error *err)
{
	const struct vmimg_format *found = vmimg_disk_probe(io, err);

	if (!found)
		return -1;
	*format = found->name;
	return 0;
}

int vmimg_disk_extent(
	struct vmimg_disk *disk, uint64_t at, struct vmimg_extent *extent, struct vmimg_error *err)
{
	static const enum vmimg_extent_kind kinds[] = {
		[VMIMG_RUN_ABSENT] = VMIMG_EXTENT_ABSENT,
		[VMIMG_RUN_ZERO] = VMIMG_EXTENT_ZERO,
		[VMIMG_RUN_DATA] = VMIMG_EXTENT_DATA,
		[VMIMG_RUN_PACKED] = VMIMG_EXTENT_PACKED,
	};
	struct vmimg_run run;
	unsigned depth;

	if (at >= disk->size)
		return vmimg_fail(err, VMIMG_EINVAL,
			"offset %" PRIu64 " is past the disk's end at %" PRIu64, at, disk->size);
	if (vmimg_disk_resolve(disk, at, &run, &depth, err))
		return -1;
	*extent = (struct vmimg_extent){
		.kind = kinds[run.kind],
		.len = run.len,
		.depth = depth,
		.placed = run.kind == VMIMG_RUN_DATA && !run.encrypted,
	};
	if (extent->placed)
		extent->at = run.at;
	return 0;
}

int vmimg_disk_digest(struct vmimg_disk *disk, const char *algorithm, const struct vmimg_work *work,
	char hex[VMIMG_DIGEST_TEXT], struct vmimg_error *err)
{
	struct api_work how;

	_Static_assert(VMIMG_DIGEST_TEXT == 2 * VMIMG_HASH_MAX + 1, "room for the longest digest");
	api_work_init(&how, work);
	return vmimg_digest_run(disk, algorithm, &how.how, hex, err);
}

int vmimg_disk_compare(struct vmimg_disk *a, struct vmimg_disk *b, const struct vmimg_work *work,
	struct vmimg_compared *result, struct vmimg_error *err)
{
	struct api_work how;

	api_work_init(&how, work);
	return vmimg_compare_run(a, b, &how.how, result, err);
}

struct vmimg_checked api_checked(const struct vmimg_report *report)
{
	return (struct vmimg_checked){
		.count = { report->count[0], report->count[1], report->count[2], report->count[3] },
		.total_blocks = report->total_blocks,
		.allocated_blocks = report->allocated_blocks,
		.compressed_blocks = report->compressed_blocks,
		.fragmented_blocks = report->fragmented_blocks,
		.image_end = report->image_end,
	};
}

void api_tell(const struct vmimg_report *report,
	void (*each)(void *ctx, const struct vmimg_finding *), void *ctx)
{
	for (unsigned i = 0; each && i < report->kept_count; i++)
		each(ctx, &report->kept[i]);
}

int vmimg_disk_check(struct vmimg_disk *disk, const struct vmimg_work *work,
	void (*each)(void *ctx, const struct vmimg_finding *finding), void *ctx,
	struct vmimg_checked *result, struct vmimg_error *err)
{
	VMIMG_AUTO(free) struct vmimg_report *report = vmimg_new(struct vmimg_report, err);
	struct api_work how;

	api_work_init(&how, work);
	if (!report || vmimg_check_run(disk, &how.how, report, err))
		return -1;
	api_tell(report, each, ctx);
	*result = api_checked(report);
	return 0;
}
