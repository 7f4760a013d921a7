/* SPDX-License-Identifier: Apache-2.0 */
#include "codec/gzip.h"
#include <string.h>
#include <zlib.h>
#include "util/num.h"

#define PIECE  (256U << 10)
#define LEVEL  6
#define WINDOW (15 + 16) /* with gzip's header, whose time is 0 */

struct run {
	z_stream stream;
	uint8_t *in, *out;
	vmimg_gzip_put *put;
	void *ctx;
};

static int pack(struct run *run, size_t len, int flush, struct vmimg_error *err)
{
	run->stream.next_in = run->in;
	run->stream.avail_in = (uInt)len;
	do {
		run->stream.next_out = run->out;
		run->stream.avail_out = PIECE;
		deflate(&run->stream, flush);
		if (run->stream.avail_out < PIECE &&
			run->put(run->ctx, run->out, PIECE - run->stream.avail_out, err))
			return -1;
	} while (!run->stream.avail_out);
	return 0;
}

static int pack_all(struct run *run, struct vmimg_io *io, vmimg_gzip_put *see,
	const atomic_bool *cancel, struct vmimg_error *err)
{
	uint64_t size = vmimg_io_size(io);

	for (uint64_t at = 0; at < size; at += PIECE) {
		size_t len = (size_t)vmimg_min(PIECE, size - at);

		if (cancel && atomic_load(cancel))
			return vmimg_fail(err, VMIMG_ECANCELLED, "interrupted");
		if (vmimg_io_pread(io, run->in, len, at, err) ||
			(see && see(run->ctx, run->in, len, err)) ||
			pack(run, len, Z_NO_FLUSH, err))
			return -1;
	}
	return pack(run, 0, Z_FINISH, err);
}

int vmimg_gzip_run(struct vmimg_io *io, vmimg_gzip_put *put, vmimg_gzip_put *see, void *ctx,
	const atomic_bool *cancel, struct vmimg_error *err)
{
	VMIMG_AUTO(free) uint8_t *in = vmimg_alloc_buffer(PIECE, err);
	VMIMG_AUTO(free) uint8_t *out = vmimg_alloc_buffer(PIECE, err);
	struct run run = { .in = in, .out = out, .put = put, .ctx = ctx };
	int failed;

	if (!in || !out)
		return -1;
	if (deflateInit2(&run.stream, LEVEL, Z_DEFLATED, WINDOW, 8, Z_DEFAULT_STRATEGY) != Z_OK)
		return vmimg_fail_nomem(err);
	failed = pack_all(&run, io, see, cancel, err);
	deflateEnd(&run.stream);
	return failed;
}
