/* SPDX-License-Identifier: Apache-2.0 */
/* Secrets are few: they are kept in the order they came in, and looked for one by one. */
#include "cli/secrets.h"
#include <errno.h>
#include <fcntl.h>
#include <stdbool.h>
#include <string.h>
#include <unistd.h>
#include "disk/options.h"
#include "util/auto.h"

#define MAX_SECRETS 64
#define MAX_BYTES   65536

struct secret {
	char *id; /* NULL: a file, given as such */
	struct vmimg_secret secret;
	bool target;
};

struct cli_secrets {
	struct secret items[MAX_SECRETS];
	size_t count;
	const char *wanted[MAX_SECRETS]; /* ids: words of the command line */
	size_t wanted_count;
	struct vmimg_secret source[MAX_SECRETS];
};

static void wipe(char *bytes, size_t len)
{
	if (bytes)
		explicit_bzero(bytes, len);
	free(bytes);
}

void cli_secrets_free(struct cli_secrets *secrets)
{
	for (size_t i = 0; secrets && i < secrets->count; i++) {
		struct vmimg_secret *secret = &secrets->items[i].secret;

		wipe((char *)(uintptr_t)secret->bytes, secret->len);
		free(secrets->items[i].id);
	}
	free(secrets);
}

/* The next free place. */
static struct secret *add(void *to, struct vmimg_error *err)
{
	struct cli_secrets **secrets = to;

	if (!*secrets && !(*secrets = vmimg_new(struct cli_secrets, err)))
		return NULL;
	if ((*secrets)->count < MAX_SECRETS)
		return &(*secrets)->items[(*secrets)->count++];
	vmimg_fail(err, VMIMG_ELIMIT, "more than %d secrets", MAX_SECRETS);
	return NULL;
}

/* ---- where they come from ---- */

/* All of it; at most MAX_BYTES. */
static int read_all(int fd, char *bytes, size_t *len, struct vmimg_error *err)
{
	size_t have = 0;
	ssize_t got;

	while (have <= MAX_BYTES && (got = read(fd, bytes + have, MAX_BYTES + 1 - have)) != 0) {
		if (got < 0 && errno != EINTR)
			return vmimg_fail_sys(err, errno, "it cannot be read");
		have += got > 0 ? (size_t)got : 0;
	}
	*len = have;
	return have > MAX_BYTES
		? vmimg_fail(err, VMIMG_ELIMIT, "it is longer than %d bytes", MAX_BYTES)
		: 0;
}

static int read_file(const char *path, struct vmimg_secret *secret, struct vmimg_error *err)
{
	char *bytes = vmimg_alloc_array(MAX_BYTES + 1, 1, err);
	int fd = bytes ? open(path, O_RDONLY | O_CLOEXEC) : -1, failed;

	if (!bytes)
		return -1;
	failed = fd < 0 ? vmimg_fail_sys(err, errno, "it cannot be opened")
			: read_all(fd, bytes, &secret->len, err);
	if (fd >= 0)
		close(fd);
	if (failed) {
		wipe(bytes, MAX_BYTES + 1);
		return vmimg_within(err, "secret file %.100s", path);
	}
	secret->bytes = bytes;
	return 0;
}

static int digit(char c)
{
	static const char digits[] =
		"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
	const char *found = c ? strchr(digits, c) : NULL;

	return found ? (int)(found - digits) : -1;
}

/* Base64 (RFC 4648 4) in place; white space is skipped, padding may be missing. */
static int decode_base64(struct vmimg_secret *secret, struct vmimg_error *err)
{
	char *bytes = (char *)(uintptr_t)secret->bytes;
	unsigned held = 0, bits = 0;
	size_t to = 0, end = secret->len;

	while (end && strchr("= \t\r\n", bytes[end - 1]))
		end--;
	for (size_t i = 0; i < end; i++) {
		int value = digit(bytes[i]);

		if (bytes[i] && strchr(" \t\r\n", bytes[i]))
			continue;
		if (value < 0)
			return vmimg_fail(err, VMIMG_EINVAL, "the secret is no base64");
		held = held << 6 | (unsigned)value;
		bits += 6;
		if (bits >= 8)
			bytes[to++] = (char)(held >> (bits -= 8));
		held &= (1U << bits) - 1;
	}
	explicit_bzero(bytes + to, secret->len - to);
	secret->len = to;
	return 0;
}

static int take_content(
	const struct vmimg_options *keys, struct vmimg_secret *secret, struct vmimg_error *err)
{
	const char *data = vmimg_options_text(keys, "data", NULL);
	const char *file = vmimg_options_text(keys, "file", NULL);
	const char *format = vmimg_options_text(keys, "format", "raw");

	if (!data == !file)
		return vmimg_fail(err, VMIMG_EINVAL, "a secret has either data or a file");
	if (strcmp(format, "raw") != 0 && strcmp(format, "base64") != 0)
		return vmimg_fail(err, VMIMG_EINVAL,
			"a secret's format is raw or base64, not '%.40s'", format);
	if (file && read_file(file, secret, err))
		return -1;
	if (data && !(secret->bytes = vmimg_strdup(data, err)))
		return -1;
	secret->len = data ? strlen(data) : secret->len;
	return strcmp(format, "raw") ? decode_base64(secret, err) : 0;
}

