/* SPDX-License-Identifier: Apache-2.0 */
/* From the document to machines: everything but the hardware. */
#include <stdio.h>
#include <string.h>
#include "bundle/ovf/ovf.h"
#include "util/limits.h"
#include "util/num.h"
#include "util/text.h"

bool vmimg_ovf_is_section(const xmlNode *node, const char *name)
{
	const char *type, *colon;
	size_t len = strlen(name);

	if (vmimg_xml_is(node, name))
		return true;
	if (!vmimg_xml_is(node, "Section") && !vmimg_xml_is(node, "Content"))
		return false;
	type = vmimg_xml_attr(node, "type");
	colon = type ? strchr(type, ':') : NULL;
	type = colon ? colon + 1 : type;
	return type && !strncmp(type, name, len) && !strcmp(type + len, "_Type");
}

xmlNode *vmimg_ovf_section(const xmlNode *parent, const xmlNode *after, const char *name)
{
	xmlNode *node = after ? vmimg_xml_next(after, NULL) : vmimg_xml_child(parent, NULL);

	while (node && !vmimg_ovf_is_section(node, name))
		node = vmimg_xml_next(node, NULL);
	return node;
}

/* An attribute copied to the bundle's pool; *text untouched when it is not there. */
static int take_attr(struct vmimg_bundle *bundle, const xmlNode *node, const char *name,
	const char **text, struct vmimg_error *err)
{
	const char *value = vmimg_xml_attr(node, name);
	const char *copy = value ? vmimg_pool_text(&bundle->pool, value, err) : NULL;

	if (value && !copy)
		return -1;
	if (copy)
		*text = copy;
	return 0;
}

/* Left out of the description, which is then worth less, but not worthless. */
static void warn_number(
	struct vmimg_bundle *bundle, const xmlNode *node, const char *name, const char *value)
{
	char shown[60];

	vmimg_bundle_warn(bundle, "line %ld: %s=\"%s\" is not a size", (long)node->line, name,
		vmimg_escape(shown, sizeof(shown), value, strlen(value)));
}

/* A size in an attribute; *size untouched when it is not there, or no number. */
static void take_size(
	struct vmimg_bundle *bundle, const xmlNode *node, const char *name, uint64_t *size)
{
	const char *value = vmimg_xml_attr(node, name);

	if (value && *value && !vmimg_ovf_quantity(NULL, value, 1, size))
		warn_number(bundle, node, name, value);
}

/* ---- files and disks --------------------------------------------------------------------- */

static int read_file(struct vmimg_bundle *bundle, const xmlNode *node, struct vmimg_error *err)
{
	struct vmimg_ovf *ovf = bundle->state;
	struct vmimg_ovf_file *file;
	const char *compression = NULL;

	if (ovf->file_count >= VMIMG_MAX_OVF_ITEMS)
		return vmimg_fail(err, VMIMG_ELIMIT, "more than %d files", VMIMG_MAX_OVF_ITEMS);
	file = vmimg_machine_add(ovf->files, ovf->file_count, ovf->file_cap, err);
	if (!file)
		return -1;
	*file = (struct vmimg_ovf_file){ .id = "", .href = "", .size = VMIMG_NONE };
	if (take_attr(bundle, node, "id", &file->id, err) ||
		take_attr(bundle, node, "href", &file->href, err) ||
		take_attr(bundle, node, "compression", &compression, err))
		return -1;
	take_size(bundle, node, "size", &file->size);
	take_size(bundle, node, "chunkSize", &file->chunk_size);
	if (compression && *compression && strcmp(compression, "identity"))
		file->compression = compression;
	return 0;
}

static int read_files(struct vmimg_bundle *bundle, const xmlNode *root, struct vmimg_error *err)
{
	const xmlNode *references = vmimg_xml_child(root, "References");

	for (const xmlNode *node = vmimg_xml_child(references, "File"); node;
		node = vmimg_xml_next(node, "File"))
		if (read_file(bundle, node, err))
			return -1;
	return 0;
}

/* oVirt gives a size in GiB where OVF has capacity. */
static void read_capacity(
	struct vmimg_bundle *bundle, const xmlNode *node, struct vmimg_ovf_disk *disk)
{
	const char *unit = vmimg_xml_attr(node, "capacityAllocationUnits");
	const char *number = vmimg_xml_attr(node, "capacity");
	uint64_t factor = unit && *unit ? vmimg_ovf_unit(unit) : 1;

