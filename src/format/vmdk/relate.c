/* SPDX-License-Identifier: Apache-2.0 */
/* Parents and settings: keys of the descriptor. */
#include <ctype.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>
#include <strings.h>
#include "format/vmdk/edit.h"
#include "format/vmdk/write.h"
#include "util/guid.h"
#include "util/num.h"

/* What a descriptor says under that key; hexadecimal numbers as they are written here. */
static const char *value_of(const struct vmdk_descriptor *d, const char *key, char number[9])
{
	if (!strncasecmp(key, "ddb.", 4))
		return vmimg_vmdk_ddb(d, key);
	if (!strcmp(key, "parentFileNameHint"))
		return d->parent_hint;
	snprintf(number, 9, "%08" PRIx32, strcmp(key, "CID") ? d->parent_cid : d->cid);
	return number;
}

/* A text may be written in a way that its readers understand and whoever changes it here does not:
 * then a key that seems to be changed still says what it did. */
static int check_keys(
	const char *text, const struct vmdk_key *keys, size_t count, struct vmimg_error *err)
{
	struct vmdk_descriptor d;
	const char *wrong = NULL;

	if (vmimg_vmdk_descriptor_parse(&d, text, strlen(text), err))
		return vmimg_within(err, "as it would be");
	for (size_t i = 0; i < count; i++) {
		char number[9];
		const char *now = value_of(&d, keys[i].key, number), *value = keys[i].value;

		if (now && value ? strcmp(now, value) != 0 : now || value)
			wrong = keys[i].key;
	}
	vmimg_vmdk_descriptor_done(&d);
	return wrong ? vmimg_fail(err, VMIMG_EUNSUPPORTED,
			       "the descriptor is written in a way in which %.40s cannot be "
			       "changed: convert it",
			       wrong)
		     : 0;
}

static int put_keys(
	struct vmimg_disk *disk, const struct vmdk_key *keys, size_t count, struct vmimg_error *err)
{
	VMIMG_AUTO(free) char *text = vmimg_vmdk_read_text(disk, err);
	VMIMG_AUTO(free)
	char *now = text ? vmimg_vmdk_keyed_text(text, keys, count, err) : NULL;

	return now && !check_keys(now, keys, count, err) ? vmimg_vmdk_put_text(disk, now, err) : -1;
}

static int check_change(const struct vmimg_disk *disk, struct vmimg_error *err)
{
	const struct vmdk *v = vmdk_of(disk);

	if (!v->has_descriptor || v->header_differs)
		return vmimg_fail(err, VMIMG_EUNSUPPORTED, "it has no descriptor that fits it");
	if (disk->io->is_device)
		return vmimg_fail(err, VMIMG_EUNSUPPORTED, "it lies on a device");
	for (size_t i = 0; i < v->extent_count; i++)
		if (v->extents[i].io == disk->io && vmimg_vmdk_check_kind(&v->extents[i].g, err))
			return -1;
	return vmimg_vmdk_check_descriptor(disk, err);
}

/* ---- parents ---- */

int vmimg_vmdk_check_name(
	const struct vmdk_descriptor *d, const char *name, struct vmimg_error *err)
{
	const char *p = name;

	if (strpbrk(name, "\"\r\n"))
		return vmimg_fail(err, VMIMG_EINVAL,
			"the name has a quote or a line end, which a descriptor cannot hold");
	while (*p && isascii((unsigned char)*p))
		p++;
	if (!*p || !d->encoding || !strcasecmp(d->encoding, "UTF-8"))
		return 0;
	return vmimg_fail(err, VMIMG_EUNSUPPORTED,
		"the descriptor's encoding is %.40s, and the name is not plain ASCII", d->encoding);
}

static int check_parent(
	const struct vmimg_disk *disk, const struct vmimg_parent *parent, struct vmimg_error *err)
{
	const struct vmdk *v = vmdk_of(disk);
	const char *format = parent->disk ? parent->disk->format->name : parent->format;

	if (format && strcmp(format, "vmdk"))
		return vmimg_fail(
			err, VMIMG_EINVAL, "the parent of a VMDK is a VMDK, not %.20s", format);
	if (!parent->disk && v->descriptor.parent_cid == VMDK_NO_PARENT)
		return vmimg_fail(err, VMIMG_EINVAL,
			"the parent has to be opened: its CID is written into the disk");
	for (size_t i = 0; i < v->extent_count; i++)
		if (!v->extents[i].sparse)
			return vmimg_fail(err, VMIMG_EUNSUPPORTED,
				"a plain extent has all its content, so no parent can show "
				"through");
	return vmimg_vmdk_check_name(&v->descriptor, parent->name, err)
		? vmimg_within(err, "parent")
		: 0;
}

