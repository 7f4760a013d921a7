/* SPDX-License-Identifier: Apache-2.0 */
/* The report of inspect as one HTML page that needs nothing else: no script, no picture, no font.
 */
#pragma once
#include "disk/report.h"
#include "inspect/allocation.h"

struct cli_page {
	const json_t *report; /* of inspect */
	const struct vmimg_allocation *allocation;
	const struct vmimg_report *check; /* NULL: not checked, and why */
	const char *unchecked;
};

/* The text, which the caller frees; NULL: no memory. */
char *cli_page_make(const struct cli_page *page, size_t *len);
