/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A VirtualHardwareSection: items of CIM resource types, VMware's Config pairs, and what VirtualBox
 * says in an element of its own beside it. Items come in any order, so controllers are taken first.
 */
#include <ctype.h>
#include <string.h>
#include <strings.h>
#include "bundle/ovf/ovf.h"
#include "util/limits.h"
#include "util/text.h"

/* CIM_ResourceAllocationSettingData.ResourceType; NVRAM is VirtualBox's own. */
enum resource {
	CPU = 3,
	MEMORY = 4,
	IDE = 5,
	SCSI = 6,
	ETHERNET = 10,
	FLOPPY = 14,
	CD = 15,
	DVD = 16,
	DISK = 17,
	OTHER_STORAGE = 20,
	USB = 23,
	NVRAM = 32768,
};

struct item {
	const xmlNode *node;
	unsigned type;
	const char *id, *parent, *subtype, *resource, *quantity, *units, *address, *on_parent,
		*connection;
};

struct hardware {
	struct vmimg_bundle *bundle;
	struct vmimg_machine *machine;
	const char *configuration; /* the default deployment option; NULL: there is none */
	struct item *items;
	size_t count, cap;
};

/* ---- items ------------------------------------------------------------------------------- */

static bool has_word(const char *list, const char *word)
{
	size_t len = strlen(word);

	for (const char *p = list; *p; p += strcspn(p, " "), p += strspn(p, " "))
		if (strcspn(p, " ") == len && !strncmp(p, word, len))
			return true;
	return false;
}

/* Whether the item counts in the default configuration, as a value and not as a bound of one. */
static bool applies(const struct hardware *hw, const xmlNode *node)
{
	const char *configurations = vmimg_xml_attr(node, "configuration");
	const char *bound = vmimg_xml_attr(node, "bound");

	if (bound && (!strcmp(bound, "min") || !strcmp(bound, "max")))
		return false;
	if (!configurations || !*configurations)
		return true;
	return hw->configuration && has_word(configurations, hw->configuration);
}

/* Empty means: not given. */
static int take(struct hardware *hw, const xmlNode *node, const char *name, const char **text,
	struct vmimg_error *err)
{
	if (vmimg_xml_child_text(node, name, &hw->bundle->pool, text, err))
		return -1;
	if (*text && !**text)
		*text = NULL;
	return 0;
}

static int take_item(struct hardware *hw, const xmlNode *node, struct vmimg_error *err)
{
	struct item item = { .node = node };
	const char *type = NULL;
	uint64_t number = 0;

	if (take(hw, node, "ResourceType", &type, err) ||
		take(hw, node, "InstanceID", &item.id, err) ||
		(!item.id && take(hw, node, "InstanceId", &item.id, err)) ||
		take(hw, node, "Parent", &item.parent, err) ||
		take(hw, node, "ResourceSubType", &item.subtype, err) ||
		take(hw, node, "HostResource", &item.resource, err) ||
		take(hw, node, "VirtualQuantity", &item.quantity, err) ||
		take(hw, node, "AllocationUnits", &item.units, err) ||
		take(hw, node, "Address", &item.address, err) ||
		take(hw, node, "AddressOnParent", &item.on_parent, err) ||
		take(hw, node, "Connection", &item.connection, err))
		return -1;
	if (type && vmimg_ovf_quantity(NULL, type, 1, &number) && number <= UINT32_MAX)
		item.type = (unsigned)number;
	if (((struct vmimg_ovf *)hw->bundle->state)->item_count++ >= VMIMG_MAX_OVF_ITEMS)
		return vmimg_fail(err, VMIMG_ELIMIT, "more than %d items", VMIMG_MAX_OVF_ITEMS);
	if (vmimg_grow_array(&hw->items, &hw->cap, hw->count + 1, sizeof(item), err))
		return -1;
	hw->items[hw->count++] = item;
	return 0;
}

static int take_items(struct hardware *hw, const xmlNode *section, struct vmimg_error *err)
{
	for (const xmlNode *node = vmimg_xml_child(section, NULL); node;
		node = vmimg_xml_next(node, NULL)) {
		bool is_item = vmimg_xml_is(node, "Item") || vmimg_xml_is(node, "StorageItem") ||
			vmimg_xml_is(node, "EthernetPortItem");

		if (is_item && applies(hw, node) && take_item(hw, node, err))
			return -1;
	}
	return 0;
}

