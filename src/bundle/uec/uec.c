/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Tarballs of Ubuntu Enterprise Cloud, and what others have made like them (CirrOS): kernel,
 * ramdisk and root file system in one archive, told apart by their names, and where these leave it
 * open, by what is in them.
 */
#include <fnmatch.h>
#include <string.h>
#include "bundle/bundle.h"
#include "bundle/kernel.h"
#include "disk/info.h"
#include "util/bytes.h"
#include "util/num.h"
#include "util/text.h"

enum role { ROLE_NONE, ROLE_IMAGE, ROLE_DISK, ROLE_KERNEL, ROLE_RAMDISK, ROLE_LOADER, ROLE_FLOPPY };

/* The first pattern that the name fits has the word. */
static const struct {
	const char *pattern;
	enum role role;
} names[] = {
	{ "*-disk[0-9].img", ROLE_DISK },
	{ "*-uefi[0-9].img", ROLE_DISK },
	{ "*vmlinu[xz]*", ROLE_KERNEL },
	{ "*initrd*", ROLE_RAMDISK },
	{ "*initramfs*", ROLE_RAMDISK },
	{ "*-loader", ROLE_LOADER },
	{ "*-floppy*", ROLE_FLOPPY },
	{ "*.img", ROLE_IMAGE },
};

static const char *base_name(const char *name)
{
	const char *slash = strrchr(name, '/');

	return slash ? slash + 1 : name;
}

static enum role role_of(const struct vmimg_tar_member *member)
{
	if (member->kind != VMIMG_TAR_FILE)
		return ROLE_NONE;
	for (size_t i = 0; i < VMIMG_ARRAY_LEN(names); i++)
		if (!fnmatch(names[i].pattern, base_name(member->name), 0))
			return names[i].role;
	return ROLE_NONE;
}

/* Flat, or in one folder. */
static bool is_shallow(const char *name)
{
	const char *slash = strchr(name, '/');

	return !slash || !strchr(slash + 1, '/');
}

static int uec_probe(const struct vmimg_bundle_probe *probe)
{
	bool image = false, starts = false;

	for (size_t i = 0; probe->tar && i < vmimg_tar_count(probe->tar); i++) {
		const struct vmimg_tar_member *member = vmimg_tar_member(probe->tar, i);
		enum role role = is_shallow(member->name) ? role_of(member) : ROLE_NONE;

		image |= role == ROLE_IMAGE;
		starts |= role == ROLE_KERNEL || role == ROLE_LOADER;
	}
	return image && starts ? 60 : 0;
}

/* ---- opening ---- */

/* Superblocks of what root file systems are made as. */
static bool is_file_system(const uint8_t *head, size_t len)
{
	static const struct {
		uint32_t at;
		uint32_t len;
		const char *magic;
	} magics[] = { { 0x438, 2, "\x53\xef" }, { 0, 4, "XFSB" }, { 0x10040, 8, "_BHRfS_M" } };

	for (size_t i = 0; i < VMIMG_ARRAY_LEN(magics); i++)
		if (magics[i].at + magics[i].len <= len &&
			!memcmp(head + magics[i].at, magics[i].magic, magics[i].len))
			return true;
	return false;
}

static int looks_like_root(const struct vmimg_bundle *bundle, const struct vmimg_tar_member *member,
	bool *is, struct vmimg_error *err)
{
	VMIMG_AUTO(free) uint8_t *head = vmimg_alloc_buffer(VMIMG_PROBE_HEAD, err);
	VMIMG_AUTO(vmimg_io_unref)
	struct vmimg_io *io = vmimg_tar_open_member(bundle->tar, member, err);
	size_t len = io ? (size_t)vmimg_min(vmimg_io_size(io), VMIMG_PROBE_HEAD) : 0;

	if (!head || !io || vmimg_io_pread(io, head, len, 0, err))
		return -1;
	*is = is_file_system(head, len);
	return 0;
}

/* All that matter lie in one folder. Two would be two images, and which one is meant is anyone's
 * guess. */
static int check_folders(const struct vmimg_bundle *bundle, struct vmimg_error *err)
{
	const char *first = NULL;
	size_t first_len = 0;
	char a[64], b[64];

	for (size_t i = 0; i < vmimg_tar_count(bundle->tar); i++) {
		const struct vmimg_tar_member *member = vmimg_tar_member(bundle->tar, i);
		size_t len = (size_t)(base_name(member->name) - member->name);

		if (!role_of(member) || !is_shallow(member->name))
			continue;
		if (!first) {
			first = member->name;
			first_len = len;
		} else if (len != first_len || memcmp(first, member->name, len)) {
			return vmimg_fail(err, VMIMG_ECORRUPT,
				"the archive has images in two places: %s and %s",
				vmimg_escape(a, sizeof(a), first, strlen(first)),
				vmimg_escape(b, sizeof(b), member->name, strlen(member->name)));
		}
	}
	return 0;
}

/* The image that is a file system, or else the last that is called one. */
static int choose_image(const struct vmimg_bundle *bundle, size_t *chosen, struct vmimg_error *err)
{
	bool sure = false, is;

	*chosen = VMIMG_NONE;
	for (size_t i = 0; i < vmimg_tar_count(bundle->tar); i++) {
		const struct vmimg_tar_member *member = vmimg_tar_member(bundle->tar, i);

		if (role_of(member) != ROLE_IMAGE || !is_shallow(member->name))
			continue;
		if (looks_like_root(bundle, member, &is, err))
			return -1;
		if (is || !sure)
			*chosen = i;
		sure |= is;
	}
	return 0;
}