	if (!number && vmimg_xml_attr(node, "size")) {
		number = vmimg_xml_attr(node, "size");
		factor = UINT64_C(1) << 30;
	}
	if (!factor)
		warn_number(bundle, node, "capacityAllocationUnits", unit);
	else if (!number || !*number)
		vmimg_bundle_warn(bundle, "line %ld: a disk without capacity", (long)node->line);
	else if (!strncmp(number, "${", 2)) /* a property of some machine */
		vmimg_bundle_warn(bundle, "line %ld: a capacity that the user is to choose",
			(long)node->line);
	else if (!vmimg_ovf_quantity(NULL, number, factor, &disk->capacity))
		warn_number(bundle, node, "capacity", number);
}

static int read_disk(struct vmimg_bundle *bundle, const xmlNode *node, struct vmimg_error *err)
{
	struct vmimg_ovf *ovf = bundle->state;
	struct vmimg_ovf_disk *disk;

	if (ovf->disk_count >= VMIMG_MAX_OVF_ITEMS)
		return vmimg_fail(err, VMIMG_ELIMIT, "more than %d disks", VMIMG_MAX_OVF_ITEMS);
	disk = vmimg_machine_add(ovf->disks, ovf->disk_count, ovf->disk_cap, err);
	if (!disk)
		return -1;
	disk->id = "";
	if (take_attr(bundle, node, "diskId", &disk->id, err) ||
		take_attr(bundle, node, "fileRef", &disk->file_ref, err) ||
		take_attr(bundle, node, "parentRef", &disk->parent, err) ||
		take_attr(bundle, node, "format", &disk->format, err) ||
		take_attr(bundle, node, "volume-format", &disk->volume, err))
		return -1;
	take_size(bundle, node, "populatedSize", &disk->populated);
	if (disk->parent && !*disk->parent)
		disk->parent = NULL;
	read_capacity(bundle, node, disk);
	return 0;
}

static int read_disks(struct vmimg_bundle *bundle, const xmlNode *root, struct vmimg_error *err)
{
	for (const xmlNode *section = vmimg_ovf_section(root, NULL, "DiskSection"); section;
		section = vmimg_ovf_section(root, section, "DiskSection"))
		for (const xmlNode *node = vmimg_xml_child(section, "Disk"); node;
			node = vmimg_xml_next(node, "Disk"))
			if (read_disk(bundle, node, err))
				return -1;
	return 0;
}

/* ---- sections of a machine --------------------------------------------------------------- */

static int read_os(struct vmimg_bundle *bundle, struct vmimg_machine *machine, const xmlNode *node,
	struct vmimg_error *err)
{
	const char *id = vmimg_xml_attr(node, "id"), *hint = NULL;
	uint64_t number;

	if (id && vmimg_ovf_quantity(NULL, id, 1, &number) && number <= UINT32_MAX)
		machine->os_id = (unsigned)number;
	if (take_attr(bundle, node, "osType", &machine->os_hint, err) ||
		vmimg_xml_child_text(node, "Description", &bundle->pool, &machine->os_text, err) ||
		vmimg_xml_child_text(node, "OSType", &bundle->pool, &hint, err))
		return -1;
	if (!machine->os_hint)
		machine->os_hint = hint;
	return 0;
}

static int read_eula(struct vmimg_bundle *bundle, struct vmimg_machine *machine,
	const xmlNode *node, struct vmimg_error *err)
{
	const char **eula, *text;

	if (vmimg_xml_child_text(node, "License", &bundle->pool, &text, err))
		return -1;
	if (!text)
		return 0;
	eula = vmimg_machine_add(machine->eulas, machine->eula_count, machine->eula_cap, err);
	if (!eula)
		return -1;
	*eula = text;
	return 0;
}

/* A text that stands there once, and is kept with each property or machine that it is said of. */
static int count_text(struct vmimg_bundle *bundle, const char *text, struct vmimg_error *err)
{
	struct vmimg_ovf *ovf = bundle->state;

	ovf->repeated += text ? strlen(text) : 0;
	return ovf->repeated <= VMIMG_MAX_XML
		? 0
		: vmimg_fail(err, VMIMG_ELIMIT,
			  "texts that stand there once and are said of many things have more than "
			  "%d bytes together",
			  VMIMG_MAX_XML);
}

static const char *not_empty(const char *text)
{
	return text && *text ? text : NULL;
}

