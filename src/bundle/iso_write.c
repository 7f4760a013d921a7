/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The layout of an image, decided before anything is written: descriptors, boot catalogue, path
 * tables, the folders of both trees, and the files' content.
 */
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include "bundle/iso_layout.h"
#include "io/file.h"
#include "util/bytes.h"
#include "util/num.h"
#include "util/utf16.h"

#define PRIMARY      16U /* sector of the first descriptor */
#define PIECE        (1U << 20)
#define MBR_CODE     432U
#define MBR_CYLINDER (UINT64_C(1) << 20) /* 64 heads of 32 sectors */

struct image {
	struct vmimg_io *io;
	struct vmimg_iso_node *root;
	const struct vmimg_iso_how *how;
	int64_t latest;                  /* no time is later */
	struct vmimg_iso_node **folders; /* in the order of the path table */
	size_t count, cap;
	uint32_t catalogue;      /* sector; 0: none */
	uint32_t table_at[2][2]; /* of the path tables: tree, byte order */
	uint32_t table_len[2];
	uint32_t sectors; /* in all */
};

static int write_at(struct image *image, const void *bytes, size_t len, uint64_t sector,
	struct vmimg_error *err)
{
	return vmimg_io_pwrite(image->io, bytes, len, sector * VMIMG_ISO_BLOCK, err);
}

static uint32_t sectors_of(uint64_t bytes)
{
	return (uint32_t)vmimg_div_up(bytes, VMIMG_ISO_BLOCK);
}

/* ---- layout ------------------------------------------------------------------------------ */

/* Folders level by level, which is the order of path tables. */
static int list_folders(struct image *image, struct vmimg_error *err)
{
	for (size_t next = 0; next <= image->count; next++) {
		struct vmimg_iso_node *node = next ? image->folders[next - 1] : NULL;
		size_t children = node ? node->count : 1;

		for (size_t i = 0; i < children; i++) {
			struct vmimg_iso_node *child = node ? node->list[i] : image->root;

			if (!S_ISDIR(child->mode))
				continue;
			if (image->count >= 65535)
				return vmimg_fail(err, VMIMG_ELIMIT, "more than 65535 folders");
			if (vmimg_grow_array(&image->folders, &image->cap, image->count + 1,
				    sizeof(*image->folders), err))
				return -1;
			child->number[0] = child->number[1] = (uint32_t)image->count + 1;
			image->folders[image->count++] = child;
		}
	}
	return 0;
}

static int measure_tables(struct image *image, struct vmimg_error *err)
{
	uint8_t name[256];
	size_t len;

	for (size_t i = 0; i < image->count; i++)
		for (int tree = 0; tree < 2; tree++) {
			if (vmimg_iso_record_name(image->folders[i], tree, name, &len, err))
				return -1;
			len = i ? len : 1;
			image->table_len[tree] += (uint32_t)(8 + len + (len & 1));
		}
	return 0;
}

/* Gives files their place, folders first. */
static int place_files(
	struct image *image, struct vmimg_iso_node *folder, uint64_t *next, struct vmimg_error *err)
{
	for (size_t i = 0; i < folder->count; i++) {
		struct vmimg_iso_node *node = folder->list[i];

		if (S_ISDIR(node->mode) && place_files(image, node, next, err))
			return -1;
		if (!S_ISREG(node->mode))
			continue;
		node->at = (uint32_t)*next;
		*next += vmimg_div_up(node->size, VMIMG_ISO_BLOCK);
		if (*next > UINT32_MAX)
			return vmimg_fail(
				err, VMIMG_ELIMIT, "more than 8 TiB do not fit into an ISO");
	}
	return 0;
}

static int plan(struct image *image, struct vmimg_error *err)
{
	uint64_t next = PRIMARY + 3 + (image->how->bios || image->how->efi);

	if (list_folders(image, err) || measure_tables(image, err))
		return -1;
	if (image->how->bios || image->how->efi)
		image->catalogue = (uint32_t)next++;
	for (int tree = 0; tree < 2; tree++)
		for (int order = 0; order < 2; order++) {
			image->table_at[tree][order] = (uint32_t)next;
			next += sectors_of(image->table_len[tree]);
		}
	for (int tree = 0; tree < 2; tree++)
		for (size_t i = 0; i < image->count; i++) {
			struct vmimg_iso_node *f = image->folders[i];

			if (vmimg_iso_folder_records(f, tree, image->latest, NULL,
				    &f->dir_len[tree], &f->dir_sectors[tree], err))
				return -1;
			f->dir_at[tree] = (uint32_t)next;
			next += f->dir_sectors[tree];
		}
	if (place_files(image, image->root, &next, err))
		return -1;
	if (image->how->mbr || image->how->efi) /* as BIOSes count a stick */
		next = vmimg_align_up(next * VMIMG_ISO_BLOCK, MBR_CYLINDER) / VMIMG_ISO_BLOCK;
	image->sectors = (uint32_t)next;
	return 0;
}

