/* SPDX-License-Identifier: Apache-2.0 */
/* What check found and repair fixed, as the verbs tell it. */
#pragma once
#include <jansson.h>
#include "disk/report.h"

/* All of them, also those whose text was not kept. */
uint64_t cli_findings_count(const struct vmimg_report *report);
/* One line each, on standard output. */
void cli_print_findings(const struct vmimg_report *report);
json_t *cli_findings_json(const struct vmimg_report *report);
