/* SPDX-License-Identifier: Apache-2.0 */
/* Reads off the description that info prints, so that no format has to know about this. */
#include "cli/repair_options.h"
#include <inttypes.h>
#include <stdio.h>
#include <string.h>
#include "util/num.h"

/* Whether the format takes that option, with that value where it lists them. */
static bool takes(const struct vmimg_format *format, const char *key, const char *value)
{
	const struct vmimg_option_spec *spec = format->options;
	size_t len = strlen(value);

	while (spec && spec->name && strcmp(spec->name, key))
		spec++;
	if (!spec || !spec->name)
		return false;
	for (const char *word = spec->values; word; word = strchr(word, '|')) {
		word += *word == '|';
		if (!strncmp(word, value, len) && (!word[len] || word[len] == '|'))
			return true;
	}
	return !spec->values;
}

static int set(struct cli_target_args *args, const struct vmimg_disk *disk, const char *key,
	const char *value, struct vmimg_error *err)
{
	if (!value || !takes(disk->format, key, value))
		return 0;
	return vmimg_options_set(&args->options.list, key, value, err);
}

static int set_number(struct cli_target_args *args, const struct vmimg_disk *disk, const char *key,
	uint64_t number, struct vmimg_error *err)
{
	char text[24];

	snprintf(text, sizeof(text), "%" PRIu64, number);
	return number ? set(args, disk, key, text, err) : 0;
}

/* Keys of a description and the options that bring them about. */
static int copy_all(struct cli_target_args *args, const struct vmimg_disk *disk, const json_t *root,
	const json_t *specific, struct vmimg_error *err)
{
	static const char *const pairs[][2] = { { "compat", "compat" },
		{ "compression-type", "compression_type" }, { "extended-l2", "extended_l2" },
		{ "lazy-refcounts", "lazy_refcounts" }, { "refcount-bits", "refcount_bits" },
		{ "adapter-type", "adapter_type" }, { "hw-version", "hwversion" } };

	const char *variant = json_string_value(json_object_get(root, "variant"));

	if (variant && !strcmp(variant, "differencing")) /* a parent is what makes it one */
		variant = NULL;
	for (size_t i = 0; i < VMIMG_ARRAY_LEN(pairs); i++) {
		const json_t *value = json_object_get(specific, pairs[i][0]);
		const char *text = json_is_true(value) ? "on" : json_string_value(value);

		if (json_is_integer(value) ? set_number(args, disk, pairs[i][1],
						     (uint64_t)json_integer_value(value), err)
					   : set(args, disk, pairs[i][1], text, err))
			return -1;
	}
	if (set(args, disk, "subformat", variant, err) ||
		set_number(args, disk, "cluster_size", disk->block, err) ||
		set_number(args, disk, "logical_sector_size",
			disk->sector_size == 512 ? 0 : disk->sector_size, err))
		return -1;
	return set_number(args, disk, "block_size", disk->block, err);
}

int cli_options_like(struct cli_target_args *args, struct vmimg_disk *disk, struct vmimg_error *err)
{
	const json_t *specific;
	struct vmimg_info info;
	int failed;

	if (vmimg_disk_info(disk, NULL, &info, err))
		return -1;
	specific = json_object_get(json_object_get(info.root, "format-specific"), "data");
	failed = copy_all(args, disk, info.root, specific, err);
	json_decref(info.root);
	return failed;
}

/* The backing file is named again, not opened. Formats that check who their parent is need it. */
static int keep_backing(
	struct cli_target_args *args, const struct vmimg_disk *disk, struct vmimg_error *err)
{
	bool extended = vmimg_options_bool(&args->options.list, "extended_l2", false);

	for (size_t i = 0; i < disk->ref_count; i++) {
		const struct vmimg_reference *ref = &disk->refs[i].ref;

		if (strcmp(ref->kind, "backing") || extended)
			return vmimg_fail(err, VMIMG_EUNSUPPORTED,
				"it needs another file (%s), which a new image cannot be tied to: "
				"repair it --in-place",
				ref->kind);
		if (!ref->format)
			return vmimg_fail(err, VMIMG_EUNSUPPORTED,
				"it does not state its backing file's format, as a new image "
				"must: repair it --in-place");
		args->backing = ref->name;
		args->backing_format = ref->format;
		args->blind = true;
	}
	return 0;
}

int cli_repair_options(
	struct cli_target_args *args, struct vmimg_disk *disk, bool packed, struct vmimg_error *err)
{
	args->compress = packed;
	return cli_options_like(args, disk, err) || keep_backing(args, disk, err) ? -1 : 0;
}