/* ---- descriptors ------------------------------------------------------------------------- */

static void put_text(uint8_t *to, size_t len, const char *text, bool wide)
{
	size_t have = text ? strlen(text) : 0;

	for (size_t i = 0; i < len; i++) {
		if (!wide)
			to[i] = i < have ? (uint8_t)text[i] : ' ';
		else
			to[i] = i & 1 ? (i / 2 < have ? (uint8_t)text[i / 2] : ' ') : 0;
	}
}

/* 17 bytes: digits down to hundredths of a second, and the zone. */
static void put_long_time(uint8_t *to, int64_t time)
{
	uint8_t t[7];
	char digits[40];

	vmimg_iso_put_time(t, time);
	snprintf(digits, sizeof(digits), "%04u%02u%02u%02u%02u%02u00", 1900U + t[0], t[1], t[2],
		t[3], t[4], t[5]);
	memcpy(to, digits, 16);
	to[16] = 0;
}

static int put_descriptor(struct image *image, int tree, struct vmimg_error *err)
{
	const struct vmimg_iso_how *how = image->how;
	const struct vmimg_iso_node *root = image->root;
	uint8_t s[VMIMG_ISO_BLOCK] = { 0 }, none = 0;
	bool wide = tree == VMIMG_ISO_JOLIET;

	s[0] = wide ? 2 : 1;
	memcpy(s + 1, "CD001\1", 6);
	put_text(s + 8, 32, "LINUX", wide);
	put_text(s + 40, 32, how->label, wide);
	vmimg_iso_put32(s + 80, image->sectors);
	if (wide)
		memcpy(s + 88, "%/E", 3);
	vmimg_iso_put16(s + 120, 1);
	vmimg_iso_put16(s + 124, 1);
	vmimg_iso_put16(s + 128, VMIMG_ISO_BLOCK);
	vmimg_iso_put32(s + 132, image->table_len[tree]);
	vmimg_put_le32(s + 140, image->table_at[tree][0]);
	vmimg_put_be32(s + 148, image->table_at[tree][1]);
	vmimg_iso_put_record(s + 156, root->dir_at[tree], root->dir_len[tree],
		root->mtime < image->latest ? root->mtime : image->latest, true, &none, 1);
	put_text(s + 190, 128, NULL, wide);
	put_text(s + 318, 128, NULL, wide);
	put_text(s + 446, 128, NULL, wide);
	put_text(s + 574, 128, how->application, wide);
	put_text(s + 702, 37 * 3, NULL, wide);
	put_long_time(s + 813, image->latest);
	put_long_time(s + 830, image->latest);
	memset(s + 847, '0', 16);
	memset(s + 864, '0', 16);
	s[881] = 1;
	return write_at(
		image, s, sizeof(s), wide ? PRIMARY + 1 + (image->catalogue != 0) : PRIMARY, err);
}

static int put_path_table(struct image *image, int tree, int order, struct vmimg_error *err)
{
	VMIMG_AUTO(free)
	uint8_t *table = vmimg_alloc_array(image->table_len[tree] + 256, 1, err);
	size_t used = 0;

	if (!table)
		return -1;
	for (size_t i = 0; i < image->count; i++) {
		const struct vmimg_iso_node *f = image->folders[i];
		uint8_t *e = table + used, name[256] = { 0 };
		size_t len = 1;

		if (i && vmimg_iso_record_name(f, tree, name, &len, err))
			return -1;
		e[0] = (uint8_t)len;
		if (order) {
			vmimg_put_be32(e + 2, f->dir_at[tree]);
			vmimg_put_be16(e + 6, (uint16_t)f->parent->number[tree]);
		} else {
			vmimg_put_le32(e + 2, f->dir_at[tree]);
			vmimg_put_le16(e + 6, (uint16_t)f->parent->number[tree]);
		}
		memcpy(e + 8, name, len);
		used += 8 + len + (len & 1);
	}
	return write_at(image, table, used, image->table_at[tree][order], err);
}