static int check_keys(const struct vmimg_options *keys, struct vmimg_error *err)
{
	static const char *const known[] = { "id", "data", "file", "format", "qom-type" };
	const char *type = vmimg_options_text(keys, "qom-type", NULL);

	for (size_t i = 0; i < keys->count; i++) {
		const char *key = keys->items[i].key;
		bool good = !i && !type && !strcmp(key, "secret");

		for (size_t k = 0; k < sizeof(known) / sizeof(known[0]); k++)
			good = good || !strcmp(key, known[k]);
		if (!good)
			return vmimg_fail(err, VMIMG_EUNSUPPORTED,
				"of objects only secret,id=ID,data=TEXT or "
				"file=FILE[,format=base64] "
				"is taken, not '%.40s'",
				key);
	}
	if (!vmimg_options_text(keys, "id", NULL))
		return vmimg_fail(err, VMIMG_EINVAL, "Parameter 'id' is missing");
	return 0;
}

/* ---- options ---- */

int cli_set_object(void *to, const char *value, struct vmimg_error *err)
{
	struct vmimg_options keys = { 0 };
	struct secret *secret = NULL;
	int failed = vmimg_options_add(&keys, value, err) || check_keys(&keys, err) ||
		!(secret = add(to, err)) ||
		!(secret->id = vmimg_strdup(vmimg_options_text(&keys, "id", ""), err)) ||
		take_content(&keys, &secret->secret, err);

	for (size_t i = 0; i < keys.count; i++)
		explicit_bzero(keys.items[i].value, strlen(keys.items[i].value));
	vmimg_options_done(&keys);
	return failed ? -1 : 0;
}

static int add_file(void *to, const char *path, bool target, struct vmimg_error *err)
{
	struct secret *secret = add(to, err);

	if (!secret)
		return -1;
	secret->target = target;
	return read_file(path, &secret->secret, err);
}

int cli_set_secret_file(void *to, const char *value, struct vmimg_error *err)
{
	return add_file(to, value, false, err);
}

int cli_set_target_secret_file(void *to, const char *value, struct vmimg_error *err)
{
	return add_file(to, value, true, err);
}

int cli_set_key_secret(void *to, const char *value, struct vmimg_error *err)
{
	struct cli_secrets **secrets = to;

	if (!*secrets && !(*secrets = vmimg_new(struct cli_secrets, err)))
		return -1;
	if ((*secrets)->wanted_count == MAX_SECRETS)
		return vmimg_fail(err, VMIMG_ELIMIT, "more than %d secrets", MAX_SECRETS);
	(*secrets)->wanted[(*secrets)->wanted_count++] = value;
	return 0;
}

/* ---- asking ---- */

static struct secret *find(struct cli_secrets *secrets, const char *id, struct vmimg_error *err)
{
	for (size_t i = 0; secrets && i < secrets->count; i++)
		if (secrets->items[i].id && !strcmp(secrets->items[i].id, id))
			return &secrets->items[i];
	vmimg_fail(err, VMIMG_EINVAL, "No secret with id '%.80s'", id);
	return NULL;
}

const struct vmimg_secret *cli_secrets_find(
	struct cli_secrets *secrets, const char *id, struct vmimg_error *err)
{
	struct secret *found = find(secrets, id, err);

	return found ? &found->secret : NULL;
}

int cli_secrets_set_target(struct cli_secrets *secrets, const char *id, struct vmimg_error *err)
{
	struct secret *found = id ? find(secrets, id, err) : NULL;

	if (found)
		found->target = true;
	return id && !found ? -1 : 0;
}

const struct vmimg_secret *cli_secrets_target(struct cli_secrets *secrets)
{
	for (size_t i = 0; secrets && i < secrets->count; i++)
		if (secrets->items[i].target)
			return &secrets->items[i].secret;
	return NULL;
}

int cli_secrets_source(struct cli_secrets *secrets, const struct vmimg_secret **list, size_t *count,
	struct vmimg_error *err)
{
	size_t n = 0;

	for (size_t i = 0; secrets && i < secrets->wanted_count; i++) {
		const struct vmimg_secret *found =
			cli_secrets_find(secrets, secrets->wanted[i], err);

		if (!found)
			return -1;
		secrets->source[n++] = *found;
	}
	for (size_t i = 0; secrets && !secrets->wanted_count && i < secrets->count; i++)
		if (!secrets->items[i].target)
			secrets->source[n++] = secrets->items[i].secret;
	*list = secrets ? secrets->source : NULL;
	*count = n;
	return 0;
}
