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

static const struct vmimg_option_spec options[] = {
	{ "subformat", VMIMG_OPTION_CHOICE, "dynamic|fixed",
		"fixed sets the space for all blocks aside (dynamic)" },
	{ "block_size", VMIMG_OPTION_SIZE, NULL,
		"a power of two from 1M to 256M (8M, 16M above 1G, 32M above 100G, 64M above "
		"32T)" },
	{ "log_size", VMIMG_OPTION_SIZE, NULL, "whole MiB (1M)" },
	{ "block_state_zero", VMIMG_OPTION_BOOL, NULL,
		"note zero blocks as zero rather than not present (off)" },
	{ "logical_sector_size", VMIMG_OPTION_SIZE, NULL,
		"512 or 4096 (that of the parent, else 512)" },
	{ "physical_sector_size", VMIMG_OPTION_SIZE, NULL, "512 or 4096 (4096)" },
	{ 0 },
};

const struct vmimg_format vmimg_vhdx = {
	.name = "vhdx",
	.title = "a VHDX disk",
	.suffixes = "vhdx avhdx",
	.adopts = true,
	.probe = probe,
	.open = vmimg_vhdx_open,
	.close = vmimg_vhdx_close,
	.map = vmimg_vhdx_map,
	.describe = vmimg_vhdx_describe,
	.identity = identity,
	.check = vmimg_vhdx_check,
	.repair = vmimg_vhdx_repair,
	.create = vmimg_vhdx_create,
	.measure = vmimg_vhdx_measure,
	.edit = &vmimg_vhdx_edit,
	.options = options,
};
