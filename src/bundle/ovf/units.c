/* SPDX-License-Identifier: Apache-2.0 */
/* Units as DSP0004 spells them and as programs do, and the URIs of disk formats. */
#include <string.h>
#include <strings.h>
#include "bundle/ovf/ovf.h"
#include "util/num.h"

/* Words in use before programmatic units, and abbreviations. Powers of 1024, as all readers take
 * them. */
static const struct {
	const char *word;
	unsigned shift;
} words[] = { { "byte", 0 }, { "bytes", 0 }, { "b", 0 }, { "kilobytes", 10 }, { "kilobyte", 10 },
	{ "kb", 10 }, { "kib", 10 }, { "megabytes", 20 }, { "megabyte", 20 }, { "mb", 20 },
	{ "mib", 20 }, { "gigabytes", 30 }, { "gigabyte", 30 }, { "gb", 30 }, { "gib", 30 },
	{ "terabytes", 40 }, { "terabyte", 40 }, { "tb", 40 }, { "tib", 40 } };

static const char *skip_blanks(const char *p)
{
	return p + strspn(p, " \t\r\n");
}

/* "2^20" or "10^6"; 0: malformed. Moves *text past it. */
static uint64_t read_power(const char **text)
{
	char *end;
	unsigned long base = strtoul(*text, &end, 10), exponent;
	uint64_t value = 1;

	if (end == *text || *(end = (char *)(uintptr_t)skip_blanks(end)) != '^' || !base)
		return 0;
	*text = skip_blanks(end + 1);
	exponent = strtoul(*text, &end, 10);
	if (end == *text || exponent > 62)
		return 0;
	*text = end;
	while (exponent--)
		if (!vmimg_mul(value, base, &value))
			return 0;
	return value;
}

static uint64_t word_factor(const char *text, size_t len)
{
	for (size_t i = 0; i < VMIMG_ARRAY_LEN(words); i++)
		if (strlen(words[i].word) == len && !strncasecmp(words[i].word, text, len))
			return UINT64_C(1) << words[i].shift;
	return 0;
}

uint64_t vmimg_ovf_unit(const char *text)
{
	const char *p = skip_blanks(text);
	size_t len = strcspn(p, " \t\r\n*");
	uint64_t factor = word_factor(p, len);

	for (p = skip_blanks(p + len); factor && *p == '*'; p = skip_blanks(p)) {
		uint64_t power;

		p = skip_blanks(p + 1);
		power = read_power(&p);
		if (!power || !vmimg_mul(factor, power, &factor))
			return 0;
	}
	return *p ? 0 : factor;
}

/* The value of property "${key}"; NULL: none such. */
static const char *referenced(const struct vmimg_machine *machine, const char *text)
{
	size_t len = strlen(text);

	if (strncmp(text, "${", 2) || text[len - 1] != '}')
		return NULL;
	for (size_t i = 0; machine && i < machine->property_count; i++) {
		const char *key = machine->properties[i].key;

		if (key && strlen(key) == len - 3 && !strncmp(key, text + 2, len - 3))
			return machine->properties[i].value;
	}
	return NULL;
}

bool vmimg_ovf_quantity(
	const struct vmimg_machine *machine, const char *number, uint64_t factor, uint64_t *bytes)
{
	const char *p = skip_blanks(number);
	const char *value = referenced(machine, p);
	uint64_t v = 0;

	p = value ? skip_blanks(value) : p;
	if (*p < '0' || *p > '9')
		return false;
	for (; *p >= '0' && *p <= '9'; p++)
		if (!vmimg_mul(v, 10, &v) || !vmimg_add(v, (uint64_t)(*p - '0'), &v))
			return false;
	if (*skip_blanks(p) || !vmimg_mul(v, factor, &v) || v > INT64_MAX)
		return false;
	*bytes = v;
	return true;
}

const char *vmimg_ovf_format(const char *uri)
{
	static const struct {
		const char *part, *format;
	} known[] = {
		{ "vmdk.html", "vmdk" },
		{ "vmware.com/specifications/vmdk", "vmdk" },
		{ "vmware.com/technical-resources/interfaces/vmdk", "vmdk" },
		{ "vhdspec.mspx", "vhd" },
		{ "LinkId=137171", "vhd" },
		{ "VHDX", "vhdx" },
		{ "qcow-image-format", "qcow2" },
		{ "qcow2", "qcow2" },
		{ "en.wikipedia.org/wiki/Byte", "raw" },
		{ "Ecma-119", "raw" },
	};

	for (size_t i = 0; uri && i < VMIMG_ARRAY_LEN(known); i++)
		if (strcasestr(uri, known[i].part))
			return known[i].format;
	return NULL;
}
