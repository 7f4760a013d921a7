/* SPDX-License-Identifier: Apache-2.0 */
/*
 * From parts to the image. Decryption is an io (a block of CBC needs only the one before it), so
 * that nothing lies about in between; the archive inside goes into an unnamed temporary file.
 */
#include <inttypes.h>
#include <string.h>
#include "bundle/ec2/ec2.h"
#include "codec/spool.h"
#include "disk/info.h"
#include "io/joined.h"
#include "util/num.h"
#include "util/text.h"

#define BLOCK VMIMG_SECRET_BLOCK

/* ---- AES-128-CBC as an io ---- */

struct sealed {
	struct vmimg_io io;
	struct vmimg_io *inner;
	uint8_t key[BLOCK], iv[BLOCK];
};

static int sealed_pread(
	struct vmimg_io *io, void *buf, size_t len, uint64_t at, struct vmimg_error *err)
{
	enum { STEP = 64 << 10 };
	struct sealed *s = (struct sealed *)io;
	VMIMG_AUTO(free) uint8_t *room = vmimg_alloc_buffer(STEP + 2 * BLOCK, err);
	uint8_t *to = buf;

	while (room && len) {
		uint64_t first = vmimg_align_down(at, BLOCK);
		size_t skip = (size_t)(at - first), take = (size_t)vmimg_min(len, STEP - skip);
		size_t whole = (size_t)vmimg_align_up(skip + take, BLOCK);
		const uint8_t *before = s->iv;

		/* the block in front is what this one was mixed with */
		if (vmimg_io_pread(s->inner, room + (first ? 0 : BLOCK),
			    whole + (first ? BLOCK : 0), first - (first ? BLOCK : 0), err))
			return -1;
		if (first)
			before = room;
		if (vmimg_cbc_decrypt(s->key, before, room + BLOCK, whole, room + BLOCK, err))
			return -1;
		memcpy(to, room + BLOCK + skip, take);
		to += take;
		at += take;
		len -= take;
	}
	return room ? 0 : -1;
}

static void sealed_close(struct vmimg_io *io)
{
	vmimg_io_unref(((struct sealed *)io)->inner);
	free(io);
}

static const struct vmimg_io_ops sealed_ops = { .pread = sealed_pread, .close = sealed_close };

/* PKCS #7: the last byte counts those that were added, all alike. */
static int cut_padding(struct sealed *s, uint64_t size, struct vmimg_error *err)
{
	uint8_t last[BLOCK];
	bool sound;

	atomic_init(&s->io.size, size);
	if (vmimg_io_pread(&s->io, last, BLOCK, size - BLOCK, err))
		return -1;
	sound = last[BLOCK - 1] >= 1 && last[BLOCK - 1] <= BLOCK;
	for (unsigned i = 0; sound && i < last[BLOCK - 1]; i++)
		sound = last[BLOCK - 1 - i] == last[BLOCK - 1];
	if (!sound)
		return vmimg_fail(err, VMIMG_ECORRUPT,
			"the end does not decrypt to padding: the key is not the one the image "
			"was encrypted with, or the manifest is of another image");
	atomic_store(&s->io.size, size - last[BLOCK - 1]);
	return 0;
}

static struct vmimg_io *unseal(struct vmimg_io *inner, const uint8_t key[BLOCK],
	const uint8_t iv[BLOCK], struct vmimg_error *err)
{
	struct sealed *s;
	uint64_t size = vmimg_io_size(inner);

	if (!size || size % BLOCK) {
		vmimg_fail(err, VMIMG_ECORRUPT,
			"the parts have %" PRIu64 " bytes together: not whole blocks of AES", size);
		return NULL;
	}
	s = vmimg_new(struct sealed, err);
	if (!s || vmimg_io_init(&s->io, &sealed_ops, "bundle", err)) {
		free(s);
		return NULL;
	}
	s->inner = vmimg_io_ref(inner);
	memcpy(s->key, key, BLOCK);
	memcpy(s->iv, iv, BLOCK);
	if (cut_padding(s, size, err)) {
		vmimg_io_unref(&s->io);
		return NULL;
	}
	return &s->io;
}

/* ---- keys ---- */

