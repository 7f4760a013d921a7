/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A hive is a heap of cells, told by their offsets: keys with lists of keys and of values below
 * them. Lists of lists are one level deep, and a hive gives no more than so many cells in all, so
 * that no loop goes on.
 */
#include "inspect/hive.h"
#include <stdio.h>
#include <string.h>
#include <strings.h>
#include "io/table.h"
#include "util/bytes.h"
#include "util/num.h"
#include "util/utf16.h"

#define BASE      4096U /* before the first cell */
#define MAX_CELLS 200000U
#define MAX_NAME  255U  /* bytes of a name that is looked at: longer ones are not ours */
#define MAX_TEXT  4096U /* bytes of a value */
#define NONE      UINT32_MAX

#define KEY_HEAD     76U
#define VALUE_HEAD   20U
#define ASCII_KEY    0x20U /* flags: the name is of bytes, not of UTF-16 */
#define ASCII_VALUE  1U
#define INLINE_VALUE 0x80000000U
#define TYPE_TEXT    1U
#define TYPE_EXPAND  2U
#define TYPE_NUMBER  4U

struct vmimg_hive {
	struct vmimg_io *io; /* shared */
	struct vmimg_table *table;
	uint32_t root;
	unsigned left; /* cells that may still be read */
};

static int corrupt(uint32_t cell, const char *what, struct vmimg_error *err)
{
	return vmimg_fail(err, VMIMG_ECORRUPT, "registry cell 0x%x %s", cell, what);
}

/* len bytes at `at` in a cell, which must be in use and reach so far. */
static int read_cell(struct vmimg_hive *hive, uint32_t cell, uint32_t at, void *buf, size_t len,
	struct vmimg_error *err)
{
	uint8_t head[4];
	int32_t size;

	if (!hive->left || !hive->left--)
		return vmimg_fail(err, VMIMG_ELIMIT, "a registry of more than %u cells", MAX_CELLS);
	if (!vmimg_range_inside(BASE + (uint64_t)cell, 4, vmimg_io_size(hive->io)))
		return corrupt(cell, "lies past the end of the file", err);
	if (vmimg_table_read(hive->table, head, sizeof(head), BASE + (uint64_t)cell, err))
		return -1;
	size = (int32_t)vmimg_get_le32(head);
	if (size > -4 || !vmimg_range_inside(at, len, 0 - (uint64_t)(int64_t)size - 4))
		return corrupt(cell, size >= 0 ? "is not in use" : "is too short", err);
	return vmimg_table_read(hive->table, buf, len, BASE + (uint64_t)cell + 4 + at, err);
}

/* Whether raw, a name as a hive keeps it, is the one that is wanted. */
static bool same_name(const uint8_t *raw, size_t len, bool ascii, const char *name, size_t name_len)
{
	if (len != (ascii ? name_len : name_len * 2))
		return false;
	for (size_t i = 0; i < name_len; i++) {
		unsigned unit = ascii ? raw[i] : vmimg_get_le16(raw + 2 * i);
		unsigned lower = unit >= 'A' && unit <= 'Z' ? unit | 32 : unit;
		unsigned want = (uint8_t)name[i];

		if (lower != (want >= 'A' && want <= 'Z' ? want | 32 : want))
			return false;
	}
	return true;
}

/* ---- keys -------------------------------------------------------------------------------- */

static int read_key(
	struct vmimg_hive *hive, uint32_t key, uint8_t head[KEY_HEAD], struct vmimg_error *err)
{
	if (read_cell(hive, key, 0, head, KEY_HEAD, err))
		return -1;
	return memcmp(head, "nk", 2) ? corrupt(key, "is no key", err) : 0;
}

static int is_key(struct vmimg_hive *hive, uint32_t key, const char *name, size_t len, bool *same,
	struct vmimg_error *err)
{
	uint8_t head[KEY_HEAD], raw[2 * MAX_NAME];
	size_t have;
	bool ascii;

	*same = false;
	if (read_key(hive, key, head, err))
		return -1;
	have = vmimg_get_le16(head + 72);
	ascii = vmimg_get_le16(head + 2) & ASCII_KEY;
	if (have != (ascii ? len : 2 * len))
		return 0;
	if (read_cell(hive, key, KEY_HEAD, raw, have, err))
		return -1;
	*same = same_name(raw, have, ascii, name, len);
	return 0;
}

/* The key of that name in a list: "lf" and "lh" have hashes beside the places, "li" has none, "ri"
 * is a list of lists. */
static int search_list(struct vmimg_hive *hive, uint32_t list, bool nested, const char *name,
	size_t len, uint32_t *key, struct vmimg_error *err)
{
	uint8_t head[4], entry[4];
	bool outer, same;
	size_t step;

	if (read_cell(hive, list, 0, head, sizeof(head), err))
		return -1;
	outer = !memcmp(head, "ri", 2);
	step = outer || !memcmp(head, "li", 2) ? 4 : 8;
	if ((outer && nested) || (step == 8 && memcmp(head, "lf", 2) && memcmp(head, "lh", 2)))
		return corrupt(list, "is no list of keys", err);
	for (uint32_t i = 0; i < vmimg_get_le16(head + 2); i++) {
		uint32_t place;

		if (read_cell(hive, list, 4 + i * (uint32_t)step, entry, sizeof(entry), err))
			return -1;
		place = vmimg_get_le32(entry);
		if (outer ? search_list(hive, place, true, name, len, key, err)
			  : is_key(hive, place, name, len, &same, err))
			return -1;
		if (!outer && same)
			*key = place;
		if (*key != NONE)
			return 0;
	}
	return 0;
}

