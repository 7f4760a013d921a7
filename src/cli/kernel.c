/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Of a medium, the files that osinfo-db names, or else the first kernel with a ramdisk beside it;
 * of an installed disk, what its boot loader is told.
 */
#include "cli/kernel.h"
#include <errno.h>
#include <string.h>
#include <sys/stat.h>
#include "cli/osinfo.h"
#include "inspect/inspect.h"
#include "inspect/kernels.h"
#include "inspect/view.h"
#include "io/file.h"
#include "io/output.h"
#include "util/text.h"

#define PIECE (1U << 20)

struct extract {
	const char *folder;
	bool force;
	uint8_t *buf; /* PIECE bytes */
};

/* ---- files ------------------------------------------------------------------------------- */

static struct vmimg_output *create(
	const struct extract *to, const char *name, struct vmimg_error *err)
{
	struct vmimg_output_how how = { .replace = to->force };
	VMIMG_AUTO(free) char *target = NULL;

	if (asprintf(&target, "%s/%s", to->folder, name) < 0) {
		target = NULL;
		vmimg_fail_nomem(err);
		return NULL;
	}
	return vmimg_output_open(target, &how, err);
}

/* Behind what is there already: ramdisks may stand one after the other. */
static int append(const struct extract *to, struct vmimg_output *output, struct vmimg_fs *fs,
	const char *path, const char *name, struct vmimg_error *err)
{
	struct vmimg_io *io = vmimg_output_io(output);
	struct vmimg_node node;
	char shown[200];
	size_t got;

	if (vmimg_boot_file(fs, path, &node, err))
		return -1;
	for (uint64_t at = 0;; at += got) {
		if (vmimg_fs_read(fs, &node, to->buf, PIECE, at, &got, err))
			return -1;
		if (!got)
			break;
		if (vmimg_io_pwrite(io, to->buf, got, vmimg_io_size(io), err))
			return -1;
	}
	printf("%s/%s: %s\n", to->folder, name,
		vmimg_escape(shown, sizeof(shown), path, strlen(path)));
	return 0;
}

static int extract(const struct extract *to, struct vmimg_fs *fs, const char *path,
	const char *name, struct vmimg_error *err)
{
	VMIMG_AUTO(vmimg_output_close) struct vmimg_output *output = create(to, name, err);

	return !output || append(to, output, fs, path, name, err) ||
			vmimg_output_publish(output, err)
		? -1
		: 0;
}

/* ---- media ------------------------------------------------------------------------------- */

static size_t folder_length(const char *path)
{
	const char *slash = strrchr(path, '/');

	return slash ? (size_t)(slash - path) : 0;
}

static bool same_text(const json_t *a, const json_t *b)
{
	return (!a && !b) || (a && b && json_equal(a, b));
}

/* The first kernel that has a ramdisk beside it. False: there is none. */
static bool pick(const json_t *boot, const char **kernel, const char **ramdisk)
{
	const json_t *kernels = json_object_get(boot, "kernels"), *k, *r;
	size_t i, j;

	json_array_foreach(kernels, i, k)
	{
		*kernel = json_string_value(json_object_get(k, "path"));
		json_array_foreach(json_object_get(boot, "initrds"), j, r)
		{
			*ramdisk = json_string_value(json_object_get(r, "path"));
			if (folder_length(*kernel) == folder_length(*ramdisk) &&
				!strncmp(*kernel, *ramdisk, folder_length(*kernel)) &&
				same_text(
					json_object_get(k, "volume"), json_object_get(r, "volume")))
				return true;
		}
	}
	return false;
}

/* What the rules say of this medium, when it is there. */
static bool pick_known(
	struct vmimg_fs *fs, const json_t *medium, const char **kernel, const char **ramdisk)
{
	struct vmimg_error ignored;
	struct vmimg_node node;
	bool found;

	*kernel = json_string_value(json_object_get(medium, "kernel"));
	*ramdisk = json_string_value(json_object_get(medium, "initrd"));
	return *kernel && *ramdisk && !vmimg_fs_find(fs, *kernel, &node, &found, &ignored) &&
		found && !vmimg_fs_find(fs, *ramdisk, &node, &found, &ignored) && found;
}

