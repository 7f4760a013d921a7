/* SPDX-License-Identifier: Apache-2.0 */
/* From creation options to what goes into a descriptor. */
#include <ctype.h>
#include <errno.h>
#include <string.h>
#include "format/vmdk/write.h"
#include "util/num.h"

static const struct {
	const char *name;
	enum vmdk_subformat subformat;
} subformats[] = {
	{ "monolithicSparse", VMDK_MONOLITHIC_SPARSE },
	{ "monolithicFlat", VMDK_MONOLITHIC_FLAT },
	{ "twoGbMaxExtentSparse", VMDK_SPLIT_SPARSE },
	{ "twoGbMaxExtentFlat", VMDK_SPLIT_FLAT },
	{ "streamOptimized", VMDK_STREAM },
	{ "vmfs", VMDK_VMFS },
};

const struct vmimg_option_spec vmimg_vmdk_options[] = {
	{ "subformat", VMIMG_OPTION_CHOICE,
		"monolithicSparse|monolithicFlat|twoGbMaxExtentSparse|twoGbMaxExtentFlat|"
		"streamOptimized|vmfs",
		"layout (monolithicSparse; streamOptimized with -c or to a pipe)" },
	{ "adapter_type", VMIMG_OPTION_CHOICE, "ide|lsilogic|buslogic|legacyESX",
		"adapter that the disk hangs on (ide)" },
	{ "hwversion", VMIMG_OPTION_TEXT, NULL, "version of the virtual hardware (4)" },
	{ "compat6", VMIMG_OPTION_BOOL, NULL, "hardware version 6 (off)" },
	{ "zeroed_grain", VMIMG_OPTION_BOOL, NULL,
		"mark zeroes in the tables (off; on for a disk with a parent)" },
	{ "toolsversion", VMIMG_OPTION_TEXT, NULL, "version of VMware Tools (2147483647)" },
	{ "tools_version", VMIMG_OPTION_TEXT, NULL, "the same as toolsversion" },
	{ "uuid", VMIMG_OPTION_TEXT, NULL, "UUID of the disk, 32 hexadecimal digits (derived)" },
	{ "cid", VMIMG_OPTION_TEXT, NULL, "content ID, 8 hexadecimal digits (derived)" },
	{ 0 },
};

/* ---- identities ---- */

/* Hexadecimal digits with blanks and dashes anywhere between them. */
static bool parse_hex(const char *text, uint8_t *bytes, size_t count)
{
	size_t digits = 0;

	for (; *text; text++) {
		int digit = isdigit((unsigned char)*text) ? *text - '0'
			: isxdigit((unsigned char)*text)  ? tolower((unsigned char)*text) - 'a' + 10
							  : -1;

		if (*text == ' ' || *text == '-')
			continue;
		if (digit < 0 || digits == 2 * count)
			return false;
		bytes[digits / 2] = (uint8_t)(digits % 2 ? bytes[digits / 2] | digit : digit << 4);
		digits++;
	}
	return digits == 2 * count;
}

int vmimg_vmdk_given_identities(
	struct vmdk_settings *s, const char *cid, const char *uuid, struct vmimg_error *err)
{
	uint8_t bytes[4];

	s->has_cid = cid != NULL;
	s->has_uuid = uuid != NULL;
	if (cid && !parse_hex(cid, bytes, sizeof(bytes)))
		return vmimg_fail(
			err, VMIMG_EINVAL, "option cid is 8 hexadecimal digits, not '%.40s'", cid);
	s->cid = cid ? vmimg_get_be32(bytes) : 0;
	if (cid && s->cid == VMDK_NO_PARENT)
		return vmimg_fail(err, VMIMG_EINVAL, "option cid: ffffffff means \"no disk\"");
	if (uuid && !parse_hex(uuid, s->uuid.bytes, sizeof(s->uuid.bytes)))
		return vmimg_fail(err, VMIMG_EINVAL,
			"option uuid is 32 hexadecimal digits, not '%.60s'", uuid);
	return 0;
}

uint64_t vmimg_vmdk_fold(uint64_t content, uint64_t digest)
{
	content = (content ^ digest) * UINT64_C(0x9e3779b97f4a7c15);
	return content ^ content >> 29;
}

/* VMware's disk UUIDs are SCSI names (NAA) under its own company number. */
static void make_naa(struct vmimg_guid *uuid)
{
	uuid->bytes[0] = 0x60;
	uuid->bytes[1] = 0x00;
	uuid->bytes[2] = 0xc2;
	uuid->bytes[3] = (uint8_t)(0x90 | (uuid->bytes[3] & 0x0f));
}

