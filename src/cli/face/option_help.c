/* SPDX-License-Identifier: Apache-2.0 */
/* "-o help" in qemu-img's words, which callers search for what it can do: one list for all formats,
 * in the order of its keys. */
#include "cli/face/option_help.h"
#include <stdio.h>
#include <string.h>
#include "util/num.h"

enum {
	QCOW2 = 1 << 0,
	VMDK = 1 << 1,
	VDI = 1 << 2,
	VPC = 1 << 3,
	VHDX = 1 << 4,
	LUKS = 1 << 5,
	RAW = 1 << 6,
	FILE_BELOW = 1 << 7, /* the file that an image of any format is in */
	AMEND_QCOW2 = 1 << 8,
	AMEND_LUKS = 1 << 9,
};

static const char str[] = "str", num[] = "num", size[] = "size", onoff[] = "bool (on/off)";

static const struct described {
	unsigned of;
	const char *key, *type, *text;
} described[] = {
	{ VMDK, "adapter_type", str,
		"Virtual adapter type, can be one of ide (default), lsilogic, buslogic or "
		"legacyESX" },
	{ QCOW2 | VMDK | AMEND_QCOW2, "backing_file", str, "File name of a base image" },
	{ QCOW2 | AMEND_QCOW2, "backing_fmt", str, "Image format of the base image" },
	{ VMDK, "backing_fmt", str, "Must be 'vmdk' if present" },
	{ VHDX, "block_size", size,
		"Block Size; min 1MB, max 256MB. 0 means auto-calculate based on image size." },
	{ VHDX, "block_state_zero", onoff,
		"Force use of payload blocks of type 'ZERO'. Non-standard, but default.  Do not "
		"set to 'off' when using 'qemu-img convert' with subformat=dynamic." },
	{ LUKS, "cipher-alg", str, "Name of encryption cipher algorithm" },
	{ LUKS, "cipher-mode", str, "Name of encryption cipher mode" },
	{ QCOW2, "cluster_size", size, "qcow2 cluster size" },
	{ QCOW2 | AMEND_QCOW2, "compat", str, "Compatibility level (v2 [0.10] or v3 [1.1])" },
	{ VMDK, "compat6", onoff, "VMDK version 6 image" },
	{ QCOW2, "compression_type", str, "Compression method used for image cluster compression" },
	{ QCOW2 | AMEND_QCOW2, "data_file", str, "File name of an external data file" },
	{ QCOW2 | AMEND_QCOW2, "data_file_raw", onoff,
		"The external data file must stay valid as a raw image" },
	{ QCOW2, "encrypt.cipher-alg", str, "Name of encryption cipher algorithm" },
	{ QCOW2, "encrypt.cipher-mode", str, "Name of encryption cipher mode" },
	{ QCOW2, "encrypt.format", str, "Encrypt the image, format choices: 'aes', 'luks'" },
	{ QCOW2, "encrypt.hash-alg", str, "Name of encryption hash algorithm" },
	{ QCOW2 | AMEND_QCOW2, "encrypt.iter-time", num, "Time to spend in PBKDF in milliseconds" },
	{ QCOW2, "encrypt.ivgen-alg", str, "Name of IV generator algorithm" },
	{ QCOW2, "encrypt.ivgen-hash-alg", str, "Name of IV generator hash algorithm" },
	{ QCOW2, "encrypt.key-secret", str,
		"ID of secret providing qcow AES key or LUKS passphrase" },
	{ AMEND_QCOW2, "encrypt.keyslot", num, "Select a single keyslot to modify explicitly" },
	{ AMEND_QCOW2, "encrypt.new-secret", str,
		"New secret to set in the matching keyslots. Empty string to erase" },
	{ AMEND_QCOW2, "encrypt.old-secret", str, "Select all keyslots that match this password" },
	{ AMEND_QCOW2, "encrypt.state", str,
		"Select new state of affected keyslots (active/inactive)" },
	{ QCOW2, "encryption", onoff,
		"Encrypt the image with format 'aes'. (Deprecated in favor of "
		"encrypt.format=aes)" },
	{ QCOW2, "extended_l2", onoff, "Extended L2 tables" },
	{ FILE_BELOW, "extent_size_hint", size,
		"Extent size hint for the image file, 0 to disable" },
	{ VPC, "force_size", onoff,
		"Force disk size calculation to use the actual size specified, rather than using "
		"the "
		"nearest CHS-based calculation" },
	{ LUKS, "hash-alg", str, "Name of encryption hash algorithm" },
	{ VMDK, "hwversion", str, "VMDK hardware version" },
	{ LUKS | AMEND_LUKS, "iter-time", num, "Time to spend in PBKDF in milliseconds" },
	{ LUKS, "ivgen-alg", str, "Name of IV generator algorithm" },
	{ LUKS, "ivgen-hash-alg", str, "Name of IV generator hash algorithm" },
	{ LUKS, "key-secret", str, "ID of the secret that provides the keyslot passphrase" },
	{ AMEND_LUKS, "keyslot", num, "Select a single keyslot to modify explicitly" },
	{ QCOW2 | AMEND_QCOW2, "lazy_refcounts", onoff, "Postpone refcount updates" },
	{ VHDX, "log_size", size, "Log size; min 1MB." },
	{ AMEND_LUKS, "new-secret", str,
		"New secret to set in the matching keyslots. Empty string to erase" },
	{ FILE_BELOW, "nocow", onoff, "Turn off copy-on-write (valid only on btrfs)" },
	{ AMEND_LUKS, "old-secret", str, "Select all keyslots that match this password" },
	{ QCOW2, "preallocation", str,
		"Preallocation mode (allowed values: off, metadata, falloc, full)" },
	{ FILE_BELOW, "preallocation", str,
		"Preallocation mode (allowed values: off, falloc, full)" },
	{ QCOW2 | AMEND_QCOW2, "refcount_bits", num, "Width of a reference count entry in bits" },
	{ VHDX, "size", size, "Virtual disk size; max of 64TB." },
	{ QCOW2 | VMDK | VDI | VPC | LUKS | RAW | AMEND_QCOW2, "size", size, "Virtual disk size" },
	{ AMEND_LUKS, "state", str, "Select new state of affected keyslots (active/inactive)" },
	{ VDI, "static", onoff, "VDI static (pre-allocated) image" },
	{ VHDX, "subformat", str,
		"VHDX format type, can be either 'dynamic' or 'fixed'. Default is 'dynamic'." },
	{ VMDK, "subformat", str,
		"VMDK flat extent format, can be one of {monolithicSparse (default) | "
		"monolithicFlat | "
		"twoGbMaxExtentSparse | twoGbMaxExtentFlat | streamOptimized} " },
	{ VPC, "subformat", str,
		"Type of virtual hard disk format. Supported formats are {dynamic (default) | "
		"fixed} " },
	{ VMDK, "toolsversion", str, "VMware guest tools version" },
	{ VMDK, "zeroed_grain", onoff,
		"Enable efficient zero writes using the zeroed-grain GTE feature" },
};

