/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The ways in which qemu-img lets its user name an image: a path, "file:PATH", "json:{…}" and, with
 * --image-opts, "driver=…,file.filename=…". Here they end in a local file and maybe its format; a
 * description of anything more is refused. Only words of the command line come here: what an image
 * names is a path and nothing else.
 */
#pragma once
#include <stdbool.h>
#include "cli/face/words.h"

struct face_image {
	char *path;   /* fit to be an operand of a native verb: it never begins with a dash */
	char *format; /* NULL: not stated */
	bool bare;    /* without its backing file */
	struct face_words secrets; /* ids of those that open it and what lies below it */
};

/* described: as --image-opts has it. */
int face_name(const char *word, bool described, struct face_image *image,
	struct vmimg_error *err) VMIMG_CHECKED;
void face_image_done(struct face_image *image);
