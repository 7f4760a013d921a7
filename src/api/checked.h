/* SPDX-License-Identifier: Apache-2.0 */
/* A report as the public interface gives it away. */
#pragma once
#include "disk/report.h"

struct vmimg_checked api_checked(const struct vmimg_report *report);
/* Calls each (NULL: nobody) with the findings. */
void api_tell(const struct vmimg_report *report,
	void (*each)(void *ctx, const struct vmimg_finding *), void *ctx);
