/* SPDX-License-Identifier: Apache-2.0 */
/* Finding one's way in the tree, and setting what the user names. */
#include "bundle/ovf/edit.h"
#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <strings.h>
#include "bundle/ovf_edit.h"
#include "util/text.h"

/* The first machine, also inside a collection. */
static xmlNode *find_system(xmlNode *parent)
{
	xmlNode *found = vmimg_xml_child(parent, "VirtualSystem");

	for (xmlNode *c = vmimg_xml_child(parent, "VirtualSystemCollection"); !found && c;
		c = vmimg_xml_next(c, "VirtualSystemCollection"))
		found = find_system(c);
	return found;
}

int vmimg_ovf_edit_begin(struct vmimg_ovf_edit *edit, struct vmimg_bundle *bundle, json_t *changes,
	struct vmimg_error *err)
{
	struct vmimg_ovf *ovf = bundle->state;

	*edit = (struct vmimg_ovf_edit){ .bundle = bundle, .xml = ovf->xml, .changes = changes };
	edit->root = vmimg_xml_root(ovf->xml);
	if (!ovf->version || !strcmp(ovf->version, "0.9"))
		return vmimg_fail(err, VMIMG_EUNSUPPORTED,
			"only descriptors of OVF 1.x and 2.x are changed, and this one is %s",
			ovf->version ? "of 0.9" : "of no known version");
	edit->system = find_system(edit->root);
	edit->hardware =
		edit->system ? vmimg_xml_child(edit->system, "VirtualHardwareSection") : NULL;
	return edit->hardware
		? 0
		: vmimg_fail(err, VMIMG_EUNSUPPORTED, "it describes no machine with hardware");
}

void vmimg_ovf_changed(struct vmimg_ovf_edit *edit, const char *fmt, ...)
{
	char text[300], shown[600];
	va_list args;

	va_start(args, fmt);
	vsnprintf(text, sizeof(text), fmt, args);
	va_end(args);
	vmimg_escape(shown, sizeof(shown), text, strlen(text));
	json_array_append_new(edit->changes, json_string(shown));
}

const char *vmimg_ovf_get(struct vmimg_ovf_edit *edit, const xmlNode *node, const char *name)
{
	const char *text = NULL;
	struct vmimg_error none;

	if (vmimg_xml_child_text(node, name, &edit->bundle->pool, &text, &none))
		return NULL;
	return text && *text ? text : NULL;
}

unsigned vmimg_ovf_type(const xmlNode *item)
{
	struct vmimg_pool pool = { 0 }; /* all items are asked again and again */
	const char *text = NULL;
	struct vmimg_error none;
	uint64_t value = 0;

	if (vmimg_xml_child_text(item, "ResourceType", &pool, &text, &none) || !text ||
		!vmimg_ovf_quantity(NULL, text, 1, &value) || value > 65535)
		value = 0;
	vmimg_pool_done(&pool);
	return (unsigned)value;
}

static bool is_item(const xmlNode *node)
{
	return vmimg_xml_is(node, "Item") || vmimg_xml_is(node, "StorageItem") ||
		vmimg_xml_is(node, "EthernetPortItem");
}

xmlNode *vmimg_ovf_item(struct vmimg_ovf_edit *edit, const xmlNode *after, unsigned type)
{
	xmlNode *node = after ? vmimg_xml_next(after, NULL) : vmimg_xml_child(edit->hardware, NULL);

	while (node && !(is_item(node) && (!type || vmimg_ovf_type(node) == type)))
		node = vmimg_xml_next(node, NULL);
	return node;
}

int vmimg_ovf_put(struct vmimg_ovf_edit *edit, xmlNode *item, const char *name, const char *text,
	struct vmimg_error *err)
{
	xmlNode *child = vmimg_xml_child(item, name), *before;
	xmlNode *first = vmimg_xml_child(item, NULL);
	const char *space = first && first->ns ? (const char *)first->ns->href : VMIMG_RASD_SPACE;

	if (child)
		return vmimg_xml_set_text(edit->xml, child, text, err);
	before = first;
	while (before && before->ns && !strcmp((const char *)before->ns->href, space) &&
		strcmp((const char *)before->name, name) < 0)
		before = vmimg_xml_next(before, NULL);
	child = vmimg_xml_add(edit->xml, item, before, space, "rasd", name, err);
	return child ? vmimg_xml_set_text(edit->xml, child, text, err) : -1;
}

