/* SPDX-License-Identifier: Apache-2.0 */
/*
 * One pass over the image: archive, digest, gzip, cipher, parts with their digests. The manifest
 * comes last. Its attributes have single quotes, because Amazon's verifier writes them so before it
 * hashes.
 */
#include <inttypes.h>
#include <stdio.h>
#include <string.h>
#include <sys/random.h>
#include "bundle/cloud.h"
#include "bundle/ec2/ec2.h"
#include "bundle/tar_sparse.h"
#include "codec/gzip.h"
#include "util/num.h"

#define BLOCK  VMIMG_SECRET_BLOCK
#define BUFFER (1U << 20) /* plain bytes that wait for a whole block, and their neighbours */

struct part {
	char hex[2 * VMIMG_EC2_SHA1 + 1];
};

struct writer {
	const struct vmimg_ec2_plan *plan;
	uint8_t key[BLOCK], iv[BLOCK], chain[BLOCK]; /* chain: the last block that was encrypted */
	struct vmimg_hash *archive_hash, *part_hash;
	struct vmimg_io *part; /* being written; NULL: none */
	uint64_t part_size;    /* so far */
	struct part *parts;
	size_t part_count, part_cap;
	uint64_t total;
	uint8_t *buffer;
	size_t waiting; /* bytes in it, always less than a block between calls */
};

/* ---- parts ---- */

static int begin_part(struct writer *w, struct vmimg_error *err)
{
	char name[160];

	snprintf(name, sizeof(name), "%.100s.part.%02zu", w->plan->name, w->part_count);
	if (vmimg_grow_array(&w->parts, &w->part_cap, w->part_count + 1, sizeof(*w->parts), err))
		return -1;
	w->part = w->plan->siblings->create(w->plan->siblings, name, err);
	w->part_size = 0;
	return w->part ? 0 : -1;
}

static void end_part(struct writer *w)
{
	uint8_t digest[VMIMG_HASH_MAX];

	vmimg_hash_final(w->part_hash, digest);
	vmimg_hex(w->parts[w->part_count++].hex, digest, VMIMG_EC2_SHA1);
	vmimg_io_unref(w->part);
	w->part = NULL;
}

static int put_sealed(struct writer *w, const uint8_t *bytes, size_t len, struct vmimg_error *err)
{
	while (len) {
		size_t step;

		if (!w->part && begin_part(w, err))
			return -1;
		step = (size_t)vmimg_min(len, VMIMG_EC2_PART_SIZE - w->part_size);
		if (vmimg_io_pwrite(w->part, bytes, step, w->part_size, err))
			return -1;
		vmimg_hash_update(w->part_hash, bytes, step);
		w->part_size += step;
		w->total += step;
		bytes += step;
		len -= step;
		if (w->part_size == VMIMG_EC2_PART_SIZE)
			end_part(w);
	}
	return 0;
}

/* ---- cipher ---- */

/* Encrypts the whole blocks that wait. */
static int seal(struct writer *w, struct vmimg_error *err)
{
	size_t whole = w->waiting / BLOCK * BLOCK;

	if (!whole)
		return 0;
	if (vmimg_cbc_encrypt(w->key, w->chain, w->buffer, whole, w->buffer, err) ||
		put_sealed(w, w->buffer, whole, err))
		return -1;
	memcpy(w->chain, w->buffer + whole - BLOCK, BLOCK);
	memmove(w->buffer, w->buffer + whole, w->waiting - whole);
	w->waiting -= whole;
	return 0;
}

static int put_packed(void *ctx, const uint8_t *bytes, size_t len, struct vmimg_error *err)
{
	struct writer *w = ctx;

	while (len) {
		size_t step = (size_t)vmimg_min(len, BUFFER - w->waiting);

		memcpy(w->buffer + w->waiting, bytes, step);
		w->waiting += step;
		bytes += step;
		len -= step;
		if (seal(w, err))
			return -1;
	}
	return 0;
}

static int see_plain(void *ctx, const uint8_t *bytes, size_t len, struct vmimg_error *err)
{
	struct writer *w = ctx;

	(void)err;
	vmimg_hash_update(w->archive_hash, bytes, len);
	return 0;
}

/* PKCS #7: always something, a whole block at least where nothing is missing. */
static int pad(struct writer *w, struct vmimg_error *err)
{
	uint8_t padding[BLOCK];
	size_t missing = BLOCK - w->waiting;

	memset(padding, (int)missing, sizeof(padding));
	if (put_packed(w, padding, missing, err))
		return -1;
	if (w->part)
		end_part(w);
	return 0;
}

