/* SPDX-License-Identifier: Apache-2.0 */
/* The manifest is the bundle; the parts lie beside it. */
#include "bundle/ec2/ec2.h"
#include <inttypes.h>
#include <string.h>
#include "disk/info.h"
#include "util/limits.h"

static int ec2_probe(const struct vmimg_bundle_probe *probe)
{
	char root[64];

	if (probe->tar || !vmimg_xml_root_name(probe->head, probe->head_len, root, sizeof(root)) ||
		strcmp(root, "manifest"))
		return 0;
	/* others have manifests too */
	return memmem(probe->head, probe->head_len, "<image", 6) ||
			memmem(probe->head, probe->head_len, "<bundler", 8)
		? 90
		: 0;
}

static enum vmimg_drive_kind drive_kind(const struct vmimg_ec2 *ec2)
{
	const char *type = ec2->type ? ec2->type : "machine";
	bool kernel = ec2->kernel_id && !strcmp(ec2->kernel_id, "true"); /* Eucalyptus' way */
	bool ramdisk = ec2->ramdisk_id && !strcmp(ec2->ramdisk_id, "true");

	if (kernel || !strcmp(type, "kernel"))
		return VMIMG_DRIVE_KERNEL;
	return ramdisk || !strcmp(type, "ramdisk") ? VMIMG_DRIVE_RAMDISK : VMIMG_DRIVE_DISK;
}

static int add_machine(struct vmimg_bundle *bundle, struct vmimg_error *err)
{
	const struct vmimg_ec2 *ec2 = bundle->state;
	struct vmimg_machine *machine = vmimg_machine_add(
		bundle->machines, bundle->machine_count, bundle->machine_cap, err);
	struct vmimg_drive *drive;

	if (!machine)
		return -1;
	machine->name = ec2->name;
	machine->architecture = ec2->architecture;
	machine->kernel_id = ec2->kernel_id;
	machine->ramdisk_id = ec2->ramdisk_id;
	drive = vmimg_machine_add(machine->drives, machine->drive_count, machine->drive_cap, err);
	if (!drive)
		return -1;
	drive->kind = drive_kind(ec2);
	drive->id = "image";
	drive->file = ec2->name ? ec2->name : "image";
	drive->format = "raw";
	drive->capacity = ec2->size;
	drive->file_size = ec2->bundled_size;
	drive->compression = "gzip";
	drive->controller = VMIMG_NONE;
	return 0;
}

static int ec2_open(struct vmimg_bundle *bundle, struct vmimg_error *err)
{
	struct vmimg_ec2 *ec2 = vmimg_new(struct vmimg_ec2, err);
	uint64_t size = vmimg_io_size(bundle->io);

	bundle->state = ec2;
	if (!ec2)
		return -1;
	if (size > VMIMG_MAX_XML)
		return vmimg_fail(err, VMIMG_ELIMIT,
			"the manifest has %" PRIu64 " bytes, of which %d are read", size,
			VMIMG_MAX_XML);
	ec2->len = (size_t)size;
	ec2->text = vmimg_alloc_array(1, ec2->len + 1, err);
	if (!ec2->text || vmimg_io_pread(bundle->io, ec2->text, ec2->len, 0, err) ||
		vmimg_ec2_parse(bundle, err))
		return -1;
	return add_machine(bundle, err);
}

static void ec2_close(struct vmimg_bundle *bundle)
{
	struct vmimg_ec2 *ec2 = bundle->state;

	if (!ec2)
		return;
	vmimg_xml_free(ec2->xml);
	free(ec2->parts);
	free(ec2->text);
	free(ec2);
}

static struct vmimg_io *ec2_drive(
	struct vmimg_bundle *bundle, const struct vmimg_drive *drive, struct vmimg_error *err)
{
	(void)drive;
	return vmimg_ec2_image(bundle, err);
}

/* ---- describe ---- */