static unsigned small_number(const char *text, unsigned otherwise)
{
	uint64_t value;

	return text && vmimg_ovf_quantity(NULL, text, 1, &value) && value < 65536 ? (unsigned)value
										  : otherwise;
}

/* ---- processors and memory --------------------------------------------------------------- */

/* Another item of the same instance is the same thing in another configuration. */
static bool replaces(const struct hardware *hw, size_t i)
{
	for (size_t k = 0; k < i; k++)
		if (hw->items[k].type == hw->items[i].type && hw->items[k].id && hw->items[i].id &&
			!strcmp(hw->items[k].id, hw->items[i].id))
			return true;
	return false;
}

static void warn_quantity(struct hardware *hw, const struct item *item, const char *what)
{
	char shown[60];

	vmimg_bundle_warn(hw->bundle, "line %ld: \"%s\" is not %s", (long)item->node->line,
		vmimg_escape(shown, sizeof(shown), item->quantity, strlen(item->quantity)), what);
}

static int read_cpu(struct hardware *hw, size_t i, struct vmimg_error *err)
{
	const struct item *item = &hw->items[i];
	const char *cores = NULL;
	uint64_t count;

	if (!item->quantity)
		return 0;
	if (!vmimg_ovf_quantity(hw->machine, item->quantity, 1, &count) || count > 65536) {
		warn_quantity(hw, item, "a number of processors");
		return 0;
	}
	hw->machine->cpus = (unsigned)count + (replaces(hw, i) ? 0 : hw->machine->cpus);
	if (take(hw, item->node, "CoresPerSocket", &cores, err))
		return -1;
	hw->machine->cores_per_socket = small_number(cores, hw->machine->cores_per_socket);
	return 0;
}

/* Without a unit OVF counts bytes, and many writers meant megabytes. */
static uint64_t memory_unit(struct hardware *hw, const struct item *item)
{
	uint64_t plain;

	if (item->units)
		return vmimg_ovf_unit(item->units);
	if (!vmimg_ovf_quantity(hw->machine, item->quantity, 1, &plain) || plain >= 1 << 20)
		return 1;
	vmimg_bundle_warn(hw->bundle, "line %ld: memory without a unit is taken as megabytes",
		(long)item->node->line);
	return 1 << 20;
}

static void read_memory(struct hardware *hw, size_t i)
{
	const struct item *item = &hw->items[i];
	uint64_t bytes, factor;
	char shown[60];

	if (!item->quantity)
		return;
	factor = memory_unit(hw, item);
	if (!factor)
		vmimg_bundle_warn(hw->bundle, "line %ld: \"%s\" is no unit of memory",
			(long)item->node->line,
			vmimg_escape(shown, sizeof(shown), item->units, strlen(item->units)));
	else if (!vmimg_ovf_quantity(hw->machine, item->quantity, factor, &bytes) || bytes >> 60)
		warn_quantity(hw, item, "an amount of memory");
	else
		hw->machine->memory = bytes + (replaces(hw, i) ? 0 : hw->machine->memory);
}

/* ---- controllers, drives, networks ------------------------------------------------------- */

static enum vmimg_bus bus_of(const struct item *item)
{
	switch (item->type) {
	case IDE:
		return VMIMG_BUS_IDE;
	case SCSI:
		return VMIMG_BUS_SCSI;
	case OTHER_STORAGE:
		if (item->subtype && strcasestr(item->subtype, "nvdimm"))
			return VMIMG_BUS_UNKNOWN;
		if (item->subtype && strcasestr(item->subtype, "nvme"))
			return VMIMG_BUS_NVME;
		if (item->subtype && strcasestr(item->subtype, "virtio"))
			return VMIMG_BUS_SCSI;
		return VMIMG_BUS_SATA;
	case USB:
		return VMIMG_BUS_USB;
	default:
		return VMIMG_BUS_UNKNOWN;
	}
}

