/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The manifest, versions 2007-10-10, 2007-08-29 and 3, which differ in what they may leave out. The
 * names of parts are taken as they are, and so must be names and nothing else.
 */
#include <inttypes.h>
#include <string.h>
#include "bundle/ec2/ec2.h"
#include "disk/info.h"
#include "util/num.h"
#include "util/text.h"

static int fail_field(
	const char *field, const char *value, const char *what, struct vmimg_error *err)
{
	char shown[64];

	return vmimg_fail(err, VMIMG_ECORRUPT, "the manifest's %s is '%s', not %s", field,
		vmimg_escape(
			shown, sizeof(shown), value ? value : "", value ? strnlen(value, 40) : 0),
		what);
}

static bool parse_number(const char *text, uint64_t *value)
{
	uint64_t v = 0;

	if (!text || !*text || text[strspn(text, "0123456789")])
		return false;
	for (; *text; text++)
		if (!vmimg_mul(v, 10, &v) || !vmimg_add(v, (uint64_t)(*text - '0'), &v))
			return false;
	*value = v;
	return true;
}

static int get_number(const xmlNode *parent, const char *name, struct vmimg_pool *pool,
	uint64_t *value, struct vmimg_error *err)
{
	const char *text;

	if (vmimg_xml_child_text(parent, name, pool, &text, err))
		return -1;
	return parse_number(text, value) ? 0 : fail_field(name, text, "a number", err);
}

static int get_digest(const xmlNode *parent, const char *what, struct vmimg_pool *pool,
	uint8_t digest[VMIMG_EC2_SHA1], struct vmimg_error *err)
{
	xmlNode *node = vmimg_xml_child(parent, "digest");
	const char *algorithm = node ? vmimg_xml_attr(node, "algorithm") : NULL, *text;

	if (algorithm && strcmp(algorithm, "SHA1"))
		return vmimg_fail(err, VMIMG_EUNSUPPORTED,
			"the digest of %s is by another algorithm than SHA1", what);
	if (vmimg_xml_child_text(parent, "digest", pool, &text, err))
		return -1;
	return text && vmimg_unhex(text, digest, VMIMG_EC2_SHA1)
		? 0
		: fail_field(what, text, "a SHA1 digest of 40 digits", err);
}

/* ---- parts ---- */

static int check_name(const char *file, struct vmimg_error *err)
{
	char shown[80];

	if (file && vmimg_tar_name_is_safe(file) && !strchr(file, '/'))
		return 0;
	return vmimg_fail(err, VMIMG_EREFUSED,
		"the manifest names a part '%s', which leads out of its folder",
		vmimg_escape(shown, sizeof(shown), file ? file : "", file ? strlen(file) : 0));
}

static int compare_text(const void *a, const void *b)
{
	const char *const *left = a, *const *right = b;

	return strcmp(*left, *right);
}

/* Tens of thousands of parts could be the same file, and be gone through as often. */
static int check_once(const struct vmimg_ec2 *ec2, struct vmimg_error *err)
{
	VMIMG_AUTO(free)
	const char **names = vmimg_alloc_array(ec2->part_count, sizeof(*names), err);
	char shown[80];

	if (!names)
		return -1;
	for (size_t i = 0; i < ec2->part_count; i++)
		names[i] = ec2->parts[i].file;
	qsort(names, ec2->part_count, sizeof(*names), compare_text);
	for (size_t i = 1; i < ec2->part_count; i++)
		if (!strcmp(names[i - 1], names[i]))
			return vmimg_fail(err, VMIMG_ECORRUPT,
				"the manifest names '%s' for two parts",
				vmimg_escape(shown, sizeof(shown), names[i], strlen(names[i])));
	return 0;
}

static int add_part(struct vmimg_ec2 *ec2, const xmlNode *node, struct vmimg_pool *pool,
	struct vmimg_error *err)
{
	struct vmimg_ec2_part *part;
	uint64_t index;
	const char *file;
	char shown[80];

	if (!parse_number(vmimg_xml_attr(node, "index"), &index) || index >= ec2->part_count)
		return fail_field("index of a part", vmimg_xml_attr(node, "index"),
			"a number below their count", err);
	part = &ec2->parts[index];
	if (part->given)
		return vmimg_fail(
			err, VMIMG_ECORRUPT, "the manifest has part %" PRIu64 " twice", index);
	if (vmimg_xml_child_text(node, "filename", pool, &file, err) || check_name(file, err))
		return -1;
	part->file = file;
	part->given = true;
	return get_digest(node, vmimg_escape(shown, sizeof(shown), file, strlen(file)), pool,
		part->digest, err);
}

static int parse_parts(struct vmimg_ec2 *ec2, const xmlNode *image, struct vmimg_pool *pool,
	struct vmimg_error *err)
{
	const xmlNode *parts = vmimg_xml_child(image, "parts");
	uint64_t count, given = 0;

