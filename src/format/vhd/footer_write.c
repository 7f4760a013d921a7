/* SPDX-License-Identifier: Apache-2.0 */
/* The footer, the dynamic disk header and the parent's locators of a new image. */
#include <string.h>
#include "format/vhd/sink.h"
#include "util/limits.h"
#include "util/num.h"
#include "util/utf16.h"

#define HEADER_AT VMIMG_VHD_FOOTER_SIZE

static int choose_uuid(
	const struct vmimg_vhd_sink *s, uint8_t bytes[VMIMG_GUID_SIZE], struct vmimg_error *err)
{
	struct vmimg_guid guid = s->uuid;

	if (!s->has_uuid && vmimg_guid_make(&guid, s->unique, s->content, "vhd", err))
		return -1;
	memcpy(bytes, guid.bytes, sizeof(guid.bytes));
	return 0;
}

int vmimg_vhd_make_footer(const struct vmimg_vhd_sink *s, uint8_t bytes[VMIMG_VHD_FOOTER_SIZE],
	struct vmimg_error *err)
{
	uint64_t size = s->sink.size;
	struct vmimg_vhd_geometry geometry = vmimg_vhd_geometry_for(size / VMIMG_VHD_SECTOR);
	struct vmimg_vhd_footer footer = {
		.cookie = "conectix",
		.features = VMIMG_VHD_FEATURE_RESERVED,
		.version = VMIMG_VHD_VERSION,
		.data_offset = s->type == VMIMG_VHD_FIXED ? VMIMG_VHD_NOWHERE : HEADER_AT,
		.timestamp = s->timestamp,
		.creator_ver = 0x000a0000,
		.creator_os = "Wi2k",
		.original_size = size,
		.current_size = size,
		.cylinders = geometry.cylinders,
		.heads = geometry.heads,
		.sectors = geometry.sectors,
		.type = s->type,
	};

	memcpy(footer.creator, s->creator, sizeof(footer.creator));
	if (choose_uuid(s, footer.uuid, err))
		return -1;
	memset(bytes, 0, VMIMG_VHD_FOOTER_SIZE);
	vmimg_vhd_footer_encode(&footer, bytes);
	vmimg_put_be32(bytes + VMIMG_VHD_FOOTER_SUM_AT,
		vmimg_vhd_sum(bytes, VMIMG_VHD_FOOTER_SIZE, VMIMG_VHD_FOOTER_SUM_AT));
	return 0;
}

/* The parent's name as Windows has it, relative names beginning with ".\" when dotted. */
static char *windows_name(const char *name, bool dotted, struct vmimg_error *err)
{
	size_t len = strlen(name);
	char *text = vmimg_alloc_array(len + 3, 1, err);

	if (!text)
		return NULL;
	memcpy(text, "./", 2);
	memcpy(text + (dotted ? 2 : 0), name, len);
	for (char *p = text; *p; p++)
		if (*p == '/')
			*p = '\\';
	return text;
}

/* Locator number slot, with its text at `at`. */
static int write_locator(struct vmimg_io *io, struct vmimg_vhd_header *header, unsigned slot,
	const char *platform, const char *name, uint64_t at, struct vmimg_error *err)
{
	bool dotted = !memcmp(platform, "W2ru", 4);
	VMIMG_AUTO(free) char *text = windows_name(name, dotted, err);
	struct vmimg_vhd_locator locator = { .space = VMIMG_MAX_NAME, .at = at };
	size_t len = 0;
	VMIMG_AUTO(free) uint8_t *utf16 = text ? vmimg_utf16_encode(text, false, &len, err) : NULL;

	if (!utf16)
		return -1;
	if (len > VMIMG_MAX_NAME)
		return vmimg_fail(err, VMIMG_EINVAL, "the parent's name is too long");
	memcpy(locator.platform, platform, sizeof(locator.platform));
	locator.len = (uint32_t)len;
	vmimg_vhd_locator_encode(&locator, header->locators + slot * VMIMG_VHD_LOCATOR_SIZE);
	return vmimg_io_pwrite(io, utf16, len, at, err);
}

int vmimg_vhd_name_parent(struct vmimg_io *io, struct vmimg_vhd_header *header, const char *name,
	uint64_t locators_at, struct vmimg_error *err)
{
	const char *slash = strrchr(name, '/');
	VMIMG_AUTO(free) uint8_t *utf16 = NULL;
	size_t len;

	utf16 = vmimg_utf16_encode(slash ? slash + 1 : name, true, &len, err);
	if (!utf16)
		return -1;
	if (len > VMIMG_VHD_NAME_BYTES - 2)
		return vmimg_fail(
			err, VMIMG_EINVAL, "the parent's name is longer than 255 characters");
	memset(header->parent_name, 0, sizeof(header->parent_name));
	memset(header->locators, 0, sizeof(header->locators));
	memcpy(header->parent_name, utf16, len);
	if (name[0] != '/' && write_locator(io, header, 0, "W2ru", name, locators_at, err))
		return -1;
	return write_locator(io, header, 1, "W2ku", name, locators_at + VMIMG_MAX_NAME, err);
}

static int set_parent(
	struct vmimg_vhd_sink *s, struct vmimg_vhd_header *header, struct vmimg_error *err)
{
	uint64_t tables_end =
		vmimg_align_up(s->bat_at + 4 * (uint64_t)s->entries, VMIMG_VHD_SECTOR);

	memcpy(header->parent_uuid, s->parent.uuid.bytes, sizeof(header->parent_uuid));
	header->parent_time = s->parent.time;
	return vmimg_vhd_name_parent(s->io, header, s->parent_name, tables_end, err);
}

int vmimg_vhd_write_header(struct vmimg_vhd_sink *s, struct vmimg_error *err)
{
	uint8_t bytes[VMIMG_VHD_HEADER_SIZE] = { 0 };
	struct vmimg_vhd_header header = {
		.cookie = "cxsparse",
		.data_offset = VMIMG_VHD_NOWHERE,
		.table_offset = s->bat_at,
		.version = VMIMG_VHD_VERSION,
		.entries = s->entries,
		.block_size = s->block_size,
	};

	if (s->type == VMIMG_VHD_DIFFERENCING && set_parent(s, &header, err))
		return -1;
	vmimg_vhd_header_encode(&header, bytes);
	vmimg_put_be32(bytes + VMIMG_VHD_HEADER_SUM_AT,
		vmimg_vhd_sum(bytes, sizeof(bytes), VMIMG_VHD_HEADER_SUM_AT));
	return vmimg_io_pwrite(s->io, bytes, sizeof(bytes), HEADER_AT, err);
}
