/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The three files of an AMI as one thing: a small JSON object names them, in the words that Glance
 * has for images (disk_format and container_format "ami", kernel_id, ramdisk_id, os_command_line
 * …), with file, kernel and ramdisk as names beside it.
 */
#include <string.h>
#include "bundle/cloud.h"
#include "bundle/kernel.h"
#include "disk/info.h"
#include "util/num.h"
#include "util/text.h"

#define PROPERTIES_MAX (64U << 10) /* bytes of the object */

static const char *text_of(const json_t *object, const char *key)
{
	return json_string_value(json_object_get(object, key));
}

static bool is_ami(const json_t *root)
{
	const char *container = text_of(root, "container_format");

	return container && !strcmp(container, "ami") && text_of(root, "file");
}

static int ami_probe(const struct vmimg_bundle_probe *probe)
{
	json_t *root;
	bool is;

	if (probe->tar || !probe->head_len || probe->head[0] != '{' ||
		probe->head_len >= VMIMG_PROBE_HEAD)
		return 0;
	root = json_loadb((const char *)probe->head, probe->head_len, 0, NULL);
	is = is_ami(root);
	json_decref(root);
	return is ? 80 : 0;
}

static int add_drive(struct vmimg_bundle *bundle, const char *key, enum vmimg_drive_kind kind,
	struct vmimg_error *err)
{
	const char *file = text_of(bundle->state, key);
	struct vmimg_machine *machine = &bundle->machines[0];
	struct vmimg_drive *drive;
	char shown[80];

	if (!file)
		return 0;
	if (!vmimg_tar_name_is_safe(file))
		return vmimg_fail(err, VMIMG_EREFUSED,
			"its %s is '%s', which leads out of its folder", key,
			vmimg_escape(shown, sizeof(shown), file, strlen(file)));
	drive = vmimg_machine_add(machine->drives, machine->drive_count, machine->drive_cap, err);
	if (!drive)
		return -1;
	drive->kind = kind;
	drive->file = file;
	drive->controller = VMIMG_NONE;
	return 0;
}

static int ami_open(struct vmimg_bundle *bundle, struct vmimg_error *err)
{
	VMIMG_AUTO(free) char *text = NULL;
	uint64_t size = vmimg_io_size(bundle->io);
	struct vmimg_machine *machine;
	json_t *root;

	if (size > PROPERTIES_MAX)
		return vmimg_fail(err, VMIMG_ELIMIT, "a description of more than 64 KiB");
	text = vmimg_alloc_array(1, (size_t)size + 1, err);
	if (!text || vmimg_io_pread(bundle->io, text, (size_t)size, 0, err))
		return -1;
	bundle->state = root = json_loadb(text, (size_t)size, JSON_REJECT_DUPLICATES, NULL);
	if (!is_ami(root))
		return vmimg_fail(err, VMIMG_ECORRUPT, "it is no sound description of an AMI");
	machine = vmimg_machine_add(
		bundle->machines, bundle->machine_count, bundle->machine_cap, err);
	if (!machine)
		return -1;
	machine->name = text_of(root, "name");
	machine->architecture = text_of(root, "architecture");
	machine->kernel_id = text_of(root, "kernel_id");
	machine->ramdisk_id = text_of(root, "ramdisk_id");
	machine->command_line = text_of(root, "os_command_line");
	machine->os_text = text_of(root, "os_distro");
	return add_drive(bundle, "file", VMIMG_DRIVE_DISK, err) ||
			add_drive(bundle, "kernel", VMIMG_DRIVE_KERNEL, err) ||
			add_drive(bundle, "ramdisk", VMIMG_DRIVE_RAMDISK, err)
		? -1
		: 0;
}

static void ami_close(struct vmimg_bundle *bundle)
{
	json_decref(bundle->state);
}

static struct vmimg_io *ami_drive(
	struct vmimg_bundle *bundle, const struct vmimg_drive *drive, struct vmimg_error *err)
{
	struct vmimg_reference ref = { .kind = "file", .name = drive->file };

	return bundle->resolver->open(bundle->resolver, &ref, bundle->io, err);
}

const struct vmimg_bundle_format vmimg_bundle_ami = {
	.name = "ami",
	.title = "an AMI with its kernel and ramdisk",
	.suffixes = "ami.json",
	.probe = ami_probe,
	.open = ami_open,
	.close = ami_close,
	.drive = ami_drive,
};

/* ---- writing ---- */

static int copy(struct vmimg_io *from, struct vmimg_siblings *siblings, const char *name,
	struct vmimg_error *err)
{
	enum { STEP = 256 << 10 };
	VMIMG_AUTO(free) uint8_t *buf = vmimg_alloc_buffer(STEP, err);
	VMIMG_AUTO(vmimg_io_unref) struct vmimg_io *to = siblings->create(siblings, name, err);
	uint64_t size = vmimg_io_size(from), len;
	bool hole;

	if (!buf || !to || vmimg_io_resize(to, size, err))
		return -1;
	for (uint64_t at = 0; at < size; at += len) {
		if (vmimg_io_extent(from, at, &hole, &len, err))
			return -1;
		len = vmimg_min(len, hole ? size - at : STEP);
		if (hole)
			continue;
		if (vmimg_io_pread(from, buf, (size_t)len, at, err) ||
			vmimg_io_pwrite(to, buf, (size_t)len, at, err))
			return -1;
	}
	return 0;
}

static int add_file(json_t *root, const char *key, const struct vmimg_uec_plan *plan,
	const char *suffix, struct vmimg_io *io, struct vmimg_siblings *siblings,
	struct vmimg_error *err)
{
	char name[160];

	snprintf(name, sizeof(name), "%.120s%s", plan->name, suffix);
	json_object_set_new(root, key, json_string(name));
	return copy(io, siblings, name, err);
}

json_t *vmimg_ami_properties(const char *name, const struct vmimg_kernel *kernel)
{
	json_t *root = json_object();

	json_object_set_new(root, "name", json_string(name));
	json_object_set_new(root, "disk_format", json_string("ami"));
	json_object_set_new(root, "container_format", json_string("ami"));
	if (kernel->architecture)
		json_object_set_new(root, "architecture", json_string(kernel->architecture));
	return root;
}

int vmimg_ami_write(const struct vmimg_uec_plan *plan, struct vmimg_siblings *siblings,
	struct vmimg_io *io, struct vmimg_error *err)
{
	struct vmimg_kernel kernel;
	json_t *root;
	char *text = NULL;
	int failed;

	if (vmimg_kernel_read(plan->kernel, &kernel, err))
		return -1;
	root = vmimg_ami_properties(plan->name, &kernel);
	failed = add_file(root, "file", plan, ".img", plan->root, siblings, err) ||
		add_file(root, "kernel", plan, "-vmlinuz", plan->kernel, siblings, err) ||
		(plan->ramdisk &&
			add_file(root, "ramdisk", plan, "-initrd", plan->ramdisk, siblings, err));
	if (!failed) {
		text = json_dumps(root, JSON_INDENT(4));
		failed = text ? vmimg_io_pwrite(io, text, strlen(text), 0, err)
			      : vmimg_fail_nomem(err);
	}
	json_decref(root);
	free(text);
	return failed ? -1 : 0;
}