int vmimg_vmdk_identify(struct vmdk_settings *s, uint64_t content, struct vmimg_error *err)
{
	if (vmimg_guid_make(&s->long_id, s->unique, content, "vmdk content", err))
		return -1;
	if (!s->has_uuid) {
		if (vmimg_guid_make(&s->uuid, s->unique, content, "vmdk disk", err))
			return -1;
		make_naa(&s->uuid);
	}
	if (!s->has_cid)
		s->cid = vmimg_get_be32(s->long_id.bytes + 12);
	/* Two values have a meaning of their own, and 0 is what careless tools write. */
	if (!s->has_cid && (!s->cid || s->cid >= UINT32_C(0xfffffffe)))
		s->cid = UINT32_C(0x10000001);
	vmimg_put_be32(s->long_id.bytes + 12, s->cid);
	return 0;
}

/* ---- settings ---- */

static int choose_subformat(struct vmdk_settings *s, const struct vmimg_create *create,
	bool in_order, struct vmimg_error *err)
{
	bool stream = create->compress || in_order;
	const char *name = vmimg_options_text(
		create->options, "subformat", stream ? "streamOptimized" : "monolithicSparse");

	for (size_t i = 0; i < VMIMG_ARRAY_LEN(subformats); i++)
		if (!strcmp(subformats[i].name, name)) {
			s->create_type = subformats[i].name;
			s->subformat = subformats[i].subformat;
		}
	if (create->compress && s->subformat != VMDK_STREAM)
		return vmimg_fail(err, VMIMG_EINVAL,
			"subformat %s cannot be compressed (streamOptimized can)", name);
	if (in_order && s->subformat != VMDK_STREAM)
		return vmimg_fail(err, VMIMG_EUNSUPPORTED,
			"subformat %s cannot be written to a pipe (streamOptimized can)", name);
	return 0;
}

static int set_parent(
	struct vmdk_settings *s, const struct vmimg_create *create, struct vmimg_error *err)
{
	struct vmimg_identity identity = { 0 };

	s->parent_cid = VMDK_NO_PARENT;
	s->parent_hint = create->parent_name;
	if (!s->parent_hint)
		return 0;
	if (s->subformat == VMDK_STREAM || s->subformat == VMDK_MONOLITHIC_FLAT ||
		s->subformat == VMDK_SPLIT_FLAT || s->subformat == VMDK_VMFS)
		return vmimg_fail(
			err, VMIMG_EINVAL, "subformat %s cannot have a parent", s->create_type);
	if (create->parent_format && strcmp(create->parent_format, "vmdk"))
		return vmimg_fail(err, VMIMG_EINVAL, "the parent of a VMDK is a VMDK, not %.20s",
			create->parent_format);
	if (strpbrk(s->parent_hint, "\"\r\n"))
		return vmimg_fail(err, VMIMG_EINVAL,
			"the parent's name has a quote or a line end, which a descriptor cannot "
			"hold");
	if (!create->parent)
		return vmimg_fail(err, VMIMG_EINVAL,
			"the parent has to be opened: its CID is written into the new disk");
	if (strcmp(create->parent->format->name, "vmdk"))
		return vmimg_fail(err, VMIMG_EINVAL, "the parent of a VMDK is a VMDK, not %s",
			create->parent->format->name);
	create->parent->format->identity(create->parent, &identity);
	s->parent_cid = identity.cid;
	return 0;
}

/* Option texts stand in double quotes in the descriptor. */
static int check_text(const char *option, const char *text, struct vmimg_error *err)
{
	for (const char *p = text; *p; p++)
		if (!isalnum((unsigned char)*p) && *p != '.')
			return vmimg_fail(err, VMIMG_EINVAL, "option %s: '%.40s' is not a version",
				option, text);
	return 0;
}

int vmimg_vmdk_settings(struct vmdk_settings *s, const struct vmimg_create *create, bool in_order,
	struct vmimg_error *err)
{
	const struct vmimg_options *options = create->options;
	bool six = vmimg_options_bool(options, "compat6", false);
	const char *tools = vmimg_options_text(options, "toolsversion", "2147483647");

	memset(s, 0, sizeof(*s));
	if (six && vmimg_options_text(options, "hwversion", NULL))
		return vmimg_fail(
			err, VMIMG_EINVAL, "options compat6 and hwversion exclude each other");
	s->adapter = vmimg_options_text(options, "adapter_type", "ide");
	s->hw_version = vmimg_options_text(options, "hwversion", six ? "6" : "4");
	s->tools_version = vmimg_options_text(options, "tools_version", tools);
	s->unique = create->unique;
	s->sectors = vmimg_div_up(create->size, VMDK_SECTOR);
	if (create->size > VMIMG_MAX_DISK - VMDK_SECTOR)
		return vmimg_fail(err, VMIMG_ELIMIT, "a disk of that size is larger than any");
	if (check_text("hwversion", s->hw_version, err) ||
		check_text("toolsversion", s->tools_version, err) ||
		choose_subformat(s, create, in_order, err) || set_parent(s, create, err))
		return -1;
	s->zeroed = s->subformat != VMDK_STREAM &&
		vmimg_options_bool(options, "zeroed_grain", s->parent_hint != NULL);
	return vmimg_vmdk_given_identities(s, vmimg_options_text(options, "cid", NULL),
		vmimg_options_text(options, "uuid", NULL), err);
}
