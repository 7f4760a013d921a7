/* SPDX-License-Identifier: Apache-2.0 */
/* Names of partition types: the Discoverable Partitions Specification, UEFI, and the lists of the
 * systems that made them up. */
#include <string.h>
#include "inspect/tables.h"
#include "util/num.h"

static const struct {
	uint8_t type;
	const char *name;
} mbr_types[] = {
	{ 0x01, "FAT12" },
	{ 0x04, "FAT16 (small)" },
	{ 0x05, "extended" },
	{ 0x06, "FAT16" },
	{ 0x07, "NTFS or exFAT" },
	{ 0x0b, "FAT32" },
	{ 0x0c, "FAT32 (LBA)" },
	{ 0x0e, "FAT16 (LBA)" },
	{ 0x0f, "extended (LBA)" },
	{ 0x11, "hidden FAT12" },
	{ 0x14, "hidden FAT16" },
	{ 0x17, "hidden NTFS" },
	{ 0x1b, "hidden FAT32" },
	{ 0x1c, "hidden FAT32 (LBA)" },
	{ 0x27, "Windows recovery" },
	{ 0x41, "PowerPC PReP boot" },
	{ 0x42, "Windows dynamic disk" },
	{ 0x82, "Linux swap" },
	{ 0x83, "Linux" },
	{ 0x85, "Linux extended" },
	{ 0x8e, "Linux LVM" },
	{ 0x96, "ISO 9660" },
	{ 0xa5, "FreeBSD" },
	{ 0xa6, "OpenBSD" },
	{ 0xa8, "Apple UFS" },
	{ 0xa9, "NetBSD" },
	{ 0xaf, "Apple HFS+" },
	{ 0xbf, "Solaris" },
	{ 0xcd, "ISO hybrid" },
	{ 0xda, "data without a file system" },
	{ 0xea, "XBOOTLDR" },
	{ 0xee, "GPT" },
	{ 0xef, "EFI system" },
	{ 0xfb, "VMware VMFS" },
	{ 0xfc, "VMware swap" },
	{ 0xfd, "Linux RAID" },
};

#define ESP       "c12a7328-f81f-11d2-ba4b-00a0c93ec93b"
#define BIOS_BOOT "21686148-6449-6e6f-744e-656564454649"
#define XBOOTLDR  "bc13c2ff-59e6-4262-a352-b275fd6f7172"

