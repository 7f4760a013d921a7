/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Writing an OVA, or a descriptor with its files beside it, in one pass. The descriptor, the
 * manifest and the certificate come first in an archive, yet say the sizes and digests of what
 * comes after them; so room is left for them, exactly, and filled in at the end. A descriptor's
 * sizes may need fewer digits than there is room for: blanks after its last element take up the
 * rest. An output that cannot go back takes two rounds: the first one, whose bytes go nowhere,
 * tells the sizes and digests to the second; the archive is the same.
 */
#include <inttypes.h>
#include <stdio.h>
#include <string.h>
#include "bundle/manifest.h"
#include "bundle/ovf/ovf.h"
#include "bundle/ovf/write.h"
#include "bundle/sign.h"
#include "io/digest.h"
#include "util/num.h"

struct part {
	char *name;
	uint64_t at; /* in the archive */
	size_t len;  /* of the room */
};

struct ovf_sink {
	struct vmimg_bundle_sink sink;
	const struct vmimg_ovf_dialect *dialect;
	struct vmimg_io *io;
	struct vmimg_siblings *siblings;  /* of a folder; NULL: an archive */
	const struct ovf_sink *rehearsed; /* NULL: sizes and digests are found out */
	struct vmimg_tar_writer *tar;
	struct vmimg_machine machine; /* the caller's, with drives of our own */
	struct vmimg_pool pool;
	struct vmimg_options disk_options;
	const char *hash;
	struct vmimg_signer *signer; /* NULL: unsigned */
	const char *certificate;
	struct part descriptor, manifest, cert;
	char (*digests)[2 * VMIMG_HASH_MAX + 1]; /* of the drives' files */
	struct vmimg_hash *state;
	struct vmimg_io *inner;   /* of the file being written, in a folder */
	struct vmimg_io *current; /* what the caller writes to */
};

static struct ovf_sink *sink_of(struct vmimg_bundle_sink *sink)
{
	return (struct ovf_sink *)sink;
}

/* ---- texts ------------------------------------------------------------------------------- */

/* The manifest's text, with the digest of the descriptor (NULL: as many digits). */
static char *manifest_text(
	struct ovf_sink *s, const char *descriptor, size_t *len, struct vmimg_error *err)
{
	char *text = NULL;
	FILE *to = open_memstream(&text, len);
	bool failed = !to;

	for (size_t i = 0; !failed && i <= s->machine.drive_count; i++) {
		const struct vmimg_drive *drive = i ? &s->machine.drives[i - 1] : NULL;
		VMIMG_AUTO(free) char *line = NULL;

		if (drive && !drive->file)
			continue;
		line = vmimg_manifest_line(s->hash, drive ? drive->file : s->descriptor.name,
			drive ? s->digests[i - 1] : descriptor, err);
		failed = !line || fputs(line, to) < 0;
	}
	if (to && fclose(to))
		failed = true;
	if (failed) {
		free(text);
		vmimg_fail_nomem(err);
		return NULL;
	}
	return text;
}

static char *cert_text(struct ovf_sink *s, const char *manifest, size_t manifest_len, size_t *len,
	struct vmimg_error *err)
{
	return vmimg_manifest_sign(s->signer, s->hash, s->manifest.name, manifest, manifest_len,
		s->certificate, len, err);
}

/* ---- drives ------------------------------------------------------------------------------ */

static int ovf_begin(struct vmimg_bundle_sink *sink, size_t i, uint64_t size, struct vmimg_io **io,
	struct vmimg_error *err)
{
	struct ovf_sink *s = sink_of(sink);
	const char *name = s->machine.drives[i].file;
	uint64_t at = 0;

	if (s->rehearsed)
		size = s->rehearsed->machine.drives[i].file_size;
	if (s->siblings)
		s->inner = s->siblings->create(s->siblings, name, err);
	else if (!vmimg_tar_begin(s->tar, name, size, &at, err))
		s->inner = vmimg_io_ref(s->io);
	if (!s->inner)
		return -1;
	s->current = vmimg_digest_open(s->inner, at, s->state, name, err);
	if (!s->current)
		return -1;
	*io = s->current;
	return 0;
}

static int ovf_end(
	struct vmimg_bundle_sink *sink, size_t i, uint64_t populated, struct vmimg_error *err)
{
	struct ovf_sink *s = sink_of(sink);
	struct vmimg_drive *drive = &s->machine.drives[i];
	uint8_t digest[VMIMG_HASH_MAX];

	drive->file_size = vmimg_io_size(s->current);
	drive->populated = drive->kind == VMIMG_DRIVE_DISK ? populated : 0;
	vmimg_hex(s->digests[i], digest, vmimg_hash_final(s->state, digest));
	vmimg_io_unref(vmimg_take(s->current));
	vmimg_io_unref(vmimg_take(s->inner));
	return s->tar ? vmimg_tar_end(s->tar, drive->file_size, err) : 0;
}

/* ---- the end ----------------------------------------------------------------------------- */

