/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The footer: one at the end of the file and, in all but fixed disks, a copy at its start. Either
 * makes up for the loss of the other.
 */
#include <inttypes.h>
#include <string.h>
#include "format/vhd/vhd.h"
#include "util/limits.h"
#include "util/num.h"

struct copy {
	const char *where;
	uint8_t bytes[VMIMG_VHD_FOOTER_SIZE];
	uint64_t at;
	bool found; /* the cookie is there */
	bool sound; /* and the checksum is right */
	struct vmimg_vhd_footer footer;
};

uint32_t vmimg_vhd_sum(const uint8_t *bytes, size_t len, size_t sum_at)
{
	uint32_t sum = 0;

	for (size_t i = 0; i < len; i++)
		if (i < sum_at || i >= sum_at + 4)
			sum += bytes[i];
	return ~sum;
}

uint32_t vmimg_vhd_tail_len(const uint8_t *tail, size_t len)
{
	static const uint32_t lengths[] = { VMIMG_VHD_FOOTER_SIZE, VMIMG_VHD_FOOTER_OLD };

	for (size_t i = 0; i < VMIMG_ARRAY_LEN(lengths); i++)
		if (len >= lengths[i] && !memcmp(tail + len - lengths[i], VMIMG_VHD_COOKIE, 8))
			return lengths[i];
	return 0;
}

/* copy->bytes, of which len were read, into the rest of copy. */
static void look_at(struct copy *copy, uint32_t len)
{
	memset(copy->bytes + len, 0, sizeof(copy->bytes) - len);
	copy->found = !memcmp(copy->bytes, VMIMG_VHD_COOKIE, 8);
	if (!copy->found)
		return;
	vmimg_vhd_footer_decode(&copy->footer, copy->bytes);
	copy->sound = copy->footer.checksum ==
		vmimg_vhd_sum(copy->bytes, sizeof(copy->bytes), VMIMG_VHD_FOOTER_SUM_AT);
}

static int read_copies(
	struct vmimg_io *io, struct copy *head, struct copy *tail, struct vmimg_error *err)
{
	uint64_t size = vmimg_io_size(io);
	size_t len = (size_t)vmimg_min(size, VMIMG_VHD_FOOTER_SIZE);
	uint32_t tail_len;

	head->where = "at the start";
	tail->where = "at the end";
	tail->at = size;
	if (vmimg_io_pread(io, tail->bytes, len, size - len, err))
		return -1;
	tail_len = vmimg_vhd_tail_len(tail->bytes, len);
	if (tail_len) {
		memmove(tail->bytes, tail->bytes + (len - tail_len), tail_len);
		tail->at = size - tail_len;
		look_at(tail, tail_len);
	}
	if (len < VMIMG_VHD_FOOTER_SIZE || tail->at == 0)
		return 0;
	if (vmimg_io_pread(io, head->bytes, VMIMG_VHD_FOOTER_SIZE, 0, err))
		return -1;
	look_at(head, VMIMG_VHD_FOOTER_SIZE);
	return 0;
}

/* A copy that differs from the sound one in nothing but its checksum was not hit by a bad sector or
 * a torn write: somebody changed it. */
static bool only_sum_differs(const struct copy *a, const struct copy *b)
{
	const size_t after = VMIMG_VHD_FOOTER_SUM_AT + 4;

	return a->found && b->found && !memcmp(a->bytes, b->bytes, VMIMG_VHD_FOOTER_SUM_AT) &&
		!memcmp(a->bytes + after, b->bytes + after, VMIMG_VHD_FOOTER_OLD - after);
}

static int fail_sum(const struct copy *copy, struct vmimg_error *err)
{
	return vmimg_fail(err, VMIMG_ECORRUPT,
		"the footer %s (0x%" PRIx64 ") has checksum 0x%08" PRIx32
		", its bytes add up to 0x%08" PRIx32,
		copy->where, copy->at, copy->footer.checksum,
		vmimg_vhd_sum(copy->bytes, sizeof(copy->bytes), VMIMG_VHD_FOOTER_SUM_AT));
}

