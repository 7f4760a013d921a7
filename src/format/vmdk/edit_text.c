/* SPDX-License-Identifier: Apache-2.0 */
/* A descriptor's text with another size in it, or other keys; all else stays as it was, comments
 * included. */
#include <ctype.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>
#include <strings.h>
#include "format/vmdk/edit.h"
#include "util/num.h"

/* Bytes of the line's access word and the blanks around it; 0: it describes no extent. */
static size_t extent_start(const char *line)
{
	static const char *const words[] = { "RW", "RDONLY", "NOACCESS" };
	size_t blanks = strspn(line, " \t"), len;

	for (size_t i = 0; i < VMIMG_ARRAY_LEN(words); i++) {
		len = strlen(words[i]);
		if (!strncasecmp(line + blanks, words[i], len) &&
			(line[blanks + len] == ' ' || line[blanks + len] == '\t'))
			return blanks + len + strspn(line + blanks + len, " \t");
	}
	return 0;
}

static uint64_t number_of(const struct vmdk_descriptor *d, const char *key)
{
	const char *value = vmimg_vmdk_ddb(d, key);

	return value && strlen(value) < 10 ? strtoull(value, NULL, 10) : 0;
}

/* As many cylinders as the size has with the same heads and sectors; 0: they are not known. */
static uint64_t cylinders_for(const struct vmdk_descriptor *d, uint64_t sectors)
{
	uint64_t heads = number_of(d, "ddb.geometry.heads");
	uint64_t track = number_of(d, "ddb.geometry.sectors"), cylinders;

	if (!heads || !track)
		return 0;
	cylinders = vmimg_max(sectors / (heads * track), 1);
	return heads == 16 && track == 63 ? vmimg_min(cylinders, 16383) : cylinders;
}

/* ---- sizes ---- */

struct resized {
	FILE *out;
	const struct vmdk_new_lines *lines;
	uint64_t cylinders; /* 0: they are not known */
	size_t met;         /* lines of extents so far */
};

static void print_added(const struct resized *r, bool with_return)
{
	for (size_t i = 0; i < r->lines->added_count; i++) {
		const struct vmdk_line *line = &r->lines->added[i];

		fprintf(r->out, "\nRW %" PRIu64 " %s \"%s\"%s%s", line->sectors, line->word,
			line->name, line->type == VMDK_FLAT ? " 0" : "", with_return ? "\r" : "");
	}
}

/* The line of an extent, whose size begins at start. False: it goes. */
static bool print_extent(struct resized *r, const char *line, size_t start, size_t len)
{
	size_t index = r->met++, digits = strspn(line + start, "0123456789");

	if (index >= r->lines->kept)
		return false;
	if (index + 1 < r->lines->kept) {
		fwrite(line, 1, len, r->out);
		return true;
	}
	fprintf(r->out, "%.*s%" PRIu64 "%.*s", (int)start, line, r->lines->last,
		(int)(len - start - digits), line + start + digits);
	print_added(r, line[len - 1] == '\r');
	return true;
}

/* A line of len bytes, its end not counted. False: it goes. */
static bool print_line(struct resized *r, const char *line, size_t len)
{
	static const char key[] = "ddb.geometry.cylinders";
	size_t start = extent_start(line);

	if (start && start < len)
		return print_extent(r, line, start, len);
	if (r->cylinders && len > sizeof(key) && !strncasecmp(line, key, sizeof(key) - 1))
		fprintf(r->out, "%s = \"%" PRIu64 "\"%s", key, r->cylinders,
			line[len - 1] == '\r' ? "\r" : "");
	else
		fwrite(line, 1, len, r->out);
	return true;
}

static char *print_resized(const struct vmdk_descriptor *d, const char *text,
	const struct vmdk_new_lines *lines, struct vmimg_error *err)
{
	struct resized r = { .lines = lines, .cylinders = cylinders_for(d, lines->sectors) };
	char *result = NULL;
	size_t size;

	r.out = open_memstream(&result, &size);
	while (r.out && *text) {
		size_t len = strcspn(text, "\n");
		bool stays = print_line(&r, text, len);

		text += len;
		if (*text) {
			if (stays)
				fputc('\n', r.out);
			text++;
		}
	}
	if (r.out && !fclose(r.out) && result)
		return result;
	free(result);
	vmimg_fail_nomem(err);
	return NULL;
}

