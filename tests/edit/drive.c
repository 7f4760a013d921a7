/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The operations of disk/edit.h from the command line, one at a time:
 *
 *     edit-drive IMAGE update SOURCE FORMAT   what SOURCE's top layer holds, over IMAGE's content
 *     edit-drive IMAGE update-same …          the same, promising that the guest sees no difference
 *     edit-drive IMAGE empty
 *     edit-drive IMAGE parent [NAME [FORMAT]]
 *     edit-drive IMAGE squeeze
 */
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include "disk/edit.h"
#include "engine/convert.h"
#include "io/file.h"

static struct vmimg_disk *open_disk(
	const char *path, const char *format, bool writable, bool alone, struct vmimg_error *err)
{
	struct vmimg_open options = {
		.format = format, .resolver = vmimg_resolver_any(), .alone = alone
	};
	VMIMG_AUTO(vmimg_io_unref) struct vmimg_io *io = vmimg_file_open(path, writable, err);

	return io ? vmimg_disk_open(io, &options, err) : NULL;
}

static int update(struct vmimg_disk *disk, bool same, char **words, struct vmimg_error *err)
{
	struct vmimg_update how = { .same_content = same };
	VMIMG_AUTO(vmimg_disk_close)
	struct vmimg_disk *source = open_disk(words[0], words[1], false, false, err);
	VMIMG_AUTO(vmimg_sink_close) struct vmimg_sink *sink = NULL;
	struct vmimg_convert convert = { .disk = source, .layer = true };
	struct vmimg_converted done;

	if (!source || !(sink = disk->format->edit->update(disk, &how, err)))
		return -1;
	convert.sink = sink;
	return vmimg_convert_run(&convert, &done, err);
}

static int parent(struct vmimg_disk *disk, char **words, int count, struct vmimg_error *err)
{
	struct vmimg_parent parent = { .name = count > 0 ? words[0] : NULL,
		.format = count > 1 ? words[1] : NULL };

	if (!disk->format->edit->set_parent)
		return vmimg_fail(err, VMIMG_EUNSUPPORTED, "no set_parent");
	return disk->format->edit->set_parent(disk, count ? &parent : NULL, err);
}

static int act(
	struct vmimg_disk *disk, const char *verb, char **words, int count, struct vmimg_error *err)
{
	const struct vmimg_edit_ops *edit = disk->format->edit;
	uint64_t saved = 0;
	int result;

	if (!strncmp(verb, "update", 6) && count == 2)
		return update(disk, verb[6], words, err);
	if (!strcmp(verb, "empty"))
		return edit->empty(disk, err);
	if (!strcmp(verb, "parent"))
		return parent(disk, words, count, err);
	if (strcmp(verb, "squeeze"))
		return vmimg_fail(err, VMIMG_EINVAL, "what is %s?", verb);
	result = edit->squeeze(disk, &saved, err);
	printf("%" PRIu64 "\n", saved);
	return result;
}

int main(int argc, char **argv)
{
	struct vmimg_error err = { 0 };
	VMIMG_AUTO(vmimg_disk_close) struct vmimg_disk *disk = NULL;

	if (argc < 3)
		return 2;
	disk = open_disk(argv[1], NULL, true, !strcmp(argv[2], "parent"), &err);
	if (disk && !act(disk, argv[2], argv + 3, argc - 3, &err))
		return 0;
	fprintf(stderr, "%s\n", err.text);
	return 1;
}
