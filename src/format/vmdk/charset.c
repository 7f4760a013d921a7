/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Encodings of descriptors. VMware's products write the name of the host's code page; names of
 * files have to become UTF-8 to be found here. Text that is not valid in its stated encoding, or in
 * one that is not known, stays as it is: it may well be the file's name, byte for byte.
 */
#include <errno.h>
#include <iconv.h>
#include <string.h>
#include <strings.h>
#include "format/vmdk/vmdk.h"
#include "util/num.h"

/* Code pages that hold more than the standard whose name is used for them. */
static const char *iconv_name(const char *encoding)
{
	static const struct {
		const char *stated, *wider;
	} names[] = {
		{ "Shift_JIS", "CP932" },
		{ "SJIS", "CP932" },
		{ "windows-31j", "CP932" },
		{ "GB2312", "GBK" },
		{ "gb_2312-80", "GBK" },
		{ "Big5", "CP950" },
		{ "ISO-8859-1", "WINDOWS-1252" },
	};

	for (size_t i = 0; i < VMIMG_ARRAY_LEN(names); i++)
		if (!strcasecmp(names[i].stated, encoding))
			return names[i].wider;
	return encoding;
}

/* Only names that are plainly those of an encoding reach iconv(), which takes suffixes. */
static bool is_plain_name(const char *encoding)
{
	return *encoding && strlen(encoding) < 32 &&
		!encoding[strspn(encoding,
			"abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-_")];
}

static bool is_ascii(const char *text)
{
	for (; *text; text++)
		if ((unsigned char)*text >= 0x80)
			return false;
	return true;
}

/* Writes to out, cap bytes; false: the text is not of that encoding. */
static bool run_iconv(iconv_t converter, const char *text, char *out, size_t cap)
{
	char *in = (char *)(uintptr_t)text;
	size_t left = strlen(text);

	cap--;
	if (iconv(converter, &in, &left, &out, &cap) == (size_t)-1 || left)
		return false;
	if (iconv(converter, NULL, NULL, &out, &cap) == (size_t)-1)
		return false;
	*out = '\0';
	return true;
}

char *vmimg_vmdk_to_utf8(
	const char *encoding, const char *text, bool *known, struct vmimg_error *err)
{
	size_t cap = strlen(text) * 4 + 1;
	VMIMG_AUTO(free) char *out = NULL;
	iconv_t converter;

	*known = true;
	if (is_ascii(text) || !strcasecmp(encoding, "UTF-8"))
		return vmimg_strdup(text, err);
	*known = false;
	converter =
		is_plain_name(encoding) ? iconv_open("UTF-8", iconv_name(encoding)) : (iconv_t)-1;
	if (converter == (iconv_t)-1)
		return vmimg_strdup(text, err);
	out = vmimg_alloc_array(cap, 1, err);
	if (out)
		*known = run_iconv(converter, text, out, cap);
	iconv_close(converter);
	if (!out)
		return NULL;
	return *known ? vmimg_take(out) : vmimg_strdup(text, err);
}
