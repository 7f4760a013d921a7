/* SPDX-License-Identifier: Apache-2.0 */
/* "-o help" as qemu-img lays it out, which callers search for what it can do: one list for all
 * formats, in the order of its keys. What they mean is said in our own words. */
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
		"controller of the disk: ide (default), lsilogic, buslogic, legacyESX" },
	{ QCOW2 | VMDK | AMEND_QCOW2, "backing_file", str,
		"image whose content shows where this one has none" },
	{ QCOW2 | AMEND_QCOW2, "backing_fmt", str, "format of the backing image" },
	{ VMDK, "backing_fmt", str, "format of the parent: vmdk, no other" },
	{ VHDX, "block_size", size, "bytes of a block, 1 MiB to 256 MiB; 0: chosen by the size" },
	{ VHDX, "block_state_zero", onoff, "zero blocks are marked as such (default)" },
	{ LUKS, "cipher-alg", str, "cipher, with the length of its key" },
	{ LUKS, "cipher-mode", str, "how blocks of the cipher are chained" },
	{ QCOW2, "cluster_size", size, "bytes of a cluster" },
	{ QCOW2 | AMEND_QCOW2, "compat", str, "oldest QEMU that is to read it: 0.10 or 1.1" },
	{ VMDK, "compat6", onoff, "virtual hardware 6 instead of 4" },
	{ QCOW2, "compression_type", str, "how clusters are compressed: zlib or zstd" },
	{ QCOW2 | AMEND_QCOW2, "data_file", str, "file that takes the data of the guest" },
	{ QCOW2 | AMEND_QCOW2, "data_file_raw", onoff,
		"that file is a raw image of the disk at all times" },
	{ QCOW2, "encrypt.cipher-alg", str, "cipher, with the length of its key" },
	{ QCOW2, "encrypt.cipher-mode", str, "how blocks of the cipher are chained" },
	{ QCOW2, "encrypt.format", str, "how data is encrypted: luks, or the old aes" },
	{ QCOW2, "encrypt.hash-alg", str, "hash that keys are derived by" },
	{ QCOW2 | AMEND_QCOW2, "encrypt.iter-time", num, "milliseconds that deriving a key takes" },
	{ QCOW2, "encrypt.ivgen-alg", str, "what the IV of a sector is made by" },
	{ QCOW2, "encrypt.ivgen-hash-alg", str, "hash that the IV is made by, where one is used" },
	{ QCOW2, "encrypt.key-secret", str, "id of the secret with the passphrase" },
	{ AMEND_QCOW2, "encrypt.keyslot", num, "number of the key slot that is changed" },
	{ AMEND_QCOW2, "encrypt.new-secret", str, "id of the secret that opens it from now on" },
	{ AMEND_QCOW2, "encrypt.old-secret", str, "id of the secret whose key slots are changed" },
	{ AMEND_QCOW2, "encrypt.state", str, "active or inactive: what becomes of key slots" },
	{ QCOW2, "encryption", onoff, "the same as encrypt.format=aes" },
	{ QCOW2, "extended_l2", onoff, "clusters in 32 parts, each there or not" },
	{ FILE_BELOW, "extent_size_hint", size, "unit that XFS takes space by; 0: its own" },
	{ VPC, "force_size", onoff, "the size as it is given, not rounded to a geometry" },
	{ LUKS, "hash-alg", str, "hash that keys are derived by" },
	{ VMDK, "hwversion", str, "version of the virtual hardware" },
	{ LUKS | AMEND_LUKS, "iter-time", num, "milliseconds that deriving a key takes" },
	{ LUKS, "ivgen-alg", str, "what the IV of a sector is made by" },
	{ LUKS, "ivgen-hash-alg", str, "hash that the IV is made by, where one is used" },
	{ LUKS, "key-secret", str, "id of the secret with the passphrase" },
	{ AMEND_LUKS, "keyslot", num, "number of the key slot that is changed" },
	{ QCOW2 | AMEND_QCOW2, "lazy_refcounts", onoff,
		"reference counts may lag behind, and are mended later" },
	{ VHDX, "log_size", size, "bytes of the log, 1 MiB and more" },
	{ AMEND_LUKS, "new-secret", str, "id of the secret that opens it from now on" },
	{ FILE_BELOW, "nocow", onoff, "no copy-on-write for the file, on btrfs" },
	{ AMEND_LUKS, "old-secret", str, "id of the secret whose key slots are changed" },
	{ QCOW2, "preallocation", str, "space taken ahead: off, metadata, falloc, full" },
	{ FILE_BELOW, "preallocation", str, "space taken ahead: off, falloc, full" },
	{ QCOW2 | AMEND_QCOW2, "refcount_bits", num,
		"bits of a reference count, a power of two up to 64" },
	{ VHDX, "size", size, "bytes of the disk, up to 64 TiB" },
	{ QCOW2 | VMDK | VDI | VPC | LUKS | RAW | AMEND_QCOW2, "size", size, "bytes of the disk" },
	{ AMEND_LUKS, "state", str, "active or inactive: what becomes of key slots" },
	{ VDI, "static", onoff, "all blocks are there from the beginning" },
	{ VHDX, "subformat", str, "dynamic (default) or fixed" },
	{ VMDK, "subformat", str,
		"monolithicSparse (default), monolithicFlat, twoGbMaxExtentSparse, "
		"twoGbMaxExtentFlat, streamOptimized" },
	{ VPC, "subformat", str, "dynamic (default) or fixed" },
	{ VMDK, "toolsversion", str, "version of the tools in the guest" },
	{ VMDK, "zeroed_grain", onoff, "grains of zeroes are marked as such" },
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
