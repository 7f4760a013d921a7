/* SPDX-License-Identifier: Apache-2.0 */
/* From a bundle to the one disk that is meant, and the report on all of it. */
#include "cli/bundle.h"
#include <inttypes.h>
#include <string.h>
#include <sys/stat.h>
#include "cli/gate.h"
#include "cli/human.h"
#include "cli/machine_args.h"
#include "io/file.h"
#include "util/text.h"

/* ---- opening ----------------------------------------------------------------------------- */

static int open_disk(struct cli_image *image, unsigned number, const struct cli_open *how,
	const char *format, struct vmimg_error *err)
{
	const struct vmimg_drive *drive = vmimg_bundle_drive(image->bundle, number);
	struct vmimg_open options = { .format = format,
		.snapshot = how->snapshot,
		.alone = how->alone,
		.lenient = how->lenient,
		.secrets = how->secrets,
		.secret_count = how->secret_count,
		.max_iterations = how->max_iterations };

	if (!drive)
		return vmimg_fail(err, VMIMG_EINVAL, "%s has no disk %u (vmimg info lists them)",
			vmimg_io_name(image->io), number);
	image->disk = vmimg_bundle_open_disk(image->bundle, drive, &options, err);
	return image->disk ? 0 : vmimg_within(err, "disk %u", number);
}

static int read_keys(
	struct cli_image *image, const struct cli_common *common, struct vmimg_error *err)
{
	image->key = common->key ? cli_read_text(common->key, err) : NULL;
	if (common->key && !image->key)
		return vmimg_within(err, "--key");
	image->certificate = common->certificate ? cli_read_text(common->certificate, err) : NULL;
	if (common->certificate && !image->certificate)
		return vmimg_within(err, "--cert");
	return 0;
}

int cli_bundle_open(struct cli_image *image, const struct cli_common *common,
	const struct cli_open *how, struct vmimg_error *err)
{
	bool named = how->format && vmimg_bundle_format_find(how->format);
	bool disk_named = how->format && vmimg_format_find(how->format);
	struct vmimg_bundle_open options = { .format = named ? how->format : NULL,
		.resolver = &image->files.resolver,
		.spool_limit = common->max_virtual_size };
	unsigned number = common->disk;

	if (disk_named && !number)
		return 0; /* -f insists that it is a disk */
	if (read_keys(image, common, err))
		return -1;
	options.key = image->key;
	options.certificate = image->certificate;
	if (vmimg_bundle_open(image->io, &options, &image->bundle, err))
		return -1;
	if (!image->bundle && number)
		return vmimg_fail(err, VMIMG_EINVAL, "%s is no bundle: it has no disk %u (--disk)",
			vmimg_io_name(image->io), number);
	if (!image->bundle || (how->bundle && !number))
		return 0;
	if (!number && vmimg_bundle_only_disk(image->bundle, &number, err))
		return -1;
	return open_disk(image, number, how, disk_named ? how->format : NULL, err);
}

void cli_bundle_warn(const struct vmimg_bundle *bundle, const struct cli_common *common)
{
	json_t *text;
	size_t i;

	if (bundle && !common->quiet)
		json_array_foreach(bundle->warnings, i, text) cli_warn(
			"warning: %s: %s", vmimg_io_name(bundle->io), json_string_value(text));
}

/* ---- describing -------------------------------------------------------------------------- */

static const char *text_of(const json_t *object, const char *key)
{
	return json_string_value(json_object_get(object, key));
}

static uint64_t uint_of(const json_t *object, const char *key)
{
	return (uint64_t)json_integer_value(json_object_get(object, key));
}

static void print_pair(const char *key, const char *value)
{
	if (value && *value)
		printf("    %s: %s\n", key, value);
}

static void print_size(const char *key, uint64_t bytes)
{
	char size[16];

	if (bytes)
		printf("    %s: %s\n", key, vmimg_format_size(size, bytes));
}

