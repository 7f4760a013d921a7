/* SPDX-License-Identifier: Apache-2.0 */
/* Options in the order that qemu-img has for all formats, its defaults among them. */
#include "cli/face/formatting.h"
#include <inttypes.h>
#include <stdio.h>
#include <string.h>
#include "util/text.h"

struct shown {
	const char *format, *key;
	const char *otherwise; /* printed when it is not given; NULL: nothing is */
};

/* A key "size" or "backing" stands for what create knows without options; others of no format are of
 * the file below the image. */
static const struct shown shown[] = {
	{ "qcow2", "encryption", NULL },
	{ "qcow2", "encrypt.format", NULL },
	{ "qcow2", "encrypt.key-secret", NULL },
	{ "qcow2", "encrypt.cipher-alg", NULL },
	{ "qcow2", "encrypt.cipher-mode", NULL },
	{ "qcow2", "encrypt.ivgen-alg", NULL },
	{ "qcow2", "encrypt.ivgen-hash-alg", NULL },
	{ "qcow2", "encrypt.hash-alg", NULL },
	{ "qcow2", "encrypt.iter-time", NULL },
	{ "qcow2", "cluster_size", "65536" },
	{ "qcow2", "extended_l2", "off" },
	{ "qcow2", "preallocation", NULL },
	{ "qcow2", "compression_type", "zlib" },
	{ NULL, "size", NULL },
	{ NULL, "backing", NULL },
	{ "luks", "key-secret", NULL },
	{ "luks", "cipher-alg", NULL },
	{ "luks", "cipher-mode", NULL },
	{ "luks", "ivgen-alg", NULL },
	{ "luks", "ivgen-hash-alg", NULL },
	{ "luks", "hash-alg", NULL },
	{ "luks", "iter-time", NULL },
	{ "qcow2", "data_file", NULL },
	{ "qcow2", "data_file_raw", NULL },
	{ "qcow2", "compat", NULL },
	{ "qcow2", "lazy_refcounts", "off" },
	{ "qcow2", "refcount_bits", "16" },
	{ "vdi", "static", "off" },
	{ "vmdk", "adapter_type", NULL },
	{ "vmdk", "compat6", "off" },
	{ "vmdk", "hwversion", "undefined" },
	{ "vmdk", "toolsversion", NULL },
	{ "vmdk", "subformat", NULL },
	{ "vmdk", "zeroed_grain", NULL },
	{ "vhdx", "log_size", "1048576" },
	{ "vhdx", "block_size", "0" },
	{ "vhd", "subformat", NULL },
	{ "vhdx", "subformat", NULL },
	{ "vhdx", "block_state_zero", NULL },
	{ "vhd", "force_size", NULL },
	{ NULL, "nocow", NULL },
	{ "raw", "preallocation", NULL },
	{ "vdi", "preallocation", NULL },
	{ "vmdk", "preallocation", NULL },
	{ NULL, "extent_size_hint", NULL },
};

static void print_text(const char *key, const char *value)
{
	char text[400];

	printf(" %s=%s", key, vmimg_escape(text, sizeof(text), value, strlen(value)));
}

/* "64k" is shown as 65536. */
static void print_option(const struct vmimg_format *format, const char *key, const char *value)
{
	const struct vmimg_option_spec *spec = format->options;
	struct vmimg_error unused;
	uint64_t bytes;

	while (spec && spec->name && strcmp(spec->name, key))
		spec++;
	if (spec && spec->name && spec->kind == VMIMG_OPTION_SIZE &&
		!vmimg_parse_size(value, &bytes, &unused))
		printf(" %s=%" PRIu64, key, bytes);
	else
		print_text(key, value);
}

static void print_below(const char *key, const struct cli_target_args *args)
{
	const char *value = vmimg_options_text(&args->options.list, key, NULL);
	struct vmimg_error unused;
	uint64_t bytes;

	if (value && !vmimg_parse_size(value, &bytes, &unused))
		printf(" %s=%" PRIu64, key, bytes);
	else if (value)
		print_text(key, value);
}

static void print_common(const char *key, const struct cli_target_args *args, uint64_t size)
{
	if (!strcmp(key, "size")) {
		printf(" size=%" PRIu64, size);
	} else if (strcmp(key, "backing") != 0) {
		print_below(key, args);
	} else if (args->backing) {
		print_text("backing_file", args->backing);
		print_text("backing_fmt", args->backing_format);
	}
}

void face_print_formatting(
	const struct cli_target *target, const struct cli_target_args *args, uint64_t size)
{
	const struct vmimg_format *format = target->format;
	char name[400];

	printf("Formatting '%s', fmt=%s",
		vmimg_escape(name, sizeof(name), target->path, strlen(target->path)),
		cli_qemu_name(format) ? cli_qemu_name(format) : format->name);
	for (size_t i = 0; i < sizeof(shown) / sizeof(shown[0]); i++) {
		const char *value;

		if (!shown[i].format) {
			print_common(shown[i].key, args, size);
			continue;
		}
		if (strcmp(shown[i].format, format->name))
			continue;
		value = vmimg_options_text(&args->options.list, shown[i].key, shown[i].otherwise);
		if (value)
			print_option(format, shown[i].key, value);
	}
	printf("\n");
}
