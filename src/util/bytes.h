/* SPDX-License-Identifier: Apache-2.0 */
/* Numbers in byte order, read from and written to plain bytes at any alignment. */
#pragma once
#include <endian.h>
#include <stdint.h>
#include <string.h>

#define VMIMG_BYTES_(kind, type, width)                       \
	static inline type vmimg_get_##kind(const void *from) \
	{                                                     \
		type v;                                       \
		memcpy(&v, from, sizeof(v));                  \
		return kind##toh_(v);                         \
	}                                                     \
	static inline void vmimg_put_##kind(void *to, type v) \
	{                                                     \
		v = hto##kind##_(v);                          \
		memcpy(to, &v, sizeof(v));                    \
	}

#define u8toh_(v)   (v)
#define htou8_(v)   (v)
#define be16toh_(v) be16toh(v)
#define htobe16_(v) htobe16(v)
#define be32toh_(v) be32toh(v)
#define htobe32_(v) htobe32(v)
#define be64toh_(v) be64toh(v)
#define htobe64_(v) htobe64(v)
#define le16toh_(v) le16toh(v)
#define htole16_(v) htole16(v)
#define le32toh_(v) le32toh(v)
#define htole32_(v) htole32(v)
#define le64toh_(v) le64toh(v)
#define htole64_(v) htole64(v)

VMIMG_BYTES_(u8, uint8_t, 1)
VMIMG_BYTES_(be16, uint16_t, 2)
VMIMG_BYTES_(be32, uint32_t, 4)
VMIMG_BYTES_(be64, uint64_t, 8)
VMIMG_BYTES_(le16, uint16_t, 2)
VMIMG_BYTES_(le32, uint32_t, 4)
VMIMG_BYTES_(le64, uint64_t, 8)
