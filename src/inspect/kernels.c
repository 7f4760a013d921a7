/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Each source is one function, tried on every tree, in the order of trust; what it names must be
 * there. Configurations are read as words on lines, which is as much of their languages as their
 * generators use.
 */
#include "inspect/kernels.h"
#include <ctype.h>
#include <fnmatch.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>
#include <strings.h>
#include "util/num.h"
#include "util/text.h"

#define CONFIG_MAX (1U << 20) /* bytes of a configuration */
#define FILE_MAX   UINT32_MAX /* of what is loaded: places in memory are told in 32 bits */

/* ---- small things ---- */

static bool is_there(const struct vmimg_tree *tree, const char *path)
{
	struct vmimg_error ignored;
	struct vmimg_node node;
	bool found;

	return !vmimg_fs_find(tree->fs, path, &node, &found, &ignored) && found &&
		node.kind == VMIMG_NODE_FILE;
}

/* NULL when it is not there, or too large. */
static char *read_config(const struct vmimg_tree *tree, const char *path)
{
	struct vmimg_error ignored;
	size_t len;

	return is_there(tree, path) ? vmimg_fs_read_file(tree->fs, path, CONFIG_MAX, &len, &ignored)
				    : NULL;
}

/* Paths count from the partition, or from the root of a system with /boot inside. */
static bool set_path(const struct vmimg_tree *tree, const char *path, char out[VMIMG_BOOT_PATH])
{
	static const char *const prefixes[] = { "", "/boot" };

	for (size_t i = 0; i < VMIMG_ARRAY_LEN(prefixes); i++) {
		int len = snprintf(
			out, VMIMG_BOOT_PATH, "%s%s%s", prefixes[i], *path == '/' ? "" : "/", path);

		if (len > 0 && len < VMIMG_BOOT_PATH && is_there(tree, out))
			return true;
	}
	*out = '\0';
	return false;
}

static void add_initrd(struct vmimg_boot_choice *choice, const char *path)
{
	if (choice->initrd_count < VMIMG_BOOT_INITRDS &&
		set_path(choice->tree, path, choice->initrds[choice->initrd_count]))
		choice->initrd_count++;
}

/* Cuts the line at *text off and moves past it; NULL: no more. */
static char *next_line(char **text)
{
	char *line = *text, *end;

	if (!line || !*line)
		return NULL;
	end = strchr(line, '\n');
	*text = end ? end + 1 : NULL;
	if (end)
		*end = '\0';
	while (isspace((unsigned char)*line))
		line++;
	return line;
}

/* Cuts the first word off; the rest begins with the next one. */
static char *next_word(char **text)
{
	char *word = *text + strspn(*text, " \t\r"), *end = word + strcspn(word, " \t\r");

	*text = end + strspn(end, " \t\r");
	*end = '\0';
	return word;
}

static void set_options(struct vmimg_boot_choice *choice, const char *text)
{
	snprintf(choice->options, sizeof(choice->options), "%s", text);
	choice->options[strcspn(choice->options, "\r")] = '\0';
}

struct best {
	const char *pattern, *wanted; /* of fnmatch; wanted may be NULL */
	char name[256];
	bool is_wanted;
};

/* The highest version, but what is wanted before all others. */
static bool note_best(void *ctx, const char *name, size_t len, const struct vmimg_node *node)
{
	struct best *best = ctx;
	char text[256];
	bool wanted;

	if (len >= sizeof(text) || node->kind == VMIMG_NODE_DIR)
		return true;
	memcpy(text, name, len);
	text[len] = '\0';
	if (fnmatch(best->pattern, text, FNM_CASEFOLD))
		return true;
	wanted = best->wanted && !fnmatch(best->wanted, text, 0);
	if ((wanted && !best->is_wanted) ||
		(wanted == best->is_wanted && strverscmp(text, best->name) > 0)) {
		memcpy(best->name, text, len + 1);
		best->is_wanted = wanted;
	}
	return true;
}

