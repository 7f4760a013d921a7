/* SPDX-License-Identifier: Apache-2.0 */
/* What operating system lies on a volume: os-release(5) and its older kin, and the few files that
 * tell how it is set up. */
#include <ctype.h>
#include <stdio.h>
#include <string.h>
#include "disk/info.h"
#include "inspect/sections.h"
#include "util/bytes.h"
#include "util/num.h"

#define SMALL  65536U /* no file that is read here is longer, or it is something else */
#define TABLES (UINT32_C(8) << 20) /* lists of modules are longer */

/* A small text file; NULL when it cannot be had. */
static char *read_text(struct vmimg_fs *fs, const char *path, size_t limit)
{
	struct vmimg_error ignored;
	size_t len;

	return vmimg_fs_read_file(fs, path, limit, &len, &ignored);
}

static char *next_line(char **rest)
{
	char *line;

	do {
		line = strsep(rest, "\n");
	} while (line && !*line);
	return line;
}

static char *trim(char *text)
{
	char *end = text + strlen(text);

	while (end > text && isspace((unsigned char)end[-1]))
		*--end = '\0';
	while (isspace((unsigned char)*text))
		text++;
	return text;
}

/* A value as a shell would read it: quotes off, backslashes undone. In place. */
static char *unquote(char *text)
{
	char quote = *text == '"' || *text == '\'' ? *text : '\0', *from = text + (quote != 0);
	char *to = text;

	for (; *from && *from != quote; from++) {
		if (*from == '\\' && quote != '\'' && from[1])
			from++;
		*to++ = *from;
	}
	if (!quote && *from)
		memmove(to, from, strlen(from) + 1);
	else
		*to = '\0';
	return text;
}

static bool set_os_release(struct vmimg_fs *fs, const char *path, json_t *os)
{
	static const char *const keys[][2] = { { "ID", "id" }, { "NAME", "name" },
		{ "PRETTY_NAME", "pretty-name" }, { "VERSION_ID", "version-id" },
		{ "VERSION_CODENAME", "codename" }, { "VARIANT_ID", "variant-id" },
		{ "ID_LIKE", "id-like" }, { "BUILD_ID", "build-id" } };
	VMIMG_AUTO(free) char *text = read_text(fs, path, SMALL);
	char *rest = text, *line;

	if (!text)
		return false;
	while ((line = next_line(&rest))) {
		char *value = strchr(line, '=');

		if (!value || *line == '#')
			continue;
		*value++ = '\0';
		for (size_t i = 0; i < VMIMG_ARRAY_LEN(keys); i++)
			if (!strcmp(trim(line), keys[i][0]))
				vmimg_json_text(os, keys[i][1], unquote(trim(value)));
	}
	return true;
}

/* Systems from before os-release, and others: one file whose first line says it. */
static bool set_old_release(struct vmimg_fs *fs, json_t *os)
{
	static const struct {
		const char *path, *id, *prefix;
	} files[] = {
		{ "/etc/centos-release", "centos", "" },
		{ "/etc/redhat-release", "rhel", "" },
		{ "/etc/SuSE-release", "suse", "" },
		{ "/etc/alpine-release", "alpine", "Alpine Linux " },
		{ "/etc/debian_version", "debian", "Debian " },
		{ "/etc/slackware-version", "slackware", "" },
		{ "/etc/gentoo-release", "gentoo", "" },
		{ "/etc/arch-release", "arch", "Arch Linux" },
		{ "/etc/cirros/version", "cirros", "CirrOS " },
	};

	for (size_t i = 0; i < VMIMG_ARRAY_LEN(files); i++) {
		VMIMG_AUTO(free) char *text = read_text(fs, files[i].path, SMALL);
		char name[200];

		if (!text)
			continue;
		text[strcspn(text, "\n")] = '\0';
		snprintf(name, sizeof(name), "%s%s", files[i].prefix, trim(text));
		vmimg_json_text(os, "id", files[i].id);
		vmimg_json_text(os, "pretty-name", name);
		return true;
	}
	return false;
}

