/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Private to this room: OVF descriptors, alone or in an OVA.
 * Sources: DMTF DSP0243 1.1.0 and 2.1.1; DSP0004 annex C (units); doc/formats/ovf.md on what the
 * hypervisors make of it.
 */
#pragma once
#include "bundle/bundle.h"
#include "bundle/xml.h"

/* A File of References. */
struct vmimg_ovf_file {
	const char *id, *href;
	const char *compression; /* NULL: identity */
	uint64_t size;           /* VMIMG_NONE: not said */
	uint64_t chunk_size;     /* 0: one file */
};

/* A Disk of DiskSection. */
struct vmimg_ovf_disk {
	const char *id, *file_ref, *parent, *format;
	const char *volume; /* oVirt's word for what the file is, RAW or COW; NULL: not said */
	uint64_t capacity, populated;
	bool attached;
};

/* What an opened descriptor keeps. */
struct vmimg_ovf {
	struct vmimg_io *io;   /* the descriptor's bytes */
	const char *name;      /* of its file */
	struct vmimg_xml *xml; /* the document */
	const char *version;   /* "1.x" */
	struct vmimg_ovf_file *files;
	size_t file_count, file_cap;
	struct vmimg_ovf_disk *disks;
	size_t disk_count, disk_cap;
	size_t deployment_count; /* of all machines, which have the same: it is their product */
	size_t item_count;       /* of all machines */
	size_t repeated; /* bytes of texts that are kept once for each thing that has them */
};

/* descriptor.c: fills state and bundle->machines from the document. */
int vmimg_ovf_read(struct vmimg_bundle *bundle, struct vmimg_error *err) VMIMG_CHECKED;
/* Whether node is that section, in the notation of 1.x ("DiskSection") or 0.9 (Section with an
 * xsi:type). */
bool vmimg_ovf_is_section(const xmlNode *node, const char *name);
/* The first child of parent that is, from after on (NULL: the first). */
xmlNode *vmimg_ovf_section(const xmlNode *parent, const xmlNode *after, const char *name);

/* hardware.c: a VirtualHardwareSection. */
int vmimg_ovf_read_hardware(struct vmimg_bundle *bundle, struct vmimg_machine *machine,
	const xmlNode *section, struct vmimg_error *err) VMIMG_CHECKED;
/* drives.c: a drive of the machine for the item that refers to a disk or file. */
int vmimg_ovf_attach(struct vmimg_bundle *bundle, struct vmimg_machine *machine,
	enum vmimg_drive_kind kind, const char *host_resource, size_t controller, unsigned unit,
	struct vmimg_error *err) VMIMG_CHECKED;
/* Adds the disks that no machine has to the first one. */
int vmimg_ovf_add_unused(struct vmimg_bundle *bundle, struct vmimg_error *err) VMIMG_CHECKED;
/* The bytes of a drive: in place, or unpacked to a temporary file when compressed. */
struct vmimg_io *vmimg_ovf_drive(struct vmimg_bundle *bundle, const struct vmimg_drive *drive,
	struct vmimg_error *err) VMIMG_CHECKED;
/* The bytes of a file as they are (its chunks joined). */
struct vmimg_io *vmimg_ovf_open_file(struct vmimg_bundle *bundle, const struct vmimg_ovf_file *file,
	struct vmimg_error *err) VMIMG_CHECKED;
/* Any file of the bundle by its name; VMIMG_EREFUSED for names that lead out of it. */
struct vmimg_io *vmimg_ovf_open_name(
	struct vmimg_bundle *bundle, const char *name, struct vmimg_error *err) VMIMG_CHECKED;
/* Whether an href stays inside the bundle. 0, or -1 with VMIMG_EREFUSED. */
int vmimg_ovf_check_href(const char *href, struct vmimg_error *err) VMIMG_CHECKED;
/* What a percent-encoded href means, in pool. */
const char *vmimg_ovf_decode_href(
	struct vmimg_pool *pool, const char *href, struct vmimg_error *err) VMIMG_CHECKED;

/* units.c */
/* "byte * 2^20", "MegaBytes", "GB" … as a factor; 0: not a unit of bytes. */
uint64_t vmimg_ovf_unit(const char *text);
/* A number in some unit, or a ${reference} to a property of the machine. False: neither, or more
 * than 2^63. */
bool vmimg_ovf_quantity(
	const struct vmimg_machine *machine, const char *number, uint64_t factor, uint64_t *bytes);
/* Our name of the format that a Disk's URI stands for; NULL: none of ours. */
const char *vmimg_ovf_format(const char *uri);

/* sink.c: the two kinds of bundle, written. */
struct vmimg_bundle_sink *vmimg_ova_create(
	const struct vmimg_bundle_create *create, struct vmimg_error *err);
struct vmimg_bundle_sink *vmimg_ovf_create(
	const struct vmimg_bundle_create *create, struct vmimg_error *err);
/* verify.c: the manifest and the certificate against the files. */
int vmimg_ovf_verify(struct vmimg_bundle *bundle, json_t *findings, struct vmimg_error *err);