/* The best file of a folder into out; false: none. */
static bool find_best(const struct vmimg_tree *tree, const char *folder, const char *pattern,
	const char *wanted, char out[256])
{
	struct best best = { .pattern = pattern, .wanted = wanted };
	struct vmimg_error ignored;
	struct vmimg_node node;
	bool found;

	if (vmimg_fs_find(tree->fs, folder, &node, &found, &ignored) || !found ||
		node.kind != VMIMG_NODE_DIR ||
		vmimg_fs_list(tree->fs, &node, note_best, &best, &ignored) || !*best.name)
		return false;
	memcpy(out, best.name, sizeof(best.name));
	return true;
}

/* ---- Boot Loader Specification ---- */

/* The value of "key=" in grub's environment, into out. */
static bool grub_variable(const struct vmimg_tree *tree, const char *key, char *out, size_t cap)
{
	static const char *const paths[] = { "/boot/grub2/grubenv", "/grub2/grubenv",
		"/boot/grub/grubenv", "/grub/grubenv" };

	for (size_t i = 0; i < VMIMG_ARRAY_LEN(paths); i++) {
		VMIMG_AUTO(free) char *text = read_config(tree, paths[i]);
		char *rest = text, *line;

		while ((line = next_line(&rest))) {
			if (strncmp(line, key, strlen(key)) || line[strlen(key)] != '=')
				continue;
			snprintf(out, cap, "%s", line + strlen(key) + 1);
			return true;
		}
	}
	return false;
}

static void default_entry(const struct vmimg_tree *tree, const char *folder, char out[200])
{
	char path[64];
	VMIMG_AUTO(free) char *text = NULL;
	char *rest, *line, saved[160];

	*out = '\0';
	snprintf(path, sizeof(path), "%s/loader.conf", folder);
	text = rest = read_config(tree, path);
	while ((line = next_line(&rest)))
		if (!strcmp(next_word(&line), "default"))
			snprintf(out, 200, "%.160s", next_word(&line));
	if (!*out && grub_variable(tree, "saved_entry", saved, sizeof(saved)))
		snprintf(out, 200, "%s*", saved);
}

static void read_entry(struct vmimg_boot_choice *choice, char *text)
{
	char *line, *key;

	while ((line = next_line(&text))) {
		key = next_word(&line);
		if (!strcmp(key, "linux"))
			set_path(choice->tree, next_word(&line), choice->kernel);
		else if (!strcmp(key, "initrd"))
			while (*line)
				add_initrd(choice, next_word(&line));
		else if (!strcmp(key, "options"))
			set_options(choice, line);
	}
	if (!strcmp(choice->options, "$kernelopts"))
		grub_variable(choice->tree, "kernelopts", choice->options, sizeof(choice->options));
}

static bool choose_entry(struct vmimg_boot_choice *choice)
{
	static const char *const folders[] = { "/loader", "/boot/loader", "/efi/loader" };

	for (size_t i = 0; i < VMIMG_ARRAY_LEN(folders); i++) {
		char wanted[200], name[256], folder[32], path[300];
		VMIMG_AUTO(free) char *text = NULL;

		default_entry(choice->tree, folders[i], wanted);
		snprintf(folder, sizeof(folder), "%s/entries", folders[i]);
		if (!find_best(choice->tree, folder, "*.conf", *wanted ? wanted : NULL, name))
			continue;
		snprintf(path, sizeof(path), "%s/%s", folder, name);
		text = read_config(choice->tree, path);
		if (text)
			read_entry(choice, text);
		if (*choice->kernel)
			return true;
	}
	return false;
}

/* ---- unified kernel images ---- */

