/* SPDX-License-Identifier: Apache-2.0 */
/*
 * replay TARGET FILE…: gives every file, packed or plain, to a target of target.h, in a copy of its
 * exact size, so that AddressSanitizer sees a read past the end. Files over 64 MiB are left out.
 * replay --sums FILE…: of packed ones, whose checksums are right, says how many of them the mutator knows; an
 * error when it would make others of them.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include "packed.h"
#include "sums.h"
#include "target.h"

#define LARGEST (64L << 20)

static int try_sums(const char *path, const uint8_t *bytes, size_t len)
{
	uint8_t *copy = malloc(len);
	unsigned count;
	int differ;

	if (!copy)
		return -1;
	memcpy(copy, bytes, len);
	count = packed_is(bytes, len) ? sums_fix(copy, len) : 0;
	differ = memcmp(copy, bytes, len);
	free(copy);
	printf("%s: %u sums%s\n", path, count, differ ? ", not as they were" : "");
	return differ ? -1 : 0;
}

static int replay(const char *target, const char *path)
{
	FILE *file = fopen(path, "rb");
	bool known = true;
	int failed = 0;
	uint8_t *bytes;
	long len;

	if (!file || fseek(file, 0, SEEK_END) || (len = ftell(file)) < 0) {
		perror(path);
		return -1;
	}
	rewind(file);
	bytes = len <= LARGEST ? malloc(len ? (size_t)len : 1) : NULL;
	if (bytes && fread(bytes, 1, (size_t)len, file) == (size_t)len && len) {
		if (!strcmp(target, "--sums"))
			failed = try_sums(path, bytes, (size_t)len);
		else
			known = fuzz_one(target, bytes, (size_t)len);
	}
	free(bytes);
	fclose(file);
	if (!known)
		fprintf(stderr, "no target %s\n", target);
	return known && !failed ? 0 : -1;
}

int main(int argc, char **argv)
{
	for (int i = 2; i < argc; i++)
		if (replay(argv[1], argv[i]))
			return 1;
	return 0;
}