int vmimg_vmdk_set_parent(
	struct vmimg_disk *disk, const struct vmimg_parent *parent, struct vmimg_error *err)
{
	const struct vmdk_descriptor *d = &vmdk_of(disk)->descriptor;
	struct vmimg_identity identity = { .cid = d->parent_cid };
	char cid[9] = "ffffffff";
	struct vmdk_key keys[] = { { "parentCID", cid, true },
		{ "parentFileNameHint", parent ? parent->name : NULL, false } };

	if (!parent && d->parent_cid == VMDK_NO_PARENT && !d->parent_hint)
		return 0;
	if (check_change(disk, err) || (parent && check_parent(disk, parent, err)))
		return -1;
	if (parent && parent->disk)
		parent->disk->format->identity(parent->disk, &identity);
	if (parent)
		snprintf(cid, sizeof(cid), "%08" PRIx32, identity.cid);
	if (parent && identity.cid == VMDK_NO_PARENT)
		return vmimg_fail(err, VMIMG_EINVAL, "the parent has no CID to be known by");
	return put_keys(disk, keys, VMIMG_ARRAY_LEN(keys), err);
}

/* ---- identities ---- */

/* The CID, by which children know what they were made on, and the long content ID that ends in it.
 */
int vmimg_vmdk_change_cid(struct vmimg_disk *disk, uint64_t content, struct vmimg_error *err)
{
	const struct vmdk_descriptor *d = &vmdk_of(disk)->descriptor;
	const char *old = vmimg_vmdk_ddb(d, "ddb.longContentID");
	char cid[9], id[2 * VMIMG_GUID_SIZE + 1];
	struct vmdk_key keys[] = { { "CID", cid, true }, { "ddb.longContentID", id, false } };
	struct vmimg_guid guid;
	uint32_t new;

	if (!vmdk_of(disk)->has_descriptor)
		return 0;
	if (vmimg_guid_make(&guid, false, content ^ d->cid * UINT64_C(0x9e3779b97f4a7c15),
		    "vmdk content", err))
		return -1;
	new = vmimg_get_be32(guid.bytes + 12) % UINT32_C(0xfffffffd) + 1;
	new = new == d->cid ? new ^ 1 : new;
	vmimg_put_be32(guid.bytes + 12, new);
	snprintf(cid, sizeof(cid), "%08" PRIx32, new);
	for (size_t i = 0; i < VMIMG_GUID_SIZE; i++)
		snprintf(id + 2 * i, 3, "%02x", guid.bytes[i]);
	return put_keys(disk, keys, old ? 2 : 1, err);
}

/* ---- settings ---- */

const struct vmimg_option_spec vmimg_vmdk_set_options[] = {
	{ "adapter", VMIMG_OPTION_CHOICE, "ide|lsilogic|buslogic|legacyESX",
		"adapter that the disk hangs on" },
	{ "hwversion", VMIMG_OPTION_TEXT, NULL, "version of the virtual hardware" },
	{ "toolsVersion", VMIMG_OPTION_TEXT, NULL, "version of VMware Tools" },
	{ "uuid", VMIMG_OPTION_TEXT, NULL, "UUID of the disk, 32 hexadecimal digits; or new" },
	{ "cid", VMIMG_OPTION_TEXT, NULL,
		"content ID, by which children know it, 8 hexadecimal digits; or new" },
	{ "geometry", VMIMG_OPTION_TEXT, NULL, "cylinders/heads/sectors" },
	{ "ddb.*", VMIMG_OPTION_TEXT, NULL,
		"a key of the disk data base as it stands there; empty: it goes" },
	{ 0 },
};

struct settings {
	struct vmdk_key *keys;
	size_t count;
	char uuid[3 * VMIMG_GUID_SIZE + 1], cid[9], id[2 * VMIMG_GUID_SIZE + 1];
	char geometry[3][12];
};

static void add(struct settings *s, const char *key, const char *value, bool bare)
{
	if (value)
		s->keys[s->count++] = (struct vmdk_key){ key, value, bare };
}

static int add_version(
	struct settings *s, const char *key, const char *value, struct vmimg_error *err)
{
	for (const char *p = value; p && *p; p++)
		if (!isalnum((unsigned char)*p) && *p != '.')
			return vmimg_fail(err, VMIMG_EINVAL, "'%.40s' is not a version", value);
	add(s, key, value, false);
	return 0;
}

