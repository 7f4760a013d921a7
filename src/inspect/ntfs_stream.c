/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Where the content of an attribute lies. Its runs are told in pieces, the first one in its record,
 * more in other records that an attribute list names; each must begin where the one before it ends,
 * so that no list can go on for ever.
 */
#include <inttypes.h>
#include <string.h>
#include "inspect/ntfs.h"
#include "util/bytes.h"
#include "util/num.h"

#define MAX_RUNS (1U << 20)   /* of one file: 24 MiB of memory */
#define MAX_LIST (256U << 10) /* bytes of an attribute list, as Windows agrees to */

void vmimg_ntfs_done(struct vmimg_ntfs_stream *stream)
{
	free(stream->value);
	free(stream->runs);
	free(stream->unpacked);
	memset(stream, 0, sizeof(*stream));
}

/* ---- runs -------------------------------------------------------------------------------- */

static uint64_t next_vcn(const struct vmimg_ntfs_stream *stream)
{
	const struct vmimg_ntfs_run *last;

	if (!stream->count)
		return 0;
	last = &stream->runs[stream->count - 1];
	return last->vcn + last->count;
}

/* A number of len bytes, signed. */
static int64_t get_signed(const uint8_t *from, size_t len)
{
	uint64_t value = len && from[len - 1] & 0x80 ? UINT64_MAX : 0;

	for (size_t i = len; i-- > 0;)
		value = value << 8 | from[i];
	return (int64_t)value;
}

static int add_run(struct vmimg_ntfs *ntfs, struct vmimg_ntfs_stream *stream, uint64_t lcn,
	uint64_t count, struct vmimg_error *err)
{
	uint64_t vcn = next_vcn(stream);

	if (stream->count >= MAX_RUNS)
		return vmimg_fail(err, VMIMG_ELIMIT, "a file in more than %u pieces", MAX_RUNS);
	if (count > VMIMG_UNKNOWN / 2 / ntfs->cluster - vcn ||
		(lcn != VMIMG_UNKNOWN && !vmimg_range_inside(lcn, count, ntfs->clusters)))
		return vmimg_fail(err, VMIMG_ECORRUPT,
			"a run of %" PRIu64 " clusters at %" PRIu64 " of %" PRIu64, count, lcn,
			ntfs->clusters);
	if (vmimg_grow_array(
		    &stream->runs, &stream->cap, stream->count + 1, sizeof(*stream->runs), err))
		return -1;
	stream->runs[stream->count++] = (struct vmimg_ntfs_run){ vcn, lcn, count };
	return 0;
}

/* Pairs of a length and a step from the last place; without a step it is a hole. */
static int add_runs(struct vmimg_ntfs *ntfs, struct vmimg_ntfs_stream *stream, const uint8_t *pairs,
	size_t len, struct vmimg_error *err)
{
	uint64_t lcn = 0;

	for (size_t at = 0; at < len && pairs[at];) {
		size_t count_len = pairs[at] & 15, step_len = pairs[at] >> 4;
		int64_t count;

		if (!count_len || count_len > 8 || step_len > 8 ||
			at + 1 + count_len + step_len > len)
			return vmimg_fail(err, VMIMG_ECORRUPT, "a list of runs is cut off");
		count = get_signed(pairs + at + 1, count_len);
		if (count <= 0)
			return vmimg_fail(
				err, VMIMG_ECORRUPT, "a run of %" PRId64 " clusters", count);
		lcn += (uint64_t)get_signed(pairs + at + 1 + count_len, step_len);
		if (add_run(ntfs, stream, step_len ? lcn : VMIMG_UNKNOWN, (uint64_t)count, err))
			return -1;
		at += 1 + count_len + step_len;
	}
	return 0;
}

/* ---- pieces ------------------------------------------------------------------------------ */

static int begin(struct vmimg_ntfs *ntfs, struct vmimg_ntfs_stream *stream,
	const struct vmimg_ntfs_attribute *a, struct vmimg_error *err)
{
	unsigned shift = a->value ? 0 : a->raw[34];

	stream->flags = a->flags;
	if (a->value) {
		stream->size = stream->valid = a->value_len;
		stream->value = vmimg_alloc_array(1, a->value_len + 1, err);
		if (!stream->value)
			return -1;
		memcpy(stream->value, a->value, a->value_len);
		return 0;
	}
	stream->size = vmimg_get_le64(a->raw + 48);
	stream->valid = vmimg_get_le64(a->raw + 56);
	if (shift > 8 || (UINT64_C(1) << shift) * ntfs->cluster > UINT32_C(4) << 20)
		return vmimg_fail(
			err, VMIMG_ECORRUPT, "a file is packed in units of 2^%u clusters", shift);
	stream->unit = shift && a->flags & 1 ? 1U << shift : 0;
	return 0;
}

