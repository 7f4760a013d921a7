/* SPDX-License-Identifier: Apache-2.0 */
/* The entry that libFuzzer calls. VMIMG_FUZZ_FORMAT names the one format to try; else it is
 * detected. */
#include <stdlib.h>
#include "target.h"

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t len);

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t len)
{
	fuzz_one(bytes, len, getenv("VMIMG_FUZZ_FORMAT"));
	return 0;
}
