/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Plain archives are walked from header to header. Of a packed one the beginning is looked at: it
 * must hold an archive too, or else any compressed file would be a ramdisk.
 */
#include "bundle/ramdisk.h"
#include <inttypes.h>
#include <stdio.h>
#include <string.h>
#include "bundle/magic.h"
#include "codec/peek.h"
#include "disk/info.h"
#include "io/table.h"
#include "util/num.h"
#include "util/text.h"

#define CPIO_HEADER 110
/* More files than any ramdisk has: what a stranger's file may cost is bounded. */
#define MAX_FILES (UINT64_C(1) << 20)
/* Zeroes between two archives, as far as they are followed. */
#define MAX_PADDING (UINT64_C(64) << 20)
#define UNPACKED    (256U << 10) /* bytes of a packed archive that are looked at */

struct walk {
	struct vmimg_io *io;
	struct vmimg_table *table;
	uint64_t size;
	struct vmimg_ramdisk *ramdisk;
};

struct cpio_entry {
	uint64_t size, name_len;
	char name[256];
};

static bool is_cpio(const uint8_t *bytes)
{
	return !memcmp(bytes, "070701", 6) || !memcmp(bytes, "070702", 6);
}

static bool parse_hex(const uint8_t *text, uint64_t *value)
{
	*value = 0;
	for (unsigned i = 0; i < 8; i++) {
		unsigned c = text[i] | 0x20U;

		if (c >= '0' && c <= '9')
			*value = *value << 4 | (c - '0');
		else if (c >= 'a' && c <= 'f')
			*value = *value << 4 | (c - 'a' + 10);
		else
			return false;
	}
	return true;
}

/* The entry in bytes; false when these are not one whole header and name. */
static bool parse_entry(const uint8_t *bytes, size_t len, struct cpio_entry *entry)
{
	if (len < CPIO_HEADER || !is_cpio(bytes) || !parse_hex(bytes + 54, &entry->size) ||
		!parse_hex(bytes + 94, &entry->name_len) || !entry->name_len ||
		entry->name_len > 4096)
		return false;
	memset(entry->name, 0, sizeof(entry->name));
	memcpy(entry->name, bytes + CPIO_HEADER,
		vmimg_min(vmimg_min(entry->name_len, sizeof(entry->name) - 1), len - CPIO_HEADER));
	return true;
}

static uint64_t entry_length(const struct cpio_entry *entry)
{
	return vmimg_align_up(CPIO_HEADER + entry->name_len, 4) + vmimg_align_up(entry->size, 4);
}

static void note_name(struct vmimg_ramdisk *ramdisk, const char *name)
{
	const char *modules = strstr(name, "lib/modules/");

	if (*ramdisk->version || !modules)
		return;
	modules += strlen("lib/modules/");
	if (*modules >= '0' && *modules <= '9')
		vmimg_escape(
			ramdisk->version, sizeof(ramdisk->version), modules, strcspn(modules, "/"));
}

static struct vmimg_ramdisk_segment *add_segment(struct walk *walk, uint64_t at)
{
	struct vmimg_ramdisk_segment *segment = &walk->ramdisk->segments[walk->ramdisk->count++];

	memset(segment, 0, sizeof(*segment));
	segment->at = at;
	return segment;
}

/* Walks the plain archive at *at, and moves *at to its end. */
static int walk_cpio(struct walk *walk, uint64_t *at, struct vmimg_error *err)
{
	struct vmimg_ramdisk_segment *segment = add_segment(walk, *at);
	uint8_t bytes[CPIO_HEADER + 255];
	struct cpio_entry entry;
	bool last = false;

	while (!last && !segment->cut_short) {
		size_t len = (size_t)vmimg_min(sizeof(bytes), walk->size - *at);

		if (vmimg_table_read(walk->table, bytes, len, *at, err))
			return -1;
		if (!parse_entry(bytes, len, &entry) ||
			!vmimg_range_inside(
				*at, entry_length(&entry), vmimg_align_up(walk->size, 4))) {
			segment->cut_short = true;
			break;
		}
		*at = vmimg_min(*at + entry_length(&entry), walk->size);
		last = !strcmp(entry.name, "TRAILER!!!");
		segment->files += !last;
		segment->microcode |= strstr(entry.name, "/microcode/") != NULL;
		note_name(walk->ramdisk, entry.name);
		if (segment->files > MAX_FILES)
			return vmimg_fail(err, VMIMG_ELIMIT,
				"%s: a ramdisk of more than %" PRIu64 " files",
				vmimg_io_name(walk->io), MAX_FILES);
	}
	segment->len = *at - segment->at;
	return 0;
}

