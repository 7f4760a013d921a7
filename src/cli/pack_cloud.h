/* SPDX-License-Identifier: Apache-2.0 */
/* The kinds of bundles that vmimg pack makes of one image and what starts it: UEC tarballs, bundles
 * for EC2. They have no machine with drives, and so a way of their own. */
#pragma once
#include "cli/machine_args.h"

struct cli_cloud_args {
	const char *aki, *ari;
	const char *user, *cloud_certificate, *type, *architecture, *kernel_id, *ramdisk_id;
	struct cli_repeats mappings, product_codes;
};

#define CLI_CLOUD_OPTIONS(type_, member)                                                          \
	{ 0, "aki", "FILE", "ami, uec: the kernel", cli_set_text, offsetof(type_, member.aki) },  \
		{ 0, "ari", "FILE", "ami, uec: the ramdisk", cli_set_text,                        \
			offsetof(type_, member.ari) },                                            \
		{ 0, "user", "ACCOUNT", "ec2: whose it is, 12 digits", cli_set_text,              \
			offsetof(type_, member.user) },                                           \
		{ 0, "cloud-cert", "FILE", "ec2: the cloud's certificate, to encrypt for it too", \
			cli_set_text, offsetof(type_, member.cloud_certificate) },                \
		{ 0, "type", "KIND", "ec2: machine, kernel or ramdisk (machine)", cli_set_text,   \
			offsetof(type_, member.type) },                                           \
		{ 0, "architecture", "NAME", "ec2: i386, x86_64 ... (x86_64)", cli_set_text,      \
			offsetof(type_, member.architecture) },                                   \
		{ 0, "kernel-id", "ID", "ec2: of a registered kernel", cli_set_text,              \
			offsetof(type_, member.kernel_id) },                                      \
		{ 0, "ramdisk-id", "ID", "ec2: of a registered ramdisk", cli_set_text,            \
			offsetof(type_, member.ramdisk_id) },                                     \
		{ 0, "mapping", "VIRTUAL=DEVICE", "ec2: a block device; may be repeated",         \
			cli_set_repeat, offsetof(type_, member.mappings) },                       \
	{                                                                                         \
		0, "product-code", "CODE", "ec2: may be repeated", cli_set_repeat,                \
			offsetof(type_, member.product_codes)                                     \
	}

struct cli_cloud_pack {
	const struct cli_common *common;
	const struct cli_cloud_args *args;
	const char *kind, *output, *source;
	const char *name; /* NULL: after output */
	bool force, no_sync;
};

bool cli_is_cloud(const char *kind);
int cli_pack_cloud(const struct cli_cloud_pack *pack, struct vmimg_error *err) VMIMG_CHECKED;