static int read_controller(struct hardware *hw, const struct item *item, struct vmimg_error *err)
{
	struct vmimg_machine *machine = hw->machine;
	struct vmimg_controller *controller;
	unsigned before = 0;

	if (bus_of(item) == VMIMG_BUS_UNKNOWN)
		return 0;
	for (size_t i = 0; i < machine->controller_count; i++)
		before += machine->controllers[i].bus == bus_of(item);
	controller = vmimg_machine_add(
		machine->controllers, machine->controller_count, machine->controller_cap, err);
	if (!controller)
		return -1;
	*controller = (struct vmimg_controller){ .bus = bus_of(item),
		.model = item->subtype,
		.id = item->id,
		.number = small_number(item->address, before) };
	return 0;
}

static size_t find_controller(const struct vmimg_machine *machine, const char *id)
{
	for (size_t i = 0; id && i < machine->controller_count; i++)
		if (machine->controllers[i].id && !strcmp(machine->controllers[i].id, id))
			return i;
	return VMIMG_NONE;
}

static int read_drive(struct hardware *hw, const struct item *item, struct vmimg_error *err)
{
	enum vmimg_drive_kind kind = item->type == FLOPPY ? VMIMG_DRIVE_FLOPPY
		: item->type == CD || item->type == DVD   ? VMIMG_DRIVE_CD
		: item->type == NVRAM                     ? VMIMG_DRIVE_NVRAM
							  : VMIMG_DRIVE_DISK;

	return vmimg_ovf_attach(hw->bundle, hw->machine, kind, item->resource,
		find_controller(hw->machine, item->parent), small_number(item->on_parent, 0), err);
}

/* "00:50:56:…", with colons, dashes or nothing between. */
static bool is_mac(const char *text)
{
	size_t digits = 0;

	for (; *text; text++)
		if (isxdigit((unsigned char)*text))
			digits++;
		else if (*text != ':' && *text != '-')
			return false;
	return digits == 12;
}

static int read_nic(struct hardware *hw, const struct item *item, struct vmimg_error *err)
{
	struct vmimg_machine *machine = hw->machine;
	struct vmimg_nic *nic =
		vmimg_machine_add(machine->nics, machine->nic_count, machine->nic_cap, err);

	if (!nic)
		return -1;
	nic->model = item->subtype;
	nic->network = item->connection;
	nic->mac = item->address && is_mac(item->address) ? item->address : NULL;
	return 0;
}

static int read_item(struct hardware *hw, size_t i, struct vmimg_error *err)
{
	const struct item *item = &hw->items[i];

	switch (item->type) {
	case CPU:
		return read_cpu(hw, i, err);
	case MEMORY:
		read_memory(hw, i);
		return 0;
	case ETHERNET:
		return read_nic(hw, item, err);
	case FLOPPY:
	case CD:
	case DVD:
	case DISK:
	case NVRAM:
		return read_drive(hw, item, err);
	default:
		if (item->subtype && strcasestr(item->subtype, "vtpm"))
			hw->machine->tpm = VMIMG_YES;
		/* NVDIMMs, Xen's storage extents: whatever has a disk is a drive */
		return item->resource && strstr(item->resource, "/disk/")
			? read_drive(hw, item, err)
			: 0;
	}
}

/* ---- what is not an item ----------------------------------------------------------------- */

static bool is_true(const char *text)
{
	return !strcasecmp(text, "true") || !strcmp(text, "1");
}

static enum vmimg_firmware firmware_of(const char *text)
{
	if (strcasestr(text, "efi"))
		return VMIMG_FIRMWARE_EFI;
	return strcasestr(text, "bios") ? VMIMG_FIRMWARE_BIOS : VMIMG_FIRMWARE_UNKNOWN;
}

/* vmw:Config and vmw:ExtraConfig. */
static int read_config(struct hardware *hw, const xmlNode *node, struct vmimg_error *err)
{
	const char *key = vmimg_xml_attr(node, "key"), *value = vmimg_xml_attr(node, "value");
	const char *copy;

	if (!key || !value)
		return 0;
	if (!strcasecmp(key, "firmware"))
		hw->machine->firmware = firmware_of(value);
	if (!strcasecmp(key, "bootOptions.efiSecureBootEnabled") ||
		!strcasecmp(key, "uefi.secureBoot.enabled"))
		hw->machine->secure_boot = is_true(value) ? VMIMG_YES : VMIMG_NO;
	if (strcasecmp(key, "nvram"))
		return 0;
	copy = vmimg_pool_text(&hw->bundle->pool, value, err);
	return !copy ? -1
		     : vmimg_ovf_attach(hw->bundle, hw->machine, VMIMG_DRIVE_NVRAM, copy,
			       VMIMG_NONE, 0, err);
}

