/* SPDX-License-Identifier: Apache-2.0 */
/* Words "key=value" to numbers of bytes (POSIX dd, and what GNU dd adds). */
#include "cli/dd_operands.h"
#include <inttypes.h>
#include <string.h>
#include "util/num.h"
#include "util/text.h"

#define USUAL_BLOCK 512
#define BLOCK_MAX   INT32_MAX

struct number {
	uint64_t value;
	bool given, bytes; /* bytes: it counts bytes, not blocks */
};

struct reading {
	struct cli_dd *dd;
	bool few; /* the operands that qemu-img has */
	struct number block, in_block, out_block; /* the first, when given, is all of them */
	struct number count, skip, seek;
	bool count_bytes, skip_bytes, seek_bytes; /* by flags */
};

/* ---- numbers ---- */

/* What a suffix stands for; 0: it is none. "b" is 512 bytes to dd and one to qemu-img. */
static uint64_t unit_of(const char *suffix, size_t len)
{
	static const char letters[] = "kMGTPE";
	const char *letter = len ? strchr(letters, *suffix == 'K' ? 'k' : *suffix) : NULL;
	uint64_t thousand = len == 2 && suffix[1] == 'B' ? 1000 : 1024, unit = thousand;

	if (!len || (len == 1 && (*suffix == 'B' || *suffix == 'c')))
		return 1;
	if (len == 1 && *suffix == 'w')
		return 2;
	if (!letter || (len > 1 && thousand == 1024 && (len != 3 || memcmp(suffix + 1, "iB", 2))))
		return 0;
	for (ptrdiff_t i = letter - letters; i; i--)
		unit *= thousand;
	return unit;
}

/* "4", "64K", "2x512": a product of numbers with suffixes. */
static bool read_product(const char *text, uint64_t *value)
{
	uint64_t factor, unit;

	for (*value = 1;; text++) {
		size_t digits = strspn(text, "0123456789");
		size_t suffix = strcspn(text + digits, "x");

		unit = unit_of(text + digits, suffix);
		if (!digits || !unit)
			return false;
		for (factor = 0; digits; digits--)
			if (!vmimg_mul(factor, 10, &factor) ||
				!vmimg_add(factor, (uint64_t)(*text++ - '0'), &factor))
				return false;
		if (!vmimg_mul(factor, unit, &factor) || !vmimg_mul(*value, factor, value))
			return false;
		text += suffix;
		if (!*text)
			return true;
	}
}

static int set_number(const struct reading *r, struct number *number, const char *key,
	const char *value, struct vmimg_error *err)
{
	number->given = true;
	if (r->few)
		return vmimg_parse_size(value, &number->value, err)
			? vmimg_within(err, "invalid number: %s", key)
			: 0;
	number->bytes = strchr(value, 'B');
	if (read_product(value, &number->value))
		return 0;
	return vmimg_fail(err, VMIMG_EINVAL,
		"%s=%.40s is no number of dd's: digits, then nothing or one of c w B k M G T P E (KiB is "
		"the same as K, kB is 1000); x multiplies",
		key, value);
}

static int set_block(const struct reading *r, struct number *block, const char *key,
	const char *value, struct vmimg_error *err)
{
	if (set_number(r, block, key, value, err))
		return -1;
	if (block->value && block->value <= BLOCK_MAX)
		return 0;
	return vmimg_fail(err, VMIMG_EINVAL, "Invalid %s specified. Must be between 1 and %d.", key,
		BLOCK_MAX);
}

/* ---- lists of words ---- */

struct flag {
	const char *name;
	bool *set; /* NULL: it has no effect here */
};

static int set_flags(
	const struct flag *flags, const char *key, const char *value, struct vmimg_error *err)
{
	for (const char *p = value;;) {
		size_t len = strcspn(p, ","), i = 0;

		while (flags[i].name &&
			(strlen(flags[i].name) != len || memcmp(flags[i].name, p, len)))
			i++;
		if (!flags[i].name)
			return vmimg_fail(err, VMIMG_EINVAL, "%s=%.*s is not done here", key,
				(int)vmimg_min(len, 40), p);
		if (flags[i].set)
			*flags[i].set = true;
		if (!p[len])
			return 0;
		p += len + 1;
	}
}

static int set_conv(struct reading *r, const char *key, const char *value, struct vmimg_error *err)
{
	const struct flag flags[] = { { "notrunc", &r->dd->notrunc },
		{ "nocreat", &r->dd->nocreat }, { "excl", NULL }, { "sparse", NULL },
		{ "fsync", NULL }, { "fdatasync", NULL }, { NULL, NULL } };

	return set_flags(flags, key, value, err);
}

