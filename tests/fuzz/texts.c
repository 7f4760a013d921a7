/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Texts: descriptors, manifests, options, and what a guest's files say. For the latter there is a
 * file system in which every file is the input.
 */
#include <string.h>
#include "bundle/manifest.h"
#include "disk/options.h"
#include "format/vmdk/vmdk.h"
#include "inspect/kernels.h"
#include "inspect/sections.h"
#include "target.h"
#include "util/num.h"

#define MOST 65536 /* bytes of a text that say something new */

struct everywhere {
	struct vmimg_fs fs;
	const uint8_t *bytes;
	size_t len;
};

static bool is_folder(const char *name, size_t len)
{
	static const char *const folders[] = { "boot", "grub", "grub2", "loader", "entries", "EFI",
		"Linux", "etc", "usr", "lib", "share", "syslinux", "isolinux", "extlinux",
		"modules", "6.1.0", "var", "cloud", "systemd", "default", "efi" };

	for (size_t i = 0; i < VMIMG_ARRAY_LEN(folders); i++)
		if (strlen(folders[i]) == len && !memcmp(folders[i], name, len))
			return true;
	return false;
}

static struct vmimg_node node_of(const struct everywhere *e, const char *name, size_t len)
{
	struct vmimg_node node = { .id = 2, .kind = VMIMG_NODE_DIR, .mode = 0040755 };

	if (is_folder(name, len))
		return node;
	return (struct vmimg_node){
		.id = 3, .kind = VMIMG_NODE_FILE, .mode = 0100644, .size = e->len
	};
}

static int everywhere_list(struct vmimg_fs *fs, const struct vmimg_node *dir, vmimg_fs_each *each,
	void *ctx, struct vmimg_error *err)
{
	static const char *const names[] = { "a.conf", "vmlinuz-6.1.0", "initrd.img-6.1.0", "6.1.0",
		"grub.cfg" };
	struct everywhere *e = (struct everywhere *)fs;

	(void)dir, (void)err;
	for (size_t i = 0; i < VMIMG_ARRAY_LEN(names); i++) {
		struct vmimg_node node = node_of(e, names[i], strlen(names[i]));

		if (!each(ctx, names[i], strlen(names[i]), &node))
			break;
	}
	return 0;
}

static int everywhere_lookup(struct vmimg_fs *fs, const struct vmimg_node *dir, const char *name,
	size_t len, struct vmimg_node *node, bool *found, struct vmimg_error *err)
{
	(void)dir, (void)err;
	*node = node_of((struct everywhere *)fs, name, len);
	*found = true;
	return 0;
}

static int everywhere_read(struct vmimg_fs *fs, const struct vmimg_node *node, void *buf,
	size_t len, uint64_t at, struct vmimg_error *err)
{
	(void)node, (void)err;
	memcpy(buf, ((struct everywhere *)fs)->bytes + at, len);
	return 0;
}

static const struct vmimg_fs_ops everywhere_ops = {
	.list = everywhere_list,
	.lookup = everywhere_lookup,
	.read = everywhere_read,
};

static void read_in_guest(const uint8_t *input, size_t len)
{
	struct everywhere e = { { .ops = &everywhere_ops, .root = { .kind = VMIMG_NODE_DIR } },
		input, len };
	struct vmimg_tree tree = { .fs = &e.fs };
	struct vmimg_trees trees = { .list = &tree, .count = 1 };
	struct vmimg_volume volume = { .fs = &e.fs };
	struct vmimg_error err;
	struct vmimg_boot_choice *choice = vmimg_new(struct vmimg_boot_choice, &err);

	if (choice)
		(void)!vmimg_boot_choose(&trees, choice, &err);
	free(choice);
	json_decref(vmimg_inspect_os(&volume, true));
}

void fuzz_texts(const uint8_t *input, size_t len)
{
	struct vmdk_descriptor descriptor = { 0 };
	struct vmimg_manifest manifest = { 0 };
	struct vmimg_options options = { 0 };
	struct vmimg_error err;
	char *text;

	len = vmimg_min(len, MOST);
	text = malloc(len + 1);
	if (!text)
		return;
	memcpy(text, input, len);
	text[len] = '\0';
	(void)vmimg_vmdk_descriptor_probe(input, len);
	if (!vmimg_vmdk_descriptor_parse(&descriptor, text, len, &err))
		vmimg_vmdk_descriptor_done(&descriptor);
	(void)!vmimg_manifest_parse(&manifest, text, len, false, &err);
	vmimg_manifest_done(&manifest);
	(void)!vmimg_options_add(&options, text, &err);
	vmimg_options_done(&options);
	free(text);
	read_in_guest(input, len);
}
