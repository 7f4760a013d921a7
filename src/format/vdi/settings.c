/* SPDX-License-Identifier: Apache-2.0 */
/* Parents and settings: fields of the header's first sector. A VDI says which image its parent is,
 * by its UUIDs, and never where. */
#include <inttypes.h>
#include <stdio.h>
#include <string.h>
#include "format/vdi/change.h"
#include "util/num.h"

const struct vmimg_option_spec vmimg_vdi_settings[] = {
	{ "uuid", VMIMG_OPTION_TEXT, NULL, "UUID of the image, by which children know it; or new" },
	{ "parent-uuid", VMIMG_OPTION_TEXT, NULL,
		"UUID of the parent, of any state of it (children only)" },
	{ "geometry", VMIMG_OPTION_TEXT, NULL, "cylinders/heads/sectors; auto: none" },
	{ 0 },
};

static int parse_uuid(
	struct vmimg_guid *guid, const char *text, bool or_new, struct vmimg_error *err)
{
	if (or_new && !strcmp(text, "new"))
		return vmimg_guid_make(guid, true, 0, "vdi", err);
	if (vmimg_guid_parse(guid, text, strlen(text)) && !vmimg_guid_is_nil(guid))
		return 0;
	return vmimg_fail(err, VMIMG_EINVAL, "a UUID is %s8-4-4-4-12 hexadecimal digits, not nil",
		or_new ? "new, or " : "");
}

static int set_geometry(struct vmimg_vdi_header *header, const char *text, struct vmimg_error *err)
{
	unsigned cylinders = 0, heads = 0, sectors = 0;
	char more;

	if (strcmp(text, "auto") &&
		(sscanf(text, "%9u/%3u/%3u%c", &cylinders, &heads, &sectors, &more) != 3 ||
			!cylinders || !heads || !sectors))
		return vmimg_fail(err, VMIMG_EINVAL,
			"geometry is auto, or cylinders/heads/sectors, not '%.40s'", text);
	header->cylinders = cylinders;
	header->heads = heads;
	header->sectors = sectors;
	return 0;
}

static int set_parent_uuid(
	struct vmimg_vdi_header *header, const char *text, struct vmimg_error *err)
{
	if (!vmimg_vdi_has_parent(header))
		return vmimg_fail(err, VMIMG_EINVAL, "it has no parent");
	memset(&header->parent_modified, 0, sizeof(header->parent_modified));
	return parse_uuid(&header->link, text, false, err);
}

int vmimg_vdi_set(
	struct vmimg_disk *disk, const struct vmimg_options *options, struct vmimg_error *err)
{
	const struct vmimg_vdi *vdi = disk->state;
	struct vmimg_vdi_header header = vdi->header;
	const char *uuid = vmimg_options_text(options, "uuid", NULL);
	const char *parent = vmimg_options_text(options, "parent-uuid", NULL);
	const char *geometry = vmimg_options_text(options, "geometry", NULL);

	if (vmimg_vdi_begin(disk, err) || (uuid && parse_uuid(&header.uuid, uuid, true, err)) ||
		(parent && set_parent_uuid(&header, parent, err)) ||
		(geometry && set_geometry(&header, geometry, err)))
		return -1;
	return vmimg_vdi_put_header(disk, &header, err);
}

static int note_parent(
	struct vmimg_vdi_header *header, const struct vmimg_parent *parent, struct vmimg_error *err)
{
	const struct vmimg_disk *disk = parent->disk;
	struct vmimg_identity identity = { 0 };

	if (!disk)
		return vmimg_vdi_has_parent(header)
			? 0
			: vmimg_fail(err, VMIMG_EINVAL,
				  "a differencing VDI notes its parent's UUIDs, so the parent has "
				  "to "
				  "be opened");
	if (strcmp(disk->format->name, "vdi"))
		return vmimg_fail(err, VMIMG_EINVAL, "the parent of a VDI is a VDI, not %s",
			disk->format->title);
	disk->format->identity(disk, &identity);
	if (vmimg_guid_is_nil(&identity.uuid))
		return vmimg_fail(err, VMIMG_EINVAL, "the parent has no UUID to be known by");
	header->link = identity.uuid;
	header->parent_modified = identity.modified;
	if (!vmimg_vdi_has_parent(header))
		header->type = VMIMG_VDI_DIFFERENCING;
	return 0;
}

int vmimg_vdi_change_parent(
	struct vmimg_disk *disk, const struct vmimg_parent *parent, struct vmimg_error *err)
{
	const struct vmimg_vdi *vdi = disk->state;
	struct vmimg_vdi_header header = vdi->header;

	if (!parent && !vmimg_vdi_has_parent(&header))
		return 0;
	if (vmimg_vdi_begin(disk, err))
		return -1;
	if (header.type == VMIMG_VDI_FIXED)
		return vmimg_fail(err, VMIMG_EUNSUPPORTED,
			"a fixed VDI has all its blocks, so no parent can show through");
	if (!parent) {
		header.type = VMIMG_VDI_DYNAMIC;
		memset(&header.link, 0, sizeof(header.link));
		memset(&header.parent_modified, 0, sizeof(header.parent_modified));
	} else if (note_parent(&header, parent, err)) {
		return -1;
	}
	return vmimg_vdi_put_header(disk, &header, err);
}
