/* SPDX-License-Identifier: Apache-2.0 */
/* How a machine would start from a disk: by BIOS code, by EFI programs, or with a kernel that a
 * hypervisor takes out of it. */
#include <stdio.h>
#include <string.h>
#include "disk/info.h"
#include "inspect/sections.h"
#include "util/bytes.h"
#include "util/num.h"

#define MAX_PATH    400
#define MAX_LOADERS 100
#define MAX_ENTRIES 20000U /* looked at in all: folders of a stranger may lie in one another */

struct boot {
	struct vmimg_inspection *inspection;
	json_t *loaders, *kernels, *initrds, *configs, *entries, *windows;
	bool bios, uefi;
};

/* Folders where kernels lie on installed systems and on media. */
static const char *const kernel_dirs[] = { "/boot", "/", "/casper", "/live", "/images/pxeboot",
	"/isolinux", "/install.amd", "/install", "/boot/x86_64/loader", "/arch/boot/x86_64",
	"/LiveOS", "/syslinux" };
static const char *const kernel_names[] = { "vmlinuz", "vmlinux", "bzImage", "Image", "linux" };
static const char *const initrd_names[] = { "initrd", "initramfs" };
static const char *const config_files[] = { "/boot/grub/grub.cfg", "/boot/grub2/grub.cfg",
	"/grub/grub.cfg", "/grub2/grub.cfg", "/EFI/BOOT/grub.cfg", "/boot/extlinux/extlinux.conf",
	"/extlinux/extlinux.conf", "/syslinux.cfg", "/syslinux/syslinux.cfg",
	"/isolinux/isolinux.cfg", "/loader/loader.conf" };
static const char *const windows_files[] = { "/bootmgr", "/Boot/BCD", "/ntldr",
	"/EFI/Microsoft/Boot/bootmgfw.efi", "/EFI/Microsoft/Boot/BCD" };

static json_t *place(const struct vmimg_volume *volume, const char *path)
{
	json_t *item = json_object();

	if (volume->name[0])
		vmimg_json_text(item, "volume", volume->name);
	vmimg_json_text(item, "path", path);
	return item;
}

/* ---- EFI --------------------------------------------------------------------------------- */

/* A unified kernel image is a PE program with a section that holds the kernel. */
static bool is_uki(struct vmimg_fs *fs, const struct vmimg_node *node)
{
	uint8_t head[4096];
	struct vmimg_error ignored;
	size_t got = 0, at, count;

	if (vmimg_fs_read(fs, node, head, sizeof(head), 0, &got, &ignored) || got < 256)
		return false;
	at = vmimg_get_le32(head + 60);
	if (head[0] != 'M' || at > got - 24 || memcmp(head + at, "PE\0\0", 4))
		return false;
	count = vmimg_get_le16(head + at + 6);
	at += 24 + (size_t)vmimg_get_le16(head + at + 20);
	for (size_t i = 0; i < count && at + 40 <= got; i++, at += 40)
		if (!memcmp(head + at, ".linux\0", 8))
			return true;
	return false;
}

struct efi_walk {
	struct boot *boot;
	struct vmimg_volume *volume;
	char path[MAX_PATH];
	size_t len;
	unsigned depth, left;
};

static bool is_removable_name(const char *path)
{
	return !strncasecmp(path, "/EFI/BOOT/BOOT", 14);
}

static void add_loader(struct efi_walk *walk, const struct vmimg_node *node)
{
	json_t *item = place(walk->volume, walk->path);
	bool uki = is_uki(walk->volume->fs, node);

	if (uki)
		vmimg_json_bool(item, "uki", true);
	if (is_removable_name(walk->path))
		vmimg_json_bool(item, "default", true);
	walk->boot->uefi |= is_removable_name(walk->path) || uki;
	json_array_append_new(walk->boot->loaders, item);
}

static bool visit_efi(void *ctx, const char *name, size_t len, const struct vmimg_node *node)
{
	struct efi_walk *walk = ctx;
	size_t was = walk->len;
	struct vmimg_error ignored;

	if (!walk->left)
		return false;
	walk->left--;
	if (was + len + 2 > sizeof(walk->path) ||
		json_array_size(walk->boot->loaders) >= MAX_LOADERS)
		return true;
	walk->path[was] = '/';
	memcpy(walk->path + was + 1, name, len);
	walk->len = was + 1 + len;
	walk->path[walk->len] = '\0';
	if (node->kind == VMIMG_NODE_FILE && len > 4 && !strncasecmp(name + len - 4, ".efi", 4))
		add_loader(walk, node);
	if (node->kind == VMIMG_NODE_DIR && walk->depth < 3) {
		walk->depth++;
		if (vmimg_fs_list(walk->volume->fs, node, visit_efi, walk, &ignored))
			vmimg_json_text(
				json_array_get(walk->boot->loaders, 0), "error", ignored.text);
		walk->depth--;
	}
	walk->len = was;
	walk->path[was] = '\0';
	return true;
}

static void find_loaders(struct boot *boot, struct vmimg_volume *volume)
{
	struct efi_walk walk = {
		.boot = boot, .volume = volume, .path = "/EFI", .len = 4, .left = MAX_ENTRIES
	};
	struct vmimg_error ignored;
	struct vmimg_node node;
	bool found;

	if (vmimg_fs_find(volume->fs, "/EFI", &node, &found, &ignored) || !found ||
		node.kind != VMIMG_NODE_DIR)
		return;
	if (vmimg_fs_list(volume->fs, &node, visit_efi, &walk, &ignored))
		return; /* what was found before the damage stays */
}

/* ---- kernels ----------------------------------------------------------------------------- */

