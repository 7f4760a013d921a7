/* SPDX-License-Identifier: Apache-2.0 */
/* Cylinders, heads and sectors: the specification's appendix, and whose images went by them. */
#include <string.h>
#include "format/vhd/vhd.h"
#include "util/num.h"

#define MAX_CYLINDERS 65535U
#define MAX_HEADS     16U
#define MAX_SECTORS   255U

struct vmimg_vhd_geometry vmimg_vhd_geometry_for(uint64_t sectors)
{
	uint64_t total = vmimg_min(sectors, (uint64_t)MAX_CYLINDERS * MAX_HEADS * MAX_SECTORS);
	uint64_t heads = MAX_HEADS, track = MAX_SECTORS, times;

	if (total < (uint64_t)MAX_CYLINDERS * MAX_HEADS * 63) {
		track = 17;
		times = total / track;
		heads = vmimg_max((times + 1023) / 1024, 4);
		if (times >= heads * 1024 || heads > MAX_HEADS) {
			track = 31;
			heads = MAX_HEADS;
			times = total / track;
		}
		if (times >= heads * 1024)
			track = 63;
	}
	times = total / track;
	return (struct vmimg_vhd_geometry){ (uint16_t)(times / heads), (uint8_t)heads,
		(uint8_t)track };
}

uint64_t vmimg_vhd_geometry_bytes(const struct vmimg_vhd_geometry *geometry)
{
	return (uint64_t)geometry->cylinders * geometry->heads * geometry->sectors *
		VMIMG_VHD_SECTOR;
}

uint64_t vmimg_vhd_round_to_geometry(uint64_t size)
{
	uint64_t wanted = vmimg_div_up(size, VMIMG_VHD_SECTOR);

	if (wanted >= (uint64_t)MAX_CYLINDERS * MAX_HEADS * MAX_SECTORS)
		return size;
	/* A cylinder is 16 * 255 sectors at most, so this ends soon. */
	for (uint64_t sectors = wanted;; sectors++) {
		struct vmimg_vhd_geometry geometry = vmimg_vhd_geometry_for(sectors);
		uint64_t bytes = vmimg_vhd_geometry_bytes(&geometry);

		if (bytes / VMIMG_VHD_SECTOR >= wanted)
			return bytes;
	}
}

/* Virtual PC and QEMU showed their guests cylinders * heads * sectors, whatever "current size"
 * says. All others go by the size. */
bool vmimg_vhd_goes_by_geometry(const struct vmimg_vhd_footer *footer)
{
	return !memcmp(footer->creator, "vpc ", 4) || !memcmp(footer->creator, "qemu", 4);
}

/*
 * Bytes are never dropped: where the geometry says less than the current size, the current size
 * stands, and the rest are zeroes that such a guest never saw. Where it says more, and the image
 * has room for more, a guest may have written there.
 */
uint64_t vmimg_vhd_guest_size(const struct vmimg_vhd_footer *footer, uint64_t held)
{
	struct vmimg_vhd_geometry geometry = { footer->cylinders, footer->heads, footer->sectors };
	uint64_t bytes = vmimg_vhd_geometry_bytes(&geometry);
	bool capped = geometry.cylinders == MAX_CYLINDERS && geometry.heads == MAX_HEADS &&
		geometry.sectors == MAX_SECTORS;

	if (!vmimg_vhd_goes_by_geometry(footer) || capped || bytes <= footer->current_size ||
		bytes > held)
		return footer->current_size;
	return bytes;
}
