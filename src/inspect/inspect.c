/* SPDX-License-Identifier: Apache-2.0 */
/* Finding the volumes of a disk and opening what can be read of them. */
#include "inspect/inspect.h"
#include <inttypes.h>
#include <stdio.h>
#include <string.h>
#include "inspect/lvm.h"
#include "io/window.h"
#include "util/num.h"
#include "util/text.h"

static struct vmimg_volume *add_volume(struct vmimg_inspection *inspection, struct vmimg_error *err)
{
	if (vmimg_grow_array(&inspection->volumes, &inspection->cap, inspection->count + 1,
		    sizeof(*inspection->volumes), err))
		return NULL;
	return &inspection->volumes[inspection->count++];
}

/* Opens what is there. Trouble stays with the volume; only a lack of memory ends it all. */
static int look(
	struct vmimg_inspection *inspection, struct vmimg_volume *volume, struct vmimg_error *err)
{
	if (inspection->count > VMIMG_FS_MOST && volume->io) {
		vmimg_fail(&volume->error, VMIMG_ELIMIT,
			"no more than %u volumes of a disk are looked into", VMIMG_FS_MOST);
		return 0;
	}
	if (!volume->io || vmimg_fs_recognise(volume->io, &volume->info, &volume->error))
		goto failed;
	if (!volume->info.type)
		return 0;
	volume->fs = vmimg_fs_open_as(volume->io, &volume->info, &volume->error);
	if (volume->fs)
		return 0;
failed:
	if (volume->error.status != VMIMG_ENOMEM)
		return 0;
	*err = volume->error;
	return -1;
}

static int add_part(
	struct vmimg_inspection *inspection, const struct vmimg_part *part, struct vmimg_error *err)
{
	struct vmimg_volume *volume = add_volume(inspection, err);

	if (!volume)
		return -1;
	snprintf(volume->name, sizeof(volume->name), "%u", part->index);
	volume->part = part;
	volume->io = vmimg_part_open(inspection->io, part, &volume->error);
	return look(inspection, volume, err);
}

/* What firmware starts from a medium: the boot images of its catalogue. An EFI one is a FAT, which
 * says better than the catalogue how long it is. */
static int add_boot_images(struct vmimg_inspection *inspection, struct vmimg_error *err)
{
	const struct vmimg_volume *whole = &inspection->volumes[inspection->count - 1];
	const struct vmimg_iso_volume *iso;
	uint64_t size = vmimg_io_size(inspection->io);
	struct vmimg_error ignored;
	unsigned number = 0;

	if (!whole->fs || strcmp(whole->info.type, "iso9660"))
		return 0;
	iso = vmimg_iso_volume(whole->fs);
	if (!iso->boot_at ||
		vmimg_eltorito_read(inspection->io, iso->boot_at, inspection->boot,
			&inspection->boot_count, &ignored))
		return 0;
	for (size_t i = 0; i < inspection->boot_count; i++) {
		const struct vmimg_boot_entry *entry = &inspection->boot[i];
		struct vmimg_volume *volume;

		if (entry->platform != VMIMG_PLATFORM_EFI || entry->at >= size)
			continue;
		volume = add_volume(inspection, err);
		if (!volume)
			return -1;
		snprintf(volume->name, sizeof(volume->name), "efi%u", ++number);
		volume->io = vmimg_window_open(
			inspection->io, entry->at, size - entry->at, NULL, &volume->error);
		if (look(inspection, volume, err))
			return -1;
	}
	return 0;
}

static int add_whole(struct vmimg_inspection *inspection, struct vmimg_error *err)
{
	struct vmimg_volume *volume = add_volume(inspection, err);

	if (!volume)
		return -1;
	volume->io = vmimg_io_ref(inspection->io);
	return look(inspection, volume, err) || add_boot_images(inspection, err) ? -1 : 0;
}

/* ---- logical volumes --------------------------------------------------------------------- */

static int add_logical(void *ctx, const char *name, struct vmimg_io *io,
	const struct vmimg_error *why, struct vmimg_error *err)
{
	struct vmimg_inspection *inspection = ctx;
	struct vmimg_volume *volume = add_volume(inspection, err);

	if (!volume) {
		vmimg_io_unref(io);
		return -1;
	}
	snprintf(volume->name, sizeof(volume->name), "%s", name);
	volume->logical = true;
	volume->io = io;
	volume->error = *why;
	return io ? look(inspection, volume, err) : 0;
}

