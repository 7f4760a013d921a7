/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Hives: files of the Windows registry, read only, as much of them as finding a value by its path
 * takes. The logs beside a hive are not replayed. Source: M. Suhanov, "Windows registry file format
 * specification".
 */
#pragma once
#include "io/io.h"

struct vmimg_hive;

/* The io is shared (referenced). VMIMG_EFORMAT: it is no hive. */
struct vmimg_hive *vmimg_hive_open(struct vmimg_io *io, struct vmimg_error *err) VMIMG_CHECKED;
void vmimg_hive_close(struct vmimg_hive *hive);
VMIMG_AUTO_DEFINE(vmimg_hive_close, struct vmimg_hive *)

/* Of a path with backslashes, in any case, ASCII: "Microsoft\\Windows NT". The root is "". */
int vmimg_hive_find(struct vmimg_hive *hive, const char *path, uint32_t *key, bool *found,
	struct vmimg_error *err) VMIMG_CHECKED;
/* A value that is text (as UTF-8, cut at cap) or a number of 32 bits; *found tells whether it is
 * there and of that kind. */
int vmimg_hive_text(struct vmimg_hive *hive, uint32_t key, const char *name, char *out, size_t cap,
	bool *found, struct vmimg_error *err) VMIMG_CHECKED;
int vmimg_hive_number(struct vmimg_hive *hive, uint32_t key, const char *name, uint32_t *number,
	bool *found, struct vmimg_error *err) VMIMG_CHECKED;