static int from_medium(
	const struct extract *to, struct vmimg_inspection *inspection, struct vmimg_error *err)
{
	json_t *report = vmimg_inspection_report(inspection, false, err);
	json_t *medium = report ? cli_osinfo_identify(json_object_get(report, "iso")) : NULL;
	const char *kernel = NULL, *ramdisk = NULL;
	struct vmimg_fs *fs = inspection->volumes[0].fs;
	int failed = report ? 0 : -1;

	if (!failed && !pick_known(fs, medium, &kernel, &ramdisk) &&
		!pick(json_object_get(report, "boot"), &kernel, &ramdisk))
		failed = vmimg_fail(err, VMIMG_EFORMAT,
			"no kernel with a ramdisk beside it was found (vmimg inspect)");
	if (!failed)
		failed = extract(to, fs, kernel, "vmlinuz", err) ||
			extract(to, fs, ramdisk, "initrd.img", err);
	json_decref(report);
	json_decref(medium);
	return failed ? -1 : 0;
}

/* ---- disks ------------------------------------------------------------------------------- */

static int extract_ramdisks(
	const struct extract *to, const struct vmimg_boot_choice *choice, struct vmimg_error *err)
{
	VMIMG_AUTO(vmimg_output_close) struct vmimg_output *output = create(to, "initrd.img", err);

	for (unsigned i = 0; output && i < choice->initrd_count; i++)
		if (append(to, output, choice->tree->fs, choice->initrds[i], "initrd.img", err))
			return -1;
	return output ? vmimg_output_publish(output, err) : -1;
}

static int from_disk(const struct extract *to, struct vmimg_io *view, uint32_t sector_size,
	struct vmimg_error *err)
{
	VMIMG_AUTO(vmimg_trees_close) struct vmimg_trees trees = { 0 };
	VMIMG_AUTO(free)
	struct vmimg_boot_choice *choice = vmimg_new(struct vmimg_boot_choice, err);
	VMIMG_AUTO(vmimg_output_close) struct vmimg_output *options = NULL;

	if (!choice || vmimg_trees_open(view, sector_size, &trees, err) ||
		vmimg_boot_choose(&trees, choice, err))
		return -1;
	if (choice->unified)
		return vmimg_fail(err, VMIMG_EUNSUPPORTED,
			"the disk starts a unified kernel: vmimg split takes that apart");
	if (extract(to, choice->tree->fs, choice->kernel, "vmlinuz", err) ||
		(choice->initrd_count && extract_ramdisks(to, choice, err)))
		return -1;
	if (!*choice->options)
		return 0;
	options = create(to, "cmdline", err);
	return !options ||
			vmimg_io_pwrite(vmimg_output_io(options), choice->options,
				strlen(choice->options), 0, err) ||
			vmimg_output_publish(options, err)
		? -1
		: 0;
}

int cli_kernel_extract(const char *image, const char *folder, bool force,
	const struct cli_common *common, struct vmimg_error *err)
{
	VMIMG_AUTO(cli_image_close) struct cli_image opened = { 0 };
	VMIMG_AUTO(vmimg_inspection_done) struct vmimg_inspection inspection = { 0 };
	VMIMG_AUTO(vmimg_io_unref) struct vmimg_io *view = NULL;
	VMIMG_AUTO(free) uint8_t *buf = vmimg_alloc_buffer(PIECE, err);
	struct cli_open how = { .format = common->format, .refs = CLI_REFS_BESIDE };
	struct extract to = { folder, force, buf };
	uint32_t sector_size;

	if (!buf || cli_image_open(&opened, image, common, &how, err))
		return -1;
	sector_size = opened.disk->sector_size;
	view = vmimg_view_open(opened.disk, err);
	if (!view || vmimg_inspection_open(&inspection, view, sector_size, err))
		return -1;
	if (mkdir(folder, 0777) && errno != EEXIST)
		return vmimg_fail_sys(err, errno, "%s", folder);
	if (inspection.count && inspection.volumes[0].fs && !inspection.volumes[0].part &&
		!strcmp(inspection.volumes[0].info.type, "iso9660"))
		return from_medium(&to, &inspection, err);
	return from_disk(&to, view, sector_size, err);
}
