/* SPDX-License-Identifier: Apache-2.0 */
/*
 * How libFuzzer changes an image: mostly one field of a structure, or one entry of a table, to a
 * number that means something: a limit, or the place of another part of the same image; now and
 * then where a part lies, or how long the image is. Then checksums are set right, most of the time.
 * What is no packed image (a text) is changed as libFuzzer does by itself.
 */
#include <string.h>
#include "packed.h"
#include "shapes.h"
#include "sums.h"
#include "util/bytes.h"
#include "util/num.h"

#define MOST_PARTS 512

size_t LLVMFuzzerMutate(uint8_t *bytes, size_t len, size_t cap);
size_t LLVMFuzzerCustomMutator(uint8_t *input, size_t len, size_t cap, unsigned seed);
size_t LLVMFuzzerCustomCrossOver(const uint8_t *one, size_t one_len, const uint8_t *other,
	size_t other_len, uint8_t *out, size_t cap, unsigned seed);

struct change {
	uint8_t *input;
	size_t len, cap;
	uint64_t random;
	struct packed_part parts[MOST_PARTS];
	size_t count;
};

static uint64_t draw(struct change *c, uint64_t below)
{
	c->random ^= c->random << 13;
	c->random ^= c->random >> 7;
	c->random ^= c->random << 17;
	return below ? c->random % below : c->random;
}

static struct packed_part *any_part(struct change *c)
{
	return &c->parts[draw(c, c->count)];
}

/* ---- numbers ---- */

static void put(uint8_t *at, uint64_t value, unsigned width, bool big_endian)
{
	for (unsigned i = 0; i < width; i++)
		at[big_endian ? width - 1 - i : i] = (uint8_t)(value >> 8 * i);
}

static uint64_t get(const uint8_t *at, unsigned width, bool big_endian)
{
	uint64_t value = 0;

	for (unsigned i = 0; i < width; i++)
		value |= (uint64_t)at[big_endian ? width - 1 - i : i] << 8 * i;
	return value;
}

/* The place of something in this image, in one of the units and with the bits that tables use. */
static uint64_t a_place(struct change *c)
{
	static const uint8_t units[] = { 0, 0, 9, 9, 20, 16 };
	static const uint64_t bits[] = { 0, 0, 1, 2, 3, 6, 7, UINT64_C(1) << 63, UINT64_C(1) << 62,
		UINT64_C(3) << 62, UINT64_C(0x3000000000000000) };
	uint64_t at = any_part(c)->at;

	switch (draw(c, 8)) {
	case 0:
		at = packed_size(c->input);
		break;
	case 1:
		at = packed_size(c->input) - 512;
		break;
	case 2:
		at += draw(c, 4096);
		break;
	default:
		break;
	}
	return at >> units[draw(c, sizeof(units))] | bits[draw(c, VMIMG_ARRAY_LEN(bits))];
}

static uint64_t a_number(struct change *c, uint64_t old)
{
	static const uint64_t limits[] = { 0, 1, 2, 3, 7, 8, 511, 512, 4096, 0x10000, 0x100000,
		UINT32_MAX, INT32_MAX, UINT64_MAX, INT64_MAX, UINT64_C(1) << 32, UINT64_C(1) << 40,
		UINT64_C(1) << 62, UINT64_MAX - 511, UINT32_MAX - 511 };

	switch (draw(c, 8)) {
	case 0:
	case 1:
		return limits[draw(c, VMIMG_ARRAY_LEN(limits))];
	case 2:
		return old + draw(c, 17) - 8;
	case 3:
		return old ^ UINT64_C(1) << draw(c, 64);
	case 4:
		return draw(c, 2) ? old << draw(c, 9) : old >> draw(c, 9);
	case 5:
		return draw(c, 1 << draw(c, 24));
	default:
		return a_place(c);
	}
}

static void change_number(struct change *c, uint8_t *at, unsigned width, bool big_endian)
{
	put(at, a_number(c, get(at, width, big_endian)), width, big_endian);
}

/* ---- in a part ---- */

static void change_field(struct change *c, const struct shape_field *fields, size_t count,
	uint8_t *base, size_t there)
{
	const struct shape_field *field = &fields[draw(c, count)];

	if (!vmimg_range_inside(field->at, field->width, there))
		return;
	if (field->width == 1 || field->width == 2 || field->width == 4 || field->width == 8)
		change_number(c, base + field->at, field->width, field->big_endian);
	else
		(void)LLVMFuzzerMutate(base + field->at, field->width, field->width);
}

/* A structure that is known, at a sector of the part. */
static bool change_structure(struct change *c, struct packed_part *part)
{
	uint32_t steps = part->len / 8, first = (uint32_t)draw(c, steps), i;
	const struct shape *shape = NULL;
	uint8_t *base = NULL;

	for (i = 0; i < steps && i < 4096 && !shape; i++) {
		base = part->bytes + 8 * ((first + i) % steps);
		shape = shape_find(base, (size_t)(part->bytes + part->len - base));
	}
	if (!shape || base - part->bytes < shape->magic_at)
		return false;
	base -= shape->magic_at;
	if (shape->entry_size && draw(c, 3)) {
		size_t skip = shape->entries_at + shape->entry_size * draw(c, 1 + draw(c, 9));

		if (skip < (size_t)(part->bytes + part->len - base))
			change_field(c, shape->entry_fields, shape->entry_field_count, base + skip,
				(size_t)(part->bytes + part->len - base) - skip);
	} else {
		change_field(c, shape->fields, shape->field_count, base,
			(size_t)(part->bytes + part->len - base));
	}
	return true;
}

