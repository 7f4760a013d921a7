/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Reading what an attribute holds. A packed file is cut into units, of 16 clusters as a rule: one
 * with all its clusters is plain, one with none is zeroes, one with some is LZNT1.
 */
#include <inttypes.h>
#include <string.h>
#include "codec/lznt1.h"
#include "inspect/ntfs.h"
#include "util/num.h"

#define SMALL 4096U /* reads up to here go through the cache */

/* The run that holds cluster vcn; NULL: none. */
static const struct vmimg_ntfs_run *find_run(const struct vmimg_ntfs_stream *stream, uint64_t vcn)
{
	size_t low = 0, high = stream->count;

	while (low < high) {
		size_t mid = low + (high - low) / 2;
		const struct vmimg_ntfs_run *run = &stream->runs[mid];

		if (vcn >= run->vcn && vcn - run->vcn < run->count)
			return run;
		if (vcn < run->vcn)
			high = mid;
		else
			low = mid + 1;
	}
	return NULL;
}

static int read_runs(struct vmimg_ntfs *ntfs, const struct vmimg_ntfs_stream *stream, uint8_t *buf,
	size_t len, uint64_t at, struct vmimg_error *err)
{
	while (len) {
		uint64_t vcn = at / ntfs->cluster, skip = at % ntfs->cluster, from;
		const struct vmimg_ntfs_run *run = find_run(stream, vcn);
		size_t step;

		if (!run)
			return vmimg_fail(err, VMIMG_ECORRUPT,
				"record %" PRIu64 ": a file of %" PRIu64
				" bytes has no cluster for byte %" PRIu64,
				stream->number, stream->size, at);
		step = (size_t)vmimg_min(
			len, (run->count - (vcn - run->vcn)) * ntfs->cluster - skip);
		from = (run->lcn + (vcn - run->vcn)) * ntfs->cluster + skip;
		if (run->lcn == VMIMG_UNKNOWN)
			memset(buf, 0, step);
		else if (step <= SMALL ? vmimg_table_read(ntfs->table, buf, step, from, err)
				       : vmimg_io_pread(ntfs->io, buf, step, from, err))
			return -1;
		buf += step;
		at += step;
		len -= step;
	}
	return 0;
}

/* ---- packed ------------------------------------------------------------------------------ */

/* How many clusters of the unit from vcn on are there, one behind the other. */
static unsigned count_mapped(const struct vmimg_ntfs_stream *stream, uint64_t vcn)
{
	unsigned count = 0;

	while (count < stream->unit) {
		const struct vmimg_ntfs_run *run = find_run(stream, vcn + count);
		uint64_t left;

		if (!run || run->lcn == VMIMG_UNKNOWN)
			break;
		left = run->count - (vcn + count - run->vcn);
		count += (unsigned)vmimg_min(left, stream->unit - count);
	}
	return count;
}

static int unpack_unit(struct vmimg_ntfs *ntfs, struct vmimg_ntfs_stream *stream, uint64_t unit,
	uint8_t *out, struct vmimg_error *err)
{
	size_t size = (size_t)stream->unit * ntfs->cluster;
	uint64_t vcn = unit * stream->unit;
	unsigned mapped = count_mapped(stream, vcn);
	VMIMG_AUTO(free) uint8_t *packed = NULL;
	size_t len = (size_t)mapped * ntfs->cluster;

	if (!mapped) {
		memset(out, 0, size);
		return 0;
	}
	if (mapped == stream->unit)
		return read_runs(ntfs, stream, out, size, unit * size, err);
	packed = vmimg_alloc_buffer(len, err);
	if (!packed || read_runs(ntfs, stream, packed, len, unit * size, err))
		return -1;
	if (vmimg_lznt1_unpack(packed, len, out, size, err))
		return vmimg_within(
			err, "record %" PRIu64 ", byte %" PRIu64, stream->number, unit * size);
	return 0;
}

static int read_packed(struct vmimg_ntfs *ntfs, struct vmimg_ntfs_stream *stream, uint8_t *buf,
	size_t len, uint64_t at, struct vmimg_error *err)
{
	size_t size = (size_t)stream->unit * ntfs->cluster;

	while (len) {
		uint64_t unit = at / size;
		size_t skip = (size_t)(at % size), step = vmimg_min(len, size - skip);

		if (!stream->unpacked || stream->unpacked_unit != unit) {
			uint8_t *out =
				stream->unpacked ? stream->unpacked : vmimg_alloc_buffer(size, err);

			stream->unpacked = NULL;
			if (!out || unpack_unit(ntfs, stream, unit, out, err)) {
				free(out);
				return -1;
			}
			stream->unpacked = out;
			stream->unpacked_unit = unit;
		}
		memcpy(buf, stream->unpacked + skip, step);
		buf += step;
		at += step;
		len -= step;
	}
	return 0;
}

int vmimg_ntfs_read(struct vmimg_ntfs *ntfs, struct vmimg_ntfs_stream *stream, void *buf,
	size_t len, uint64_t at, struct vmimg_error *err)
{
	size_t written = (size_t)vmimg_min(len, at < stream->valid ? stream->valid - at : 0);

	/* a second line of defence: whoever asks has looked at the size */
	if (!vmimg_range_inside(at, len, stream->size))
		return vmimg_fail(err, VMIMG_ECORRUPT, "record %" PRIu64 " is read past its end",
			stream->number);
	memset((uint8_t *)buf + written, 0, len - written);
	if (stream->value)
		memcpy(buf, stream->value + at, written);
	else if (stream->unit ? read_packed(ntfs, stream, buf, written, at, err)
			      : read_runs(ntfs, stream, buf, written, at, err))
		return -1;
	return 0;
}
