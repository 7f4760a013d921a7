/* SPDX-License-Identifier: Apache-2.0 */
/* Text from strangers made fit to show, and sizes in and out of the field's notation. */
#pragma once
#include <stddef.h>
#include <stdint.h>
#include "util/error.h"

/*
 * Writes text, len bytes, into out as printable text: control bytes, DEL and bytes that are not
 * valid UTF-8 become \xNN, a backslash becomes \\; C1 controls and bidirectional overrides are
 * escaped too. Always ends in NUL; what does not fit is cut at a whole escape. Returns out.
 */
char *vmimg_escape(char *out, size_t cap, const char *text, size_t len);
/* The same into fresh memory that the caller frees; NULL when memory is short. */
char *vmimg_escape_dup(const char *text, size_t len);
/* In place, and no longer: each byte of what is not fit to show becomes '?'. Backslashes stay. */
void vmimg_mask(char *text);

/* "10G" and the like: an unsigned decimal, a fraction allowed with a unit (1.5G), then nothing or
 * one of b k M G T P E (powers of 1024, any case, an optional "iB" or "B" after the letter). */
int vmimg_parse_size(const char *text, uint64_t *bytes, struct vmimg_error *err) VMIMG_CHECKED;
/* "1.5 GiB (1610612736 bytes)" without the part in brackets; out holds at least 16 bytes. */
char *vmimg_format_size(char out[16], uint64_t bytes);
