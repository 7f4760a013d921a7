/* SPDX-License-Identifier: Apache-2.0 */
/* Entries of a table of 32-bit numbers (a BAT, a block map) that change, once what they lead to has
 * been flushed. They wait in memory. */
#pragma once
#include <stddef.h>
#include <stdint.h>
#include "io/io.h"

struct vmimg_entries {
	struct vmimg_entry {
		uint32_t index, value;
	} * items; /* in the order in which they came */
	size_t count, cap;
};

int vmimg_entries_keep(struct vmimg_entries *entries, uint64_t index, uint32_t value,
	struct vmimg_error *err) VMIMG_CHECKED;
/* Writes them into the table at table_at, those that follow each other at once, each as put has
 * it, and forgets them. */
int vmimg_entries_write(struct vmimg_entries *entries, struct vmimg_io *io, uint64_t table_at,
	void (*put)(void *, uint32_t), struct vmimg_error *err) VMIMG_CHECKED;
void vmimg_entries_done(struct vmimg_entries *entries);
