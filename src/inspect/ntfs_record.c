/* SPDX-License-Identifier: Apache-2.0 */
/* Records of the master file table and the attributes in them. */
#include <inttypes.h>
#include <string.h>
#include "inspect/ntfs.h"
#include "util/bytes.h"
#include "util/num.h"

#define SECTOR 512U /* the check numbers stand at its ends, whatever the disk's sectors are */

uint32_t vmimg_ntfs_size(uint8_t code, uint32_t unit)
{
	if (code <= 0x80)
		return code && unit <= UINT32_C(2097152) / code ? code * unit : 0;
	return code >= 0xe0 && 256U - code < 22 ? UINT32_C(1) << (256U - code) : 0;
}

bool vmimg_ntfs_fixup(uint8_t *record, size_t size, const char magic[4])
{
	size_t at = vmimg_get_le16(record + 4), count = vmimg_get_le16(record + 6);

	if (memcmp(record, magic, 4) || count != size / SECTOR + 1 || at + 2 * count > size)
		return false;
	for (size_t i = 1; i < count; i++) {
		if (memcmp(record + SECTOR * i - 2, record + at, 2))
			return false;
		memcpy(record + SECTOR * i - 2, record + at + 2 * i, 2);
	}
	return true;
}

int vmimg_ntfs_record(
	struct vmimg_ntfs *ntfs, uint64_t number, uint8_t *raw, struct vmimg_error *err)
{
	uint64_t at;

	if (!vmimg_mul(number, ntfs->record_size, &at) ||
		!vmimg_range_inside(at, ntfs->record_size, ntfs->mft.size))
		return vmimg_fail(err, VMIMG_ECORRUPT, "there is no MFT record %" PRIu64, number);
	if (vmimg_ntfs_read(ntfs, &ntfs->mft, raw, ntfs->record_size, at, err))
		return vmimg_within(err, "MFT record %" PRIu64, number);
	if (!vmimg_ntfs_fixup(raw, ntfs->record_size, "FILE"))
		return vmimg_fail(err, VMIMG_ECORRUPT,
			"MFT record %" PRIu64 " is damaged: its check numbers do not fit", number);
	if (!(vmimg_get_le16(raw + 22) & 1))
		return vmimg_fail(
			err, VMIMG_ECORRUPT, "MFT record %" PRIu64 " is not in use", number);
	return 0;
}

/* Of one that is in runs, the fields up to their list are there too. */
static bool is_sound(const struct vmimg_ntfs_attribute *a)
{
	size_t name_at = vmimg_get_le16(a->raw + 10);

	return name_at + 2 * a->name_len <= a->len &&
		(a->value || (a->len >= 64 && vmimg_get_le16(a->raw + 32) <= a->len));
}

int vmimg_ntfs_next(const uint8_t *raw, size_t size, size_t *at,
	struct vmimg_ntfs_attribute *attribute, struct vmimg_error *err)
{
	size_t from = *at ? *at : vmimg_get_le16(raw + 20);
	const uint8_t *a = raw + from;
	size_t len, value_at;

	if (from + 4 > size || vmimg_get_le32(a) == UINT32_MAX)
		return 0;
	len = size - from >= 24 ? vmimg_get_le32(a + 4) : 0;
	if (len < 24 || len > size - from)
		return vmimg_fail(err, VMIMG_ECORRUPT, "an attribute of %zu bytes at %zu of %zu",
			len, from, size);
	*attribute = (struct vmimg_ntfs_attribute){ .type = vmimg_get_le32(a),
		.flags = vmimg_get_le16(a + 12),
		.raw = a,
		.len = len,
		.name = a + vmimg_get_le16(a + 10),
		.name_len = a[9] };
	value_at = vmimg_get_le16(a + 20);
	if (!a[8]) {
		attribute->value = a + value_at;
		attribute->value_len = vmimg_get_le32(a + 16);
	}
	if (!is_sound(attribute) ||
		(!a[8] && !vmimg_range_inside(value_at, attribute->value_len, len)))
		return vmimg_fail(err, VMIMG_ECORRUPT, "attribute 0x%x reaches past its end",
			attribute->type);
	*at = from + len;
	return 1;
}

bool vmimg_ntfs_is(const struct vmimg_ntfs_attribute *attribute, uint32_t type, const char *name)
{
	if (attribute->type != type || attribute->name_len != strlen(name))
		return false;
	for (size_t i = 0; i < attribute->name_len; i++)
		if (vmimg_get_le16(attribute->name + 2 * i) != (uint8_t)name[i])
			return false;
	return true;
}