/* Installation media say in one line what they install. */
static bool set_medium(struct vmimg_fs *fs, json_t *os)
{
	static const char *const files[] = { "/.disk/info", "/.treeinfo", "/.discinfo" };

	for (size_t i = 0; i < VMIMG_ARRAY_LEN(files); i++) {
		VMIMG_AUTO(free) char *text = read_text(fs, files[i], SMALL);
		char *line = text;

		if (!text)
			continue;
		if (i == 1) { /* of an INI file, the name in [general] */
			line = strstr(text, "\nname");
			line = line ? strchr(line, '=') : NULL;
			line = line ? line + 1 : text;
		} else if (i == 2) { /* a time stamp comes first */
			line = strchr(text, '\n');
			line = line ? line + 1 : text;
		}
		line[strcspn(line, "\n")] = '\0';
		vmimg_json_bool(os, "installation-medium", true);
		vmimg_json_text(os, "pretty-name", trim(line));
		return true;
	}
	return false;
}

static bool set_other_system(struct vmimg_fs *fs, json_t *os)
{
	static const struct {
		const char *path, *id, *name;
	} marks[] = {
		{ "/Windows/System32/ntoskrnl.exe", "windows", "Windows" },
		{ "/WINNT/system32/ntoskrnl.exe", "windows", "Windows NT" },
		{ "/ReactOS/system32/ntoskrnl.exe", "reactos", "ReactOS" },
		{ "/bin/freebsd-version", "freebsd", "FreeBSD" },
		{ "/bsd", "openbsd", "OpenBSD" },
		{ "/netbsd", "netbsd", "NetBSD" },
		{ "/IO.SYS", "dos", "MS-DOS" },
		{ "/KERNEL.SYS", "freedos", "FreeDOS" },
	};

	for (size_t i = 0; i < VMIMG_ARRAY_LEN(marks); i++)
		if (vmimg_inspect_has(fs, marks[i].path, VMIMG_NODE_FILE)) {
			vmimg_json_text(os, "id", marks[i].id);
			vmimg_json_text(os, "pretty-name", marks[i].name);
			return true;
		}
	return false;
}

/* ---- how it is set up -------------------------------------------------------------------- */

static void set_hostname(struct vmimg_fs *fs, json_t *os)
{
	VMIMG_AUTO(free) char *text = read_text(fs, "/etc/hostname", 4096);
	char *rest = text, *line;

	while (text && (line = next_line(&rest)))
		if (*trim(line) && *line != '#') {
			vmimg_json_text(os, "hostname", trim(line));
			return;
		}
}

static void set_fstab(struct vmimg_fs *fs, json_t *os)
{
	static const char *const keys[] = { "device", "mount-point", "type", "options" };
	VMIMG_AUTO(free) char *text = read_text(fs, "/etc/fstab", SMALL);
	json_t *list = json_array();
	char *rest = text, *line;

	while (text && (line = next_line(&rest)) && json_array_size(list) < 100) {
		char *field, *left = trim(line);
		json_t *item;

		if (*left == '#' || !*left)
			continue;
		item = json_object();
		for (size_t i = 0; i < VMIMG_ARRAY_LEN(keys) && left; i++) {
			field = strsep(&left, " \t");
			vmimg_json_text(item, keys[i], field);
			if (left)
				left += strspn(left, " \t");
		}
		json_array_append_new(list, item);
	}
	json_object_set_new(os, "fstab", list);
}

static void set_cloud_init(struct vmimg_fs *fs, json_t *os)
{
	static const char *const marks[] = { "/etc/cloud/cloud.cfg", "/usr/bin/cloud-init",
		"/usr/local/bin/cloud-init" };
	bool there = false;

	for (size_t i = 0; i < VMIMG_ARRAY_LEN(marks); i++)
		there |= vmimg_inspect_has(fs, marks[i], -1);
	vmimg_json_bool(os, "cloud-init", there);
	if (vmimg_inspect_has(fs, "/usr/lib/dracut/modules.d/30ignition", VMIMG_NODE_DIR))
		vmimg_json_bool(os, "ignition", true);
}

