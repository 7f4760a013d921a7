/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Disks that exist in no file: what an image is to be given, as a disk that a conversion can read.
 * Each answers in its map with what is to be written, and ABSENT for what shall stay; its parent
 * has the content that the image has now, for granules of which only a part is to be written.
 * Everything is borrowed; there is nothing to close.
 */
#pragma once
#include "disk/disk.h"
#include "io/stage.h"

/* A view over disk: of its size, with its content as parent. */
void vmimg_view_init(struct vmimg_disk *view, const struct vmimg_format *format,
	struct vmimg_disk *disk, void *state);

/* For commit: what the layers from top down to, and without, base hold together. */
struct vmimg_layers {
	struct vmimg_disk disk;
	struct vmimg_disk *top, *base;
};
void vmimg_layers_init(
	struct vmimg_layers *layers, struct vmimg_disk *top, struct vmimg_disk *base);

/* For rebase: what top itself lacks, as its parents have it, where parent (NULL: nothing but
 * zeroes) may have something else. */
struct vmimg_below {
	struct vmimg_disk disk;
	struct vmimg_disk *top, *parent;
};
void vmimg_below_init(struct vmimg_below *below, struct vmimg_disk *top, struct vmimg_disk *parent);

/* For a disk that is written into another one from at on: there it is all of it, elsewhere nothing.
 * It ends inside. */
struct vmimg_laid {
	struct vmimg_disk disk;
	struct vmimg_disk *source;
	uint64_t at;
};
void vmimg_laid_init(
	struct vmimg_laid *laid, struct vmimg_disk *disk, struct vmimg_disk *source, uint64_t at);

/* For single changes: the pages that have been written to stage (io/stage.h), which lies over what
 * the guest sees of disk. */
struct vmimg_patched {
	struct vmimg_disk disk;
	struct vmimg_io *stage;
};
void vmimg_patched_init(
	struct vmimg_patched *patched, struct vmimg_disk *disk, struct vmimg_io *stage);