static unsigned find(const char *format)
{
	static const struct {
		const char *name;
		unsigned of;
	} formats[] = { { "qcow2", QCOW2 }, { "vmdk", VMDK }, { "vdi", VDI }, { "vpc", VPC },
		{ "vhdx", VHDX }, { "luks", LUKS }, { "raw", RAW } };

	for (size_t i = 0; i < VMIMG_ARRAY_LEN(formats); i++)
		if (!strcmp(formats[i].name, format))
			return formats[i].of;
	return 0;
}

/* Of a key that format and file have both, the format's. */
static bool is_shadowed(const struct described *d, unsigned of)
{
	for (size_t i = 0; d->of == FILE_BELOW && i < VMIMG_ARRAY_LEN(described); i++)
		if (&described[i] != d && (described[i].of & of) &&
			!strcmp(described[i].key, d->key))
			return true;
	return false;
}

static void print(unsigned of)
{
	for (size_t i = 0; i < VMIMG_ARRAY_LEN(described); i++) {
		const struct described *d = &described[i];
		int used;

		if (!(d->of & of) || is_shadowed(d, of))
			continue;
		used = printf("  %s=<%s>", d->key, d->type);
		printf("%*s- %s\n", used < 25 ? 25 - used : 1, "", d->text);
	}
}

void face_print_create_options(const char *format, bool named)
{
	if (named) {
		printf("Supported options:\n");
		print(find(format) | FILE_BELOW);
		return;
	}
	printf("Supported %s options:\n", format);
	print(find(format));
	printf("\nThe protocol level may support further options.\n"
	       "Specify the target filename to include those options.\n");
}

void face_print_amend_options(const char *format)
{
	printf("Amend options for '%s':\n", format);
	print(strcmp(format, "luks") ? AMEND_QCOW2 : AMEND_LUKS);
}
