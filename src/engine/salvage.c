/* SPDX-License-Identifier: Apache-2.0 */
/* The survey's list is all that the salvaged disk adds: it does not change, so threads need no
 * lock. */
#include "engine/salvage.h"
#include <inttypes.h>
#include <stdio.h>
#include <string.h>
#include "util/num.h"

/* Unreadable places after which a disk is ruined beyond interest. */
#define ENOUGH (UINT32_C(1) << 18)
/* What is given up at once where the format has no blocks. */
#define STEP (UINT32_C(64) << 10)

struct survey {
	struct vmimg_disk *disk;
	struct vmimg_reader *reader;
	struct vmimg_lost *lost;
	uint32_t failures;
	uint64_t plain; /* bytes of runs in the file itself */
};

static int note(struct survey *s, uint64_t at, uint64_t len, const struct vmimg_error *why,
	struct vmimg_error *err)
{
	struct vmimg_lost *lost = s->lost;
	struct vmimg_lost_range *last = lost->count ? &lost->ranges[lost->count - 1] : NULL;

	if (++s->failures > ENOUGH)
		return vmimg_fail(err, VMIMG_ELIMIT,
			"%s: more than %u places of the disk cannot be read: too much is gone",
			vmimg_io_name(s->disk->io), ENOUGH);
	if (!lost->count)
		snprintf(lost->why, sizeof(lost->why), "%s", why->text);
	lost->bytes += len;
	if (last && last->at + last->len == at) {
		last->len += len;
		return 0;
	}
	if (vmimg_grow_array(
		    &lost->ranges, &lost->cap, lost->count + 1, sizeof(*lost->ranges), err))
		return -1;
	lost->ranges[lost->count++] = (struct vmimg_lost_range){ at, len };
	return 0;
}

/* Damage, as opposed to a disk that fails, memory that is short, a file that was not opened. */
static bool is_damage(const struct vmimg_error *why)
{
	return why->status == VMIMG_ECORRUPT || why->status == VMIMG_ELIMIT;
}

/* No map at `at`: gives up what the driver says is of one piece, else one block. Sets *len. */
static int give_up(struct survey *s, uint64_t at, uint64_t said, const struct vmimg_error *why,
	uint64_t *len, struct vmimg_error *err)
{
	uint64_t step = s->disk->block ? s->disk->block : STEP;

	*len = vmimg_min(said ? said : step - at % step, s->disk->size - at);
	return note(s, at, *len, why, err);
}

/* Plain data that the file is too short for. */
static int check_data(
	struct survey *s, uint64_t at, const struct vmimg_run *run, struct vmimg_error *err)
{
	uint64_t size = vmimg_io_size(run->io), there = run->at < size ? size - run->at : 0;
	struct vmimg_error why;

	s->plain += run->io == s->disk->io ? run->len : 0;
	if (s->plain / 2 > vmimg_io_size(s->disk->io) + STEP)
		return vmimg_fail(err, VMIMG_ELIMIT,
			"%s: its tables name the same data over and over: too much is gone",
			vmimg_io_name(s->disk->io));
	if (there >= run->len)
		return 0;
	vmimg_fail(&why, VMIMG_ECORRUPT,
		"data at 0x%" PRIx64 " lies past the end of the file (0x%" PRIx64 ")",
		run->at + there, size);
	return note(s, at + there, run->len - there, &why, err);
}

static int check_packed(
	struct survey *s, uint64_t at, const struct vmimg_run *run, struct vmimg_error *err)
{
	const uint8_t *packed, *unpacked;
	struct vmimg_error why;
	size_t packed_len;

	s->lost->packed++;
	if (!vmimg_reader_block(s->reader, run, &packed, &packed_len, &unpacked, &why))
		return 0;
	if (is_damage(&why))
		return note(s, at, run->len, &why, err);
	*err = why;
	return -1;
}

static int look(struct survey *s, uint64_t at, uint64_t *len, struct vmimg_error *err)
{
	struct vmimg_run run;
	struct vmimg_error why;

	if (vmimg_disk_map(s->disk, at, &run, &why)) {
		if (is_damage(&why))
			return give_up(s, at, run.len, &why, len, err);
		*err = why;
		return -1;
	}
	*len = run.len;
	if (!run.io)
		return 0;
	if (run.kind == VMIMG_RUN_DATA)
		return check_data(s, at, &run, err);
	return run.kind == VMIMG_RUN_PACKED ? check_packed(s, at, &run, err) : 0;
}

int vmimg_survey_run(struct vmimg_disk *disk, const struct vmimg_run_how *how,
	struct vmimg_lost *lost, struct vmimg_error *err)
{
	VMIMG_AUTO(vmimg_reader_free) struct vmimg_reader *reader = vmimg_reader_new(err);
	struct survey survey = { .disk = disk, .reader = reader, .lost = lost };

	if (!reader)
		return -1;
	for (uint64_t at = 0, len = 0; at < disk->size; at += len) {
		if (how->cancel && atomic_load(how->cancel))
			return vmimg_fail(err, VMIMG_ECANCELLED, "interrupted");
		if (look(&survey, at, &len, err))
			return -1;
	}
	return 0;
}

void vmimg_lost_done(struct vmimg_lost *lost)
{
	free(lost->ranges);
	memset(lost, 0, sizeof(*lost));
}

/* ---- the salvaged disk ---- */

/* The first range that ends after at, or NULL. */
static const struct vmimg_lost_range *find(const struct vmimg_lost *lost, uint64_t at)
{
	size_t low = 0, high = lost->count;

	while (low < high) {
		size_t middle = low + (high - low) / 2;

		if (lost->ranges[middle].at + lost->ranges[middle].len <= at)
			low = middle + 1;
		else
			high = middle;
	}
	return low < lost->count ? &lost->ranges[low] : NULL;
}

static int salvage_map(
	struct vmimg_disk *disk, uint64_t at, struct vmimg_run *run, struct vmimg_error *err)
{
	const struct vmimg_salvage *s = disk->state;
	const struct vmimg_lost_range *range = find(s->lost, at);

	if (range && range->at <= at) {
		run->kind = VMIMG_RUN_ZERO;
		run->len = range->at + range->len - at;
		return 0;
	}
	if (vmimg_disk_map(s->inner, at, run, err))
		return -1;
	if (range)
		run->len = vmimg_min(run->len, range->at - at);
	return 0;
}

static void salvage_close(struct vmimg_disk *disk)
{
	(void)disk;
}

static const struct vmimg_format salvage_format = {
	.name = "salvage",
	.title = "what is left of a damaged image",
	.map = salvage_map,
	.close = salvage_close,
};

void vmimg_salvage_init(
	struct vmimg_salvage *s, struct vmimg_disk *disk, const struct vmimg_lost *lost)
{
	*s = (struct vmimg_salvage){ .inner = disk, .lost = lost };
	s->disk.format = &salvage_format;
	s->disk.io = disk->io;
	s->disk.size = disk->size;
	s->disk.sector_size = disk->sector_size;
	s->disk.block = disk->block;
	s->disk.parent = disk->parent;
	s->disk.state = s;
}