/* Both are 16 bytes as 32 digits, encrypted by RSA, as digits again. */
static bool open_secret(struct vmimg_key *key, const char *text, uint8_t out[BLOCK])
{
	uint8_t packed[VMIMG_SECRET_MAX], plain[VMIMG_SECRET_MAX + 1];
	size_t len = text ? strlen(text) / 2 : 0, got;
	struct vmimg_error ignored;

	if (!len || len > sizeof(packed) || !vmimg_unhex(text, packed, len) ||
		vmimg_key_decrypt(key, packed, len, plain, &got, &ignored))
		return false;
	plain[got] = '\0';
	return vmimg_unhex((const char *)plain, out, BLOCK);
}

static int open_secrets(const struct vmimg_bundle *bundle, uint8_t key[BLOCK], uint8_t iv[BLOCK],
	struct vmimg_error *err)
{
	const struct vmimg_ec2 *ec2 = bundle->state;
	VMIMG_AUTO(vmimg_key_free) struct vmimg_key *private = NULL;

	if (!bundle->key)
		return vmimg_fail(err, VMIMG_EINVAL,
			"the image is encrypted: give the private key of the user or of the cloud "
			"with --key FILE");
	private = vmimg_key_private(bundle->key, err);
	if (!private)
		return vmimg_within(err, "--key");
	if ((open_secret(private, ec2->user_key, key) && open_secret(private, ec2->user_iv, iv)) ||
		(open_secret(private, ec2->ec2_key, key) && open_secret(private, ec2->ec2_iv, iv)))
		return 0;
	return vmimg_fail(err, VMIMG_EINVAL,
		"the private key of --key is neither the user's nor the cloud's: it does not open "
		"this bundle");
}

/* ---- parts ---- */

static struct vmimg_io *open_part(
	struct vmimg_bundle *bundle, const struct vmimg_ec2_part *part, struct vmimg_error *err)
{
	struct vmimg_reference ref = { .kind = "part", .name = part->file };
	struct vmimg_io *io = bundle->resolver->open(bundle->resolver, &ref, bundle->io, err);
	char shown[80];

	if (!io)
		vmimg_within(err, "part %s",
			vmimg_escape(shown, sizeof(shown), part->file, strlen(part->file)));
	return io;
}

static int hash_io(struct vmimg_io *io, uint8_t out[VMIMG_HASH_MAX], struct vmimg_error *err)
{
	enum { STEP = 256 << 10 };
	VMIMG_AUTO(free) uint8_t *buf = vmimg_alloc_buffer(STEP, err);
	VMIMG_AUTO(vmimg_hash_free) struct vmimg_hash *hash = vmimg_hash_new("sha1", err);
	uint64_t size = vmimg_io_size(io);

	if (!buf || !hash)
		return -1;
	for (uint64_t at = 0; at < size; at += STEP) {
		size_t len = (size_t)vmimg_min(STEP, size - at);

		if (vmimg_io_pread(io, buf, len, at, err))
			return -1;
		vmimg_hash_update(hash, buf, len);
	}
	vmimg_hash_final(hash, out);
	return 0;
}

static int check_part(struct vmimg_bundle *bundle, const struct vmimg_ec2_part *part,
	uint64_t *total, struct vmimg_error *err)
{
	VMIMG_AUTO(vmimg_io_unref) struct vmimg_io *io = open_part(bundle, part, err);
	uint8_t digest[VMIMG_HASH_MAX];
	char shown[80];

	if (!io || hash_io(io, digest, err))
		return -1;
	*total += vmimg_io_size(io);
	if (!memcmp(digest, part->digest, VMIMG_EC2_SHA1))
		return 0;
	return vmimg_fail(err, VMIMG_ECORRUPT, "part %s has another SHA1 than the manifest says",
		vmimg_escape(shown, sizeof(shown), part->file, strlen(part->file)));
}

static void add_finding(
	json_t *findings, const char *file, bool good, const struct vmimg_error *why)
{
	json_t *finding = json_object();

	vmimg_json_text(finding, "file", file);
	vmimg_json_text(finding, "status", good ? "ok" : "wrong");
	if (!good)
		vmimg_json_text(finding, "text", why->text);
	json_array_append_new(findings, finding);
}