	if (!parts || !parse_number(vmimg_xml_attr(parts, "count"), &count))
		return fail_field("count of parts", parts ? vmimg_xml_attr(parts, "count") : NULL,
			"a number", err);
	for (const xmlNode *n = vmimg_xml_child(parts, "part"); n; n = vmimg_xml_next(n, "part"))
		given++;
	if (!count || given != count)
		return vmimg_fail(err, VMIMG_ECORRUPT,
			"the manifest says that there are %" PRIu64 " parts, and lists %" PRIu64,
			count, given);
	ec2->parts = vmimg_alloc_array((size_t)count, sizeof(*ec2->parts), err);
	if (!ec2->parts)
		return -1;
	ec2->part_count = (size_t)count; /* as many as there are elements: the file bounds it */
	for (const xmlNode *n = vmimg_xml_child(parts, "part"); n; n = vmimg_xml_next(n, "part"))
		if (add_part(ec2, n, pool, err))
			return -1;
	return check_once(ec2, err);
}

/* ---- the whole ---- */

struct field {
	const char *name;
	const char **to;
};

static int get_fields(const xmlNode *parent, const struct field *fields, size_t count,
	struct vmimg_pool *pool, struct vmimg_error *err)
{
	for (size_t i = 0; parent && i < count; i++)
		if (vmimg_xml_child_text(parent, fields[i].name, pool, fields[i].to, err))
			return -1;
	return 0;
}

static int parse_image(struct vmimg_ec2 *ec2, const xmlNode *image, struct vmimg_pool *pool,
	struct vmimg_error *err)
{
	const struct field fields[] = { { "name", &ec2->name }, { "user", &ec2->user },
		{ "type", &ec2->type }, { "kernel_name", &ec2->kernel_name },
		{ "user_encrypted_key", &ec2->user_key }, { "user_encrypted_iv", &ec2->user_iv },
		{ "ec2_encrypted_key", &ec2->ec2_key }, { "ec2_encrypted_iv", &ec2->ec2_iv } };
	const xmlNode *key = vmimg_xml_child(image, "user_encrypted_key");
	const char *algorithm = key ? vmimg_xml_attr(key, "algorithm") : NULL;

	if (algorithm && strcmp(algorithm, "AES-128-CBC"))
		return vmimg_fail(err, VMIMG_EUNSUPPORTED,
			"the image is encrypted by another cipher than AES-128-CBC");
	if (get_fields(image, fields, VMIMG_ARRAY_LEN(fields), pool, err) ||
		get_digest(image, "the image", pool, ec2->digest, err) ||
		get_number(image, "size", pool, &ec2->size, err) ||
		get_number(image, "bundled_size", pool, &ec2->bundled_size, err))
		return -1;
	return parse_parts(ec2, image, pool, err);
}

int vmimg_ec2_parse(struct vmimg_bundle *bundle, struct vmimg_error *err)
{
	static const char *const versions[] = { "2007-10-10", "2007-08-29", "3" };
	struct vmimg_ec2 *ec2 = bundle->state;
	const xmlNode *root, *bundler, *machine, *image;
	struct vmimg_pool *pool = &bundle->pool;
	bool known = false;
	char shown[40];

	ec2->xml = vmimg_xml_parse(ec2->text, ec2->len, "manifest", err);
	if (!ec2->xml)
		return -1;
	root = vmimg_xml_root(ec2->xml);
	bundler = vmimg_xml_child(root, "bundler");
	machine = vmimg_xml_child(root, "machine_configuration");
	image = vmimg_xml_child(root, "image");
	const struct field of_root[] = { { "version", &ec2->version },
		{ "signature", &ec2->signature } };
	const struct field of_bundler[] = { { "name", &ec2->bundler },
		{ "version", &ec2->bundler_version } };
	const struct field of_machine[] = { { "architecture", &ec2->architecture },
		{ "kernel_id", &ec2->kernel_id }, { "ramdisk_id", &ec2->ramdisk_id } };

	if (get_fields(root, of_root, VMIMG_ARRAY_LEN(of_root), pool, err) ||
		get_fields(bundler, of_bundler, VMIMG_ARRAY_LEN(of_bundler), pool, err) ||
		get_fields(machine, of_machine, VMIMG_ARRAY_LEN(of_machine), pool, err))
		return -1;
	for (size_t i = 0; ec2->version && i < VMIMG_ARRAY_LEN(versions); i++)
		known |= !strcmp(ec2->version, versions[i]);
	if (!known)
		return vmimg_fail(err, VMIMG_EUNSUPPORTED,
			"manifests of version %s are not read here",
			ec2->version ? vmimg_escape(shown, sizeof(shown), ec2->version,
					       strlen(ec2->version))
				     : "unknown");
	if (!image)
		return vmimg_fail(err, VMIMG_ECORRUPT, "the manifest has no image");
	return parse_image(ec2, image, pool, err);
}

