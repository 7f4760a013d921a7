/* SPDX-License-Identifier: Apache-2.0 */
/* What check finds, in the words of qemu-img where it has any. */
#pragma once
#include "disk/report.h"

/* One line each on standard error, refcounts first; notes are left out. */
void face_print_findings(const struct vmimg_report *report);
