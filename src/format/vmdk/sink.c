/* SPDX-License-Identifier: Apache-2.0 */
/* Which writer, and how large the result will be. */
#include "format/vmdk/write.h"
#include "util/num.h"

struct vmimg_sink *vmimg_vmdk_create(
	struct vmimg_io *io, const struct vmimg_create *create, struct vmimg_error *err)
{
	struct vmdk_settings s;

	if (vmimg_vmdk_settings(&s, create, io->in_order, err))
		return NULL;
	switch (s.subformat) {
	case VMDK_STREAM:
		return vmimg_vmdk_stream_sink(io, create, &s, err);
	case VMDK_MONOLITHIC_SPARSE:
	case VMDK_SPLIT_SPARSE:
		return vmimg_vmdk_writer_new(&vmimg_vmdk_sparse, io, create, &s, err);
	case VMDK_MONOLITHIC_FLAT:
	case VMDK_SPLIT_FLAT:
	case VMDK_VMFS:
		break;
	}
	return vmimg_vmdk_writer_new(&vmimg_vmdk_flat, io, create, &s, err);
}

/* Headers and tables of the sparse extents of a disk. */
static uint64_t sparse_overhead(const struct vmdk_settings *s)
{
	uint64_t full = s->sectors / VMDK_SPLIT_SECTORS, rest = s->sectors % VMDK_SPLIT_SECTORS;
	struct vmdk_place whole, last;

	if (s->subformat == VMDK_MONOLITHIC_SPARSE) {
		vmimg_vmdk_layout(&whole, s->sectors, true);
		return whole.overhead * VMDK_SECTOR;
	}
	vmimg_vmdk_layout(&whole, VMDK_SPLIT_SECTORS, false);
	vmimg_vmdk_layout(&last, rest, false);
	return (full * whole.overhead + (rest ? last.overhead : 0)) * VMDK_SECTOR;
}

/* Grains that do not pack at all: stored deflate blocks of 64 KiB, a marker, whole sectors; with
 * every grain table. */
static uint64_t stream_bound(const struct vmdk_settings *s, uint64_t data)
{
	uint64_t tables = vmimg_div_up(s->sectors * VMDK_SECTOR, VMDK_TABLE_SPAN);
	uint64_t grain = VMDK_GRAIN + VMDK_SECTOR;

	return VMDK_GRAIN + vmimg_div_up(data, VMDK_GRAIN) * grain +
		tables * (1 + VMDK_TABLE_SECTORS) * VMDK_SECTOR +
		vmimg_align_up(tables * 4, VMDK_SECTOR) + 4 * VMDK_SECTOR;
}

/* All of the image's files together. A descriptor is counted as a few lines and one a file. */
int vmimg_vmdk_measure(
	const struct vmimg_create *create, uint64_t data, uint64_t *bytes, struct vmimg_error *err)
{
	struct vmdk_settings s;

	if (vmimg_vmdk_settings(&s, create, false, err))
		return -1;
	switch (s.subformat) {
	case VMDK_STREAM:
		*bytes = stream_bound(&s, data);
		break;
	case VMDK_MONOLITHIC_SPARSE:
		*bytes = sparse_overhead(&s) + data;
		break;
	case VMDK_SPLIT_SPARSE:
		*bytes = sparse_overhead(&s) + data + VMDK_SECTOR +
			128 * (s.sectors / VMDK_SPLIT_SECTORS + 1);
		break;
	case VMDK_MONOLITHIC_FLAT:
	case VMDK_SPLIT_FLAT:
	case VMDK_VMFS:
		*bytes = s.sectors * VMDK_SECTOR + VMDK_SECTOR +
			128 * (s.sectors / VMDK_SPLIT_SECTORS + 1);
		break;
	}
	return 0;
}