static int set_io_flags(
	struct reading *r, const char *key, const char *value, struct vmimg_error *err)
{
	const struct flag in[] = { { "count_bytes", &r->count_bytes },
		{ "skip_bytes", &r->skip_bytes }, { "fullblock", NULL }, { "direct", NULL },
		{ "nocache", NULL }, { "noatime", NULL }, { NULL, NULL } };
	const struct flag out[] = { { "seek_bytes", &r->seek_bytes }, { "direct", NULL },
		{ "dsync", NULL }, { "sync", NULL }, { "nocache", NULL }, { NULL, NULL } };

	return set_flags(*key == 'i' ? in : out, key, value, err);
}

static int set_status(
	struct reading *r, const char *key, const char *value, struct vmimg_error *err)
{
	const struct flag known[] = { { "none", NULL }, { "noxfer", NULL }, { "progress", NULL },
		{ NULL, NULL } };

	r->dd->status = value;
	return set_flags(known, key, value, err);
}

/* ---- operands ---- */

static int set_more(struct reading *r, const char *key, const char *value, struct vmimg_error *err)
{
	if (!strcmp(key, "seek"))
		return set_number(r, &r->seek, key, value, err);
	if (!strcmp(key, "ibs") || !strcmp(key, "obs"))
		return set_block(r, *key == 'i' ? &r->in_block : &r->out_block, key, value, err);
	if (!strcmp(key, "conv"))
		return set_conv(r, key, value, err);
	if (!strcmp(key, "iflag") || !strcmp(key, "oflag"))
		return set_io_flags(r, key, value, err);
	if (!strcmp(key, "status"))
		return set_status(r, key, value, err);
	return vmimg_fail(err, VMIMG_EINVAL, "unrecognized operand %.80s", key);
}

static int set_operand(
	struct reading *r, const char *key, const char *value, struct vmimg_error *err)
{
	if (!strcmp(key, "if"))
		r->dd->in = value;
	else if (!strcmp(key, "of"))
		r->dd->out = value;
	else if (!strcmp(key, "bs"))
		return set_block(r, &r->block, key, value, err);
	else if (!strcmp(key, "skip"))
		return set_number(r, &r->skip, key, value, err);
	else if (!strcmp(key, "count"))
		return set_number(r, &r->count, key, value, err);
	else
		return r->few
			? vmimg_fail(err, VMIMG_EINVAL, "unrecognized operand %.80s", key)
			: set_more(r, key, value, err);
	return 0;
}

static int read_word(struct reading *r, const char *word, struct vmimg_error *err)
{
	const char *equals = strchr(word, '=');
	char key[16];

	if (!equals || equals - word >= (ptrdiff_t)sizeof(key))
		return vmimg_fail(err, VMIMG_EINVAL, "unrecognized operand %.80s", word);
	memcpy(key, word, (size_t)(equals - word));
	key[equals - word] = '\0';
	return set_operand(r, key, equals + 1, err);
}

static int to_bytes(const struct reading *r, const struct number *number,
	const struct number *block, bool bytes, uint64_t *to, struct vmimg_error *err)
{
	uint64_t unit = number->bytes || bytes ? 1
		: r->block.given               ? r->block.value
		: block->given                 ? block->value
					       : USUAL_BLOCK;

	if (vmimg_mul(number->value, unit, to))
		return 0;
	return vmimg_fail(err, VMIMG_EINVAL,
		"%" PRIu64 " blocks of %" PRIu64 " bytes are more than can be counted",
		number->value, unit);
}

static int read_words(
	struct reading *r, const char *const *words, size_t count, struct vmimg_error *err)
{
	struct cli_dd *dd = r->dd;

	*dd = (struct cli_dd){ 0 };
	for (size_t i = 0; i < count; i++)
		if (read_word(r, words[i], err))
			return -1;
	dd->counted = r->count.given;
	return to_bytes(r, &r->count, &r->in_block, r->count_bytes, &dd->length, err) ||
			to_bytes(r, &r->skip, &r->in_block, r->skip_bytes, &dd->skip, err) ||
			to_bytes(r, &r->seek, &r->out_block, r->seek_bytes, &dd->seek, err)
		? -1
		: 0;
}

int cli_dd_read(
	struct cli_dd *dd, const char *const *words, size_t count, struct vmimg_error *err)
{
	struct reading reading = { .dd = dd };

	return read_words(&reading, words, count, err);
}

int cli_dd_read_few(
	struct cli_dd *dd, const char *const *words, size_t count, struct vmimg_error *err)
{
	struct reading reading = { .dd = dd, .few = true };

	return read_words(&reading, words, count, err);
}
