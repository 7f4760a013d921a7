/* SPDX-License-Identifier: Apache-2.0 */
/* A descriptor of one machine, version 1.x, made from nothing. */
#pragma once
#include "bundle/machine.h"
#include "bundle/ovf/dialect.h"

/* Sizes that are not known yet, written as wide as they can become. */
#define VMIMG_OVF_SIZE_WIDEST UINT64_MAX

/* The text, with a newline at its end; to be freed. Of the drives, kind, file, format, capacity,
 * file_size and (not 0) populated are written; controllers are given out here. The same machine
 * gives the same bytes. */
char *vmimg_ovf_write(const struct vmimg_machine *machine, const struct vmimg_ovf_dialect *dialect,
	size_t *len, struct vmimg_error *err) VMIMG_CHECKED;
