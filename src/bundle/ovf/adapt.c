/* SPDX-License-Identifier: Apache-2.0 */
/*
 * From one hypervisor's dialect to another's: what the target is known to refuse is changed, and
 * nothing else. doc/formats/ovf.md says where each rule comes from.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include "bundle/ovf/edit.h"
#include "bundle/ovf_edit.h"
#include "util/num.h"

#define PLACES 1024U /* on a controller, more than any has */

struct adapting {
	struct vmimg_ovf_edit edit;
	const struct vmimg_ovf_dialect *dialect;
	/* where drives without a controller go; NULL: not known yet */
	xmlNode *controller;
	const char *controller_id; /* NULL: it has none */
	bool taken[PLACES];
};

/* Readers of 1.x do not know the name space of 2.x. */
static int lower_version(struct adapting *a, struct vmimg_error *err)
{
	vmimg_ovf_changed(&a->edit, "OVF 2.x becomes 1.x");
	return vmimg_xml_move_space(a->edit.xml, VMIMG_OVF_SPACE2, VMIMG_OVF_SPACE, err);
}

/* StorageItem and EthernetPortItem of 2.x as Items, their children in rasd. */
static int make_plain(struct adapting *a, xmlNode *item, struct vmimg_error *err)
{
	if (vmimg_xml_is(item, "Item"))
		return 0;
	vmimg_ovf_changed(&a->edit, "%s becomes Item", (const char *)item->name);
	vmimg_xml_rename(a->edit.xml, item, "Item");
	for (xmlNode *child = vmimg_xml_child(item, NULL); child;
		child = vmimg_xml_next(child, NULL)) {
		bool theirs = child->ns && strstr((const char *)child->ns->href, "cim-schema");

		if (theirs &&
			vmimg_xml_set_space(a->edit.xml, child, VMIMG_RASD_SPACE, "rasd", err))
			return -1;
	}
	return 0;
}

/* The model that the target has instead of one that it does not know; "" : none is to be named;
 * NULL: it may stay. */
static const char *other_model(
	const struct vmimg_ovf_dialect *dialect, unsigned type, const char *model)
{
	static const struct {
		unsigned type;
		const char *from, *vmware, *virtualbox; /* NULL: fine */
	} models[] = {
		{ 5, "PIIX4", "", NULL },
		{ 5, "PIIX3", "", NULL },
		{ 6, "VirtioSCSI", "VirtualSCSI", NULL },
		{ 6, "virtio-scsi", "VirtualSCSI", NULL },
		{ 6, "virtio", "VirtualSCSI", "lsilogic" },
		{ 6, "VirtualSCSI", NULL, "lsilogic" },
		{ 20, "AHCI", "vmware.sata.ahci", NULL },
		{ 20, "NVMe", "vmware.nvme.controller", NULL },
		{ 20, "VirtioSCSI", "vmware.sata.ahci", NULL },
		{ 10, "virtio", "VmxNet3", NULL },
		{ 10, "VmxNet3", NULL, "E1000" },
		{ 10, "E1000e", NULL, "E1000" },
	};

	for (size_t i = 0; i < VMIMG_ARRAY_LEN(models); i++)
		if (models[i].type == type && !strcasecmp(models[i].from, model))
			return dialect->family_vmx           ? models[i].vmware
				: dialect->family_virtualbox ? models[i].virtualbox
							     : NULL;
	return NULL;
}

static int adapt_model(struct adapting *a, xmlNode *item, struct vmimg_error *err)
{
	unsigned type = vmimg_ovf_type(item);
	const char *model = vmimg_ovf_get(&a->edit, item, "ResourceSubType");
	const char *other = model ? other_model(a->dialect, type, model) : NULL;
	xmlNode *node = vmimg_xml_child(item, "ResourceSubType");

	if (!other)
		return 0;
	vmimg_ovf_changed(&a->edit, *other ? "%s becomes %s" : "%s is left out%s", model, other);
	if (*other)
		return vmimg_xml_set_text(a->edit.xml, node, other, err);
	vmimg_xml_remove(a->edit.xml, node);
	return 0;
}