json_t *vmimg_ec2_list(const xmlNode *parent, const char *item, struct vmimg_bundle *bundle)
{
	json_t *list = json_array();
	struct vmimg_error ignored;

	for (const xmlNode *n = parent ? vmimg_xml_child(parent, item) : NULL; n;
		n = vmimg_xml_next(n, item)) {
		const char *text = vmimg_xml_text(n, &bundle->pool, &ignored);

		if (text)
			json_array_append_new(list, vmimg_json_escaped(text, strlen(text)));
	}
	if (json_array_size(list))
		return list;
	json_decref(list);
	return NULL;
}

/* ---- signature ---- */

/* The element's own bytes in the manifest, from its first "<" to its last ">". */
static const char *element_bytes(const struct vmimg_ec2 *ec2, const char *name, size_t *len)
{
	char open[64], close[64];
	const char *begin, *end;

	snprintf(open, sizeof(open), "<%s>", name);
	snprintf(close, sizeof(close), "</%s>", name);
	begin = strstr(ec2->text, open);
	end = begin ? strstr(begin, close) : NULL;
	*len = end ? (size_t)(end - begin) + strlen(close) : 0;
	return end ? begin : NULL;
}

/* Both elements, nothing between; attributes in that kind of quotes, or as they are when 0.
 * Amazon's own verifier wrote what it had read anew, with single ones. */
static char *signed_bytes(
	const struct vmimg_ec2 *ec2, char quote, size_t *len, struct vmimg_error *err)
{
	size_t machine_len, image_len;
	const char *machine = element_bytes(ec2, "machine_configuration", &machine_len);
	const char *image = element_bytes(ec2, "image", &image_len);
	char *bytes = vmimg_alloc_array(1, machine_len + image_len + 1, err);
	bool inside = false;

	if (!bytes)
		return NULL;
	if (machine)
		memcpy(bytes, machine, machine_len);
	if (image)
		memcpy(bytes + machine_len, image, image_len);
	*len = machine_len + image_len;
	for (char *p = bytes; quote && *p; p++) {
		inside = *p == '<' || (inside && *p != '>');
		if (inside && (*p == '\'' || *p == '"'))
			*p = quote;
	}
	return bytes;
}

/* How often an element of that name begins, under whatever prefix. */
static unsigned count_elements(const char *text, const char *name)
{
	size_t len = strlen(name);
	unsigned count = 0;

	for (const char *p = text; (p = strstr(p, name)); p += len)
		count += p > text && (p[-1] == '<' || p[-1] == ':') && p[len] &&
			strchr(" \t\r\n/>", p[len]);
	return count;
}

/* Whether the bytes that are verified are those that were read. What was signed once could stand in
 * a comment, or in an element that nobody reads, with something else in its place: so there are no
 * comments, and each element is the only one of its name. */
static bool is_what_was_read(const struct vmimg_ec2 *ec2)
{
	static const char *const names[] = { "machine_configuration", "image" };
	const xmlNode *root = vmimg_xml_root(ec2->xml);
	size_t len;

	if (strlen(ec2->text) != ec2->len || strstr(ec2->text, "<!") || strstr(ec2->text + 1, "<?"))
		return false;
	for (size_t i = 0; i < VMIMG_ARRAY_LEN(names); i++) {
		bool there = vmimg_xml_child(root, names[i]) != NULL;

		if (count_elements(ec2->text, names[i]) != there ||
			(there && !element_bytes(ec2, names[i], &len)))
			return false;
	}
	return true;
}

int vmimg_ec2_check_signature(
	const struct vmimg_ec2 *ec2, const char *certificate, bool *good, struct vmimg_error *err)
{
	static const char quotes[] = { 0, '\'', '"' };
	VMIMG_AUTO(vmimg_key_free) struct vmimg_key *key = NULL;
	uint8_t signature[VMIMG_SECRET_MAX];
	size_t hex = ec2->signature ? strlen(ec2->signature) : 0;

	*good = false;
	if (!hex || hex % 2 || hex / 2 > sizeof(signature) ||
		!vmimg_unhex(ec2->signature, signature, hex / 2) || !is_what_was_read(ec2))
		return 0;
	key = vmimg_key_certificate(certificate, err);
	if (!key)
		return -1;
	for (size_t i = 0; i < sizeof(quotes) && !*good; i++) {
		size_t len;
		VMIMG_AUTO(free) char *bytes = signed_bytes(ec2, quotes[i], &len, err);

		if (!bytes ||
			vmimg_key_verify(key, "sha1", bytes, len, signature, hex / 2, good, err))
			return -1;
	}
	return 0;
}
