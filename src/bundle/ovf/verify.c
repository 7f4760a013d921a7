/* SPDX-License-Identifier: Apache-2.0 */
/* Every line of the manifest against its file, every file against the manifest, and the signature
 * over the manifest. All of it is reported: the first fault does not hide the second. */
#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>
#include <strings.h>
#include "bundle/manifest.h"
#include "bundle/ovf/ovf.h"
#include "bundle/sign.h"
#include "disk/info.h"
#include "util/limits.h"
#include "util/num.h"
#include "util/text.h"

/* Of an archive with sparse members so much is hashed, and as many times its size as deflate packs.
 */
#define MAX_HASHED (UINT64_C(1) << 30)
#define MAX_RATIO  1032U

struct verification {
	struct vmimg_bundle *bundle;
	struct vmimg_ovf *ovf;
	json_t *findings;
	const char *manifest_name;
	char *text; /* of the manifest */
	size_t len;
	struct vmimg_manifest manifest;
	uint64_t hashed; /* bytes so far */
	size_t names;    /* of files that are to be listed */
};

static json_t *add(struct verification *v, const char *file, const char *status, const char *text)
{
	json_t *finding = json_object();

	vmimg_json_text(finding, "file", file);
	json_object_set_new(finding, "status", json_string(status));
	vmimg_json_text(finding, "text", text);
	json_array_append_new(v->findings, finding);
	return finding;
}

/* ---- finding the files ------------------------------------------------------------------- */

static bool ends_in(const char *name, const char *suffix)
{
	size_t len = strlen(name), tail = strlen(suffix);

	return len > tail && !strcasecmp(name + len - tail, suffix);
}

/* The member of an archive that has that suffix: the one named like the descriptor, or any. */
static const char *find_member(const struct vmimg_tar *tar, const char *wanted, const char *suffix)
{
	const char *other = NULL;

	if (vmimg_tar_find(tar, wanted))
		return wanted;
	for (size_t i = 0; i < vmimg_tar_count(tar); i++) {
		const struct vmimg_tar_member *member = vmimg_tar_member(tar, i);

		if (member->kind == VMIMG_TAR_FILE && ends_in(member->name, suffix))
			other = member->name;
	}
	return other;
}

/* The descriptor's name with another suffix, in the bundle's pool. */
static const char *sibling_name(struct verification *v, const char *suffix, struct vmimg_error *err)
{
	const char *name = v->ovf->name, *dot = strrchr(name, '.');
	int stem = (int)(dot ? (size_t)(dot - name) : strlen(name));

	return vmimg_pool_printf(&v->bundle->pool, err, "%.*s%s", stem, name, suffix);
}

/* Text of the file with that suffix. *text = NULL: there is none. One that is there and cannot be
 * read is no reason to do without it. */
static int read_sibling(struct verification *v, const char *suffix, const char **name, char **text,
	size_t *len, struct vmimg_error *err)
{
	const char *wanted = sibling_name(v, suffix, err);
	VMIMG_AUTO(vmimg_io_unref) struct vmimg_io *io = NULL;
	char *bytes;

	*text = NULL;
	if (!wanted)
		return -1;
	if (v->bundle->tar)
		wanted = find_member(v->bundle->tar, wanted, suffix);
	if (!wanted)
		return 0;
	io = vmimg_ovf_open_name(v->bundle, wanted, err);
	if (!io)
		return err->status == VMIMG_ESYSTEM && err->sys == ENOENT ? 0 : -1;
	if (vmimg_io_size(io) > VMIMG_MAX_XML)
		return vmimg_fail(err, VMIMG_ELIMIT,
			"%s has %" PRIu64 " bytes, of which %d are read", vmimg_io_name(io),
			vmimg_io_size(io), VMIMG_MAX_XML);
	*len = (size_t)vmimg_io_size(io);
	bytes = vmimg_alloc_array(1, *len + 1, err);
	if (!bytes || vmimg_io_pread(io, bytes, *len, 0, err)) {
		free(bytes);
		return -1;
	}
	*name = wanted;
	*text = bytes;
	return 0;
}

/* ---- each file once ---------------------------------------------------------------------- */

struct named {
	const char *name; /* of the file: what it is opened by */
	const struct vmimg_manifest_line *line;
};

static int compare_named(const void *a, const void *b)
{
	const struct named *x = a, *y = b;
	int order = strcmp(x->name, y->name);

	return order ? order : strcmp(x->line->hash, y->line->hash);
}