/* The key as a guest sees it: class.key.instance. */
static const char *full_key(struct vmimg_bundle *bundle, const xmlNode *section, const char *key,
	struct vmimg_error *err)
{
	const char *class = not_empty(vmimg_xml_attr(section, "class"));
	const char *instance = not_empty(vmimg_xml_attr(section, "instance"));

	if (count_text(bundle, class, err) || count_text(bundle, instance, err))
		return NULL;
	return vmimg_pool_printf(&bundle->pool, err, "%s%s%s%s%s", class ? class : "",
		class ? "." : "", key, instance ? "." : "", instance ? instance : "");
}

static int read_property(struct vmimg_bundle *bundle, struct vmimg_machine *machine,
	const xmlNode *section, const xmlNode *node, struct vmimg_error *err)
{
	const char *key = vmimg_xml_attr(node, "key");
	const char *user = vmimg_xml_attr(node, "userConfigurable");
	struct vmimg_property *property;

	if (machine->property_count >= VMIMG_MAX_OVF_ITEMS)
		return vmimg_fail(
			err, VMIMG_ELIMIT, "more than %d properties", VMIMG_MAX_OVF_ITEMS);
	property = vmimg_machine_add(
		machine->properties, machine->property_count, machine->property_cap, err);
	if (!property)
		return -1;
	property->user = user && (!strcmp(user, "true") || !strcmp(user, "1"));
	property->key = full_key(bundle, section, key ? key : "", err);
	if (!property->key || take_attr(bundle, node, "type", &property->type, err) ||
		take_attr(bundle, node, "value", &property->value, err) ||
		vmimg_xml_child_text(node, "Label", &bundle->pool, &property->label, err))
		return -1;
	return vmimg_xml_child_text(
		node, "Description", &bundle->pool, &property->description, err);
}

static int read_product(struct vmimg_bundle *bundle, struct vmimg_machine *machine,
	const xmlNode *node, struct vmimg_error *err)
{
	struct vmimg_pool *pool = &bundle->pool;

	if (!machine->product && !machine->vendor && !machine->version &&
		(vmimg_xml_child_text(node, "Product", pool, &machine->product, err) ||
			vmimg_xml_child_text(node, "Vendor", pool, &machine->vendor, err) ||
			vmimg_xml_child_text(node, "Version", pool, &machine->version, err)))
		return -1;
	for (const xmlNode *p = vmimg_xml_child(node, "Property"); p;
		p = vmimg_xml_next(p, "Property"))
		if (read_property(bundle, machine, node, p, err))
			return -1;
	return 0;
}

static int read_deployments(struct vmimg_bundle *bundle, struct vmimg_machine *machine,
	const xmlNode *section, struct vmimg_error *err)
{
	struct vmimg_ovf *ovf = bundle->state;
	bool any_default = false;

	for (const xmlNode *node = vmimg_xml_child(section, "Configuration"); node;
		node = vmimg_xml_next(node, "Configuration")) {
		const char *standard = vmimg_xml_attr(node, "default");
		struct vmimg_deployment *d;

		if (++ovf->deployment_count > VMIMG_MAX_OVF_ITEMS)
			return vmimg_fail(err, VMIMG_ELIMIT, "more than %d deployment options",
				VMIMG_MAX_OVF_ITEMS);
		d = vmimg_machine_add(machine->deployments, machine->deployment_count,
			machine->deployment_cap, err);
		if (!d || take_attr(bundle, node, "id", &d->id, err) ||
			vmimg_xml_child_text(node, "Label", &bundle->pool, &d->label, err) ||
			vmimg_xml_child_text(
				node, "Description", &bundle->pool, &d->description, err) ||
			count_text(bundle, d->id, err) || count_text(bundle, d->label, err) ||
			count_text(bundle, d->description, err))
			return -1;
		d->is_default = standard && (!strcmp(standard, "true") || !strcmp(standard, "1"));
		any_default |= d->is_default;
	}
	if (!any_default && machine->deployment_count)
		machine->deployments[0].is_default = true;
	return 0;
}

/* Sections that say the same at any place in the tree. */
static int read_section(struct vmimg_bundle *bundle, struct vmimg_machine *machine,
	const xmlNode *node, struct vmimg_error *err)
{
	if (vmimg_ovf_is_section(node, "OperatingSystemSection"))
		return read_os(bundle, machine, node, err);
	if (vmimg_ovf_is_section(node, "EulaSection"))
		return read_eula(bundle, machine, node, err);
	if (vmimg_ovf_is_section(node, "ProductSection"))
		return read_product(bundle, machine, node, err);
	if (vmimg_ovf_is_section(node, "AnnotationSection"))
		return vmimg_xml_child_text(
			node, "Annotation", &bundle->pool, &machine->annotation, err);
	return 0;
}