static int add_piece(struct vmimg_ntfs *ntfs, struct vmimg_ntfs_stream *stream,
	const struct vmimg_ntfs_attribute *a, struct vmimg_error *err)
{
	size_t pairs = a->value ? 0 : vmimg_get_le16(a->raw + 32);
	bool first = !stream->value && !stream->count;
	uint64_t vcn = a->value ? 0 : vmimg_get_le64(a->raw + 16);

	if (stream->value || vcn != next_vcn(stream))
		return vmimg_fail(err, VMIMG_ECORRUPT,
			"record %" PRIu64 ": the pieces of a file do not follow on one another",
			stream->number);
	if (first && begin(ntfs, stream, a, err))
		return -1;
	return a->value ? 0 : add_runs(ntfs, stream, a->raw + pairs, a->len - pairs, err);
}

/* The piece in one record that begins at vcn. */
static int add_from(struct vmimg_ntfs *ntfs, struct vmimg_ntfs_stream *stream, const uint8_t *raw,
	uint32_t type, const char *name, uint64_t vcn, bool *found, struct vmimg_error *err)
{
	struct vmimg_ntfs_attribute a;
	size_t at = 0;
	int more;

	*found = false;
	while ((more = vmimg_ntfs_next(raw, ntfs->record_size, &at, &a, err)) > 0) {
		if (!vmimg_ntfs_is(&a, type, name) ||
			(!a.value && vmimg_get_le64(a.raw + 16) != vcn))
			continue;
		*found = true;
		return add_piece(ntfs, stream, &a, err);
	}
	return more;
}

/* ---- attribute lists --------------------------------------------------------------------- */

/* One entry, as far as it is the attribute's: the record that it names has the next piece. */
static int add_listed(struct vmimg_ntfs *ntfs, struct vmimg_ntfs_stream *stream,
	const uint8_t *entry, uint32_t type, const char *name, uint8_t *raw,
	struct vmimg_error *err)
{
	uint64_t number = vmimg_get_le64(entry + 16) & VMIMG_NTFS_NUMBER;
	uint64_t vcn = vmimg_get_le64(entry + 8), base;
	uint32_t cost = ntfs->record_size > 1024 ? ntfs->record_size / 1024 : 1;
	bool found;

	if (ntfs->left < cost) {
		ntfs->left = 0;
		return vmimg_fail(err, VMIMG_ELIMIT,
			"its lists of attributes lead to more than %u records of %u bytes",
			VMIMG_NTFS_LISTED / cost, ntfs->record_size);
	}
	ntfs->left -= cost;
	if (vmimg_ntfs_record(ntfs, number, raw, err))
		return -1;
	base = vmimg_get_le64(raw + 32) & VMIMG_NTFS_NUMBER;
	if (number != stream->number && base != stream->number)
		return vmimg_fail(err, VMIMG_ECORRUPT,
			"record %" PRIu64 " is continued in %" PRIu64 ", which belongs to %" PRIu64,
			stream->number, number, base);
	if (add_from(ntfs, stream, raw, type, name, vcn, &found, err))
		return -1;
	return found ? 0
		     : vmimg_fail(err, VMIMG_ECORRUPT,
			       "record %" PRIu64 " lacks what the list in %" PRIu64 " promises",
			       number, stream->number);
}

static int walk_list(struct vmimg_ntfs *ntfs, struct vmimg_ntfs_stream *stream, const uint8_t *list,
	size_t size, uint32_t type, const char *name, bool *found, struct vmimg_error *err)
{
	VMIMG_AUTO(free) uint8_t *raw = vmimg_alloc_buffer(ntfs->record_size, err);

	for (size_t at = 0, len; raw && at + 26 <= size; at += len) {
		const uint8_t *entry = list + at;
		struct vmimg_ntfs_attribute a = { .type = vmimg_get_le32(entry),
			.name = entry + entry[7],
			.name_len = entry[6] };

		len = vmimg_get_le16(entry + 4);
		if (len < 26 || len > size - at || entry[7] + 2 * a.name_len > len)
			return vmimg_fail(err, VMIMG_ECORRUPT,
				"the attribute list of record %" PRIu64 " is damaged",
				stream->number);
		if (!vmimg_ntfs_is(&a, type, name))
			continue;
		*found = true;
		if (add_listed(ntfs, stream, entry, type, name, raw, err))
			return -1;
	}
	return raw ? 0 : -1;
}

