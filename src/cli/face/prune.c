/* SPDX-License-Identifier: Apache-2.0 */
/* format-specific as QEMU's schema has it: of qcow2, LUKS and VMDK, and of VMDK little. */
#include "cli/face/prune.h"
#include <stdbool.h>
#include <string.h>

static bool is_known(const char *key)
{
	static const char *const keys[] = { "cid", "parent-cid", "create-type", "extents" };

	for (size_t i = 0; i < sizeof(keys) / sizeof(keys[0]); i++)
		if (!strcmp(key, keys[i]))
			return true;
	return false;
}

void face_prune_info(json_t *root)
{
	json_t *specific = json_object_get(root, "format-specific");
	json_t *data = json_object_get(specific, "data");
	const char *type = json_string_value(json_object_get(specific, "type"));
	const char *key;
	json_t *value;
	void *next;

	if (!type || !strcmp(type, "qcow2") || !strcmp(type, "luks"))
		return;
	if (strcmp(type, "vmdk")) {
		json_object_del(root, "format-specific");
		return;
	}
	json_object_foreach_safe(data, next, key, value) if (!is_known(key))
		json_object_del(data, key);
}
