/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Unit tests: a list of functions, each a line of the Test Anything Protocol.
 *
 *     static void adds(void) { CHECK(1 + 1 == 2); }
 *     UNIT_TESTS(TEST(adds));
 *     UNIT_MAIN()
 *
 * A CHECK that does not hold is told, with its place; the test goes on.
 */
#pragma once
#include <stdio.h>
#include <string.h>
#include "util/error.h"

struct unit_test {
	const char *name;
	void (*run)(void);
};

static int unit_failed; /* checks of the running test that did not hold */

#define CHECK(condition)                                                                        \
	do {                                                                                    \
		if (!(condition)) {                                                             \
			unit_failed++;                                                          \
			printf("# %s:%d: does not hold: %s\n", __FILE__, __LINE__, #condition); \
		}                                                                               \
	} while (0)
/* For what must not be reached. */
#define CHECK_NEVER(what)                                          \
	do {                                                       \
		unit_failed++;                                     \
		printf("# %s:%d: %s\n", __FILE__, __LINE__, what); \
	} while (0)
#define CHECK_TEXT(got, want)                                                                      \
	do {                                                                                       \
		const char *unit_got = (got), *unit_want = (want);                                 \
		if (strcmp(unit_got, unit_want)) {                                                 \
			unit_failed++;                                                             \
			printf("# %s:%d: got \"%s\", want \"%s\"\n", __FILE__, __LINE__, unit_got, \
				unit_want);                                                        \
		}                                                                                  \
	} while (0)

static inline int unit_run(const struct unit_test *tests, size_t count)
{
	int bad = 0;

	printf("1..%zu\n", count);
	for (size_t i = 0; i < count; i++) {
		unit_failed = 0;
		tests[i].run();
		printf("%sok %zu - %s\n", unit_failed ? "not " : "", i + 1, tests[i].name);
		fflush(stdout);
		bad += unit_failed != 0;
	}
	return bad != 0;
}

#define UNIT_TESTS(...) static const struct unit_test unit_tests[] = { __VA_ARGS__ }
#define TEST(function)              \
	{                           \
#function, function \
	}
#define UNIT_MAIN()                                                                      \
	int main(void)                                                                   \
	{                                                                                \
		return unit_run(unit_tests, sizeof(unit_tests) / sizeof(unit_tests[0])); \
	}