/* Those whose physical volumes are on this disk. */
static int add_logicals(struct vmimg_inspection *inspection, struct vmimg_error *err)
{
	VMIMG_AUTO(vmimg_lvm_free) struct vmimg_lvm *lvm = NULL;

	for (size_t i = 0; i < inspection->count; i++) {
		struct vmimg_volume *volume = &inspection->volumes[i];

		if (!volume->info.type || strcmp(volume->info.type, "LVM2_member"))
			continue;
		lvm = lvm ? lvm : vmimg_lvm_new(err);
		if (!lvm)
			return -1;
		if (!vmimg_lvm_add(lvm, volume->io, &volume->error))
			vmimg_fail(&volume->error, VMIMG_EUNSUPPORTED,
				"a physical volume of LVM: files lie on logical ones, "
				"IMAGE:GROUP/VOLUME/PATH");
		else if (volume->error.status == VMIMG_ENOMEM) {
			*err = volume->error;
			return -1;
		}
	}
	return lvm ? vmimg_lvm_list(lvm, add_logical, inspection, err) : 0;
}

int vmimg_inspection_open(struct vmimg_inspection *inspection, struct vmimg_io *io,
	uint32_t sector_size, struct vmimg_error *err)
{
	struct vmimg_fs_info whole;

	memset(inspection, 0, sizeof(*inspection));
	inspection->io = vmimg_io_ref(io);
	if (vmimg_parts_read(io, sector_size, &inspection->parts, err) ||
		vmimg_fs_recognise(io, &whole, err))
		return -1;
	/* a hybrid image has a table and a file system that begins where the disk does */
	if ((whole.type || !inspection->parts.count) && add_whole(inspection, err))
		return -1;
	for (size_t i = 0; i < inspection->parts.count; i++)
		if (!inspection->parts.list[i].extended &&
			add_part(inspection, &inspection->parts.list[i], err))
			return -1;
	return add_logicals(inspection, err);
}

void vmimg_inspection_bound(struct vmimg_inspection *inspection, uint64_t bytes)
{
	size_t count = 0;

	for (size_t i = 0; i < inspection->count; i++)
		count += inspection->volumes[i].fs != NULL;
	for (size_t i = 0; i < inspection->count; i++)
		if (inspection->volumes[i].fs)
			vmimg_fs_bound(inspection->volumes[i].fs,
				bytes == UINT64_MAX ? bytes : bytes / count);
}

void vmimg_inspection_done(struct vmimg_inspection *inspection)
{
	for (size_t i = 0; i < inspection->count; i++) {
		vmimg_fs_close(inspection->volumes[i].fs);
		vmimg_io_unref(inspection->volumes[i].io);
	}
	free(inspection->volumes);
	vmimg_parts_done(&inspection->parts);
	vmimg_io_unref(inspection->io);
	memset(inspection, 0, sizeof(*inspection));
}

/* ---- choosing ---------------------------------------------------------------------------- */

static bool has_system(struct vmimg_fs *fs)
{
	static const char *const marks[] = { "/etc/os-release", "/usr/lib/os-release", "/etc/fstab",
		"/Windows/System32", "/sbin/init" };
	struct vmimg_node node;
	struct vmimg_error ignored;
	bool found;

	for (size_t i = 0; i < VMIMG_ARRAY_LEN(marks); i++)
		if (!vmimg_fs_find(fs, marks[i], &node, &found, &ignored) && found)
			return true;
	return false;
}

static void list_volumes(const struct vmimg_inspection *inspection, char *out, size_t cap)
{
	size_t used = 0;

	out[0] = '\0';
	for (size_t i = 0; i < inspection->count && used + 40 < cap; i++) {
		const struct vmimg_volume *v = &inspection->volumes[i];
		char name[24];

		if (v->fs && v->name[0])
			used += (size_t)snprintf(out + used, cap - used, "%s%s (%s)",
				used ? ", " : "",
				vmimg_escape(name, sizeof(name), v->name, strlen(v->name)),
				v->info.type);
	}
}

static struct vmimg_volume *choose(struct vmimg_inspection *inspection, struct vmimg_error *err)
{
	struct vmimg_volume *only = NULL, *system = NULL;
	size_t readable = 0, systems = 0;
	char names[160];

