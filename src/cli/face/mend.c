/* SPDX-License-Identifier: Apache-2.0 */
/* The repair is that of check -r all, under its undo journal. */
#include "cli/face/mend.h"
#include "cli/open.h"
#include "cli/repair_in_place.h"

static bool is_dirty(const char *path, const char *format)
{
	VMIMG_AUTO(cli_image_close) struct cli_image image = { 0 };
	struct cli_common common = {
		.quiet = true, .share = true, .face = true, .refs = CLI_REFS_NONE
	};
	struct cli_open how = {
		.format = format, .refs = CLI_REFS_NONE, .alone = true, .lenient = true
	};
	struct vmimg_error unused;
	struct vmimg_info info;
	bool dirty;

	if (cli_image_open(&image, path, &common, &how, &unused) || !image.disk ||
		vmimg_disk_info(image.disk, vmimg_resolver_none(), &info, &unused))
		return false;
	dirty = json_is_true(json_object_get(info.root, "dirty-flag"));
	json_decref(info.root);
	return dirty;
}

int face_mend(const char *path, const char *format, struct vmimg_error *err)
{
	VMIMG_AUTO(cli_image_close) struct cli_image image = { 0 };
	VMIMG_AUTO(free) struct cli_repair *repair = NULL;
	struct cli_common common = {
		.format = format, .quiet = true, .face = true, .refs = CLI_REFS_ANY
	};
	struct vmimg_run_how how = { 0 };
	int failed;

	if (!is_dirty(path, format))
		return 0;
	repair = vmimg_new(struct cli_repair, err);
	if (!repair)
		return -1;
	repair->beside = true;
	failed = cli_repair_in_place(&image, path, &common, repair, &how, err);
	vmimg_repair_done(&repair->did);
	return failed ? -1 : 0;
}
