/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The rules of the verdict. They work on the report that drivers filled in, so that a new format is
 * judged without a line here: whatever it names, warns of, or calls dirty, corrupt or encrypted
 * counts against it.
 */
#include "cli/gate.h"
#include <stdio.h>
#include <string.h>
#include "disk/info.h"
#include "inspect/tables.h"
#include "util/bytes.h"
#include "util/num.h"
#include "util/text.h"

static void add_reason(json_t *root, const char *code, const char *text)
{
	json_t *list = json_object_get(root, "unsafe-reasons"), *reason = json_object();

	if (!list) {
		list = json_array();
		json_object_set_new(root, "unsafe-reasons", list);
	}
	json_object_set_new(reason, "code", json_string(code));
	json_object_set_new(reason, "text", json_string(text));
	json_array_append_new(list, reason);
}

/* The verdict follows from the reasons. */
static void settle(json_t *root)
{
	if (!json_object_get(root, "unsafe-reasons"))
		json_object_set_new(root, "unsafe-reasons", json_array());
	vmimg_json_bool(root, "safe", !json_array_size(json_object_get(root, "unsafe-reasons")));
}

void cli_gate_refuse(json_t *root, const char *code, const char *text)
{
	add_reason(root, code, text);
	settle(root);
}

/* ---- what the image names ---- */

static void judge_references(json_t *root)
{
	const json_t *list = json_object_get(root, "references"), *ref;
	size_t i;

	json_array_foreach(list, i, ref)
	{
		const char *name = json_string_value(json_object_get(ref, "filename"));
		char text[300];

		snprintf(text, sizeof(text), "its %s is another file: %.200s",
			json_string_value(json_object_get(ref, "kind")), name ? name : "");
		add_reason(root, "reference", text);
	}
	if (json_object_get(root, "backing-filename") && !json_array_size(list))
		add_reason(root, "reference", "it has a backing file");
}

/* Every other variant keeps its data in files beside it. What is passed over here may mean something
 * to others. */
static void judge_vmdk(json_t *root)
{
	const char *variant = json_string_value(json_object_get(root, "variant"));
	const json_t *specific = json_object_get(json_object_get(root, "format-specific"), "data");
	char text[120];

	if (json_object_get(specific, "lines-passed-over"))
		add_reason(root, "descriptor", "its descriptor has lines that are not understood");
	if (json_is_true(json_object_get(specific, "beyond-ascii")))
		add_reason(root, "descriptor", "its descriptor is not plain ASCII");
	if (json_is_true(json_object_get(specific, "extent-paths")))
		add_reason(root, "descriptor", "an extent in its descriptor is named by a path");
	if (variant &&
		(!strcasecmp(variant, "monolithicSparse") ||
			!strcasecmp(variant, "streamOptimized")))
		return;
	snprintf(text, sizeof(text),
		"a VMDK of type %.60s, not monolithicSparse or streamOptimized",
		variant ? variant : "unknown");
	add_reason(root, "variant", text);
}

/* ---- what state it is in ---- */

static void judge_state(json_t *root)
{
	const json_t *specific = json_object_get(json_object_get(root, "format-specific"), "data");
	const json_t *warnings = json_object_get(root, "warnings"), *warning;
	size_t i;

	if (json_is_true(json_object_get(root, "encrypted")) ||
		json_is_true(json_object_get(specific, "encrypted")))
		add_reason(root, "encrypted", "its data is encrypted");
	if (json_is_true(json_object_get(root, "dirty-flag")))
		add_reason(root, "dirty", "it was not closed by the program that wrote it");
	if (json_is_true(json_object_get(specific, "corrupt")))
		add_reason(root, "corrupt", "it is marked corrupt");
	json_array_foreach(warnings, i, warning)
		add_reason(root, "warning", json_string_value(warning));
}

/* ---- whether it is one thing ---- */

static void judge_format(json_t *root, struct vmimg_disk *disk, const char *stated)
{
	const struct vmimg_format *found;
	struct vmimg_error why;
	char text[200];

	if (!stated)
		return;
	found = vmimg_disk_probe(disk->io, &why);
	if (!found) {
		add_reason(root, why.status == VMIMG_EREFUSED ? "polyglot" : "format", why.text);
	} else if (found != disk->format) {
		snprintf(text, sizeof(text), "it was opened as %s, and looks like %s",
			disk->format->name, found->title);
		add_reason(root, "format", text);
	}
}

static const char *code_of(enum vmimg_status status)
{
	switch (status) {
	case VMIMG_EFORMAT:
		return "format";
	case VMIMG_ECORRUPT:
		return "malformed";
	case VMIMG_EUNSUPPORTED:
		return "unsupported";
	case VMIMG_ELIMIT:
		return "limit";
	case VMIMG_EREFUSED:
		return "refused";
	default:
		return NULL; /* nothing that the image is to blame for */
	}
}

