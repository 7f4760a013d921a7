/* SPDX-License-Identifier: Apache-2.0 */
/*
 * replay FORMAT FILE…: gives every file to the fuzz target, in a copy of its exact size, so that
 * AddressSanitizer sees a read past the end. Files over 64 MiB are left out.
 */
#include <stdio.h>
#include <stdlib.h>
#include "target.h"

#define LARGEST (64L << 20)

static int replay(const char *path, const char *format)
{
	FILE *file = fopen(path, "rb");
	long len;
	uint8_t *bytes;

	if (!file || fseek(file, 0, SEEK_END) || (len = ftell(file)) < 0) {
		perror(path);
		return -1;
	}
	rewind(file);
	bytes = len <= LARGEST ? malloc(len ? (size_t)len : 1) : NULL;
	if (bytes && fread(bytes, 1, (size_t)len, file) == (size_t)len)
		fuzz_one(bytes, (size_t)len, format);
	free(bytes);
	fclose(file);
	return 0;
}

int main(int argc, char **argv)
{
	for (int i = 2; i < argc; i++)
		if (replay(argv[i], argv[1]) || replay(argv[i], NULL))
			return 1;
	return 0;
}