int vmimg_ec2_check_parts(struct vmimg_bundle *bundle, json_t *findings, struct vmimg_error *err)
{
	const struct vmimg_ec2 *ec2 = bundle->state;
	uint64_t total = 0;

	for (size_t i = 0; i < ec2->part_count; i++) {
		struct vmimg_error why;
		bool good = !check_part(bundle, &ec2->parts[i], &total, &why);

		if (findings)
			add_finding(findings, ec2->parts[i].file, good, &why);
		if (!good && !findings) {
			*err = why;
			return -1;
		}
	}
	if (findings || total == ec2->bundled_size)
		return 0;
	return vmimg_fail(err, VMIMG_ECORRUPT,
		"the parts have %" PRIu64 " bytes together, and the manifest says %" PRIu64, total,
		ec2->bundled_size);
}

/* ---- the image ---- */

static struct vmimg_io *join_parts(struct vmimg_bundle *bundle, struct vmimg_error *err)
{
	const struct vmimg_ec2 *ec2 = bundle->state;
	VMIMG_AUTO(free)
	struct vmimg_io **parts = vmimg_alloc_array(ec2->part_count, sizeof(*parts), err);
	struct vmimg_io *joined = NULL;
	size_t count = 0;

	while (parts && count < ec2->part_count &&
		(parts[count] = open_part(bundle, &ec2->parts[count], err)))
		count++;
	if (parts && count == ec2->part_count)
		joined = vmimg_joined_open(parts, count, "parts", err);
	for (size_t i = 0; i < count; i++)
		vmimg_io_unref(parts[i]);
	return joined;
}

/* euca-tools 1.2 wrote the digest of nothing at all. */
static int check_archive(struct vmimg_bundle *bundle, struct vmimg_io *tar, struct vmimg_error *err)
{
	static const uint8_t of_nothing[VMIMG_EC2_SHA1] = { 0xda, 0x39, 0xa3, 0xee, 0x5e, 0x6b,
		0x4b, 0x0d, 0x32, 0x55, 0xbf, 0xef, 0x95, 0x60, 0x18, 0x90, 0xaf, 0xd8, 0x07,
		0x09 };
	const struct vmimg_ec2 *ec2 = bundle->state;
	uint8_t digest[VMIMG_HASH_MAX];

	if (!memcmp(ec2->digest, of_nothing, VMIMG_EC2_SHA1)) {
		vmimg_bundle_warn(bundle,
			"the manifest has the SHA1 of nothing for the image, as euca-tools 1.2 "
			"wrote it: the parts' digests alone vouch for it");
		return 0;
	}
	if (hash_io(tar, digest, err))
		return -1;
	return memcmp(digest, ec2->digest, VMIMG_EC2_SHA1)
		? vmimg_fail(err, VMIMG_ECORRUPT,
			  "the image has another SHA1 than the manifest says (its archive, "
			  "unpacked)")
		: 0;
}

static struct vmimg_io *open_member(
	struct vmimg_bundle *bundle, struct vmimg_io *archive, struct vmimg_error *err)
{
	const struct vmimg_ec2 *ec2 = bundle->state;
	VMIMG_AUTO(vmimg_tar_free) struct vmimg_tar *tar = vmimg_tar_open(archive, err);
	const struct vmimg_tar_member *image = NULL;

	if (!tar)
		return NULL;
	for (size_t i = 0; !image && i < vmimg_tar_count(tar); i++)
		if (vmimg_tar_member(tar, i)->kind == VMIMG_TAR_FILE)
			image = vmimg_tar_member(tar, i);
	if (!image || image->size != ec2->size) {
		vmimg_fail(err, VMIMG_ECORRUPT,
			"the image has %" PRIu64 " bytes, and the manifest says %" PRIu64,
			image ? image->size : 0, ec2->size);
		return NULL;
	}
	return vmimg_tar_open_member(tar, image, err);
}

struct vmimg_io *vmimg_ec2_image(struct vmimg_bundle *bundle, struct vmimg_error *err)
{
	VMIMG_AUTO(vmimg_io_unref) struct vmimg_io *parts = NULL, *plain = NULL, *archive = NULL;
	uint8_t key[BLOCK], iv[BLOCK];
	struct vmimg_spool spool = { .name = "the bundle's image", .limit = bundle->spool_limit };

	if (open_secrets(bundle, key, iv, err) || vmimg_ec2_check_parts(bundle, NULL, err))
		return NULL;
	parts = join_parts(bundle, err);
	plain = parts ? unseal(parts, key, iv, err) : NULL;
	if (!plain)
		return NULL;
	spool.io = plain;
	archive = vmimg_spool(&spool, err);
	if (!archive || check_archive(bundle, archive, err))
		return NULL;
	return open_member(bundle, archive, err);
}
