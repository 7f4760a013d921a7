/* SPDX-License-Identifier: Apache-2.0 */
/* Reports for people, in the layout of qemu-img, printed from the JSON of the same report. */
#pragma once
#include <jansson.h>

void cli_print_info(const json_t *root);
/* Of it, what qemu-img prints as well. */
void cli_print_qemu_info(const json_t *root);
/* The table of internal snapshots, from info's array; nothing when it is empty. */
void cli_print_snapshots(const json_t *list);
/* Each entry of an object as "key: value", dashes shown as blanks, at that depth. */
void cli_print_object(const json_t *object, int depth);
