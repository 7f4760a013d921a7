/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What is fuzzed, by name: "qcow2" and every other format takes the input for an image of that
 * format; "probe" lets detection say which; the others are in the tables of target.c.
 */
#pragma once
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* False: there is no such target. */
bool fuzz_one(const char *target, const uint8_t *input, size_t len);

/* texts.c: the input as any text that is read: descriptors, manifests, configurations in a guest.
 */
void fuzz_texts(const uint8_t *input, size_t len);