/* Whether a reader finds in it the extents that there shall be: it may be written in a way that is
 * not understood here. */
static bool says(const char *text, const struct vmdk_new_lines *lines)
{
	struct vmdk_descriptor d;
	struct vmimg_error unused;
	uint64_t sectors = 0;
	bool right;

	if (vmimg_vmdk_descriptor_parse(&d, text, strlen(text), &unused))
		return false;
	for (size_t i = 0; i < d.line_count; i++)
		sectors += d.lines[i].sectors;
	right = sectors == lines->sectors && d.line_count == lines->kept + lines->added_count;
	vmimg_vmdk_descriptor_done(&d);
	return right;
}

char *vmimg_vmdk_resized_text(const struct vmdk_descriptor *d, const char *text,
	const struct vmdk_new_lines *lines, struct vmimg_error *err)
{
	char *now = print_resized(d, text, lines, err);

	if (!now || says(now, lines))
		return now;
	free(now);
	vmimg_fail(err, VMIMG_EUNSUPPORTED,
		"the descriptor is written in a way in which sizes cannot be changed: convert it");
	return NULL;
}

/* ---- keys ---- */

/* The key that the line, of len bytes, gives a value to; keys it does not name do not count. */
static const struct vmdk_key *find_key(
	const char *line, size_t len, const struct vmdk_key *keys, size_t count)
{
	size_t blanks = strspn(line, " \t"), end = blanks;

	while (end < len && !strchr("= \t", line[end]))
		end++;
	if (end + strspn(line + end, " \t") >= len || line[end + strspn(line + end, " \t")] != '=')
		return NULL;
	for (size_t i = 0; i < count; i++)
		if (strlen(keys[i].key) == end - blanks &&
			!strncasecmp(keys[i].key, line + blanks, end - blanks))
			return &keys[i];
	return NULL;
}

/* In the manner of VMware: keys of the data base have blanks around the sign. */
static void print_key(FILE *out, const struct vmdk_key *key, const char *line_end)
{
	const char *quote = key->bare ? "" : "\"";
	bool ddb = !strncasecmp(key->key, "ddb.", 4);

	if (key->value)
		fprintf(out, "%s%s%s%s%s%s", key->key, ddb ? " = " : "=", quote, key->value, quote,
			line_end);
}

/* The keys that the text lacks, of the head or of the data base. */
static void print_missing(FILE *out, const char *text, const struct vmdk_key *keys, size_t count,
	bool ddb, const char *line_end)
{
	for (size_t i = 0; i < count; i++) {
		bool found = !strncasecmp(keys[i].key, "ddb.", 4) != ddb;

		for (const char *line = text; !found && *line;) {
			size_t len = strcspn(line, "\n");

			found = find_key(line, len, &keys[i], 1);
			line += len + (line[len] == '\n');
		}
		if (!found)
			print_key(out, &keys[i], line_end);
	}
}

static void print_keyed(FILE *out, const char *text, const struct vmdk_key *keys, size_t count,
	const char *line_end)
{
	static const struct vmdk_key parent = { "parentCID", NULL, true };
	const char *line = text;
	bool put = false, at_start = true;

	while (*line) {
		size_t len = strcspn(line, "\n"), whole = len + (line[len] == '\n');
		const struct vmdk_key *key = find_key(line, len, keys, count);

		if (!put && extent_start(line) && extent_start(line) < len) {
			print_missing(out, text, keys, count, false, line_end);
			put = true;
		}
		if (key)
			print_key(out, key, line_end);
		else
			fwrite(line, 1, whole, out);
		at_start = key || line[len] == '\n';
		if (!put && find_key(line, len, &parent, 1)) {
			print_missing(out, text, keys, count, false, line_end);
			put = true;
		}
		line += whole;
	}
	if (!at_start)
		fputs(line_end, out);
	if (!put)
		print_missing(out, text, keys, count, false, line_end);
	print_missing(out, text, keys, count, true, line_end);
}

char *vmimg_vmdk_keyed_text(
	const char *text, const struct vmdk_key *keys, size_t count, struct vmimg_error *err)
{
	char *result = NULL;
	size_t size;
	FILE *out = open_memstream(&result, &size);

	if (out) {
		print_keyed(out, text, keys, count, strstr(text, "\r\n") ? "\r\n" : "\n");
		if (!fclose(out) && result)
			return result;
	}
	free(result);
	vmimg_fail_nomem(err);
	return NULL;
}