static void add_files(json_t *to, const struct vmimg_volume *volume, const char *dir,
	const char *const *prefixes, size_t count)
{
	for (size_t i = 0; i < count; i++) {
		json_t *names = vmimg_inspect_names(volume->fs, dir, prefixes[i]), *name;
		size_t n;

		json_array_foreach(names, n, name)
		{
			const char *text = json_string_value(name);
			char path[MAX_PATH];

			snprintf(path, sizeof(path), "%s%s%s", dir, dir[1] ? "/" : "", text);
			if (text[strcspn(text, " ")] ||
				!vmimg_inspect_has(volume->fs, path, VMIMG_NODE_FILE))
				continue;
			json_array_append_new(to, place(volume, path));
		}
		json_decref(names);
	}
}

static void add_those(
	json_t *to, const struct vmimg_volume *volume, const char *const *paths, size_t count)
{
	for (size_t i = 0; i < count; i++)
		if (vmimg_inspect_has(volume->fs, paths[i], VMIMG_NODE_FILE))
			json_array_append_new(to, place(volume, paths[i]));
}

static void find_kernels(struct boot *boot, struct vmimg_volume *volume)
{
	for (size_t i = 0; i < VMIMG_ARRAY_LEN(kernel_dirs); i++) {
		add_files(boot->kernels, volume, kernel_dirs[i], kernel_names,
			VMIMG_ARRAY_LEN(kernel_names));
		add_files(boot->initrds, volume, kernel_dirs[i], initrd_names,
			VMIMG_ARRAY_LEN(initrd_names));
	}
	add_those(boot->configs, volume, config_files, VMIMG_ARRAY_LEN(config_files));
	add_those(boot->windows, volume, windows_files, VMIMG_ARRAY_LEN(windows_files));
	add_files(boot->entries, volume, "/loader/entries", (const char *const[]){ "" }, 1);
	add_files(boot->entries, volume, "/boot/loader/entries", (const char *const[]){ "" }, 1);
}

/* ---- BIOS -------------------------------------------------------------------------------- */

static const char *name_boot_code(const uint8_t *sector)
{
	static const struct {
		const char *mark, *name;
	} known[] = {
		{ "GRUB ", "GRUB" },
		{ "isolinux.bin", "isohybrid (isolinux)" },
		{ "\x33\xed\xfa\x8e\xd5\xbc", "isohybrid (isolinux)" },
		{ "LILO", "LILO" },
		{ "SYSLINUX", "SYSLINUX" },
		{ "Missing operating system", "SYSLINUX or DOS style" },
		{ "Missing OS", "SYSLINUX (of a GPT)" },
		{ "Invalid partition table", "Windows or DOS" },
	};

	for (size_t i = 0; i < VMIMG_ARRAY_LEN(known); i++)
		if (memmem(sector, 440, known[i].mark, strlen(known[i].mark)))
			return known[i].name;
	return NULL;
}

static json_t *bios(struct boot *boot)
{
	const struct vmimg_parts *parts = &boot->inspection->parts;
	json_t *object = json_object();
	struct vmimg_error ignored;
	uint8_t sector[512];
	bool active = false, bios_boot = false;

	for (size_t i = 0; i < parts->count; i++) {
		active |= parts->list[i].bootable;
		bios_boot |= vmimg_part_is_bios_boot(&parts->list[i]);
	}
	vmimg_json_bool(object, "boot-code", parts->boot_code);
	vmimg_json_bool(object, "active-partition", active);
	vmimg_json_bool(object, "bios-boot-partition", bios_boot);
	if (parts->boot_code && vmimg_io_size(boot->inspection->io) >= sizeof(sector) &&
		!vmimg_io_pread(boot->inspection->io, sector, sizeof(sector), 0, &ignored))
		vmimg_json_text(object, "loader", name_boot_code(sector));
	boot->bios |=
		parts->boot_code && (active || bios_boot || json_object_get(object, "loader"));
	return object;
}

json_t *vmimg_inspect_boot(struct vmimg_inspection *inspection)
{
	struct boot boot = { inspection, json_array(), json_array(), json_array(), json_array(),
		json_array(), json_array(), false, false };
	json_t *object = json_object(), *methods = json_array();
	json_t *bios_part = bios(&boot);

	for (size_t i = 0; i < inspection->boot_count; i++) {
		boot.bios |= inspection->boot[i].platform == VMIMG_PLATFORM_BIOS;
		boot.uefi |= inspection->boot[i].platform == VMIMG_PLATFORM_EFI;
	}
	for (size_t i = 0; i < inspection->count; i++) {
		struct vmimg_volume *volume = &inspection->volumes[i];

		if (!volume->fs)
			continue;
		if (!volume->part || vmimg_part_is_esp(volume->part) ||
			!strcmp(volume->info.type, "vfat"))
			find_loaders(&boot, volume);
		find_kernels(&boot, volume);
	}
	if (boot.bios)
		json_array_append_new(methods, json_string("bios"));
	if (boot.uefi)
		json_array_append_new(methods, json_string("uefi"));
	if (json_array_size(boot.kernels))
		json_array_append_new(methods, json_string("kernel"));
	json_object_set_new(object, "methods", methods);
	json_object_set_new(object, "bios", bios_part);
	json_object_set_new(object, "efi-loaders", boot.loaders);
	json_object_set_new(object, "kernels", boot.kernels);
	json_object_set_new(object, "initrds", boot.initrds);
	json_object_set_new(object, "configs", boot.configs);
	json_object_set_new(object, "entries", boot.entries);
	json_object_set_new(object, "windows", boot.windows);
	return object;
}
