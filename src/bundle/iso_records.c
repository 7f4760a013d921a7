/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Folders as they stand in an image: records of ECMA-119, 9.1, with System Use areas of Rock Ridge
 * in the plain tree. What a record has no room for continues behind the folder's records.
 */
#include <string.h>
#include <sys/stat.h>
#include "bundle/iso_layout.h"
#include "util/bytes.h"
#include "util/num.h"
#include "util/utf16.h"

#define RECORD       33U
#define MOST         254U /* bytes of a record: an even length in one byte */
#define CONTINUED    28U  /* a CE entry */
#define AREA         2048U
#define NAME_PIECE   250U
#define EXTENSION_ID "RRIP_1991A"
#define EXTENSION_SOURCE \
	"THE ROCK RIDGE INTERCHANGE PROTOCOL PROVIDES SUPPORT FOR POSIX FILE SYSTEM SEMANTICS"

void vmimg_iso_put16(uint8_t *to, uint16_t v)
{
	vmimg_put_le16(to, v);
	vmimg_put_be16(to + 2, v);
}

void vmimg_iso_put32(uint8_t *to, uint32_t v)
{
	vmimg_put_le32(to, v);
	vmimg_put_be32(to + 4, v);
}

/* Civil date of a day count, by eras of 400 years that begin in March. */
void vmimg_iso_put_time(uint8_t to[7], int64_t time)
{
	int64_t days = time / 86400, rest = time % 86400, era, year;
	unsigned of_era, of_year, month, day;

	if (rest < 0) {
		rest += 86400;
		days--;
	}
	days += 719468;
	era = days / 146097;
	of_era = (unsigned)(days - era * 146097);
	year = (of_era - of_era / 1460 + of_era / 36524 - of_era / 146096) / 365;
	of_year = of_era - (unsigned)(365 * year + year / 4 - year / 100);
	month = (5 * of_year + 2) / 153;
	day = of_year - (153 * month + 2) / 5 + 1;
	month = month < 10 ? month + 3 : month - 9;
	year += era * 400 + (month <= 2);
	to[0] = (uint8_t)(year < 1900 ? 0 : year > 2155 ? 255 : year - 1900);
	to[1] = (uint8_t)month;
	to[2] = (uint8_t)day;
	to[3] = (uint8_t)(rest / 3600);
	to[4] = (uint8_t)(rest / 60 % 60);
	to[5] = (uint8_t)(rest % 60);
	to[6] = 0;
}

int vmimg_iso_record_name(const struct vmimg_iso_node *node, int tree, uint8_t *out, size_t *len,
	struct vmimg_error *err)
{
	VMIMG_AUTO(free) uint8_t *wide = NULL;

	if (tree == VMIMG_ISO_PLAIN) {
		*len = strlen(node->iso_name);
		memcpy(out, node->iso_name, *len);
		return 0;
	}
	wide = vmimg_utf16_encode(node->name, true, len, err);
	if (!wide)
		return vmimg_within(err, "the name of %.80s for Joliet", node->name);
	if (*len > 206)
		return vmimg_fail(err, VMIMG_EUNSUPPORTED,
			"%.80s: a name of more than 103 characters is too long for Joliet",
			node->name);
	memcpy(out, wide, *len);
	for (size_t i = 0; i + 1 < *len; i += 2) /* what Joliet does not allow */
		if (!out[i] && out[i + 1] && strchr("*:;?\\", out[i + 1]))
			out[i + 1] = '_';
	return 0;
}

size_t vmimg_iso_put_record(uint8_t *to, uint32_t at, uint32_t len, int64_t time, bool folder,
	const uint8_t *name, size_t name_len)
{
	size_t size = RECORD + name_len + !(name_len & 1);

	memset(to, 0, size);
	to[0] = (uint8_t)size;
	vmimg_iso_put32(to + 2, at);
	vmimg_iso_put32(to + 10, len);
	vmimg_iso_put_time(to + 18, time);
	to[25] = folder ? 2 : 0;
	vmimg_iso_put16(to + 28, 1);
	to[32] = (uint8_t)name_len;
	memcpy(to + RECORD, name, name_len);
	return size;
}

/* ---- System Use -------------------------------------------------------------------------- */

/* Entries of one record, one after the other, each known by its own length. */
struct area {
	uint8_t bytes[AREA];
	size_t len;
};

static uint8_t *add(struct area *area, const char *sign, size_t len)
{
	uint8_t *e = area->bytes + area->len;

	memset(e, 0, len);
	memcpy(e, sign, 2);
	e[2] = (uint8_t)len;
	e[3] = 1;
	area->len += len;
	return e;
}

