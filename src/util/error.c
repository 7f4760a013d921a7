/* SPDX-License-Identifier: Apache-2.0 */
/* Filling in errors: bounded text, no allocation, so that it works when memory is short. */
#include "util/error.h"
#include <errno.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#define LEFT_OUT 3 /* "..." */

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
	size_t used, room, len, cut = 0;

	memcpy(inner, err->text, sizeof(inner));
	va_start(args, fmt);
	set_text(err, fmt, args);
	va_end(args);
	used = strlen(err->text);
	len = strlen(inner);
	if (used + 3 + LEFT_OUT >= sizeof(err->text))
		return -1;
	room = sizeof(err->text) - used - 3;
	if (len > room) /* the reason stands last, and stays */
		cut = len - room + LEFT_OUT;
	while (((uint8_t)inner[cut] & 0xc0) == 0x80) /* inside a character */
		cut++;
	snprintf(err->text + used, sizeof(err->text) - used, ": %s%.*s", cut ? "..." : "",
		(int)room, inner + cut);
	return -1;
}
