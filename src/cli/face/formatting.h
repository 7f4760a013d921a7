/* SPDX-License-Identifier: Apache-2.0 */
/* The line that qemu-img create prints: "Formatting 'x', fmt=qcow2 cluster_size=65536 …". */
#pragma once
#include "cli/target.h"

void face_print_formatting(
	const struct cli_target *target, const struct cli_target_args *args, uint64_t size);
