/* SPDX-License-Identifier: Apache-2.0 */
/* The text that LVM2 keeps its metadata in: sections in braces, and keys with a number, a text or a
 * list of them. */
#pragma once
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include "util/auto.h"
#include "util/error.h"

struct vmimg_lvm_node {
	const char *key, *text; /* with a NUL; key "": an element of a list; text NULL: no text */
	uint64_t number;
	struct vmimg_lvm_node *first, *next; /* in the section or list; beside this one */
};

struct vmimg_lvm_text; /* all nodes */

/* bytes, which has len and a NUL after them, is changed, and must stay as long as the text. NULL:
 * it is no such text, or nested deeper than makes sense. */
struct vmimg_lvm_text *vmimg_lvm_parse(
	char *bytes, size_t len, struct vmimg_error *err) VMIMG_CHECKED;
void vmimg_lvm_text_free(struct vmimg_lvm_text *text);
VMIMG_AUTO_DEFINE(vmimg_lvm_text_free, struct vmimg_lvm_text *)
const struct vmimg_lvm_node *vmimg_lvm_root(const struct vmimg_lvm_text *text);

/* By key; NULL: there is none, or node is NULL. */
const struct vmimg_lvm_node *vmimg_lvm_find(const struct vmimg_lvm_node *node, const char *key);
/* A text or a number by key; NULL and 0: there is none. */
const char *vmimg_lvm_string(const struct vmimg_lvm_node *node, const char *key);
uint64_t vmimg_lvm_number(const struct vmimg_lvm_node *node, const char *key);
