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

/* Whether that is the data write GUID of what the child was made on. */
static int check_linkage(
	const struct vmimg_disk *disk, const struct vmimg_guid *data_write, struct vmimg_error *err)
{
	const struct vmimg_vhdx *vhdx = disk->state;
	char text[VMIMG_GUID_TEXT];
	bool given = false;

	if (names(&vhdx->locator, "parent_linkage", data_write, &given) ||
		names(&vhdx->locator, "parent_linkage2", data_write, &given))
		return 0;
	if (!given)
		return vmimg_fail(err, VMIMG_ECORRUPT,
			"the parent locator does not say who the parent is (parent_linkage)");
	return vmimg_fail(err, VMIMG_ECORRUPT,
		"its data write GUID %s is not what this image was made on: another disk, or "
		"changed since",
		vmimg_guid_format(text, data_write));
}

/* By a look at its headers alone: only one image is opened in full, with its own parents, or chains
 * of several names each would be gone through in all ways there are. *fits: it is the very disk
 * that the child was made on, unchanged since; otherwise why says so. */
static int look_at_candidate(struct vmimg_disk *disk, const struct vmimg_open *options, int i,
	bool *fits, struct vmimg_error *why)
{
	VMIMG_AUTO(vmimg_io_unref) struct vmimg_io *io = NULL;
	struct vmimg_guid data_write;

	*fits = false;
	if (vmimg_disk_open_ref(disk, options, i, &io, why))
		return -1;
	disk->refs[i].opened = false;
	if (vmimg_vhdx_peek(io, &data_write, why))
		return vmimg_within(why, "parent \"%.80s\"", vmimg_io_name(io));
	*fits = !check_linkage(disk, &data_write, why);
	if (!*fits)
		(void)!vmimg_within(why, "parent \"%.80s\"", vmimg_io_name(io));
	return 0;
}

static int open_chosen(
	struct vmimg_disk *disk, const struct vmimg_open *options, int i, struct vmimg_error *err)
{
	if (vmimg_disk_open_parent(disk, options, i, err))
		return -1;
	if (disk->parent->sector_size == disk->sector_size)
		return 0;
	(void)!vmimg_fail(err, VMIMG_ECORRUPT,
		"parent \"%.80s\": the parent has sectors of %u bytes, this image of %u",
		vmimg_io_name(disk->parent->io), disk->parent->sector_size, disk->sector_size);
	if (!options->lenient)
		return -1;
	vmimg_disk_warn(disk, "%s", err->text);
	return 0;
}

/* The first that fits; for the lenient, else the first that is a VHDX at all. The first reason is
 * the one to tell: later names are guesses. */
static int choose(
	struct vmimg_disk *disk, const struct vmimg_open *options, struct vmimg_error *err)
{
	int readable = -1;

	for (int i = 0; (size_t)i < disk->ref_count; i++) {
		struct vmimg_error why;
		bool fits;
		int failed = look_at_candidate(disk, options, i, &fits, &why);

		if (fits)
			return open_chosen(disk, options, i, err);
		if (!i)
			*err = why;
		if (!failed && readable < 0 && options->lenient) {
			readable = i;
			*err = why;
		}
	}
	if (readable < 0)
		return -1;
	vmimg_disk_warn(disk, "%s", err->text);
	return open_chosen(disk, options, readable, err);
}

int vmimg_vhdx_open_parent(
	struct vmimg_disk *disk, const struct vmimg_open *options, struct vmimg_error *err)
{
	if (refer_all(disk, false, err) || refer_all(disk, true, err))
		return -1;
	if (options->alone)
		return 0;
	return disk->ref_count
		? choose(disk, options, err)
		: vmimg_fail(err, VMIMG_ECORRUPT, "the parent locator names no file");
}
