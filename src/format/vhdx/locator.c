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

/* ---- writing ---- */

/* A locator in the making. */
struct making {
	uint8_t *bytes;
	size_t len, cap;
	struct vhdx_locator_entry entries[UINT8_MAX];
	uint16_t count;
};

static int add_text(
	struct making *m, const char *text, uint32_t *at, uint16_t *len, struct vmimg_error *err)
{
	size_t size;
	VMIMG_AUTO(free) uint8_t *encoded = vmimg_utf16_encode(text, false, &size, err);

	if (!encoded)
		return -1;
	if (size > UINT16_MAX)
		return vmimg_fail(err, VMIMG_EINVAL, "the parent's name is too long");
	if (vmimg_grow_array(&m->bytes, &m->cap, m->len + size, 1, err))
		return -1;
	memcpy(m->bytes + m->len, encoded, size);
	*at = (uint32_t)m->len;
	*len = (uint16_t)size;
	m->len += size;
	return 0;
}

static int add_pair(struct making *m, const char *key, const char *value, struct vmimg_error *err)
{
	struct vhdx_locator_entry *entry = &m->entries[m->count];

	if (m->count == VMIMG_ARRAY_LEN(m->entries))
		return vmimg_fail(
			err, VMIMG_ELIMIT, "the parent locator has more than %u entries", m->count);
	m->count++;
	return add_text(m, key, &entry->key_at, &entry->key_length, err) ||
			add_text(m, value, &entry->value_at, &entry->value_length, err)
		? -1
		: 0;
}

/* Head and entries before the texts, whose places count from the head. */
static uint8_t *assemble(const struct making *m, size_t *len, struct vmimg_error *err)
{
	struct vhdx_locator_head head = { .count = m->count };
	size_t at = HEAD_SIZE + ENTRY_SIZE * (size_t)m->count;
	uint8_t *bytes = vmimg_alloc_array(at + m->len, 1, err);

	if (!bytes)
		return NULL;
	vmimg_vhdx_put_guid(head.type, VHDX_GUID_LOCATOR_TYPE);
	vhdx_locator_head_encode(&head, bytes);
	for (unsigned i = 0; i < m->count; i++) {
		struct vhdx_locator_entry entry = m->entries[i];

		entry.key_at += (uint32_t)at;
		entry.value_at += (uint32_t)at;
		vhdx_locator_entry_encode(&entry, bytes + HEAD_SIZE + ENTRY_SIZE * (size_t)i);
	}
	memcpy(bytes + at, m->bytes, m->len);
	*len = at + m->len;
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

static int add_name(struct making *m, const char *name, struct vmimg_error *err)
{
	VMIMG_AUTO(free) char *text = windows_name(name, err);

	if (!text)
		return -1;
	return add_pair(m, name[0] == '/' ? "absolute_win32_path" : "relative_path", text, err);
}

static int add_linkage(struct making *m, const struct vmimg_guid *linkage, struct vmimg_error *err)
{
	char guid[VMIMG_GUID_TEXT], braced[VMIMG_GUID_TEXT + 2];

	snprintf(braced, sizeof(braced), "{%s}", vmimg_guid_format(guid, linkage));
	return add_pair(m, "parent_linkage", braced, err);
}

/* The pairs that stay: identities, unless there is a new one; names; what is not known. */
static int add_old(struct making *m, const struct vhdx_locator *old, bool linkage, bool name,
	struct vmimg_error *err)
{
	for (size_t i = 0; i < old->count; i++) {
		const struct vhdx_pair *pair = &old->pairs[i];
		bool is_linkage = !strncmp(pair->key, "parent_linkage", 14);
		bool is_name = !strcmp(pair->key, "relative_path") ||
			!strcmp(pair->key, "volume_path") ||
			!strcmp(pair->key, "absolute_win32_path");

		if ((is_linkage && !linkage) || (is_name && !name))
			continue;
		if (add_pair(m, pair->key, pair->value, err))
			return -1;
	}
	return 0;
}

uint8_t *vmimg_vhdx_make_locator(const struct vhdx_locator *old, const struct vmimg_guid *linkage,
	const char *name, size_t *len, struct vmimg_error *err)
{
	VMIMG_AUTO(free) struct making *m = vmimg_new(struct making, err);
	uint8_t *bytes = NULL;

	if (!m)
		return NULL;
	if ((!linkage || !add_linkage(m, linkage, err)) && (!name || !add_name(m, name, err)) &&
		!add_old(m, old, !linkage, !name, err))
		bytes = assemble(m, len, err);
	free(m->bytes);
	return bytes;
}
