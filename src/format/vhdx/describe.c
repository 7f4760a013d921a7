/* SPDX-License-Identifier: Apache-2.0 */
/* What a VHDX says of itself. */
#include "disk/info.h"
#include "format/vhdx/vhdx.h"

static const char *variant(const struct vhdx_params *params)
{
	if (params->has_parent)
		return "differencing";
	return params->leave_allocated ? "fixed" : "dynamic";
}

static void set_guid(json_t *object, const char *key, const struct vmimg_guid *guid)
{
	char text[VMIMG_GUID_TEXT];

	vmimg_json_text(object, key, vmimg_guid_format(text, guid));
}

static json_t *describe_log(const struct vmimg_vhdx *vhdx)
{
	static const char *const states[] = { "clean", "replayed-in-memory", "unused", "torn" };
	json_t *log = json_object();

	vmimg_json_text(log, "state", states[vhdx->log]);
	vmimg_json_uint(log, "offset", vhdx->head.log_range.at);
	vmimg_json_uint(log, "size", vhdx->head.log_range.len);
	if (vhdx->log == VHDX_LOG_REPLAYED)
		vmimg_json_uint(log, "entries", vhdx->log_entries);
	return log;
}

static json_t *describe_locator(const struct vhdx_locator *locator)
{
	json_t *list = json_array();

	for (size_t i = 0; i < locator->count; i++) {
		json_t *item = json_object();

		vmimg_json_text(item, "key", locator->pairs[i].key);
		vmimg_json_text(item, "value", locator->pairs[i].value);
		json_array_append_new(list, item);
	}
	return list;
}

int vmimg_vhdx_describe(struct vmimg_disk *disk, struct vmimg_info *info, struct vmimg_error *err)
{
	const struct vmimg_vhdx *vhdx = disk->state;

	(void)err;
	vmimg_json_text(info->root, "variant", variant(&vhdx->params));
	vmimg_json_text(info->root, "creator", vhdx->creator);
	vmimg_json_bool(info->root, "dirty-flag", vhdx->log != VHDX_LOG_CLEAN);
	vmimg_json_uint(info->specific, "block-size", vhdx->params.block);
	vmimg_json_uint(info->specific, "logical-sector-size", vhdx->params.logical);
	vmimg_json_uint(info->specific, "physical-sector-size", vhdx->params.physical);
	vmimg_json_uint(info->specific, "header", vhdx->head_index + 1);
	vmimg_json_uint(info->specific, "header-sequence", vhdx->head.sequence);
	vmimg_json_uint(info->specific, "region-table", vhdx->regions_index + 1);
	json_object_set_new(info->specific, "log", describe_log(vhdx));
	if (vhdx->params.has_parent)
		json_object_set_new(
			info->specific, "parent-locator", describe_locator(&vhdx->locator));
	set_guid(info->identity, "uuid", &vhdx->params.disk_id);
	set_guid(info->identity, "data-write-guid", &vhdx->head.data_write);
	set_guid(info->identity, "file-write-guid", &vhdx->head.file_write);
	return 0;
}
