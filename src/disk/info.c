/* SPDX-License-Identifier: Apache-2.0 */
/* The generic part of info: what every format has. Drivers add the rest in describe(). */
#include "disk/info.h"
#include <string.h>
#include "util/text.h"

json_t *vmimg_json_escaped(const char *text, size_t len)
{
	char *shown = vmimg_escape_dup(text, len);
	json_t *string = shown ? json_string(shown) : NULL;

	free(shown);
	return string;
}

void vmimg_json_bytes(json_t *object, const char *key, const char *text, size_t len)
{
	json_object_set_new(object, key, vmimg_json_escaped(text, len));
}

void vmimg_json_text(json_t *object, const char *key, const char *text)
{
	if (text)
		vmimg_json_bytes(object, key, text, strlen(text));
}

void vmimg_json_uint(json_t *object, const char *key, uint64_t value)
{
	json_object_set_new(
		object, key, json_integer(value > INT64_MAX ? INT64_MAX : (json_int_t)value));
}

void vmimg_json_bool(json_t *object, const char *key, bool value)
{
	json_object_set_new(object, key, json_boolean(value));
}

static json_t *references(const struct vmimg_disk *disk, const struct vmimg_resolver *policy)
{
	json_t *list = json_array();

	for (size_t i = 0; i < disk->ref_count; i++) {
		const struct vmimg_reference *ref = &disk->refs[i].ref;
		struct vmimg_error why;
		bool allowed = !policy->judge(policy, ref, disk->io, &why);
		json_t *item = json_object();

		vmimg_json_text(item, "kind", ref->kind);
		vmimg_json_text(item, "filename", ref->name);
		vmimg_json_text(item, "format", ref->format);
		vmimg_json_bool(item, "allowed", allowed);
		if (!allowed)
			vmimg_json_text(item, "reason", why.text);
		json_array_append_new(list, item);
	}
	return list;
}

static json_t *bitmaps(const struct vmimg_disk *disk)
{
	json_t *list = json_array();

	for (size_t i = 0; i < disk->bitmap_count; i++) {
		const struct vmimg_bitmap *bitmap = &disk->bitmaps[i];
		json_t *item = json_object(), *flags = json_array();

		if (bitmap->in_use)
			json_array_append_new(flags, json_string("in-use"));
		if (bitmap->enabled)
			json_array_append_new(flags, json_string("auto"));
		json_object_set_new(item, "flags", flags);
		vmimg_json_text(item, "name", bitmap->name);
		vmimg_json_uint(item, "granularity", bitmap->granularity);
		json_array_append_new(list, item);
	}
	return list;
}

int vmimg_disk_info(struct vmimg_disk *disk, const struct vmimg_resolver *policy,
	struct vmimg_info *info, struct vmimg_error *err)
{
	json_t *root = json_object(), *wrap = json_object();

	info->root = root;
	info->specific = json_object();
	info->identity = json_object();
	vmimg_json_uint(root, "virtual-size", disk->size);
	vmimg_json_text(root, "format", disk->format->name);
	if (disk->block)
		vmimg_json_uint(root, "cluster-size", disk->block);
	vmimg_json_uint(root, "sector-size", disk->sector_size);
	json_object_set_new(wrap, "type", json_string(disk->format->name));
	json_object_set_new(wrap, "data", info->specific);
	if (disk->format->describe && disk->format->describe(disk, info, err)) {
		json_decref(wrap);
		json_decref(info->identity);
		json_decref(root);
		return -1;
	}
	if (disk->bitmap_count)
		json_object_set_new(info->specific, "bitmaps", bitmaps(disk));
	if (json_object_size(info->specific))
		json_object_set(root, "format-specific", wrap);
	if (json_object_size(info->identity))
		json_object_set(root, "identity", info->identity);
	json_object_set_new(
		root, "references", references(disk, policy ? policy : vmimg_resolver_none()));
	json_object_set(root, "warnings", disk->warnings);
	json_decref(wrap);
	json_decref(info->identity);
	return 0;
}

char *vmimg_disk_info_json(struct vmimg_disk *disk, struct vmimg_error *err)
{
	struct vmimg_info info;
	char *text;

	if (vmimg_disk_info(disk, NULL, &info, err))
		return NULL;
	text = json_dumps(info.root, JSON_INDENT(4));
	json_decref(info.root);
	if (!text)
		vmimg_fail_nomem(err);
	return text;
}
