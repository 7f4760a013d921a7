/* SPDX-License-Identifier: Apache-2.0 */
/* The one place that names every kind of bundle. */
#include <string.h>
#include <strings.h>
#include "bundle/bundle.h"

/* clang-format off: one kind, one line */
#define BUNDLES(B) \
	B(ami)     \
	B(ec2)     \
	B(ova)     \
	B(ovf)     \
	B(uec)
/* clang-format on */

#define DECLARE(name) extern const struct vmimg_bundle_format vmimg_bundle_##name;
#define POINT(name)   &vmimg_bundle_##name,

BUNDLES(DECLARE)

const struct vmimg_bundle_format *const vmimg_bundle_formats[] = { BUNDLES(POINT) NULL };

const struct vmimg_bundle_format *vmimg_bundle_format_find(const char *name)
{
	for (size_t i = 0; vmimg_bundle_formats[i]; i++)
		if (!strcasecmp(vmimg_bundle_formats[i]->name, name))
			return vmimg_bundle_formats[i];
	return NULL;
}

/* Whether name ends in a dot and one of the words in list; a word may have dots (tar.gz). */
static bool has_suffix(const char *name, const char *list)
{
	size_t len = strlen(name);

	while (list && *list) {
		size_t word = strcspn(list, " ");

		if (len > word && name[len - word - 1] == '.' &&
			!strncasecmp(name + len - word, list, word))
			return true;
		list += word + (list[word] == ' ');
	}
	return false;
}

const struct vmimg_bundle_format *vmimg_bundle_format_for_name(const char *name)
{
	for (size_t i = 0; vmimg_bundle_formats[i]; i++)
		if (has_suffix(name, vmimg_bundle_formats[i]->suffixes))
			return vmimg_bundle_formats[i];
	return NULL;
}