static int adapt_memory(struct adapting *a, xmlNode *item, struct vmimg_error *err)
{
	const char *units = vmimg_ovf_get(&a->edit, item, "AllocationUnits");
	const char *number = vmimg_ovf_get(&a->edit, item, "VirtualQuantity");
	uint64_t factor = units ? vmimg_ovf_unit(units) : 0, bytes;
	char text[24];

	if (vmimg_ovf_type(item) != 4 || !number || (units && !strcmp(units, "byte * 2^20")))
		return 0;
	if (!factor || !vmimg_ovf_quantity(NULL, number, factor, &bytes) || bytes % (1 << 20))
		return 0;
	snprintf(text, sizeof(text), "%llu", (unsigned long long)bytes >> 20);
	vmimg_ovf_changed(&a->edit, "memory of %s %s becomes %s byte * 2^20", number, units, text);
	return vmimg_ovf_put(&a->edit, item, "AllocationUnits", "byte * 2^20", err) ||
			vmimg_ovf_put(&a->edit, item, "VirtualQuantity", text, err)
		? -1
		: 0;
}

/* "/disk/x" as "ovf:/disk/x", which is the only form that all readers know. */
static int adapt_resource(struct adapting *a, xmlNode *item, struct vmimg_error *err)
{
	const char *text = vmimg_ovf_get(&a->edit, item, "HostResource");
	const char *full;

	if (!text || (strncmp(text, "/disk/", 6) && strncmp(text, "/file/", 6)))
		return 0;
	full = vmimg_pool_printf(&a->edit.bundle->pool, err, "ovf:%s", text);
	vmimg_ovf_changed(&a->edit, "%s becomes ovf:%s", text, text);
	return full ? vmimg_ovf_put(&a->edit, item, "HostResource", full, err) : -1;
}

/* ---- parents ----------------------------------------------------------------------------- */

static xmlNode *find_controller(struct adapting *a)
{
	static const unsigned types[] = { 6, 20, 5 };
	xmlNode *item = NULL;

	for (size_t i = 0; !item && i < VMIMG_ARRAY_LEN(types); i++)
		item = vmimg_ovf_item(&a->edit, NULL, types[i]);
	return item;
}

static xmlNode *new_controller(struct adapting *a, struct vmimg_error *err)
{
	enum vmimg_bus bus = a->dialect->bus;
	xmlNode *item = vmimg_ovf_new_item(&a->edit, vmimg_ovf_resource_type(bus), err);
	const char *model = vmimg_ovf_model(a->dialect, bus);

	if (!item || vmimg_ovf_put(&a->edit, item, "Address", "0", err) ||
		vmimg_ovf_put(&a->edit, item, "ElementName", "Controller 0", err) ||
		(model && vmimg_ovf_put(&a->edit, item, "ResourceSubType", model, err)))
		return NULL;
	vmimg_ovf_changed(&a->edit, "a %s controller is added", vmimg_bus_name(bus));
	return item;
}

/* Chooses the controller, and notes which places on it other drives have. */
static int choose_controller(struct adapting *a, struct vmimg_error *err)
{
	if (a->controller)
		return 0;
	a->controller = find_controller(a);
	if (!a->controller && !(a->controller = new_controller(a, err)))
		return -1;
	a->controller_id = vmimg_ovf_get(&a->edit, a->controller, "InstanceID");
	for (xmlNode *item = NULL; (item = vmimg_ovf_item(&a->edit, item, 0));) {
		const char *parent = vmimg_ovf_get(&a->edit, item, "Parent");
		const char *place = vmimg_ovf_get(&a->edit, item, "AddressOnParent");
		unsigned long unit = place ? strtoul(place, NULL, 10) : PLACES;

		if (a->controller_id && parent && !strcmp(parent, a->controller_id) &&
			unit < PLACES)
			a->taken[unit] = true;
	}
	return 0;
}

/* The lowest place that no other drive has. */
static int take_unit(struct adapting *a, unsigned *unit, struct vmimg_error *err)
{
	for (*unit = 0; *unit < PLACES; ++*unit)
		if (!a->taken[*unit]) {
			a->taken[*unit] = true;
			return 0;
		}
	return vmimg_fail(err, VMIMG_ELIMIT, "more than %u drives on a controller", PLACES);
}

