/* SPDX-License-Identifier: Apache-2.0 */
/* The report as JSON: the table, the volumes, how it boots, what systems there are. */
#include <stdio.h>
#include <string.h>
#include "disk/info.h"
#include "inspect/sections.h"
#include "inspect/unused.h"
#include "util/text.h"

#define MAX_MAP (UINT32_C(4) << 20) /* bytes of a map that are read to tell what is used */

static void set_guid(json_t *object, const char *key, const struct vmimg_guid *guid)
{
	char text[VMIMG_GUID_TEXT];

	if (!vmimg_guid_is_nil(guid))
		json_object_set_new(object, key, json_string(vmimg_guid_format(text, guid)));
}

static json_t *table(const struct vmimg_parts *parts)
{
	json_t *object = json_object(), *warnings = json_array();
	char id[16];

	json_object_set_new(object, "scheme", json_string(vmimg_scheme_name(parts->scheme)));
	vmimg_json_uint(object, "sector-size", parts->sector_size);
	set_guid(object, "guid", &parts->guid);
	if (parts->mbr_id) {
		snprintf(id, sizeof(id), "%08x", parts->mbr_id);
		json_object_set_new(object, "mbr-id", json_string(id));
	}
	vmimg_json_bool(object, "boot-code", parts->boot_code);
	if (parts->scheme == VMIMG_SCHEME_GPT) {
		vmimg_json_bool(object, "protective-mbr", parts->protective);
		vmimg_json_bool(object, "hybrid-mbr", parts->hybrid);
	}
	if (parts->also_apm)
		vmimg_json_bool(object, "apple-map", true);
	for (size_t i = 0; i < parts->warning_count; i++)
		json_array_append_new(warnings, json_string(parts->warnings[i]));
	json_object_set_new(object, "warnings", warnings);
	return object;
}

/* What the file system says, or else its map of free space when that is not long. */
static uint64_t used_of(const struct vmimg_volume *volume)
{
	const struct vmimg_fs_info *info = &volume->info;
	struct vmimg_error ignored;
	uint64_t unused = 0;

	if (info->used != VMIMG_UNKNOWN || !volume->fs || !info->block ||
		info->size / info->block / 8 > MAX_MAP ||
		vmimg_unused_sum(volume->io, info->type, &unused, &ignored) || unused > info->size)
		return info->used;
	return info->size - unused;
}

static json_t *filesystem(const struct vmimg_volume *volume)
{
	const struct vmimg_fs_info *info = &volume->info;
	json_t *object = json_object();
	uint64_t used = used_of(volume);

	json_object_set_new(object, "type", json_string(info->type));
	if (info->variant)
		json_object_set_new(object, "variant", json_string(info->variant));
	if (*info->label)
		vmimg_json_text(object, "label", info->label);
	if (*info->uuid)
		vmimg_json_text(object, "uuid", info->uuid);
	if (info->size != VMIMG_UNKNOWN)
		vmimg_json_uint(object, "size", info->size);
	if (used != VMIMG_UNKNOWN)
		vmimg_json_uint(object, "used", used);
	if (info->block)
		vmimg_json_uint(object, "block-size", info->block);
	vmimg_json_bool(object, "dirty", info->dirty);
	vmimg_json_bool(object, "readable", volume->fs != NULL);
	if (!volume->fs && volume->error.status)
		vmimg_json_text(object, "reason", volume->error.text);
	return object;
}

static void set_type(json_t *object, const struct vmimg_part *part)
{
	char text[8];

	if (part->scheme == VMIMG_SCHEME_GPT) {
		set_guid(object, "type", &part->type);
	} else if (part->scheme == VMIMG_SCHEME_APM) {
		vmimg_json_text(object, "type", part->apm_type);
	} else {
		snprintf(text, sizeof(text), "0x%02x", part->mbr_type);
		json_object_set_new(object, "type", json_string(text));
	}
	if (part->type_name)
		json_object_set_new(object, "type-name", json_string(part->type_name));
}

static json_t *partition(const struct vmimg_part *part, const struct vmimg_volume *volume)
{
	json_t *object = json_object();

	vmimg_json_uint(object, "index", part->index);
	vmimg_json_uint(object, "start", part->start);
	vmimg_json_uint(object, "length", part->len);
	set_type(object, part);
	if (*part->name)
		vmimg_json_text(object, "name", part->name);
	set_guid(object, "guid", &part->guid);
	if (part->scheme == VMIMG_SCHEME_GPT)
		vmimg_json_uint(object, "attributes", part->attributes);
	vmimg_json_bool(object, "bootable", part->bootable);
	if (part->extended || part->logical)
		vmimg_json_bool(object, part->extended ? "extended" : "logical", true);
	if (volume && volume->info.type)
		json_object_set_new(object, "filesystem", filesystem(volume));
	else if (volume && volume->error.status)
		vmimg_json_text(object, "error", volume->error.text);
	return object;
}

