/* SPDX-License-Identifier: Apache-2.0 */
/* VDI: VirtualBox' disk image, dynamic, fixed, undo and differencing. */
#include "format/vdi/vdi.h"

static int vdi_probe(const struct vmimg_probe *probe)
{
	if (probe->head_len < VMIMG_VDI_PRE_SIZE ||
		vmimg_get_le32(probe->head + 64) != VMIMG_VDI_MAGIC)
		return 0;
	return memcmp(probe->head, VMIMG_VDI_TEXT_START, 4) ? 90 : 100;
}

static void vdi_identity(const struct vmimg_disk *disk, struct vmimg_identity *identity)
{
	const struct vmimg_vdi *vdi = disk->state;

	identity->uuid = vdi->header.uuid;
	identity->modified = vdi->header.modified;
}

static const struct vmimg_option_spec vdi_options[] = {
	{ "static", VMIMG_OPTION_BOOL, NULL, "a fixed image, as large as the disk (off)" },
	{ "subformat", VMIMG_OPTION_CHOICE, "dynamic|fixed|differencing",
		"kind of image (dynamic; differencing when it has a parent)" },
	{ "block_size", VMIMG_OPTION_SIZE, NULL, "unit of allocation (1M)" },
	{ "uuid", VMIMG_OPTION_TEXT, NULL, "UUID of the image (derived from the content)" },
	{ 0 },
};

const struct vmimg_format vmimg_vdi = {
	.name = "vdi",
	.title = "a VDI image",
	.suffixes = "vdi",
	.adopts = true,
	.probe = vdi_probe,
	.open = vmimg_vdi_open,
	.close = vmimg_vdi_close,
	.map = vmimg_vdi_map,
	.describe = vmimg_vdi_describe,
	.check = vmimg_vdi_check,
	.repair = vmimg_vdi_repair,
	.identity = vdi_identity,
	.create = vmimg_vdi_create,
	.measure = vmimg_vdi_measure,
	.edit = &vmimg_vdi_edit,
	.options = vdi_options,
};