/* Both lead to a header of their own, of the same image: it was getting another parent, or none. */
static bool is_between_headers(
	const struct vmimg_vhd_footer *head, const struct vmimg_vhd_footer *tail)
{
	return head->data_offset != tail->data_offset && head->type >= VMIMG_VHD_DYNAMIC &&
		tail->type >= VMIMG_VHD_DYNAMIC &&
		!memcmp(head->uuid, tail->uuid, sizeof(head->uuid));
}

/* Of two sound copies that are not equal: a change writes the footer at the end first. The kind of
 * disk cannot differ, but with the header. */
static int choose_of_sound(const struct copy *head, const struct copy *tail,
	const struct copy **chosen, unsigned *flaws, struct vmimg_error *err)
{
	if ((head->footer.type != tail->footer.type ||
		    head->footer.data_offset != tail->footer.data_offset) &&
		!is_between_headers(&head->footer, &tail->footer))
		return vmimg_fail(err, VMIMG_ECORRUPT,
			"the footer at the start says disk type %" PRIu32 ", header at 0x%" PRIx64
			", the one at the end (0x%" PRIx64 ") type %" PRIu32
			", header at 0x%" PRIx64,
			head->footer.type, head->footer.data_offset, tail->at, tail->footer.type,
			tail->footer.data_offset);
	*chosen = tail;
	*flaws |= VMIMG_VHD_HEAD_OLDER;
	return 0;
}

static int choose(const struct copy *head, const struct copy *tail, const struct copy **chosen,
	unsigned *flaws, struct vmimg_error *err)
{
	if (tail->found && tail->footer.type == VMIMG_VHD_FIXED) {
		*chosen = tail; /* whatever the guest's first sector looks like */
		return tail->sound ? 0 : fail_sum(tail, err);
	}
	if (!head->found && !tail->found)
		return vmimg_fail(err, VMIMG_EFORMAT,
			"it has no VHD footer, neither at its start nor at its end");
	if (head->found && tail->found && !memcmp(head->bytes, tail->bytes, VMIMG_VHD_FOOTER_OLD)) {
		*chosen = head;
		*flaws |= head->sound ? 0 : VMIMG_VHD_FOOTER_SUM;
		return 0;
	}
	if (head->sound && tail->sound)
		return choose_of_sound(head, tail, chosen, flaws, err);
	if (!head->sound && !tail->sound)
		return fail_sum(head->found ? head : tail, err);
	if (only_sum_differs(head, tail))
		return fail_sum(head->sound ? tail : head, err);
	*chosen = head->sound ? head : tail;
	*flaws |= head->sound ? VMIMG_VHD_TAIL_DAMAGED : VMIMG_VHD_HEAD_DAMAGED;
	return 0;
}

static int validate(const struct copy *copy, struct vmimg_error *err)
{
	const struct vmimg_vhd_footer *footer = &copy->footer;

	if (footer->version >> 16 != VMIMG_VHD_VERSION >> 16)
		return vmimg_fail(err, VMIMG_EUNSUPPORTED, "VHD version 0x%08" PRIx32 ", not 1.x",
			footer->version);
	if (footer->type < VMIMG_VHD_FIXED || footer->type > VMIMG_VHD_DIFFERENCING)
		return vmimg_fail(err, VMIMG_ECORRUPT,
			"disk type %" PRIu32 " (footer at 0x%" PRIx64
			", offset 60) is none of fixed, dynamic, differencing",
			footer->type, copy->at);
	if (footer->current_size > VMIMG_MAX_DISK || footer->current_size % VMIMG_VHD_SECTOR)
		return vmimg_fail(err, VMIMG_ECORRUPT,
			"a size of %" PRIu64 " bytes (footer at 0x%" PRIx64
			", offset 48) is no number of sectors that a disk can have",
			footer->current_size, copy->at);
	return 0;
}

int vmimg_vhd_read_footer(struct vmimg_vhd *vhd, struct vmimg_error *err)
{
	struct copy head = { 0 }, tail = { 0 };
	const struct copy *chosen;
	unsigned flaws = 0;

	if (read_copies(vhd->io, &head, &tail, err) || choose(&head, &tail, &chosen, &flaws, err) ||
		validate(chosen, err))
		return -1;
	if ((flaws & VMIMG_VHD_HEAD_OLDER) && validate(&head, err))
		return -1;
	vhd->footer = chosen->footer;
	vhd->footer_at = tail.at;
	vhd->flaws |= flaws;
	return 0;
}