/* From the list at hand, which itself is told in the base record alone. */
static int open_listed(struct vmimg_ntfs *ntfs, const uint8_t *raw, uint32_t type, const char *name,
	struct vmimg_ntfs_stream *stream, bool *found, struct vmimg_error *err)
{
	VMIMG_AUTO(vmimg_ntfs_done) struct vmimg_ntfs_stream list = { .number = stream->number };
	VMIMG_AUTO(free) uint8_t *bytes = NULL;
	bool listed;

	if (add_from(ntfs, &list, raw, VMIMG_NTFS_LIST, "", 0, &listed, err))
		return -1;
	if (list.size > MAX_LIST || list.unit)
		return vmimg_fail(err, VMIMG_ELIMIT,
			"record %" PRIu64 " has an attribute list of %" PRIu64 " bytes",
			stream->number, list.size);
	bytes = vmimg_alloc_array(1, (size_t)list.size + 1, err);
	if (!bytes || vmimg_ntfs_read(ntfs, &list, bytes, (size_t)list.size, 0, err))
		return -1;
	return walk_list(ntfs, stream, bytes, (size_t)list.size, type, name, found, err);
}

/* ---- opening ----------------------------------------------------------------------------- */

static int has_list(struct vmimg_ntfs *ntfs, const uint8_t *raw, struct vmimg_error *err)
{
	struct vmimg_ntfs_attribute a;
	size_t at = 0;
	int more;

	while ((more = vmimg_ntfs_next(raw, ntfs->record_size, &at, &a, err)) > 0)
		if (a.type == VMIMG_NTFS_LIST)
			return 1;
	return more;
}

int vmimg_ntfs_open_stream(struct vmimg_ntfs *ntfs, uint64_t number, uint32_t type,
	const char *name, struct vmimg_ntfs_stream *stream, bool *found, struct vmimg_error *err)
{
	VMIMG_AUTO(free) uint8_t *raw = vmimg_alloc_buffer(ntfs->record_size, err);
	int listed;

	memset(stream, 0, sizeof(*stream));
	stream->number = number;
	*found = false;
	if (!raw || vmimg_ntfs_record(ntfs, number, raw, err))
		return -1;
	listed = has_list(ntfs, raw, err);
	if (listed)
		return listed < 0 ? -1 : open_listed(ntfs, raw, type, name, stream, found, err);
	return add_from(ntfs, stream, raw, type, name, 0, found, err);
}

int vmimg_ntfs_open_mft(struct vmimg_ntfs *ntfs, uint64_t lcn, struct vmimg_error *err)
{
	VMIMG_AUTO(free) uint8_t *raw = vmimg_alloc_buffer(ntfs->record_size, err);
	struct vmimg_ntfs_stream whole;
	bool found;
	int listed;

	if (!raw || vmimg_table_read(ntfs->table, raw, ntfs->record_size, lcn * ntfs->cluster, err))
		return -1;
	if (!vmimg_ntfs_fixup(raw, ntfs->record_size, "FILE"))
		return vmimg_fail(err, VMIMG_ECORRUPT,
			"the first MFT record, at %" PRIu64 ", is damaged", lcn * ntfs->cluster);
	if (add_from(ntfs, &ntfs->mft, raw, VMIMG_NTFS_DATA, "", 0, &found, err))
		return -1;
	if (!found || ntfs->mft.value || ntfs->mft.unit)
		return vmimg_fail(err, VMIMG_ECORRUPT, "the MFT does not say where it lies");
	listed = has_list(ntfs, raw, err);
	if (listed <= 0)
		return listed;
	/* the rest of it is told in records that the first piece holds */
	if (vmimg_ntfs_open_stream(ntfs, 0, VMIMG_NTFS_DATA, "", &whole, &found, err)) {
		vmimg_ntfs_done(&whole);
		return -1;
	}
	vmimg_ntfs_done(&ntfs->mft);
	ntfs->mft = whole;
	return 0;
}
