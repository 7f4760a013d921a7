/* SPDX-License-Identifier: Apache-2.0 */
/* Opening what the user named: a file, a device or standard input, by the policy of the options. */
#pragma once
#include "bundle/bundle.h"
#include "cli/files.h"
#include "cli/triple.h"

struct cli_image {
	struct vmimg_io *io;
	struct vmimg_disk *disk;     /* NULL: a bundle, as such */
	struct vmimg_bundle *bundle; /* that the disk is in; NULL: none */
	char *key, *certificate;     /* PEM texts that it was opened with */
	struct cli_files files;      /* all that were opened for it */
	struct cli_triple triple;    /* those that it is, when it is no one file */
};

struct cli_open {
	const char *format;            /* NULL: detect */
	const char *snapshot;          /* as -l has it; may be NULL */
	const char *spool_for;         /* the file beside which a piped or compressed source may be
					* unpacked; NULL: none is taken */
	enum cli_refs refs;            /* when --refs does not say */
	const struct cli_named *named; /* the files of an AMI, instead of a path; NULL: none */
	bool look;                     /* the disk's content is not read */
	bool bundle; /* a bundle is taken as such, unless --disk names one of its disks */
	bool alone, bare, lenient;
	bool told; /* what was noted on opening is part of what the verb says: it is not said here */
	const struct vmimg_secret *secrets; /* set by cli_image_open, from the options */
	size_t secret_count;
	uint64_t max_iterations;
};

/* Opens, and says what the disk, those below it and the bundle noted on the way. */
int cli_image_open(struct cli_image *image, const char *path, const struct cli_common *common,
	const struct cli_open *how, struct vmimg_error *err) VMIMG_CHECKED;
/* What a caller of qemu-img means who states no format: the one that qemu-img would know the io by,
 * or else raw. NULL: it is refused, being two things. */
const char *cli_face_format(struct vmimg_io *io, struct vmimg_error *err) VMIMG_CHECKED;
/* Whether path is the first file of a VHD that is split into several: what is in it alone looks like
 * one that was cut short. format as -f has it; may be NULL. */
bool cli_is_split(const char *path, const char *format);
/* Closes what is open; an image that is all zero is fine. */
void cli_image_close(struct cli_image *image);
/* For locals: VMIMG_AUTO(cli_image_close) struct cli_image image = { 0 }; */
static inline void cli_image_close_auto(struct cli_image *image)
{
	cli_image_close(image);
}
/* For images that were opened to be changed: cli_image_open says it by itself. */
void cli_image_warn(const struct cli_image *image, const struct cli_common *common);
