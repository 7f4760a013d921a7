/* SPDX-License-Identifier: Apache-2.0 */
/* Keeps the position, so that a sink that writes backwards is found out at once. */
#include "io/stream.h"
#include <errno.h>
#include <inttypes.h>
#include <unistd.h>
#include "util/num.h"

struct stream {
	struct vmimg_io io;
	int fd;
	uint64_t pos;
};

static int write_all(struct stream *s, const void *buf, size_t len, struct vmimg_error *err)
{
	const char *p = buf;

	while (len) {
		ssize_t n = write(s->fd, p, len);

		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0)
			return vmimg_fail_sys(err, errno, "%s: writing at 0x%" PRIx64,
				vmimg_io_name(&s->io), s->pos);
		p += n;
		len -= (size_t)n;
		s->pos += (uint64_t)n;
	}
	return 0;
}

static int fill_to(struct stream *s, uint64_t at, struct vmimg_error *err)
{
	static const uint8_t zeroes[65536];

	if (at < s->pos)
		return vmimg_fail(err, VMIMG_EUNSUPPORTED,
			"this format cannot be written to a pipe (it goes back to 0x%" PRIx64
			" from 0x%" PRIx64 "): name an output file",
			at, s->pos);
	while (s->pos < at)
		if (write_all(s, zeroes, (size_t)vmimg_min(at - s->pos, sizeof(zeroes)), err))
			return -1;
	return 0;
}

static int stream_pwrite(
	struct vmimg_io *io, const void *buf, size_t len, uint64_t at, struct vmimg_error *err)
{
	struct stream *s = (struct stream *)io;

	return fill_to(s, at, err) ? -1 : write_all(s, buf, len, err);
}

static int stream_zero(struct vmimg_io *io, uint64_t at, uint64_t len, struct vmimg_error *err)
{
	struct stream *s = (struct stream *)io;

	return fill_to(s, at, err) ? -1 : fill_to(s, at + len, err);
}

static int stream_resize(struct vmimg_io *io, uint64_t size, struct vmimg_error *err)
{
	return fill_to((struct stream *)io, size, err);
}

static int stream_pread(
	struct vmimg_io *io, void *buf, size_t len, uint64_t at, struct vmimg_error *err)
{
	(void)buf, (void)len, (void)at;
	return vmimg_fail(err, VMIMG_EUNSUPPORTED, "%s cannot be read back", vmimg_io_name(io));
}

static void stream_close(struct vmimg_io *io)
{
	free(io);
}

static const struct vmimg_io_ops stream_ops = {
	.pread = stream_pread,
	.pwrite = stream_pwrite,
	.zero = stream_zero,
	.resize = stream_resize,
	.close = stream_close,
};

struct vmimg_io *vmimg_stream_writer(int fd, const char *name, struct vmimg_error *err)
{
	struct stream *s = vmimg_new(struct stream, err);

	if (!s || vmimg_io_init(&s->io, &stream_ops, name, err)) {
		free(s);
		return NULL;
	}
	s->fd = fd;
	s->io.in_order = true;
	return &s->io;
}
