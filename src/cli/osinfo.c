/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Some 800 files are on a system that has them, of which a few have a pattern that can match: the
 * letters that a pattern begins with are looked for in the text before it is parsed. Of several
 * media that match, the one with more conditions counts, then the one with the longer pattern.
 */
#include "cli/osinfo.h"
#include <dirent.h>
#include <fcntl.h>
#include <regex.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>
#include "bundle/xml.h"
#include "disk/info.h"
#include "util/num.h"

#define FOLDER   "/usr/share/osinfo"
#define MAX_FILE (1 << 20)
#define MAX_WORD 400

static const char *const conditions[][2] = { { "volume-id", "volume-id" },
	{ "system-id", "system-id" }, { "publisher-id", "publisher-id" },
	{ "application-id", "application-id" } };

struct search {
	const json_t *iso;
	struct vmimg_pool *pool;
	json_t *best; /* owned; NULL: none yet */
	size_t rank;
};

static const char *folder_of(void)
{
	const char *folder = getenv("OSINFO_SYSTEM_DIR");

	return folder && *folder ? folder : FOLDER;
}

void cli_osinfo_reach(struct cli_sandbox *sandbox)
{
	cli_sandbox_read(sandbox, folder_of());
}

static const char *identifier(const json_t *iso, const char *key)
{
	const char *text = json_string_value(json_object_get(iso, key));

	return text ? text : "";
}

/* ---- patterns ---------------------------------------------------------------------------- */

/* How many letters a pattern begins with that any text that it matches has. */
static size_t literal_len(const char *pattern, size_t len)
{
	size_t n = 0;

	if (memchr(pattern, '|', len) || memchr(pattern, '&', len))
		return 0;
	while (n < len && !strchr(".[]()*+?{}^$\\", pattern[n]))
		n++;
	return n && n < len && strchr("*?{", pattern[n]) ? n - 1 : n;
}

/* Perl's classes as POSIX spells them. False: it is too long. */
static bool translate(const char *pattern, char *out, size_t cap)
{
	bool inside = false;
	size_t n = 0;

	for (; *pattern && n + 8 < cap; pattern++) {
		const char *class = pattern[1] == 'd' ? "0-9" : pattern[1] == 'D' ? "^0-9" : NULL;

		if (*pattern == '\\' && class) {
			n += (size_t)snprintf(out + n, cap - n, inside ? "%s" : "[%s]", class);
			pattern++;
			continue;
		}
		if (*pattern == '\\' && pattern[1])
			out[n++] = *pattern++;
		else if (*pattern == '[' || *pattern == ']')
			inside = *pattern == '[';
		out[n++] = *pattern;
	}
	out[n] = '\0';
	return !*pattern;
}

static bool matches(const char *pattern, const char *text)
{
	char posix[MAX_WORD];
	regex_t regex;
	bool found;

	if (!translate(pattern, posix, sizeof(posix)) ||
		regcomp(&regex, posix, REG_EXTENDED | REG_NOSUB))
		return false;
	found = !regexec(&regex, text, 0, NULL, 0);
	regfree(&regex);
	return found;
}

/* ---- one file ---------------------------------------------------------------------------- */

static const char *word(struct search *search, const xmlNode *parent, const char *name)
{
	struct vmimg_error ignored;
	const char *text;

	return vmimg_xml_child_text(parent, name, search->pool, &text, &ignored) ? NULL : text;
}

/* How well a medium's conditions hold; 0: one does not, or there is none. */
static size_t rank(struct search *search, const xmlNode *conditions_of)
{
	const char *size = word(search, conditions_of, "volume-size");
	size_t count = 0, len = 0;

	for (size_t i = 0; i < VMIMG_ARRAY_LEN(conditions); i++) {
		const char *pattern = word(search, conditions_of, conditions[i][0]);

		if (!pattern || !*pattern)
			continue;
		if (!matches(pattern, identifier(search->iso, conditions[i][1])))
			return 0;
		count++;
		len += strlen(pattern);
	}
	if (size && strtoll(size, NULL, 10) > 0) {
		if (strtoll(size, NULL, 10) !=
			json_integer_value(json_object_get(search->iso, "volume-size")))
			return 0;
		count++;
	}
	return count * 10000 + len;
}

static void set(struct search *search, json_t *object, const char *key, const xmlNode *parent,
	const char *name)
{
	const char *text = word(search, parent, name);

	if (text && *text)
		vmimg_json_text(object, key, text);
}

