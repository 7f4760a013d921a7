/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Which system an installation medium is of, by the rules of osinfo-db: patterns for the
 * identifiers in an ISO image's volume descriptor. The data base is looked for where libosinfo
 * does, in $OSINFO_SYSTEM_DIR or /usr/share/osinfo; where there is none, nothing is known.
 */
#pragma once
#include <jansson.h>
#include "cli/sandbox.h"

/* Before the sandbox closes: the data base stays within reach. */
void cli_osinfo_reach(struct cli_sandbox *sandbox);
/* iso: of the report, with the identifiers. A new reference; NULL: it is none that is known. */
json_t *cli_osinfo_identify(const json_t *iso);