static void add_name(struct area *area, const char *name)
{
	size_t left = strlen(name);

	while (left) {
		size_t step = vmimg_min(left, NAME_PIECE);
		uint8_t *e = add(area, "NM", 5 + step);

		e[4] = left > step;
		memcpy(e + 5, name, step);
		name += step;
		left -= step;
	}
}

/* A component of a link's target: flag 8 the root, 4 the parent, 2 the folder itself. It goes into
 * the entry that begins at *entry (0: none) as far as that has room, or into another, which the one
 * before then says is there. A link of 1,023 bytes takes no more than 1,700 so. */
static void add_component(
	struct area *area, size_t *entry, unsigned flag, const char *text, size_t len)
{
	do {
		size_t step = vmimg_min(len, 240);
		uint8_t *e = area->bytes + *entry, *component;

		if (!*entry || e[2] + 2 + step > 255) {
			if (*entry)
				e[4] = 1;
			*entry = area->len;
			e = add(area, "SL", 5);
		}
		component = area->bytes + area->len;
		component[0] = (uint8_t)(flag | (len > step));
		component[1] = (uint8_t)step;
		memcpy(component + 2, text, step);
		e[2] = (uint8_t)(e[2] + 2 + step);
		area->len += 2 + step;
		text += step;
		len -= step;
	} while (len);
}

static void add_target(struct area *area, const char *target)
{
	size_t entry = 0;

	if (*target == '/')
		add_component(area, &entry, 8, "", 0);
	while (*(target += strspn(target, "/"))) {
		size_t len = strcspn(target, "/");
		bool dot = len == 1 && target[0] == '.',
		     dots = len == 2 && !memcmp(target, "..", 2);

		if (dot || dots)
			add_component(area, &entry, dot ? 2 : 4, "", 0);
		else
			add_component(area, &entry, 0, target, len);
		target += len;
	}
}

static void add_posix(struct area *area, const struct vmimg_iso_node *node, int64_t time)
{
	uint8_t *e = add(area, "PX", 36);
	uint32_t links = 1;

	if (S_ISDIR(node->mode)) {
		links = 2;
		for (size_t i = 0; i < node->count; i++)
			links += S_ISDIR(node->list[i]->mode);
	}
	vmimg_iso_put32(e + 4, node->mode);
	vmimg_iso_put32(e + 12, links);
	e = add(area, "TF", 12);
	e[4] = 2; /* modification */
	vmimg_iso_put_time(e + 5, time);
}

/* The root says that there is Rock Ridge. */
static void add_extension(struct area *area)
{
	size_t id = strlen(EXTENSION_ID), source = strlen(EXTENSION_SOURCE);
	uint8_t *e = add(area, "ER", 8 + id + source);

	e[4] = (uint8_t)id;
	e[6] = (uint8_t)source;
	e[7] = 1;
	memcpy(e + 8, EXTENSION_ID, id);
	memcpy(e + 8 + id, EXTENSION_SOURCE, source);
}

/* ---- folders ----------------------------------------------------------------------------- */

struct folder {
	const struct vmimg_iso_node *node;
	int tree;
	int64_t latest;
	uint8_t *bytes;   /* NULL: only measured */
	uint32_t records; /* bytes of records, known when bytes is there */
	uint32_t used;    /* bytes of records so far */
	uint32_t more;    /* bytes of continued areas so far */
};

static int64_t time_of(const struct folder *f, const struct vmimg_iso_node *node)
{
	return node->mtime < f->latest ? node->mtime : f->latest;
}

/* Puts what fits behind the record, and the rest where the folder's records end. */
static size_t put_area(struct folder *f, uint8_t *record, size_t len, const struct area *area)
{
	size_t room = MOST - len, fits = 0, left;
	uint32_t at;
	uint8_t *e;

	if (area->len <= room) {
		memcpy(record + len, area->bytes, area->len);
		return len + area->len;
	}
	while (fits + area->bytes[fits + 2] + CONTINUED <= room)
		fits += area->bytes[fits + 2];
	left = area->len - fits;
	if (f->more % VMIMG_ISO_BLOCK + left > VMIMG_ISO_BLOCK) /* not across two sectors */
		f->more = (uint32_t)vmimg_align_up(f->more, VMIMG_ISO_BLOCK);
	memcpy(record + len, area->bytes, fits);
	len += fits;
	e = record + len;
	memset(e, 0, CONTINUED);
	memcpy(e, "CE\x1c\x01", 4);
	at = f->records + f->more;
	vmimg_iso_put32(e + 4, f->node->dir_at[f->tree] + at / VMIMG_ISO_BLOCK);
	vmimg_iso_put32(e + 12, at % VMIMG_ISO_BLOCK);
	vmimg_iso_put32(e + 20, (uint32_t)left);
	if (f->bytes)
		memcpy(f->bytes + at, area->bytes + fits, left);
	f->more += (uint32_t)left;
	return len + CONTINUED;
}