xmlNode *vmimg_ovf_new_item(struct vmimg_ovf_edit *edit, unsigned type, struct vmimg_error *err)
{
	const char *space = (const char *)edit->root->ns->href;
	xmlNode *last = NULL, *before, *item;
	uint64_t highest = 0, id;
	char text[24];

	for (xmlNode *node = NULL; (node = vmimg_ovf_item(edit, node, 0)); last = node) {
		const char *instance = vmimg_ovf_get(edit, node, "InstanceID");

		if (instance && vmimg_ovf_quantity(NULL, instance, 1, &id) && id > highest)
			highest = id;
	}
	before = last ? vmimg_xml_next(last, NULL) : NULL;
	item = vmimg_xml_add(edit->xml, edit->hardware, before, space, "ovf", "Item", err);
	if (!item)
		return NULL;
	snprintf(text, sizeof(text), "%" PRIu64, highest + 1);
	if (vmimg_ovf_put(edit, item, "InstanceID", text, err))
		return NULL;
	snprintf(text, sizeof(text), "%u", type);
	return vmimg_ovf_put(edit, item, "ResourceType", text, err) ? NULL : item;
}

/* ---- setting ----------------------------------------------------------------------------- */

/* All items of a type after that one. */
static void remove_items(struct vmimg_ovf_edit *edit, const xmlNode *after, unsigned type)
{
	xmlNode *next, *item = vmimg_ovf_item(edit, after, type);

	for (; item; item = next) {
		next = vmimg_ovf_item(edit, item, type);
		vmimg_xml_remove(edit->xml, item);
	}
}

static int set_number(struct vmimg_ovf_edit *edit, unsigned type, uint64_t number,
	const char *units, const char *name, struct vmimg_error *err)
{
	xmlNode *item = vmimg_ovf_item(edit, NULL, type);
	char text[24];

	snprintf(text, sizeof(text), "%" PRIu64, number);
	if (!item && !(item = vmimg_ovf_new_item(edit, type, err)))
		return -1;
	/* those of other configurations, and bounds */
	remove_items(edit, item, type);
	vmimg_xml_drop_attr(edit->xml, item, "configuration");
	vmimg_xml_drop_attr(edit->xml, item, "bound");
	vmimg_ovf_changed(edit, "%s is %s",
		type == 3 ? "the number of processors" : "the memory in MiB", text);
	if (vmimg_ovf_put(edit, item, "VirtualQuantity", text, err) ||
		(units && vmimg_ovf_put(edit, item, "AllocationUnits", units, err)))
		return -1;
	return vmimg_ovf_put(edit, item, "ElementName", name, err);
}

static int set_name(struct vmimg_ovf_edit *edit, const char *name, struct vmimg_error *err)
{
	const char *space = (const char *)edit->root->ns->href;
	xmlNode *node = vmimg_xml_child(edit->system, "Name");
	xmlNode *system = vmimg_xml_child(edit->hardware, "System");
	xmlNode *identifier = system ? vmimg_xml_child(system, "VirtualSystemIdentifier") : NULL;
	xmlNode *info = vmimg_xml_child(edit->system, "Info");

	if (!node)
		node = vmimg_xml_add(edit->xml, edit->system,
			info ? vmimg_xml_next(info, NULL) : vmimg_xml_child(edit->system, NULL),
			space, "ovf", "Name", err);
	vmimg_ovf_changed(edit, "the name is %s", name);
	if (!node || vmimg_xml_set_text(edit->xml, node, name, err))
		return -1;
	return identifier ? vmimg_xml_set_text(edit->xml, identifier, name, err) : 0;
}

static int set_config(
	struct vmimg_ovf_edit *edit, const char *key, const char *value, struct vmimg_error *err)
{
	xmlNode *node = vmimg_xml_child(edit->hardware, "Config");
	const char *found;

	while (node && !((found = vmimg_xml_attr(node, "key")) && !strcasecmp(found, key)))
		node = vmimg_xml_next(node, "Config");
	vmimg_ovf_changed(edit, "%s is %s", key, value);
	if (node)
		return vmimg_xml_set_attr(edit->xml, node, NULL, "value", value, err);
	node = vmimg_xml_add(
		edit->xml, edit->hardware, NULL, VMIMG_VMW_SPACE, "vmw", "Config", err);
	if (!node ||
		vmimg_xml_set_attr(edit->xml, node, (const char *)edit->root->ns->href, "required",
			"false", err))
		return -1;
	return vmimg_xml_set_attr(edit->xml, node, VMIMG_VMW_SPACE, "key", key, err) ||
			vmimg_xml_set_attr(edit->xml, node, VMIMG_VMW_SPACE, "value", value, err)
		? -1
		: 0;
}