/* Puts text where room was left, or into a file of its own. */
static int fill_part(struct ovf_sink *s, struct part *part, const char *text, size_t len,
	struct vmimg_error *err)
{
	VMIMG_AUTO(vmimg_io_unref) struct vmimg_io *io = NULL;

	if (s->tar && len != part->len)
		return vmimg_fail(err, VMIMG_EINVAL, "%s has %zu bytes, and %zu were left for it",
			part->name, len, part->len);
	io = s->tar || part == &s->descriptor ? vmimg_io_ref(s->io)
					      : s->siblings->create(s->siblings, part->name, err);
	return io ? vmimg_io_pwrite(io, text, len, part->at, err) : -1;
}

/* Filled up to room bytes where there is room; *len is its length, hex its digest. */
static char *descriptor_text(struct ovf_sink *s, size_t room, size_t *len,
	char hex[2 * VMIMG_HASH_MAX + 1], struct vmimg_error *err)
{
	VMIMG_AUTO(free) char *text = vmimg_ovf_write(&s->machine, s->dialect, len, err);
	uint8_t digest[VMIMG_HASH_MAX];
	char *padded;

	if (!text)
		return NULL;
	room = vmimg_max(room, *len);
	padded = vmimg_alloc_array(1, room, err);
	if (!padded)
		return NULL;
	memset(padded, ' ', room);
	memcpy(padded, text, *len);
	if (room > *len) {
		padded[*len - 1] = ' ';
		padded[room - 1] = '\n';
	}
	*len = room;
	vmimg_hash_update(s->state, padded, room);
	vmimg_hex(hex, digest, vmimg_hash_final(s->state, digest));
	return padded;
}

/* The three texts, each given to put. */
static int put_texts(struct ovf_sink *s,
	int (*put)(
		struct ovf_sink *, struct part *, const char *text, size_t, struct vmimg_error *),
	size_t room, struct vmimg_error *err)
{
	char hex[2 * VMIMG_HASH_MAX + 1];
	VMIMG_AUTO(free) char *descriptor = NULL;
	VMIMG_AUTO(free) char *manifest = NULL;
	VMIMG_AUTO(free) char *cert = NULL;
	size_t len, manifest_len, cert_len;

	if (!(descriptor = descriptor_text(s, room, &len, hex, err)) ||
		put(s, &s->descriptor, descriptor, len, err) ||
		!(manifest = manifest_text(s, hex, &manifest_len, err)) ||
		put(s, &s->manifest, manifest, manifest_len, err))
		return -1;
	if (!s->signer)
		return 0;
	cert = cert_text(s, manifest, manifest_len, &cert_len, err);
	return cert ? put(s, &s->cert, cert, cert_len, err) : -1;
}

/* What was said of the drives' files before they were written has to be true. */
static int compare_drives(const struct ovf_sink *s, struct vmimg_error *err)
{
	const struct ovf_sink *before = s->rehearsed;

	for (size_t i = 0; i < s->machine.drive_count; i++)
		if (strcmp(s->digests[i], before->digests[i]) ||
			s->machine.drives[i].populated != before->machine.drives[i].populated)
			return vmimg_fail(err, VMIMG_EINVAL,
				"a disk changed while it was packed: %s has another digest now",
				s->machine.drives[i].file);
	return 0;
}

static int ovf_finish(struct vmimg_bundle_sink *sink, struct vmimg_error *err)
{
	struct ovf_sink *s = sink_of(sink);
	size_t room = s->tar ? s->descriptor.len : 0;

	if (s->rehearsed ? compare_drives(s, err) : put_texts(s, fill_part, room, err))
		return -1;
	return s->tar ? vmimg_tar_finish(s->tar, err) : 0;
}

static void ovf_sink_close(struct vmimg_bundle_sink *sink)
{
	struct ovf_sink *s = sink_of(sink);

	vmimg_io_unref(s->current);
	vmimg_io_unref(s->inner);
	vmimg_io_unref(s->io);
	vmimg_tar_writer_free(s->tar);
	vmimg_hash_free(s->state);
	vmimg_signer_free(s->signer);
	vmimg_options_done(&s->disk_options);
	vmimg_pool_done(&s->pool);
	free(s->machine.drives);
	free(s->digests);
	free(s->descriptor.name);
	free(s->manifest.name);
	free(s->cert.name);
	free(s);
}

static const struct vmimg_bundle_sink_ops ovf_sink_ops = {
	.begin = ovf_begin,
	.end = ovf_end,
	.finish = ovf_finish,
	.close = ovf_sink_close,
};

/* ---- the beginning ----------------------------------------------------------------------- */

static int set_name(
	struct part *part, const char *name, const char *suffix, struct vmimg_error *err)
{
	if (asprintf(&part->name, "%s.%s", name, suffix) >= 0)
		return 0;
	part->name = NULL;
	return vmimg_fail_nomem(err);
}

/* A member whose bytes are put there later. */
static int leave_room(struct ovf_sink *s, struct part *part, const char *text, size_t len,
	struct vmimg_error *err)
{
	(void)text;
	part->len = len;
	if (vmimg_tar_begin(s->tar, part->name, len, &part->at, err) ||
		vmimg_io_zero(s->io, part->at, len, err))
		return -1;
	return vmimg_tar_end(s->tar, len, err);
}

