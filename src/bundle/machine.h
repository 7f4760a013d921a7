/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A virtual machine, described in words that belong to no format: what every reader of bundles
 * fills in and every writer takes. What is not known is NULL, 0 or an _UNKNOWN. All texts and lists
 * belong to the pool of whoever made the machine, and are as found: escape them before showing.
 */
#pragma once
#include <jansson.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include "util/pool.h"

#define VMIMG_NONE SIZE_MAX /* an index that is not there */

enum vmimg_firmware { VMIMG_FIRMWARE_UNKNOWN, VMIMG_FIRMWARE_BIOS, VMIMG_FIRMWARE_EFI };
enum vmimg_choice { VMIMG_UNSAID, VMIMG_NO, VMIMG_YES };

enum vmimg_bus {
	VMIMG_BUS_UNKNOWN,
	VMIMG_BUS_IDE,
	VMIMG_BUS_SCSI,
	VMIMG_BUS_SATA,
	VMIMG_BUS_NVME,
	VMIMG_BUS_VIRTIO,
	VMIMG_BUS_FLOPPY,
	VMIMG_BUS_USB,
};

struct vmimg_controller {
	enum vmimg_bus bus;
	const char *model; /* as the bundle says: "lsilogic", "AHCI" */
	const char *id;    /* in the bundle */
	unsigned number;   /* of its bus */
};

enum vmimg_drive_kind {
	VMIMG_DRIVE_DISK,
	VMIMG_DRIVE_CD,
	VMIMG_DRIVE_FLOPPY,
	VMIMG_DRIVE_KERNEL,
	VMIMG_DRIVE_RAMDISK,
	VMIMG_DRIVE_NVRAM,
};

struct vmimg_drive {
	enum vmimg_drive_kind kind;
	const char *id;          /* in the bundle: "vmdisk1" */
	const char *file;        /* the name of its file; NULL: an empty disk, an empty CD drive */
	const char *format;      /* a format of ours, "vmdk"; NULL: not said, or not one of ours */
	const char *format_name; /* as the bundle says it: a URI */
	const char *parent;      /* id of the disk that it is a change to */
	uint64_t capacity;       /* bytes that the guest sees */
	uint64_t populated;      /* of those, bytes with data in them */
	uint64_t file_size;      /* as the bundle says */
	const char *compression; /* of the file: "gzip"; NULL: none */
	uint64_t chunk_size;     /* of the parts that the file is cut into; 0: it is not */
	size_t controller;       /* in controllers; VMIMG_NONE: attached to none */
	unsigned unit;           /* on the controller */
	const char *device;      /* its name in the guest, where a bundle has that: "sda1" */
	bool unused;             /* in the bundle, attached to no machine */
	size_t source;           /* for the reader: which file */
};

struct vmimg_nic {
	const char *model, *network, *mac;
};

struct vmimg_property {
	const char *key; /* with class and instance: "class.key.instance" */
	const char *type, *value, *label, *description;
	bool user; /* the user is asked for it */
};

struct vmimg_deployment {
	const char *id, *label, *description;
	bool is_default;
};

struct vmimg_machine {
	const char *id, *name, *annotation;
	const char *product, *vendor, *version;
	const char *hardware;     /* the family: "vmx-13", "virtualbox-2.2" */
	const char *architecture; /* "x86_64" */
	unsigned os_id;           /* CIM_OperatingSystem.OsType */
	const char *os_hint;      /* a hypervisor's own word: "debian12_64Guest" */
	const char *os_text;
	unsigned cpus, cores_per_socket;
	uint64_t memory; /* bytes */
	enum vmimg_firmware firmware;
	enum vmimg_choice secure_boot, tpm;
	const char *kernel_id, *ramdisk_id, *command_line;

	struct vmimg_controller *controllers;
	size_t controller_count, controller_cap;
	struct vmimg_drive *drives; /* in the order of the bundle */
	size_t drive_count, drive_cap;
	struct vmimg_nic *nics;
	size_t nic_count, nic_cap;
	struct vmimg_property *properties;
	size_t property_count, property_cap;
	struct vmimg_deployment *deployments;
	size_t deployment_count, deployment_cap;
	const char **eulas;
	size_t eula_count, eula_cap;
	json_t *more; /* an object of what one kind of bundle alone has; may be NULL */
};

/* Frees the lists; the texts are the pool's. */
void vmimg_machine_done(struct vmimg_machine *machine);
/* A new, zeroed item at the end of a list, or NULL with err set:
 * vmimg_machine_add(machine->nics, machine->nic_count, machine->nic_cap, err) */
#define vmimg_machine_add(list, count, cap, err) \
	((__typeof__(list))vmimg_machine_add_(&(list), &(count), &(cap), sizeof(*(list)), (err)))
void *vmimg_machine_add_(
	void *list, size_t *count, size_t *cap, size_t size, struct vmimg_error *err);

const char *vmimg_firmware_name(enum vmimg_firmware firmware); /* "efi"; NULL: unknown */
const char *vmimg_bus_name(enum vmimg_bus bus);                /* "scsi"; NULL: unknown */
const char *vmimg_drive_kind_name(enum vmimg_drive_kind kind); /* "disk" */
/* All of it as an object of vmimg.info/1; drives are numbered from *number on, which moves. NULL
 * when memory is short. */
json_t *vmimg_machine_json(const struct vmimg_machine *machine, unsigned *number);
