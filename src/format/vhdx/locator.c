/* SPDX-License-Identifier: Apache-2.0 */
/* The parent locator ([MS-VHDX] 2.6.2.6): pairs of UTF-16 text that say who the parent is and where
 * it may be found. */
#include <inttypes.h>
#include <stdio.h>
#include <string.h>
#include "format/vhdx/vhdx.h"
#include "util/num.h"
#include "util/utf16.h"

#define HEAD_SIZE  20U
#define ENTRY_SIZE 12U

void vmimg_vhdx_locator_done(struct vhdx_locator *locator)
{
	for (size_t i = 0; i < locator->count; i++) {
		free(locator->pairs[i].key);
		free(locator->pairs[i].value);
	}
	free(locator->pairs);
}

const char *vmimg_vhdx_locator_value(const struct vhdx_locator *locator, const char *key)
{
	for (size_t i = 0; i < locator->count; i++)
		if (!strcmp(locator->pairs[i].key, key))
			return locator->pairs[i].value;
	return NULL;
}

static int take_pair(struct vhdx_locator *locator, const uint8_t *bytes, size_t len,
	const struct vhdx_locator_entry *entry, struct vmimg_error *err)
{
	struct vhdx_pair *pair = &locator->pairs[locator->count];

	if (!vmimg_range_inside(entry->key_at, entry->key_length, len) ||
		!vmimg_range_inside(entry->value_at, entry->value_length, len))
		return vmimg_fail(err, VMIMG_ECORRUPT,
			"key or value (0x%" PRIx32 ", 0x%" PRIx32 ") outside its %zu bytes",
			entry->key_at, entry->value_at, len);
	locator->count++;
	pair->key = vmimg_utf16_decode(bytes + entry->key_at, entry->key_length, false, err);
	pair->value = vmimg_utf16_decode(bytes + entry->value_at, entry->value_length, false, err);
	return pair->key && pair->value ? 0 : -1;
}

static int read_pairs(struct vhdx_locator *locator, const uint8_t *bytes, size_t len,
	unsigned count, struct vmimg_error *err)
{
	uint64_t total = HEAD_SIZE;

	for (unsigned i = 0; i < count; i++) {
		struct vhdx_locator_entry entry;

		vhdx_locator_entry_decode(&entry, bytes + HEAD_SIZE + ENTRY_SIZE * (size_t)i);
		/* Texts do not share bytes, so that what is kept is no more than what was read. */
		total += ENTRY_SIZE + (uint64_t)entry.key_length + entry.value_length;
		if (total > len)
			return vmimg_fail(err, VMIMG_ECORRUPT, "its texts overlap");
		if (take_pair(locator, bytes, len, &entry, err))
			return vmimg_within(err, "entry %u", i);
	}
	return 0;
}

static int read_locator(
	struct vhdx_locator *locator, const uint8_t *bytes, size_t len, struct vmimg_error *err)
{
	struct vhdx_locator_head head;

	if (len < HEAD_SIZE)
		return vmimg_fail(err, VMIMG_ECORRUPT, "only %zu bytes", len);
	vhdx_locator_head_decode(&head, bytes);
	if (!vmimg_vhdx_is_guid(head.type, VHDX_GUID_LOCATOR_TYPE))
		return vmimg_fail(err, VMIMG_EUNSUPPORTED, "its type is not that of a VHDX");
	if (HEAD_SIZE + ENTRY_SIZE * (size_t)head.count > len)
		return vmimg_fail(
			err, VMIMG_ECORRUPT, "%u entries do not fit %zu bytes", head.count, len);
	locator->pairs = vmimg_alloc_array(head.count, sizeof(*locator->pairs), err);
	return locator->pairs ? read_pairs(locator, bytes, len, head.count, err) : -1;
}

int vmimg_vhdx_read_locator(
	struct vhdx_locator *locator, const uint8_t *bytes, size_t len, struct vmimg_error *err)
{
	return read_locator(locator, bytes, len, err) ? vmimg_within(err, "parent locator") : 0;
}

/* A pair to be written, as UTF-16. */
struct text {
	uint8_t *bytes;
	size_t len;
};

static int set_text(struct text *text, const char *from, struct vmimg_error *err)
{
	text->bytes = vmimg_utf16_encode(from, false, &text->len, err);
	if (!text->bytes)
		return -1;
	if (text->len > UINT16_MAX)
		return vmimg_fail(err, VMIMG_EINVAL, "the parent's name is too long");
	return 0;
}

/* Two pairs: their keys and values in texts[0..3]. */
static uint8_t *assemble(const struct text *texts, size_t *len, struct vmimg_error *err)
{
	struct vhdx_locator_head head = { .count = 2 };
	size_t at = HEAD_SIZE + 2 * ENTRY_SIZE, total = at;
	uint8_t *bytes;

	for (unsigned i = 0; i < 4; i++)
		total += texts[i].len;
	bytes = vmimg_alloc_array(total, 1, err);
	if (!bytes)
		return NULL;
	vmimg_vhdx_put_guid(head.type, VHDX_GUID_LOCATOR_TYPE);
	vhdx_locator_head_encode(&head, bytes);
	for (unsigned i = 0; i < 2; i++) {
		const struct text *key = &texts[2 * i], *value = &texts[2 * i + 1];
		struct vhdx_locator_entry entry = { .key_at = (uint32_t)at,
			.value_at = (uint32_t)(at + key->len),
			.key_length = (uint16_t)key->len,
			.value_length = (uint16_t)value->len };

		vhdx_locator_entry_encode(&entry, bytes + HEAD_SIZE + ENTRY_SIZE * i);
		memcpy(bytes + at, key->bytes, key->len);
		memcpy(bytes + at + key->len, value->bytes, value->len);
		at += key->len + value->len;
	}
	*len = total;
	return bytes;
}

/* As Windows writes it: backslashes, and ".\" before a relative name. */
static char *windows_name(const char *name, struct vmimg_error *err)
{
	char *text;

	if (asprintf(&text, "%s%s", name[0] == '/' ? "" : "./", name) < 0) {
		vmimg_fail_nomem(err);
		return NULL;
	}
	for (char *p = text; (p = strchr(p, '/'));)
		*p = '\\';
	return text;
}

uint8_t *vmimg_vhdx_make_locator(const struct vmimg_guid *linkage, const char *parent_name,
	size_t *len, struct vmimg_error *err)
{
	VMIMG_AUTO(free) char *name = windows_name(parent_name, err);
	const char *key = parent_name[0] == '/' ? "absolute_win32_path" : "relative_path";
	char guid[VMIMG_GUID_TEXT], braced[VMIMG_GUID_TEXT + 2];
	struct text texts[4] = { 0 };
	uint8_t *bytes = NULL;

	snprintf(braced, sizeof(braced), "{%s}", vmimg_guid_format(guid, linkage));
	if (name && !set_text(&texts[0], "parent_linkage", err) &&
		!set_text(&texts[1], braced, err) && !set_text(&texts[2], key, err) &&
		!set_text(&texts[3], name, err))
		bytes = assemble(texts, len, err);
	for (unsigned i = 0; i < 4; i++)
		free(texts[i].bytes);
	return bytes;
}
