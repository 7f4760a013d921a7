/* SPDX-License-Identifier: Apache-2.0 */
/* The options that describe a machine, of the verbs that make one or change one. */
#pragma once
#include "bundle/machine.h"
#include "cli/cli.h"

#define CLI_MAX_REPEATS 64 /* of an option that may be repeated */

struct cli_repeats {
	const char *items[CLI_MAX_REPEATS];
	size_t count;
};

struct cli_machine_args {
	const char *name, *os, *hardware, *annotation, *eula, *firmware, *secure_boot, *bus;
	unsigned cpus;
	uint64_t memory;
	struct cli_repeats nics, properties;
};

int cli_set_repeat(void *to, const char *value, struct vmimg_error *err); /* struct cli_repeats */
/* Before a file of the user's own is read as text; at most a mebibyte. To be freed. */
char *cli_read_text(const char *path, struct vmimg_error *err) VMIMG_CHECKED;
/* Puts what was given into machine, texts in pool. */
int cli_machine_apply(const struct cli_machine_args *args, struct vmimg_machine *machine,
	struct vmimg_pool *pool, struct vmimg_error *err) VMIMG_CHECKED;

#define CLI_MACHINE_OPTIONS(type, member)                                                          \
	{ 0, "name", "NAME", "the machine's name", cli_set_text, offsetof(type, member.name) },    \
		{ 0, "cpus", "N", "virtual processors", cli_set_count,                             \
			offsetof(type, member.cpus) },                                             \
		{ 0, "memory", "SIZE", "its memory, whole mebibytes", cli_set_size,                \
			offsetof(type, member.memory) },                                           \
		{ 0, "firmware", "KIND", "bios or efi", cli_set_text,                              \
			offsetof(type, member.firmware) },                                         \
		{ 0, "secure-boot", "on|off", "with efi: only what is signed boots", cli_set_text, \
			offsetof(type, member.secure_boot) },                                      \
		{ 0, "nic", "MODEL[,NETWORK]", "a network adapter; may be repeated",               \
			cli_set_repeat, offsetof(type, member.nics) },                             \
		{ 0, "os", "NAME", "the guest: linux, debian, windows10, or a hypervisor's word",  \
			cli_set_text, offsetof(type, member.os) },                                 \
		{ 0, "hardware", "FAMILY", "the hardware family: vmx-NN, virtualbox-2.2",          \
			cli_set_text, offsetof(type, member.hardware) },                           \
		{ 0, "annotation", "TEXT", "a note", cli_set_text,                                 \
			offsetof(type, member.annotation) },                                       \
		{ 0, "eula", "FILE", "a licence text that the user has to accept", cli_set_text,   \
			offsetof(type, member.eula) },                                             \
	{                                                                                          \
		0, "property", "KEY=VALUE", "for the guest; may be repeated", cli_set_repeat,      \
			offsetof(type, member.properties)                                          \
	}
