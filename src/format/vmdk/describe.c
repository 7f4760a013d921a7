/* SPDX-License-Identifier: Apache-2.0 */
/* What a VMDK says of itself, in qemu-img's words where it has them. */
#include <stdio.h>
#include <strings.h>
#include "disk/info.h"
#include "format/vmdk/vmdk.h"

void vmimg_vmdk_identity(const struct vmimg_disk *disk, struct vmimg_identity *identity)
{
	identity->cid = vmdk_of(disk)->descriptor.cid;
}

static json_t *extent_json(const struct vmimg_disk *disk, const struct vmdk_extent *e)
{
	json_t *item = json_object();

	vmimg_json_uint(item, "virtual-size", e->len);
	if (e->io == disk->io)
		vmimg_json_text(item, "filename", vmimg_io_name(disk->io));
	else if (e->line)
		vmimg_json_text(item, "filename", e->line->name);
	if (e->sparse && e->io)
		vmimg_json_uint(item, "cluster-size", e->g.grain);
	vmimg_json_text(item, "format", e->line ? e->line->word : "SPARSE");
	if (e->line && e->line->access != VMDK_RW)
		vmimg_json_text(
			item, "access", e->line->access == VMDK_RDONLY ? "RDONLY" : "NOACCESS");
	if (e->sparse && e->io && e->g.packed)
		vmimg_json_bool(item, "compressed", true);
	return item;
}

static json_t *extents_json(const struct vmimg_disk *disk)
{
	const struct vmdk *v = vmdk_of(disk);
	json_t *list = json_array();

	for (size_t i = 0; i < v->extent_count; i++)
		json_array_append_new(list, extent_json(disk, &v->extents[i]));
	return list;
}

/* Keys may come in any spelling; the value of a key given twice is the last one. */
static json_t *ddb_json(const struct vmdk_descriptor *d)
{
	json_t *object = json_object();

	for (size_t i = 0; i < d->ddb_count; i++) {
		json_t *key = vmimg_json_escaped(d->ddb[i].key, strlen(d->ddb[i].key));

		if (key)
			vmimg_json_text(object, json_string_value(key), d->ddb[i].value);
		json_decref(key);
	}
	return object;
}

static void describe_descriptor(const struct vmdk_descriptor *d, struct vmimg_info *info)
{
	const char *uuid = vmimg_vmdk_ddb(d, "ddb.uuid");
	const char *vbox_uuid = vmimg_vmdk_ddb(d, "ddb.uuid.image");
	char cid[9];

	vmimg_json_uint(info->specific, "cid", d->cid);
	vmimg_json_uint(info->specific, "parent-cid", d->parent_cid);
	vmimg_json_text(info->specific, "create-type", d->create_type);
	vmimg_json_text(info->root, "variant", d->create_type);
	vmimg_json_text(info->specific, "encoding", d->encoding);
	vmimg_json_text(info->specific, "adapter-type", vmimg_vmdk_ddb(d, "ddb.adapterType"));
	vmimg_json_text(info->specific, "hw-version", vmimg_vmdk_ddb(d, "ddb.virtualHWVersion"));
	vmimg_json_text(info->specific, "tools-version", vmimg_vmdk_ddb(d, "ddb.toolsVersion"));
	vmimg_json_text(info->specific, "change-track-path", d->track_path);
	if (d->passed_over)
		vmimg_json_uint(info->specific, "lines-passed-over", d->passed_over);
	if (d->foreign)
		vmimg_json_bool(info->specific, "beyond-ascii", true);
	for (size_t i = 0; i < d->line_count; i++)
		if (d->lines[i].name && strpbrk(d->lines[i].name, "/\\"))
			vmimg_json_bool(info->specific, "extent-paths", true);
	if (d->ddb_count)
		json_object_set_new(info->specific, "ddb", ddb_json(d));
	if (vbox_uuid)
		vmimg_json_text(info->root, "creator", "VirtualBox");
	vmimg_json_text(info->identity, "uuid", uuid ? uuid : vbox_uuid);
	snprintf(cid, sizeof(cid), "%08x", d->cid);
	if (d->has_cid)
		vmimg_json_text(info->identity, "cid", cid);
	vmimg_json_text(info->identity, "long-content-id", vmimg_vmdk_ddb(d, "ddb.longContentID"));
}

int vmimg_vmdk_describe(struct vmimg_disk *disk, struct vmimg_info *info, struct vmimg_error *err)
{
	const struct vmdk *v = vmdk_of(disk);
	bool unclean = false;

	(void)err;
	for (size_t i = 0; i < v->extent_count; i++)
		unclean |= v->extents[i].g.unclean;
	vmimg_json_bool(info->root, "dirty-flag", unclean);
	if (v->has_descriptor)
		describe_descriptor(&v->descriptor, info);
	if (v->descriptor.parent_hint && v->descriptor.parent_cid != VMDK_NO_PARENT) {
		vmimg_json_text(info->root, "backing-filename", v->descriptor.parent_hint);
		vmimg_json_text(info->root, "backing-filename-format", "vmdk");
	}
	json_object_set_new(info->specific, "extents", extents_json(disk));
	return 0;
}
