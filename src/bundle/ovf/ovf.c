/* SPDX-License-Identifier: Apache-2.0 */
/* The two kinds of bundle in this room: a descriptor with its files in an archive, or beside it. */
#include <stdio.h>
#include <string.h>
#include <strings.h>
#include "bundle/ovf/ovf.h"
#include "disk/info.h"
#include "io/file.h"
#include "util/limits.h"
#include "util/num.h"
#include "util/text.h"

static bool ends_in(const char *name, const char *suffix)
{
	size_t len = strlen(name), tail = strlen(suffix);

	return len > tail && !strcasecmp(name + len - tail, suffix);
}

/* The descriptor of an archive: the first member whose name ends in .ovf. */
static const struct vmimg_tar_member *find_descriptor(const struct vmimg_tar *tar)
{
	for (size_t i = 0; i < vmimg_tar_count(tar); i++) {
		const struct vmimg_tar_member *member = vmimg_tar_member(tar, i);

		if (member->kind == VMIMG_TAR_FILE && ends_in(member->name, ".ovf"))
			return member;
	}
	return NULL;
}

static int ova_probe(const struct vmimg_bundle_probe *probe)
{
	return probe->tar && find_descriptor(probe->tar) ? 90 : 0;
}

static int ovf_probe(const struct vmimg_bundle_probe *probe)
{
	/* of UTF-16: the byte order mark, or "<" without one */
	static const uint8_t marks[][2] = { { 0xff, 0xfe }, { 0xfe, 0xff }, { '<', 0 },
		{ 0, '<' } };
	char root[64];

	if (probe->tar || probe->head_len < 2)
		return 0;
	for (size_t i = 0; i < VMIMG_ARRAY_LEN(marks); i++)
		if (!memcmp(probe->head, marks[i], 2) && ends_in(probe->name, ".ovf"))
			return 80;
	if (!vmimg_xml_root_name(probe->head, probe->head_len, root, sizeof(root)))
		return ends_in(probe->name, ".ovf") && !memcmp(probe->head, "<?", 2) ? 40 : 0;
	if (!strcmp(root, "Envelope"))
		return 90;
	if (!strcmp(root, "!DOCTYPE") &&
		memmem(probe->head, probe->head_len, "Envelope", strlen("Envelope")))
		return 60;
	return ends_in(probe->name, ".ovf") ? 50 : 0;
}

static int parse(struct vmimg_bundle *bundle, struct vmimg_ovf *ovf, struct vmimg_error *err)
{
	uint64_t size = vmimg_io_size(ovf->io);
	VMIMG_AUTO(free) char *text = NULL;

	if (size > VMIMG_MAX_XML)
		return vmimg_fail(err, VMIMG_ELIMIT,
			"the descriptor has %llu bytes, of which %d are read",
			(unsigned long long)size, VMIMG_MAX_XML);
	text = vmimg_alloc_array(1, size + 1, err);
	if (!text || vmimg_io_pread(ovf->io, text, size, 0, err))
		return -1;
	while (size && !text[size - 1]) /* padding */
		size--;
	if (size % 2 && (!memcmp(text, "\xff\xfe", 2) || !memcmp(text, "<\0", 2)))
		size++; /* half of UTF-16's last character */
	ovf->xml = vmimg_xml_parse(text, size, ovf->name, err);
	return ovf->xml ? vmimg_ovf_read(bundle, err) : -1;
}

static int ova_open(struct vmimg_bundle *bundle, struct vmimg_error *err)
{
	struct vmimg_ovf *ovf = vmimg_new(struct vmimg_ovf, err);
	const struct vmimg_tar_member *member = find_descriptor(bundle->tar);

	bundle->state = ovf;
	if (!ovf)
		return -1;
	ovf->name = member->name;
	ovf->io = vmimg_tar_open_member(bundle->tar, member, err);
	return ovf->io ? parse(bundle, ovf, err) : -1;
}

static int ovf_open(struct vmimg_bundle *bundle, struct vmimg_error *err)
{
	struct vmimg_ovf *ovf = vmimg_new(struct vmimg_ovf, err);
	const char *path = vmimg_file_path(bundle->io);
	const char *slash = path ? strrchr(path, '/') : NULL;

	bundle->state = ovf;
	if (!ovf)
		return -1;
	ovf->name = vmimg_pool_text(&bundle->pool,
		slash          ? slash + 1
			: path ? path
			       : "descriptor.ovf",
		err);
	ovf->io = vmimg_io_ref(bundle->io);
	return ovf->name ? parse(bundle, ovf, err) : -1;
}

static void close_state(struct vmimg_bundle *bundle)
{
	struct vmimg_ovf *ovf = bundle->state;

	if (!ovf)
		return;
	vmimg_xml_free(ovf->xml);
	vmimg_io_unref(ovf->io);
	free(ovf->files);
	free(ovf->disks);
	free(ovf);
}

/* ---- describe ---------------------------------------------------------------------------- */

static json_t *file_json(const struct vmimg_ovf_file *file)
{
	json_t *object = json_object();
	struct vmimg_error why;
	bool allowed = !vmimg_ovf_check_href(file->href, &why);

	json_object_set_new(object, "kind", json_string("file"));
	vmimg_json_text(object, "id", file->id);
	vmimg_json_text(object, "filename", file->href);
	if (file->size != VMIMG_NONE)
		vmimg_json_uint(object, "size", file->size);
	vmimg_json_text(object, "compression", file->compression);
	if (file->chunk_size)
		vmimg_json_uint(object, "chunk-size", file->chunk_size);
	vmimg_json_bool(object, "allowed", allowed);
	if (!allowed)
		vmimg_json_text(object, "reason", why.text);
	return object;
}

static int describe(struct vmimg_bundle *bundle, json_t *root, struct vmimg_error *err)
{
	const struct vmimg_ovf *ovf = bundle->state;
	json_t *files = json_array();

	(void)err;
	vmimg_json_text(root, "descriptor", ovf->name);
	vmimg_json_text(root, "ovf-version", ovf->version);
	for (size_t i = 0; i < ovf->file_count; i++)
		json_array_append_new(files, file_json(&ovf->files[i]));
	json_object_set_new(root, "references", files);
	return 0;
}

const struct vmimg_bundle_format vmimg_bundle_ova = {
	.name = "ova",
	.title = "an OVA archive",
	.suffixes = "ova",
	.probe = ova_probe,
	.open = ova_open,
	.close = close_state,
	.drive = vmimg_ovf_drive,
	.describe = describe,
	.verify = vmimg_ovf_verify,
	.create = vmimg_ova_create,
	.rehearses = true,
};

const struct vmimg_bundle_format vmimg_bundle_ovf = {
	.name = "ovf",
	.title = "an OVF descriptor",
	.suffixes = "ovf",
	.probe = ovf_probe,
	.open = ovf_open,
	.close = close_state,
	.drive = vmimg_ovf_drive,
	.describe = describe,
	.verify = vmimg_ovf_verify,
	.create = vmimg_ovf_create,
};
