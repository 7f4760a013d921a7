/* SPDX-License-Identifier: Apache-2.0 */
/* Lists of a machine, its words, and its JSON. */
#include "bundle/machine.h"
#include <string.h>
#include "disk/info.h"

void vmimg_machine_done(struct vmimg_machine *machine)
{
	free(machine->controllers);
	free(machine->drives);
	free(machine->nics);
	free(machine->properties);
	free(machine->deployments);
	free(machine->eulas);
	json_decref(machine->more);
	memset(machine, 0, sizeof(*machine));
}

void *vmimg_machine_add_(
	void *list, size_t *count, size_t *cap, size_t size, struct vmimg_error *err)
{
	char *items;

	if (vmimg_grow_array(list, cap, *count + 1, size, err))
		return NULL;
	memcpy(&items, list, sizeof(items));
	return memset(items + size * (*count)++, 0, size);
}

const char *vmimg_firmware_name(enum vmimg_firmware firmware)
{
	static const char *const names[] = { NULL, "bios", "efi" };

	return names[firmware];
}

const char *vmimg_bus_name(enum vmimg_bus bus)
{
	static const char *const names[] = { NULL, "ide", "scsi", "sata", "nvme", "virtio",
		"floppy", "usb" };

	return names[bus];
}

const char *vmimg_drive_kind_name(enum vmimg_drive_kind kind)
{
	static const char *const names[] = { "disk", "cd", "floppy", "kernel", "ramdisk", "nvram" };

	return names[kind];
}

static void set_text(json_t *object, const char *key, const char *text)
{
	if (text)
		vmimg_json_text(object, key, text);
}

static void set_uint(json_t *object, const char *key, uint64_t value)
{
	if (value)
		vmimg_json_uint(object, key, value);
}

static void set_choice(json_t *object, const char *key, enum vmimg_choice choice)
{
	if (choice != VMIMG_UNSAID)
		vmimg_json_bool(object, key, choice == VMIMG_YES);
}

/* An array is left out when it is empty. */
static void set_array(json_t *object, const char *key, json_t *array)
{
	if (json_array_size(array))
		json_object_set_new(object, key, array);
	else
		json_decref(array);
}

static json_t *controller_json(const struct vmimg_controller *c)
{
	json_t *object = json_object();

	set_text(object, "bus", vmimg_bus_name(c->bus));
	vmimg_json_uint(object, "number", c->number);
	set_text(object, "model", c->model);
	return object;
}

static bool is_image(const struct vmimg_drive *drive)
{
	return drive->kind == VMIMG_DRIVE_DISK || drive->file;
}

static json_t *drive_json(
	const struct vmimg_machine *machine, const struct vmimg_drive *d, unsigned *number)
{
	json_t *object = json_object();

	if (is_image(d))
		vmimg_json_uint(object, "disk", (*number)++);
	vmimg_json_text(object, "kind", vmimg_drive_kind_name(d->kind));
	set_text(object, "id", d->id);
	set_text(object, "file", d->file);
	set_uint(object, "virtual-size", d->capacity);
	set_text(object, "format", d->format);
	set_text(object, "format-name", d->format_name);
	set_text(object, "parent", d->parent);
	set_uint(object, "populated-size", d->populated);
	set_uint(object, "file-size", d->file_size);
	set_text(object, "compression", d->compression);
	set_uint(object, "chunk-size", d->chunk_size);
	set_text(object, "device", d->device);
	if (d->controller != VMIMG_NONE) {
		vmimg_json_uint(object, "controller", d->controller);
		set_text(object, "bus", vmimg_bus_name(machine->controllers[d->controller].bus));
		vmimg_json_uint(object, "unit", d->unit);
	}
	if (d->unused)
		vmimg_json_bool(object, "unused", true);
	return object;
}

static json_t *nic_json(const struct vmimg_nic *nic)
{
	json_t *object = json_object();

	set_text(object, "model", nic->model);
	set_text(object, "network", nic->network);
	set_text(object, "mac", nic->mac);
	return object;
}

static json_t *property_json(const struct vmimg_property *p)
{
	json_t *object = json_object();

	vmimg_json_text(object, "key", p->key ? p->key : "");
	set_text(object, "type", p->type);
	set_text(object, "value", p->value);
	set_text(object, "label", p->label);
	set_text(object, "description", p->description);
	vmimg_json_bool(object, "user-configurable", p->user);
	return object;
}

static json_t *deployment_json(const struct vmimg_deployment *d)
{
	json_t *object = json_object();

	set_text(object, "id", d->id);
	set_text(object, "label", d->label);
	set_text(object, "description", d->description);
	vmimg_json_bool(object, "default", d->is_default);
	return object;
}

static void set_lists(json_t *root, const struct vmimg_machine *m, unsigned *number)
{
	json_t *controllers = json_array(), *drives = json_array(), *nics = json_array();
	json_t *properties = json_array(), *deployments = json_array(), *eulas = json_array();

	for (size_t i = 0; i < m->controller_count; i++)
		json_array_append_new(controllers, controller_json(&m->controllers[i]));
	for (size_t i = 0; i < m->drive_count; i++)
		json_array_append_new(drives, drive_json(m, &m->drives[i], number));
	for (size_t i = 0; i < m->nic_count; i++)
		json_array_append_new(nics, nic_json(&m->nics[i]));
	for (size_t i = 0; i < m->property_count; i++)
		json_array_append_new(properties, property_json(&m->properties[i]));
	for (size_t i = 0; i < m->deployment_count; i++)
		json_array_append_new(deployments, deployment_json(&m->deployments[i]));
	for (size_t i = 0; i < m->eula_count; i++)
		json_array_append_new(eulas, vmimg_json_escaped(m->eulas[i], strlen(m->eulas[i])));
	set_array(root, "controllers", controllers);
	json_object_set_new(root, "drives", drives);
	set_array(root, "nics", nics);
	set_array(root, "properties", properties);
	set_array(root, "deployment-options", deployments);
	set_array(root, "eulas", eulas);
}

json_t *vmimg_machine_json(const struct vmimg_machine *m, unsigned *number)
{
	json_t *root = json_object();

	set_text(root, "id", m->id);
	set_text(root, "name", m->name);
	set_text(root, "annotation", m->annotation);
	set_text(root, "product", m->product);
	set_text(root, "vendor", m->vendor);
	set_text(root, "version", m->version);
	set_text(root, "hardware", m->hardware);
	set_text(root, "architecture", m->architecture);
	set_uint(root, "os-id", m->os_id);
	set_text(root, "os", m->os_hint);
	set_text(root, "os-description", m->os_text);
	set_uint(root, "cpus", m->cpus);
	set_uint(root, "cores-per-socket", m->cores_per_socket);
	set_uint(root, "memory", m->memory);
	set_text(root, "firmware", vmimg_firmware_name(m->firmware));
	set_choice(root, "secure-boot", m->secure_boot);
	set_choice(root, "tpm", m->tpm);
	set_text(root, "kernel-id", m->kernel_id);
	set_text(root, "ramdisk-id", m->ramdisk_id);
	set_text(root, "command-line", m->command_line);
	set_lists(root, m, number);
	if (m->more)
		json_object_update(root, m->more);
	return root;
}
