/* SPDX-License-Identifier: Apache-2.0 */
/* A bundle whose descriptor has changed, written anew: files are copied as they are and hashed on
 * the way, so that disks are not encoded again. */
#include <inttypes.h>
#include <stdio.h>
#include <string.h>
#include <strings.h>
#include "bundle/manifest.h"
#include "bundle/ovf/edit.h"
#include "bundle/ovf_edit.h"
#include "bundle/sign.h"
#include "io/digest.h"
#include "util/limits.h"
#include "util/num.h"

#define PIECE (1U << 20)

struct rewriting {
	struct vmimg_bundle *bundle;
	struct vmimg_ovf *ovf;
	const struct vmimg_bundle_create *create;
	const char *hash;
	bool copied;
	struct vmimg_tar_writer *tar; /* NULL: a folder */
	struct vmimg_signer *signer;
	struct vmimg_hash *state;
	struct file {
		const char *name;
		char hex[2 * VMIMG_HASH_MAX + 1];
	} * files; /* the descriptor first */
	size_t count, cap;
	const char *manifest_name, *cert_name;
	uint64_t manifest_at, cert_at;
};

/* ---- which files ------------------------------------------------------------------------- */

static bool has_suffix(const char *name, const char *suffix)
{
	size_t len = strlen(name), tail = strlen(suffix);

	return len > tail && !strcasecmp(name + len - tail, suffix);
}

static bool is_listed(const struct rewriting *r, const char *name)
{
	for (size_t i = 0; i < r->count; i++)
		if (!strcmp(r->files[i].name, name))
			return true;
	return false;
}

static int add_file(struct rewriting *r, const char *name, struct vmimg_error *err)
{
	while (!strncmp(name, "./", 2))
		name += 2;
	if (is_listed(r, name))
		return 0;
	if (r->count > VMIMG_MAX_OVF_ITEMS)
		return vmimg_fail(err, VMIMG_ELIMIT, "more than %d files", VMIMG_MAX_OVF_ITEMS);
	if (vmimg_grow_array(&r->files, &r->cap, r->count + 1, sizeof(*r->files), err))
		return -1;
	r->files[r->count++] = (struct file){ .name = name };
	return 0;
}

/* The name under which the file is there: as it is written, or decoded. */
static const char *real_name(struct rewriting *r, const char *href, struct vmimg_error *err)
{
	if (!r->bundle->tar || vmimg_tar_find(r->bundle->tar, href) || !strchr(href, '%'))
		return href;
	return vmimg_ovf_decode_href(&r->bundle->pool, href, err);
}

static int add_referenced(struct rewriting *r, struct vmimg_error *err)
{
	for (size_t i = 0; i < r->ovf->file_count; i++) {
		const struct vmimg_ovf_file *file = &r->ovf->files[i];
		uint64_t chunks = file->chunk_size && file->size != VMIMG_NONE
			? vmimg_div_up(file->size, file->chunk_size)
			: 0;
		const char *name = real_name(r, file->href, err);

		if (!name || vmimg_ovf_check_href(file->href, err))
			return -1;
		if (!chunks && add_file(r, name, err))
			return -1;
		for (uint64_t k = 0; k < chunks; k++) {
			const char *chunk =
				vmimg_pool_printf(&r->bundle->pool, err, "%s.%09" PRIu64, name, k);

			if (!chunk || add_file(r, chunk, err))
				return -1;
		}
	}
	return 0;
}

/* What else is in the archive: localised texts, notes. */
static int add_others(struct rewriting *r, struct vmimg_error *err)
{
	for (size_t i = 0; r->bundle->tar && i < vmimg_tar_count(r->bundle->tar); i++) {
		const struct vmimg_tar_member *m = vmimg_tar_member(r->bundle->tar, i);

		if (m->kind != VMIMG_TAR_FILE || has_suffix(m->name, ".mf") ||
			has_suffix(m->name, ".cert") || !strcmp(m->name, r->ovf->name))
			continue;
		if (add_file(r, m->name, err))
			return -1;
	}
	return 0;
}

