/* SPDX-License-Identifier: Apache-2.0 */
/* vmimg inspect: what is inside a disk. The human report is printed from the JSON. */
#include "inspect/inspect.h"
#include <inttypes.h>
#include <string.h>
#include "cli/human.h"
#include "cli/open.h"
#include "cli/osinfo.h"
#include "cli/page.h"
#include "engine/check.h"
#include "inspect/view.h"
#include "io/file.h"
#include "io/output.h"
#include "util/text.h"

struct args {
	struct cli_common common;
	bool deep;
	const char *html;
	bool force;
};

static const char *text_of(const json_t *object, const char *key)
{
	return json_string_value(json_object_get(object, key));
}

static uint64_t uint_of(const json_t *object, const char *key)
{
	return (uint64_t)json_integer_value(json_object_get(object, key));
}

static void print_filesystem(const json_t *fs, const char *indent)
{
	const char *variant = text_of(fs, "variant"), *label = text_of(fs, "label");
	char size[16], used[16];

	if (!fs)
		return;
	printf("%s%s", indent, text_of(fs, "type"));
	if (variant)
		printf(" (%s)", variant);
	if (label)
		printf(" \"%s\"", label);
	if (text_of(fs, "uuid"))
		printf(" %s", text_of(fs, "uuid"));
	if (json_object_get(fs, "size"))
		printf(", %s", vmimg_format_size(size, uint_of(fs, "size")));
	if (json_object_get(fs, "used"))
		printf(", %s used", vmimg_format_size(used, uint_of(fs, "used")));
	if (json_is_true(json_object_get(fs, "dirty")))
		printf(", not cleanly unmounted");
	if (text_of(fs, "reason"))
		printf(" (%s)", text_of(fs, "reason"));
	putchar('\n');
}

static void print_partitions(const json_t *root)
{
	const json_t *list = json_object_get(root, "partitions"), *part;
	size_t i;

	json_array_foreach(list, i, part)
	{
		const char *type = text_of(part, "type-name"), *name = text_of(part, "name");
		char size[16];

		printf("%4" PRIu64 "  %14" PRIu64 "  %10s  %s", uint_of(part, "index"),
			uint_of(part, "start"), vmimg_format_size(size, uint_of(part, "length")),
			type ? type : text_of(part, "type"));
		if (name)
			printf(" \"%s\"", name);
		if (json_is_true(json_object_get(part, "bootable")))
			printf(" [bootable]");
		putchar('\n');
		print_filesystem(json_object_get(part, "filesystem"), "      ");
		if (text_of(part, "error"))
			printf("      %s\n", text_of(part, "error"));
	}
}

static void print_logical(const json_t *root)
{
	const json_t *list = json_object_get(root, "logical-volumes"), *volume;
	size_t i;

	if (json_array_size(list))
		puts("logical volumes:");
	json_array_foreach(list, i, volume)
	{
		char size[16];

		printf("  %s  %s\n", text_of(volume, "name"),
			vmimg_format_size(size, uint_of(volume, "length")));
		print_filesystem(json_object_get(volume, "filesystem"), "      ");
		if (text_of(volume, "error"))
			printf("      %s\n", text_of(volume, "error"));
	}
}

static void print_words(const char *title, const json_t *list)
{
	const json_t *word;
	size_t i;

	if (!json_array_size(list))
		return;
	printf("%s:", title);
	json_array_foreach(list, i, word) printf("%s%s", i ? ", " : " ", json_string_value(word));
	putchar('\n');
}

static void print_places(const char *title, const json_t *list)
{
	const json_t *item;
	size_t i;

	if (!json_array_size(list))
		return;
	printf("    %s:", title);
	json_array_foreach(list, i, item)
	{
		const char *volume = text_of(item, "volume");

		printf("%s%s%s%s%s", i ? ", " : " ", volume ? volume : "", volume ? ":" : "",
			text_of(item, "path"),
			json_is_true(json_object_get(item, "uki")) ? " (unified kernel)" : "");
	}
	putchar('\n');
}

static void print_drivers(const char *title, const json_t *drivers)
{
	const json_t *how;
	const char *name;
	bool any = false;

	json_object_foreach((json_t *)(uintptr_t)drivers, name, how)
	{
		printf("%s%s", any ? ", " : title, name);
		if (strcmp(json_string_value(how), "initrd"))
			printf(" (%s)", json_string_value(how));
		any = true;
	}
	if (any)
		putchar('\n');
}