/* ---- raw disks: a partition table that all programs read alike ---- */

static bool is_boot_sector_of_fs(const uint8_t *sector)
{
	return !memcmp(sector + 54, "FAT", 3) || !memcmp(sector + 82, "FAT32", 5) ||
		!memcmp(sector + 3, "NTFS    ", 8) || !memcmp(sector + 3, "EXFAT   ", 8);
}

static void judge_mbr(json_t *root, const uint8_t *sector, const struct vmimg_parts *parts)
{
	unsigned guards = 0, others = 0, odd = 0, displaced = 0;

	if (sector[510] != 0x55 || sector[511] != 0xaa || is_boot_sector_of_fs(sector)) {
		if (parts->scheme == VMIMG_SCHEME_GPT)
			add_reason(root, "partition-table", "a GPT without a protective MBR");
		return;
	}
	for (unsigned i = 0; i < 4; i++) {
		const uint8_t *entry = sector + VMIMG_MBR_ENTRIES + 16 * i;

		odd += (entry[0] & 0x7f) != 0;
		guards += entry[4] == VMIMG_MBR_GPT_TYPE;
		displaced += entry[4] == VMIMG_MBR_GPT_TYPE &&
			(i || memcmp(entry + 1, "\0\2", 3) || vmimg_get_le32(entry + 8) != 1);
		others += entry[4] && entry[4] != VMIMG_MBR_GPT_TYPE;
	}
	if (odd)
		add_reason(root, "partition-table", "an MBR entry has an invalid boot flag");
	if (displaced)
		add_reason(root, "partition-table", "the guard of the GPT is not where it should be");
	if (!guards && !others)
		add_reason(root, "partition-table", "an MBR without partitions");
	if (parts->scheme == VMIMG_SCHEME_GPT ? guards != 1 || others : guards != 0)
		add_reason(root, "partition-table",
			"the MBR and the GPT do not describe the same disk");
}

/* Formats of QEMU that are not read here: to us a raw disk, to a program that detects, more. */
static void judge_start(json_t *root, const uint8_t *sector)
{
	static const struct {
		const char *magic;
		uint8_t len;
		const char *name;
	} others[] = {
		{ "QED", 4, "QED" },
		{ "WithoutFreeSpace", 16, "Parallels" },
		{ "WithouFreSpacExt", 16, "Parallels" },
		{ "Bochs Virtual HD Image", 23, "Bochs" },
		{ "#!/bin/sh\n#V2.0 Format\n", 23, "cloop" },
	};
	char text[80];

	for (size_t i = 0; i < VMIMG_ARRAY_LEN(others); i++)
		if (!memcmp(sector, others[i].magic, others[i].len)) {
			snprintf(text, sizeof(text), "it begins as an image in the format %s does",
				others[i].name);
			add_reason(root, "format", text);
		}
	if (!memcmp(sector, "LUKS\xba\xbe", 6) && vmimg_get_be16(sector + 6) != 1)
		add_reason(root, "encrypted", "a LUKS volume of a version other than 1");
}

static int judge_raw(json_t *root, struct vmimg_disk *disk, struct vmimg_error *err)
{
	VMIMG_AUTO(vmimg_parts_done) struct vmimg_parts parts = { 0 };
	uint8_t sector[512] = { 0 };
	size_t len = (size_t)vmimg_min(sizeof(sector), vmimg_io_size(disk->io));

	if (vmimg_io_pread(disk->io, sector, len, 0, err))
		return -1;
	if (vmimg_parts_read(disk->io, 0, &parts, err)) {
		if (!code_of(err->status))
			return -1;
		add_reason(root, "partition-table", err->text);
	}
	judge_start(root, sector);
	judge_mbr(root, sector, &parts);
	for (size_t i = 0; i < parts.warning_count; i++)
		add_reason(root, "partition-table", parts.warnings[i]);
	return 0;
}

int cli_gate_disk(
	json_t *root, struct vmimg_disk *disk, const char *stated, struct vmimg_error *err)
{
	judge_format(root, disk, stated);
	judge_references(root);
	judge_state(root);
	if (!strcmp(disk->format->name, "vmdk"))
		judge_vmdk(root);
	if (!strcmp(disk->format->name, "raw") && judge_raw(root, disk, err))
		return -1;
	settle(root);
	return 0;
}

/* ---- what could not be opened ---- */

json_t *cli_gate_failed(const char *path, const struct vmimg_error *why)
{
	const char *code = code_of(why->status);
	json_t *root;

	if (!code)
		return NULL;
	root = json_object();
	vmimg_json_text(root, "filename", path);
	json_object_set_new(root, "schema", json_string("vmimg.info/1"));
	cli_gate_refuse(root, code, why->text);
	return root;
}
