/* SPDX-License-Identifier: Apache-2.0 */
/* The structures that images begin and are described with, and where their fields are: for those
 * who change one field of one structure. */
#pragma once
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct shape_field {
	uint16_t at;
	uint16_t width; /* 1, 2, 4, 8: a number; else that many plain bytes */
	bool big_endian;
};

struct shape {
	const char *magic;
	uint8_t magic_len, magic_at; /* where in the structure the magic word lies */
	const struct shape_field *fields;
	size_t field_count;
	uint16_t entries_at, entry_size; /* 0: no entries follow */
	const struct shape_field *entry_fields;
	size_t entry_field_count;
};

/* The structure whose magic word is at bytes, len of which are there; NULL: none. */
const struct shape *shape_find(const uint8_t *bytes, size_t len);
