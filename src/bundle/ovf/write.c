/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Printed line by line, so that the same machine gives the same bytes, whatever libraries there
 * are. Elements of an Item stand in alphabetical order, as the schema of 1.1 wants them.
 */
#include "bundle/ovf/write.h"
#include <inttypes.h>
#include <stdio.h>
#include <string.h>

struct writer {
	FILE *to;
	const struct vmimg_machine *machine;
	const struct vmimg_ovf_dialect *dialect;
	unsigned instance; /* the last InstanceID given */
	unsigned disks;    /* the last number given in vmdiskN */
};

/* A rasd Item; NULL and -1 are left out. */
struct item {
	long address, on_parent;
	const char *units, *connection, *description, *name, *resource, *subtype;
	bool automatic, optional;
	unsigned parent, type;
	uint64_t quantity;
};

/* ---- text -------------------------------------------------------------------------------- */

/* Characters that XML cannot have at all become blanks. */
static void put_text(FILE *to, const char *text)
{
	for (; *text; text++) {
		unsigned char c = (unsigned char)*text;

		if (c == '&')
			fputs("&amp;", to);
		else if (c == '<')
			fputs("&lt;", to);
		else if (c == '>')
			fputs("&gt;", to);
		else if (c == '"')
			fputs("&quot;", to);
		else
			fputc(c < 0x20 && c != '\n' && c != '\t' ? ' ' : c, to);
	}
}

static void put_element(FILE *to, int depth, const char *name, const char *text)
{
	if (!text)
		return;
	fprintf(to, "%*s<%s>", depth, "", name);
	put_text(to, text);
	fprintf(to, "</%s>\n", name);
}

static void put_number(FILE *to, int depth, const char *name, uint64_t number)
{
	fprintf(to, "%*s<%s>%" PRIu64 "</%s>\n", depth, "", name, number, name);
}

static void put_attr(FILE *to, const char *name, const char *text)
{
	if (!text)
		return;
	fprintf(to, " %s=\"", name);
	put_text(to, text);
	fputc('"', to);
}

static void put_item(struct writer *w, const struct item *item)
{
	FILE *to = w->to;

	fprintf(to, "      <Item%s>\n", item->optional ? " ovf:required=\"false\"" : "");
	if (item->address >= 0)
		put_number(to, 8, "rasd:Address", (uint64_t)item->address);
	if (item->on_parent >= 0)
		put_number(to, 8, "rasd:AddressOnParent", (uint64_t)item->on_parent);
	put_element(to, 8, "rasd:AllocationUnits", item->units);
	if (item->automatic)
		put_element(to, 8, "rasd:AutomaticAllocation", "true");
	put_element(to, 8, "rasd:Connection", item->connection);
	put_element(to, 8, "rasd:Description", item->description);
	put_element(to, 8, "rasd:ElementName", item->name);
	put_element(to, 8, "rasd:HostResource", item->resource);
	put_number(to, 8, "rasd:InstanceID", ++w->instance);
	if (item->parent)
		put_number(to, 8, "rasd:Parent", item->parent);
	put_element(to, 8, "rasd:ResourceSubType", item->subtype);
	put_number(to, 8, "rasd:ResourceType", item->type);
	if (item->quantity)
		put_number(to, 8, "rasd:VirtualQuantity", item->quantity);
	fputs("      </Item>\n", to);
}

/* ---- the envelope ------------------------------------------------------------------------ */

static void put_head(struct writer *w)
{
	fputs("<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n"
	      "<Envelope xmlns=\"http://schemas.dmtf.org/ovf/envelope/1\""
	      " xmlns:ovf=\"http://schemas.dmtf.org/ovf/envelope/1\""
	      " xmlns:rasd=\"http://schemas.dmtf.org/wbem/wscim/1/cim-schema/2/"
	      "CIM_ResourceAllocationSettingData\""
	      " xmlns:vmw=\"http://www.vmware.com/schema/ovf\""
	      " xmlns:vssd=\"http://schemas.dmtf.org/wbem/wscim/1/cim-schema/2/"
	      "CIM_VirtualSystemSettingData\"",
		w->to);
	if (w->dialect->virtualbox_os)
		fputs(" xmlns:vbox=\"http://www.virtualbox.org/ovf/machine\"", w->to);
	fputs(" xmlns:xsi=\"http://www.w3.org/2001/XMLSchema-instance\">\n", w->to);
}

