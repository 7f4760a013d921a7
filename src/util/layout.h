/* SPDX-License-Identifier: Apache-2.0 */
/*
 * On-disk structures as tables. A format writes one X-macro per structure,
 *
 *     #define FOO_HEADER(F, B)    \
 *             F(be32, magic, 0)   \
 *             F(be64, size, 8)    \
 *             B(16, uuid, 16)
 *     VMIMG_LAYOUT(vmimg_foo_header, 32, FOO_HEADER)
 *
 * and gets struct vmimg_foo_header, vmimg_foo_header_decode() and _encode(), and a compile-time
 * check that every field lies inside the structure's 32 bytes. F is a number (kinds of bytes.h), B
 * a run of plain bytes. encode() writes named fields only: the caller clears the rest.
 */
#pragma once
#include "util/bytes.h"

#define VMIMG_TYPE_u8   uint8_t
#define VMIMG_TYPE_be16 uint16_t
#define VMIMG_TYPE_be32 uint32_t
#define VMIMG_TYPE_be64 uint64_t
#define VMIMG_TYPE_le16 uint16_t
#define VMIMG_TYPE_le32 uint32_t
#define VMIMG_TYPE_le64 uint64_t

#define VMIMG_FIELD_(kind, name, at)       VMIMG_TYPE_##kind name;
#define VMIMG_FIELD_BYTES_(len, name, at)  uint8_t name[len];
#define VMIMG_DECODE_(kind, name, at)      to->name = vmimg_get_##kind(from + (at));
#define VMIMG_DECODE_BYTES_(len, name, at) memcpy(to->name, from + (at), (len));
#define VMIMG_ENCODE_(kind, name, at)      vmimg_put_##kind(to + (at), from->name);
#define VMIMG_ENCODE_BYTES_(len, name, at) memcpy(to + (at), from->name, (len));
#define VMIMG_BOUND_(kind, name, at) \
	_Static_assert((at) + sizeof(VMIMG_TYPE_##kind) <= vmimg_layout_size, #name);
#define VMIMG_BOUND_BYTES_(len, name, at) _Static_assert((at) + (len) <= vmimg_layout_size, #name);

#define VMIMG_LAYOUT(tag, size, TABLE)                           \
	struct tag {                                             \
		TABLE(VMIMG_FIELD_, VMIMG_FIELD_BYTES_)          \
	};                                                       \
	__attribute__((unused)) static inline void tag##_decode( \
		struct tag *to, const uint8_t *from)             \
	{                                                        \
		enum { vmimg_layout_size = (size) };             \
		TABLE(VMIMG_BOUND_, VMIMG_BOUND_BYTES_)          \
		TABLE(VMIMG_DECODE_, VMIMG_DECODE_BYTES_)        \
	}                                                        \
	__attribute__((unused)) static inline void tag##_encode( \
		const struct tag *from, uint8_t *to)             \
	{                                                        \
		TABLE(VMIMG_ENCODE_, VMIMG_ENCODE_BYTES_)        \
	}                                                        \
	_Static_assert((size) > 0, #tag)
