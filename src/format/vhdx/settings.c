/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What a VHDX says of itself. Metadata and the identity in the header change by one round; the
 * creator's name is text in the file's first sector, which is written as a whole.
 */
#include <string.h>
#include "format/vhdx/change.h"
#include "util/utf16.h"

#define SECTOR 512U

const struct vmimg_option_spec vmimg_vhdx_settings[] = {
	{ "uuid", VMIMG_OPTION_TEXT, NULL,
		"virtual disk id, by which the guest knows the disk; or new" },
	{ "data-write-guid", VMIMG_OPTION_TEXT, NULL, "by which children know the image; or new" },
	{ "parent", VMIMG_OPTION_TEXT, NULL, "the parent's name (children only)" },
	{ "parent-linkage", VMIMG_OPTION_TEXT, NULL,
		"data write GUID of the parent (children only)" },
	{ "physical_sector_size", VMIMG_OPTION_SIZE, NULL, "512 or 4096" },
	{ "creator", VMIMG_OPTION_TEXT, NULL, "software that made it, at most 251 characters" },
	{ 0 },
};

/* What is to be set; what is not, is left out. */
struct settings {
	struct vhdx_change change;
	struct vmimg_vhdx *vhdx;
	bool id, data_write;
	struct vmimg_guid id_value, data_write_value;
	uint64_t physical; /* 0: left out */
	uint8_t *locator;  /* owned; NULL: left out */
	size_t locator_len;
	uint8_t *creator; /* the same; UTF-16 */
	size_t creator_len;
};

/* ---- the words ---- */

static int read_guid(const struct vmimg_options *options, const char *key, bool or_new, bool *there,
	struct vmimg_guid *guid, struct vmimg_error *err)
{
	const char *text = vmimg_options_text(options, key, NULL);

	*there = text;
	if (!text)
		return 0;
	if (or_new && !strcmp(text, "new"))
		return vmimg_guid_make(guid, true, 0, "vhdx", err);
	if (vmimg_guid_parse(guid, text, strlen(text)) && !vmimg_guid_is_nil(guid))
		return 0;
	return vmimg_fail(err, VMIMG_EINVAL, "%s is %s8-4-4-4-12 hexadecimal digits, not nil", key,
		or_new ? "new, or " : "");
}

static int read_parent(
	struct settings *s, const struct vmimg_options *options, struct vmimg_error *err)
{
	const char *name = vmimg_options_text(options, "parent", NULL);
	struct vmimg_guid linkage;
	bool there;

	if (read_guid(options, "parent-linkage", false, &there, &linkage, err))
		return -1;
	if (!name && !there)
		return 0;
	if (!s->vhdx->params.has_parent)
		return vmimg_fail(err, VMIMG_EINVAL, "it has no parent");
	if (name && !*name)
		return vmimg_fail(err, VMIMG_EINVAL,
			"parent is a file's name (rebase -b \"\" makes it stand alone)");
	s->locator = vmimg_vhdx_make_locator(
		&s->vhdx->locator, there ? &linkage : NULL, name, &s->locator_len, err);
	return s->locator ? 0 : -1;
}

static int read_creator(
	struct settings *s, const struct vmimg_options *options, struct vmimg_error *err)
{
	const char *text = vmimg_options_text(options, "creator", NULL);

	if (!text)
		return 0;
	s->creator = vmimg_utf16_encode(text, false, &s->creator_len, err);
	if (!s->creator)
		return -1;
	return s->creator_len + 2 + VHDX_CREATOR_AT > SECTOR
		? vmimg_fail(err, VMIMG_EINVAL, "creator has at most 251 characters")
		: 0;
}

static int read_all(
	struct settings *s, const struct vmimg_options *options, struct vmimg_error *err)
{
	s->physical = vmimg_options_size(options, "physical_sector_size", 0);
	if (vmimg_options_text(options, "physical_sector_size", NULL) && s->physical != 512 &&
		s->physical != 4096)
		return vmimg_fail(err, VMIMG_EINVAL, "physical_sector_size is 512 or 4096");
	return read_guid(options, "uuid", true, &s->id, &s->id_value, err) ||
			read_guid(options, "data-write-guid", true, &s->data_write,
				&s->data_write_value, err) ||
			read_parent(s, options, err) || read_creator(s, options, err)
		? -1
		: 0;
}

/* ---- the file ---- */

static int put(struct settings *s, const char *guid, const void *bytes, size_t len,
	struct vmimg_error *err)
{
	return vmimg_vhdx_put_item(s->change.stage, &s->vhdx->metadata, guid, 0, bytes, len, err);
}

static int put_metadata(struct settings *s, struct vmimg_error *err)
{
	uint8_t id[16], physical[4];

	vmimg_guid_put_mixed(&s->id_value, id);
	vmimg_put_le32(physical, (uint32_t)s->physical);
	if (s->id && put(s, VHDX_GUID_DISK_ID, id, sizeof(id), err))
		return -1;
	if (s->physical && put(s, VHDX_GUID_PHYSICAL_SECTOR, physical, sizeof(physical), err))
		return -1;
	return s->locator ? put(s, VHDX_GUID_PARENT_LOCATOR, s->locator, s->locator_len, err) : 0;
}

/* The text ends in the first sector, so that one write changes it. */
static int put_creator(struct settings *s, struct vmimg_error *err)
{
	uint8_t sector[SECTOR] = VHDX_FILE_ID;

	if (!s->creator)
		return 0;
	memcpy(sector + VHDX_CREATOR_AT, s->creator, s->creator_len);
	return vmimg_io_pwrite(s->change.io, sector, sizeof(sector), 0, err);
}

/* The guest sees the disk's id and its sectors. */
static int rename_content(struct settings *s, struct vmimg_error *err)
{
	const struct vmimg_guid *old = &s->vhdx->head.data_write;
	uint64_t salt = vmimg_get_le64(s->id_value.bytes) ^ s->physical;

	if (!s->data_write && !s->id && !s->physical)
		return 0;
	if (!s->data_write &&
		vmimg_vhdx_derive(old, salt, "vhdx data write", &s->data_write_value, err))
		return -1;
	vmimg_vhdx_change_rename(&s->change, &s->data_write_value);
	return 0;
}

static int write_all(struct settings *s, struct vmimg_disk *disk, struct vmimg_error *err)
{
	if (vmimg_vhdx_change_open(&s->change, disk, err) ||
		vmimg_vhdx_change_begin(&s->change, err) || rename_content(s, err) ||
		put_metadata(s, err) || put_creator(s, err))
		return -1;
	return vmimg_vhdx_change_end(&s->change, err);
}

int vmimg_vhdx_set(
	struct vmimg_disk *disk, const struct vmimg_options *options, struct vmimg_error *err)
{
	struct settings s = { .vhdx = disk->state };
	int result = read_all(&s, options, err) || write_all(&s, disk, err);

	vmimg_vhdx_change_done(&s.change);
	free(s.locator);
	free(s.creator);
	return result ? -1 : 0;
}
