/* SPDX-License-Identifier: Apache-2.0 */
/* What Windows says of itself: its version and name in the registry, and the drivers for disks that
 * it starts with, which decide whether it comes up on another hypervisor. */
#include <stdio.h>
#include <string.h>
#include "disk/info.h"
#include "inspect/hive.h"
#include "inspect/sections.h"
#include "util/bytes.h"
#include "util/num.h"

#define CURRENT "Microsoft\\Windows NT\\CurrentVersion"
#define ELEVEN  22000 /* builds of Windows 11, which calls itself Windows 10 in the registry */

static const char *const drivers[] = { "viostor", "vioscsi", "netkvm", "stornvme", "storahci",
	"msahci", "intelide", "vmbus", "storvsc", "netvsc", "pvscsi", "vmxnet3ndis6", "LSI_SAS",
	"LSI_SCSI", "xenvbd", "xenbus" };

/* NULL: it is not there, or no hive. *io is the caller's. */
static struct vmimg_hive *open_hive(struct vmimg_fs *fs, const char *name, struct vmimg_io **io)
{
	static const char *const folders[] = { "/Windows/System32/config",
		"/WINNT/system32/config" };
	struct vmimg_error ignored;
	struct vmimg_node node;
	char path[80];
	bool found = false;

	for (size_t i = 0; i < VMIMG_ARRAY_LEN(folders) && !found; i++) {
		snprintf(path, sizeof(path), "%s/%s", folders[i], name);
		if (vmimg_fs_find(fs, path, &node, &found, &ignored))
			return NULL;
	}
	*io = found ? vmimg_fs_file_io(fs, &node, &ignored) : NULL;
	return *io ? vmimg_hive_open(*io, &ignored) : NULL;
}

/* ---- SOFTWARE ---------------------------------------------------------------------------- */

static bool get_text(struct vmimg_hive *hive, uint32_t key, const char *name, char *out, size_t cap)
{
	struct vmimg_error ignored;
	bool found;

	return !vmimg_hive_text(hive, key, name, out, cap, &found, &ignored) && found;
}

static bool get_number(struct vmimg_hive *hive, uint32_t key, const char *name, uint32_t *number)
{
	struct vmimg_error ignored;
	bool found;

	return !vmimg_hive_number(hive, key, name, number, &found, &ignored) && found;
}

static void set_version(struct vmimg_hive *hive, uint32_t key, const char *build, json_t *os)
{
	uint32_t major, minor, revision;
	char text[100], old[40];

	if (get_number(hive, key, "CurrentMajorVersionNumber", &major) &&
		get_number(hive, key, "CurrentMinorVersionNumber", &minor))
		snprintf(text, sizeof(text), "%u.%u.%s", major, minor, build);
	else if (get_text(hive, key, "CurrentVersion", old, sizeof(old)))
		snprintf(text, sizeof(text), "%s.%s", old, build);
	else
		return;
	if (get_number(hive, key, "UBR", &revision))
		snprintf(text + strlen(text), sizeof(text) - strlen(text), ".%u", revision);
	vmimg_json_text(os, "version-id", text);
}

static void set_product(struct vmimg_hive *hive, json_t *os)
{
	static const char *const keys[][2] = { { "DisplayVersion", "display-version" },
		{ "ReleaseId", "release-id" }, { "EditionID", "variant-id" },
		{ "InstallationType", "installation-type" }, { "CSDVersion", "service-pack" } };
	char text[200], build[40] = "";
	struct vmimg_error ignored;
	uint32_t key;
	bool found;

	if (vmimg_hive_find(hive, CURRENT, &key, &found, &ignored) || !found)
		return;
	if (get_text(hive, key, "CurrentBuild", build, sizeof(build)) ||
		get_text(hive, key, "CurrentBuildNumber", build, sizeof(build)))
		vmimg_json_text(os, "build", build);
	if (get_text(hive, key, "ProductName", text, sizeof(text))) {
		if (strtoul(build, NULL, 10) >= ELEVEN && !strncmp(text, "Windows 10", 10))
			text[9] = '1';
		vmimg_json_text(os, "pretty-name", text);
	}
	set_version(hive, key, build, os);
	for (size_t i = 0; i < VMIMG_ARRAY_LEN(keys); i++)
		if (get_text(hive, key, keys[i][0], text, sizeof(text)))
			vmimg_json_text(os, keys[i][1], text);
}

