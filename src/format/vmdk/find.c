/* SPDX-License-Identifier: Apache-2.0 */
/* From an extent file to the descriptor that names it. People convert disk-flat.vmdk or
 * disk-s001.vmdk when they mean disk.vmdk. */
#include <ctype.h>
#include <strings.h>
#include "format/vmdk/vmdk.h"
#include "io/file.h"
#include "util/num.h"

struct search {
	struct vmimg_disk *disk;
	const struct vmimg_resolver *resolver;
	const char *wanted; /* the extent's name, without folders */
	struct vmimg_io *found;
};

static const char *last_component(const char *path)
{
	const char *slash = strrchr(path, '/');

	return slash ? slash + 1 : path;
}

bool vmimg_vmdk_is_part_name(const struct vmimg_io *io)
{
	static const char *const words[] = { "-flat", "-delta", "-sesparse", "-rdm", "-rdmp" };
	const char *path = vmimg_file_path(io);
	const char *dot = path ? strrchr(path, '.') : NULL;
	size_t len;

	if (!dot)
		return false;
	len = (size_t)(dot - path);
	for (unsigned i = 0; i < VMIMG_ARRAY_LEN(words); i++) {
		size_t word = strlen(words[i]);

		if (len > word && !strncasecmp(dot - word, words[i], word))
			return true;
	}
	while (len && isdigit((unsigned char)path[len - 1]))
		len--;
	return dot - path - (ptrdiff_t)len >= 3 && len > 2 && path[len - 2] == '-' &&
		(path[len - 1] == 's' || path[len - 1] == 'f');
}

static bool names_it(const struct vmdk_descriptor *d, const char *wanted)
{
	for (size_t i = 0; i < d->line_count; i++)
		if (d->lines[i].name && !strcmp(last_component(d->lines[i].name), wanted))
			return true;
	return false;
}

/* Whether io is a descriptor with the wanted name in it. What cannot be read is not. */
static bool is_it(struct vmimg_io *io, const char *wanted)
{
	struct vmdk_descriptor d;
	struct vmimg_error unused;
	enum vmdk_file_kind kind;
	uint64_t size = vmimg_io_size(io);
	VMIMG_AUTO(free) char *text = NULL;
	bool found;

	if (size > VMDK_MAX_DESCRIPTOR || vmimg_vmdk_file_kind(io, &kind, &unused) ||
		kind != VMDK_FILE_TEXT)
		return false;
	text = vmimg_alloc_array((size_t)size + 1, 1, &unused);
	if (!text || vmimg_io_pread(io, text, (size_t)size, 0, &unused) ||
		vmimg_vmdk_descriptor_parse(&d, text, (size_t)size, &unused))
		return false;
	found = names_it(&d, wanted);
	vmimg_vmdk_descriptor_done(&d);
	return found;
}

static bool try_one(void *ctx, const char *name)
{
	struct search *s = ctx;
	struct vmimg_reference ref = { .kind = "descriptor", .name = name, .format = "vmdk" };
	struct vmimg_error unused;
	struct vmimg_io *io = s->resolver->open(s->resolver, &ref, s->disk->io, &unused);

	if (io && !vmimg_io_same(io, s->disk->io) && is_it(io, s->wanted)) {
		s->found = io;
		return true;
	}
	vmimg_io_unref(io);
	return false;
}

struct vmimg_io *vmimg_vmdk_find_descriptor(
	struct vmimg_disk *disk, const struct vmimg_open *options)
{
	const char *path = vmimg_file_path(disk->io);
	struct search s = { .disk = disk, .resolver = options->resolver };
	struct vmimg_error unused;

	if (!path || !s.resolver || !s.resolver->search)
		return NULL;
	s.wanted = last_component(path);
	if (s.resolver->search(s.resolver, ".vmdk", disk->io, try_one, &s, &unused))
		return NULL;
	return s.found;
}
