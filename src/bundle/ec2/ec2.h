/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Bundles of EC2 and of those who spoke its language (Eucalyptus, Nova): a manifest, and parts that
 * joined are AES-128-CBC of gzip of a tar archive with one image in it. Private to this room.
 */
#pragma once
#include "bundle/bundle.h"
#include "bundle/xml.h"
#include "util/hash.h"
#include "util/secret.h"

#define VMIMG_EC2_SHA1      20
#define VMIMG_EC2_PART_SIZE (UINT64_C(10) << 20)

struct vmimg_ec2_part {
	const char *file;
	uint8_t digest[VMIMG_EC2_SHA1];
	bool given;
};

/* What the manifest says; texts are the bundle's pool's, NULL where there is none. */
struct vmimg_ec2 {
	char *text; /* of the manifest */
	size_t len;
	struct vmimg_xml *xml;
	const char *version, *bundler, *bundler_version;
	const char *architecture, *kernel_id, *ramdisk_id;
	const char *name, *user, *type, *kernel_name;
	uint8_t digest[VMIMG_EC2_SHA1]; /* of the tar archive */
	uint64_t size, bundled_size;
	const char *user_key, *user_iv, *ec2_key, *ec2_iv, *signature;
	struct vmimg_ec2_part *parts;
	size_t part_count;
};

/* Fills bundle->state, which is a struct vmimg_ec2, from its text. */
int vmimg_ec2_parse(struct vmimg_bundle *bundle, struct vmimg_error *err) VMIMG_CHECKED;
/* The texts of a list of elements, as a JSON array; NULL: none. */
json_t *vmimg_ec2_list(const xmlNode *parent, const char *item, struct vmimg_bundle *bundle);
/* Whether the signature is one by the certificate's key over machine_configuration and image. */
int vmimg_ec2_check_signature(const struct vmimg_ec2 *ec2, const char *certificate, bool *good,
	struct vmimg_error *err) VMIMG_CHECKED;
/* Opens all parts and compares sizes and digests; findings may be NULL: then the first wrong one is
 * an error. */
int vmimg_ec2_check_parts(
	struct vmimg_bundle *bundle, json_t *findings, struct vmimg_error *err) VMIMG_CHECKED;
/* The image: parts checked, decrypted by bundle->key, unpacked into an unnamed temporary file. */
struct vmimg_io *vmimg_ec2_image(
	struct vmimg_bundle *bundle, struct vmimg_error *err) VMIMG_CHECKED;
