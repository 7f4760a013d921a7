/* SPDX-License-Identifier: Apache-2.0 */
/*
 * How fuzzing keeps an image: without its zeroes, so that gigabytes of it are small inputs and
 * nearly every byte of an input means something.
 *
 *     0   "VMIMGPK1", le64 size of the image
 *     16  parts: le64 offset in the image, le32 length, bytes; a later one wins
 *
 * What is cut off or lies outside is left out, so that any bytes after the head are an image.
 */
#pragma once
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include "io/io.h"

#define PACKED_HEAD 16U
#define PACKED_PART 12U
#define PACKED_MAX  (UINT64_C(1) << 40) /* bytes of an image: as large as a check may take for */

struct packed_part {
	uint64_t at;
	uint32_t len;
	uint8_t *bytes; /* in the input */
	size_t head;    /* where in the input the part begins */
};

bool packed_is(const uint8_t *input, size_t len);
uint64_t packed_size(const uint8_t *input);
/* The part that begins at *next of the input (at first PACKED_HEAD), and *next moved past it. */
bool packed_next(uint8_t *input, size_t len, size_t *next, struct packed_part *part);
/* Parts of an input; at most cap are stored. */
size_t packed_parts(uint8_t *input, size_t len, struct packed_part *parts, size_t cap);
/* Bytes of the image. */
void packed_read(uint8_t *input, size_t len, uint64_t at, uint8_t *buf, size_t count);
/* The same, changed where a part has them. */
void packed_write(uint8_t *input, size_t len, uint64_t at, const uint8_t *buf, size_t count);
/* The image as an io over the input, which stays as it is: of any bytes, packed or not. */
struct vmimg_io *packed_open(
	const uint8_t *input, size_t len, struct vmimg_error *err) VMIMG_CHECKED;