/* A drive without a controller is skipped by some and refused by others. */
static int adapt_parent(struct adapting *a, xmlNode *item, struct vmimg_error *err)
{
	unsigned type = vmimg_ovf_type(item);
	char unit[16];
	unsigned place;

	if ((type != 15 && type != 16 && type != 17) || vmimg_ovf_get(&a->edit, item, "Parent"))
		return 0;
	if (choose_controller(a, err))
		return -1;
	if (!a->controller_id)
		return 0;
	if (take_unit(a, &place, err))
		return -1;
	snprintf(unit, sizeof(unit), "%u", place);
	vmimg_ovf_changed(&a->edit, "a drive without a controller is put on %s, place %s",
		a->controller_id, unit);
	return vmimg_ovf_put(&a->edit, item, "Parent", a->controller_id, err) ||
			vmimg_ovf_put(&a->edit, item, "AddressOnParent", unit, err)
		? -1
		: 0;
}

/* ---- the whole --------------------------------------------------------------------------- */

static int adapt_family(struct adapting *a, struct vmimg_error *err)
{
	xmlNode *system = vmimg_xml_child(a->edit.hardware, "System");
	xmlNode *type = system ? vmimg_xml_child(system, "VirtualSystemType") : NULL;
	const char *family = system ? vmimg_ovf_get(&a->edit, system, "VirtualSystemType") : NULL;

	if (!family || !a->dialect->family_vmx || !strncmp(family, "vmx-", 4))
		return 0;
	vmimg_ovf_changed(
		&a->edit, "the hardware family %s becomes %s", family, a->dialect->family);
	return vmimg_xml_set_text(a->edit.xml, type, a->dialect->family, err);
}

/* Readers must be told that they may pass over what they do not know. */
static int adapt_foreign(struct adapting *a, xmlNode *parent, struct vmimg_error *err)
{
	for (xmlNode *node = vmimg_xml_child(parent, NULL); node;
		node = vmimg_xml_next(node, NULL)) {
		bool theirs = node->ns && !strstr((const char *)node->ns->href, "dmtf.org");
		const char *required = vmimg_xml_attr(node, "required");

		if (!theirs || (required && !strcmp(required, "false")))
			continue;
		vmimg_ovf_changed(&a->edit, "%s may be passed over", (const char *)node->name);
		if (vmimg_xml_set_attr(
			    a->edit.xml, node, VMIMG_OVF_SPACE, "required", "false", err))
			return -1;
	}
	return 0;
}

static int adapt_os(struct adapting *a, struct vmimg_error *err)
{
	xmlNode *node = vmimg_xml_child(a->edit.system, "OperatingSystemSection");
	const char *id = node ? vmimg_xml_attr(node, "id") : NULL;
	const char *hint = node ? vmimg_xml_attr(node, "osType") : NULL;
	const struct vmimg_ovf_os *os = hint ? vmimg_ovf_os(hint, 0) : NULL;
	uint64_t number;
	char text[16];

	if (!node || (id && vmimg_ovf_quantity(NULL, id, 1, &number)))
		return 0;
	snprintf(text, sizeof(text), "%u", os ? os->id : 102);
	vmimg_ovf_changed(&a->edit, "the guest has the number %s", text);
	return vmimg_xml_set_attr(a->edit.xml, node, VMIMG_OVF_SPACE, "id", text, err);
}

static int adapt_items(struct adapting *a, struct vmimg_error *err)
{
	for (xmlNode *item = NULL; (item = vmimg_ovf_item(&a->edit, item, 0));)
		if (make_plain(a, item, err) || adapt_model(a, item, err) ||
			adapt_memory(a, item, err) || adapt_resource(a, item, err) ||
			adapt_parent(a, item, err))
			return -1;
	return 0;
}

int vmimg_ovf_adapt(
	struct vmimg_bundle *bundle, const char *target, json_t *changes, struct vmimg_error *err)
{
	struct adapting a = { .dialect = vmimg_ovf_dialect(target) };

	if (!a.dialect)
		return vmimg_fail(err, VMIMG_EINVAL, "%.40s is no target of OVF", target);
	if (vmimg_ovf_edit_begin(&a.edit, bundle, changes, err))
		return -1;
	if (!strcmp(((struct vmimg_ovf *)bundle->state)->version, "2") && lower_version(&a, err))
		return -1;
	if (adapt_family(&a, err) || adapt_items(&a, err) || adapt_os(&a, err) ||
		adapt_foreign(&a, a.edit.root, err) || adapt_foreign(&a, a.edit.system, err))
		return -1;
	return adapt_foreign(&a, a.edit.hardware, err);
}
