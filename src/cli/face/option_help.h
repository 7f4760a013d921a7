/* SPDX-License-Identifier: Apache-2.0 */
/* Options of formats as "-o help" lists them; formats by qemu-img's names. */
#pragma once
#include <stdbool.h>

/* named: the new file's name is given, so that the options of a file count as well. */
void face_print_create_options(const char *format, bool named);
void face_print_amend_options(const char *format);
