/* SPDX-License-Identifier: Apache-2.0 */
/* The numbers and records of tar headers. */
#include "bundle/tar_header.h"
#include "io/sparse.h"
#include "util/limits.h"
#include "util/num.h"

uint32_t vmimg_tar_sum(const uint8_t *block, bool is_signed)
{
	uint32_t sum = 0;

	for (size_t i = 0; i < VMIMG_TAR_BLOCK; i++) {
		uint8_t byte = i >= 148 && i < 156 ? ' ' : block[i];

		sum += is_signed && byte >= 128 ? byte - 256U : byte;
	}
	return sum;
}

static bool base256(const uint8_t *field, size_t len, uint64_t *value)
{
	uint64_t v = field[0] & 0x7f;

	for (size_t i = 1; i < len; i++) {
		if (v >> 55)
			return false;
		v = v << 8 | field[i];
	}
	*value = v;
	return !(field[0] & 0x40) && v <= INT64_MAX; /* that bit: negative */
}

bool vmimg_tar_number(const uint8_t *field, size_t len, uint64_t *value)
{
	uint64_t v = 0;
	size_t i = 0;

	if (field[0] & 0x80)
		return base256(field, len, value);
	while (i < len && field[i] == ' ')
		i++;
	for (; i < len && field[i] >= '0' && field[i] <= '7'; i++)
		v = v << 3 | (uint64_t)(field[i] - '0');
	if (i < len && field[i] != ' ' && field[i] != '\0')
		return false;
	*value = v;
	return true;
}

bool vmimg_tar_probe(const uint8_t *head, size_t len)
{
	uint64_t sum;

	/* Nobody writes the sum in base 256, and zeroes are no sum: the signed one of any block
	 * that has zeroes there could be 0. */
	if (len < VMIMG_TAR_BLOCK || !head[0] || head[148] & 0x80 ||
		!vmimg_tar_number(head + 148, 8, &sum) || !sum)
		return false;
	return sum == vmimg_tar_sum(head, false) || sum == vmimg_tar_sum(head, true);
}

bool vmimg_tar_decimal(const char **text, char until, uint64_t *value)
{
	const char *p = *text;
	uint64_t v = 0;

	if (*p < '0' || *p > '9')
		return false;
	for (; *p >= '0' && *p <= '9'; p++)
		if (!vmimg_mul(v, 10, &v) || !vmimg_add(v, (uint64_t)(*p - '0'), &v))
			return false;
	if (*p != until || v > INT64_MAX)
		return false;
	*value = v;
	*text = p + 1;
	return true;
}

static int take_number(const char *key, const char *text, uint64_t *value, struct vmimg_error *err)
{
	const char *p = text;

	if (vmimg_tar_decimal(&p, '\0', value))
		return 0;
	return vmimg_fail(err, VMIMG_ECORRUPT, "pax record %s is not a size", key);
}

/* Versions 0.0 of sparse files: a record for each offset, and one for each length after it. */
static int take_run(
	struct vmimg_tar_pax *pax, const char *key, const char *text, struct vmimg_error *err)
{
	uint64_t value;

	if (take_number(key, text, &value, err))
		return -1;
	if (!strcmp(key, "GNU.sparse.numbytes")) {
		if (pax->run_count)
			pax->runs[pax->run_count - 1].len = value;
		return 0;
	}
	if (vmimg_grow_array(
		    &pax->runs, &pax->run_cap, pax->run_count + 1, sizeof(*pax->runs), err))
		return -1;
	pax->runs[pax->run_count++] = (struct vmimg_sparse_run){ value, 0 };
	return 0;
}

static int take_record(
	struct vmimg_tar_pax *pax, const char *key, const char *text, struct vmimg_error *err)
{
	struct {
		const char *key;
		const char **text;
		uint64_t *number;
	} const known[] = {
		{ "path", &pax->path, NULL },
		{ "size", NULL, &pax->size },
		{ "GNU.sparse.name", &pax->sparse_name, NULL },
		{ "GNU.sparse.map", &pax->sparse_map, NULL },
		{ "GNU.sparse.size", NULL, &pax->sparse_size },
		{ "GNU.sparse.realsize", NULL, &pax->sparse_size },
		{ "GNU.sparse.major", NULL, &pax->sparse_major },
		{ "GNU.sparse.minor", NULL, &pax->sparse_minor },
	};

	if (!strcmp(key, "GNU.sparse.offset") || !strcmp(key, "GNU.sparse.numbytes"))
		return take_run(pax, key, text, err);
	for (size_t i = 0; i < VMIMG_ARRAY_LEN(known); i++) {
		if (strcmp(key, known[i].key))
			continue;
		if (known[i].number)
			return take_number(key, text, known[i].number, err);
		*known[i].text = text;
	}
	return 0;
}

/* Records are "LENGTH KEY=VALUE\n", LENGTH counting all of it. */
int vmimg_tar_pax_parse(struct vmimg_tar_pax *pax, char *bytes, size_t len, struct vmimg_error *err)
{
	char *end = bytes + len;

	while (bytes < end && *bytes) {
		const char *p = bytes;
		uint64_t record;
		char *key, *value;

		if (!vmimg_tar_decimal(&p, ' ', &record) || record > (uint64_t)(end - bytes) ||
			record <= (uint64_t)(p - bytes) || bytes[record - 1] != '\n')
			return vmimg_fail(
				err, VMIMG_ECORRUPT, "a pax record's length does not fit its text");
		key = bytes + (p - bytes);
		bytes += record;
		bytes[-1] = '\0';
		value = strchr(key, '=');
		if (!value)
			return vmimg_fail(err, VMIMG_ECORRUPT, "a pax record has no =");
		*value = '\0';
		if (take_record(pax, key, value + 1, err))
			return -1;
	}
	return 0;
}
