/* SPDX-License-Identifier: Apache-2.0 */
/* dd's operands: "if=IN of=OUT bs=SIZE count=N skip=N". */
#pragma once
#include "cli/face/words.h"

/* Adds options of convert to words, IN and OUT to operands. described: IN is, by keys. */
int face_dd(struct face_words *words, size_t count, char **given, bool described,
	struct face_words *operands, struct vmimg_error *err) VMIMG_CHECKED;