static json_t *logical_volume(const struct vmimg_volume *volume)
{
	json_t *object = json_object();

	vmimg_json_text(object, "name", volume->name);
	if (volume->io)
		vmimg_json_uint(object, "length", vmimg_io_size(volume->io));
	if (volume->info.type)
		json_object_set_new(object, "filesystem", filesystem(volume));
	else if (volume->error.status)
		vmimg_json_text(object, "error", volume->error.text);
	return object;
}

static const struct vmimg_volume *volume_of(
	const struct vmimg_inspection *inspection, const struct vmimg_part *part)
{
	for (size_t i = 0; i < inspection->count; i++)
		if (inspection->volumes[i].part == part)
			return &inspection->volumes[i];
	return NULL;
}

static void set_field(json_t *object, const char *key, const char *text)
{
	if (*text)
		vmimg_json_text(object, key, text);
}

static json_t *boot_entry(const struct vmimg_boot_entry *entry)
{
	static const char *const media[] = { "none", "floppy 1.2M", "floppy 1.44M", "floppy 2.88M",
		"hard disk" };
	json_t *object = json_object();

	json_object_set_new(object, "platform",
		json_string(entry->platform == VMIMG_PLATFORM_EFI        ? "efi"
				: entry->platform == VMIMG_PLATFORM_BIOS ? "bios"
									 : "other"));
	json_object_set_new(object, "emulation",
		json_string(entry->media < 5 ? media[entry->media] : "unknown"));
	vmimg_json_bool(object, "bootable", entry->bootable);
	vmimg_json_uint(object, "start", entry->at);
	vmimg_json_uint(object, "length", entry->len);
	return object;
}

static json_t *iso(const struct vmimg_inspection *inspection, const struct vmimg_volume *volume)
{
	const struct vmimg_iso_volume *v = vmimg_iso_volume(volume->fs);
	json_t *object = json_object(), *entries = json_array();

	set_field(object, "volume-id", v->volume);
	set_field(object, "system-id", v->system);
	set_field(object, "volume-set-id", v->set);
	set_field(object, "publisher-id", v->publisher);
	set_field(object, "preparer-id", v->preparer);
	set_field(object, "application-id", v->application);
	vmimg_json_uint(object, "volume-size", v->size);
	vmimg_json_bool(object, "rock-ridge", v->rock_ridge);
	vmimg_json_bool(object, "joliet", v->joliet);
	json_object_set_new(object, "names", json_string(v->names));
	vmimg_json_bool(object, "hybrid", inspection->parts.count != 0);
	for (size_t i = 0; i < inspection->boot_count; i++)
		json_array_append_new(entries, boot_entry(&inspection->boot[i]));
	json_object_set_new(object, "boot-catalogue", entries);
	return object;
}

/* What was not gone through to its end is told, or nothing would be known of what is there. */
static void warn_spent(const struct vmimg_inspection *inspection, json_t *root)
{
	json_t *warnings = json_object_get(json_object_get(root, "partition-table"), "warnings");
	char text[400], shown[300];

	for (size_t i = 0; i < inspection->count; i++) {
		const struct vmimg_volume *v = &inspection->volumes[i];

		if (!v->fs || !vmimg_fs_spent(v->fs))
			continue;
		vmimg_escape(shown, sizeof(shown), v->name, strlen(v->name));
		snprintf(text, sizeof(text),
			"%s%s: its structures lead in circles, or on and on: not all was looked at",
			*v->name ? "volume " : "the file system", shown);
		json_array_append_new(warnings, json_string(text));
	}
}

json_t *vmimg_inspection_report(
	struct vmimg_inspection *inspection, bool deep, struct vmimg_error *err)
{
	json_t *root = json_object(), *partitions = json_array(), *systems = json_array();
	json_t *logical = json_array();

	json_object_set_new(root, "partition-table", table(&inspection->parts));
	vmimg_inspection_bound(inspection, VMIMG_FS_PATIENCE);
	for (size_t i = 0; i < inspection->parts.count; i++) {
		const struct vmimg_part *part = &inspection->parts.list[i];

		json_array_append_new(partitions, partition(part, volume_of(inspection, part)));
	}
	json_object_set_new(root, "partitions", partitions);
	for (size_t i = 0; i < inspection->count; i++) {
		struct vmimg_volume *volume = &inspection->volumes[i];
		json_t *os = volume->fs ? vmimg_inspect_os(volume, deep) : NULL;

		if (!volume->part && volume->info.type && !*volume->name)
			json_object_set_new(root, "filesystem", filesystem(volume));
		if (!volume->part && volume->fs && !strcmp(volume->info.type, "iso9660"))
			json_object_set_new(root, "iso", iso(inspection, volume));
		if (volume->logical)
			json_array_append_new(logical, logical_volume(volume));
		if (os)
			json_array_append_new(systems, os);
	}
	json_object_set_new(root, "logical-volumes", logical);
	json_object_set_new(root, "boot", vmimg_inspect_boot(inspection));
	json_object_set_new(root, "operating-systems", systems);
	warn_spent(inspection, root);
	vmimg_inspection_bound(inspection, UINT64_MAX);
	if (!root)
		vmimg_fail_nomem(err);
	return root;
}
