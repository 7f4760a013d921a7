/* SPDX-License-Identifier: Apache-2.0 */
/* The one place that names every format. */
#include <string.h>
#include <strings.h>
#include "disk/format.h"

/* clang-format off: one format, one line */
#define FORMATS(F) \
	F(qcow) \
	F(qcow2) \
	F(vhd) \
	F(vhdx) \
	F(vdi) \
	F(vmdk) \
	F(iso) \
	F(luks) \
	F(raw)
/* clang-format on */

#define DECLARE(name) extern const struct vmimg_format vmimg_##name;
#define POINT(name)   &vmimg_##name,
#define NAME(name)    #name,

FORMATS(DECLARE)

const struct vmimg_format *const vmimg_formats[] = { FORMATS(POINT) NULL };

const char *const *vmimg_format_names(void)
{
	static const char *const names[] = { FORMATS(NAME) NULL };

	return names;
}

const struct vmimg_format *vmimg_format_find(const char *name)
{
	if (!strcmp(name, "vpc")) /* qemu's name for it */
		name = "vhd";
	for (size_t i = 0; vmimg_formats[i]; i++)
		if (!strcasecmp(vmimg_formats[i]->name, name))
			return vmimg_formats[i];
	return NULL;
}

/* Whether word is one of the words in list. */
static bool has_word(const char *list, const char *word)
{
	size_t len = strlen(word);

	for (const char *p = list; p; p = strchr(p, ' ') ? strchr(p, ' ') + 1 : NULL)
		if (!strncasecmp(p, word, len) && (p[len] == ' ' || !p[len]))
			return true;
	return false;
}

const struct vmimg_format *vmimg_format_for_name(const char *name)
{
	const char *dot = strrchr(name, '.');

	if (!dot || strchr(dot, '/') || !dot[1])
		return NULL;
	for (size_t i = 0; vmimg_formats[i]; i++)
		if (has_word(vmimg_formats[i]->suffixes, dot + 1))
			return vmimg_formats[i];
	return NULL;
}