/* Ten thousand lines could ask for the same terabyte, and say different things of it. */
static int check_once(struct verification *v, struct vmimg_error *err)
{
	size_t count = v->manifest.count;
	VMIMG_AUTO(free) struct named *named = vmimg_alloc_array(count, sizeof(*named), err);
	char shown[100];

	if (!named)
		return -1;
	for (size_t i = 0; i < count; i++) {
		const char *name = v->manifest.lines[i].name;

		while (!strncmp(name, "./", 2))
			name += 2;
		named[i].line = &v->manifest.lines[i];
		named[i].name = vmimg_ovf_decode_href(&v->bundle->pool, name, err);
		if (!named[i].name)
			return -1;
	}
	qsort(named, count, sizeof(*named), compare_named);
	for (size_t i = 1; i < count; i++)
		if (!compare_named(&named[i - 1], &named[i]))
			return vmimg_fail(err, VMIMG_ECORRUPT,
				"manifest, line %u: %s is listed twice", named[i].line->number,
				vmimg_escape(shown, sizeof(shown), named[i].name,
					strlen(named[i].name)));
	return 0;
}

/* ---- digests ----------------------------------------------------------------------------- */

static struct vmimg_io *open_listed(
	struct verification *v, const char *name, struct vmimg_error *err)
{
	if (!strcmp(name, v->ovf->name))
		return vmimg_io_ref(v->ovf->io);
	return vmimg_ovf_open_name(v->bundle, name, err);
}

/* What a sparse member has to be hashed for is not in the archive. */
static int count_hashed(struct verification *v, struct vmimg_io *io, struct vmimg_error *err)
{
	uint64_t size = vmimg_io_size(io), most;

	if (!v->bundle->tar)
		return 0;
	if (!vmimg_mul(vmimg_io_size(v->bundle->io), MAX_RATIO, &most))
		most = UINT64_MAX;
	most = vmimg_max(most, MAX_HASHED);
	if (size <= most && v->hashed <= most - size) {
		v->hashed += size;
		return 0;
	}
	return vmimg_fail(err, VMIMG_ELIMIT,
		"%s, of %" PRIu64 " bytes in an archive of %" PRIu64 ", is not gone through",
		vmimg_io_name(io), size, vmimg_io_size(v->bundle->io));
}

static int check_line(
	struct verification *v, const struct vmimg_manifest_line *line, struct vmimg_error *err)
{
	VMIMG_AUTO(vmimg_io_unref) struct vmimg_io *io = open_listed(v, line->name, err);
	char hex[2 * VMIMG_HASH_MAX + 1], text[400];
	json_t *finding;

	if (!io && err->status != VMIMG_ESYSTEM && err->status != VMIMG_ECORRUPT)
		return -1;
	if (!io) {
		add(v, line->name, "missing", "the manifest lists it, and it is not there");
		return 0;
	}
	if (count_hashed(v, io, err) || vmimg_manifest_digest(io, line->hash, hex, err))
		return -1;
	if (!strcmp(hex, line->hex)) {
		finding = add(v, line->name, "ok", NULL);
	} else {
		snprintf(text, sizeof(text), "its %s is %s, and the manifest says %s", line->hash,
			hex, line->hex);
		finding = add(v, line->name, "mismatch", text);
	}
	vmimg_json_text(finding, "algorithm", line->hash);
	return 0;
}

/* Manifests name files as they are called, descriptors as URIs. */
static bool is_listed(struct verification *v, const char *href)
{
	struct vmimg_error none;
	const char *decoded = vmimg_ovf_decode_href(&v->bundle->pool, href, &none);

	return vmimg_manifest_find(&v->manifest, href) ||
		(decoded && vmimg_manifest_find(&v->manifest, decoded));
}

static int check_name(struct verification *v, const char *name, struct vmimg_error *err)
{
	if (!name)
		return -1;
	if (v->names++ > VMIMG_MAX_OVF_ITEMS) /* and the descriptor */
		return vmimg_fail(err, VMIMG_ELIMIT, "more than %d files", VMIMG_MAX_OVF_ITEMS);
	if (!is_listed(v, name))
		add(v, name, "unlisted", "the manifest does not list it");
	return 0;
}