static int put_member(struct ovf_sink *s, struct part *part, const char *text, size_t len,
	struct vmimg_error *err)
{
	return vmimg_tar_put(s->tar, part->name, text, len, err);
}

/* How long each text will be, found by making it with the widest numbers. */
static int leave_rooms(struct ovf_sink *s, struct vmimg_error *err)
{
	uint8_t digest[VMIMG_HASH_MAX] = { 0 };
	size_t digest_len = vmimg_hash_final(s->state, digest);

	for (size_t i = 0; i < s->machine.drive_count; i++) {
		s->machine.drives[i].file_size = VMIMG_OVF_SIZE_WIDEST;
		s->machine.drives[i].populated = VMIMG_OVF_SIZE_WIDEST;
		vmimg_hex(s->digests[i], digest, digest_len);
	}
	return put_texts(s, leave_room, 0, err);
}

/* The texts as they came out of the first round. */
static int write_rehearsed(struct ovf_sink *s, struct vmimg_error *err)
{
	for (size_t i = 0; i < s->machine.drive_count; i++) {
		s->machine.drives[i].file_size = s->rehearsed->machine.drives[i].file_size;
		s->machine.drives[i].populated = s->rehearsed->machine.drives[i].populated;
		memcpy(s->digests[i], s->rehearsed->digests[i], sizeof(s->digests[i]));
	}
	return put_texts(s, put_member, s->rehearsed->descriptor.len, err);
}

/* Our own copy of the drives, each with the name of its file. */
static int take_drives(
	struct ovf_sink *s, const struct vmimg_bundle_create *create, struct vmimg_error *err)
{
	size_t count = create->machine->drive_count;
	unsigned disks = 0;

	s->machine = *create->machine;
	s->machine.drives = vmimg_alloc_array(count + 1, sizeof(struct vmimg_drive), err);
	s->digests = vmimg_alloc_array(count + 1, sizeof(*s->digests), err);
	if (!s->machine.drives || !s->digests)
		return -1;
	for (size_t i = 0; i < count; i++) {
		struct vmimg_drive *drive = &s->machine.drives[i];

		*drive = create->machine->drives[i];
		drive->format = "vmdk";
		if (drive->kind == VMIMG_DRIVE_DISK)
			drive->file = vmimg_pool_printf(
				&s->pool, err, "%s-disk%u.vmdk", create->name, ++disks);
		if (!drive->file)
			return -1;
	}
	return 0;
}

static int fill_sink(struct ovf_sink *s, const struct vmimg_bundle_create *create, bool archive,
	struct vmimg_error *err)
{
	s->sink.ops = &ovf_sink_ops;
	s->sink.disk_format = "vmdk";
	s->sink.options = &s->disk_options;
	s->io = vmimg_io_ref(create->io);
	s->siblings = archive ? NULL : create->siblings;
	s->rehearsed = (const struct ovf_sink *)create->rehearsed;
	s->dialect = vmimg_ovf_dialect(create->target);
	s->certificate = create->certificate;
	if (!s->dialect)
		return vmimg_fail(err, VMIMG_EINVAL, "%s is no target of OVF", create->target);
	s->hash = create->hash ? create->hash : s->dialect->hash;
	s->state = vmimg_hash_new(s->hash, err);
	if (!s->state || vmimg_options_set(&s->disk_options, "subformat", "streamOptimized", err) ||
		take_drives(s, create, err) || set_name(&s->descriptor, create->name, "ovf", err) ||
		set_name(&s->manifest, create->name, "mf", err) ||
		set_name(&s->cert, create->name, "cert", err))
		return -1;
	if (create->key) {
		s->signer = vmimg_signer_new(create->key, create->certificate, s->hash, err);
		if (!s->signer)
			return -1;
	}
	if (!archive)
		return 0;
	s->tar = vmimg_tar_writer_new(s->io, create->epoch, err);
	if (!s->tar)
		return -1;
	return s->rehearsed ? write_rehearsed(s, err) : leave_rooms(s, err);
}

static struct vmimg_bundle_sink *make(
	const struct vmimg_bundle_create *create, bool archive, struct vmimg_error *err)
{
	struct ovf_sink *s;

	if (archive && create->io->in_order && !create->rehearsed) {
		vmimg_fail(err, VMIMG_EINVAL,
			"an OVA says the sizes and digests of its files before them: to an output "
			"that cannot go back it is written after a rehearsal");
		return NULL;
	}
	s = vmimg_new(struct ovf_sink, err);
	if (s && fill_sink(s, create, archive, err)) {
		ovf_sink_close(&s->sink);
		return NULL;
	}
	return s ? &s->sink : NULL;
}

struct vmimg_bundle_sink *vmimg_ova_create(
	const struct vmimg_bundle_create *create, struct vmimg_error *err)
{
	return make(create, true, err);
}

struct vmimg_bundle_sink *vmimg_ovf_create(
	const struct vmimg_bundle_create *create, struct vmimg_error *err)
{
	return make(create, false, err);
}
