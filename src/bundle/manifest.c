/* SPDX-License-Identifier: Apache-2.0 */
/* A line at a time; names may hold anything but the line's own end. */
#include "bundle/manifest.h"
#include <ctype.h>
#include <stdio.h>
#include <string.h>
#include <strings.h>
#include "util/limits.h"
#include "util/num.h"
#include "util/text.h"

#define PIECE (1U << 20) /* bytes read at once for a digest */

static const struct {
	const char *word, *hash;
	size_t digits;
} hashes[] = { { "SHA1", "sha1", 40 }, { "SHA256", "sha256", 64 }, { "SHA512", "sha512", 128 },
	{ "SHA384", "sha384", 96 }, { "SHA224", "sha224", 56 }, { "SHA-1", "sha1", 40 },
	{ "SHA-256", "sha256", 64 }, { "SHA-512", "sha512", 128 }, { "MD5", "md5", 32 } };

static int fail_line(unsigned number, const char *why, struct vmimg_error *err)
{
	return vmimg_fail(err, VMIMG_ECORRUPT, "manifest, line %u: %s", number, why);
}

static const char *skip_blanks(const char *p, const char *end)
{
	while (p < end && isspace((unsigned char)*p))
		p++;
	return p;
}

/* The last ")" that an "=" follows: names may have brackets of their own. */
static const char *find_close(const char *p, const char *end)
{
	for (const char *q = end; q-- > p;)
		if (*q == ')') {
			const char *next = skip_blanks(q + 1, end);

			if (next < end && *next == '=')
				return q;
		}
	return NULL;
}

/* The hash whose word stands there; NULL: none that is known. */
static const char *find_hash(const char *word, size_t len, size_t *digits)
{
	for (size_t i = 0; i < VMIMG_ARRAY_LEN(hashes); i++)
		if (strlen(hashes[i].word) == len && !strncasecmp(hashes[i].word, word, len)) {
			*digits = hashes[i].digits;
			return hashes[i].hash;
		}
	return NULL;
}

/* Hexadecimal digits to the end, in lower case. A signature (digits = 0) has any even number. */
static const char *take_hex(struct vmimg_manifest *manifest, const char *p, const char *end,
	size_t digits, struct vmimg_error *err)
{
	size_t len = (size_t)(end - p);
	char *hex;

	if (!len || len % 2 || (digits && len != digits)) {
		vmimg_fail(err, VMIMG_ECORRUPT, "it has %zu digits of a digest", len);
		return NULL;
	}
	hex = vmimg_pool_alloc(&manifest->pool, len + 1, err);
	for (size_t i = 0; hex && i < len; i++) {
		hex[i] = (char)tolower((unsigned char)p[i]);
		if (!isxdigit((unsigned char)hex[i])) {
			vmimg_fail(err, VMIMG_ECORRUPT, "its digest is not hexadecimal");
			return NULL;
		}
	}
	return hex;
}

/* "WORD (name) = hex", without the line's end. */
static int take_line(struct vmimg_manifest *manifest, const char *p, const char *end,
	unsigned number, bool signature, struct vmimg_error *err)
{
	struct vmimg_manifest_line line = { .number = number };
	const char *open, *close, *word = p;
	size_t digits = 0;

	open = memchr(p, '(', (size_t)(end - p));
	close = open ? find_close(open, end) : NULL;
	if (!close)
		return fail_line(number, "it is not of the form SHA256(name)= digest", err);
	while (p < open && !isspace((unsigned char)*p))
		p++;
	line.hash = find_hash(word, (size_t)(p - word), &digits);
	if (!line.hash || skip_blanks(p, open) != open)
		return fail_line(number, "its digest is of no known kind", err);
	line.name = vmimg_pool_copy(&manifest->pool, open + 1, (size_t)(close - open - 1), err);
	p = skip_blanks(skip_blanks(close + 1, end) + 1, end);
	line.hex = line.name ? take_hex(manifest, p, end, signature ? 0 : digits, err) : NULL;
	if (!line.hex)
		return vmimg_within(err, "manifest, line %u", number);
	if (vmimg_grow_array(
		    &manifest->lines, &manifest->cap, manifest->count + 1, sizeof(line), err))
		return -1;
	manifest->lines[manifest->count++] = line;
	return 0;
}

