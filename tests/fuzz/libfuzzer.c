/* SPDX-License-Identifier: Apache-2.0 */
/* The entry that libFuzzer calls. VMIMG_FUZZ_TARGET names the target of target.h. */
#include <stdio.h>
#include <stdlib.h>
#include <time.h>
#include "target.h"

int LLVMFuzzerInitialize(int *argc, char ***argv);
int LLVMFuzzerTestOneInput(const uint8_t *input, size_t len);

static void tell_time(void)
{
	fprintf(stderr, "stat::processor_seconds: %ld\n", (long)(clock() / CLOCKS_PER_SEC));
}

int LLVMFuzzerInitialize(int *argc, char ***argv)
{
	(void)argc, (void)argv;
	return atexit(tell_time);
}

int LLVMFuzzerTestOneInput(const uint8_t *input, size_t len)
{
	const char *target = getenv("VMIMG_FUZZ_TARGET");

	if (!target || !fuzz_one(target, input, len)) {
		fprintf(stderr, "VMIMG_FUZZ_TARGET: no target %s\n", target ? target : "");
		exit(1);
	}
	return 0;
}
