/* SPDX-License-Identifier: Apache-2.0 */
/* Keeps the position, as a pipe does, and says so with in_order. */
#include "io/digest.h"
#include <inttypes.h>
#include "util/num.h"

struct digest {
	struct vmimg_io io;
	struct vmimg_io *inner;
	struct vmimg_hash *hash;
	uint64_t at; /* of the stretch, in inner */
};

static struct digest *digest_of(struct vmimg_io *io)
{
	return (struct digest *)io;
}

static void hash_zeroes(struct digest *d, uint64_t len)
{
	static const uint8_t zeroes[65536];

	for (; d->hash && len; len -= vmimg_min(len, sizeof(zeroes)))
		vmimg_hash_update(d->hash, zeroes, (size_t)vmimg_min(len, sizeof(zeroes)));
}

static int fill_to(struct digest *d, uint64_t end, struct vmimg_error *err)
{
	uint64_t pos = vmimg_io_size(&d->io);

	if (end < pos)
		return vmimg_fail(err, VMIMG_EUNSUPPORTED,
			"this format cannot be written in one pass (it goes back to 0x%" PRIx64
			" from 0x%" PRIx64 ")",
			end, pos);
	if (end == pos)
		return 0;
	if (vmimg_io_zero(d->inner, d->at + pos, end - pos, err))
		return -1;
	hash_zeroes(d, end - pos);
	atomic_store(&d->io.size, end);
	return 0;
}

static int digest_pwrite(
	struct vmimg_io *io, const void *buf, size_t len, uint64_t at, struct vmimg_error *err)
{
	struct digest *d = digest_of(io);

	if (fill_to(d, at, err) || vmimg_io_pwrite(d->inner, buf, len, d->at + at, err))
		return -1;
	if (d->hash)
		vmimg_hash_update(d->hash, buf, len);
	return 0;
}

static int digest_zero(struct vmimg_io *io, uint64_t at, uint64_t len, struct vmimg_error *err)
{
	return fill_to(digest_of(io), at, err) ? -1 : fill_to(digest_of(io), at + len, err);
}

static int digest_resize(struct vmimg_io *io, uint64_t size, struct vmimg_error *err)
{
	return fill_to(digest_of(io), size, err);
}

static int digest_pread(
	struct vmimg_io *io, void *buf, size_t len, uint64_t at, struct vmimg_error *err)
{
	(void)buf, (void)len, (void)at;
	return vmimg_fail(err, VMIMG_EUNSUPPORTED, "%s is being hashed, and cannot be read back",
		vmimg_io_name(io));
}

static void digest_close(struct vmimg_io *io)
{
	vmimg_io_unref(digest_of(io)->inner);
	free(io);
}

static const struct vmimg_io_ops digest_ops = {
	.pread = digest_pread,
	.pwrite = digest_pwrite,
	.zero = digest_zero,
	.resize = digest_resize,
	.close = digest_close,
};

struct vmimg_io *vmimg_digest_open(struct vmimg_io *inner, uint64_t at, struct vmimg_hash *hash,
	const char *name, struct vmimg_error *err)
{
	struct digest *d = vmimg_new(struct digest, err);

	if (!d || vmimg_io_init(&d->io, &digest_ops, name, err)) {
		free(d);
		return NULL;
	}
	d->inner = vmimg_io_ref(inner);
	d->hash = hash;
	d->at = at;
	d->io.in_order = true;
	return &d->io;
}