static int list_files(struct rewriting *r, struct vmimg_error *err)
{
	const char *name = r->create->name;

	r->manifest_name = vmimg_pool_printf(&r->bundle->pool, err, "%s.mf", name);
	r->cert_name = vmimg_pool_printf(&r->bundle->pool, err, "%s.cert", name);
	name = vmimg_pool_printf(&r->bundle->pool, err, "%s.ovf", name);
	if (!name || !r->manifest_name || !r->cert_name || add_file(r, name, err))
		return -1;
	return add_referenced(r, err) ? -1 : add_others(r, err);
}

/* ---- texts ------------------------------------------------------------------------------- */

static char *manifest_text(struct rewriting *r, size_t *len, struct vmimg_error *err)
{
	char *text = NULL;
	FILE *to = open_memstream(&text, len);
	bool failed = !to;

	for (size_t i = 0; !failed && i < r->count; i++) {
		VMIMG_AUTO(free)
		char *line = vmimg_manifest_line(r->hash, r->files[i].name, r->files[i].hex, err);

		failed = !line || fputs(line, to) < 0;
	}
	if (to && fclose(to))
		failed = true;
	if (!failed)
		return text;
	free(text);
	vmimg_fail_nomem(err);
	return NULL;
}

static char *cert_text(struct rewriting *r, const char *manifest, size_t manifest_len, size_t *len,
	struct vmimg_error *err)
{
	return vmimg_manifest_sign(r->signer, r->hash, r->manifest_name, manifest, manifest_len,
		r->create->certificate, len, err);
}

/* ---- writing ----------------------------------------------------------------------------- */

static int copy(struct vmimg_io *from, struct vmimg_io *to, struct vmimg_error *err)
{
	VMIMG_AUTO(free) uint8_t *buf = vmimg_alloc_buffer(PIECE, err);
	uint64_t size = vmimg_io_size(from), len;

	for (uint64_t at = 0; buf && at < size; at += len) {
		len = vmimg_min(size - at, PIECE);
		if (vmimg_io_pread(from, buf, (size_t)len, at, err) ||
			vmimg_io_pwrite(to, buf, (size_t)len, at, err))
			return -1;
	}
	return buf ? 0 : -1;
}

/* Where the file's bytes go; *at is where in it. NULL with status OK: nowhere. */
static struct vmimg_io *open_target(
	struct rewriting *r, const char *name, uint64_t size, uint64_t *at, struct vmimg_error *err)
{
	*at = 0;
	if (r->tar)
		return vmimg_tar_begin(r->tar, name, size, at, err) ? NULL
								    : vmimg_io_ref(r->create->io);
	return r->create->siblings->create(r->create->siblings, name, err);
}

static int write_file(struct rewriting *r, struct file *file, struct vmimg_error *err)
{
	VMIMG_AUTO(vmimg_io_unref)
	struct vmimg_io *from = vmimg_ovf_open_name(r->bundle, file->name, err);
	VMIMG_AUTO(vmimg_io_unref) struct vmimg_io *target = NULL;
	VMIMG_AUTO(vmimg_io_unref) struct vmimg_io *to = NULL;
	uint8_t digest[VMIMG_HASH_MAX];
	uint64_t at;

	if (!from)
		return -1;
	if (!r->tar && !r->copied)
		return vmimg_manifest_digest(from, r->hash, file->hex, err);
	target = open_target(r, file->name, vmimg_io_size(from), &at, err);
	to = target ? vmimg_digest_open(target, at, r->state, file->name, err) : NULL;
	if (!to || copy(from, to, err))
		return -1;
	vmimg_hex(file->hex, digest, vmimg_hash_final(r->state, digest));
	return r->tar ? vmimg_tar_end(r->tar, vmimg_io_size(from), err) : 0;
}

/* The descriptor, whose digest is known at once. */
static int write_descriptor(struct rewriting *r, struct vmimg_error *err)
{
	size_t len = 0;
	VMIMG_AUTO(free) char *text = vmimg_xml_write(r->ovf->xml, &len, err);
	uint8_t digest[VMIMG_HASH_MAX];

	if (!text)
		return -1;
	vmimg_hash_update(r->state, text, len);
	vmimg_hex(r->files[0].hex, digest, vmimg_hash_final(r->state, digest));
	if (r->tar)
		return vmimg_tar_put(r->tar, r->files[0].name, text, len, err);
	return vmimg_io_pwrite(r->create->io, text, len, 0, err);
}

