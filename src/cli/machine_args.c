/* SPDX-License-Identifier: Apache-2.0 */
/* From words of the command line to a machine. */
#include "cli/machine_args.h"
#include <string.h>
#include <strings.h>
#include "io/file.h"

int cli_set_repeat(void *to, const char *value, struct vmimg_error *err)
{
	struct cli_repeats *list = to;

	if (list->count == CLI_MAX_REPEATS)
		return vmimg_fail(err, VMIMG_EINVAL, "it may be given %d times", CLI_MAX_REPEATS);
	list->items[list->count++] = value;
	return 0;
}

char *cli_read_text(const char *path, struct vmimg_error *err)
{
	VMIMG_AUTO(vmimg_io_unref) struct vmimg_io *io = vmimg_file_open(path, false, err);
	uint64_t size = io ? vmimg_io_size(io) : 0;
	char *text;

	if (!io)
		return NULL;
	if (size > 1 << 20) {
		vmimg_fail(err, VMIMG_ELIMIT, "%.100s is larger than a mebibyte", path);
		return NULL;
	}
	text = vmimg_alloc_array(1, size + 1, err);
	if (text && vmimg_io_pread(io, text, size, 0, err)) {
		free(text);
		return NULL;
	}
	return text;
}

static int apply_firmware(
	const struct cli_machine_args *args, struct vmimg_machine *machine, struct vmimg_error *err)
{
	if (args->firmware) {
		if (strcmp(args->firmware, "bios") && strcmp(args->firmware, "efi"))
			return vmimg_fail(err, VMIMG_EINVAL,
				"--firmware is bios or efi, not '%.40s'", args->firmware);
		machine->firmware =
			strcmp(args->firmware, "efi") ? VMIMG_FIRMWARE_BIOS : VMIMG_FIRMWARE_EFI;
	}
	if (!args->secure_boot)
		return 0;
	if (strcmp(args->secure_boot, "on") && strcmp(args->secure_boot, "off"))
		return vmimg_fail(err, VMIMG_EINVAL, "--secure-boot is on or off, not '%.40s'",
			args->secure_boot);
	machine->secure_boot = strcmp(args->secure_boot, "on") ? VMIMG_NO : VMIMG_YES;
	if (machine->secure_boot == VMIMG_YES && machine->firmware != VMIMG_FIRMWARE_EFI)
		return vmimg_fail(err, VMIMG_EINVAL, "secure boot takes --firmware efi");
	return 0;
}

static int apply_bus(
	const struct cli_machine_args *args, struct vmimg_machine *machine, struct vmimg_error *err)
{
	struct vmimg_controller *controller;

	if (!args->bus)
		return 0;
	controller = vmimg_machine_add(
		machine->controllers, machine->controller_count, machine->controller_cap, err);
	if (!controller)
		return -1;
	for (enum vmimg_bus bus = VMIMG_BUS_IDE; bus <= VMIMG_BUS_NVME; bus++)
		if (!strcmp(args->bus, vmimg_bus_name(bus)))
			controller->bus = bus;
	if (controller->bus == VMIMG_BUS_UNKNOWN)
		return vmimg_fail(err, VMIMG_EINVAL,
			"--bus is ide, scsi, sata or nvme, not '%.40s'", args->bus);
	return 0;
}

/* "e1000" and the like, as hypervisors spell them. */
static const char *nic_model(
	struct vmimg_pool *pool, const char *word, size_t len, struct vmimg_error *err)
{
	static const char *const known[] = { "E1000", "E1000e", "VmxNet3", "PCNet32", "virtio" };

	for (size_t i = 0; i < sizeof(known) / sizeof(known[0]); i++)
		if (strlen(known[i]) == len && !strncasecmp(known[i], word, len))
			return known[i];
	return vmimg_pool_copy(pool, word, len, err);
}

static int apply_nics(const struct cli_machine_args *args, struct vmimg_machine *machine,
	struct vmimg_pool *pool, struct vmimg_error *err)
{
	if (args->nics.count)
		machine->nic_count = 0;
	for (size_t i = 0; i < args->nics.count; i++) {
		const char *text = args->nics.items[i], *comma = strchr(text, ',');
		struct vmimg_nic *nic =
			vmimg_machine_add(machine->nics, machine->nic_count, machine->nic_cap, err);

		if (!nic)
			return -1;
		nic->model = nic_model(pool, text, strcspn(text, ","), err);
		nic->network = comma ? vmimg_pool_text(pool, comma + 1, err) : NULL;
		if (!nic->model || (comma && !nic->network))
			return -1;
	}
	return 0;
}

static int apply_property(const char *text, struct vmimg_machine *machine, struct vmimg_pool *pool,
	struct vmimg_error *err)
{
	const char *equals = strchr(text, '=');
	struct vmimg_property *property;
	const char *key;

	if (!equals || equals == text)
		return vmimg_fail(err, VMIMG_EINVAL, "--property is KEY=VALUE, not '%.40s'", text);
	key = vmimg_pool_copy(pool, text, (size_t)(equals - text), err);
	property = !key ? NULL
			: vmimg_machine_add(machine->properties, machine->property_count,
				  machine->property_cap, err);
	if (!property)
		return -1;
	property->key = key;
	property->value = vmimg_pool_text(pool, equals + 1, err);
	property->type = "string";
	property->user = true;
	return property->value ? 0 : -1;
}

static int apply_eula(const char *path, struct vmimg_machine *machine, struct vmimg_pool *pool,
	struct vmimg_error *err)
{
	VMIMG_AUTO(free) char *text = cli_read_text(path, err);
	const char *copy = text ? vmimg_pool_text(pool, text, err) : NULL;
	const char **eula = !copy
		? NULL
		: vmimg_machine_add(machine->eulas, machine->eula_count, machine->eula_cap, err);

	if (!eula)
		return -1;
	*eula = copy;
	return 0;
}

int cli_machine_apply(const struct cli_machine_args *args, struct vmimg_machine *machine,
	struct vmimg_pool *pool, struct vmimg_error *err)
{
	if (args->memory % (1 << 20))
		return vmimg_fail(err, VMIMG_EINVAL, "--memory is in whole mebibytes");
	machine->name = args->name ? args->name : machine->name;
	machine->os_hint = args->os ? args->os : machine->os_hint;
	machine->hardware = args->hardware ? args->hardware : machine->hardware;
	machine->annotation = args->annotation ? args->annotation : machine->annotation;
	machine->cpus = args->cpus ? args->cpus : machine->cpus;
	machine->memory = args->memory ? args->memory : machine->memory;
	if (apply_firmware(args, machine, err) || apply_bus(args, machine, err) ||
		apply_nics(args, machine, pool, err))
		return -1;
	for (size_t i = 0; i < args->properties.count; i++)
		if (apply_property(args->properties.items[i], machine, pool, err))
			return -1;
	return args->eula ? apply_eula(args->eula, machine, pool, err) : 0;
}
