/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The parent of a differencing disk. The header names it up to nine times, for several systems and
 * in several encodings; most names were true on the machine that wrote them. Each becomes one or
 * two names that make sense here, relative ones first, and the first that leads to an image with
 * the unique id that the child notes is taken.
 */
#include <inttypes.h>
#include <string.h>
#include "format/vhd/vhd.h"
#include "util/limits.h"
#include "util/num.h"
#include "util/utf16.h"

enum encoding { ENCODING_NONE, ENCODING_UTF16, ENCODING_BYTES, ENCODING_URL };

struct platform {
	char code[5];
	enum encoding encoding;
};

/* In the order in which they are tried. "Mac " holds an alias record, of use to a Mac alone. */
static const struct platform platforms[] = {
	{ "W2ru", ENCODING_UTF16 },
	{ "Wi2r", ENCODING_BYTES },
	{ "MacX", ENCODING_URL },
	{ "W2ku", ENCODING_UTF16 },
	{ "Wi2k", ENCODING_BYTES },
};

static int hex_digit(char c)
{
	static const char digits[] = "0123456789abcdef";
	const char *found = c ? strchr(digits, c | 0x20) : NULL;

	return found ? (int)(found - digits) : -1;
}

/* "%20" and the like become bytes, in place. */
static void undo_percents(char *text)
{
	char *to = text;

	for (const char *from = text; *from; from++) {
		int high = *from == '%' ? hex_digit(from[1]) : -1;
		int low = high >= 0 ? hex_digit(from[2]) : -1;

		if (low >= 0 && (high || low)) {
			*to++ = (char)(high << 4 | low);
			from += 2;
		} else {
			*to++ = *from;
		}
	}
	*to = '\0';
}

static bool is_drive(const char *name)
{
	return ((name[0] | 0x20) >= 'a' && (name[0] | 0x20) <= 'z') && name[1] == ':';
}

/* Adds name as a reference unless it is empty or there already. */
static int refer_once(struct vmimg_disk *disk, const char *name, struct vmimg_error *err)
{
	while (name[0] == '.' && name[1] == '/')
		for (name += 2; *name == '/'; name++)
			;
	if (!*name || strlen(name) > VMIMG_MAX_NAME)
		return 0;
	for (size_t i = 0; i < disk->ref_count; i++)
		if (!strcmp(disk->refs[i].ref.name, name))
			return 0;
	return vmimg_disk_refer(disk, "parent", name, "vhd", err) < 0 ? -1 : 0;
}

/* name as it was written, into one that can be looked up here; and the bare name of the file, in
 * case the image and its parent were moved together. Changes name. */
static int refer_name(struct vmimg_disk *disk, char *name, struct vmimg_error *err)
{
	const char *path = name, *slash;
	bool elsewhere;

	for (char *p = name; *p; p++)
		if (*p == '\\')
			*p = '/';
	/* A drive's letter or another machine's share means nothing here. */
	elsewhere = is_drive(name) || !strncmp(name, "//", 2);
	if (is_drive(name))
		path = name + 2;
	if (!elsewhere && refer_once(disk, path, err))
		return -1;
	slash = strrchr(path, '/');
	return refer_once(disk, slash ? slash + 1 : path, err);
}

/* "file://host/path" or a plain path. */
static int refer_url(struct vmimg_disk *disk, char *url, struct vmimg_error *err)
{
	char *path = url;

	if (!strncmp(url, "file://", 7)) {
		path = url + 7;
		if (*path != '/' && *path != '.')
			path = strchr(path, '/');
	}
	if (!path)
		return 0;
	undo_percents(path);
	return refer_name(disk, path, err);
}

static int refer_text(struct vmimg_disk *disk, enum encoding encoding, const uint8_t *text,
	size_t len, struct vmimg_error *err)
{
	VMIMG_AUTO(free) char *name = NULL;

	if (encoding == ENCODING_UTF16) {
		name = vmimg_utf16_decode(text, len, false, err);
	} else if ((name = vmimg_alloc_array(len + 1, 1, err))) {
		memcpy(name, text, len);
	}
	if (!name)
		return -1;
	return encoding == ENCODING_URL ? refer_url(disk, name, err) : refer_name(disk, name, err);
}

static int refer_locator(struct vmimg_disk *disk, const struct vmimg_vhd_locator *locator,
	enum encoding encoding, struct vmimg_error *err)
{
	struct vmimg_vhd *vhd = disk->state;
	VMIMG_AUTO(free) uint8_t *text = NULL;