/* Moves *at past zeroes, to the end at most. */
static int skip_zeroes(struct walk *walk, uint64_t *at, struct vmimg_error *err)
{
	uint8_t bytes[4096];
	uint64_t end = vmimg_min(walk->size, *at + MAX_PADDING);

	while (*at < end) {
		size_t len = (size_t)vmimg_min(sizeof(bytes), end - *at), i = 0;

		if (vmimg_table_read(walk->table, bytes, len, *at, err))
			return -1;
		while (i < len && !bytes[i])
			i++;
		*at += i;
		if (i < len)
			return 0;
	}
	return 0;
}

/* Names of the files in the unpacked beginning of an archive. */
static void note_names(struct vmimg_ramdisk *ramdisk, const uint8_t *bytes, size_t len)
{
	struct cpio_entry entry;
	uint64_t at = 0;

	while (at < len && parse_entry(bytes + at, len - (size_t)at, &entry)) {
		note_name(ramdisk, entry.name);
		at += entry_length(&entry);
	}
}

/* Whether an archive is packed at that place. lz4 and lzo store the first bytes of what they pack
 * as they are: there the beginning of the archive can be seen from outside. */
static int is_packed_cpio(
	struct walk *walk, uint64_t at, const char *name, bool *is, struct vmimg_error *err)
{
	VMIMG_AUTO(free) uint8_t *out = vmimg_alloc_buffer(UNPACKED, err);
	size_t got;

	if (!out || vmimg_unwrap_peek(walk->io, at, out, UNPACKED, &got, err))
		return -1;
	*is = got >= CPIO_HEADER && is_cpio(out);
	if (*is) {
		note_names(walk->ramdisk, out, got);
	} else if (!got && (!strcmp(name, "lz4") || !strcmp(name, "lzo"))) {
		got = (size_t)vmimg_min(128, walk->size - at);
		if (vmimg_io_pread(walk->io, out, got, at, err))
			return -1;
		*is = memmem(out, got, "07070", 5) != NULL;
	} else if (!got && !strcmp(name, "lzma")) {
		*is = true; /* its header has been held against what packers write */
	}
	return 0;
}

/* The segment at *at, of whatever kind; *more: there was one. */
static int walk_segment(struct walk *walk, uint64_t *at, bool *more, struct vmimg_error *err)
{
	uint8_t head[VMIMG_PACKED_MAGIC];
	size_t len = (size_t)vmimg_min(sizeof(head), walk->size - *at);
	struct vmimg_ramdisk_segment *segment;
	const char *name;

	*more = false;
	if (walk->ramdisk->count == VMIMG_RAMDISK_SEGMENTS || len < 6)
		return 0;
	if (vmimg_table_read(walk->table, head, len, *at, err))
		return -1;
	*more = is_cpio(head);
	if (*more)
		return walk_cpio(walk, at, err);
	name = vmimg_packed_name(head, len);
	if (!name || is_packed_cpio(walk, *at, name, more, err))
		return name ? -1 : 0;
	if (!*more)
		return 0;
	segment = add_segment(walk, *at);
	segment->compression = name;
	segment->len = walk->size - *at;
	*at = walk->size;
	return 0;
}

static int walk_all(struct walk *walk, struct vmimg_error *err)
{
	uint64_t at = 0;
	bool more = true;

	while (more && at < walk->size) {
		if (walk_segment(walk, &at, &more, err))
			return -1;
		if (more && skip_zeroes(walk, &at, err))
			return -1;
	}
	if (!walk->ramdisk->count)
		return vmimg_fail(
			err, VMIMG_EFORMAT, "%s is not a ramdisk", vmimg_io_name(walk->io));
	return 0;
}

int vmimg_ramdisk_read(struct vmimg_io *io, struct vmimg_ramdisk *ramdisk, struct vmimg_error *err)
{
	struct walk walk = { .io = io, .size = vmimg_io_size(io), .ramdisk = ramdisk };
	int failed;

	memset(ramdisk, 0, sizeof(*ramdisk));
	walk.table = vmimg_table_new(io, err);
	if (!walk.table)
		return -1;
	failed = walk_all(&walk, err);
	vmimg_table_free(walk.table);
	return failed;
}

void vmimg_ramdisk_describe(const struct vmimg_ramdisk *ramdisk, json_t *object)
{
	json_t *list = json_array();

	for (unsigned i = 0; i < ramdisk->count; i++) {
		const struct vmimg_ramdisk_segment *segment = &ramdisk->segments[i];
		json_t *entry = json_object();

		vmimg_json_text(entry, "type", "cpio");
		if (segment->compression)
			vmimg_json_text(entry, "compression", segment->compression);
		vmimg_json_uint(entry, "offset", segment->at);
		vmimg_json_uint(entry, "length", segment->len);
		if (!segment->compression)
			vmimg_json_uint(entry, "files", segment->files);
		if (segment->microcode)
			vmimg_json_bool(entry, "microcode", true);
		if (segment->cut_short)
			vmimg_json_bool(entry, "cut-short", true);
		json_array_append_new(list, entry);
	}
	if (*ramdisk->version)
		json_object_set_new(object, "kernel-version", json_string(ramdisk->version));
	json_object_set_new(object, "segments", list);
}
