/* SPDX-License-Identifier: Apache-2.0 */
/*
 * ISO 9660 images as disks: the file is the disk, as with raw. What sets them apart is that they
 * say so themselves, at 32 KiB (ECMA-119, 8.4). A hybrid image has a partition table as well, and
 * stays an ISO.
 */
#include <string.h>
#include "disk/info.h"
#include "util/bytes.h"
#include "util/num.h"

#define DESCRIPTOR 0x8000
/* Below a strong claim: whoever has a header of its own and an ISO inside goes first, and is then
 * told apart from a file that is two things. */
#define SURE_ENOUGH 40

static const uint8_t *descriptor_of(const struct vmimg_probe *probe)
{
	const uint8_t *s = probe->head + DESCRIPTOR;

	if (probe->head_len < DESCRIPTOR + 2048 || memcmp(s + 1, "CD001", 5) || s[0] > 2)
		return NULL;
	return s;
}

static int iso_probe(const struct vmimg_probe *probe)
{
	return descriptor_of(probe) ? SURE_ENOUGH : 0;
}

static int iso_open(
	struct vmimg_disk *disk, const struct vmimg_open *options, struct vmimg_error *err)
{
	uint64_t said, size = vmimg_io_size(disk->io);
	uint8_t s[2048];

	(void)options;
	if (size < DESCRIPTOR + sizeof(s))
		return vmimg_fail(err, VMIMG_EFORMAT, "no ISO 9660 image: too short");
	if (vmimg_io_pread(disk->io, s, sizeof(s), DESCRIPTOR, err))
		return -1;
	if (memcmp(s + 1, "CD001", 5))
		return vmimg_fail(err, VMIMG_EFORMAT, "no ISO 9660 image: no descriptor at 0x8000");
	disk->size = size;
	said = (uint64_t)vmimg_get_le32(s + 80) * vmimg_get_le16(s + 128);
	if (s[0] == 1 && said > size)
		vmimg_disk_warn(disk,
			"the volume should have %llu bytes, and the file has %llu: truncated?",
			(unsigned long long)said, (unsigned long long)size);
	return 0;
}

static void iso_close(struct vmimg_disk *disk)
{
	(void)disk;
}

/* Fields are padded with spaces. */
static void set_field(json_t *object, const char *key, const uint8_t *text, size_t len)
{
	while (len && (text[len - 1] == ' ' || !text[len - 1]))
		len--;
	if (len)
		vmimg_json_bytes(object, key, (const char *)text, len);
}

static int iso_describe(struct vmimg_disk *disk, struct vmimg_info *info, struct vmimg_error *err)
{
	uint8_t s[2048];

	if (vmimg_io_pread(disk->io, s, sizeof(s), DESCRIPTOR, err))
		return -1;
	if (s[0] != 1)
		return 0;
	set_field(info->specific, "volume-id", s + 40, 32);
	set_field(info->specific, "system-id", s + 8, 32);
	set_field(info->specific, "publisher-id", s + 318, 128);
	set_field(info->specific, "preparer-id", s + 446, 128);
	set_field(info->specific, "application-id", s + 574, 128);
	vmimg_json_uint(info->specific, "volume-size",
		(uint64_t)vmimg_get_le32(s + 80) * vmimg_get_le16(s + 128));
	return 0;
}

const struct vmimg_format vmimg_iso = {
	.name = "iso",
	.title = "an ISO 9660 image",
	.suffixes = "iso",
	.probe = iso_probe,
	.open = iso_open,
	.close = iso_close,
	.map = vmimg_disk_map_file,
	.describe = iso_describe,
};
