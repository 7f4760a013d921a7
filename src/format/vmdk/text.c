/* SPDX-License-Identifier: Apache-2.0 */
/* Writing descriptors, and naming the files of disks that have several. */
#include <inttypes.h>
#include <stdio.h>
#include <string.h>
#include <strings.h>
#include "format/vmdk/write.h"
#include "util/num.h"

struct geometry {
	uint64_t cylinders;
	unsigned heads, sectors;
};

/* IDE: 16 heads, and no more cylinders than the standard has. SCSI: what VMware's adapters report
 * for that size. */
static struct geometry geometry_of(const struct vmdk_settings *s)
{
	const uint64_t gib = (UINT64_C(1) << 30) / VMDK_SECTOR;
	bool ide = !strcmp(s->adapter, "ide");
	struct geometry g = { .heads = 255, .sectors = 63 };

	if (ide)
		g.heads = 16;
	else if (s->sectors <= 2 * gib)
		g = (struct geometry){ .heads = s->sectors <= gib ? 64 : 128, .sectors = 32 };
	g.cylinders = s->sectors / (g.heads * g.sectors);
	g.cylinders = vmimg_max(g.cylinders, 1);
	if (ide)
		g.cylinders = vmimg_min(g.cylinders, 16383);
	return g;
}

void vmimg_vmdk_uuid_text(char text[3 * VMIMG_GUID_SIZE + 1], const struct vmimg_guid *uuid)
{
	for (size_t i = 0; i < VMIMG_GUID_SIZE; i++)
		text += sprintf(text, "%s%02x", !i ? "" : i == 8 ? "-" : " ", uuid->bytes[i]);
}

static void print_head(FILE *out, const struct vmdk_settings *s)
{
	fprintf(out,
		"# Disk DescriptorFile\nversion=1\nencoding=\"UTF-8\"\nCID=%08" PRIx32
		"\nparentCID=%08" PRIx32 "\ncreateType=\"%s\"\n",
		s->cid, s->parent_cid, s->create_type);
	if (s->parent_hint)
		fprintf(out, "parentFileNameHint=\"%s\"\n", s->parent_hint);
}

static void print_lines(FILE *out, const struct vmdk_line *lines, size_t count)
{
	fputs("\n# Extent description\n", out);
	for (size_t i = 0; i < count; i++)
		fprintf(out, "%s %" PRIu64 " %s \"%s\"%s\n",
			lines[i].access == VMDK_RDONLY ? "RDONLY" : "RW", lines[i].sectors,
			lines[i].word, lines[i].name, strcmp(lines[i].word, "FLAT") ? "" : " 0");
}

static void print_ddb(FILE *out, const struct vmdk_settings *s)
{
	struct geometry g = geometry_of(s);
	char uuid[3 * VMIMG_GUID_SIZE + 1];

	vmimg_vmdk_uuid_text(uuid, &s->uuid);
	fprintf(out,
		"\n# The Disk Data Base\n#DDB\n\nddb.adapterType = \"%s\"\n"
		"ddb.geometry.cylinders = \"%" PRIu64 "\"\nddb.geometry.heads = \"%u\"\n"
		"ddb.geometry.sectors = \"%u\"\nddb.longContentID = \"",
		s->adapter, g.cylinders, g.heads, g.sectors);
	for (unsigned i = 0; i < VMIMG_GUID_SIZE; i++)
		fprintf(out, "%02x", s->long_id.bytes[i]);
	fprintf(out,
		"\"\nddb.toolsVersion = \"%s\"\nddb.uuid = \"%s\"\n"
		"ddb.virtualHWVersion = \"%s\"\n",
		s->tools_version, uuid, s->hw_version);
}

char *vmimg_vmdk_text(const struct vmdk_settings *s, const struct vmdk_line *lines, size_t count,
	struct vmimg_error *err)
{
	char *text = NULL;
	size_t len;
	FILE *out = open_memstream(&text, &len);

	if (out) {
		print_head(out, s);
		print_lines(out, lines, count);
		print_ddb(out, s);
		if (!fclose(out) && text)
			return text;
	}
	free(text);
	vmimg_fail_nomem(err);
	return NULL;
}

