/* SPDX-License-Identifier: Apache-2.0 */
/*
 * GUIDs (UUIDs): the identities that images carry. In memory a GUID is 16 bytes in the order of its
 * text. On disk some formats keep that order (VHD), others Microsoft's, whose first three fields
 * are little-endian (VHDX, VDI): get_mixed and put_mixed.
 */
#pragma once
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include "util/error.h"

#define VMIMG_GUID_SIZE 16
#define VMIMG_GUID_TEXT 37 /* bytes of its text, with the NUL */

struct vmimg_guid {
	uint8_t bytes[VMIMG_GUID_SIZE];
};

void vmimg_guid_get_mixed(struct vmimg_guid *guid, const uint8_t from[VMIMG_GUID_SIZE]);
void vmimg_guid_put_mixed(const struct vmimg_guid *guid, uint8_t to[VMIMG_GUID_SIZE]);

/* "8-4-4-4-12" in lower case, without braces. Returns out. */
char *vmimg_guid_format(char out[VMIMG_GUID_TEXT], const struct vmimg_guid *guid);
/* The same, of any case, braces allowed, and nothing around it. False, and *guid untouched,
 * otherwise. text need not end in NUL. */
bool vmimg_guid_parse(struct vmimg_guid *guid, const char *text, size_t len);

bool vmimg_guid_is_nil(const struct vmimg_guid *guid);
bool vmimg_guid_equal(const struct vmimg_guid *a, const struct vmimg_guid *b);

/*
 * An identity for a new image. By default it is derived from the hash of the image's content and
 * from what it is of ("vhdx data write"), so that the same input gives the same output; it is
 * marked as version 8 of RFC 9562. With unique set it is random (version 4).
 */
int vmimg_guid_make(struct vmimg_guid *guid, bool unique, uint64_t content, const char *what,
	struct vmimg_error *err) VMIMG_CHECKED;