/* ---- manifest ---- */

static void print_text(FILE *to, const char *text)
{
	for (; *text; text++)
		switch (*text) {
		case '&':
			fputs("&amp;", to);
			break;
		case '<':
			fputs("&lt;", to);
			break;
		case '>':
			fputs("&gt;", to);
			break;
		default:
			putc(*text, to);
		}
}

static void print_element(FILE *to, const char *name, const char *text)
{
	if (!text)
		return;
	fprintf(to, "<%s>", name);
	print_text(to, text);
	fprintf(to, "</%s>", name);
}

static void print_machine(const struct vmimg_ec2_plan *plan, FILE *to)
{
	fputs("<machine_configuration>", to);
	print_element(to, "architecture", plan->architecture);
	if (plan->mapping_count)
		fputs("<block_device_mapping>", to);
	for (size_t i = 0; i < plan->mapping_count; i++) {
		fputs("<mapping>", to);
		print_element(to, "virtual", plan->mappings[i].virtual);
		print_element(to, "device", plan->mappings[i].device);
		fputs("</mapping>", to);
	}
	if (plan->mapping_count)
		fputs("</block_device_mapping>", to);
	print_element(to, "kernel_id", plan->kernel_id);
	print_element(to, "ramdisk_id", plan->ramdisk_id);
	if (plan->product_code_count)
		fputs("<product_codes>", to);
	for (size_t i = 0; i < plan->product_code_count; i++)
		print_element(to, "product_code", plan->product_codes[i]);
	if (plan->product_code_count)
		fputs("</product_codes>", to);
	fputs("</machine_configuration>", to);
}

/* 16 bytes as 32 digits, encrypted, as digits. */
static int print_secret(FILE *to, const char *name, const char *attribute,
	const uint8_t secret[BLOCK], const char *certificate, struct vmimg_error *err)
{
	VMIMG_AUTO(vmimg_key_free) struct vmimg_key *key = vmimg_key_certificate(certificate, err);
	char digits[2 * BLOCK + 1], hex[2 * VMIMG_SECRET_MAX + 1];
	uint8_t sealed[VMIMG_SECRET_MAX];
	size_t len;

	vmimg_hex(digits, secret, BLOCK);
	if (!key || vmimg_key_encrypt(key, (const uint8_t *)digits, 2 * BLOCK, sealed, &len, err))
		return vmimg_within(err, "the certificate");
	fprintf(to, "<%s%s>%s</%s>", name, attribute, vmimg_hex(hex, sealed, len), name);
	return 0;
}

static int print_secrets(const struct writer *w, FILE *to, struct vmimg_error *err)
{
	static const char cipher[] = " algorithm='AES-128-CBC'";
	const char *user = w->plan->certificate;
	const char *cloud = w->plan->cloud_certificate ? w->plan->cloud_certificate : user;

	return print_secret(to, "ec2_encrypted_key", cipher, w->key, cloud, err) ||
			print_secret(to, "user_encrypted_key", cipher, w->key, user, err) ||
			print_secret(to, "ec2_encrypted_iv", "", w->iv, cloud, err) ||
			print_secret(to, "user_encrypted_iv", "", w->iv, user, err)
		? -1
		: 0;
}

static int print_image(const struct writer *w, FILE *to, struct vmimg_error *err)
{
	uint8_t digest[VMIMG_HASH_MAX];
	char hex[2 * VMIMG_EC2_SHA1 + 1], name[160];

	vmimg_hash_final(w->archive_hash, digest);
	fputs("<image>", to);
	print_element(to, "name", w->plan->name);
	print_element(to, "user", w->plan->user);
	print_element(to, "type", w->plan->type);
	fprintf(to,
		"<digest algorithm='SHA1'>%s</digest><size>%" PRIu64 "</size><bundled_size>%" PRIu64
		"</bundled_size>",
		vmimg_hex(hex, digest, VMIMG_EC2_SHA1), vmimg_io_size(w->plan->image), w->total);
	if (print_secrets(w, to, err))
		return -1;
	fprintf(to, "<parts count='%zu'>", w->part_count);
	for (size_t i = 0; i < w->part_count; i++) {
		snprintf(name, sizeof(name), "%.100s.part.%02zu", w->plan->name, i);
		fprintf(to, "<part index='%zu'>", i);
		print_element(to, "filename", name);
		fprintf(to, "<digest algorithm='SHA1'>%s</digest></part>", w->parts[i].hex);
	}
	fputs("</parts></image>", to);
	return 0;
}

