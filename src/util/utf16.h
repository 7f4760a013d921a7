/* SPDX-License-Identifier: Apache-2.0 */
/* UTF-16, as Microsoft's formats keep names in it, to and from UTF-8. */
#pragma once
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include "util/error.h"

/* len bytes of UTF-16 as NUL-terminated UTF-8, in fresh memory that the caller frees. Ends at the
 * first NUL; an odd last byte is ignored; a lone surrogate becomes U+FFFD. Not escaped. */
char *vmimg_utf16_decode(
	const uint8_t *text, size_t len, bool big_endian, struct vmimg_error *err) VMIMG_CHECKED;
/* The reverse, without a NUL at the end; *len is in bytes. VMIMG_EINVAL: text is not UTF-8. */
uint8_t *vmimg_utf16_encode(
	const char *text, bool big_endian, size_t *len, struct vmimg_error *err) VMIMG_CHECKED;
