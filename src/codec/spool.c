/* SPDX-License-Identifier: Apache-2.0 */
/* Read a piece, unwrap it, write what is not zero. */
#include "codec/spool.h"
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>
#include "codec/unwrap.h"
#include "io/file.h"
#include "util/num.h"
#include "util/zero.h"

#define PIECE   (256U << 10) /* bytes read or unpacked at once */
#define GRANULE 4096U        /* zeroes of this size become holes */

struct state {
	const struct vmimg_spool *how;
	const struct vmimg_wrapping *wrapping; /* NULL: none */
	struct vmimg_unwrapper *unwrapper;
	struct vmimg_io *out;
	uint8_t *in_buf, *out_buf;
	uint64_t taken; /* of how->io */
	uint64_t size;  /* of what was put so far */
	bool in_member; /* compressed data has begun and not ended */
};

static int read_io(struct state *s, uint8_t *buf, size_t len, size_t *got, struct vmimg_error *err)
{
	size_t step = (size_t)vmimg_min(len, vmimg_io_size(s->how->io) - s->taken);

	if (s->how->cancel && atomic_load(s->how->cancel))
		return vmimg_fail(err, VMIMG_ECANCELLED, "interrupted");
	if (vmimg_io_pread(s->how->io, buf, step, s->taken, err))
		return -1;
	s->taken += step;
	*got = step;
	return 0;
}

/* Up to len bytes, fewer only at the end. */
static int read_some(
	struct state *s, uint8_t *buf, size_t len, size_t *got, struct vmimg_error *err)
{
	size_t have = 0;

	if (s->how->io)
		return read_io(s, buf, len, got, err);
	while (have < len) {
		ssize_t n = read(s->how->fd, buf + have, len - have);

		if (s->how->cancel && atomic_load(s->how->cancel))
			return vmimg_fail(err, VMIMG_ECANCELLED, "interrupted");
		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0)
			return vmimg_fail_sys(err, errno, "reading %s", s->how->name);
		if (!n)
			break;
		have += (size_t)n;
	}
	*got = have;
	return 0;
}

static int put(struct state *s, const uint8_t *bytes, size_t len, struct vmimg_error *err)
{
	if (s->how->limit && len > s->how->limit - vmimg_min(s->size, s->how->limit))
		return vmimg_fail(err, VMIMG_ELIMIT,
			"%s unpacks to more than the limit of %" PRIu64 " bytes", s->how->name,
			s->how->limit);
	while (len) {
		/* so that granules line up with those of the file */
		size_t step = (size_t)vmimg_min(len, GRANULE - s->size % GRANULE);
		bool hole = vmimg_is_zero(bytes, step);

		while (!hole && step < len &&
			!vmimg_is_zero(bytes + step, vmimg_min(len - step, GRANULE)))
			step += (size_t)vmimg_min(len - step, GRANULE);
		if (!hole && vmimg_io_pwrite(s->out, bytes, step, s->size, err))
			return -1;
		s->size += step;
		bytes += step;
		len -= step;
	}
	return 0;
}

/* Between two members, or after the last one: another member, or zeroes. Bytes that are too few to
 * tell stay, unless these are the last. */
static int begin_member(
	struct state *s, const uint8_t **in, size_t *len, bool last, struct vmimg_error *err)
{
	while (*len && !**in) {
		++*in;
		--*len;
	}
	s->in_member = *len && vmimg_wrapping_find(*in, *len) == s->wrapping;
	if (s->in_member || !*len || (!last && *len < VMIMG_WRAPPING_MAGIC))
		return 0;
	return vmimg_fail(err, VMIMG_ECORRUPT,
		"%s: something else follows after the %s-compressed data", s->how->name,
		s->wrapping->name);
}