static bool choose_unified(struct vmimg_boot_choice *choice)
{
	static const struct {
		const char *folder, *pattern;
	} places[] = { { "/EFI/Linux", "*.efi" }, { "/boot/efi/EFI/Linux", "*.efi" },
		{ "/EFI/BOOT", "BOOT*.EFI" } };

	for (size_t i = 0; i < VMIMG_ARRAY_LEN(places); i++) {
		VMIMG_AUTO(free) char *head = NULL;
		struct vmimg_error ignored;
		struct vmimg_node node;
		char name[256];
		size_t got;
		bool found;

		if (!find_best(choice->tree, places[i].folder, places[i].pattern, NULL, name))
			continue;
		snprintf(choice->kernel, sizeof(choice->kernel), "%s/%s", places[i].folder, name);
		head = vmimg_alloc_buffer(4096, &ignored);
		/* a boot loader is a program of the firmware too: a kernel has a section for it */
		if (head &&
			!vmimg_fs_find(choice->tree->fs, choice->kernel, &node, &found, &ignored) &&
			found &&
			!vmimg_fs_read(choice->tree->fs, &node, head, 4096, 0, &got, &ignored) &&
			memmem(head, got, ".linux\0", 8)) {
			choice->unified = true;
			return true;
		}
		*choice->kernel = '\0';
	}
	return false;
}

/* ---- grub.cfg ---- */

static bool is_one_of(const char *word, const char *const *words)
{
	for (; *words; words++)
		if (!strcmp(word, *words))
			return true;
	return false;
}

/* The first entry: what is started when nobody chooses. */
static void read_grub(struct vmimg_boot_choice *choice, char *text)
{
	static const char *const loads[] = { "linux", "linux16", "linuxefi", "kernel", NULL };
	static const char *const adds[] = { "initrd", "initrd16", "initrdefi", NULL };
	char *line, *key;

	while ((line = next_line(&text))) {
		key = next_word(&line);
		if (is_one_of(key, loads) && *choice->kernel)
			return;
		if (is_one_of(key, loads) &&
			set_path(choice->tree, next_word(&line), choice->kernel))
			set_options(choice, line);
		else if (*choice->kernel && is_one_of(key, adds))
			while (*line)
				add_initrd(choice, next_word(&line));
		else if (*choice->kernel && *key == '}')
			return;
	}
}

static bool choose_grub(struct vmimg_boot_choice *choice)
{
	static const char *const paths[] = { "/boot/grub/grub.cfg", "/boot/grub2/grub.cfg",
		"/grub/grub.cfg", "/grub2/grub.cfg", "/boot/grub/menu.lst" };

	for (size_t i = 0; i < VMIMG_ARRAY_LEN(paths) && !*choice->kernel; i++) {
		VMIMG_AUTO(free) char *text = read_config(choice->tree, paths[i]);

		if (text)
			read_grub(choice, text);
	}
	return *choice->kernel;
}

/* ---- syslinux, extlinux ---- */

static void add_initrd_list(struct vmimg_boot_choice *choice, char *list)
{
	char *rest, *path;

	for (path = strtok_r(list, ",", &rest); path; path = strtok_r(NULL, ",", &rest))
		add_initrd(choice, path);
}

static void set_append(struct vmimg_boot_choice *choice, const char *text)
{
	VMIMG_AUTO(free) char *copy = strdup(text);
	char *initrd = copy ? strstr(copy, "initrd=") : NULL;

	set_options(choice, text);
	if (initrd && !choice->initrd_count) {
		initrd += strlen("initrd=");
		initrd[strcspn(initrd, " ")] = '\0';
		add_initrd_list(choice, initrd);
	}
}

/* The entry that DEFAULT names, or else the first. */
static void read_syslinux(struct vmimg_boot_choice *choice, char *text)
{
	char *line, *key, wanted[64] = "";
	bool inside = false;

	while ((line = next_line(&text))) {
		key = next_word(&line);
		if (!strcasecmp(key, "default")) {
			snprintf(wanted, sizeof(wanted), "%s", next_word(&line));
		} else if (!strcasecmp(key, "label")) {
			if (inside && *choice->kernel)
				return;
			inside = !*wanted || !strcmp(next_word(&line), wanted);
		} else if (!inside) {
			continue;
		} else if (!strcasecmp(key, "linux") || !strcasecmp(key, "kernel")) {
			set_path(choice->tree, next_word(&line), choice->kernel);
		} else if (!strcasecmp(key, "initrd")) {
			add_initrd_list(choice, next_word(&line));
		} else if (!strcasecmp(key, "append")) {
			set_append(choice, line);
		}
	}
}