	for (size_t i = 0; i < inspection->count; i++) {
		struct vmimg_volume *v = &inspection->volumes[i];

		if (v->fs && !v->name[0])
			return v;
		if (!v->fs)
			continue;
		readable++;
		only = v;
		if (has_system(v->fs)) {
			systems++;
			system = v;
		}
	}
	if (systems == 1 || readable == 1)
		return systems == 1 ? system : only;
	list_volumes(inspection, names, sizeof(names));
	if (readable)
		vmimg_fail(err, VMIMG_EINVAL,
			"there are several file systems: say which, as in IMAGE:2/PATH: %s", names);
	else if (inspection->count == 1 && inspection->volumes[0].error.status)
		*err = inspection->volumes[0].error;
	else
		vmimg_fail(err, VMIMG_EUNSUPPORTED,
			"there is no file system whose files can be read here (vmimg inspect)");
	return NULL;
}

size_t vmimg_inspection_name_len(const struct vmimg_inspection *inspection, const char *address)
{
	for (size_t i = 0; i < inspection->count; i++) {
		const struct vmimg_volume *v = &inspection->volumes[i];
		size_t len = strlen(v->name);

		if (v->logical && !strncmp(v->name, address, len) &&
			(address[len] == '/' || !address[len]))
			return len;
	}
	return strcspn(address, "/");
}

struct vmimg_volume *vmimg_inspection_find(
	struct vmimg_inspection *inspection, const char *name, struct vmimg_error *err)
{
	char names[160];

	if (!*name) {
		struct vmimg_volume *chosen;

		vmimg_inspection_bound(inspection, VMIMG_FS_PATIENCE);
		chosen = choose(inspection, err);
		vmimg_inspection_bound(inspection, UINT64_MAX);
		return chosen;
	}
	for (size_t i = 0; i < inspection->count; i++) {
		struct vmimg_volume *v = &inspection->volumes[i];

		if (strcmp(v->name, name))
			continue;
		if (v->fs)
			return v;
		if (v->error.status)
			*err = v->error;
		else
			vmimg_fail(err, VMIMG_EFORMAT, "there is no known file system on it");
		vmimg_within(err, "%s %.80s", v->logical ? "volume" : "partition", name);
		return NULL;
	}
	list_volumes(inspection, names, sizeof(names));
	vmimg_fail(err, VMIMG_EINVAL, "there is no partition '%.40s'%s%s", name,
		*names ? ", but " : "", names);
	return NULL;
}

/* ---- one line ---------------------------------------------------------------------------- */

static size_t append(char *out, size_t cap, size_t used, const struct vmimg_fs_info *info)
{
	char label[60];
	int n;

	if (!info->type || used + 1 >= cap)
		return used;
	vmimg_escape(label, sizeof(label), info->label, strlen(info->label));
	n = snprintf(out + used, cap - used, "%s%s%s%s%s", used ? ", " : "", info->type,
		*label ? " (" : "", label, *label ? ")" : "");
	return vmimg_min(used + (size_t)n, cap - 1);
}

int vmimg_inspection_summary(struct vmimg_io *io, uint32_t sector_size,
	struct vmimg_summary *summary, struct vmimg_error *err)
{
	char *out = summary->text;
	const size_t cap = sizeof(summary->text);
	VMIMG_AUTO(vmimg_parts_done) struct vmimg_parts parts = { 0 };
	struct vmimg_fs_info info;
	size_t used = 0;

	if (vmimg_parts_read(io, sector_size, &parts, err) || vmimg_fs_recognise(io, &info, err))
		return -1;
	out[0] = '\0';
	summary->alone = info;
	if (parts.count)
		summary->alone.type = NULL;
	if (parts.count)
		used = (size_t)snprintf(out, cap, "%s with %zu partition%s",
			vmimg_scheme_name(parts.scheme), parts.count, parts.count > 1 ? "s" : "");
	used = append(out, cap, used, &info);
	for (size_t i = 0; i < parts.count && i < 16; i++) {
		VMIMG_AUTO(vmimg_io_unref)
		struct vmimg_io *part = vmimg_part_open(io, &parts.list[i], err);

		if (part && !parts.list[i].extended && !vmimg_fs_recognise(part, &info, err))
			used = append(out, cap, used, &info);
	}
	return 0;
}
