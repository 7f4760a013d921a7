/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The parent of an undo or differencing image. VDI says which image it is (the UUID of its making
 * and that of its last change) but not where: VirtualBox keeps a registry. Here it is looked for
 * under the name that VirtualBox gives to snapshots, "{uuid}.vdi", and then among all *.vdi files
 * that the policy on references lets be seen.
 */
#include <inttypes.h>
#include <stdio.h>
#include <string.h>
#include "format/vdi/vdi.h"

struct search {
	struct vmimg_disk *disk;
	const struct vmimg_resolver *resolver;
	struct vmimg_guid modified; /* of what was found */
	char *name;                 /* found; NULL: not yet */
};

/* Whether the file of that name is the parent. Files that cannot be opened, or are something else,
 * are just not it. */
static bool is_parent(void *ctx, const char *name)
{
	struct search *search = ctx;
	const struct vmimg_vdi *vdi = search->disk->state;
	struct vmimg_reference ref = { "parent", name, "vdi" };
	struct vmimg_vdi_header header;
	struct vmimg_error unused;
	VMIMG_AUTO(vmimg_io_unref)
	struct vmimg_io *io =
		search->resolver->open(search->resolver, &ref, search->disk->io, &unused);

	if (!io || vmimg_vdi_read_header(io, &header, &unused) ||
		!vmimg_guid_equal(&header.uuid, &vdi->header.link))
		return false;
	search->modified = header.modified;
	search->name = vmimg_strdup(name, &unused);
	return search->name != NULL;
}

static int find(struct search *search, const char *usual, struct vmimg_error *err)
{
	const struct vmimg_resolver *resolver = search->resolver;
	const struct vmimg_reference ref = { "parent", usual, "vdi" };

	if (resolver->judge && resolver->judge(resolver, &ref, search->disk->io, err))
		return vmimg_within(err, "parent \"%s\"", usual);
	if (is_parent(search, usual))
		return 0;
	if (resolver->search &&
		resolver->search(resolver, ".vdi", search->disk->io, is_parent, search, err))
		return -1;
	if (!search->name)
		return vmimg_fail(err, VMIMG_EREFUSED,
			"no VDI image with the parent's UUID %.*s was found (--refs=beside looks "
			"in the image's folder, --refs=any in the one above too)",
			VMIMG_GUID_TEXT - 1, usual + 1);
	return 0;
}

static int open_found(struct vmimg_disk *disk, const struct vmimg_open *options,
	const struct search *search, struct vmimg_error *err)
{
	const struct vmimg_vdi *vdi = disk->state;
	int i = vmimg_disk_refer(disk, "parent", search->name, "vdi", err);

	if (i < 0)
		return -1;
	if (!vmimg_guid_is_nil(&vdi->header.parent_modified) &&
		!vmimg_guid_equal(&vdi->header.parent_modified, &search->modified))
		vmimg_disk_warn(disk,
			"the parent was changed after this image was made from it "
			"(its modification UUID is another)");
	return vmimg_disk_open_parent(disk, options, i, err);
}

int vmimg_vdi_open_parent(
	struct vmimg_disk *disk, const struct vmimg_open *options, struct vmimg_error *err)
{
	const struct vmimg_vdi *vdi = disk->state;
	struct search search = { .disk = disk,
		.resolver = options->resolver ? options->resolver : vmimg_resolver_none() };
	char uuid[VMIMG_GUID_TEXT], usual[VMIMG_GUID_TEXT + 6];
	int result;

	snprintf(usual, sizeof(usual), "{%s}.vdi", vmimg_guid_format(uuid, &vdi->header.link));
	if (vmimg_disk_refer(disk, "parent", usual, "vdi", err) < 0)
		return -1;
	if (options->alone)
		return 0;
	if (vmimg_guid_is_nil(&vdi->header.link))
		return vmimg_fail(err, VMIMG_EREFUSED,
			"a differencing image that does not say of which (its link UUID is nil)");
	if (find(&search, usual, err))
		return -1;
	result = open_found(disk, options, &search, err);
	free(search.name);
	return result;
}