static bool choose_syslinux(struct vmimg_boot_choice *choice)
{
	static const char *const paths[] = { "/extlinux.conf", "/boot/extlinux.conf",
		"/boot/extlinux/extlinux.conf", "/extlinux/extlinux.conf", "/syslinux.cfg",
		"/syslinux/syslinux.cfg", "/boot/syslinux/syslinux.cfg" };

	for (size_t i = 0; i < VMIMG_ARRAY_LEN(paths) && !*choice->kernel; i++) {
		VMIMG_AUTO(free) char *text = read_config(choice->tree, paths[i]);

		if (text)
			read_syslinux(choice, text);
	}
	return *choice->kernel;
}

/* ---- by name ---- */

static bool choose_link(struct vmimg_boot_choice *choice)
{
	static const char *const initrds[] = { "/initrd.img", "/initrd", "/initramfs" };

	if (!set_path(choice->tree, "/vmlinuz", choice->kernel))
		return false;
	for (size_t i = 0; i < VMIMG_ARRAY_LEN(initrds) && !choice->initrd_count; i++)
		add_initrd(choice, initrds[i]);
	return true;
}

static bool choose_newest(struct vmimg_boot_choice *choice)
{
	static const char *const folders[] = { "/boot", "/" };
	static const char *const patterns[] = { "initrd.img-%s", "initramfs-%s.img", "initrd-%s",
		"initramfs-%s" };
	char name[256], initrd[300];

	for (size_t i = 0; i < VMIMG_ARRAY_LEN(folders); i++) {
		if (!find_best(choice->tree, folders[i], "vmlinu[xz]-*", NULL, name) ||
			!set_path(choice->tree, name, choice->kernel))
			continue;
		for (size_t k = 0; k < VMIMG_ARRAY_LEN(patterns) && !choice->initrd_count; k++) {
			const char *version = name + strlen("vmlinuz-");
			const char *percent = strchr(patterns[k], '%');

			snprintf(initrd, sizeof(initrd), "%.*s%s%s", (int)(percent - patterns[k]),
				patterns[k], version, percent + 2);
			add_initrd(choice, initrd);
		}
		return true;
	}
	return false;
}

int vmimg_boot_file(
	struct vmimg_fs *fs, const char *path, struct vmimg_node *node, struct vmimg_error *err)
{
	char shown[120];

	if (vmimg_fs_resolve(fs, path, true, node, err))
		return -1;
	return node->size <= FILE_MAX
		? 0
		: vmimg_fail(err, VMIMG_ELIMIT,
			  "%s has %" PRIu64 " bytes: no kernel or ramdisk is so large",
			  vmimg_escape(shown, sizeof(shown), path, strlen(path)), node->size);
}

int vmimg_boot_choose(
	const struct vmimg_trees *trees, struct vmimg_boot_choice *choice, struct vmimg_error *err)
{
	static const struct {
		const char *source;
		bool (*choose)(struct vmimg_boot_choice *);
	} sources[] = {
		{ "boot loader entry", choose_entry },
		{ "unified kernel image", choose_unified },
		{ "grub.cfg", choose_grub },
		{ "syslinux configuration", choose_syslinux },
		{ "link", choose_link },
		{ "newest", choose_newest },
	};

	bool chosen = false;

	vmimg_trees_bound(trees, VMIMG_FS_PATIENCE);
	for (size_t i = 0; i < VMIMG_ARRAY_LEN(sources) && !chosen; i++)
		for (size_t k = 0; k < trees->count && !chosen; k++) {
			memset(choice, 0, sizeof(*choice));
			choice->tree = &trees->list[k];
			choice->source = sources[i].source;
			chosen = choice->tree->fs && sources[i].choose(choice);
		}
	vmimg_trees_bound(trees, UINT64_MAX);
	return chosen ? 0
		      : vmimg_fail(err, VMIMG_EFORMAT,
				"no kernel is on any file system that is read here");
}