/* By the header of the shell, which every system has. */
static void set_architecture(struct vmimg_fs *fs, json_t *os)
{
	static const struct {
		uint16_t machine;
		const char *name;
	} machines[] = { { 62, "x86_64" }, { 3, "i686" }, { 183, "aarch64" }, { 40, "arm" },
		{ 243, "riscv64" }, { 22, "s390x" }, { 21, "ppc64" }, { 8, "mips" } };
	static const char *const shells[] = { "/bin/sh", "/usr/bin/sh", "/bin/busybox",
		"/sbin/init" };
	struct vmimg_error ignored;
	struct vmimg_node node;
	uint8_t head[20];
	size_t got;
	bool found = false;

	for (size_t i = 0; i < VMIMG_ARRAY_LEN(shells) && !found; i++)
		if (vmimg_fs_find(fs, shells[i], &node, &found, &ignored))
			found = false;
	if (!found || node.kind != VMIMG_NODE_FILE ||
		vmimg_fs_read(fs, &node, head, sizeof(head), 0, &got, &ignored) ||
		got < sizeof(head) ||
		memcmp(head,
			"\x7f"
			"ELF",
			4))
		return;
	for (size_t i = 0; i < VMIMG_ARRAY_LEN(machines); i++) {
		uint16_t machine =
			head[5] == 2 ? vmimg_get_be16(head + 18) : vmimg_get_le16(head + 18);

		if (machines[i].machine == machine)
			vmimg_json_text(os, "architecture", machines[i].name);
	}
}

/* ---- kernels and their drivers ----------------------------------------------------------- */

/* Marks the drivers that a list of modules ("kernel/drivers/…/virtio_blk.ko") names. */
static void note_modules(char *text, const char *how, json_t *drivers)
{
	char *line;

	while (text && (line = next_line(&text))) {
		size_t len = strcspn(line, ":");
		const char *slash = memrchr(line, '/', len);
		const char *file = slash ? slash + 1 : line;
		const struct vmimg_driver *d = vmimg_driver_of(file, len - (size_t)(file - line));

		if (d && !json_object_get(drivers, d->name))
			json_object_set_new(drivers, d->name, json_string(how));
	}
}

static json_t *kernel_of(struct vmimg_fs *fs, const char *version, bool deep)
{
	static const char *const initrds[][2] = { { "initrd.img-", "" }, { "initramfs-", ".img" },
		{ "initrd-", "" }, { "initramfs-", "" } };
	json_t *kernel = json_object(), *drivers = json_object();
	VMIMG_AUTO(free) char *built_in = NULL;
	VMIMG_AUTO(free) char *modules = NULL;
	char path[400];

	vmimg_json_text(kernel, "version", version);
	snprintf(path, sizeof(path), "/lib/modules/%s/modules.builtin", version);
	built_in = read_text(fs, path, TABLES);
	note_modules(built_in, "built-in", drivers);
	snprintf(path, sizeof(path), "/lib/modules/%s/modules.dep", version);
	modules = read_text(fs, path, TABLES);
	note_modules(modules, "module", drivers);
	json_object_set_new(kernel, "drivers", drivers);
	for (size_t i = 0; i < VMIMG_ARRAY_LEN(initrds); i++) {
		snprintf(path, sizeof(path), "/boot/%s%s%s", initrds[i][0], version, initrds[i][1]);
		if (!vmimg_inspect_has(fs, path, VMIMG_NODE_FILE))
			continue;
		vmimg_json_text(kernel, "initrd", path);
		if (deep)
			vmimg_inspect_initrd(fs, path, kernel);
		break;
	}
	return kernel;
}

static void set_kernels(struct vmimg_fs *fs, json_t *os, bool deep)
{
	json_t *names = vmimg_inspect_names(fs, "/lib/modules", ""), *name, *list = json_array();
	size_t i;

	json_array_foreach(names, i, name) if (i < 16)
		json_array_append_new(list, kernel_of(fs, json_string_value(name), deep));
	json_decref(names);
	json_object_set_new(os, "kernels", list);
}

json_t *vmimg_inspect_os(struct vmimg_volume *volume, bool deep)
{
	json_t *os = json_object();
	struct vmimg_fs *fs = volume->fs;

	if (volume->name[0])
		vmimg_json_text(os, "volume", volume->name);
	if (!set_os_release(fs, "/etc/os-release", os) &&
		!set_os_release(fs, "/usr/lib/os-release", os) && !set_old_release(fs, os) &&
		!set_medium(fs, os) && !set_other_system(fs, os)) {
		json_decref(os);
		return NULL;
	}
	if (!strcmp(json_string_value(json_object_get(os, "id")) ?: "", "windows")) {
		vmimg_inspect_windows(fs, os);
		return os;
	}
	set_architecture(fs, os);
	set_hostname(fs, os);
	set_kernels(fs, os, deep);
	set_fstab(fs, os);
	set_cloud_init(fs, os);
	return os;
}
