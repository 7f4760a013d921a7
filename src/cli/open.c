/* SPDX-License-Identifier: Apache-2.0 */
/* From a word of the command line to an opened disk. */
#include "cli/open.h"
#include <inttypes.h>
#include <string.h>
#include "io/file.h"

void cli_image_close(struct cli_image *image)
{
	vmimg_disk_close(image->disk);
	vmimg_io_unref(image->io);
	memset(image, 0, sizeof(*image));
}

/* An image that says it is two things is refused from strangers, even when -f picks one. */
static int check_untrusted(
	struct vmimg_io *io, const struct cli_common *common, struct vmimg_error *err)
{
	struct vmimg_error why;

	if (!common->untrusted || vmimg_disk_probe(io, &why) || why.status != VMIMG_EREFUSED)
		return 0;
	*err = why;
	return -1;
}

static void warn_if_not_raw(struct vmimg_io *io, const char *format)
{
	const struct vmimg_format *found;
	struct vmimg_error why;

	if (!format || strcmp(format, "raw"))
		return;
	found = vmimg_disk_probe(io, &why);
	if (found && strcmp(found->name, "raw"))
		cli_warn("warning: %s looks like %s, and is read as a raw disk (-f raw)",
			vmimg_io_name(io), found->title);
	else if (!found)
		cli_warn("warning: %s: read as a raw disk (-f raw)", why.text);
}

/* qemu's words: a bare id or name, or snapshot.id=ID, snapshot.name=NAME. */
static const char *snapshot_word(const char *text)
{
	static const char *const keys[] = { "snapshot.id=", "snapshot.name=" };

	for (size_t i = 0; text && i < 2; i++)
		if (!strncmp(text, keys[i], strlen(keys[i])))
			return text + strlen(keys[i]);
	return text;
}

static int check_size(
	const struct vmimg_disk *disk, const struct cli_common *common, struct vmimg_error *err)
{
	if (!common->max_virtual_size || disk->size <= common->max_virtual_size)
		return 0;
	return vmimg_fail(err, VMIMG_ELIMIT,
		"%s: a virtual size of %" PRIu64 " bytes is over the limit of %" PRIu64
		" (--max-virtual-size)",
		vmimg_io_name(disk->io), disk->size, common->max_virtual_size);
}

int cli_image_open(struct cli_image *image, const char *path, const struct cli_common *common,
	const struct cli_open *how, struct vmimg_error *err)
{
	struct vmimg_open options = { .format = how->format,
		.resolver = cli_resolver(common, how->refs),
		.snapshot = snapshot_word(how->snapshot),
		.alone = how->alone,
		.lenient = how->lenient };

	image->io = vmimg_file_open(path, false, err);
	if (!image->io || check_untrusted(image->io, common, err))
		return -1;
	image->disk = vmimg_disk_open(image->io, &options, err);
	if (!image->disk || check_size(image->disk, common, err))
		return -1;
	if (!common->quiet)
		warn_if_not_raw(image->io, how->format);
	return 0;
}

void cli_image_warn(const struct cli_image *image, const struct cli_common *common)
{
	json_t *text;
	size_t i;

	for (const struct vmimg_disk *disk = image->disk; disk && !common->quiet;
		disk = disk->parent)
		json_array_foreach(disk->warnings, i, text) cli_warn(
			"warning: %s: %s", vmimg_io_name(disk->io), json_string_value(text));
}
