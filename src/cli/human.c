/* SPDX-License-Identifier: Apache-2.0 */
/* qemu-img's layout of info, byte for byte where it has the field; ours follow after it. */
#include "cli/human.h"
#include <inttypes.h>
#include <stdio.h>
#include <string.h>
#include <time.h>
#include "util/text.h"

static uint64_t get_uint(const json_t *object, const char *key)
{
	return (uint64_t)json_integer_value(json_object_get(object, key));
}

static const char *get_text(const json_t *object, const char *key)
{
	return json_string_value(json_object_get(object, key));
}

static void print_scalar(const json_t *value)
{
	if (json_is_string(value))
		printf(" %s\n", json_string_value(value));
	else if (json_is_integer(value))
		printf(" %" JSON_INTEGER_FORMAT "\n", json_integer_value(value));
	else if (json_is_boolean(value))
		printf(" %s\n", json_is_true(value) ? "true" : "false");
	else if (json_is_real(value))
		printf(" %g\n", json_real_value(value));
	else
		printf(" null\n");
}

static void print_value(const json_t *value, int depth)
{
	const json_t *item;
	size_t i;

	if (json_is_object(value)) {
		putchar('\n');
		cli_print_object(value, depth + 1);
	} else if (json_is_array(value)) {
		putchar('\n');
		json_array_foreach(value, i, item)
		{
			printf("%*s[%zu]:", 4 * (depth + 1), "", i);
			print_value(item, depth + 1);
		}
	} else {
		print_scalar(value);
	}
}

void cli_print_object(const json_t *object, int depth)
{
	const json_t *value;
	const char *key;

	json_object_foreach((json_t *)(uintptr_t)object, key, value)
	{
		printf("%*s", 4 * depth, "");
		for (const char *p = key; *p; p++)
			putchar(*p == '-' ? ' ' : *p);
		putchar(':');
		print_value(value, depth);
	}
}

static void print_snapshot(const json_t *snapshot)
{
	time_t date = (time_t)get_uint(snapshot, "date-sec");
	uint64_t clock = get_uint(snapshot, "vm-clock-sec");
	char size[16], when[32] = "", ran[40], icount[24] = "";
	struct tm tm;

	if (localtime_r(&date, &tm))
		strftime(when, sizeof(when), "%Y-%m-%d %H:%M:%S", &tm);
	snprintf(ran, sizeof(ran), "%02" PRIu64 ":%02u:%02u.%03u", clock / 3600,
		(unsigned)(clock / 60 % 60), (unsigned)(clock % 60),
		(unsigned)(get_uint(snapshot, "vm-clock-nsec") / 1000000 % 1000));
	if (json_object_get(snapshot, "icount"))
		snprintf(icount, sizeof(icount), "%" PRIu64, get_uint(snapshot, "icount"));
	printf("%-9s %-16s %8s %19s %12s %10s\n", get_text(snapshot, "id"),
		get_text(snapshot, "name"),
		vmimg_format_size(size, get_uint(snapshot, "vm-state-size")), when, ran, icount);
}

void cli_print_snapshots(const json_t *list)
{
	const json_t *snapshot;
	size_t i;

	if (!json_array_size(list))
		return;
	printf("Snapshot list:\n%-10s%-17s%8s%20s%13s%11s\n", "ID", "TAG", "VM SIZE", "DATE",
		"VM CLOCK", "ICOUNT");
	json_array_foreach(list, i, snapshot) print_snapshot(snapshot);
}

/* "backing file: x (actual path: y)" */
static void print_backing(const json_t *root)
{
	const char *name = get_text(root, "backing-filename");
	const char *full = get_text(root, "full-backing-filename");
	const char *format = get_text(root, "backing-filename-format");

	if (!name)
		return;
	printf("backing file: %s", name);
	if (full && strcmp(full, name))
		printf(" (actual path: %s)", full);
	putchar('\n');
	if (format)
		printf("backing file format: %s\n", format);
}

static void print_references(const json_t *list)
{
	const json_t *ref;
	size_t i;

	if (json_array_size(list))
		printf("References to other files:\n");
	json_array_foreach(list, i, ref)
	{
		const char *reason = get_text(ref, "reason");

		printf("    %s: %s (%s%s)\n", get_text(ref, "kind"), get_text(ref, "filename"),
			reason ? "refused: " : "allowed", reason ? reason : "");
	}
}

/* What qemu-img has no line for. */
static void print_ours(const json_t *root)
{
	static const char *const texts[] = { "variant", "creator", "content" };
	const json_t *file_system = json_object_get(root, "file-system");
	const json_t *identity = json_object_get(root, "identity");
	const json_t *warnings = json_object_get(root, "warnings"), *warning;
	size_t i;

	for (i = 0; i < 3; i++)
		if (get_text(root, texts[i]))
			printf("%s: %s\n", texts[i], get_text(root, texts[i]));
	if (get_uint(root, "sector-size") > 512)
		printf("sector size: %" PRIu64 "\n", get_uint(root, "sector-size"));
	if (file_system) {
		printf("File system:\n");
		cli_print_object(file_system, 1);
	}
	if (json_object_size(identity)) {
		printf("Identity:\n");
		cli_print_object(identity, 1);
	}
	print_references(json_object_get(root, "references"));
	if (json_array_size(warnings))
		printf("Warnings:\n");
	json_array_foreach(warnings, i, warning) printf("    %s\n", json_string_value(warning));
}

/* One line, and only when there is something to say. */
static void print_verdict(const json_t *root)
{
	const json_t *list = json_object_get(root, "unsafe-reasons"), *reason;
	size_t i;

	if (!json_is_false(json_object_get(root, "safe")))
		return;
	printf("Not safe to take from strangers: ");
	json_array_foreach(list, i, reason) printf("%s%s", i ? "; " : "", get_text(reason, "text"));
	putchar('\n');
}

void cli_print_qemu_info(const json_t *root)
{
	const json_t *specific = json_object_get(json_object_get(root, "format-specific"), "data");
	const json_t *actual = json_object_get(root, "actual-size");
	uint64_t size = get_uint(root, "virtual-size");
	char text[16];

	printf("image: %s\nfile format: %s\n", get_text(root, "filename"),
		get_text(root, "format"));
	if (json_object_get(root, "virtual-size"))
		printf("virtual size: %s (%" PRIu64 " bytes)\n", vmimg_format_size(text, size),
			size);
	printf("disk size: %s\n",
		actual ? vmimg_format_size(text, get_uint(root, "actual-size")) : "unavailable");
	if (json_is_true(json_object_get(root, "encrypted")))
		printf("encrypted: yes\n");
	if (json_object_get(root, "cluster-size"))
		printf("cluster_size: %" PRIu64 "\n", get_uint(root, "cluster-size"));
	if (json_is_true(json_object_get(root, "dirty-flag")))
		printf("cleanly shut down: no\n");
	print_backing(root);
	cli_print_snapshots(json_object_get(root, "snapshots"));
	if (specific) {
		printf("Format specific information:\n");
		cli_print_object(specific, 1);
	}
}

void cli_print_info(const json_t *root)
{
	cli_print_qemu_info(root);
	print_ours(root);
	print_verdict(root);
}