/* Identities given, or made. */
static int add_identities(struct settings *s, const struct vmdk_descriptor *d,
	const struct vmimg_options *options, struct vmimg_error *err)
{
	const char *cid = vmimg_options_text(options, "cid", NULL);
	const char *uuid = vmimg_options_text(options, "uuid", NULL);
	const char *old = vmimg_vmdk_ddb(d, "ddb.longContentID");
	struct vmdk_settings made = { .unique = true };

	if (vmimg_vmdk_given_identities(&made, cid && strcmp(cid, "new") ? cid : NULL,
		    uuid && strcmp(uuid, "new") ? uuid : NULL, err) ||
		vmimg_vmdk_identify(&made, 0, err))
		return -1;
	vmimg_vmdk_uuid_text(s->uuid, &made.uuid);
	snprintf(s->cid, sizeof(s->cid), "%08" PRIx32, made.cid);
	add(s, "ddb.uuid", uuid ? s->uuid : NULL, false);
	add(s, "CID", cid ? s->cid : NULL, true);
	for (size_t i = 0; i < VMIMG_GUID_SIZE; i++)
		snprintf(s->id + 2 * i, 3, "%02x", made.long_id.bytes[i]);
	add(s, "ddb.longContentID", cid && old ? s->id : NULL, false);
	return 0;
}

static int add_geometry(struct settings *s, const char *text, struct vmimg_error *err)
{
	static const char *const keys[] = { "ddb.geometry.cylinders", "ddb.geometry.heads",
		"ddb.geometry.sectors" };
	unsigned numbers[3] = { 0 };
	char more;

	if (!text)
		return 0;
	if (sscanf(text, "%9u/%3u/%3u%c", &numbers[0], &numbers[1], &numbers[2], &more) != 3 ||
		!numbers[0] || !numbers[1] || !numbers[2])
		return vmimg_fail(err, VMIMG_EINVAL,
			"geometry is cylinders/heads/sectors, not '%.40s'", text);
	for (size_t i = 0; i < VMIMG_ARRAY_LEN(keys); i++) {
		snprintf(s->geometry[i], sizeof(s->geometry[i]), "%u", numbers[i]);
		add(s, keys[i], s->geometry[i], false);
	}
	return 0;
}

/* Keys as a user wrote them. */
static int add_ddb(struct settings *s, const struct vmimg_options *options, struct vmimg_error *err)
{
	for (size_t i = 0; i < options->count; i++) {
		const char *key = options->items[i].key, *value = options->items[i].value;

		if (strncmp(key, "ddb.", 4) ||
			value != vmimg_options_text(options, key, NULL)) /* a later one wins */
			continue;
		for (const char *p = key; *p; p++)
			if (!isalnum((unsigned char)*p) && !strchr("._-", *p))
				return vmimg_fail(err, VMIMG_EINVAL,
					"'%.40s' is no key of a descriptor", key);
		if (strpbrk(value, "\"\r\n"))
			return vmimg_fail(err, VMIMG_EINVAL,
				"%.40s: a descriptor cannot hold quotes and line ends", key);
		s->keys[s->count++] = (struct vmdk_key){ key, *value ? value : NULL, false };
	}
	return 0;
}

int vmimg_vmdk_set(
	struct vmimg_disk *disk, const struct vmimg_options *options, struct vmimg_error *err)
{
	const struct vmdk_descriptor *d = &vmdk_of(disk)->descriptor;
	/* beside what the user wrote, each once: the identities and the geometry */
	VMIMG_AUTO(free)
	struct vmdk_key *keys = vmimg_alloc_array(options->count + 10, sizeof(*keys), err);
	struct settings s = { .keys = keys };

	if (!keys || check_change(disk, err) || add_ddb(&s, options, err) ||
		add_version(&s, "ddb.virtualHWVersion",
			vmimg_options_text(options, "hwversion", NULL), err) ||
		add_version(&s, "ddb.toolsVersion",
			vmimg_options_text(options, "toolsVersion", NULL), err) ||
		add_identities(&s, d, options, err) ||
		add_geometry(&s, vmimg_options_text(options, "geometry", NULL), err))
		return -1;
	add(&s, "ddb.adapterType", vmimg_options_text(options, "adapter", NULL), false);
	return put_keys(disk, s.keys, s.count, err);
}