int vmimg_manifest_parse(struct vmimg_manifest *manifest, const char *text, size_t len, bool one,
	struct vmimg_error *err)
{
	const char *p = text, *stop = text + len;

	if (len >= 3 && !memcmp(p, "\xef\xbb\xbf", 3))
		p += 3;
	for (unsigned number = 1; p < stop && *p; number++) { /* NULs at the end are padding */
		const char *line_end = memchr(p, '\n', (size_t)(stop - p));
		const char *next = line_end ? line_end + 1 : stop;
		const char *end = line_end ? line_end : stop, *nul;

		nul = memchr(p, 0, (size_t)(end - p));
		end = nul ? nul : end;
		p = skip_blanks(p, end);
		while (end > p && isspace((unsigned char)end[-1]))
			end--;
		if (p < end && take_line(manifest, p, end, number, one, err))
			return -1;
		p = next;
		manifest->end = (size_t)(p - text);
		if (one && manifest->count)
			break;
		if (manifest->count > VMIMG_MAX_OVF_ITEMS)
			return vmimg_fail(err, VMIMG_ELIMIT, "a manifest of more than %d lines",
				VMIMG_MAX_OVF_ITEMS);
	}
	return 0;
}

void vmimg_manifest_done(struct vmimg_manifest *manifest)
{
	vmimg_pool_done(&manifest->pool);
	free(manifest->lines);
	memset(manifest, 0, sizeof(*manifest));
}

const struct vmimg_manifest_line *vmimg_manifest_find(
	const struct vmimg_manifest *manifest, const char *name)
{
	for (size_t i = 0; i < manifest->count; i++)
		if (!strcmp(manifest->lines[i].name, name))
			return &manifest->lines[i];
	return NULL;
}

char *vmimg_manifest_line(
	const char *hash, const char *name, const char *hex, struct vmimg_error *err)
{
	const char *word = hash;
	char *line;

	for (size_t i = VMIMG_ARRAY_LEN(hashes); i-- > 0;)
		if (!strcmp(hashes[i].hash, hash))
			word = hashes[i].word;
	if (asprintf(&line, "%s(%s)= %s\n", word, name, hex) >= 0)
		return line;
	vmimg_fail_nomem(err);
	return NULL;
}

char *vmimg_manifest_sign(struct vmimg_signer *signer, const char *hash, const char *name,
	const char *manifest, size_t len, const char *certificate, size_t *text_len,
	struct vmimg_error *err)
{
	size_t size = vmimg_signer_size(signer);
	VMIMG_AUTO(free) uint8_t *signature = vmimg_alloc_array(1, size, err);
	VMIMG_AUTO(free) char *hex = vmimg_alloc_array(2, size + 1, err);
	VMIMG_AUTO(free) char *line = NULL;
	char *text;
	int made;

	if (!signature || !hex || vmimg_signer_sign(signer, manifest, len, signature, err))
		return NULL;
	line = vmimg_manifest_line(hash, name, vmimg_hex(hex, signature, size), err);
	if (!line)
		return NULL;
	made = asprintf(&text, "%s%s", line, certificate);
	if (made < 0) {
		vmimg_fail_nomem(err);
		return NULL;
	}
	*text_len = (size_t)made;
	return text;
}

int vmimg_manifest_digest(struct vmimg_io *io, const char *hash, char hex[2 * VMIMG_HASH_MAX + 1],
	struct vmimg_error *err)
{
	VMIMG_AUTO(vmimg_hash_free) struct vmimg_hash *state = vmimg_hash_new(hash, err);
	VMIMG_AUTO(free) uint8_t *buf = state ? vmimg_alloc_buffer(PIECE, err) : NULL;
	uint64_t size = vmimg_io_size(io);
	uint8_t digest[VMIMG_HASH_MAX];

	if (!buf)
		return -1;
	for (uint64_t at = 0; at < size; at += vmimg_min(size - at, PIECE)) {
		size_t len = (size_t)vmimg_min(size - at, PIECE);

		if (vmimg_io_pread(io, buf, len, at, err))
			return -1;
		vmimg_hash_update(state, buf, len);
	}
	vmimg_hex(hex, digest, vmimg_hash_final(state, digest));
	return 0;
}
