/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Finding the parent of a differencing disk. The locator's paths are Windows paths; what of them
 * can mean something here is tried in the order of [MS-VHDX] 2.6.2.6.3, and at last the bare name,
 * and only a file that has the right identity is taken.
 */
#include <ctype.h>
#include <string.h>
#include "format/vhdx/vhdx.h"
#include "util/num.h"

static const char *const path_keys[] = { "relative_path", "volume_path", "absolute_win32_path" };

/* The part after the last separator. */
static char *base_name(char *path)
{
	char *slash = strrchr(path, '/');

	return slash ? slash + 1 : path;
}

/* A Windows path in place into one that means something here: slashes, no "./" before it. A path on
 * a drive, a volume or another machine keeps its last component alone. */
static char *local_path(char *path)
{
	for (char *p = path; (p = strchr(p, '\\'));)
		*p = '/';
	if ((isalpha((unsigned char)path[0]) && path[1] == ':') || !strncmp(path, "//", 2))
		return base_name(path);
	while (!strncmp(path, "./", 2))
		path += 2;
	return path;
}

static int refer_once(struct vmimg_disk *disk, const char *name, struct vmimg_error *err)
{
	if (!*name)
		return 0;
	for (size_t i = 0; i < disk->ref_count; i++)
		if (!strcmp(disk->refs[i].ref.name, name))
			return 0;
	return vmimg_disk_refer(disk, "parent", name, "vhdx", err) < 0 ? -1 : 0;
}

/* Every name worth trying, each once. bare: only what is behind the last separator. */
static int refer_all(struct vmimg_disk *disk, bool bare, struct vmimg_error *err)
{
	const struct vmimg_vhdx *vhdx = disk->state;

	for (size_t i = 0; i < VMIMG_ARRAY_LEN(path_keys); i++) {
		const char *value = vmimg_vhdx_locator_value(&vhdx->locator, path_keys[i]);
		VMIMG_AUTO(free) char *copy = value ? vmimg_strdup(value, err) : NULL;
		char *name;

		if (!value)
			continue;
		if (!copy)
			return -1;
		name = local_path(copy);
		if (refer_once(disk, bare ? base_name(name) : name, err))
			return -1;
	}
	return 0;
}

/* Whether the key names this identity; *given: it names one at all. */
static bool names(const struct vhdx_locator *locator, const char *key,
	const struct vmimg_guid *identity, bool *given)
{
	const char *text = vmimg_vhdx_locator_value(locator, key);
	struct vmimg_guid guid;

	if (!text || !vmimg_guid_parse(&guid, text, strlen(text)) || vmimg_guid_is_nil(&guid))
		return false;
	*given = true;
	return vmimg_guid_equal(&guid, identity);
}

/* The parent is the very disk that the child was made on, unchanged since. */
static int check_linkage(const struct vmimg_disk *disk, struct vmimg_error *err)
{
	const struct vmimg_vhdx *vhdx = disk->state, *parent = disk->parent->state;
	char text[VMIMG_GUID_TEXT];
	bool given = false;

	if (disk->parent->sector_size != disk->sector_size)
		return vmimg_fail(err, VMIMG_ECORRUPT,
			"the parent has sectors of %u bytes, this image of %u",
			disk->parent->sector_size, disk->sector_size);
	if (names(&vhdx->locator, "parent_linkage", &parent->head.data_write, &given) ||
		names(&vhdx->locator, "parent_linkage2", &parent->head.data_write, &given))
		return 0;
	if (!given)
		return vmimg_fail(err, VMIMG_ECORRUPT,
			"the parent locator does not say who the parent is (parent_linkage)");
	return vmimg_fail(err, VMIMG_ECORRUPT,
		"its data write GUID %s is not what this image was made on: another disk, or "
		"changed since",
		vmimg_guid_format(text, &parent->head.data_write));
}

static int try_reference(struct vmimg_disk *disk, const struct vmimg_open *options, size_t i,
	struct vmimg_error *err)
{
	if (vmimg_disk_open_parent(disk, options, (int)i, err))
		return -1;
	if (!disk->parent || !check_linkage(disk, err))
		return 0;
	if (options->lenient) {
		vmimg_disk_warn(disk, "%s", err->text);
		return 0;
	}
	vmimg_within(err, "parent \"%.80s\"", vmimg_io_name(disk->parent->io));
	vmimg_disk_close(disk->parent);
	disk->parent = NULL;
	disk->refs[i].opened = false;
	return -1;
}

int vmimg_vhdx_open_parent(
	struct vmimg_disk *disk, const struct vmimg_open *options, struct vmimg_error *err)
{
	struct vmimg_error why;

	if (refer_all(disk, false, err) || refer_all(disk, true, err))
		return -1;
	if (!disk->ref_count)
		return options->alone
			? 0
			: vmimg_fail(err, VMIMG_ECORRUPT, "the parent locator names no file");
	for (size_t i = 0; i < disk->ref_count; i++) {
		/* The first reason is the one to tell: later names are guesses. */
		if (!try_reference(disk, options, i, i ? &why : err))
			return 0;
	}
	return -1;
}
