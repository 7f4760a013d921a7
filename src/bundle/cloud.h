/* SPDX-License-Identifier: Apache-2.0 */
/* Writing the bundles of early clouds: a kernel, a ramdisk and a root file system as a UEC tarball,
 * and one image as a bundle for EC2. */
#pragma once
#include "bundle/bundle.h"

struct vmimg_uec_plan {
	const char *name;                         /* members are named after it */
	struct vmimg_io *root, *kernel, *ramdisk; /* ramdisk NULL: none */
	uint64_t epoch;
	const atomic_bool *cancel;
};

/* NAME.img, NAME-vmlinuz and NAME-initrd, packed by gzip into io, which may be a pipe. */
int vmimg_uec_write(const struct vmimg_uec_plan *plan, struct vmimg_io *io,
	struct vmimg_error *err) VMIMG_CHECKED;

/* The same three as files beside io, which becomes a JSON object that names them. */
int vmimg_ami_write(const struct vmimg_uec_plan *plan, struct vmimg_siblings *siblings,
	struct vmimg_io *io, struct vmimg_error *err) VMIMG_CHECKED;

struct vmimg_kernel;
/* The object without the files' names; NULL without memory. */
json_t *vmimg_ami_properties(const char *name, const struct vmimg_kernel *kernel);

struct vmimg_ec2_mapping {
	const char *virtual, *device;
};

struct vmimg_ec2_plan {
	const char *name;
	struct vmimg_io *image;
	const char *user; /* 12 digits */
	const char *type; /* "machine", "kernel" or "ramdisk" */
	const char *architecture;
	const char *kernel_id, *ramdisk_id;       /* NULL: none */
	const struct vmimg_ec2_mapping *mappings; /* of block devices */
	size_t mapping_count;
	const char *const *product_codes;
	size_t product_code_count;
	const char *key, *certificate; /* PEM, of the user: to sign, and to encrypt for */
	const char *cloud_certificate; /* PEM; NULL: encrypted for the user alone */
	uint64_t epoch;
	struct vmimg_siblings *siblings; /* for the parts */
	const atomic_bool *cancel;
};

/* The parts, named NAME.part.N, and then the manifest into io. Key and vector are random: no two
 * bundles have the same bytes. */
int vmimg_ec2_write(const struct vmimg_ec2_plan *plan, struct vmimg_io *io,
	struct vmimg_error *err) VMIMG_CHECKED;
