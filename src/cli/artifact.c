/* SPDX-License-Identifier: Apache-2.0 */
/* The report has the shape of a disk's, so that one program reads both. */
#include "cli/artifact.h"
#include <string.h>
#include "bundle/kernel.h"
#include "bundle/ramdisk.h"
#include "io/file.h"

static json_t *new_report(struct vmimg_io *io, const char *format, const char *variant)
{
	const char *path = vmimg_file_path(io);
	json_t *root = json_object();

	vmimg_json_text(root, "filename", path ? path : vmimg_io_name(io));
	vmimg_json_text(root, "format", format);
	json_object_set_new(root, "schema", json_string("vmimg.info/1"));
	vmimg_json_text(root, "variant", variant);
	vmimg_json_uint(root, "file-size", vmimg_io_size(io));
	return root;
}

static json_t *finish(json_t *root, const char *format, json_t *data, const char *warning)
{
	json_t *specific = json_object();

	vmimg_json_text(specific, "type", format);
	json_object_set_new(specific, "data", data);
	json_object_set_new(root, "format-specific", specific);
	if (warning)
		json_object_set_new(root, "warnings", json_pack("[s]", warning));
	return root;
}

static json_t *describe_kernel(struct vmimg_io *io, const struct vmimg_kernel *kernel)
{
	json_t *data = json_object();

	vmimg_kernel_describe(kernel, data);
	return finish(new_report(io, "aki", "kernel"), "aki", data,
		kernel->cut_short ? "the file ends before the kernel does" : NULL);
}

static json_t *describe_ramdisk(struct vmimg_io *io, const struct vmimg_ramdisk *ramdisk)
{
	json_t *data = json_object();
	bool cut = false;

	for (unsigned i = 0; i < ramdisk->count; i++)
		cut |= ramdisk->segments[i].cut_short;
	vmimg_ramdisk_describe(ramdisk, data);
	return finish(new_report(io, "ari", "ramdisk"), "ari", data,
		cut ? "the file ends before the archive does" : NULL);
}

json_t *cli_describe_artifact(struct vmimg_io *io, struct vmimg_error *err)
{
	VMIMG_AUTO(free) struct vmimg_ramdisk *ramdisk = NULL;
	struct vmimg_kernel kernel;

	if (!vmimg_kernel_read(io, &kernel, err))
		return describe_kernel(io, &kernel);
	if (err->status != VMIMG_EFORMAT)
		return NULL;
	ramdisk = vmimg_new(struct vmimg_ramdisk, err);
	if (!ramdisk || vmimg_ramdisk_read(io, ramdisk, err))
		return NULL;
	return describe_ramdisk(io, ramdisk);
}

/* PRETTY_NAME of os-release; nothing where it cannot be read. */
static void add_system(struct vmimg_io *io, json_t *object)
{
	static const char *const paths[] = { "/etc/os-release", "/usr/lib/os-release" };
	struct vmimg_error ignored;
	VMIMG_AUTO(vmimg_fs_close) struct vmimg_fs *fs = vmimg_fs_open(io, &ignored);
	VMIMG_AUTO(free) char *text = NULL;
	char *name;
	size_t len;

	for (size_t i = 0; fs && !text && i < 2; i++)
		text = vmimg_fs_read_file(fs, paths[i], 65536, &len, &ignored);
	name = text ? strstr(text, "PRETTY_NAME=") : NULL;
	if (!name)
		return;
	name += strlen("PRETTY_NAME=");
	name += *name == '"' || *name == '\'';
	vmimg_json_bytes(object, "system", name, strcspn(name, "\"'\n"));
}

void cli_describe_ami(struct vmimg_io *io, const struct vmimg_fs_info *info, json_t *root)
{
	json_t *object;

	if (!strcmp(info->type, "iso9660") || !strcmp(info->type, "udf"))
		return;
	object = json_object();
	vmimg_json_text(object, "type", info->type);
	if (*info->label)
		vmimg_json_text(object, "label", info->label);
	if (*info->uuid)
		vmimg_json_text(object, "uuid", info->uuid);
	add_system(io, object);
	vmimg_json_text(root, "variant", "ami: a file system without a partition table");
	json_object_set_new(root, "file-system", object);
}