/* What is signed: the two elements, one after the other. */
static char *print_signed(const struct writer *w, size_t *len, struct vmimg_error *err)
{
	char *text = NULL;
	FILE *to = open_memstream(&text, len);
	int failed;

	if (!to) {
		vmimg_fail_nomem(err);
		return NULL;
	}
	print_machine(w->plan, to);
	failed = print_image(w, to, err);
	if (fclose(to) && !failed)
		failed = vmimg_fail_nomem(err);
	if (!failed)
		return text;
	free(text);
	return NULL;
}

static int write_manifest(const struct writer *w, struct vmimg_io *io, struct vmimg_error *err)
{
	VMIMG_AUTO(vmimg_key_free) struct vmimg_key *key = vmimg_key_private(w->plan->key, err);
	uint8_t signature[VMIMG_SECRET_MAX];
	char hex[2 * VMIMG_SECRET_MAX + 1];
	VMIMG_AUTO(free) char *body = NULL;
	VMIMG_AUTO(free) char *text = NULL;
	size_t len, signature_len;
	int all;

	if (!key)
		return vmimg_within(err, "the user's key");
	body = print_signed(w, &len, err);
	if (!body || vmimg_key_sign(key, "sha1", body, len, signature, &signature_len, err))
		return -1;
	all = asprintf(&text,
		"<?xml version='1.0'?><manifest><version>2007-10-10</version><bundler><name>vmimg"
		"</name><version>%s</version><release>1</release></bundler>%s<signature>%s"
		"</signature></manifest>",
		vmimg_version(), body, vmimg_hex(hex, signature, signature_len));
	if (all < 0) {
		text = NULL;
		return vmimg_fail_nomem(err);
	}
	return vmimg_io_pwrite(io, text, (size_t)all, 0, err);
}

/* ---- the whole ---- */

static int check_plan(const struct vmimg_ec2_plan *plan, struct vmimg_error *err)
{
	if (strlen(plan->user) != 12 || plan->user[strspn(plan->user, "0123456789")])
		return vmimg_fail(err, VMIMG_EINVAL,
			"the user is an account of 12 digits, without dashes, not '%.40s'",
			plan->user);
	if (strlen(plan->name) > 90 || !vmimg_tar_name_is_safe(plan->name) ||
		strchr(plan->name, '/'))
		return vmimg_fail(
			err, VMIMG_EINVAL, "'%.100s' cannot be a bundle's name", plan->name);
	for (const char *p = plan->name; *p; p++)
		if ((unsigned char)*p < ' ' || *p == 0x7f)
			return vmimg_fail(
				err, VMIMG_EINVAL, "a bundle's name has no control characters");
	return 0;
}

static int prepare(struct writer *w, struct vmimg_error *err)
{
	if (getrandom(w->key, BLOCK, 0) != BLOCK || getrandom(w->iv, BLOCK, 0) != BLOCK)
		return vmimg_fail(err, VMIMG_ESYSTEM, "no random numbers are to be had");
	memcpy(w->chain, w->iv, BLOCK);
	w->archive_hash = vmimg_hash_new("sha1", err);
	w->part_hash = w->archive_hash ? vmimg_hash_new("sha1", err) : NULL;
	w->buffer = w->part_hash ? vmimg_alloc_buffer(BUFFER, err) : NULL;
	return w->buffer ? 0 : -1;
}

static void writer_done(struct writer *w)
{
	vmimg_hash_free(w->archive_hash);
	vmimg_hash_free(w->part_hash);
	vmimg_io_unref(w->part);
	free(w->parts);
	free(w->buffer);
}

int vmimg_ec2_write(const struct vmimg_ec2_plan *plan, struct vmimg_io *io, struct vmimg_error *err)
{
	VMIMG_AUTO(vmimg_pieces_done) struct vmimg_pieces pieces = { 0 };
	VMIMG_AUTO(vmimg_io_unref) struct vmimg_io *archive = NULL;
	struct writer w = { .plan = plan };
	int failed;

	if (check_plan(plan, err) ||
		vmimg_tar_add_sparse(&pieces, plan->name, plan->image, plan->epoch, err) ||
		vmimg_tar_add_end(&pieces, err))
		return -1;
	archive = vmimg_pieces_join(&pieces, "archive", err);
	failed = !archive || prepare(&w, err) ||
		vmimg_gzip_run(archive, put_packed, see_plain, &w, plan->cancel, err) ||
		pad(&w, err) || write_manifest(&w, io, err);
	writer_done(&w);
	return failed ? -1 : 0;
}
