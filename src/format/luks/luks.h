/* SPDX-License-Identifier: Apache-2.0 */
/* LUKS as an image: the header, and behind it a raw disk, encrypted. doc/formats/luks.md */
#pragma once
#include "disk/disk.h"
#include "disk/luks.h"
#include "disk/sink.h"

struct vmimg_luks_image {
	struct vmimg_luks luks;
	uint64_t payload;            /* where the disk begins in the file */
	struct vmimg_cipher *cipher; /* NULL: no secret was given */
};

/* sink.c */
struct vmimg_sink *vmimg_luks_create(struct vmimg_io *io, const struct vmimg_create *create,
	struct vmimg_error *err) VMIMG_CHECKED;
int vmimg_luks_measure(const struct vmimg_create *create, uint64_t data, uint64_t *bytes,
	struct vmimg_error *err) VMIMG_CHECKED;
extern const struct vmimg_option_spec vmimg_luks_options[];
