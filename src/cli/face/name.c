/* SPDX-License-Identifier: Apache-2.0 */
/* Both kinds of description become one list of keys, of which few are taken. */
#include "cli/face/name.h"
#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include "disk/options.h"
#include "util/auto.h"

#define KEY_MAX 120

static int flatten(const json_t *object, const char *prefix, struct vmimg_options *list,
	struct vmimg_error *err);

/* A number has no business in what is taken, and is told by its key. */
static int flatten_value(
	const json_t *value, const char *key, struct vmimg_options *list, struct vmimg_error *err)
{
	const char *text = json_string_value(value);

	if (json_is_object(value))
		return flatten(value, key, list, err);
	if (json_is_boolean(value))
		text = json_is_true(value) ? "on" : "off";
	if (json_is_null(value))
		text = "";
	return vmimg_options_set(list, key, text ? text : "?", err);
}

/* {"file": {"filename": "x"}} and {"file.filename": "x"} are the same. */
static int flatten(const json_t *object, const char *prefix, struct vmimg_options *list,
	struct vmimg_error *err)
{
	json_t *value;
	const char *key;

	json_object_foreach((json_t *)(uintptr_t)object, key, value)
	{
		char path[KEY_MAX];

		if ((size_t)snprintf(path, sizeof(path), "%s%s%s", prefix, *prefix ? "." : "",
			    key) >= sizeof(path))
			return vmimg_fail(
				err, VMIMG_EINVAL, "Could not parse the JSON options: a long key");
		if (flatten_value(value, path, list, err))
			return -1;
	}
	return 0;
}

/* QEMU takes strings in single quotes as well, which JSON does not. The caller's; NULL: no memory. */
static char *requote(const char *text)
{
	char *out = malloc(2 * strlen(text) + 1), *to = out, quote = 0;

	for (; out && *text; text++) {
		char c = *text;

		if (quote && c == '\\' && text[1]) {
			if (text[1] != '\'')
				*to++ = c;
			*to++ = *++text;
			continue;
		}
		if (quote == '\'' && c == '"')
			*to++ = '\\';
		if (quote ? c == quote : c == '\'' || c == '"') {
			quote = quote ? 0 : c;
			c = '"';
		}
		*to++ = c;
	}
	if (out)
		*to = '\0';
	return out;
}

static int parse_json(const char *text, struct vmimg_options *list, struct vmimg_error *err)
{
	VMIMG_AUTO(free) char *strict = requote(text);
	json_error_t why;
	json_t *root;
	int failed;

	if (!strict)
		return vmimg_fail_nomem(err);
	root = json_loads(strict, JSON_REJECT_DUPLICATES, &why);
	if (!json_is_object(root)) {
		json_decref(root);
		return vmimg_fail(err, VMIMG_EINVAL, "Could not parse the JSON options: %.80s",
			root ? "not an object" : why.text);
	}
	failed = flatten(root, "", list, err);
	json_decref(root);
	return failed;
}

/* What says how a local file is opened, which is decided here in any case. */
static bool is_harmless(const char *key)
{
	static const char *const keys[] = { "node-name", "read-only", "auto-read-only", "discard",
		"detect-zeroes", "force-share", "locking", "aio", "encrypt.format", "lazy-refcounts",
		"pass-discard-request", "pass-discard-snapshot", "pass-discard-other",
		"discard-no-unref", "overlap-check", "cache-size", "l2-cache-size",
		"l2-cache-entry-size", "refcount-cache-size", "cache-clean-interval" };

	if (!strncmp(key, "file.", 5))
		key += 5;
	if (!strncmp(key, "cache.", 6) || !strncmp(key, "overlap-check.", 14))
		return true;
	for (size_t i = 0; i < sizeof(keys) / sizeof(keys[0]); i++)
		if (!strcmp(key, keys[i]))
			return true;
	return false;
}