static const xmlNode *path(const xmlNode *node, const char *const *names)
{
	for (; node && *names; names++)
		node = vmimg_xml_child(node, *names);
	return node;
}

/* vbox:Machine: firmware and the addresses of network adapters. */
static int read_virtualbox(struct hardware *hw, const xmlNode *machine, struct vmimg_error *err)
{
	const xmlNode *hardware = vmimg_xml_child(machine, "Hardware");
	const xmlNode *firmware = vmimg_xml_child(hardware, "Firmware");
	const xmlNode *tpm = vmimg_xml_child(hardware, "TrustedPlatformModule");
	const xmlNode *network = vmimg_xml_child(hardware, "Network");
	const char *type = firmware ? vmimg_xml_attr(firmware, "type") : NULL;
	const char *secure = NULL;
	const xmlNode *secure_boot =
		path(hardware, (const char *const[]){ "BIOS", "NVRAM", "SecureBoot", NULL });
	size_t nic = 0;

	if (hardware)
		hw->machine->firmware = type ? firmware_of(type) : VMIMG_FIRMWARE_BIOS;
	secure = secure_boot ? vmimg_xml_attr(secure_boot, "enabled")
		: firmware   ? vmimg_xml_attr(firmware, "secureBoot")
			     : NULL;
	if (secure)
		hw->machine->secure_boot = is_true(secure) ? VMIMG_YES : VMIMG_NO;
	if (tpm && vmimg_xml_attr(tpm, "type"))
		hw->machine->tpm =
			strcasecmp(vmimg_xml_attr(tpm, "type"), "none") ? VMIMG_YES : VMIMG_NO;
	for (const xmlNode *node = vmimg_xml_child(network, "Adapter");
		node && nic < hw->machine->nic_count; node = vmimg_xml_next(node, "Adapter")) {
		const char *enabled = vmimg_xml_attr(node, "enabled");
		const char *mac = vmimg_xml_attr(node, "MACAddress");

		if (!enabled || !is_true(enabled))
			continue;
		if (mac && is_mac(mac) && !hw->machine->nics[nic].mac &&
			!(hw->machine->nics[nic].mac =
					vmimg_pool_text(&hw->bundle->pool, mac, err)))
			return -1;
		nic++;
	}
	return 0;
}

static int read_others(struct hardware *hw, const xmlNode *section, struct vmimg_error *err)
{
	const xmlNode *system = vmimg_xml_child(section, "System"), *machine;

	if (system && take(hw, system, "VirtualSystemType", &hw->machine->hardware, err))
		return -1;
	if (system && !hw->machine->name &&
		take(hw, system, "VirtualSystemIdentifier", &hw->machine->name, err))
		return -1;
	for (const xmlNode *node = vmimg_xml_child(section, NULL); node;
		node = vmimg_xml_next(node, NULL))
		if ((vmimg_xml_is(node, "Config") || vmimg_xml_is(node, "ExtraConfig")) &&
			read_config(hw, node, err))
			return -1;
	machine = vmimg_xml_child(section->parent, "Machine");
	return machine ? read_virtualbox(hw, machine, err) : 0;
}

static int read_all(struct hardware *hw, const xmlNode *section, struct vmimg_error *err)
{
	for (size_t i = 0; i < hw->machine->deployment_count; i++)
		if (hw->machine->deployments[i].is_default)
			hw->configuration = hw->machine->deployments[i].id;
	if (take_items(hw, section, err))
		return -1;
	for (size_t i = 0; i < hw->count; i++)
		if (read_controller(hw, &hw->items[i], err))
			return -1;
	for (size_t i = 0; i < hw->count; i++)
		if (read_item(hw, i, err))
			return -1;
	return read_others(hw, section, err);
}

int vmimg_ovf_read_hardware(struct vmimg_bundle *bundle, struct vmimg_machine *machine,
	const xmlNode *section, struct vmimg_error *err)
{
	struct hardware hw = { .bundle = bundle, .machine = machine };
	int failed = read_all(&hw, section, err);

	free(hw.items);
	return failed;
}
