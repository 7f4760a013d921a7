/* SPDX-License-Identifier: Apache-2.0 */
/* What a VHD says of itself. */
#include <inttypes.h>
#include <stdio.h>
#include <string.h>
#include <time.h>
#include "disk/info.h"
#include "format/vhd/vhd.h"

/* Seconds from 1970 to 2000, where VHD's clock starts. */
#define VHD_EPOCH INT64_C(946684800)

static const char *variant_name(uint32_t type)
{
	static const char *const names[] = { [VMIMG_VHD_FIXED] = "fixed",
		[VMIMG_VHD_DYNAMIC] = "dynamic",
		[VMIMG_VHD_DIFFERENCING] = "differencing" };

	return names[type];
}

/* Four bytes that are text by convention. */
static void set_code(json_t *object, const char *key, const uint8_t code[4])
{
	size_t len = strnlen((const char *)code, 4);

	vmimg_json_bytes(object, key, (const char *)code, len);
}

static void set_guid(json_t *object, const char *key, const uint8_t bytes[VMIMG_GUID_SIZE])
{
	char text[VMIMG_GUID_TEXT];
	struct vmimg_guid guid;

	memcpy(guid.bytes, bytes, sizeof(guid.bytes));
	vmimg_json_text(object, key, vmimg_guid_format(text, &guid));
}

static void set_time(json_t *object, const char *key, uint32_t stamp)
{
	time_t seconds = (time_t)(VHD_EPOCH + stamp);
	struct tm parts;
	char text[32];

	if (gmtime_r(&seconds, &parts) &&
		strftime(text, sizeof(text), "%Y-%m-%dT%H:%M:%SZ", &parts))
		vmimg_json_text(object, key, text);
}

static json_t *geometry_of(const struct vmimg_vhd_footer *footer)
{
	struct vmimg_vhd_geometry geometry = { footer->cylinders, footer->heads, footer->sectors };
	json_t *object = json_object();

	vmimg_json_uint(object, "cylinders", footer->cylinders);
	vmimg_json_uint(object, "heads", footer->heads);
	vmimg_json_uint(object, "sectors", footer->sectors);
	vmimg_json_uint(object, "bytes", vmimg_vhd_geometry_bytes(&geometry));
	return object;
}

/* The name by which the parent was found, or would be looked for first. */
static const char *parent_name(const struct vmimg_disk *disk)
{
	const char *first = NULL;

	for (size_t i = disk->ref_count; i-- > 0;) {
		const struct vmimg_ref *ref = &disk->refs[i];

		if (strcmp(ref->ref.kind, "parent"))
			continue;
		if (ref->opened)
			return ref->ref.name;
		first = ref->ref.name;
	}
	return first;
}

static void describe_parent(const struct vmimg_disk *disk, struct vmimg_info *info)
{
	const struct vmimg_vhd *vhd = disk->state;

	vmimg_json_text(info->root, "backing-filename", parent_name(disk));
	set_guid(info->identity, "parent-uuid", vhd->header.parent_uuid);
	if (vhd->header.parent_time)
		set_time(info->specific, "parent-timestamp", vhd->header.parent_time);
}

int vmimg_vhd_describe(struct vmimg_disk *disk, struct vmimg_info *info, struct vmimg_error *err)
{
	const struct vmimg_vhd *vhd = disk->state;
	const struct vmimg_vhd_footer *footer = &vhd->footer;
	char version[24];

	(void)err;
	vmimg_json_text(info->root, "variant", variant_name(footer->type));
	set_code(info->root, "creator", footer->creator);
	snprintf(version, sizeof(version), "%" PRIu32 ".%" PRIu32, footer->creator_ver >> 16,
		footer->creator_ver & 0xffff);
	vmimg_json_text(info->specific, "creator-version", version);
	set_code(info->specific, "creator-os", footer->creator_os);
	set_time(info->specific, "timestamp", footer->timestamp);
	vmimg_json_uint(info->specific, "original-size", footer->original_size);
	vmimg_json_uint(info->specific, "current-size", footer->current_size);
	json_object_set_new(info->specific, "geometry", geometry_of(footer));
	vmimg_json_bool(info->specific, "saved-state", footer->saved_state != 0);
	vmimg_json_bool(
		info->specific, "temporary", (footer->features & VMIMG_VHD_FEATURE_TEMPORARY) != 0);
	if (vhd->batmap_at)
		vmimg_json_bool(info->specific, "batmap", true);
	if (vhd->encrypted)
		vmimg_json_bool(info->specific, "encrypted", true);
	if (vhd->parts > 1)
		vmimg_json_uint(info->specific, "parts", vhd->parts);
	set_guid(info->identity, "uuid", footer->uuid);
	if (footer->type == VMIMG_VHD_DIFFERENCING)
		describe_parent(disk, info);
	return 0;
}
