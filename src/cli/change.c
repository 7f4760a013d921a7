/* SPDX-License-Identifier: Apache-2.0 */
/* The write lock comes first: an image that a machine has open is not changed under it. */
#include "cli/change.h"
#include "io/file.h"
#include "io/lock.h"

int cli_change_open(struct cli_image *image, const char *path, const struct cli_common *common,
	struct vmimg_error *err)
{
	struct vmimg_open options = { .format = common->format,
		.resolver = &image->files.resolver };

	cli_files_init(
		&image->files, common, cli_resolver(common, CLI_REFS_BESIDE), VMIMG_LOCK_READ);
	image->io = vmimg_file_open(path, true, err);
	if (!image->io || vmimg_io_lock(image->io, VMIMG_LOCK_WRITE, err))
		return common->face ? vmimg_within(err, "Could not open '%.100s'", path) : -1;
	if (common->face && !options.format && !(options.format = cli_face_format(image->io, err)))
		return -1;
	image->disk = vmimg_disk_open(image->io, &options, err);
	return image->disk ? 0 : -1;
}

int cli_change_unsupported(const struct cli_image *image, const char *what, struct vmimg_error *err)
{
	return vmimg_fail(err, VMIMG_EUNSUPPORTED, "%s: format %s has no %s",
		vmimg_io_name(image->io), image->disk->format->name, what);
}
