/* SPDX-License-Identifier: Apache-2.0 */
/* VHD: Connectix' and Microsoft's disk image, fixed, dynamic and differencing. */
#include <string.h>
#include "format/vhd/vhd.h"

static int vhd_probe(const struct vmimg_probe *probe)
{
	if (probe->head_len >= 8 && !memcmp(probe->head, VMIMG_VHD_COOKIE, 8))
		return 100;
	return vmimg_vhd_tail_len(probe->tail, probe->tail_len) ? 90 : 0;
}

static void vhd_identity(const struct vmimg_disk *disk, struct vmimg_identity *identity)
{
	const struct vmimg_vhd *vhd = disk->state;

	memcpy(identity->uuid.bytes, vhd->footer.uuid, sizeof(identity->uuid.bytes));
	identity->time = vhd->footer.timestamp;
}

static const struct vmimg_option_spec vhd_options[] = {
	{ "subformat", VMIMG_OPTION_CHOICE, "dynamic|fixed|differencing",
		"kind of disk (dynamic; differencing when it has a parent)" },
	{ "force_size", VMIMG_OPTION_BOOL, NULL,
		"keep the exact size (on); off rounds it up to cylinders, heads and sectors" },
	{ "block_size", VMIMG_OPTION_SIZE, NULL, "unit of allocation (2M)" },
	{ "uuid", VMIMG_OPTION_TEXT, NULL, "unique id (derived from the content)" },
	{ "creator", VMIMG_OPTION_TEXT, NULL,
		"creator application, four characters (\"win \", for which all take the exact "
		"size)" },
	{ 0 },
};

const struct vmimg_format vmimg_vhd = {
	.name = "vhd",
	.title = "a VHD image",
	.suffixes = "vhd vpc avhd vud",
	.probe = vhd_probe,
	.open = vmimg_vhd_open,
	.close = vmimg_vhd_close,
	.map = vmimg_vhd_map,
	.describe = vmimg_vhd_describe,
	.check = vmimg_vhd_check,
	.repair = vmimg_vhd_repair,
	.identity = vhd_identity,
	.create = vmimg_vhd_create,
	.measure = vmimg_vhd_measure,
	.edit = &vmimg_vhd_edit,
	.options = vhd_options,
};
