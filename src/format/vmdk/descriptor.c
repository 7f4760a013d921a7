/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The descriptor: lines of text, "key = value" or an extent, in any order and spacing. Keys are
 * compared whole, so parentCID is never taken for CID. What is not understood is passed over, as
 * VMware's own products do.
 */
#include <ctype.h>
#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>
#include <strings.h>
#include "format/vmdk/vmdk.h"
#include "util/num.h"
#include "util/text.h"

static const char signature[] = "# Disk DescriptorFile";

/* ---- lines ---- */

static bool is_blank(char c)
{
	return c == ' ' || c == '\t' || c == '\v' || c == '\f';
}

/* Cuts the next line off *rest and trims it. NULL: there is none. */
static char *next_line(char **rest)
{
	char *line = *rest, *end;

	if (!line || !*line)
		return NULL;
	end = line + strcspn(line, "\r\n");
	*rest = *end ? end + 1 : NULL;
	*end = '\0';
	while (is_blank(*line))
		line++;
	while (end > line && is_blank(end[-1]))
		*--end = '\0';
	return line;
}

/* Cuts the next word off *rest; a word in double quotes may hold blanks. */
static char *next_word(char **rest)
{
	char *word = *rest, *end;

	while (is_blank(*word))
		word++;
	if (*word == '"') {
		word++;
		end = strchr(word, '"');
		end = end ? end : word + strlen(word);
	} else {
		end = word;
		while (*end && !is_blank(*end))
			end++;
	}
	*rest = *end ? end + 1 : end;
	*end = '\0';
	return word;
}

static char *unquote(char *value)
{
	size_t len;

	while (is_blank(*value))
		value++;
	len = strlen(value);
	if (*value == '"' && len > 1 && value[len - 1] == '"') {
		value[len - 1] = '\0';
		value++;
	}
	return value;
}

/* ---- probing ---- */

int vmimg_vmdk_descriptor_probe(const uint8_t *text, size_t len)
{
	char copy[1024];
	char *rest = copy, *line;
	bool version = false;

	if (len > 3 && !memcmp(text, "\xef\xbb\xbf", 3)) {
		text += 3;
		len -= 3;
	}
	len = (size_t)vmimg_min(len, sizeof(copy) - 1);
	memcpy(copy, text, len);
	copy[len] = '\0';
	while ((line = next_line(&rest))) {
		if (!strncasecmp(line, signature, sizeof(signature) - 1))
			return 95;
		if (!strncasecmp(line, "version", 7) && strchr(line, '='))
			version = true;
		else if (version && !strncasecmp(line, "createType", 10))
			return 70;
		else if (version && !strncasecmp(line, "CID", 3) && strchr(line, '='))
			return 60;
		else if (*line && *line != '#' && !version)
			return 0;
	}
	return 0;
}

/* ---- extents ---- */

static const struct {
	const char *word;
	enum vmdk_extent_type type;
} types[] = {
	{ "FLAT", VMDK_FLAT },
	{ "SPARSE", VMDK_SPARSE },
	{ "ZERO", VMDK_ZERO },
	{ "VMFS", VMDK_FLAT },
	{ "VMFSSPARSE", VMDK_VMFSSPARSE },
	{ "VMFSRDM", VMDK_FLAT },
	{ "VMFSRAW", VMDK_FLAT },
	{ "SESPARSE", VMDK_SESPARSE },
};

static bool parse_access(const char *line, enum vmdk_access *access)
{
	static const char *const words[] = { "RW", "RDONLY", "NOACCESS" };

	for (unsigned i = 0; i < VMIMG_ARRAY_LEN(words); i++) {
		size_t len = strlen(words[i]);

		if (!strncasecmp(line, words[i], len) && is_blank(line[len])) {
			*access = (enum vmdk_access)i;
			return true;
		}
	}
	return false;
}