static const struct {
	const char *guid, *name;
} gpt_types[] = {
	{ ESP, "EFI system" },
	{ BIOS_BOOT, "BIOS boot" },
	{ XBOOTLDR, "XBOOTLDR" },
	{ "0fc63daf-8483-4772-8e79-3d69d8477de4", "Linux data" },
	{ "4f68bce3-e8cd-4db1-96e7-fbcaf984b709", "Linux root (x86-64)" },
	{ "44479540-f297-41b2-9af7-d131d5f0458a", "Linux root (x86)" },
	{ "b921b045-1df0-41c3-af44-4c6f280d3fae", "Linux root (arm64)" },
	{ "69dad710-2ce4-4e3c-b16c-21a1d49abed3", "Linux root (arm)" },
	{ "72ec70a6-cf74-40e6-bd49-4bda08e8f224", "Linux root (riscv64)" },
	{ "5eead9a9-fe09-4a1e-a1d7-520d00531306", "Linux root (s390x)" },
	{ "c31c45e6-3f39-412e-80fb-4809c4980599", "Linux root (ppc64le)" },
	{ "8484680c-9521-48c6-9c11-b0720656f69e", "Linux /usr (x86-64)" },
	{ "2c7357ed-ebd2-46d9-aec1-23d437ec2bf5", "Linux root verity (x86-64)" },
	{ "0657fd6d-a4ab-43c4-84e5-0933c84b4f4f", "Linux swap" },
	{ "e6d6d379-f507-44c2-a23c-238f2a3df928", "Linux LVM" },
	{ "a19d880f-05fc-4d3b-a006-743f0f84911e", "Linux RAID" },
	{ "933ac7e1-2eb4-4f13-b844-0e14e2aef915", "Linux /home" },
	{ "3b8f8425-20e0-4f3b-907f-1a25a76f98e8", "Linux /srv" },
	{ "4d21b016-b534-45c2-a9fb-5c16e091fd2d", "Linux /var" },
	{ "7ec6f557-3bc5-4aca-b293-16ef5df639d1", "Linux /var/tmp" },
	{ "ca7d7ccb-63ed-4c53-861c-1742536059cc", "Linux LUKS" },
	{ "8da63339-0007-60c0-c436-083ac8230908", "Linux reserved" },
	{ "9e1a2d38-c612-4316-aa26-8b49521e5a8b", "PowerPC PReP boot" },
	{ "e3c9e316-0b5c-4db8-817d-f92df00215ae", "Microsoft reserved" },
	{ "ebd0a0a2-b9e5-4433-87c0-68b6b72699c7", "Microsoft basic data" },
	{ "de94bba4-06d1-4d40-a16a-bfd50179d6ac", "Windows recovery" },
	{ "5808c8aa-7e8f-42e0-85d2-e1e90434cfb3", "Windows LDM metadata" },
	{ "af9b60a0-1431-4f62-bc68-3311714a69ad", "Windows LDM data" },
	{ "83bd6b9d-7f41-11dc-be0b-001560b84f0f", "FreeBSD boot" },
	{ "516e7cb4-6ecf-11d6-8ff8-00022d09712b", "FreeBSD data" },
	{ "516e7cb5-6ecf-11d6-8ff8-00022d09712b", "FreeBSD swap" },
	{ "516e7cb6-6ecf-11d6-8ff8-00022d09712b", "FreeBSD UFS" },
	{ "516e7cba-6ecf-11d6-8ff8-00022d09712b", "FreeBSD ZFS" },
	{ "824cc7a0-36a8-11e3-890a-952519ad3f61", "OpenBSD data" },
	{ "49f48d5a-b10e-11dc-b99b-0019d1879648", "NetBSD FFS" },
	{ "48465300-0000-11aa-aa11-00306543ecac", "Apple HFS+" },
	{ "7c3457ef-0000-11aa-aa11-00306543ecac", "Apple APFS" },
	{ "6a898cc3-1dd2-11b2-99a6-080020736631", "Solaris /usr or ZFS" },
	{ "aa31e02a-400f-11db-9590-000c2911d1b8", "VMware VMFS" },
	{ "fe3a2a5d-4f32-41a7-b725-accc3285a309", "ChromeOS kernel" },
	{ "3cb8e202-3b7e-47dd-8a3c-7ff2a13cfcec", "ChromeOS root" },
};

static bool is_type(const struct vmimg_guid *type, const char *text)
{
	struct vmimg_guid want;

	return vmimg_guid_parse(&want, text, strlen(text)) && vmimg_guid_equal(type, &want);
}

const char *vmimg_mbr_type_name(uint8_t type)
{
	for (size_t i = 0; i < VMIMG_ARRAY_LEN(mbr_types); i++)
		if (mbr_types[i].type == type)
			return mbr_types[i].name;
	return NULL;
}

const char *vmimg_gpt_type_name(const struct vmimg_guid *type)
{
	for (size_t i = 0; i < VMIMG_ARRAY_LEN(gpt_types); i++)
		if (is_type(type, gpt_types[i].guid))
			return gpt_types[i].name;
	return NULL;
}

bool vmimg_part_is_esp(const struct vmimg_part *part)
{
	return part->scheme == VMIMG_SCHEME_GPT ? is_type(&part->type, ESP)
						: part->mbr_type == 0xef;
}

bool vmimg_part_is_bios_boot(const struct vmimg_part *part)
{
	return part->scheme == VMIMG_SCHEME_GPT && is_type(&part->type, BIOS_BOOT);
}

bool vmimg_part_is_xbootldr(const struct vmimg_part *part)
{
	return part->scheme == VMIMG_SCHEME_GPT ? is_type(&part->type, XBOOTLDR)
						: part->mbr_type == 0xea;
}
