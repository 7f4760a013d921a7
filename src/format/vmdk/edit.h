/* SPDX-License-Identifier: Apache-2.0 */
/* Changing a VMDK in place: edit.c decides, edit_sparse.c and edit_text.c do. */
#pragma once
#include "disk/edit.h"
#include "format/vmdk/vmdk.h"

/* Bytes of the largest grain table of a hosted extent, and of every one that is added. */
#define VMIMG_VMDK_TABLE_MOST 2048U

/* The text, NUL-terminated, of a descriptor with one extent, for a disk of so many sectors. The
 * caller frees it. */
char *vmimg_vmdk_resized_text(const struct vmdk_descriptor *d, const char *text, uint64_t sectors,
	struct vmimg_error *err) VMIMG_CHECKED;
/* A sparse extent with its descriptor inside. text: the new descriptor. */
int vmimg_vmdk_resize_sparse(struct vmimg_io *io, const struct vmdk_grains *g, const char *text,
	uint64_t size, struct vmimg_error *err) VMIMG_CHECKED;