	if (!locator->len)
		return 0;
	if (locator->len > 2 * VMIMG_MAX_NAME ||
		!vmimg_range_inside(locator->at, locator->len, vmimg_io_size(vhd->io))) {
		vmimg_disk_warn(disk,
			"a parent locator (%" PRIu32 " bytes at 0x%" PRIx64
			") lies outside the file or is too long: left out",
			locator->len, locator->at);
		return 0;
	}
	text = vmimg_alloc_array(locator->len, 1, err);
	if (!text || vmimg_io_pread(vhd->io, text, locator->len, locator->at, err))
		return -1;
	return refer_text(disk, encoding, text, locator->len, err);
}

static int refer_locators(struct vmimg_disk *disk, struct vmimg_error *err)
{
	const struct vmimg_vhd *vhd = disk->state;

	for (size_t p = 0; p < VMIMG_ARRAY_LEN(platforms); p++)
		for (size_t i = 0; i < VMIMG_VHD_LOCATORS; i++) {
			struct vmimg_vhd_locator locator;

			vmimg_vhd_locator_decode(
				&locator, vhd->header.locators + i * VMIMG_VHD_LOCATOR_SIZE);
			if (!memcmp(locator.platform, platforms[p].code, 4) &&
				refer_locator(disk, &locator, platforms[p].encoding, err))
				return -1;
		}
	return 0;
}

/* The name in the header itself. Big-endian by the specification; some write the other order. */
static int refer_header_name(struct vmimg_disk *disk, struct vmimg_error *err)
{
	const struct vmimg_vhd *vhd = disk->state;
	const uint8_t *text = vhd->header.parent_name;
	bool little = text[0] && !text[1];
	VMIMG_AUTO(free) char *name = vmimg_utf16_decode(text, VMIMG_VHD_NAME_BYTES, !little, err);

	return name ? refer_name(disk, name, err) : -1;
}

/* Whether reference i leads to the image that the child was made from, by a look at its footer
 * alone: only the right one is opened in full, with its own parents. */
static int look_at_candidate(struct vmimg_disk *disk, const struct vmimg_open *options, int i,
	uint32_t *time, struct vmimg_error *err)
{
	const struct vmimg_vhd *vhd = disk->state;
	char wanted[VMIMG_GUID_TEXT], found[VMIMG_GUID_TEXT];
	VMIMG_AUTO(vmimg_io_unref) struct vmimg_io *io = NULL;
	struct vmimg_vhd candidate = { 0 };
	struct vmimg_guid id, its;

	if (vmimg_disk_open_ref(disk, options, i, &io, err))
		return -1;
	candidate.io = io;
	if (vmimg_vhd_read_footer(&candidate, err))
		return vmimg_within(err, "%s", vmimg_io_name(io));
	memcpy(id.bytes, vhd->header.parent_uuid, sizeof(id.bytes));
	memcpy(its.bytes, candidate.footer.uuid, sizeof(its.bytes));
	if (!vmimg_guid_equal(&id, &its))
		return vmimg_fail(err, VMIMG_EREFUSED,
			"parent %s has unique id %s, the child was made from %s", vmimg_io_name(io),
			vmimg_guid_format(found, &its), vmimg_guid_format(wanted, &id));
	*time = candidate.footer.timestamp;
	return 0;
}

static void compare_times(struct vmimg_disk *disk, uint32_t time)
{
	struct vmimg_vhd *vhd = disk->state;

	if (!vhd->header.parent_time || time == vhd->header.parent_time)
		return;
	vhd->flaws |= VMIMG_VHD_PARENT_TIME;
	vmimg_disk_warn(disk,
		"the parent's time stamp (%" PRIu32 ") is not the one noted here (%" PRIu32
		"): it may have been changed since",
		time, vhd->header.parent_time);
}

int vmimg_vhd_open_parent(
	struct vmimg_disk *disk, const struct vmimg_open *options, struct vmimg_error *err)
{
	const struct vmimg_vhd *vhd = disk->state;
	size_t first = disk->ref_count;
	bool met = false; /* err tells of a file that was there, not of one that was missing */

	if (refer_locators(disk, err) || refer_header_name(disk, err))
		return -1;
	if (disk->ref_count == first)
		return vmimg_fail(err, VMIMG_ECORRUPT,
			"a differencing disk that names no parent (header at 0x%" PRIx64 ")",
			vhd->footer.data_offset);
	if (options->alone)
		return 0;
	for (size_t i = first; i < disk->ref_count; i++) {
		struct vmimg_error attempt;
		uint32_t time = 0;

		if (!look_at_candidate(disk, options, (int)i, &time, &attempt)) {
			compare_times(disk, time);
			return vmimg_disk_open_parent(disk, options, (int)i, err);
		}
		if (i == first || (!met && disk->refs[i].opened))
			*err = attempt;
		met |= disk->refs[i].opened;
		disk->refs[i].opened = false;
	}
	return -1;
}
