/* SPDX-License-Identifier: Apache-2.0 */
/* What a VDI says of itself. */
#include <stdio.h>
#include <string.h>
#include "disk/info.h"
#include "format/vdi/vdi.h"

static const char *variant_name(uint32_t type)
{
	static const char *const names[] = { [VMIMG_VDI_DYNAMIC] = "dynamic",
		[VMIMG_VDI_FIXED] = "fixed",
		[VMIMG_VDI_UNDO] = "undo",
		[VMIMG_VDI_DIFFERENCING] = "differencing" };

	return names[type];
}

static void set_guid(json_t *object, const char *key, const struct vmimg_guid *guid)
{
	char text[VMIMG_GUID_TEXT];

	if (!vmimg_guid_is_nil(guid))
		vmimg_json_text(object, key, vmimg_guid_format(text, guid));
}

/* The text that a VDI begins with, "<<< Oracle VM VirtualBox Disk Image >>>\n", without its frame.
 */
static void set_creator(json_t *object, const char *text)
{
	const char *start = strncmp(text, VMIMG_VDI_TEXT_START, 4) ? text : text + 4;
	const char *end = strstr(start, " >>>");

	vmimg_json_bytes(
		object, "creator", start, end ? (size_t)(end - start) : strcspn(start, "\n"));
}

int vmimg_vdi_describe(struct vmimg_disk *disk, struct vmimg_info *info, struct vmimg_error *err)
{
	const struct vmimg_vdi *vdi = disk->state;
	const struct vmimg_vdi_header *header = &vdi->header;
	json_t *geometry = json_object();
	char version[16];

	(void)err;
	vmimg_json_text(info->root, "variant", variant_name(header->type));
	set_creator(info->root, header->text);
	snprintf(version, sizeof(version), "%u.%u", header->major, header->minor);
	vmimg_json_text(info->specific, "version", version);
	if (header->comment[0])
		vmimg_json_text(info->specific, "comment", header->comment);
	if (header->block_extra)
		vmimg_json_uint(info->specific, "block-extra", header->block_extra);
	vmimg_json_uint(info->specific, "blocks", header->blocks);
	vmimg_json_uint(info->specific, "allocated-blocks", header->allocated);
	vmimg_json_uint(geometry, "cylinders", header->cylinders);
	vmimg_json_uint(geometry, "heads", header->heads);
	vmimg_json_uint(geometry, "sectors", header->sectors);
	json_object_set_new(info->specific, "geometry", geometry);
	set_guid(info->identity, "uuid", &header->uuid);
	set_guid(info->identity, "modification-uuid", &header->modified);
	set_guid(info->identity, "parent-uuid", &header->link);
	set_guid(info->identity, "parent-modification-uuid", &header->parent_modified);
	return 0;
}
