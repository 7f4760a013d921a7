/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The face that the program shows when it is called qemu-img: qemu-img's command lines, translated
 * word by word into those of the native verbs, which then do the same as ever. What they print or
 * decide differently for a caller of qemu-img hangs on struct cli_common.face.
 * doc/qemu-img-face.md lists what is taken and what differs.
 */
#pragma once
#include "cli/cli.h"

enum face_act {
	FACE_PASS,         /* becomes the native option, with its value */
	FACE_DROP,         /* has no effect here */
	FACE_REFUSE,       /* is not done; native says why */
	FACE_DESCRIBED,    /* --image-opts: sources are described by keys */
	FACE_DESCRIBED_TO, /* --target-image-opts: so is the target */
};

/* One option, for getopt_long. */
struct face_option {
	char letter;      /* 0: none */
	const char *name; /* NULL: none */
	bool value;
	enum face_act act;
	const char *native;
};

/* What an option does not go with, or not without. Options by letter or name. */
struct face_rule {
	const char *command; /* NULL: any */
	const char *option;
	bool with;
	const char *other;
	const char *text;
};
extern const struct face_rule face_rules[]; /* ended by a NULL option */

struct face_command {
	const char *name;
	const char *operands;              /* as the usage line shows them */
	const struct cli_verb *verb;       /* NULL: refused, with what always says */
	const struct face_option *options; /* ended by all zero */
	const char *const *always;         /* native words that come first, ended by NULL */
	size_t sources;                    /* operands, from the first, that are existing images */
	bool target;                       /* the last one is a new image */
	bool changes;                      /* the image is changed in place */
	bool dd;                           /* operands are key=value */
	bool size;                         /* the last one is a size, even if it begins with "-" */
	size_t least, most;                /* operands */
	const char *wrong_count;           /* said otherwise */
	int failure;                       /* exit code when the verb fails */
};
extern const struct face_command face_commands[]; /* ended by a NULL name */

void face_print_help(void);
void face_print_version(void);

/* main() under the name qemu-img. */
int cli_face_main(int argc, char **argv);