int vmimg_vmdk_write_text(struct vmimg_io *io, const struct vmdk_settings *s,
	const struct vmdk_line *lines, size_t count, struct vmimg_error *err)
{
	VMIMG_AUTO(free) char *text = vmimg_vmdk_text(s, lines, count, err);

	return text ? vmimg_io_pwrite(io, text, strlen(text), 0, err) : -1;
}

int vmimg_vmdk_embed_text(struct vmimg_io *io, const struct vmdk_settings *s,
	const struct vmdk_line *line, struct vmimg_error *err)
{
	VMIMG_AUTO(free) char *text = vmimg_vmdk_text(s, line, 1, err);
	char room[VMDK_DESCRIPTOR_SECTORS * VMDK_SECTOR] = { 0 };
	size_t len;

	if (!text)
		return -1;
	len = strlen(text);
	if (len >= sizeof(room))
		return vmimg_fail(err, VMIMG_ELIMIT,
			"the descriptor takes %zu bytes, there is room for %zu: use shorter names",
			len, sizeof(room) - 1);
	memcpy(room, text, len);
	return vmimg_io_pwrite(io, room, sizeof(room), VMDK_SECTOR, err);
}

/* ---- names ---- */

static int make_name(struct vmdk_line *line, const struct vmdk_settings *s, const char *main_name,
	size_t number, struct vmimg_error *err)
{
	size_t len = strlen(main_name);
	bool split = s->subformat == VMDK_SPLIT_SPARSE || s->subformat == VMDK_SPLIT_FLAT;
	char tail[40];

	if (len > 5 && !strcasecmp(main_name + len - 5, ".vmdk"))
		len -= 5;
	if (split)
		snprintf(tail, sizeof(tail), "-%c%03zu.vmdk",
			s->subformat == VMDK_SPLIT_SPARSE ? 's' : 'f', number + 1);
	else
		snprintf(tail, sizeof(tail), "-flat.vmdk");
	if (asprintf(&line->name, "%.*s%s", (int)len, main_name, tail) < 0) {
		line->name = NULL;
		return vmimg_fail_nomem(err);
	}
	return 0;
}

void vmimg_vmdk_lines_free(struct vmdk_line *lines, size_t count)
{
	for (size_t i = 0; lines && i < count; i++)
		free(lines[i].name);
	free(lines);
}

struct vmdk_line *vmimg_vmdk_plan(const struct vmdk_settings *s, const char *main_name,
	size_t *count, struct vmimg_error *err)
{
	bool split = s->subformat == VMDK_SPLIT_SPARSE || s->subformat == VMDK_SPLIT_FLAT;
	uint64_t each = split ? VMDK_SPLIT_SECTORS : vmimg_max(s->sectors, 1);
	uint64_t number = vmimg_max(vmimg_div_up(s->sectors, each), 1), left = s->sectors;
	struct vmdk_line *lines;

	if (number > VMDK_MAX_EXTENTS) {
		vmimg_fail(err, VMIMG_ELIMIT, "%" PRIu64 " extents of 2 GiB, of at most %d", number,
			VMDK_MAX_EXTENTS);
		return NULL;
	}
	if (strpbrk(main_name, "\"\r\n")) {
		vmimg_fail(err, VMIMG_EINVAL,
			"the output's name has a quote or a line end, which a descriptor cannot "
			"hold");
		return NULL;
	}
	lines = vmimg_alloc_array((size_t)number, sizeof(*lines), err);
	for (size_t i = 0; lines && i < number; i++) {
		lines[i].sectors = vmimg_min(left, each);
		lines[i].word = s->subformat == VMDK_VMFS   ? "VMFS"
			: s->subformat == VMDK_SPLIT_SPARSE ? "SPARSE"
							    : "FLAT";
		left -= lines[i].sectors;
		if (make_name(&lines[i], s, main_name, i, err)) {
			vmimg_vmdk_lines_free(lines, (size_t)number);
			return NULL;
		}
	}
	*count = (size_t)number;
	return lines;
}
