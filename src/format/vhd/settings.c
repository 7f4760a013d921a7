/* SPDX-License-Identifier: Apache-2.0 */
/* What a footer says of its image. It has two copies, of one sector each: the one at the end is
 * written first. */
#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>
#include "format/vhd/change.h"
#include "util/num.h"

const struct vmimg_option_spec vmimg_vhd_settings[] = {
	{ "uuid", VMIMG_OPTION_TEXT, NULL, "unique id, by which children know it; or new" },
	{ "creator", VMIMG_OPTION_TEXT, NULL, "creator application, four characters" },
	{ "geometry", VMIMG_OPTION_TEXT, NULL,
		"cylinders/heads/sectors; auto: the specification's for the size" },
	{ "timestamp", VMIMG_OPTION_TEXT, NULL,
		"seconds since 1970, from 2000 on; children note it" },
	{ 0 },
};

static int set_uuid(struct vmimg_vhd_footer *footer, const char *text, struct vmimg_error *err)
{
	struct vmimg_guid guid;

	if (!strcmp(text, "new") && vmimg_guid_make(&guid, true, 0, "vhd", err))
		return -1;
	if (strcmp(text, "new") && !vmimg_guid_parse(&guid, text, strlen(text)))
		return vmimg_fail(
			err, VMIMG_EINVAL, "uuid is new, or 8-4-4-4-12 hexadecimal digits");
	memcpy(footer->uuid, guid.bytes, sizeof(footer->uuid));
	return 0;
}

int vmimg_vhd_set_creator(uint8_t creator[4], const char *text, struct vmimg_error *err)
{
	size_t len = strlen(text);

	if (len > 4)
		return vmimg_fail(err, VMIMG_EINVAL, "creator has at most four characters");
	memset(creator, ' ', 4);
	memcpy(creator, text, len);
	return 0;
}

static int set_geometry(
	struct vmimg_vhd_footer *footer, const char *text, uint64_t size, struct vmimg_error *err)
{
	struct vmimg_vhd_geometry geometry = vmimg_vhd_geometry_for(size / VMIMG_VHD_SECTOR);
	unsigned cylinders, heads, sectors;
	char more;

	if (strcmp(text, "auto")) {
		if (sscanf(text, "%5u/%3u/%3u%c", &cylinders, &heads, &sectors, &more) != 3 ||
			!cylinders || !heads || !sectors || cylinders > UINT16_MAX ||
			heads > UINT8_MAX || sectors > UINT8_MAX)
			return vmimg_fail(err, VMIMG_EINVAL,
				"geometry is auto, or cylinders/heads/sectors (at most 65535, 255 "
				"and 255), not '%.40s'",
				text);
		geometry = (struct vmimg_vhd_geometry){ (uint16_t)cylinders, (uint8_t)heads,
			(uint8_t)sectors };
	}
	footer->cylinders = geometry.cylinders;
	footer->heads = geometry.heads;
	footer->sectors = geometry.sectors;
	return 0;
}

static int set_time(struct vmimg_vhd_footer *footer, const char *text, struct vmimg_error *err)
{
	unsigned long long seconds;
	char *end;

	errno = 0;
	seconds = strtoull(text, &end, 10);
	if (*text < '0' || *text > '9' || *end || errno || seconds < VMIMG_VHD_EPOCH ||
		seconds - VMIMG_VHD_EPOCH > UINT32_MAX)
		return vmimg_fail(err, VMIMG_EINVAL,
			"timestamp is seconds since 1970, from %u on, not '%.40s'", VMIMG_VHD_EPOCH,
			text);
	footer->timestamp = (uint32_t)(seconds - VMIMG_VHD_EPOCH);
	return 0;
}

/* Some readers size the images of some creators by geometry: it must not be another size. */
static int check_size(const struct vmimg_disk *disk, const struct vmimg_vhd_footer *footer,
	struct vmimg_error *err)
{
	const struct vmimg_vhd *vhd = disk->state;
	struct vmimg_vhd_geometry geometry = { footer->cylinders, footer->heads, footer->sectors };
	uint64_t bytes = vmimg_vhd_geometry_bytes(&geometry);
	bool same = !memcmp(footer->creator, vhd->footer.creator, sizeof(footer->creator)) &&
		footer->cylinders == vhd->footer.cylinders && footer->heads == vhd->footer.heads &&
		footer->sectors == vhd->footer.sectors;

	if (same || !vmimg_vhd_goes_by_geometry(footer) || bytes == disk->size)
		return 0;
	return vmimg_fail(err, VMIMG_EREFUSED,
		"images of creator \"%.4s\" are as large as their geometry, which is %" PRIu64
		" bytes, and this disk has %" PRIu64,
		(const char *)footer->creator, bytes, disk->size);
}

int vmimg_vhd_set(
	struct vmimg_disk *disk, const struct vmimg_options *options, struct vmimg_error *err)
{
	const struct vmimg_vhd *vhd = disk->state;
	struct vmimg_vhd_footer footer = vhd->footer;
	const char *uuid = vmimg_options_text(options, "uuid", NULL);
	const char *creator = vmimg_options_text(options, "creator", NULL);
	const char *geometry = vmimg_options_text(options, "geometry", NULL);
	const char *time = vmimg_options_text(options, "timestamp", NULL);

	if ((uuid && set_uuid(&footer, uuid, err)) ||
		(creator && vmimg_vhd_set_creator(footer.creator, creator, err)) ||
		(geometry && set_geometry(&footer, geometry, disk->size, err)) ||
		(time && set_time(&footer, time, err)) || check_size(disk, &footer, err) ||
		vmimg_vhd_begin(disk, err))
		return -1;
	footer.current_size = disk->size;
	return vmimg_vhd_put_footers(disk, &footer, err);
}
