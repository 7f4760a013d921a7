/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The verdict of an operation that can fail. The caller owns it, on its stack; it has nothing to
 * free, and it is never NULL. Functions fill it when they return -1 (or NULL) and leave it alone
 * otherwise. The type itself is public: include/vmimg.h.
 */
#pragma once
#include <stdint.h>
#include "vmimg.h"

#define VMIMG_PRINTF(fmt, args) __attribute__((format(printf, fmt, args)))
#define VMIMG_CHECKED           __attribute__((warn_unused_result))

/* Says what went wrong. Both return -1, so that a function can end in "return vmimg_fail(…)". */
int vmimg_fail(struct vmimg_error *err, enum vmimg_status status, const char *fmt, ...)
	VMIMG_PRINTF(3, 4);
/* The same for a failed system call: status VMIMG_ESYSTEM (VMIMG_ENOMEM for ENOMEM), and the text
 * of sys, an errno value, is added after a colon. */
int vmimg_fail_sys(struct vmimg_error *err, int sys, const char *fmt, ...) VMIMG_PRINTF(3, 4);
int vmimg_fail_nomem(struct vmimg_error *err);

/* Puts "context: " before the text that is there already. What does not fit is left out of the middle:
 * the reason stays. Returns -1. */
int vmimg_within(struct vmimg_error *err, const char *fmt, ...) VMIMG_PRINTF(2, 3);
