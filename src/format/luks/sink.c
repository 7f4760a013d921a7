/* SPDX-License-Identifier: Apache-2.0 */
/* A new volume: every sector of the disk at its place behind the header, zeroes too, for a hole
 * decrypts to noise. An empty volume stays unwritten, as others leave it. */
#include <string.h>
#include "format/luks/luks.h"
#include "util/num.h"

#define CHUNK (256U << 10)
#define ALIGN (UINT64_C(1) << 20) /* of the payload */

struct luks_sink {
	struct vmimg_sink sink;
	struct vmimg_io *io;
	struct vmimg_luks luks;
	struct vmimg_luks_material slot;
	struct vmimg_cipher *cipher;
	uint64_t payload;
	uint8_t *zeroes, *sealed; /* CHUNK bytes each */
};

const struct vmimg_option_spec vmimg_luks_options[] = {
	{ "key-secret", VMIMG_OPTION_TEXT, NULL, "id of the --object with the passphrase" },
	{ "cipher-alg", VMIMG_OPTION_TEXT, NULL, "aes-128, aes-192 or aes-256 (aes-256)" },
	{ "cipher-mode", VMIMG_OPTION_TEXT, NULL, "xts or cbc (xts)" },
	{ "ivgen-alg", VMIMG_OPTION_TEXT, NULL, "plain, plain64 or essiv (plain64)" },
	{ "ivgen-hash-alg", VMIMG_OPTION_TEXT, NULL, "of essiv: sha256 (sha256)" },
	{ "hash-alg", VMIMG_OPTION_TEXT, NULL, "sha1, sha224, sha256, sha384 or sha512 (sha256)" },
	{ "iter-time", VMIMG_OPTION_SIZE, NULL,
		"milliseconds that trying a passphrase takes (2000)" },
	{ 0 },
};

static struct luks_sink *sink_of(struct vmimg_sink *sink)
{
	return (struct luks_sink *)sink;
}

static int seal_zeroes(struct luks_sink *s, uint64_t guest, uint64_t len, struct vmimg_error *err)
{
	for (uint64_t step; len; guest += step, len -= step) {
		step = vmimg_min(len, CHUNK);
		if (vmimg_cipher_encrypt(s->cipher, guest / VMIMG_SECTOR, s->zeroes, s->sealed,
			    (size_t)step, err) ||
			vmimg_io_pwrite(s->io, s->sealed, (size_t)step, s->payload + guest, err))
			return -1;
	}
	return 0;
}

static int place(struct vmimg_sink *sink, struct vmimg_chunk *chunk, struct vmimg_error *err)
{
	struct luks_sink *s = sink_of(sink);
	uint64_t guest = chunk->guest;

	if (chunk->kind == VMIMG_PIECE_ABSENT)
		return 0;
	if (chunk->kind == VMIMG_PIECE_ZERO)
		return seal_zeroes(s, guest, chunk->len, err);
	for (size_t i = 0; i < chunk->piece_count; guest += chunk->pieces[i++].size) {
		struct vmimg_store store = { s->io, s->payload + guest, chunk->pieces[i].bytes,
			vmimg_align_up(chunk->pieces[i].size, VMIMG_SECTOR), s->cipher, guest };

		vmimg_chunk_store_sealed(chunk, &store);
	}
	return 0;
}

/* The header comes last: it makes the rest a volume. */
static int finish(struct vmimg_sink *sink, struct vmimg_error *err)
{
	struct luks_sink *s = sink_of(sink);
	struct vmimg_luks_area area = { s->io, 0, s->payload };

	if (!s->io->is_device && vmimg_io_resize(s->io, s->payload + sink->size, err))
		return -1;
	if (vmimg_luks_write_material(&s->luks, &area, 0, &s->slot, err) ||
		vmimg_sink_barrier(s->io, err))
		return -1;
	return vmimg_luks_write(&s->luks, &area, err);
}

static void close_sink(struct vmimg_sink *sink)
{
	struct luks_sink *s = sink_of(sink);

	vmimg_luks_material_done(&s->slot);
	vmimg_cipher_free(s->cipher);
	vmimg_io_unref(s->io);
	free(s->zeroes);
	free(s->sealed);
	explicit_bzero(&s->luks, sizeof(s->luks));
	free(s);
}

static const struct vmimg_sink_ops sink_ops = {
	.place = place,
	.finish = finish,
	.close = close_sink,
};

static int check(const struct vmimg_io *io, const struct vmimg_create *create, struct vmimg_error *err)
{
	const char *problem = NULL;

	if (io->in_order)
		problem = "a LUKS volume cannot be written to a pipe: its header comes last";
	else if (create->parent_name || create->compress)
		problem = create->compress ? "a LUKS volume cannot be compressed"
					   : "a LUKS volume cannot have a backing file";
	else if (!create->dry && (!create->secret || !create->secret->len))
		problem = create->secret
			? "the secret is empty"
			: "a LUKS volume needs a secret (key-secret, or --target-secret-file)";
	return problem ? vmimg_fail(err, VMIMG_EINVAL, "%s", problem) : 0;
}

static int fill(struct luks_sink *s, const struct vmimg_create *create,
	const struct vmimg_luks_new *wanted, struct vmimg_error *err)
{
	s->payload = vmimg_align_up(vmimg_luks_size(&wanted->kind), ALIGN);
	s->zeroes = vmimg_alloc_array(CHUNK, 1, err);
	s->sealed = vmimg_alloc_buffer(CHUNK, err);
	if (!s->zeroes || !s->sealed)
		return -1;
	if (create->dry)
		return 0;
	s->cipher = vmimg_luks_begin(&s->luks, wanted, create->secret, &s->slot, err);
	s->luks.header.payload_offset = (uint32_t)(s->payload / VMIMG_SECTOR);
	return s->cipher ? 0 : -1;
}

struct vmimg_sink *vmimg_luks_create(
	struct vmimg_io *io, const struct vmimg_create *create, struct vmimg_error *err)
{
	struct vmimg_luks_new wanted;
	struct luks_sink *s;

	if (check(io, create, err) || vmimg_luks_read_new(&wanted, create->options, "", err))
		return NULL;
	s = vmimg_new(struct luks_sink, err);
	if (!s)
		return NULL;
	s->io = vmimg_io_ref(io);
	s->sink = (struct vmimg_sink){ .ops = &sink_ops,
		.size = vmimg_align_up(create->size, VMIMG_SECTOR),
		.granule = 4096,
		.chunk = CHUNK,
		.blank_as_is = true };
	if (!fill(s, create, &wanted, err))
		return &s->sink;
	close_sink(&s->sink);
	return NULL;
}

int vmimg_luks_measure(
	const struct vmimg_create *create, uint64_t data, uint64_t *bytes, struct vmimg_error *err)
{
	struct vmimg_luks_new wanted;

	(void)data;
	if (vmimg_luks_read_new(&wanted, create->options, "", err))
		return -1;
	*bytes = vmimg_align_up(vmimg_luks_size(&wanted.kind), ALIGN) +
		vmimg_align_up(create->size, VMIMG_SECTOR);
	return 0;
}