/* ---- boot -------------------------------------------------------------------------------- */

static void put_boot_entry(uint8_t *e, const struct vmimg_iso_node *node, bool efi)
{
	uint64_t sectors = efi ? vmimg_min(vmimg_div_up(node->size, 512), UINT16_MAX) : 4;

	e[0] = 0x88;
	vmimg_put_le16(e + 6, (uint16_t)sectors);
	vmimg_put_le32(e + 8, node->at);
}

static int put_catalogue(struct image *image, struct vmimg_error *err)
{
	const struct vmimg_iso_how *how = image->how;
	uint8_t s[VMIMG_ISO_BLOCK] = { 0 };
	uint16_t sum = 0;

	s[0] = 0;
	memcpy(s + 1, "CD001\1EL TORITO SPECIFICATION", 29);
	vmimg_put_le32(s + 71, image->catalogue);
	if (write_at(image, s, sizeof(s), PRIMARY + 1, err))
		return -1;
	memset(s, 0, sizeof(s));
	s[0] = 1;
	s[1] = how->bios ? 0 : 0xef;
	s[30] = 0x55;
	s[31] = 0xaa;
	for (unsigned i = 0; i < 32; i += 2)
		sum = (uint16_t)(sum + vmimg_get_le16(s + i));
	vmimg_put_le16(s + 28, (uint16_t)-sum);
	put_boot_entry(s + 32, how->bios ? how->bios : how->efi, !how->bios);
	if (how->bios && how->efi) {
		s[64] = 0x91;
		s[65] = 0xef;
		vmimg_put_le16(s + 66, 1);
		put_boot_entry(s + 96, how->efi, true);
	}
	return write_at(image, s, sizeof(s), image->catalogue, err);
}

/* The start of a stick: boot code that loads the BIOS image, one partition over all, and one over
 * the EFI image, where firmware looks for it. */
static int put_mbr(struct image *image, struct vmimg_error *err)
{
	const struct vmimg_iso_how *how = image->how;
	uint8_t s[512] = { 0 }, *p = s + 446;

	if (!how->mbr && !how->efi)
		return 0;
	if (how->mbr)
		memcpy(s, how->mbr, how->mbr_len);
	if (how->bios)
		vmimg_put_le32(s + MBR_CODE, how->bios->at * 4);
	vmimg_put_le32(s + 440, image->sectors);
	p[0] = 0x80;
	p[2] = 1;
	p[4] = 0x17;
	memset(p + 5, 0xff, 3);
	vmimg_put_le32(p + 12, image->sectors * 4);
	if (how->efi) {
		p += 16;
		memset(p + 1, 0xff, 3);
		p[4] = 0xef;
		memset(p + 5, 0xff, 3);
		vmimg_put_le32(p + 8, how->efi->at * 4);
		vmimg_put_le32(p + 12, (uint32_t)vmimg_div_up(how->efi->size, 512));
	}
	s[510] = 0x55;
	s[511] = 0xaa;
	return write_at(image, s, sizeof(s), 0, err);
}

/* ---- content ----------------------------------------------------------------------------- */

static int copy_file(struct image *image, const struct vmimg_iso_node *node, uint8_t *buf,
	struct vmimg_error *err)
{
	VMIMG_AUTO(vmimg_io_unref) struct vmimg_io *in = vmimg_file_open(node->path, false, err);

	if (!in)
		return -1;
	if (vmimg_io_size(in) != node->size)
		return vmimg_fail(err, VMIMG_ESYSTEM, "%s changed its size meanwhile", node->path);
	for (uint64_t at = 0; at < node->size;) {
		size_t step = (size_t)vmimg_min(PIECE, node->size - at);

		if (vmimg_io_pread(in, buf, step, at, err) ||
			vmimg_io_pwrite(image->io, buf, step,
				(uint64_t)node->at * VMIMG_ISO_BLOCK + at, err))
			return -1;
		at += step;
	}
	return 0;
}

/* Loaders of the syslinux family find themselves by a table inside: where they lie, how long they
 * are, and a sum of what follows. */
