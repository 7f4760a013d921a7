/* SPDX-License-Identifier: Apache-2.0 */
/* From words to the disk that is read. */
#include "cli/sources.h"
#include <inttypes.h>
#include <string.h>
#include "disk/join.h"
#include "util/num.h"

void cli_sources_close(struct cli_sources *sources)
{
	vmimg_disk_close(sources->joined);
	for (size_t i = 0; i < sources->count; i++)
		cli_image_close(&sources->images[i]);
	free(sources->images);
	*sources = (struct cli_sources){ 0 };
}

/* So that no output takes the place of any. */
static int share_files(struct cli_files *all, const struct cli_files *more, struct vmimg_error *err)
{
	if (vmimg_grow_array(
		    &all->ids, &all->cap, all->count + more->count, sizeof(*all->ids), err))
		return -1;
	if (more->count)
		memcpy(all->ids + all->count, more->ids, more->count * sizeof(*more->ids));
	all->count += more->count;
	return 0;
}

/* Cuts [*skip, *skip + *left) out of what a part covers, and takes its length from both. */
static void cut(struct vmimg_part *part, uint64_t *skip, uint64_t *left)
{
	uint64_t step = vmimg_min(*skip, part->len);

	part->start = step;
	part->len = vmimg_min(part->len - step, *left);
	*skip -= step;
	*left -= part->len;
}

static int join(
	struct cli_sources *sources, const struct cli_window *window, struct vmimg_error *err)
{
	VMIMG_AUTO(free)
	struct vmimg_part *parts = vmimg_alloc_array(sources->count + 1, sizeof(*parts), err);
	size_t count = 0;
	uint64_t skip = window->skip,
		 left = window->length.given ? window->length.bytes : UINT64_MAX;

	if (!parts)
		return -1;
	if (window->pad)
		parts[count++] = (struct vmimg_part){ .len = window->pad };
	for (size_t i = 0; i < sources->count; i++, count++) {
		struct vmimg_disk *disk = sources->images[i].disk;

		parts[count] = (struct vmimg_part){ .disk = disk, .len = disk->size };
		cut(&parts[count], &skip, &left);
	}
	if (skip && window->strict)
		return vmimg_fail(err, VMIMG_EINVAL,
			"byte %" PRIu64 " is past the end of %.80s, which has %" PRIu64 " bytes",
			window->skip, vmimg_io_name(sources->images[0].disk->io),
			window->skip - skip);
	sources->joined = vmimg_disk_join(parts, count, err);
	return sources->joined ? 0 : -1;
}

int cli_sources_open(struct cli_sources *sources, const char *const *paths, size_t count,
	const struct cli_window *window, const struct cli_common *common,
	const struct cli_open *how, struct vmimg_error *err)
{
	sources->images = vmimg_alloc_array(count, sizeof(*sources->images), err);
	if (!sources->images)
		return -1;
	for (size_t i = 0; i < count; i++) {
		struct cli_image *image = &sources->images[i];

		sources->count++;
		if (cli_image_open(image, paths[i], common, how, err) ||
			(i && share_files(&sources->images[0].files, &image->files, err)))
			return -1;
	}
	return count > 1 || window->pad || window->skip || window->length.given
		? join(sources, window, err)
		: 0;
}
