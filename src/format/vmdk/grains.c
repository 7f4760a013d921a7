/* SPDX-License-Identifier: Apache-2.0 */
/* What entries of directories and tables say, and the markers of compressed grains. */
#include <inttypes.h>
#include "format/vmdk/vmdk.h"
#include "util/num.h"

static enum vmdk_entry_kind plain_entry(const struct vmdk_grains *g, uint32_t v, uint64_t *at)
{
	if (!v)
		return VMDK_ENTRY_ABSENT;
	if (v == 1 && g->zeroed)
		return VMDK_ENTRY_ZERO;
	*at = v * VMDK_SECTOR;
	return VMDK_ENTRY_AT;
}

enum vmdk_entry_kind vmimg_vmdk_directory_entry(
	const struct vmdk_grains *g, const uint8_t *entry, uint64_t *at)
{
	uint64_t v;

	if (g->kind != VMDK_SE_KIND)
		return plain_entry(g, vmimg_get_le32(entry), at);
	v = vmimg_get_le64(entry);
	if (!v)
		return VMDK_ENTRY_ABSENT;
	if (v >> 32 != VMDK_SE_TABLE_MARK)
		return VMDK_ENTRY_BAD;
	*at = g->tables_at + (v & UINT32_MAX) * g->entries * g->entry_size;
	return VMDK_ENTRY_AT;
}

enum vmdk_entry_kind vmimg_vmdk_grain_entry(
	const struct vmdk_grains *g, const uint8_t *entry, uint64_t *at)
{
	uint64_t v, index, offset;

	if (g->kind != VMDK_SE_KIND)
		return plain_entry(g, vmimg_get_le32(entry), at);
	v = vmimg_get_le64(entry);
	switch (v >> 60) {
	case VMDK_SE_ABSENT:
		return v ? VMDK_ENTRY_BAD : VMDK_ENTRY_ABSENT;
	case VMDK_SE_UNMAPPED:
	case VMDK_SE_ZERO:
		return VMDK_ENTRY_ZERO;
	case VMDK_SE_DATA:
		/* The low 12 bits of the grain's number are stored above the others. */
		index = (v >> 48 & 0xfff) | (v & UINT64_C(0xffffffffffff)) << 12;
		if (!vmimg_mul(index, g->grain, &offset) || !vmimg_add(offset, g->data_at, at))
			return VMDK_ENTRY_BAD;
		return VMDK_ENTRY_AT;
	default:
		return VMDK_ENTRY_BAD;
	}
}

int vmimg_vmdk_packed_grain(const struct vmdk_grains *g, struct vmimg_io *io, uint64_t at,
	uint64_t inside, uint64_t *data_at, uint32_t *size, struct vmimg_error *err)
{
	uint64_t end = vmimg_io_size(io);
	struct vmdk_marker marker;
	uint8_t bytes[16] = { 0 };

	if (vmimg_io_pread(io, bytes, VMDK_GRAIN_HEAD, at, err))
		return vmimg_within(err, "marker of a compressed grain");
	vmdk_marker_decode(&marker, bytes);
	if (marker.value != inside / VMDK_SECTOR && !(g->flags & VMDK_FLAG_MARKERS)) {
		/* No marker here, it seems: just the packed data, of unknown length. */
		*data_at = at;
		*size = (uint32_t)vmimg_min(2 * (uint64_t)g->grain - 1, end - at);
		return 0;
	}
	if (marker.value != inside / VMDK_SECTOR)
		return vmimg_fail(err, VMIMG_ECORRUPT,
			"the grain marker at 0x%" PRIx64 " is of sector %" PRIu64
			" instead of %" PRIu64,
			at, marker.value, (uint64_t)(inside / VMDK_SECTOR));
	if (!marker.size || marker.size >= 2 * g->grain ||
		!vmimg_range_inside(at + VMDK_GRAIN_HEAD, marker.size, end))
		return vmimg_fail(err, VMIMG_ECORRUPT,
			"the grain marker at 0x%" PRIx64 " says %" PRIu32
			" bytes of compressed data (grain %" PRIu32 ", end of file 0x%" PRIx64 ")",
			at, marker.size, g->grain, end);
	*data_at = at + VMDK_GRAIN_HEAD;
	*size = marker.size;
	return 0;
}
