/* SPDX-License-Identifier: Apache-2.0 */
/* Between the files that write ISO images. */
#pragma once
#include "bundle/iso.h"

#define VMIMG_ISO_BLOCK 2048U
/* The two trees of an image. */
enum { VMIMG_ISO_PLAIN, VMIMG_ISO_JOLIET };
/* One extent is at most this long: 4 GiB less a block. */
#define VMIMG_ISO_EXTENT UINT32_C(0xfffff800)

/* Numbers in both byte orders, one after the other. */
void vmimg_iso_put16(uint8_t *to, uint16_t v);
void vmimg_iso_put32(uint8_t *to, uint32_t v);
/* Seven bytes, as folders have them. */
void vmimg_iso_put_time(uint8_t to[7], int64_t time);

/* Gives every node below root its plain name, unique in its folder, and sorts by it. */
int vmimg_iso_name_all(struct vmimg_iso_node *root, struct vmimg_error *err) VMIMG_CHECKED;
/* The name in a tree as it stands in a record; out holds 256. Returns its length. */
int vmimg_iso_record_name(const struct vmimg_iso_node *node, int tree, uint8_t *out, size_t *len,
	struct vmimg_error *err) VMIMG_CHECKED;

/* The records of a folder. With bytes NULL only measured: *len of them, and *sectors with what
 * continues them. */
int vmimg_iso_folder_records(const struct vmimg_iso_node *folder, int tree, int64_t latest,
	uint8_t *bytes, uint32_t *len, uint32_t *sectors, struct vmimg_error *err) VMIMG_CHECKED;
/* One record into to; returns its length. */
size_t vmimg_iso_put_record(uint8_t *to, uint32_t at, uint32_t len, int64_t time, bool folder,
	const uint8_t *name, size_t name_len);