static int add_nic(
	struct vmimg_ovf_edit *edit, const struct vmimg_nic *nic, size_t i, struct vmimg_error *err)
{
	const char *network = nic->network ? nic->network : "VM Network";
	xmlNode *item = vmimg_ovf_new_item(edit, 10, err);
	char number[24], name[48];

	snprintf(number, sizeof(number), "%zu", i + 7);
	snprintf(name, sizeof(name), "Network adapter %zu", i + 1);
	vmimg_ovf_changed(edit, "network adapter %zu is %s on %s", i + 1, nic->model, network);
	if (!item || vmimg_ovf_put(edit, item, "AddressOnParent", number, err) ||
		vmimg_ovf_put(edit, item, "AutomaticAllocation", "true", err) ||
		vmimg_ovf_put(edit, item, "Connection", network, err) ||
		vmimg_ovf_put(edit, item, "ElementName", name, err))
		return -1;
	return vmimg_ovf_put(edit, item, "ResourceSubType", nic->model, err);
}

/* A section of the envelope or the machine, made when it is not there. */
static xmlNode *section(struct vmimg_ovf_edit *edit, xmlNode *parent, const char *name,
	const char *info, struct vmimg_error *err)
{
	const char *space = (const char *)edit->root->ns->href;
	xmlNode *node = vmimg_xml_child(parent, name), *about, *before = NULL;

	if (node)
		return node;
	if (parent == edit->root) /* sections stand before the machines */
		for (before = vmimg_xml_child(parent, NULL);
			before && strncmp((const char *)before->name, "VirtualSystem", 13);
			before = vmimg_xml_next(before, NULL))
			;
	node = vmimg_xml_add(edit->xml, parent, before, space, "ovf", name, err);
	about = node ? vmimg_xml_add(edit->xml, node, NULL, space, "ovf", "Info", err) : NULL;
	return about && !vmimg_xml_set_text(edit->xml, about, info, err) ? node : NULL;
}

static int add_network(struct vmimg_ovf_edit *edit, const char *name, struct vmimg_error *err)
{
	const char *space = (const char *)edit->root->ns->href, *found;
	xmlNode *networks = section(edit, edit->root, "NetworkSection", "Logical networks", err);
	xmlNode *node = networks ? vmimg_xml_child(networks, "Network") : NULL, *about;

	if (!networks)
		return -1;
	for (; node; node = vmimg_xml_next(node, "Network"))
		if ((found = vmimg_xml_attr(node, "name")) && !strcmp(found, name))
			return 0;
	node = vmimg_xml_add(edit->xml, networks, NULL, space, "ovf", "Network", err);
	if (!node || vmimg_xml_set_attr(edit->xml, node, space, "name", name, err))
		return -1;
	about = vmimg_xml_add(edit->xml, node, NULL, space, "ovf", "Description", err);
	return about ? vmimg_xml_set_text(edit->xml, about, name, err) : -1;
}

static int set_nics(
	struct vmimg_ovf_edit *edit, const struct vmimg_machine *machine, struct vmimg_error *err)
{
	remove_items(edit, NULL, 10);
	for (size_t i = 0; i < machine->nic_count; i++) {
		const struct vmimg_nic *nic = &machine->nics[i];

		if (add_nic(edit, nic, i, err) ||
			add_network(edit, nic->network ? nic->network : "VM Network", err))
			return -1;
	}
	return 0;
}

static xmlNode *find_property(struct vmimg_ovf_edit *edit, const char *key)
{
	for (xmlNode *product = vmimg_xml_child(edit->system, "ProductSection"); product;
		product = vmimg_xml_next(product, "ProductSection"))
		for (xmlNode *node = vmimg_xml_child(product, "Property"); node;
			node = vmimg_xml_next(node, "Property")) {
			const char *found = vmimg_xml_attr(node, "key");

			if (found && !strcmp(found, key))
				return node;
		}
	return NULL;
}

static int set_property(
	struct vmimg_ovf_edit *edit, const struct vmimg_property *property, struct vmimg_error *err)
{
	const char *space = (const char *)edit->root->ns->href;
	xmlNode *node = find_property(edit, property->key), *product;