static void print_drive(const json_t *drive)
{
	const json_t *number = json_object_get(drive, "disk");
	const char *file = text_of(drive, "file"), *format = text_of(drive, "format");
	uint64_t bytes = uint_of(drive, "virtual-size");
	const char *bus = text_of(drive, "bus"), *parent = text_of(drive, "parent");
	char size[16];

	if (number)
		printf("    disk %" JSON_INTEGER_FORMAT ": ", json_integer_value(number));
	else
		printf("    %s: ", text_of(drive, "kind"));
	printf("%s", file ? file : "empty");
	if (number && strcmp(text_of(drive, "kind"), "disk"))
		printf(", %s", text_of(drive, "kind"));
	if (format)
		printf(", %s", format);
	if (bytes)
		printf(", %s", vmimg_format_size(size, bytes));
	if (bus)
		printf(", %s:%" PRIu64, bus, uint_of(drive, "unit"));
	if (parent)
		printf(", a change to %s", parent);
	printf("%s\n", json_is_true(json_object_get(drive, "unused")) ? ", not attached" : "");
}

static void print_nic(const json_t *nic)
{
	const char *model = text_of(nic, "model"), *network = text_of(nic, "network");
	const char *mac = text_of(nic, "mac");

	printf("    nic: %s%s%s%s%s\n", model ? model : "any", network ? " on " : "",
		network ? network : "", mac ? ", " : "", mac ? mac : "");
}

static void print_property(const json_t *property)
{
	const char *value = text_of(property, "value");

	printf("    property %s = %s\n", text_of(property, "key"), value ? value : "");
}

static void print_each(const json_t *machine, const char *key, void (*print)(const json_t *))
{
	const json_t *item;
	size_t i;

	json_array_foreach(json_object_get(machine, key), i, item) print(item);
}

static void print_machine(const json_t *m)
{
	const char *name = text_of(m, "name"), *id = text_of(m, "id");

	printf("machine: %s\n", name ? name : id ? id : "without a name");
	print_pair("product", text_of(m, "product"));
	print_pair("hardware", text_of(m, "hardware"));
	print_pair("architecture", text_of(m, "architecture"));
	print_pair("os", text_of(m, "os") ? text_of(m, "os") : text_of(m, "os-description"));
	if (uint_of(m, "cpus"))
		printf("    cpus: %" PRIu64 "\n", uint_of(m, "cpus"));
	print_size("memory", uint_of(m, "memory"));
	print_pair("firmware", text_of(m, "firmware"));
	if (json_object_get(m, "secure-boot"))
		print_pair("secure boot",
			json_is_true(json_object_get(m, "secure-boot")) ? "yes" : "no");
	print_pair("kernel", text_of(m, "kernel-id"));
	print_pair("ramdisk", text_of(m, "ramdisk-id"));
	print_pair("command line", text_of(m, "command-line"));
	print_each(m, "drives", print_drive);
	print_each(m, "nics", print_nic);
	print_each(m, "properties", print_property);
	if (json_array_size(json_object_get(m, "eulas")))
		printf("    licences: %zu\n", json_array_size(json_object_get(m, "eulas")));
}

/* A number that people look for at the top when there is one disk. */
static void set_virtual_size(json_t *root, const struct vmimg_bundle *bundle)
{
	struct vmimg_error none;
	unsigned number;

	if (!vmimg_bundle_only_disk(bundle, &number, &none))
		vmimg_json_uint(root, "virtual-size", vmimg_bundle_drive(bundle, number)->capacity);
}

int cli_bundle_print(
	struct vmimg_bundle *bundle, const struct cli_common *common, struct vmimg_error *err)
{
	const char *path = vmimg_file_path(bundle->io);
	json_t *told = vmimg_bundle_json(bundle, err), *root, *machine, *text;
	struct stat st;
	size_t i;

	if (!told)
		return -1;
	root = json_object();
	set_virtual_size(root, bundle);
	vmimg_json_text(root, "filename", path ? path : vmimg_io_name(bundle->io));
	json_object_set(root, "format", json_object_get(told, "format"));
	if (vmimg_file_fd(bundle->io) >= 0 && !fstat(vmimg_file_fd(bundle->io), &st))
		vmimg_json_uint(root, "actual-size", (uint64_t)st.st_blocks * 512);
	json_object_set_new(root, "schema", json_string("vmimg.info/1"));
	json_object_update(root, told);
	json_decref(told);
	cli_gate_refuse(root, "not-a-disk", "it is a bundle: judge its disks (--disk=N)");
	if (common->json)
		return cli_print_json(stdout, root, err);
	printf("image: %s\nfile format: %s\n", text_of(root, "filename"), text_of(root, "format"));
	json_array_foreach(json_object_get(root, "machines"), i, machine) print_machine(machine);
	json_array_foreach(json_object_get(root, "warnings"), i, text)
		printf("warning: %s\n", json_string_value(text));
	json_decref(root);
	return CLI_OK;
}