/* As much as the input allows. What is left of it, less than a magic number, moves to the front. */
static int unwrap(struct state *s, size_t *len, bool last, struct vmimg_error *err)
{
	const uint8_t *in = s->in_buf;
	size_t got, before;
	bool ended;

	for (;;) {
		if (!s->in_member && begin_member(s, &in, len, last, err))
			return -1;
		if (!s->in_member)
			break;
		before = *len;
		if (s->unwrapper->step(
			    s->unwrapper, &in, len, s->out_buf, PIECE, &got, &ended, err))
			return vmimg_within(err, "%s", s->how->name);
		if (put(s, s->out_buf, got, err))
			return -1;
		s->in_member = !ended;
		if (s->in_member && !got && *len == before)
			break;
	}
	memmove(s->in_buf, in, *len);
	return 0;
}

static int run_wrapped(struct state *s, size_t have, struct vmimg_error *err)
{
	size_t got = have;

	s->unwrapper = s->wrapping->unwrapper_new(err);
	if (!s->unwrapper)
		return vmimg_within(err, "%s is %s-compressed", s->how->name, s->wrapping->name);
	s->in_member = true;
	while (got) {
		if (unwrap(s, &have, false, err))
			return -1;
		if (have == PIECE) /* a decoder that takes nothing */
			return vmimg_fail(err, VMIMG_ECORRUPT,
				"%s: the %s-compressed data is damaged", s->how->name,
				s->wrapping->name);
		if (read_some(s, s->in_buf + have, PIECE - have, &got, err))
			return -1;
		have += got;
	}
	if (unwrap(s, &have, true, err))
		return -1;
	return s->in_member ? vmimg_fail(err, VMIMG_ECORRUPT,
				      "%s: the %s-compressed data ends early: truncated?",
				      s->how->name, s->wrapping->name)
			    : 0;
}

static int run_plain(struct state *s, size_t have, struct vmimg_error *err)
{
	while (have)
		if (put(s, s->in_buf, have, err) || read_some(s, s->in_buf, PIECE, &have, err))
			return -1;
	return 0;
}

static int run(struct state *s, struct vmimg_error *err)
{
	size_t have;

	if (read_some(s, s->in_buf, PIECE, &have, err))
		return -1;
	if (!s->how->as_it_is)
		s->wrapping = vmimg_wrapping_find(s->in_buf, have);
	if (s->wrapping ? run_wrapped(s, have, err) : run_plain(s, have, err))
		return -1;
	return vmimg_io_resize(s->out, s->size, err);
}

static int open_unnamed(const char *folder, struct vmimg_error *err)
{
	VMIMG_AUTO(free) char *path = NULL;
	int fd;

	if (!folder)
		folder = getenv("TMPDIR");
	if (!folder || !*folder)
		folder = "/var/tmp";
	fd = open(folder, O_TMPFILE | O_RDWR | O_CLOEXEC, 0600);
	if (fd >= 0)
		return fd;
	if (asprintf(&path, "%s/.vmimg-XXXXXX", folder) < 0)
		return vmimg_fail_nomem(err);
	fd = mkostemp(path, O_CLOEXEC);
	if (fd < 0)
		return vmimg_fail_sys(err, errno, "a temporary file in %.100s", folder);
	unlink(path);
	return fd;
}

struct vmimg_io *vmimg_spool(const struct vmimg_spool *spool, struct vmimg_error *err)
{
	VMIMG_AUTO(free) uint8_t *in_buf = vmimg_alloc_buffer(PIECE, err);
	VMIMG_AUTO(free) uint8_t *out_buf = vmimg_alloc_buffer(PIECE, err);
	struct state s = { .how = spool, .in_buf = in_buf, .out_buf = out_buf };
	int fd = in_buf && out_buf ? open_unnamed(spool->folder, err) : -1, failed;

	if (fd < 0)
		return NULL;
	s.out = vmimg_file_from_fd(fd, true, spool->name, err);
	if (!s.out)
		return NULL;
	failed = run(&s, err);
	vmimg_unwrapper_free(s.unwrapper);
	if (!failed)
		return s.out;
	vmimg_io_unref(s.out);
	return NULL;
}
