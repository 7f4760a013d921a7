/* SPDX-License-Identifier: Apache-2.0 */
/* No format of any file, but a driver all the same: its map asks the maps of the parts. */
#include "disk/join.h"
#include <inttypes.h>
#include <string.h>
#include "util/limits.h"
#include "util/num.h"

struct join {
	struct vmimg_part *parts;
	uint64_t *ends; /* of each part, in the joined disk; ascending */
	size_t count;
};

static void join_close(struct vmimg_disk *disk)
{
	struct join *join = disk->state;

	if (!join)
		return;
	free(join->parts);
	free(join->ends);
	free(join);
}

/* The first part that ends after at. */
static size_t find_part(const struct join *join, uint64_t at)
{
	size_t low = 0, high = join->count - 1;

	while (low < high) {
		size_t middle = low + (high - low) / 2;

		if (join->ends[middle] > at)
			high = middle;
		else
			low = middle + 1;
	}
	return low;
}

static int join_map(
	struct vmimg_disk *disk, uint64_t at, struct vmimg_run *run, struct vmimg_error *err)
{
	const struct join *join = disk->state;
	size_t i = find_part(join, at);
	const struct vmimg_part *part = &join->parts[i];
	uint64_t into = at - (join->ends[i] - part->len);

	if (!part->disk) {
		*run = (struct vmimg_run){ .kind = VMIMG_RUN_ZERO, .len = part->len - into };
		return 0;
	}
	if (vmimg_disk_resolve(part->disk, part->start + into, run, NULL, err))
		return vmimg_within(err, "%s", vmimg_io_name(part->disk->io));
	run->len = vmimg_min(run->len, part->len - into);
	if (run->kind == VMIMG_RUN_ABSENT)
		*run = (struct vmimg_run){ .kind = VMIMG_RUN_ZERO, .len = run->len };
	return 0;
}

static int join_probe(const struct vmimg_probe *probe)
{
	(void)probe;
	return 0;
}

static int join_open(
	struct vmimg_disk *disk, const struct vmimg_open *options, struct vmimg_error *err)
{
	(void)disk, (void)options;
	return vmimg_fail(err, VMIMG_EFORMAT, "joined disks are in no file");
}

static int join_describe(struct vmimg_disk *disk, struct vmimg_info *info, struct vmimg_error *err)
{
	(void)disk, (void)info, (void)err;
	return 0;
}

static const struct vmimg_format join_format = {
	.name = "raw",
	.title = "joined disks",
	.probe = join_probe,
	.open = join_open,
	.close = join_close,
	.map = join_map,
	.describe = join_describe,
};

static int fill(struct vmimg_disk *disk, struct join *join, const struct vmimg_part *parts,
	struct vmimg_error *err)
{
	join->parts = vmimg_alloc_array(join->count, sizeof(*join->parts), err);
	join->ends = vmimg_alloc_array(join->count, sizeof(*join->ends), err);
	if (!join->parts || !join->ends)
		return -1;
	memcpy(join->parts, parts, join->count * sizeof(*parts));
	for (size_t i = 0; i < join->count; i++) {
		if (!vmimg_add(disk->size, parts[i].len, &disk->size) ||
			disk->size > VMIMG_MAX_DISK)
			return vmimg_fail(err, VMIMG_ELIMIT, "a disk of more than 4 EiB");
		join->ends[i] = disk->size;
	}
	return 0;
}

struct vmimg_disk *vmimg_disk_join(
	const struct vmimg_part *parts, size_t count, struct vmimg_error *err)
{
	VMIMG_AUTO(vmimg_disk_close) struct vmimg_disk *disk = vmimg_new(struct vmimg_disk, err);
	struct vmimg_disk *first;
	struct join *join;

	if (!disk)
		return NULL;
	disk->format = &join_format;
	first = parts[0].disk ? parts[0].disk : parts[1].disk;
	disk->io = vmimg_io_ref(first->io);
	disk->sector_size = first->sector_size;
	disk->warnings = json_array();
	disk->state = join = vmimg_new(struct join, err);
	if (!join)
		return NULL;
	join->count = count;
	return fill(disk, join, parts, err) ? NULL : vmimg_take(disk);
}