/* A decimal number of sectors whose bytes are no more than a disk may have. */
static int parse_sectors(
	const char *word, const char *what, uint64_t *sectors, struct vmimg_error *err)
{
	char shown[60];
	char *end;

	errno = 0;
	if (isdigit((unsigned char)*word)) {
		*sectors = strtoull(word, &end, 10);
		if (!*end && !errno && *sectors <= VMIMG_MAX_DISK / VMDK_SECTOR)
			return 0;
	}
	return vmimg_fail(err, VMIMG_ECORRUPT, "descriptor: an extent's %s is '%s', not a number",
		what, vmimg_escape(shown, sizeof(shown), word, strlen(word)));
}

static int parse_type(struct vmdk_line *line, const char *word, struct vmimg_error *err)
{
	char shown[60];

	for (size_t i = 0; i < VMIMG_ARRAY_LEN(types); i++)
		if (!strcasecmp(types[i].word, word)) {
			line->word = types[i].word;
			line->type = types[i].type;
			return 0;
		}
	return vmimg_fail(err, VMIMG_EUNSUPPORTED, "descriptor: extent type '%s' is not known",
		vmimg_escape(shown, sizeof(shown), word, strlen(word)));
}

/* text is behind the access word. */
static int add_extent(
	struct vmdk_descriptor *d, enum vmdk_access access, char *text, struct vmimg_error *err)
{
	struct vmdk_line *line;
	const char *name, *offset;

	if (d->line_count == VMDK_MAX_EXTENTS)
		return vmimg_fail(
			err, VMIMG_ELIMIT, "descriptor: more than %d extents", VMDK_MAX_EXTENTS);
	if (vmimg_grow_array(&d->lines, &d->line_cap, d->line_count + 1, sizeof(*line), err))
		return -1;
	line = &d->lines[d->line_count];
	line->access = access;
	if (parse_sectors(next_word(&text), "size", &line->sectors, err) ||
		parse_type(line, next_word(&text), err))
		return -1;
	name = next_word(&text);
	offset = next_word(&text);
	if (*offset && line->type == VMDK_FLAT &&
		parse_sectors(offset, "offset", &line->offset, err))
		return -1;
	if (!*name && line->type != VMDK_ZERO)
		return vmimg_fail(err, VMIMG_ECORRUPT, "descriptor: extent %zu has no file name",
			d->line_count);
	if (line->type != VMDK_ZERO && !(line->name = vmimg_strdup(name, err)))
		return -1;
	d->line_count++;
	return 0;
}

/* ---- keys ---- */

static int add_ddb(
	struct vmdk_descriptor *d, const char *key, const char *value, struct vmimg_error *err)
{
	struct vmdk_pair *pair;

	if (vmimg_grow_array(&d->ddb, &d->ddb_cap, d->ddb_count + 1, sizeof(*pair), err))
		return -1;
	pair = &d->ddb[d->ddb_count++];
	pair->key = vmimg_strdup(key, err);
	pair->value = vmimg_strdup(value, err);
	return pair->key && pair->value ? 0 : -1;
}

static int set_text(char **to, const char *value, struct vmimg_error *err)
{
	free(*to);
	*to = vmimg_strdup(value, err);
	return *to ? 0 : -1;
}

static int parse_hex(const char *key, const char *value, uint32_t *to, struct vmimg_error *err)
{
	char shown[60];
	unsigned long read;
	char *end;

	errno = 0;
	read = strtoul(value, &end, 16);
	if (end == value || *end || errno || read > UINT32_MAX || *value == '-')
		return vmimg_fail(err, VMIMG_ECORRUPT,
			"descriptor: %s is '%s', not a number of 32 bits", key,
			vmimg_escape(shown, sizeof(shown), value, strlen(value)));
	*to = (uint32_t)read;
	return 0;
}

