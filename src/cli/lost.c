/* SPDX-License-Identifier: Apache-2.0 */
/* Reads the losses off the description that info would print. */
#include "cli/lost.h"
#include <stdarg.h>
#include <string.h>
#include "io/io.h"

static void add(json_t *lost, const char *what, const char *fmt, ...) VMIMG_PRINTF(3, 4);

static void add(json_t *lost, const char *what, const char *fmt, ...)
{
	json_t *item = json_object();
	char text[200];
	va_list args;

	va_start(args, fmt);
	vsnprintf(text, sizeof(text), fmt, args);
	va_end(args);
	json_object_set_new(item, "what", json_string(what));
	json_object_set_new(item, "text", json_string(text));
	json_array_append_new(lost, item);
}

static const char *plural(size_t count)
{
	return count == 1 ? "" : "s";
}

static void add_snapshots(json_t *lost, const json_t *list)
{
	size_t count = json_array_size(list), states = 0, i;
	const json_t *item;

	json_array_foreach(list, i, item) states +=
		json_integer_value(json_object_get(item, "vm-state-size")) > 0;
	if (count)
		add(lost, "snapshots", "%zu internal snapshot%s", count, plural(count));
	if (states)
		add(lost, "vm-state", "the state of %zu running machine%s", states, plural(states));
}

static void add_identity(json_t *lost, const json_t *identity)
{
	char keys[120] = "";
	const json_t *value;
	const char *key;
	size_t used = 0;

	json_object_foreach((json_t *)(uintptr_t)identity, key, value) if (used < sizeof(keys))
		used +=
		(size_t)snprintf(keys + used, sizeof(keys) - used, "%s%s", used ? ", " : "", key);
	if (used)
		add(lost, "identity", "identity (%s)", keys);
}

/* One that was not closed is not to be trusted, and never carried. */
static size_t count_left_out(const struct vmimg_disk *source, bool carries_bitmaps)
{
	size_t count = 0;

	for (size_t i = 0; i < source->bitmap_count; i++)
		count += !carries_bitmaps || source->bitmaps[i].in_use;
	return count;
}

json_t *cli_lost(struct vmimg_disk *source, bool carries_bitmaps, struct vmimg_error *err)
{
	struct vmimg_info info;
	size_t bitmaps;
	json_t *lost;

	if (vmimg_disk_info(source, NULL, &info, err))
		return NULL;
	lost = json_array();
	add_snapshots(lost, json_object_get(info.root, "snapshots"));
	bitmaps = count_left_out(source, carries_bitmaps);
	if (bitmaps)
		add(lost, "bitmaps", "%zu bitmap%s", bitmaps, plural(bitmaps));
	add_identity(lost, json_object_get(info.root, "identity"));
	json_decref(info.root);
	if (!lost)
		vmimg_fail_nomem(err);
	return lost;
}

void cli_print_lost(const json_t *lost)
{
	const json_t *item;
	size_t i;

	json_array_foreach(lost, i, item)
		cli_warn("not carried over: %s", json_string_value(json_object_get(item, "text")));
}

static int disk_pread(void *ctx, void *buf, size_t len, uint64_t at, struct vmimg_error *err)
{
	return vmimg_disk_pread(ctx, buf, len, at, err);
}

void cli_warn_disguise(struct vmimg_disk *disk, const char *output)
{
	struct vmimg_user_io guest = { .ctx = disk, .size = disk->size, .pread = disk_pread };
	struct vmimg_error why;
	VMIMG_AUTO(vmimg_io_unref) struct vmimg_io *io = vmimg_io_open_user(&guest, &why);
	const struct vmimg_format *format = io ? vmimg_disk_probe(io, &why) : NULL;

	if (!io || (format && !strcmp(format->name, "raw")))
		return;
	cli_warn("warning: the guest's own data looks like %s: state -f raw whenever %s is opened",
		format ? format->title : "something else than a raw disk", output);
}
