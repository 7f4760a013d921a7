/* SPDX-License-Identifier: Apache-2.0 */
/* Small questions that the parts of the report ask of a file system. */
#include <stdlib.h>
#include <string.h>
#include "inspect/sections.h"
#include "util/num.h"

#define MAX_NAMES 200

bool vmimg_inspect_has(struct vmimg_fs *fs, const char *path, int kind)
{
	struct vmimg_error ignored;
	struct vmimg_node node;
	bool found;

	return !vmimg_fs_find(fs, path, &node, &found, &ignored) && found &&
		(kind < 0 || (int)node.kind == kind);
}

struct gather {
	const char *prefix;
	size_t len;
	bool folds;
	char *names[MAX_NAMES];
	size_t count;
};

static bool gather_name(void *ctx, const char *name, size_t len, const struct vmimg_node *node)
{
	struct gather *g = ctx;

	(void)node;
	if (len < g->len ||
		(g->folds ? strncasecmp(name, g->prefix, g->len)
			  : strncmp(name, g->prefix, g->len)))
		return true;
	g->names[g->count] = strndup(name, len);
	if (g->names[g->count])
		g->count++;
	return g->count < MAX_NAMES;
}

static int by_name(const void *a, const void *b)
{
	return strverscmp(*(char *const *)a, *(char *const *)b);
}

json_t *vmimg_inspect_names(struct vmimg_fs *fs, const char *dir, const char *prefix)
{
	struct gather g = { .prefix = prefix, .len = strlen(prefix), .folds = fs->folds };
	struct vmimg_error ignored;
	struct vmimg_node node;
	json_t *list = json_array();
	bool found;

	if (vmimg_fs_find(fs, dir, &node, &found, &ignored) || !found ||
		node.kind != VMIMG_NODE_DIR)
		return list;
	if (vmimg_fs_list(fs, &node, gather_name, &g, &ignored))
		g.count += 0; /* what was read before the damage still counts */
	qsort(g.names, g.count, sizeof(g.names[0]), by_name);
	for (size_t i = 0; i < g.count; i++) {
		json_array_append_new(list, json_stringn_nocheck(g.names[i], strlen(g.names[i])));
		free(g.names[i]);
	}
	return list;
}

/* What a guest needs to find its disk and network on each of the hypervisors. */
const struct vmimg_driver vmimg_drivers[] = {
	{ "virtio_blk", "virtio" },
	{ "virtio_scsi", "virtio" },
	{ "virtio_net", "virtio" },
	{ "virtio_pci", "virtio" },
	{ "nvme", "nvme" },
	{ "hv_storvsc", "hyper-v" },
	{ "hv_netvsc", "hyper-v" },
	{ "hv_vmbus", "hyper-v" },
	{ "vmw_pvscsi", "vmware" },
	{ "vmxnet3", "vmware" },
	{ "mptspi", "vmware" },
	{ "xen_blkfront", "xen" },
	{ "xen_netfront", "xen" },
	{ "ena", "aws" },
	{ "ahci", "sata" },
	{ "ata_piix", "ide" },
	{ NULL, NULL },
};

const struct vmimg_driver *vmimg_driver_of(const char *file, size_t len)
{
	const char *dot = memchr(file, '.', len);
	size_t stem = dot ? (size_t)(dot - file) : 0;

	if (!dot || len - stem < 3 || strncmp(dot, ".ko", 3))
		return NULL;
	for (const struct vmimg_driver *d = vmimg_drivers; d->name; d++) {
		bool same = strlen(d->name) == stem;

		for (size_t i = 0; same && i < stem; i++)
			same = (file[i] == '-' ? '_' : file[i]) == d->name[i];
		if (same)
			return d;
	}
	return NULL;
}