static int leave_room(
	struct rewriting *r, const char *name, size_t len, uint64_t *at, struct vmimg_error *err)
{
	if (vmimg_tar_begin(r->tar, name, len, at, err) ||
		vmimg_io_zero(r->create->io, *at, len, err))
		return -1;
	return vmimg_tar_end(r->tar, len, err);
}

/* In an archive the manifest comes before the files whose digests it has. */
static int leave_rooms(struct rewriting *r, struct vmimg_error *err)
{
	VMIMG_AUTO(free) char *manifest = NULL;
	VMIMG_AUTO(free) char *cert = NULL;
	size_t len, cert_len;

	if (!r->tar)
		return 0;
	for (size_t i = 1; i < r->count; i++)
		memcpy(r->files[i].hex, r->files[0].hex, sizeof(r->files[i].hex));
	manifest = manifest_text(r, &len, err);
	if (!manifest || leave_room(r, r->manifest_name, len, &r->manifest_at, err))
		return -1;
	if (!r->signer)
		return 0;
	cert = cert_text(r, manifest, len, &cert_len, err);
	return cert ? leave_room(r, r->cert_name, cert_len, &r->cert_at, err) : -1;
}

static int put_text(struct rewriting *r, const char *name, const char *text, size_t len,
	uint64_t at, struct vmimg_error *err)
{
	VMIMG_AUTO(vmimg_io_unref)
	struct vmimg_io *io = r->tar ? vmimg_io_ref(r->create->io)
				     : r->create->siblings->create(r->create->siblings, name, err);

	return io ? vmimg_io_pwrite(io, text, len, at, err) : -1;
}

static int write_manifest(struct rewriting *r, struct vmimg_error *err)
{
	VMIMG_AUTO(free) char *cert = NULL;
	size_t len, cert_len;
	VMIMG_AUTO(free) char *manifest = manifest_text(r, &len, err);

	if (!manifest || put_text(r, r->manifest_name, manifest, len, r->manifest_at, err))
		return -1;
	if (!r->signer)
		return 0;
	cert = cert_text(r, manifest, len, &cert_len, err);
	return cert ? put_text(r, r->cert_name, cert, cert_len, r->cert_at, err) : -1;
}

static int write_all(struct rewriting *r, struct vmimg_error *err)
{
	if (list_files(r, err) || write_descriptor(r, err) || leave_rooms(r, err))
		return -1;
	for (size_t i = 1; i < r->count; i++)
		if (write_file(r, &r->files[i], err))
			return vmimg_within(err, "%s", vmimg_io_name(r->bundle->io));
	if (write_manifest(r, err))
		return -1;
	return r->tar ? vmimg_tar_finish(r->tar, err) : 0;
}

int vmimg_ovf_rewrite(struct vmimg_bundle *bundle, const struct vmimg_bundle_create *create,
	bool archive, bool copied, struct vmimg_error *err)
{
	struct rewriting r = { .bundle = bundle,
		.ovf = bundle->state,
		.create = create,
		.copied = copied,
		.hash = create->hash ? create->hash : "sha256" };
	int failed;

	if (archive && create->io->in_order)
		return vmimg_fail(err, VMIMG_EUNSUPPORTED,
			"an OVA has its digests before its files: it is not written to a pipe, "
			"name an output file");
	r.state = vmimg_hash_new(r.hash, err);
	r.tar = archive ? vmimg_tar_writer_new(create->io, create->epoch, err) : NULL;
	r.signer = create->key ? vmimg_signer_new(create->key, create->certificate, r.hash, err)
			       : NULL;
	failed =
		!r.state || (archive && !r.tar) || (create->key && !r.signer) || write_all(&r, err);
	vmimg_hash_free(r.state);
	vmimg_tar_writer_free(r.tar);
	vmimg_signer_free(r.signer);
	free(r.files);
	return failed ? -1 : 0;
}
