/* SPDX-License-Identifier: Apache-2.0 */
/* Filling in errors: bounded text, no allocation, so that it works when memory is short. */
#include "util/error.h"
#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

VMIMG_PRINTF(2, 0)
static void set_text(struct vmimg_error *err, const char *fmt, va_list args)
{
	if (vsnprintf(err->text, sizeof(err->text), fmt, args) < 0)
		err->text[0] = '\0';
}

int vmimg_fail(struct vmimg_error *err, enum vmimg_status status, const char *fmt, ...)
{
	va_list args;

	err->status = status;
	err->sys = 0;
	va_start(args, fmt);
	set_text(err, fmt, args);
	va_end(args);
	return -1;
}

int vmimg_fail_sys(struct vmimg_error *err, int sys, const char *fmt, ...)
{
	va_list args;
	char buf[80];
	size_t used;

	err->status = sys == ENOMEM ? VMIMG_ENOMEM : VMIMG_ESYSTEM;
	err->sys = sys;
	va_start(args, fmt);
	set_text(err, fmt, args);
	va_end(args);
	used = strlen(err->text);
	snprintf(err->text + used, sizeof(err->text) - used, ": %s",
		strerror_r(sys, buf, sizeof(buf)));
	return -1;
}

int vmimg_fail_nomem(struct vmimg_error *err)
{
	return vmimg_fail(err, VMIMG_ENOMEM, "out of memory");
}

int vmimg_within(struct vmimg_error *err, const char *fmt, ...)
{
	char inner[sizeof(err->text)];
	va_list args;
	size_t used;

	memcpy(inner, err->text, sizeof(inner));
	va_start(args, fmt);
	set_text(err, fmt, args);
	va_end(args);
	used = strlen(err->text);
	if (used + 3 < sizeof(err->text))
		snprintf(err->text + used, sizeof(err->text) - used, ": %.*s",
			(int)(sizeof(err->text) - used - 3), inner);
	return -1;
}