int vmimg_hive_find(struct vmimg_hive *hive, const char *path, uint32_t *key, bool *found,
	struct vmimg_error *err)
{
	uint32_t at = hive->root;

	while (*path && at != NONE) {
		size_t len = strcspn(path, "\\");
		uint8_t head[KEY_HEAD];
		uint32_t below = NONE;

		if (len > MAX_NAME || read_key(hive, at, head, err))
			return len > MAX_NAME ? corrupt(at, "has no such name", err) : -1;
		if (vmimg_get_le32(head + 20) &&
			search_list(hive, vmimg_get_le32(head + 28), false, path, len, &below, err))
			return -1;
		at = below;
		path += len + (path[len] == '\\');
	}
	*found = at != NONE;
	*key = at;
	return 0;
}

/* ---- values ------------------------------------------------------------------------------ */

static int is_value(struct vmimg_hive *hive, uint32_t cell, const char *name,
	uint8_t head[VALUE_HEAD], bool *same, struct vmimg_error *err)
{
	size_t len = strlen(name), have;
	uint8_t raw[2 * MAX_NAME];
	bool ascii;

	*same = false;
	if (read_cell(hive, cell, 0, head, VALUE_HEAD, err))
		return -1;
	if (memcmp(head, "vk", 2))
		return corrupt(cell, "is no value", err);
	have = vmimg_get_le16(head + 2);
	ascii = vmimg_get_le16(head + 16) & ASCII_VALUE;
	if (have != (ascii ? len : 2 * len))
		return 0;
	if (read_cell(hive, cell, VALUE_HEAD, raw, have, err))
		return -1;
	*same = same_name(raw, have, ascii, name, len);
	return 0;
}

/* The head of the value of that name. */
static int find_value(struct vmimg_hive *hive, uint32_t key, const char *name,
	uint8_t head[VALUE_HEAD], bool *found, struct vmimg_error *err)
{
	uint8_t key_head[KEY_HEAD], entry[4];
	uint32_t list;

	*found = false;
	if (read_key(hive, key, key_head, err))
		return -1;
	list = vmimg_get_le32(key_head + 40);
	for (uint32_t i = 0; i < vmimg_get_le32(key_head + 36) && !*found; i++)
		if (read_cell(hive, list, i * 4, entry, sizeof(entry), err) ||
			is_value(hive, vmimg_get_le32(entry), name, head, found, err))
			return -1;
	return 0;
}

int vmimg_hive_text(struct vmimg_hive *hive, uint32_t key, const char *name, char *out, size_t cap,
	bool *found, struct vmimg_error *err)
{
	uint8_t head[VALUE_HEAD], raw[MAX_TEXT];
	VMIMG_AUTO(free) char *text = NULL;
	uint32_t type, len;

	if (find_value(hive, key, name, head, found, err))
		return -1;
	type = vmimg_get_le32(head + 12);
	len = vmimg_get_le32(head + 4);
	*found = *found && (type == TYPE_TEXT || type == TYPE_EXPAND) &&
		((len & ~INLINE_VALUE) <= (len & INLINE_VALUE ? 4U : MAX_TEXT));
	if (!*found)
		return 0;
	if (len & INLINE_VALUE)
		memcpy(raw, head + 8, 4);
	else if (read_cell(hive, vmimg_get_le32(head + 8), 0, raw, len, err))
		return -1;
	text = vmimg_utf16_decode(raw, len & ~INLINE_VALUE, false, err);
	if (!text)
		return -1;
	snprintf(out, cap, "%s", text);
	return 0;
}

int vmimg_hive_number(struct vmimg_hive *hive, uint32_t key, const char *name, uint32_t *number,
	bool *found, struct vmimg_error *err)
{
	uint8_t head[VALUE_HEAD];

	if (find_value(hive, key, name, head, found, err))
		return -1;
	*found = *found && vmimg_get_le32(head + 12) == TYPE_NUMBER &&
		vmimg_get_le32(head + 4) == (INLINE_VALUE | 4);
	if (*found)
		*number = vmimg_get_le32(head + 8);
	return 0;
}

/* ---- opening ----------------------------------------------------------------------------- */

void vmimg_hive_close(struct vmimg_hive *hive)
{
	if (!hive)
		return;
	vmimg_table_free(hive->table);
	vmimg_io_unref(hive->io);
	free(hive);
}

struct vmimg_hive *vmimg_hive_open(struct vmimg_io *io, struct vmimg_error *err)
{
	VMIMG_AUTO(vmimg_hive_close) struct vmimg_hive *hive = vmimg_new(struct vmimg_hive, err);
	uint8_t base[64];

	if (!hive)
		return NULL;
	hive->io = vmimg_io_ref(io);
	hive->left = MAX_CELLS;
	hive->table = vmimg_table_new(io, err);
	if (!hive->table)
		return NULL;
	if (vmimg_io_size(io) < BASE) {
		vmimg_fail(err, VMIMG_EFORMAT, "too short for a registry hive");
		return NULL;
	}
	if (vmimg_table_read(hive->table, base, sizeof(base), 0, err))
		return NULL;
	hive->root = vmimg_get_le32(base + 36);
	if (memcmp(base, "regf", 4)) {
		vmimg_fail(err, VMIMG_EFORMAT, "no registry hive");
		return NULL;
	}
	return vmimg_take(hive);
}