static json_t *mappings_json(const xmlNode *parent, struct vmimg_bundle *bundle)
{
	json_t *list = json_array();
	struct vmimg_error ignored;

	for (const xmlNode *n = parent ? vmimg_xml_child(parent, "mapping") : NULL; n;
		n = vmimg_xml_next(n, "mapping")) {
		json_t *mapping = json_object();
		const char *text;

		if (!vmimg_xml_child_text(n, "virtual", &bundle->pool, &text, &ignored) && text)
			vmimg_json_text(mapping, "virtual", text);
		if (!vmimg_xml_child_text(n, "device", &bundle->pool, &text, &ignored) && text)
			vmimg_json_text(mapping, "device", text);
		json_array_append_new(list, mapping);
	}
	if (json_array_size(list))
		return list;
	json_decref(list);
	return NULL;
}

static void set_optional(json_t *object, const char *key, json_t *value)
{
	if (value)
		json_object_set_new(object, key, value);
}

static const char *signature_word(const struct vmimg_bundle *bundle)
{
	const struct vmimg_ec2 *ec2 = bundle->state;
	struct vmimg_error ignored;
	bool good;

	if (!ec2->signature || !*ec2->signature || !strcmp(ec2->signature, "UNSIGNED"))
		return "none";
	if (!bundle->certificate)
		return "not checked";
	return !vmimg_ec2_check_signature(ec2, bundle->certificate, &good, &ignored) && good
		? "good"
		: "wrong";
}

static int ec2_describe(struct vmimg_bundle *bundle, json_t *root, struct vmimg_error *err)
{
	const struct vmimg_ec2 *ec2 = bundle->state;
	const xmlNode *manifest = vmimg_xml_root(ec2->xml);
	const xmlNode *machine = vmimg_xml_child(manifest, "machine_configuration");
	const xmlNode *image = vmimg_xml_child(manifest, "image");
	json_t *parts = json_array();

	(void)err;
	vmimg_json_text(root, "manifest-version", ec2->version);
	vmimg_json_text(root, "creator", ec2->bundler);
	vmimg_json_text(root, "creator-version", ec2->bundler_version);
	vmimg_json_text(root, "user", ec2->user);
	vmimg_json_text(root, "image-type", ec2->type);
	vmimg_json_text(root, "kernel-name", ec2->kernel_name);
	vmimg_json_text(root, "signature", signature_word(bundle));
	set_optional(root, "block-device-mappings",
		mappings_json(
			machine ? vmimg_xml_child(machine, "block_device_mapping") : NULL, bundle));
	set_optional(root, "product-codes",
		vmimg_ec2_list(machine ? vmimg_xml_child(machine, "product_codes") : NULL,
			"product_code", bundle));
	set_optional(root, "ancestry",
		vmimg_ec2_list(vmimg_xml_child(image, "ancestry"), "ancestor_ami_id", bundle));
	for (size_t i = 0; i < ec2->part_count; i++) {
		json_t *part = json_object();
		char hex[2 * VMIMG_EC2_SHA1 + 1];

		json_object_set_new(part, "kind", json_string("part"));
		vmimg_json_text(part, "filename", ec2->parts[i].file);
		vmimg_json_text(part, "sha1", vmimg_hex(hex, ec2->parts[i].digest, VMIMG_EC2_SHA1));
		json_array_append_new(parts, part);
	}
	json_object_set_new(root, "references", parts);
	return 0;
}

static int ec2_verify(struct vmimg_bundle *bundle, json_t *findings, struct vmimg_error *err)
{
	const char *word = signature_word(bundle);
	json_t *finding = json_object();

	json_object_set_new(finding, "file", json_string("signature"));
	json_object_set_new(finding, "status", json_string(strcmp(word, "good") ? word : "ok"));
	json_array_append_new(findings, finding);
	return vmimg_ec2_check_parts(bundle, findings, err);
}

const struct vmimg_bundle_format vmimg_bundle_ec2 = {
	.name = "ec2",
	.title = "a bundle for EC2",
	.suffixes = "manifest.xml",
	.probe = ec2_probe,
	.open = ec2_open,
	.close = ec2_close,
	.drive = ec2_drive,
	.describe = ec2_describe,
	.verify = ec2_verify,
};