static int read_sections(struct vmimg_bundle *bundle, struct vmimg_machine *machine,
	const xmlNode *parent, struct vmimg_error *err)
{
	for (const xmlNode *node = vmimg_xml_child(parent, NULL); node;
		node = vmimg_xml_next(node, NULL))
		if (read_section(bundle, machine, node, err))
			return -1;
	return 0;
}

/* ---- machines ---------------------------------------------------------------------------- */

/* options: of all machines; NULL: there are none. */
static int read_machine(struct vmimg_bundle *bundle, const xmlNode *options, const xmlNode *node,
	struct vmimg_error *err)
{
	struct vmimg_machine *machine;

	if (bundle->machine_count >= VMIMG_MAX_OVF_ITEMS)
		return vmimg_fail(err, VMIMG_ELIMIT, "more than %d machines", VMIMG_MAX_OVF_ITEMS);
	machine = vmimg_machine_add(
		bundle->machines, bundle->machine_count, bundle->machine_cap, err);
	if (!machine || take_attr(bundle, node, "id", &machine->id, err) ||
		vmimg_xml_child_text(node, "Name", &bundle->pool, &machine->name, err) ||
		read_sections(bundle, machine, node, err) ||
		(options && read_deployments(bundle, machine, options, err)))
		return -1;
	for (const xmlNode *hardware = vmimg_ovf_section(node, NULL, "VirtualHardwareSection");
		hardware; hardware = vmimg_ovf_section(node, hardware, "VirtualHardwareSection"))
		if (vmimg_ovf_read_hardware(bundle, machine, hardware, err))
			return -1;
	return 0;
}

/* A system, or a collection of them; the parser has bounded the depth. */
static int read_content(struct vmimg_bundle *bundle, const xmlNode *options, const xmlNode *parent,
	struct vmimg_error *err)
{
	for (const xmlNode *node = vmimg_xml_child(parent, NULL); node;
		node = vmimg_xml_next(node, NULL)) {
		if (vmimg_ovf_is_section(node, "VirtualSystem") &&
			read_machine(bundle, options, node, err))
			return -1;
		if (vmimg_ovf_is_section(node, "VirtualSystemCollection") &&
			read_content(bundle, options, node, err))
			return -1;
	}
	return 0;
}

static void note_version(struct vmimg_bundle *bundle, const xmlNode *root)
{
	struct vmimg_ovf *ovf = bundle->state;
	const char *href = root->ns ? (const char *)root->ns->href : "";
	char shown[80];

	if (strstr(href, "vmware.com/schema/ovf/1"))
		ovf->version = "0.9";
	else if (strstr(href, "/ovf/envelope/1") || strstr(href, "/ovf/1/envelope"))
		ovf->version = "1";
	else if (strstr(href, "/ovf/envelope/2"))
		ovf->version = "2";
	else
		vmimg_bundle_warn(bundle, "the name space \"%s\" is of no known version of OVF",
			vmimg_escape(shown, sizeof(shown), href, strlen(href)));
}

int vmimg_ovf_read(struct vmimg_bundle *bundle, struct vmimg_error *err)
{
	struct vmimg_ovf *ovf = bundle->state;
	const xmlNode *root = vmimg_xml_root(ovf->xml);
	char shown[100];

	if (!vmimg_xml_is(root, "Envelope"))
		return vmimg_fail(err, VMIMG_EFORMAT, "%s is XML, but not an OVF envelope",
			vmimg_escape(shown, sizeof(shown), ovf->name, strlen(ovf->name)));
	note_version(bundle, root);
	if (read_files(bundle, root, err) || read_disks(bundle, root, err) ||
		read_content(
			bundle, vmimg_ovf_section(root, NULL, "DeploymentOptionSection"), root, err))
		return -1;
	if (!bundle->machine_count) {
		vmimg_bundle_warn(bundle, "it describes no machine");
		if (!vmimg_machine_add(
			    bundle->machines, bundle->machine_count, bundle->machine_cap, err))
			return -1;
	}
	if (read_sections(bundle, &bundle->machines[0], root, err))
		return -1;
	return vmimg_ovf_add_unused(bundle, err);
}