static int add_key(
	struct vmdk_descriptor *d, const char *key, const char *value, struct vmimg_error *err)
{
	if (!strncasecmp(key, "ddb.", 4))
		return add_ddb(d, key, value, err);
	if (!strcasecmp(key, "version"))
		d->version = (uint32_t)strtoul(value, NULL, 10);
	if (!strcasecmp(key, "createType"))
		return set_text(&d->create_type, value, err);
	if (!strcasecmp(key, "encoding"))
		return set_text(&d->encoding, value, err);
	if (!strcasecmp(key, "parentFileNameHint"))
		return set_text(&d->parent_hint, value, err);
	if (!strcasecmp(key, "changeTrackPath"))
		return set_text(&d->track_path, value, err);
	if (!strcasecmp(key, "parentCID"))
		return parse_hex("parentCID", value, &d->parent_cid, err);
	if (strcasecmp(key, "CID"))
		return 0;
	d->has_cid = true;
	return parse_hex("CID", value, &d->cid, err);
}

static int parse_line(struct vmdk_descriptor *d, char *line, struct vmimg_error *err)
{
	enum vmdk_access access;
	char *equals, *end;

	if (*line == '#' || !*line)
		return 0;
	if (parse_access(line, &access))
		return add_extent(d, access, line + strcspn(line, " \t\v\f"), err);
	equals = strchr(line, '=');
	if (!equals) {
		d->passed_over++;
		return 0;
	}
	for (end = equals; end > line && is_blank(end[-1]);)
		end--;
	*end = '\0';
	d->passed_over += strpbrk(line, " \t\v\f") != NULL;
	return add_key(d, line, unquote(equals + 1), err);
}

/* ---- encodings ---- */

static int convert(const char *encoding, char **text, bool *known, struct vmimg_error *err)
{
	char *made;

	if (!*text)
		return 0;
	made = vmimg_vmdk_to_utf8(encoding, *text, known, err);
	if (!made)
		return -1;
	free(*text);
	*text = made;
	return 0;
}

/* The encoding may be stated behind what it applies to. */
static int convert_all(struct vmdk_descriptor *d, struct vmimg_error *err)
{
	const char *stated = vmimg_vmdk_ddb(d, "ddb.encoding");
	const char *encoding = d->encoding ? d->encoding : stated;
	bool known;

	for (size_t i = 0; encoding && i < d->line_count; i++)
		if (convert(encoding, &d->lines[i].name, &known, err))
			return -1;
	if (!encoding)
		return 0;
	return convert(encoding, &d->parent_hint, &known, err) ||
			convert(encoding, &d->track_path, &known, err)
		? -1
		: 0;
}

/* ---- the whole ---- */

int vmimg_vmdk_descriptor_parse(
	struct vmdk_descriptor *d, const char *text, size_t len, struct vmimg_error *err)
{
	VMIMG_AUTO(free) char *copy = vmimg_alloc_array(len + 1, 1, err);
	char *rest, *line;
	int failed = 0;

	if (!copy)
		return -1;
	memcpy(copy, text, len);
	memset(d, 0, sizeof(*d));
	d->parent_cid = VMDK_NO_PARENT;
	for (size_t i = 0; copy[i]; i++)
		d->foreign |= (copy[i] & 0x80) != 0;
	rest = strncmp(copy, "\xef\xbb\xbf", 3) ? copy : copy + 3;
	while (!failed && (line = next_line(&rest)))
		failed = parse_line(d, line, err);
	if (!failed && !convert_all(d, err))
		return 0;
	vmimg_vmdk_descriptor_done(d);
	return -1;
}

void vmimg_vmdk_descriptor_done(struct vmdk_descriptor *d)
{
	for (size_t i = 0; i < d->line_cap; i++) /* a last one may be half made */
		free(d->lines[i].name);
	for (size_t i = 0; i < d->ddb_count; i++) {
		free(d->ddb[i].key);
		free(d->ddb[i].value);
	}
	free(d->lines);
	free(d->ddb);
	free(d->create_type);
	free(d->encoding);
	free(d->parent_hint);
	free(d->track_path);
	memset(d, 0, sizeof(*d));
}

const char *vmimg_vmdk_ddb(const struct vmdk_descriptor *d, const char *key)
{
	for (size_t i = d->ddb_count; i-- > 0;)
		if (!strcasecmp(d->ddb[i].key, key))
			return d->ddb[i].value;
	return NULL;
}
