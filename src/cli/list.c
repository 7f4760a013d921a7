/* SPDX-License-Identifier: Apache-2.0 */
/* An array that info has, as a report of its own. */
#include "cli/list.h"
#include <stdio.h>
#include <string.h>

int cli_list_of(struct cli_image *image, const char *filename, const struct cli_common *common,
	const char *key, json_t **root, struct vmimg_error *err)
{
	struct cli_open how = { .format = common->format, .look = true, .alone = true };
	struct vmimg_info info;
	char schema[40];
	json_t *list;

	if (cli_image_open(image, filename, common, &how, err) ||
		vmimg_disk_info(image->disk, NULL, &info, err))
		return -1;
	list = json_object_get(info.root, key);
	if (!list)
		list = json_object_get(
			json_object_get(json_object_get(info.root, "format-specific"), "data"),
			key);
	*root = json_object();
	vmimg_json_text(*root, "filename", filename);
	/* snapshots: vmimg.snapshot/1 */
	snprintf(schema, sizeof(schema), "vmimg.%.*s/1", (int)strlen(key) - 1, key);
	json_object_set_new(*root, "schema", json_string(schema));
	json_object_set_new(*root, key, list ? json_incref(list) : json_array());
	json_decref(info.root);
	return 0;
}