/* A medium may be of a variant, which has a name of its own. */
static const xmlNode *variant_of(const xmlNode *os, const xmlNode *media)
{
	const xmlNode *wanted = vmimg_xml_child(media, "variant");
	const char *id = wanted ? vmimg_xml_attr(wanted, "id") : NULL;

	for (const xmlNode *v = id ? vmimg_xml_child(os, "variant") : NULL; v;
		v = vmimg_xml_next(v, "variant")) {
		const char *this = vmimg_xml_attr(v, "id");

		if (this && !strcmp(this, id))
			return v;
	}
	return NULL;
}

static json_t *describe(struct search *search, const xmlNode *os, const xmlNode *media)
{
	const char *id = vmimg_xml_attr(os, "id"), *arch = vmimg_xml_attr(media, "arch");
	const char *live = vmimg_xml_attr(media, "live");
	const xmlNode *variant = variant_of(os, media);
	json_t *object = json_object();

	if (id)
		vmimg_json_text(object, "id", id);
	set(search, object, "short-id", os, "short-id");
	set(search, object, "name", os, "name");
	if (variant)
		set(search, object, "variant", variant, "name");
	set(search, object, "version", os, "version");
	if (arch)
		vmimg_json_text(object, "architecture", arch);
	vmimg_json_bool(object, "live", live && !strcmp(live, "true"));
	set(search, object, "kernel", media, "kernel");
	set(search, object, "initrd", media, "initrd");
	return object;
}

static void search_document(struct search *search, const xmlNode *root)
{
	for (const xmlNode *os = vmimg_xml_child(root, "os"); os; os = vmimg_xml_next(os, "os"))
		for (const xmlNode *media = vmimg_xml_child(os, "media"); media;
			media = vmimg_xml_next(media, "media")) {
			const xmlNode *iso = vmimg_xml_child(media, "iso");
			size_t found = iso ? rank(search, iso) : 0;

			if (found <= search->rank)
				continue;
			json_decref(search->best);
			search->best = describe(search, os, media);
			search->rank = found;
		}
}

/* Whether a pattern for the volume's name is in the text that may match. */
static bool may_match(const char *text, const char *volume)
{
	static const char open[] = "<volume-id>";

	while ((text = strstr(text, open))) {
		size_t len, literal;

		text += sizeof(open) - 1;
		len = strcspn(text, "<");
		literal = literal_len(text, len);
		if (memmem(volume, strlen(volume), text, literal))
			return true;
	}
	return false;
}

static void search_file(struct search *search, int folder, const char *name)
{
	VMIMG_AUTO(vmimg_xml_free) struct vmimg_xml *xml = NULL;
	VMIMG_AUTO(free) char *text = NULL;
	struct vmimg_error ignored;
	struct stat st;
	ssize_t got = 0;
	int fd = openat(folder, name, O_RDONLY | O_CLOEXEC);

	if (fd < 0)
		return;
	if (!fstat(fd, &st) && S_ISREG(st.st_mode) && st.st_size > 0 && st.st_size < MAX_FILE)
		text = vmimg_alloc_array(1, (size_t)st.st_size + 1, &ignored);
	if (text)
		got = read(fd, text, (size_t)st.st_size);
	close(fd);
	if (got <= 0 || !may_match(text, identifier(search->iso, "volume-id")))
		return;
	xml = vmimg_xml_parse(text, (size_t)got, name, &ignored);
	if (xml)
		search_document(search, vmimg_xml_root(xml));
}

/* ---- the folder -------------------------------------------------------------------------- */

/* Files in it and, once, in its folders. Takes over fd. */
static void search_folder(struct search *search, int fd, bool below)
{
	DIR *dir = fd < 0 ? NULL : fdopendir(fd);
	const struct dirent *entry;

	while (dir && (entry = readdir(dir))) {
		size_t len = strlen(entry->d_name);

		if (len > 4 && !strcmp(entry->d_name + len - 4, ".xml"))
			search_file(search, dirfd(dir), entry->d_name);
		else if (below && entry->d_name[0] != '.')
			search_folder(search,
				openat(dirfd(dir), entry->d_name,
					O_RDONLY | O_DIRECTORY | O_CLOEXEC),
				false);
	}
	if (dir)
		closedir(dir);
	else if (fd >= 0)
		close(fd);
}

json_t *cli_osinfo_identify(const json_t *iso)
{
	struct vmimg_pool pool = { 0 };
	struct search search = { .iso = iso, .pool = &pool };
	char path[1024];

	if (!*identifier(iso, "volume-id"))
		return NULL;
	snprintf(path, sizeof(path), "%s/os", folder_of());
	search_folder(&search, open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC), true);
	vmimg_pool_done(&pool);
	return search.best;
}
