/* SPDX-License-Identifier: Apache-2.0 */
/* VHD: Connectix' and Microsoft's disk image, fixed, dynamic and differencing. */
#include <string.h>
#include "format/vhd/vhd.h"

static int vhd_probe(const struct vmimg_probe *probe)
{
	if (probe->head_len >= VMIMG_VHD_FOOTER_SIZE && !memcmp(probe->head, VMIMG_VHD_COOKIE, 8))
		return 100;
	return vmimg_vhd_tail_len(probe->tail, probe->tail_len) ? 90 : 0;
}

static void vhd_identity(const struct vmimg_disk *disk, struct vmimg_identity *identity)
{
	const struct vmimg_vhd *vhd = disk->state;

	memcpy(identity->uuid.bytes, vhd->footer.uuid, sizeof(identity->uuid.bytes));
	identity->time = vhd->footer.timestamp;
}

const struct vmimg_format vmimg_vhd = {
	.name = "vhd",
	.title = "a VHD image",
	.suffixes = "vhd vpc avhd vud",
	.probe = vhd_probe,
	.open = vmimg_vhd_open,
	.close = vmimg_vhd_close,
	.map = vmimg_vhd_map,
	.describe = vmimg_vhd_describe,
	.identity = vhd_identity,
};