static int put_boot_info(
	struct image *image, const struct vmimg_iso_node *node, struct vmimg_error *err)
{
	uint64_t start = (uint64_t)node->at * VMIMG_ISO_BLOCK;
	uint8_t info[56] = { 0 }, word[4];
	uint32_t sum = 0;

	for (uint64_t at = 64; at < node->size; at += 4) {
		memset(word, 0, sizeof(word));
		if (vmimg_io_pread(image->io, word, (size_t)vmimg_min(4, node->size - at),
			    start + at, err))
			return -1;
		sum += vmimg_get_le32(word);
	}
	vmimg_put_le32(info, PRIMARY);
	vmimg_put_le32(info + 4, node->at);
	vmimg_put_le32(info + 8, (uint32_t)node->size);
	vmimg_put_le32(info + 12, sum);
	return vmimg_io_pwrite(image->io, info, sizeof(info), start + 8, err);
}

static int put_files(struct image *image, const struct vmimg_iso_node *folder, uint8_t *buf,
	struct vmimg_error *err)
{
	for (size_t i = 0; i < folder->count; i++) {
		const struct vmimg_iso_node *node = folder->list[i];

		if (S_ISDIR(node->mode) && put_files(image, node, buf, err))
			return -1;
		if (!S_ISREG(node->mode) || !node->size)
			continue;
		if (node->bytes ? write_at(image, node->bytes, (size_t)node->size, node->at, err)
				: copy_file(image, node, buf, err))
			return -1;
		if (node->boot_info && node->size > 64 && put_boot_info(image, node, err))
			return -1;
	}
	return 0;
}

static int put_folders(struct image *image, struct vmimg_error *err)
{
	for (int tree = 0; tree < 2; tree++)
		for (size_t i = 0; i < image->count; i++) {
			struct vmimg_iso_node *f = image->folders[i];
			size_t size = (size_t)f->dir_sectors[tree] * VMIMG_ISO_BLOCK;
			VMIMG_AUTO(free) uint8_t *bytes = vmimg_alloc_array(size, 1, err);
			uint32_t len, sectors;

			if (!bytes ||
				vmimg_iso_folder_records(
					f, tree, image->latest, bytes, &len, &sectors, err) ||
				write_at(image, bytes, size, f->dir_at[tree], err))
				return -1;
		}
	return 0;
}

static int put_all(struct image *image, struct vmimg_error *err)
{
	VMIMG_AUTO(free) uint8_t *buf = vmimg_alloc_buffer(PIECE, err);
	static const uint8_t end[VMIMG_ISO_BLOCK] = { 255, 'C', 'D', '0', '0', '1', 1 };

	if (!buf || vmimg_io_resize(image->io, (uint64_t)image->sectors * VMIMG_ISO_BLOCK, err))
		return -1;
	for (int tree = 0; tree < 2; tree++)
		if (put_descriptor(image, tree, err) || put_path_table(image, tree, 0, err) ||
			put_path_table(image, tree, 1, err))
			return -1;
	if (write_at(image, end, sizeof(end), PRIMARY + 2 + (image->catalogue != 0), err))
		return -1;
	if (image->catalogue && put_catalogue(image, err))
		return -1;
	if (put_folders(image, err) || put_files(image, image->root, buf, err))
		return -1;
	return put_mbr(image, err);
}

static int64_t latest_of(const struct vmimg_iso_node *node)
{
	int64_t latest = node->mtime;

	for (size_t i = 0; i < node->count; i++) {
		int64_t below = latest_of(node->list[i]);

		latest = below > latest ? below : latest;
	}
	return latest;
}

int vmimg_iso_write(struct vmimg_io *io, struct vmimg_iso_node *root,
	const struct vmimg_iso_how *how, struct vmimg_error *err)
{
	struct image image = { .io = io, .root = root, .how = how };
	int failed;

	if (how->mbr_len > MBR_CODE)
		return vmimg_fail(err, VMIMG_EINVAL,
			"boot code of %zu bytes does not fit into the %u before the table",
			how->mbr_len, MBR_CODE);
	image.latest = latest_of(root);
	if (how->has_epoch && how->epoch < image.latest)
		image.latest = how->epoch;
	failed = vmimg_iso_name_all(root, err) || plan(&image, err) || put_all(&image, err);
	free(image.folders);
	return failed ? -1 : 0;
}
