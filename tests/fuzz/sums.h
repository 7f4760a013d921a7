/* SPDX-License-Identifier: Apache-2.0 */
/* Sets all checksums of a packed image right that its parsers insist on: with a wrong one every
 * change ends at the same line. */
#pragma once
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* How many there are. */
unsigned sums_fix(uint8_t *input, size_t len);

/* volumes.c: of a block that begins at byte at of the image, those of volumes and file systems. */
struct sums_volumes {
	uint8_t btrfs[16]; /* its id, which all its blocks have */
	uint32_t node;     /* bytes of such a block; 0: there is no btrfs */
	bool exfat;        /* there is one */
};
void sums_volumes_find(struct sums_volumes *volumes, uint8_t *input, size_t len);
unsigned sums_fix_volume(const struct sums_volumes *volumes, uint8_t *input, size_t len, uint64_t at,
	const uint8_t *bytes, size_t there);