static void put_references(struct writer *w)
{
	fputs("  <References>\n", w->to);
	for (size_t i = 0; i < w->machine->drive_count; i++) {
		const struct vmimg_drive *drive = &w->machine->drives[i];

		if (!drive->file)
			continue;
		fprintf(w->to, "    <File");
		put_attr(w->to, "ovf:href", drive->file);
		fprintf(w->to, " ovf:id=\"file%zu\" ovf:size=\"%" PRIu64 "\"/>\n", i + 1,
			drive->file_size);
	}
	fputs("  </References>\n", w->to);
}

static const char *format_uri(const char *format)
{
	static const struct {
		const char *format, *uri;
	} uris[] = {
		{ "vmdk",
			"http://www.vmware.com/interfaces/specifications/"
			"vmdk.html#streamOptimized" },
		{ "vhd", "http://go.microsoft.com/fwlink/?LinkId=137171" },
		{ "qcow2", "http://www.gnome.org/~markmc/qcow-image-format.html" },
		{ "raw", "http://en.wikipedia.org/wiki/Byte" },
	};

	for (size_t i = 0; format && i < sizeof(uris) / sizeof(uris[0]); i++)
		if (!strcmp(uris[i].format, format))
			return uris[i].uri;
	return uris[0].uri;
}

static void put_disk(struct writer *w, size_t i)
{
	const struct vmimg_drive *drive = &w->machine->drives[i];

	fprintf(w->to,
		"    <Disk ovf:capacity=\"%" PRIu64
		"\" ovf:capacityAllocationUnits=\"byte\" ovf:diskId=\"vmdisk%u\"",
		drive->capacity, ++w->disks);
	if (drive->file)
		fprintf(w->to, " ovf:fileRef=\"file%zu\"", i + 1);
	put_attr(w->to, "ovf:format", format_uri(drive->format));
	if (drive->populated)
		fprintf(w->to, " ovf:populatedSize=\"%" PRIu64 "\"", drive->populated);
	fputs("/>\n", w->to);
}

static void put_disks(struct writer *w)
{
	fputs("  <DiskSection>\n    <Info>Virtual disks</Info>\n", w->to);
	for (size_t i = 0; i < w->machine->drive_count; i++)
		if (w->machine->drives[i].kind == VMIMG_DRIVE_DISK)
			put_disk(w, i);
	fputs("  </DiskSection>\n", w->to);
	w->disks = 0;
}

static const char *network_of(const struct vmimg_nic *nic)
{
	return nic->network ? nic->network : "VM Network";
}

/* Whether an earlier adapter is on the same network. */
static bool is_repeated(const struct vmimg_machine *machine, size_t i)
{
	for (size_t k = 0; k < i; k++)
		if (!strcmp(network_of(&machine->nics[k]), network_of(&machine->nics[i])))
			return true;
	return false;
}

static void put_networks(struct writer *w)
{
	if (!w->machine->nic_count)
		return;
	fputs("  <NetworkSection>\n    <Info>Logical networks</Info>\n", w->to);
	for (size_t i = 0; i < w->machine->nic_count; i++) {
		const char *network = network_of(&w->machine->nics[i]);

		if (is_repeated(w->machine, i))
			continue;
		fputs("    <Network", w->to);
		put_attr(w->to, "ovf:name", network);
		fputs(">\n", w->to);
		put_element(w->to, 6, "Description", network);
		fputs("    </Network>\n", w->to);
	}
	fputs("  </NetworkSection>\n", w->to);
}

/* ---- hardware ---------------------------------------------------------------------------- */

static void put_system(struct writer *w)
{
	const struct vmimg_machine *m = w->machine;

	fputs("      <System>\n"
	      "        <vssd:ElementName>Virtual Hardware Family</vssd:ElementName>\n"
	      "        <vssd:InstanceID>0</vssd:InstanceID>\n",
		w->to);
	put_element(w->to, 8, "vssd:VirtualSystemIdentifier", m->name);
	put_element(
		w->to, 8, "vssd:VirtualSystemType", m->hardware ? m->hardware : w->dialect->family);
	fputs("      </System>\n", w->to);
}

