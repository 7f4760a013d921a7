/* SPDX-License-Identifier: Apache-2.0 */
/* VHDX, the disk of Hyper-V: the entry of its room. */
#include "format/vhdx/vhdx.h"
#include <string.h>

static int probe(const struct vmimg_probe *probe)
{
	return probe->head_len >= VHDX_CREATOR_AT &&
			!memcmp(probe->head, VHDX_FILE_ID, VHDX_CREATOR_AT)
		? 100
		: 0;
}

static void identity(const struct vmimg_disk *disk, struct vmimg_identity *identity)
{
	const struct vmimg_vhdx *vhdx = disk->state;

	identity->uuid = vhdx->head.data_write;
}

const struct vmimg_format vmimg_vhdx = {
	.name = "vhdx",
	.title = "a VHDX disk",
	.suffixes = "vhdx avhdx",
	.probe = probe,
	.open = vmimg_vhdx_open,
	.close = vmimg_vhdx_close,
	.map = vmimg_vhdx_map,
	.describe = vmimg_vhdx_describe,
	.identity = identity,
};