static void print_system(const json_t *os)
{
	const json_t *kernels = json_object_get(os, "kernels"), *kernel;
	const char *name = text_of(os, "pretty-name");
	size_t i;

	printf("operating system: %s", name ? name : text_of(os, "id"));
	if (text_of(os, "architecture"))
		printf(", %s", text_of(os, "architecture"));
	if (text_of(os, "volume"))
		printf(" (on %s)", text_of(os, "volume"));
	putchar('\n');
	if (text_of(os, "hostname"))
		printf("    host name: %s\n", text_of(os, "hostname"));
	if (text_of(os, "build"))
		printf("    version: %s%s%s\n", text_of(os, "version-id") ?: text_of(os, "build"),
			text_of(os, "display-version") ? ", " : "",
			text_of(os, "display-version") ?: "");
	print_drivers("    drivers: ", json_object_get(os, "drivers"));
	json_array_foreach(kernels, i, kernel)
	{
		printf("    kernel: %s\n", text_of(kernel, "version"));
		print_drivers("        drivers: ", json_object_get(kernel, "drivers"));
		print_drivers("        in the initrd: ", json_object_get(kernel, "initrd-drivers"));
		if (text_of(kernel, "initrd-error"))
			printf("        initrd: %s\n", text_of(kernel, "initrd-error"));
	}
	printf("    cloud-init: %s\n",
		json_is_true(json_object_get(os, "cloud-init")) ? "yes" : "no");
}

static void print_iso(const json_t *iso)
{
	const json_t *entry, *medium = json_object_get(iso, "medium");
	char size[16];
	size_t i;

	if (!iso)
		return;
	printf("    names: %s%s%s\n", text_of(iso, "names"),
		json_is_true(json_object_get(iso, "joliet")) &&
				json_is_true(json_object_get(iso, "rock-ridge"))
			? " (Joliet is there too)"
			: "",
		json_is_true(json_object_get(iso, "hybrid")) ? "; hybrid with a partition table"
							     : "");
	if (medium)
		printf("    medium: %s%s%s (%s)\n",
			text_of(medium, "variant") ?: text_of(medium, "name"),
			text_of(medium, "architecture") ? ", " : "",
			text_of(medium, "architecture") ?: "", text_of(medium, "id"));
	json_array_foreach(json_object_get(iso, "boot-catalogue"), i, entry)
		printf("    boot image: %s at %" PRIu64 ", %s\n", text_of(entry, "platform"),
			uint_of(entry, "start"), vmimg_format_size(size, uint_of(entry, "length")));
}

static void print_report(const json_t *root)
{
	const json_t *table = json_object_get(root, "partition-table");
	const json_t *boot = json_object_get(root, "boot"), *item;
	char size[16];
	size_t i;

	printf("image: %s\nfile format: %s\nvirtual size: %s (%" PRIu64 " bytes)\n",
		text_of(root, "filename"), text_of(root, "format"),
		vmimg_format_size(size, uint_of(root, "virtual-size")),
		uint_of(root, "virtual-size"));
	printf("partition table: %s\n", text_of(table, "scheme"));
	print_filesystem(json_object_get(root, "filesystem"), "file system: ");
	print_iso(json_object_get(root, "iso"));
	print_partitions(root);
	print_logical(root);
	print_words("warnings", json_object_get(table, "warnings"));
	print_words("boots by", json_object_get(boot, "methods"));
	print_places("EFI programs", json_object_get(boot, "efi-loaders"));
	print_places("Windows' loaders", json_object_get(boot, "windows"));
	print_places("kernels", json_object_get(boot, "kernels"));
	print_places("initial ramdisks", json_object_get(boot, "initrds"));
	json_array_foreach(json_object_get(root, "operating-systems"), i, item) print_system(item);
}

#define CELLS 960 /* of the page's map: more than most screens have to show */

/* What is wrong with the image does not keep the page from being made; it is what the page tells.
 */