static void put_cpu_and_memory(struct writer *w)
{
	const struct vmimg_machine *m = w->machine;
	char name[64];

	snprintf(name, sizeof(name), "%u virtual CPU(s)", m->cpus);
	put_item(w,
		&(struct item){ .address = -1,
			.on_parent = -1,
			.units = "hertz * 10^6",
			.description = "Number of Virtual CPUs",
			.name = name,
			.type = 3,
			.quantity = m->cpus });
	snprintf(name, sizeof(name), "%" PRIu64 "MB of memory", m->memory >> 20);
	put_item(w,
		&(struct item){ .address = -1,
			.on_parent = -1,
			.units = "byte * 2^20",
			.description = "Memory Size",
			.name = name,
			.type = 4,
			.quantity = m->memory >> 20 });
}

/* One controller. Returns its InstanceID. */
static unsigned put_controller(struct writer *w, enum vmimg_bus bus, unsigned number)
{
	static const char *const titles[] = { "", "IDE", "SCSI", "SATA", "NVMe", "SCSI", "", "" };
	char name[48], description[48];

	snprintf(name, sizeof(name), "%s Controller %u", titles[bus], number);
	snprintf(description, sizeof(description), "%s Controller", titles[bus]);
	put_item(w,
		&(struct item){ .address = (long)number,
			.on_parent = -1,
			.description = description,
			.name = name,
			.subtype = vmimg_ovf_model(w->dialect, bus),
			.type = vmimg_ovf_resource_type(bus) });
	return w->instance;
}

static void put_drive(struct writer *w, size_t i, unsigned parent, unsigned unit)
{
	const struct vmimg_drive *drive = &w->machine->drives[i];
	bool disk = drive->kind == VMIMG_DRIVE_DISK;
	char name[32], resource[48];

	if (disk)
		snprintf(resource, sizeof(resource), "ovf:/disk/vmdisk%u", ++w->disks);
	else
		snprintf(resource, sizeof(resource), "ovf:/file/file%zu", i + 1);
	snprintf(name, sizeof(name), disk ? "Hard Disk %u" : "CD/DVD Drive %u",
		disk ? w->disks : (unsigned)i + 1);
	put_item(w,
		&(struct item){ .address = -1,
			.on_parent = (long)unit,
			.automatic = !disk,
			.name = name,
			.resource = disk || drive->file ? resource : NULL,
			.parent = parent,
			.type = disk ? 17 : 15 });
}

/* All drives of one kind on as many controllers of that bus as it takes, each before its drives. */
static void put_drives(struct writer *w, enum vmimg_drive_kind kind, enum vmimg_bus bus)
{
	unsigned parent = 0, taken = 0, controllers = 0;

	for (size_t i = 0; i < w->machine->drive_count; i++) {
		if (w->machine->drives[i].kind != kind)
			continue;
		if (!parent || taken == vmimg_ovf_units(bus)) {
			parent = put_controller(w, bus, controllers++);
			taken = 0;
		}
		put_drive(w, i, parent, vmimg_ovf_unit_number(bus, taken++));
	}
}

static void put_nics(struct writer *w)
{
	for (size_t i = 0; i < w->machine->nic_count; i++) {
		const struct vmimg_nic *nic = &w->machine->nics[i];
		char name[48];

		snprintf(name, sizeof(name), "Network adapter %zu", i + 1);
		put_item(w,
			&(struct item){ .address = -1,
				.on_parent = (long)i + 7,
				.automatic = true,
				.connection = network_of(nic),
				.name = name,
				.subtype = nic->model ? nic->model : "E1000",
				.type = 10 });
	}
}

static void put_config(struct writer *w, const char *key, const char *value)
{
	if (value && w->dialect->vmware_config)
		fprintf(w->to,
			"      <vmw:Config ovf:required=\"false\" vmw:key=\"%s\" "
			"vmw:value=\"%s\"/>\n",
			key, value);
}

static void put_hardware(struct writer *w)
{
	const struct vmimg_machine *m = w->machine;
	enum vmimg_bus bus = m->controller_count ? m->controllers[0].bus : w->dialect->bus;

	fputs("    <VirtualHardwareSection>\n      <Info>Virtual hardware requirements</Info>\n",
		w->to);
	put_system(w);
	put_cpu_and_memory(w);
	put_drives(w, VMIMG_DRIVE_DISK, bus);
	put_drives(w, VMIMG_DRIVE_CD, bus == VMIMG_BUS_IDE ? VMIMG_BUS_SATA : VMIMG_BUS_IDE);
	put_nics(w);
	put_config(w, "firmware", vmimg_firmware_name(m->firmware));
	put_config(w, "bootOptions.efiSecureBootEnabled",
		m->secure_boot == VMIMG_YES          ? "true"
			: m->secure_boot == VMIMG_NO ? "false"
						     : NULL);
	fputs("    </VirtualHardwareSection>\n", w->to);
}

