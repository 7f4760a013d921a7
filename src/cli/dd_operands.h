/* SPDX-License-Identifier: Apache-2.0 */
/* dd's operands: "if=IN of=OUT bs=N count=N skip=N ...". */
#pragma once
#include <stdbool.h>
#include <stdint.h>
#include "util/auto.h"
#include "util/error.h"

/* What they say; texts are parts of the words. */
struct cli_dd {
	const char *in, *out;   /* NULL: not said */
	uint64_t skip, seek;    /* bytes of input and output that are passed over */
	uint64_t length;        /* bytes, when counted */
	bool counted, notrunc, nocreat;
	const char *status; /* none, noxfer or progress; NULL: not said */
};

/* As dd has them. */
int cli_dd_read(struct cli_dd *dd, const char *const *words, size_t count,
	struct vmimg_error *err) VMIMG_CHECKED;
/* As qemu-img has them, which knows if, of, bs, count and skip. */
int cli_dd_read_few(struct cli_dd *dd, const char *const *words, size_t count,
	struct vmimg_error *err) VMIMG_CHECKED;
