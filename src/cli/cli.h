/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What the files of the command line share: how a verb describes itself, the options that many
 * verbs have, and the way errors and warnings are said. Every verb is one constant; the table in
 * main.c names them all.
 */
#pragma once
#include <stdio.h>
#include "cli/options.h"
#include "cli/sandbox.h"
#include "cli/secrets.h"
#include "disk/info.h"

/* Exit codes of all verbs but check and compare, which have their own. */
enum cli_exit {
	CLI_OK,
	CLI_SYSTEM = 1,    /* input and output failed, no space, interrupted */
	CLI_USAGE = 2,     /* the command line makes no sense */
	CLI_MALFORMED = 4, /* the image does */
	CLI_REFUSED = 5,   /* against the policy */
	CLI_LIMIT = 6,
	CLI_LOCKED = 7,
};

enum cli_refs { CLI_REFS_DEFAULT, CLI_REFS_NONE, CLI_REFS_BESIDE, CLI_REFS_ANY };
enum cli_progress_kind {
	CLI_PROGRESS_AUTO,
	CLI_PROGRESS_NONE,
	CLI_PROGRESS_BAR,
	CLI_PROGRESS_JSON
};

/* The options of more than one verb: the first member of each verb's own arguments. */
struct cli_common {
	const char *format; /* -f; NULL: detect */
	bool json;
	bool quiet;
	bool share; /* -U: no locks */
	bool untrusted;
	struct cli_secrets *secrets;   /* NULL: none were given */
	const char *key, *certificate; /* files, for bundles that are encrypted or signed */
	bool strict;                   /* warnings are errors */
	bool bare;                     /* images are taken without their backing files */
	bool free;                     /* --no-sandbox */
	bool face;                     /* asked for by a caller of qemu-img: cli/face */
	struct cli_sandbox *sandbox;   /* NULL: the verb runs without one */
	bool ignored;                  /* options without effect end here */
	bool percent;                  /* -p: progress as qemu-img prints it */
	enum cli_refs refs;
	enum cli_progress_kind progress;
	uint64_t rate;                         /* bytes a second; 0: as fast as it goes */
	uint64_t max_virtual_size, max_output; /* 0: no limit */
	uint64_t max_iterations;               /* 0: as the library has it */
	unsigned disk;                         /* of a bundle, from 1; 0: the only one */
	unsigned threads;                      /* 0: as many as there are processors */
};

struct cli_call {
	void *args; /* of the verb's own type */
	const char *const *words;
	size_t count;
};

/* What a verb does with its operands, for the sandbox. */
enum cli_reach {
	CLI_FREE,  /* no sandbox: it works for the user, not on strangers' files */
	CLI_READS, /* every operand is an image; struct cli_common comes first in its arguments */
	CLI_READS_INSIDE,  /* the same, but a path inside the image follows a colon */
	CLI_READS_TO_LAST, /* the same, but the last one is written */
};

struct cli_verb {
	const char *name;
	const char *operands; /* as shown in the usage line */
	const char *summary;  /* one line */
	const char *detail;   /* more, for --help; may be NULL */
	size_t least, most;   /* operands */
	size_t args_size;
	enum cli_reach reach;
	const struct cli_option *const *options; /* groups, ended by NULL */
	/* Turns operands of another kind into those that reach and run are about, at most as many;
	 * NULL: they are that already. */
	int (*translate)(struct cli_call *call, const char **words, struct vmimg_error *err);
	/* The exit code, or -1 with err set. */
	int (*run)(const struct cli_call *call, struct vmimg_error *err);
	int (*exit_code)(enum vmimg_status status); /* of a failed run; NULL: cli_exit_code */
};

/* Every verb, in the order of --help; each is a constant cli_NAME in a file of its own. */
/* clang-format off: one verb, one line */
#define CLI_VERBS(V) \
	V(info)      \
	V(inspect)   \
	V(ls)        \
	V(cat)       \
	V(cp)        \
	V(iso)       \
	V(convert)   \
	V(dd)        \
	V(create)    \
	V(map)       \
	V(measure)   \
	V(compare)   \
	V(check)     \
	V(repair)    \
	V(digest)    \
	V(snapshot)  \
	V(resize)    \
	V(amend)     \
	V(set)       \
	V(commit)    \
	V(rebase)    \
	V(chain)     \
	V(compact)   \
	V(bitmap)    \
	V(pack)      \
	V(unpack)    \
	V(ovf)       \
	V(lint)      \
	V(boot_disk) \
	V(split)     \
	V(formats)
/* clang-format on */
#define CLI_DECLARE_VERB(name) extern const struct cli_verb cli_##name;
CLI_VERBS(CLI_DECLARE_VERB)

/* Groups of options, into struct cli_common. */
extern const struct cli_option cli_report_options[]; /* --json, --output */
extern const struct cli_option cli_format_options[]; /* -f */
extern const struct cli_option cli_source_options[]; /* -U, --refs, --untrusted, limits */
extern const struct cli_option cli_work_options[];   /* -p, -q, -m, --progress */

int cli_exit_code(enum vmimg_status status);
/* What qemu-img calls the format; NULL: it does not know it. */
const char *cli_qemu_name(const struct vmimg_format *format);
/* The policy that the options ask for; otherwise when they do not. */
const struct vmimg_resolver *cli_resolver(const struct cli_common *common, enum cli_refs otherwise);

/* Whose name lines on standard error begin with, if it is not vmimg; a constant. */
void cli_set_program(const char *name);
/* It is called qemu-img: for what has no struct cli_common at hand. */
bool cli_is_face(void);
/* One line on standard error: "vmimg: …". */
void cli_warn(const char *fmt, ...) VMIMG_PRINTF(1, 2);
/* Pretty-prints root, and gives it back. A NULL root is a lack of memory. */
int cli_print_json(FILE *to, json_t *root, struct vmimg_error *err) VMIMG_CHECKED;
/* Everything printed has arrived. */
int cli_flush(struct vmimg_error *err) VMIMG_CHECKED;
