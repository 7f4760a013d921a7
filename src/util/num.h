/* SPDX-License-Identifier: Apache-2.0 */
/* Arithmetic on numbers that come out of files: sums and products that cannot wrap unseen. */
#pragma once
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define VMIMG_ARRAY_LEN(a) (sizeof(a) / sizeof((a)[0]))

/* True, and *out set, when the result fits; false, and *out untouched, otherwise. */
static inline bool vmimg_add(uint64_t a, uint64_t b, uint64_t *out)
{
	uint64_t sum;

	if (__builtin_add_overflow(a, b, &sum))
		return false;
	*out = sum;
	return true;
}

static inline bool vmimg_mul(uint64_t a, uint64_t b, uint64_t *out)
{
	uint64_t product;

	if (__builtin_mul_overflow(a, b, &product))
		return false;
	*out = product;
	return true;
}

/* Whether [at, at + len) lies inside [0, size). */
static inline bool vmimg_range_inside(uint64_t at, uint64_t len, uint64_t size)
{
	return at <= size && len <= size - at;
}

static inline bool vmimg_is_pow2(uint64_t v)
{
	return v && !(v & (v - 1));
}

/* v > 0 */
static inline unsigned vmimg_log2(uint64_t v)
{
	return 63U - (unsigned)__builtin_clzll(v);
}

static inline uint64_t vmimg_min(uint64_t a, uint64_t b)
{
	return a < b ? a : b;
}

static inline uint64_t vmimg_max(uint64_t a, uint64_t b)
{
	return a > b ? a : b;
}

/* unit > 0. Division that rounds up cannot wrap. */
static inline uint64_t vmimg_div_up(uint64_t v, uint64_t unit)
{
	return v / unit + (v % unit != 0);
}

static inline uint64_t vmimg_align_down(uint64_t v, uint64_t unit)
{
	return v - v % unit;
}

/* The caller knows that v is at most 2^63 and unit at most 2^62, as every agreed size is. */
static inline uint64_t vmimg_align_up(uint64_t v, uint64_t unit)
{
	return vmimg_div_up(v, unit) * unit;
}