static size_t find_first(const struct vmimg_bundle *bundle, enum role role)
{
	for (size_t i = 0; i < vmimg_tar_count(bundle->tar); i++)
		if (role_of(vmimg_tar_member(bundle->tar, i)) == role &&
			is_shallow(vmimg_tar_member(bundle->tar, i)->name))
			return i;
	return VMIMG_NONE;
}

static int add_drive(struct vmimg_bundle *bundle, size_t i, enum vmimg_drive_kind kind,
	const char *format, struct vmimg_error *err)
{
	struct vmimg_machine *machine = &bundle->machines[0];
	struct vmimg_drive *drive;

	if (i == VMIMG_NONE)
		return 0;
	drive = vmimg_machine_add(machine->drives, machine->drive_count, machine->drive_cap, err);
	if (!drive)
		return -1;
	drive->kind = kind;
	drive->file = vmimg_tar_member(bundle->tar, i)->name;
	drive->file_size = vmimg_tar_member(bundle->tar, i)->size;
	drive->capacity = format ? drive->file_size : 0;
	drive->format = format;
	drive->controller = VMIMG_NONE;
	drive->source = i;
	return 0;
}

/* What the kernel says of the machine, and whether it is one. */
static int look_at_kernel(struct vmimg_bundle *bundle, size_t i, struct vmimg_error *err)
{
	const struct vmimg_tar_member *member = vmimg_tar_member(bundle->tar, i);
	VMIMG_AUTO(vmimg_io_unref)
	struct vmimg_io *io = vmimg_tar_open_member(bundle->tar, member, err);
	struct vmimg_kernel kernel;
	char shown[80];

	if (!io)
		return -1;
	if (!vmimg_kernel_read(io, &kernel, err)) {
		bundle->machines[0].architecture = kernel.architecture;
		return 0;
	}
	if (err->status != VMIMG_EFORMAT)
		return -1;
	vmimg_bundle_warn(bundle, "%s is called a kernel, and is none",
		vmimg_escape(shown, sizeof(shown), member->name, strlen(member->name)));
	return 0;
}

static int add_disks(struct vmimg_bundle *bundle, size_t image, struct vmimg_error *err)
{
	if (add_drive(bundle, image, VMIMG_DRIVE_DISK, "raw", err))
		return -1;
	for (size_t i = 0; i < vmimg_tar_count(bundle->tar); i++) {
		const struct vmimg_tar_member *member = vmimg_tar_member(bundle->tar, i);

		if (role_of(member) != ROLE_DISK || !is_shallow(member->name))
			continue;
		if (add_drive(bundle, i, VMIMG_DRIVE_DISK, NULL, err))
			return -1;
		bundle->machines[0].drives[bundle->machines[0].drive_count - 1].unused = true;
	}
	return add_drive(bundle, find_first(bundle, ROLE_FLOPPY), VMIMG_DRIVE_FLOPPY, "raw", err);
}

static int uec_open(struct vmimg_bundle *bundle, struct vmimg_error *err)
{
	size_t kernel = find_first(bundle, ROLE_KERNEL), ramdisk = find_first(bundle, ROLE_RAMDISK);
	size_t loader = find_first(bundle, ROLE_LOADER), image;
	struct vmimg_machine *machine;
	const char *base, *end;

	if (check_folders(bundle, err) || choose_image(bundle, &image, err))
		return -1;
	if (kernel == VMIMG_NONE)
		kernel = loader;
	if (image == VMIMG_NONE || kernel == VMIMG_NONE)
		return vmimg_fail(err, VMIMG_EFORMAT, "the archive has no %s",
			image == VMIMG_NONE ? "image" : "kernel");
	machine = vmimg_machine_add(
		bundle->machines, bundle->machine_count, bundle->machine_cap, err);
	if (!machine)
		return -1;
	base = base_name(vmimg_tar_member(bundle->tar, image)->name);
	end = strrchr(base, '.');
	machine->name = vmimg_pool_copy(&bundle->pool, base, (size_t)(end - base), err);
	if (!machine->name || look_at_kernel(bundle, kernel, err) ||
		add_disks(bundle, image, err) ||
		add_drive(bundle, kernel, VMIMG_DRIVE_KERNEL, NULL, err) ||
		add_drive(bundle, ramdisk, VMIMG_DRIVE_RAMDISK, NULL, err))
		return -1;
	if (loader != VMIMG_NONE && ramdisk == VMIMG_NONE)
		vmimg_bundle_warn(bundle,
			"there is no ramdisk; the loader is a kernel, though old tools have "
			"registered it as a ramdisk");
	return 0;
}

static void uec_close(struct vmimg_bundle *bundle)
{
	(void)bundle;
}

static struct vmimg_io *uec_drive(
	struct vmimg_bundle *bundle, const struct vmimg_drive *drive, struct vmimg_error *err)
{
	return vmimg_tar_open_member(
		bundle->tar, vmimg_tar_member(bundle->tar, drive->source), err);
}

const struct vmimg_bundle_format vmimg_bundle_uec = {
	.name = "uec",
	.title = "a UEC tarball",
	.probe = uec_probe,
	.open = uec_open,
	.close = uec_close,
	.drive = uec_drive,
};