static void change_bytes(struct change *c, struct packed_part *part)
{
	unsigned width = 1U << draw(c, 4);
	uint32_t at = (uint32_t)draw(c, part->len);

	if (draw(c, 4)) /* numbers are aligned */
		at -= at % width;
	if (draw(c, 4) && part->len - at >= width)
		change_number(c, part->bytes + at, width, draw(c, 2));
	else
		(void)LLVMFuzzerMutate(part->bytes + at, vmimg_min(part->len - at, 64),
			vmimg_min(part->len - at, 64));
}

/* Some bytes of one part over those of another. */
static void copy_bytes(struct change *c)
{
	struct packed_part *from = any_part(c), *to = any_part(c);
	uint32_t len = 8U << draw(c, 8), at, source;

	len = (uint32_t)vmimg_min(len, vmimg_min(from->len, to->len));
	at = (uint32_t)draw(c, to->len - len + 1) & ~7U;
	source = (uint32_t)draw(c, from->len - len + 1) & ~7U;
	memmove(to->bytes + at, from->bytes + source, len);
}

/* ---- of parts ---- */

static void move_part(struct change *c, struct packed_part *part)
{
	static const uint32_t steps[] = { 8, 512, 4096, 65536, 1 << 20 };
	uint64_t step = steps[draw(c, VMIMG_ARRAY_LEN(steps))] * (1 + draw(c, 4));

	vmimg_put_le64(c->input + part->head,
		draw(c, 3) ? any_part(c)->at + step * draw(c, 3) : part->at - step);
}

static void drop_part(struct change *c, const struct packed_part *part)
{
	size_t whole = PACKED_PART + part->len;

	memmove(c->input + part->head, c->input + part->head + whole, c->len - part->head - whole);
	c->len -= whole;
}

/* Some of a part at another place too. */
static void add_part(struct change *c, const struct packed_part *part)
{
	uint32_t len = (uint32_t)vmimg_min(part->len, UINT64_C(512) << draw(c, 4));

	if (c->cap - c->len < PACKED_PART + len)
		return;
	vmimg_put_le64(c->input + c->len, vmimg_align_down(a_place(c) & (PACKED_MAX - 1), 512));
	vmimg_put_le32(c->input + c->len + 8, len);
	memcpy(c->input + c->len + PACKED_PART, part->bytes, len);
	c->len += PACKED_PART + len;
}

static void resize(struct change *c)
{
	uint64_t size = packed_size(c->input), cut = any_part(c)->at + draw(c, 2) * draw(c, 70000);

	vmimg_put_le64(c->input + 8, draw(c, 3) ? cut : size + 512 * draw(c, 1 << draw(c, 16)));
}

static void change_once(struct change *c)
{
	uint64_t kind = draw(c, 64);
	struct packed_part *part;

	c->count = packed_parts(c->input, c->len, c->parts, MOST_PARTS);
	if (!c->count)
		return;
	part = any_part(c);
	if (!part->len || kind == 0)
		resize(c);
	else if (kind == 1)
		drop_part(c, part);
	else if (kind == 2)
		move_part(c, part);
	else if (kind == 3)
		add_part(c, part);
	else if (kind < 8)
		copy_bytes(c);
	else if (kind < 24 || !change_structure(c, part))
		change_bytes(c, part);
}

/* libFuzzer's seeds differ in few bits. */
static uint64_t stir(unsigned seed)
{
	uint64_t x = (seed + UINT64_C(0x9e3779b97f4a7c15)) * UINT64_C(0xbf58476d1ce4e5b9);

	return (x ^ x >> 31) | 1;
}

size_t LLVMFuzzerCustomMutator(uint8_t *input, size_t len, size_t cap, unsigned seed)
{
	static struct change c;

	if (!packed_is(input, len))
		return LLVMFuzzerMutate(input, len, cap);
	c.input = input, c.len = len, c.cap = cap, c.random = stir(seed);
	c.count = packed_parts(input, len, c.parts, MOST_PARTS);
	if (!c.count)
		return len;
	for (uint64_t times = 1 + draw(&c, 3); times; times--)
		change_once(&c);
	if (draw(&c, 16))
		sums_fix(input, c.len);
	return c.len;
}

/* One image with some of the parts of the other over it. */
size_t LLVMFuzzerCustomCrossOver(const uint8_t *one, size_t one_len, const uint8_t *other,
	size_t other_len, uint8_t *out, size_t cap, unsigned seed)
{
	static struct change c;
	size_t len = vmimg_min(one_len, cap);

	memcpy(out, one, len);
	if (!packed_is(one, one_len) || !packed_is(other, other_len))
		return len;
	c.random = stir(seed);
	c.count = packed_parts((uint8_t *)(uintptr_t)other, other_len, c.parts, MOST_PARTS);
	for (uint64_t times = 1 + draw(&c, 3); times && c.count; times--) {
		const struct packed_part *part = any_part(&c);

		if (cap - len < PACKED_PART + part->len)
			break;
		memcpy(out + len, other + part->head, PACKED_PART + part->len);
		vmimg_put_le32(out + len + 8, part->len);
		len += PACKED_PART + part->len;
	}
	sums_fix(out, len);
	return len;
}
