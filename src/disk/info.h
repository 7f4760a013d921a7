/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What an image says of itself, gathered by describe() into one JSON object, from which the human
 * report is printed too. Keys are those of qemu-img where it has the notion.
 */
#pragma once
#include "disk/disk.h"

struct vmimg_info {
	json_t *root;     /* the whole object */
	json_t *specific; /* format-specific.data */
	json_t *identity; /* uuid, cid, guid … of the image; left out when empty */
};

/* Everything about disk, from its own bytes. The caller json_decref()s info->root. policy judges
 * the references ("would it be followed?"); NULL: none would. */
int vmimg_disk_info(struct vmimg_disk *disk, const struct vmimg_resolver *policy,
	struct vmimg_info *info, struct vmimg_error *err) VMIMG_CHECKED;

/* Setters that escape text and leave a lack of memory to be found at the end, as jansson does. */
void vmimg_json_text(json_t *object, const char *key, const char *text);
void vmimg_json_bytes(json_t *object, const char *key, const char *text, size_t len);
void vmimg_json_uint(json_t *object, const char *key, uint64_t value);
void vmimg_json_bool(json_t *object, const char *key, bool value);
/* A string out of an image, as a JSON string that is fit to show. Never NULL unless memory is
 * short. */
json_t *vmimg_json_escaped(const char *text, size_t len);