/* ---- SYSTEM ------------------------------------------------------------------------------ */

/* A key below the set of settings that is in force. */
static bool find_setting(struct vmimg_hive *hive, const char *path, uint32_t *key)
{
	struct vmimg_error ignored;
	uint32_t select, current = 1;
	char whole[200];
	bool found;

	if (!vmimg_hive_find(hive, "Select", &select, &found, &ignored) && found)
		get_number(hive, select, "Current", &current);
	snprintf(whole, sizeof(whole), "ControlSet%03u\\%s", current, path);
	return !vmimg_hive_find(hive, whole, key, &found, &ignored) && found;
}

static void set_name(struct vmimg_hive *hive, json_t *os)
{
	static const char *const places[][2] = { { "Services\\Tcpip\\Parameters", "Hostname" },
		{ "Services\\Tcpip\\Parameters", "NV Hostname" },
		{ "Control\\ComputerName\\ComputerName", "ComputerName" } };
	char text[300];
	uint32_t key;

	for (size_t i = 0; i < VMIMG_ARRAY_LEN(places); i++)
		if (find_setting(hive, places[i][0], &key) &&
			get_text(hive, key, places[i][1], text, sizeof(text)) && *text) {
			vmimg_json_text(os, "hostname", text);
			return;
		}
}

static void set_drivers(struct vmimg_hive *hive, json_t *os)
{
	static const char *const starts[] = { "boot", "system", "automatic", "on demand",
		"disabled" };
	json_t *object = json_object();

	for (size_t i = 0; i < VMIMG_ARRAY_LEN(drivers); i++) {
		char path[60];
		uint32_t key, start;

		snprintf(path, sizeof(path), "Services\\%s", drivers[i]);
		if (find_setting(hive, path, &key) && get_number(hive, key, "Start", &start) &&
			start < VMIMG_ARRAY_LEN(starts))
			json_object_set_new(object, drivers[i], json_string(starts[start]));
	}
	json_object_set_new(os, "drivers", object);
}

/* ---- the kernel -------------------------------------------------------------------------- */

static void set_architecture(struct vmimg_fs *fs, json_t *os)
{
	static const struct {
		uint16_t machine;
		const char *name;
	} machines[] = { { 0x8664, "x86_64" }, { 0x14c, "i686" }, { 0xaa64, "aarch64" },
		{ 0x1c4, "arm" }, { 0x200, "ia64" } };
	struct vmimg_error ignored;
	struct vmimg_node node;
	uint8_t head[1024];
	size_t got, at;
	bool found;

	if (vmimg_fs_find(fs, "/Windows/System32/ntoskrnl.exe", &node, &found, &ignored) ||
		!found || vmimg_fs_read(fs, &node, head, sizeof(head), 0, &got, &ignored) ||
		got < 64)
		return;
	at = vmimg_get_le32(head + 60);
	if (memcmp(head, "MZ", 2) || at > got - 6 || memcmp(head + at, "PE\0\0", 4))
		return;
	for (size_t i = 0; i < VMIMG_ARRAY_LEN(machines); i++)
		if (machines[i].machine == vmimg_get_le16(head + at + 4))
			vmimg_json_text(os, "architecture", machines[i].name);
}

void vmimg_inspect_windows(struct vmimg_fs *fs, json_t *os)
{
	struct vmimg_io *software_io = NULL, *system_io = NULL;
	struct vmimg_hive *software = open_hive(fs, "SOFTWARE", &software_io);
	struct vmimg_hive *system = open_hive(fs, "SYSTEM", &system_io);

	if (software)
		set_product(software, os);
	if (system) {
		set_name(system, os);
		set_drivers(system, os);
	}
	set_architecture(fs, os);
	vmimg_json_bool(os, "cloud-init",
		vmimg_inspect_has(
			fs, "/Program Files/Cloudbase Solutions/Cloudbase-Init", VMIMG_NODE_DIR));
	vmimg_hive_close(software);
	vmimg_hive_close(system);
	vmimg_io_unref(software_io);
	vmimg_io_unref(system_io);
}