	vmimg_ovf_changed(edit, "property %s is %s", property->key, property->value);
	if (node)
		return vmimg_xml_set_attr(edit->xml, node, space, "value", property->value, err);
	product = section(edit, edit->system, "ProductSection", "Product and properties", err);
	node = product ? vmimg_xml_add(edit->xml, product, NULL, space, "ovf", "Property", err)
		       : NULL;
	if (!node || vmimg_xml_set_attr(edit->xml, node, space, "key", property->key, err) ||
		vmimg_xml_set_attr(edit->xml, node, space, "type", "string", err) ||
		vmimg_xml_set_attr(edit->xml, node, space, "userConfigurable", "true", err))
		return -1;
	return vmimg_xml_set_attr(edit->xml, node, space, "value", property->value, err);
}

static int set_section_text(struct vmimg_ovf_edit *edit, const char *name, const char *child,
	const char *info, const char *text, struct vmimg_error *err)
{
	const char *space = (const char *)edit->root->ns->href;
	xmlNode *node = section(edit, edit->system, name, info, err);
	xmlNode *inner = node ? vmimg_xml_child(node, child) : NULL;

	if (node && !inner)
		inner = vmimg_xml_add(edit->xml, node, NULL, space, "ovf", child, err);
	vmimg_ovf_changed(edit, "%s has a new text", name);
	return inner ? vmimg_xml_set_text(edit->xml, inner, text, err) : -1;
}

static int set_hardware(struct vmimg_ovf_edit *edit, const char *family, struct vmimg_error *err)
{
	xmlNode *system = vmimg_xml_child(edit->hardware, "System");
	xmlNode *type = system ? vmimg_xml_child(system, "VirtualSystemType") : NULL;

	if (!type)
		return vmimg_fail(err, VMIMG_EUNSUPPORTED, "it has no hardware family to set");
	vmimg_ovf_changed(edit, "the hardware family is %s", family);
	return vmimg_xml_set_text(edit->xml, type, family, err);
}

static int set_os(struct vmimg_ovf_edit *edit, const char *hint, struct vmimg_error *err)
{
	const struct vmimg_ovf_os *os = vmimg_ovf_os(hint, 0);
	xmlNode *node = section(edit, edit->system, "OperatingSystemSection",
		"The kind of installed guest operating system", err);
	char id[16];

	if (!os)
		return vmimg_fail(err, VMIMG_EINVAL, "'%.40s' is no guest that is known", hint);
	if (!node)
		return -1;
	snprintf(id, sizeof(id), "%u", os->id);
	vmimg_ovf_changed(edit, "the guest is %s", os->text);
	return vmimg_xml_set_attr(
		       edit->xml, node, (const char *)edit->root->ns->href, "id", id, err) ||
			vmimg_xml_set_attr(
				edit->xml, node, VMIMG_VMW_SPACE, "osType", os->vmware, err)
		? -1
		: 0;
}

static int set_all(
	struct vmimg_ovf_edit *edit, const struct vmimg_machine *m, struct vmimg_error *err)
{
	char name[64];

	snprintf(name, sizeof(name), "%u virtual CPU(s)", m->cpus);
	if ((m->name && set_name(edit, m->name, err)) ||
		(m->cpus && set_number(edit, 3, m->cpus, NULL, name, err)))
		return -1;
	snprintf(name, sizeof(name), "%" PRIu64 "MB of memory", m->memory >> 20);
	if ((m->memory && set_number(edit, 4, m->memory >> 20, "byte * 2^20", name, err)) ||
		(m->nic_count && set_nics(edit, m, err)) ||
		(m->hardware && set_hardware(edit, m->hardware, err)) ||
		(m->os_hint && set_os(edit, m->os_hint, err)) ||
		(m->firmware &&
			set_config(edit, "firmware", vmimg_firmware_name(m->firmware), err)) ||
		(m->secure_boot &&
			set_config(edit, "bootOptions.efiSecureBootEnabled",
				m->secure_boot == VMIMG_YES ? "true" : "false", err)) ||
		(m->annotation &&
			set_section_text(edit, "AnnotationSection", "Annotation", "A note",
				m->annotation, err)) ||
		(m->eula_count &&
			set_section_text(edit, "EulaSection", "License", "A licence agreement",
				m->eulas[0], err)))
		return -1;
	for (size_t i = 0; i < m->property_count; i++)
		if (set_property(edit, &m->properties[i], err))
			return -1;
	return 0;
}

int vmimg_ovf_set(struct vmimg_bundle *bundle, const struct vmimg_machine *machine, json_t *changes,
	struct vmimg_error *err)
{
	struct vmimg_ovf_edit edit;

	return vmimg_ovf_edit_begin(&edit, bundle, changes, err) ? -1
								 : set_all(&edit, machine, err);
}