static int check_listed(struct verification *v, struct vmimg_error *err)
{
	if (check_name(v, v->ovf->name, err))
		return -1;
	for (size_t i = 0; i < v->ovf->file_count; i++) {
		const struct vmimg_ovf_file *file = &v->ovf->files[i];
		uint64_t chunks = file->chunk_size && file->size != VMIMG_NONE
			? vmimg_div_up(file->size, file->chunk_size)
			: 0;

		if (!chunks && check_name(v, file->href, err))
			return -1;
		for (uint64_t k = 0; k < chunks; k++)
			if (check_name(v,
				    vmimg_pool_printf(
					    &v->bundle->pool, err, "%s.%09" PRIu64, file->href, k),
				    err))
				return -1;
	}
	return 0;
}

/* Of two members of a name, others may take the one that was not looked at. */
static void check_members(struct verification *v)
{
	for (size_t i = 0; v->bundle->tar && i < vmimg_tar_count(v->bundle->tar); i++) {
		const struct vmimg_tar_member *member = vmimg_tar_member(v->bundle->tar, i);

		if (member->replaced)
			add(v, member->name, "duplicate", "a later member has the same name");
	}
}

/* ---- the signature ----------------------------------------------------------------------- */

static int from_hex(const char *hex, uint8_t **bytes, size_t *len, struct vmimg_error *err)
{
	*len = strlen(hex) / 2;
	*bytes = vmimg_alloc_array(1, *len + 1, err);
	for (size_t i = 0; *bytes && i < *len; i++) {
		char pair[3] = { hex[2 * i], hex[2 * i + 1], '\0' };

		(*bytes)[i] = (uint8_t)strtoul(pair, NULL, 16);
	}
	return *bytes ? 0 : -1;
}

static void tell_signature(
	struct verification *v, const char *name, const struct vmimg_signed *found)
{
	json_t *finding = !found->valid
		? add(v, name, "bad-signature", "the signature is not that of the manifest")
		: !found->chain
		? add(v, name, "bad-chain", "a certificate is not signed by the one after it")
		: add(v, name, "ok", NULL);

	vmimg_json_text(finding, "subject", found->subject);
	vmimg_json_text(finding, "issuer", found->issuer);
	vmimg_json_bool(finding, "self-signed", found->self_signed);
	vmimg_json_bool(finding, "expired", found->expired);
	vmimg_json_bool(finding, "trusted", found->trusted);
}

static int check_signature(struct verification *v, const char *name, const char *text, size_t len,
	struct vmimg_error *err)
{
	struct vmimg_manifest lines = { 0 };
	VMIMG_AUTO(free) uint8_t *signature = NULL;
	struct vmimg_signed found;
	size_t size;
	int failed;

	if (vmimg_manifest_parse(&lines, text, len, true, err) || !lines.count) {
		vmimg_manifest_done(&lines);
		add(v, name, "malformed", "it does not begin with a signature");
		return 0;
	}
	failed = from_hex(lines.lines[0].hex, &signature, &size, err) ||
		vmimg_signature_check(text + lines.end, v->bundle->roots, lines.lines[0].hash,
			v->text, v->len, signature, size, &found, err);
	vmimg_manifest_done(&lines);
	if (failed && err->status == VMIMG_ECORRUPT) {
		add(v, name, "malformed", err->text);
		return 0;
	}
	if (!failed)
		tell_signature(v, name, &found);
	return failed;
}

/* ---- all of it --------------------------------------------------------------------------- */

static int verify(struct verification *v, struct vmimg_error *err)
{
	VMIMG_AUTO(free) char *cert = NULL;
	const char *cert_name;
	size_t cert_len;
	char shown[100];

	if (read_sibling(v, ".mf", &v->manifest_name, &v->text, &v->len, err))
		return -1;
	if (!v->text)
		return vmimg_fail(err, VMIMG_EFORMAT,
			"%s has no manifest (.mf): there is nothing to verify it by",
			vmimg_escape(shown, sizeof(shown), v->ovf->name, strlen(v->ovf->name)));
	if (vmimg_manifest_parse(&v->manifest, v->text, v->len, false, err) || check_once(v, err))
		return -1;
	for (size_t i = 0; i < v->manifest.count; i++)
		if (check_line(v, &v->manifest.lines[i], err))
			return -1;
	check_members(v);
	if (check_listed(v, err) || read_sibling(v, ".cert", &cert_name, &cert, &cert_len, err))
		return -1;
	return cert ? check_signature(v, cert_name, cert, cert_len, err) : 0;
}

int vmimg_ovf_verify(struct vmimg_bundle *bundle, json_t *findings, struct vmimg_error *err)
{
	struct verification v = { .bundle = bundle, .ovf = bundle->state, .findings = findings };
	int failed = verify(&v, err);

	vmimg_manifest_done(&v.manifest);
	free(v.text);
	return failed;
}