/* Of the image, or of one below it. */
static bool is_secret(const char *key)
{
	while (!strncmp(key, "backing.", 8))
		key += 8;
	return !strcmp(key, "encrypt.key-secret") || !strcmp(key, "key-secret");
}

static bool is_file_driver(const char *name)
{
	return !strcmp(name, "file") || !strcmp(name, "host_device");
}

static int take_key(struct face_image *image, const char *key, const char *value, const char **path,
	struct vmimg_error *err)
{
	if (!strcmp(key, "filename") || !strcmp(key, "file.filename"))
		*path = value;
	else if (!strcmp(key, "file.driver") && !is_file_driver(value))
		return vmimg_fail(err, VMIMG_EUNSUPPORTED, "Unknown protocol '%.40s'", value);
	else if (!strcmp(key, "backing") && !*value)
		image->bare = true;
	else if (!strcmp(key, "driver"))
		image->format = vmimg_strdup(is_file_driver(value) ? "raw" : value, err);
	else if (is_secret(key))
		return face_words_add(&image->secrets, value, err);
	else if (strcmp(key, "file.driver") && !is_harmless(key))
		return vmimg_fail(err, VMIMG_EUNSUPPORTED,
			"'%.60s' is not taken: name a local file and its driver", key);
	return 0;
}

/* Words that begin with a dash are options to the native verbs. */
static char *operand(const char *path, struct vmimg_error *err)
{
	char *text;

	if (*path != '-')
		return vmimg_strdup(path, err);
	if (asprintf(&text, "./%s", path) >= 0)
		return text;
	vmimg_fail_nomem(err);
	return NULL;
}

/* Of a key that is given more than once, the last value counts. */
static bool is_last(const struct vmimg_options *list, size_t index)
{
	for (size_t i = index + 1; i < list->count; i++)
		if (!strcmp(list->items[i].key, list->items[index].key))
			return false;
	return true;
}

static int take_options(
	const struct vmimg_options *list, struct face_image *image, struct vmimg_error *err)
{
	const char *path = NULL;

	for (size_t i = 0; i < list->count; i++)
		if (is_last(list, i) && take_key(image, list->items[i].key, list->items[i].value, &path, err))
			return -1;
	if (!path || !*path)
		return vmimg_fail(err, VMIMG_EINVAL, "a file name is missing");
	image->path = operand(path, err);
	return image->path ? 0 : -1;
}

static int take_path(const char *word, struct face_image *image, struct vmimg_error *err)
{
	size_t len = strcspn(word, ":/");

	if (!strncmp(word, "file:", 5))
		word += 5;
	else if (len && word[len] == ':')
		return vmimg_fail(
			err, VMIMG_EUNSUPPORTED, "Unknown protocol '%.*s'", (int)len, word);
	if (!*word)
		return vmimg_fail(
			err, VMIMG_EINVAL, "The 'file' block driver requires a file name");
	image->path = operand(word, err);
	return image->path ? 0 : -1;
}

static int take(const char *word, bool described, struct face_image *image, struct vmimg_error *err)
{
	struct vmimg_options list = { 0 };
	bool json = !described && !strncmp(word, "json:", 5);
	int failed;

	if (!described && !json)
		return take_path(word, image, err);
	failed = (json ? parse_json(word + 5, &list, err) : vmimg_options_add(&list, word, err)) ||
		take_options(&list, image, err);
	vmimg_options_done(&list);
	return failed ? -1 : 0;
}

int face_name(const char *word, bool described, struct face_image *image, struct vmimg_error *err)
{
	*image = (struct face_image){ 0 };
	if (!take(word, described, image, err))
		return 0;
	face_image_done(image);
	return vmimg_within(err, "Could not open '%.100s'", word);
}

void face_image_done(struct face_image *image)
{
	free(image->path);
	free(image->format);
	face_words_done(&image->secrets);
	*image = (struct face_image){ 0 };
}