static int write_page(struct vmimg_disk *disk, const struct args *args, const json_t *root,
	struct vmimg_error *err)
{
	struct vmimg_output_how how = { .replace = args->force };
	struct vmimg_run_how run_how = { .threads = args->common.threads };
	VMIMG_AUTO(vmimg_allocation_done) struct vmimg_allocation allocation = { 0 };
	VMIMG_AUTO(free) struct vmimg_report *check = vmimg_new(struct vmimg_report, err);
	VMIMG_AUTO(free) char *text = NULL;
	VMIMG_AUTO(vmimg_output_close) struct vmimg_output *output = NULL;
	struct cli_page page = { .report = root, .allocation = &allocation, .check = check };
	struct vmimg_error why;
	size_t len;

	if (!check || vmimg_allocation_read(disk, CELLS, &allocation, err))
		return -1;
	if (!disk->format->check || vmimg_check_run(disk, &run_how, check, &why)) {
		page.check = NULL;
		page.unchecked = disk->format->check
			? why.text
			: "The format has no structure that could be wrong.";
	}
	text = cli_page_make(&page, &len);
	if (!text)
		return vmimg_fail_nomem(err);
	output = vmimg_output_open(args->html, &how, err);
	if (!output || vmimg_io_pwrite(vmimg_output_io(output), text, len, 0, err))
		return -1;
	return vmimg_output_publish(output, err);
}

/* What osinfo-db knows the medium as. */
static void set_medium(json_t *iso)
{
	json_t *medium = iso ? cli_osinfo_identify(iso) : NULL;

	if (medium)
		json_object_set_new(iso, "medium", medium);
}

static int report(struct vmimg_disk *disk, const struct args *args, struct vmimg_error *err)
{
	VMIMG_AUTO(vmimg_inspection_done) struct vmimg_inspection inspection = { 0 };
	VMIMG_AUTO(vmimg_io_unref) struct vmimg_io *view = vmimg_view_open(disk, err);
	const char *path = vmimg_file_path(disk->io);
	json_t *root, *found;

	if (!view || vmimg_inspection_open(&inspection, view, disk->sector_size, err) ||
		!(found = vmimg_inspection_report(&inspection, args->deep, err)))
		return -1;
	root = json_object();
	vmimg_json_uint(root, "virtual-size", disk->size);
	vmimg_json_text(root, "filename", path ? path : vmimg_io_name(disk->io));
	vmimg_json_text(root, "format", disk->format->name);
	json_object_set_new(root, "schema", json_string("vmimg.inspect/1"));
	json_object_update(root, found);
	json_decref(found);
	set_medium(json_object_get(root, "iso"));
	if (args->html && write_page(disk, args, root, err)) {
		json_decref(root);
		return -1;
	}
	if (args->common.json)
		return cli_print_json(stdout, root, err);
	if (!args->html)
		print_report(root);
	json_decref(root);
	return CLI_OK;
}

static int run(const struct cli_call *call, struct vmimg_error *err)
{
	const struct args *args = call->args;
	VMIMG_AUTO(cli_image_close) struct cli_image image = { 0 };
	struct cli_open how = { .format = args->common.format, .refs = CLI_REFS_BESIDE };

	if (args->common.sandbox)
		cli_osinfo_reach(args->common.sandbox);
	if (args->html && args->common.sandbox)
		cli_sandbox_write(args->common.sandbox, args->html);
	if (cli_image_open(&image, call->words[0], &args->common, &how, err) ||
		(args->html && cli_files_spare(&image.files, args->html, err)))
		return -1;
	return report(image.disk, args, err);
}

static const struct cli_option options[] = {
	{ 0, "deep", NULL, "also unpack initial ramdisks, to see which drivers they hold",
		cli_set_flag, offsetof(struct args, deep) },
	{ 0, "html", "FILE",
		"write one HTML page, with the map of the disk and the findings of check",
		cli_set_text, offsetof(struct args, html) },
	{ 0, "force", NULL, "replace an existing page", cli_set_flag,
		offsetof(struct args, force) },
	{ 0 },
};

static const struct cli_option *const groups[] = { options, cli_format_options, cli_report_options,
	cli_source_options, NULL };

const struct cli_verb cli_inspect = {
	.name = "inspect",
	.operands = "IMAGE",
	.summary = "Looks inside: partitions, file systems, boot method, operating system",
	.detail = "Mounts nothing and needs no root.",
	.least = 1,
	.most = 1,
	.args_size = sizeof(struct args),
	.reach = CLI_READS,
	.options = groups,
	.run = run,
};
