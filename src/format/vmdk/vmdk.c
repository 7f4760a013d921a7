/* SPDX-License-Identifier: Apache-2.0 */
/* VMDK: the driver's table, and detection. */
#include "format/vmdk/vmdk.h"

int vmimg_vmdk_probe(const struct vmimg_probe *probe)
{
	if (probe->head_len < 8)
		return 0;
	if (vmimg_get_le32(probe->head) == VMDK_MAGIC)
		return 100;
	if (vmimg_get_le32(probe->head) == VMDK_COWD_MAGIC)
		return 90;
	if (vmimg_get_le64(probe->head) == VMDK_SE_MAGIC)
		return 90;
	return vmimg_vmdk_descriptor_probe(probe->head, probe->head_len);
}

const struct vmimg_format vmimg_vmdk = {
	.name = "vmdk",
	.title = "a VMDK disk",
	.suffixes = "vmdk",
	.probe = vmimg_vmdk_probe,
	.open = vmimg_vmdk_open,
	.close = vmimg_vmdk_close,
	.map = vmimg_vmdk_map,
	.describe = vmimg_vmdk_describe,
	.identity = vmimg_vmdk_identity,
	.check = vmimg_vmdk_check,
	.repair = vmimg_vmdk_repair,
	.create = vmimg_vmdk_create,
	.measure = vmimg_vmdk_measure,
	.edit = &vmimg_vmdk_edit,
	.options = vmimg_vmdk_options,
};
