/* SPDX-License-Identifier: Apache-2.0 */
/* format-specific as QEMU's schema has it: of qcow2, LUKS and VMDK, and of VMDK little. */
#include "cli/face/prune.h"
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static bool is_known(const char *key)
{
	static const char *const keys[] = { "cid", "parent-cid", "create-type", "extents" };

	for (size_t i = 0; i < sizeof(keys) / sizeof(keys[0]); i++)
		if (!strcmp(key, keys[i]))
			return true;
	return false;
}

/* Extents are named from where the program is, not from where the image is. */
static void set_path(json_t *extent, const char *image)
{
	const char *name = json_string_value(json_object_get(extent, "filename"));
	const char *slash = strrchr(image, '/');
	char *path;

	if (!name || !slash || name[0] == '/' || !strcmp(name, image) ||
		asprintf(&path, "%.*s%s", (int)(slash - image + 1), image, name) < 0)
		return;
	json_object_set_new(extent, "filename", json_string(path));
	free(path);
}

/* What comes behind the bitmaps. */
static void order_qcow2(json_t *data)
{
	static const char *const keys[] = { "refcount-bits", "data-file", "encrypt",
		"data-file-raw", "corrupt", "extended-l2" };

	for (size_t i = 0; i < sizeof(keys) / sizeof(keys[0]); i++) {
		json_t *value = json_incref(json_object_get(data, keys[i]));

		if (!value)
			continue;
		json_object_del(data, keys[i]);
		json_object_set_new(data, keys[i], value);
	}
}

void face_prune_info(json_t *root)
{
	const char *image = json_string_value(json_object_get(root, "filename"));
	json_t *specific = json_object_get(root, "format-specific");
	json_t *data = json_object_get(specific, "data");
	const char *type = json_string_value(json_object_get(specific, "type"));
	const char *key;
	json_t *value;
	void *next;

	if (type && !strcmp(type, "qcow2"))
		order_qcow2(data);
	if (!type || !strcmp(type, "qcow2") || !strcmp(type, "luks"))
		return;
	if (strcmp(type, "vmdk")) {
		json_object_del(root, "format-specific");
		return;
	}
	for (size_t i = 0; image && i < json_array_size(json_object_get(data, "extents")); i++)
		set_path(json_array_get(json_object_get(data, "extents"), i), image);
	json_object_foreach_safe(data, next, key, value) if (!is_known(key))
		json_object_del(data, key);
}