static void put(struct folder *f, const uint8_t *record, size_t len)
{
	uint8_t even[256] = { 0 };

	memcpy(even, record, len);
	len += len & 1;
	even[0] = (uint8_t)len;
	if (f->used % VMIMG_ISO_BLOCK + len > VMIMG_ISO_BLOCK)
		f->used = (uint32_t)vmimg_align_up(f->used, VMIMG_ISO_BLOCK);
	if (f->bytes)
		memcpy(f->bytes + f->used, even, len);
	f->used += (uint32_t)len;
}

static void put_dots(struct folder *f)
{
	const struct vmimg_iso_node *self = f->node, *parent = self->parent;

	for (uint8_t i = 0; i < 2; i++) {
		const struct vmimg_iso_node *node = i ? parent : self;
		struct area area = { .len = 0 };
		uint8_t record[256], *e;
		size_t len = vmimg_iso_put_record(record, node->dir_at[f->tree],
			node->dir_len[f->tree], time_of(f, node), true, &i, 1);

		if (f->tree == VMIMG_ISO_PLAIN) {
			if (!i && self == parent) {
				e = add(&area, "SP", 7);
				e[4] = 0xbe;
				e[5] = 0xef;
			}
			add_posix(&area, node, time_of(f, node));
			if (!i && self == parent)
				add_extension(&area);
			len = put_area(f, record, len, &area);
		}
		put(f, record, len);
	}
}

/* A file of more than one extent has a record for each; all but the last say so. */
static int put_node(struct folder *f, const struct vmimg_iso_node *node, struct vmimg_error *err)
{
	bool folder = S_ISDIR(node->mode);
	uint64_t left = S_ISREG(node->mode) ? node->size : 0;
	uint32_t at = folder ? node->dir_at[f->tree] : node->at;
	uint8_t name[256];
	size_t name_len;

	if (vmimg_iso_record_name(node, f->tree, name, &name_len, err))
		return -1;
	do {
		uint32_t step = (uint32_t)vmimg_min(left, VMIMG_ISO_EXTENT);
		struct area area = { .len = 0 };
		uint8_t record[256];
		size_t len =
			vmimg_iso_put_record(record, at, folder ? node->dir_len[f->tree] : step,
				time_of(f, node), folder, name, name_len);

		left -= step;
		record[25] |= left ? 0x80 : 0;
		if (f->tree == VMIMG_ISO_PLAIN) {
			add_posix(&area, node, time_of(f, node));
			add_name(&area, node->name);
			if (node->target)
				add_target(&area, node->target);
			len = put_area(f, record, len, &area);
		}
		put(f, record, len);
		at += step / VMIMG_ISO_BLOCK;
	} while (left);
	return 0;
}

/* UTF-8 sorts as Joliet's 16 bits do. */
static int by_name(const void *a, const void *b)
{
	const struct vmimg_iso_node *x = *(struct vmimg_iso_node *const *)a;
	const struct vmimg_iso_node *y = *(struct vmimg_iso_node *const *)b;

	return strcmp(x->name, y->name);
}

int vmimg_iso_folder_records(const struct vmimg_iso_node *node, int tree, int64_t latest,
	uint8_t *bytes, uint32_t *len, uint32_t *sectors, struct vmimg_error *err)
{
	VMIMG_AUTO(free)
	struct vmimg_iso_node **sorted = vmimg_alloc_array(node->count, sizeof(*sorted), err);
	struct folder f = { .node = node,
		.tree = tree,
		.latest = latest,
		.bytes = bytes,
		.records = node->dir_len[tree] };

	if (!sorted)
		return -1;
	if (node->count)
		memcpy(sorted, node->list, node->count * sizeof(*sorted));
	if (tree == VMIMG_ISO_JOLIET && node->count)
		qsort(sorted, node->count, sizeof(*sorted), by_name);
	put_dots(&f);
	for (size_t i = 0; i < node->count; i++) {
		const struct vmimg_iso_node *child = sorted[i];

		if (child->hidden || (tree == VMIMG_ISO_JOLIET && child->target))
			continue;
		if (put_node(&f, child, err))
			return -1;
	}
	*len = (uint32_t)vmimg_align_up(f.used, VMIMG_ISO_BLOCK);
	*sectors = *len / VMIMG_ISO_BLOCK + (uint32_t)vmimg_div_up(f.more, VMIMG_ISO_BLOCK);
	return 0;
}
