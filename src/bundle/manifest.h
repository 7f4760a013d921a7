/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Manifests: a line "SHA256(name)= hex" for each file. Read with any blanks and line ends that are
 * about; written as OVF says, to the letter. A certificate file begins with such a line, for the
 * manifest, whose digits are a signature.
 */
#pragma once
#include <stdbool.h>
#include "bundle/sign.h"
#include "io/io.h"
#include "util/hash.h"
#include "util/pool.h"

struct vmimg_manifest_line {
	const char *hash; /* as OpenSSL names it: "sha256" */
	const char *name;
	const char *hex; /* lower case */
	unsigned number; /* of the line, from 1 */
};

struct vmimg_manifest {
	struct vmimg_pool pool;
	struct vmimg_manifest_line *lines;
	size_t count, cap;
	size_t end; /* where in the text the first line lies that is none of these */
};

/* Reads lines until the text ends or, with one set, after one line. What is not such a line is
 * VMIMG_ECORRUPT. */
int vmimg_manifest_parse(struct vmimg_manifest *manifest, const char *text, size_t len, bool one,
	struct vmimg_error *err) VMIMG_CHECKED;
void vmimg_manifest_done(struct vmimg_manifest *manifest);
/* The line of that file; NULL: none. */
const struct vmimg_manifest_line *vmimg_manifest_find(
	const struct vmimg_manifest *manifest, const char *name);
/* "SHA256(name)= hex\n", to be freed. */
char *vmimg_manifest_line(
	const char *hash, const char *name, const char *hex, struct vmimg_error *err) VMIMG_CHECKED;
/* A certificate file: the signature of manifest, len bytes of it, and certificate, a PEM text. To
 * be freed. */
char *vmimg_manifest_sign(struct vmimg_signer *signer, const char *hash, const char *name,
	const char *manifest, size_t len, const char *certificate, size_t *text_len,
	struct vmimg_error *err) VMIMG_CHECKED;
/* The digest of all bytes of io, in hexadecimal. */
int vmimg_manifest_digest(struct vmimg_io *io, const char *hash, char hex[2 * VMIMG_HASH_MAX + 1],
	struct vmimg_error *err) VMIMG_CHECKED;
