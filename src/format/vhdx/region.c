/* SPDX-License-Identifier: Apache-2.0 */
/* The two copies of the region table ([MS-VHDX] 2.2.3), which says where the BAT and the metadata
 * are. Read through the replayed log, which may have changed them. */
#include <inttypes.h>
#include <string.h>
#include "format/vhdx/vhdx.h"
#include "util/num.h"

static int check_table(const uint8_t *bytes, unsigned i, uint32_t *count, struct vmimg_error *err)
{
	struct vhdx_regions_head head;
	uint32_t sum;

	vhdx_regions_head_decode(&head, bytes);
	if (head.magic != VHDX_REGIONS_MAGIC)
		return vmimg_fail(err, VMIMG_ECORRUPT,
			"region table %u at 0x%" PRIx64 " has signature 0x%08" PRIx32
			", not \"regi\"",
			i + 1, VHDX_REGIONS_AT(i), head.magic);
	sum = vmimg_vhdx_checksum(bytes, VHDX_REGIONS_SIZE);
	if (sum != head.checksum)
		return vmimg_fail(err, VMIMG_ECORRUPT,
			"region table %u at 0x%" PRIx64 " has checksum 0x%08" PRIx32
			", its bytes give 0x%08" PRIx32,
			i + 1, VHDX_REGIONS_AT(i), head.checksum, sum);
	if (head.count > VHDX_REGIONS_MAX)
		return vmimg_fail(err, VMIMG_ECORRUPT,
			"region table %u has %" PRIu32 " entries, %u is the most", i + 1,
			head.count, VHDX_REGIONS_MAX);
	*count = head.count;
	return 0;
}

static int check_region(const struct vhdx_region *region, struct vmimg_error *err)
{
	if (region->at % VHDX_MIB || region->length % VHDX_MIB || region->at < VHDX_HEAD_END ||
		!region->length)
		return vmimg_fail(err, VMIMG_ECORRUPT,
			"a region at 0x%" PRIx64 ", length 0x%" PRIx32
			", is not whole MiB past the headers",
			region->at, region->length);
	return 0;
}

int vmimg_vhdx_read_regions(struct vmimg_io *io, unsigned i,
	int (*each)(void *, const struct vhdx_region *, struct vmimg_error *), void *ctx,
	struct vmimg_error *err)
{
	VMIMG_AUTO(free) uint8_t *bytes = vmimg_alloc_buffer(VHDX_REGIONS_SIZE, err);
	struct vhdx_region region;
	uint32_t count = 0;

	if (!bytes || vmimg_io_pread(io, bytes, VHDX_REGIONS_SIZE, VHDX_REGIONS_AT(i), err) ||
		check_table(bytes, i, &count, err))
		return -1;
	for (uint32_t j = 0; j < count; j++) {
		vhdx_region_decode(&region, bytes + 16 + 32 * (size_t)j);
		if (check_region(&region, err) || each(ctx, &region, err))
			return vmimg_within(err, "region table %u, entry %" PRIu32, i + 1, j);
	}
	return 0;
}

struct found {
	struct vmimg_io *io;
	struct vhdx_range bat, metadata;
};

static int note(struct vhdx_range *range, const char *what, const struct vhdx_region *region,
	struct vmimg_io *io, struct vmimg_error *err)
{
	if (range->len)
		return vmimg_fail(err, VMIMG_ECORRUPT, "a second %s region", what);
	if (!vmimg_range_inside(region->at, region->length, vmimg_io_size(io)))
		return vmimg_fail(err, VMIMG_ECORRUPT,
			"the %s region at 0x%" PRIx64 ", length 0x%" PRIx32
			", reaches past the end of the file (0x%" PRIx64 ")",
			what, region->at, region->length, vmimg_io_size(io));
	*range = (struct vhdx_range){ region->at, region->length };
	return 0;
}

static int take_region(void *ctx, const struct vhdx_region *region, struct vmimg_error *err)
{
	struct found *found = ctx;
	struct vmimg_guid guid;
	char text[VMIMG_GUID_TEXT];

	if (vmimg_vhdx_is_guid(region->guid, VHDX_GUID_BAT))
		return note(&found->bat, "BAT", region, found->io, err);
	if (vmimg_vhdx_is_guid(region->guid, VHDX_GUID_METADATA))
		return note(&found->metadata, "metadata", region, found->io, err);
	vmimg_guid_get_mixed(&guid, region->guid);
	if (region->flags & VHDX_REGION_REQUIRED)
		return vmimg_fail(err, VMIMG_EUNSUPPORTED,
			"region %s is not known, and required to be",
			vmimg_guid_format(text, &guid));
	return 0;
}

static int find_in(struct vmimg_io *io, unsigned i, struct found *found, struct vmimg_error *err)
{
	*found = (struct found){ .io = io };
	if (vmimg_vhdx_read_regions(io, i, take_region, found, err))
		return -1;
	if (!found->bat.len || !found->metadata.len)
		return vmimg_fail(err, VMIMG_ECORRUPT, "region table %u names no %s region", i + 1,
			found->bat.len ? "metadata" : "BAT");
	return 0;
}

int vmimg_vhdx_find_regions(struct vmimg_disk *disk, struct vmimg_error *err)
{
	struct vmimg_vhdx *vhdx = disk->state;
	struct vmimg_error second;
	struct found found;

	if (find_in(vhdx->io, 0, &found, err)) {
		/* Both tables say the same: what one of them has wrong without being damaged is
		 * wrong in the other as well, and the first one's reason is the one to tell. */
		if (err->status != VMIMG_ECORRUPT || find_in(vhdx->io, 1, &found, &second))
			return -1;
		vmimg_disk_warn(disk, "%s; region table 2 is used", err->text);
		vhdx->regions_index = 1;
	}
	vhdx->bat = found.bat;
	vhdx->metadata = found.metadata;
	return 0;
}
