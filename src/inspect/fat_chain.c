/* SPDX-License-Identifier: Apache-2.0 */
/* Chains of clusters: the table has, for each cluster, the number of the next. */
#include <inttypes.h>
#include "inspect/fat.h"
#include "util/bytes.h"

int vmimg_fat_next(struct vmimg_fat_chain *chain, uint32_t cluster, uint32_t *next, bool *last,
	struct vmimg_error *err)
{
	uint64_t at = chain->fat_at + (uint64_t)cluster * chain->bits / 8;
	uint8_t raw[4] = { 0 };
	uint32_t value;

	if (vmimg_table_read(chain->table, raw, chain->bits == 32 ? 4 : 2, at, err))
		return -1;
	value = vmimg_get_le32(raw);
	if (chain->bits == 12 && cluster & 1)
		value >>= 4;
	value &= chain->mask;
	*last = value >= (chain->mask & ~UINT32_C(7));
	if (!*last && (value < 2 || value - 2 >= chain->clusters))
		return vmimg_fail(err, VMIMG_ECORRUPT,
			"FAT entry of cluster %u points to cluster %u of %u", cluster, value,
			chain->clusters);
	*next = value;
	return 0;
}

int vmimg_fat_seek(
	struct vmimg_fat_chain *chain, uint32_t first, uint64_t index, struct vmimg_error *err)
{
	bool last = false;

	if (first < 2 || first - 2 >= chain->clusters)
		return vmimg_fail(err, VMIMG_ECORRUPT, "a chain begins at cluster %u of %u", first,
			chain->clusters);
	if (chain->first != first || chain->index > index) {
		chain->first = chain->cluster = first;
		chain->index = 0;
	}
	if (index > chain->clusters)
		return vmimg_fail(err, VMIMG_ECORRUPT, "a chain is longer than the volume");
	while (chain->index < index) {
		if (vmimg_fat_next(chain, chain->cluster, &chain->cluster, &last, err))
			return -1;
		chain->index++;
		if (last) {
			chain->first = 0;
			return vmimg_fail(err, VMIMG_ECORRUPT,
				"a chain from cluster %u ends before its file does", first);
		}
	}
	return 0;
}

int64_t vmimg_fat_time(uint32_t stamp)
{
	static const uint16_t before[] = { 0, 31, 59, 90, 120, 151, 181, 212, 243, 273, 304, 334 };
	unsigned date = stamp >> 16, clock = stamp & 0xffff;
	unsigned year = 1980 + (date >> 9), month = date >> 5 & 15, day = date & 31;
	int64_t days;

	if (!month || month > 12 || !day)
		return 0;
	days = (int64_t)(year - 1970) * 365 + (year - 1969) / 4 - (year > 2100) +
		before[month - 1] + day - 1;
	days += month > 2 && year % 4 == 0 && year != 2100;
	return days * 86400 + (clock >> 11) * 3600 + (clock >> 5 & 63) * 60 + (clock & 31) * 2;
}