/* ---- other sections ---------------------------------------------------------------------- */

static void put_os(struct writer *w)
{
	const struct vmimg_machine *m = w->machine;
	const struct vmimg_ovf_os *os = vmimg_ovf_os(m->os_hint, m->os_id);
	const char *vmware = os ? os->vmware : m->os_hint;

	if (!os && !m->os_hint && !m->os_id)
		os = vmimg_ovf_os("linux", 0);
	if (os)
		vmware = os->vmware;
	fprintf(w->to, "    <OperatingSystemSection ovf:id=\"%u\"", os ? os->id : m->os_id);
	put_attr(w->to, "vmw:osType", vmware);
	fputs(">\n      <Info>The kind of installed guest operating system</Info>\n", w->to);
	put_element(w->to, 6, "Description",
		w->dialect->virtualbox_os && os ? os->virtualbox
			: m->os_text            ? m->os_text
			: os                    ? os->text
						: NULL);
	if (w->dialect->virtualbox_os && os)
		fprintf(w->to, "      <vbox:OSType ovf:required=\"false\">%s</vbox:OSType>\n",
			os->virtualbox);
	fputs("    </OperatingSystemSection>\n", w->to);
}

static void put_product(struct writer *w)
{
	const struct vmimg_machine *m = w->machine;

	if (!m->product && !m->vendor && !m->version && !m->property_count)
		return;
	fputs("    <ProductSection>\n      <Info>Product and properties</Info>\n", w->to);
	put_element(w->to, 6, "Product", m->product);
	put_element(w->to, 6, "Vendor", m->vendor);
	put_element(w->to, 6, "Version", m->version);
	for (size_t i = 0; i < m->property_count; i++) {
		const struct vmimg_property *p = &m->properties[i];

		fputs("      <Property", w->to);
		put_attr(w->to, "ovf:key", p->key);
		put_attr(w->to, "ovf:type", p->type ? p->type : "string");
		put_attr(w->to, "ovf:userConfigurable", "true");
		put_attr(w->to, "ovf:value", p->value);
		fputs("/>\n", w->to);
	}
	fputs("    </ProductSection>\n", w->to);
}

static void put_texts(struct writer *w)
{
	const struct vmimg_machine *m = w->machine;

	if (m->annotation) {
		fputs("    <AnnotationSection>\n      <Info>A note</Info>\n", w->to);
		put_element(w->to, 6, "Annotation", m->annotation);
		fputs("    </AnnotationSection>\n", w->to);
	}
	for (size_t i = 0; i < m->eula_count; i++) {
		fputs("    <EulaSection>\n      <Info>A licence agreement</Info>\n", w->to);
		put_element(w->to, 6, "License", m->eulas[i]);
		fputs("    </EulaSection>\n", w->to);
	}
}

static void put_all(struct writer *w)
{
	put_head(w);
	put_references(w);
	put_disks(w);
	put_networks(w);
	fputs("  <VirtualSystem", w->to);
	put_attr(w->to, "ovf:id", w->machine->name);
	fputs(">\n    <Info>A virtual machine</Info>\n", w->to);
	put_element(w->to, 4, "Name", w->machine->name);
	put_os(w);
	put_hardware(w);
	put_product(w);
	put_texts(w);
	fputs("  </VirtualSystem>\n</Envelope>\n", w->to);
}

char *vmimg_ovf_write(const struct vmimg_machine *machine, const struct vmimg_ovf_dialect *dialect,
	size_t *len, struct vmimg_error *err)
{
	char *text = NULL;
	size_t size = 0;
	struct writer w = {
		.to = open_memstream(&text, &size), .machine = machine, .dialect = dialect
	};
	bool failed;

	if (!w.to) {
		vmimg_fail_nomem(err);
		return NULL;
	}
	put_all(&w);
	failed = ferror(w.to);
	if (fclose(w.to) || failed) {
		free(text);
		vmimg_fail_nomem(err);
		return NULL;
	}
	*len = size;
	return text;
}
