/* SPDX-License-Identifier: Apache-2.0 */
/* All texts of the image come escaped out of the JSON, and are escaped once more for HTML. */
#include "cli/page.h"
#include <inttypes.h>
#include <stdio.h>
#include <string.h>
#include "util/num.h"
#include "util/text.h"

static const char style[] =
	":root{color-scheme:light dark;--bg:#fbfaf8;--ink:#22262b;--soft:#646b74;--line:#dcd9d3;"
	"--card:#fff;--data:#2f6db5;--packed:#7a4fb0;--zero:#c9cdd3;--hole:#eceae6;--bad:#b3261e;"
	"--p0:#2f6db5;--p1:#27785f;--p2:#9a5f24;--p3:#7a4fb0;--p4:#a63f5f;--p5:#4a7a23}"
	"@media(prefers-color-scheme:dark){:root{--bg:#16181b;--ink:#e6e4df;--soft:#9aa1aa;"
	"--line:#33373d;--card:#1e2125;--data:#5b9be6;--packed:#a985dc;--zero:#4a5058;--hole:#"
	"2a2e33;"
	"--bad:#f2857d}}"
	"*{box-sizing:border-box}body{margin:0;padding:1.2rem;background:var(--bg);color:var(--ink)"
	";"
	"font:15px/1.5 system-ui,sans-serif}main{max-width:72rem;margin:auto}"
	"h1{font-size:1.35rem;margin:0 0 "
	".2rem;overflow-wrap:anywhere}h2{font-size:1rem;margin:1.8rem 0 "
	".5rem}p{margin:.2rem 0;color:var(--soft)}"
	".bar{display:flex;height:3.6rem;border-radius:.4rem;overflow:hidden;background:var(--hole)"
	"}"
	".bar "
	"div{min-width:3px;overflow:hidden;white-space:nowrap;text-overflow:ellipsis;padding:."
	"45rem "
	".5rem;color:#fff;font-size:.8rem;line-height:1.35;border-right:1px solid var(--bg)}"
	".bar .gap{color:var(--soft);padding:.45rem 0}.bar .thin{padding:0}"
	"svg{display:block;width:100%;height:2.6rem;border-radius:.4rem;background:var(--hole)}"
	".key{display:flex;flex-wrap:wrap;gap:.3rem 1.3rem;margin:.6rem "
	"0;padding:0;list-style:none;"
	"font-size:.88rem}.key i{display:inline-block;width:.8em;height:.8em;margin-right:.45em;"
	"border-radius:2px;border:1px solid var(--line)}"
	".wide{overflow-x:auto;background:var(--card);border:1px solid "
	"var(--line);border-radius:.4rem}"
	"table{border-collapse:collapse;width:100%;font-size:.88rem}th,td{text-align:left;padding:."
	"4rem "
	".7rem;border-bottom:1px solid var(--line);vertical-align:top}tr:last-child td{border:0}"
	"th{color:var(--soft);font-weight:500;white-space:nowrap}th.n,td.n{text-align:right;"
	"font-variant-numeric:tabular-nums;white-space:nowrap}code{font-size:.85em;white-space:"
	"nowrap}"
	"@media(max-width:40rem){tr{display:block;padding:.4rem 0;border-bottom:1px solid "
	"var(--line)}tr:first-child,tr:last-child{border:0}tr:first-child{padding:0}th{display:"
	"none}td,td.n{display:flex;text-align:left;"
	"white-space:normal;border:0;padding:.1rem .7rem}td:empty{display:none}td[data-l]::before{"
	"content:attr(data-l);flex:0 0 6.5rem;color:var(--soft)}code{white-space:normal;"
	"overflow-wrap:anywhere}}"
	".bad{color:var(--bad)}dl{display:grid;grid-template-columns:max-content 1fr;gap:.25rem "
	"1rem;margin:0;font-size:.9rem}dt{color:var(--soft)}dd{margin:0;overflow-wrap:anywhere}";

static void put(FILE *out, const char *text)
{
	for (const char *p = text ? text : ""; *p; p++)
		switch (*p) {
		case '&':
			fputs("&amp;", out);
			break;
		case '<':
			fputs("&lt;", out);
			break;
		case '>':
			fputs("&gt;", out);
			break;
		case '"':
			fputs("&quot;", out);
			break;
		default:
			fputc(*p, out);
		}
}

static const char *text_of(const json_t *object, const char *key)
{
	const char *text = json_string_value(json_object_get(object, key));

	return text ? text : "";
}

static uint64_t uint_of(const json_t *object, const char *key)
{
	return (uint64_t)json_integer_value(json_object_get(object, key));
}

static void put_size(FILE *out, uint64_t bytes)
{
	char text[16];

	put(out, vmimg_format_size(text, bytes));
}

static double percent(uint64_t part, uint64_t all)
{
	return all ? 100.0 * (double)part / (double)all : 0;
}

/* ---- partitions -------------------------------------------------------------------------- */

static void put_segment(FILE *out, uint64_t len, uint64_t size, int color, const json_t *part)
{
	const json_t *fs = json_object_get(part, "filesystem");
	double width = percent(len, size);

	fprintf(out, "<div style=\"flex:%.4f 0 0", width);
	if (color >= 0)
		fprintf(out, ";background:var(--p%d)", color % 6);
	fprintf(out, "\" class=\"%s\" title=\"", width < 5 ? "thin" : color < 0 ? "gap" : "part");
	if (part)
		fprintf(out, "%" PRIu64 ": ", uint_of(part, "index"));
	put(out, part ? text_of(part, "type-name") : "not in a partition");
	fputs(", ", out);
	put_size(out, len);
	fputs("\">", out);
	if (part && width >= 5) {
		fprintf(out, "<b>%" PRIu64 "</b> ", uint_of(part, "index"));
		put(out, fs ? text_of(fs, "type") : text_of(part, "type-name"));
		fputs("<br>", out);
		put_size(out, len);
	}
	fputs("</div>", out);
}

static int by_start(const void *a, const void *b)
{
	uint64_t x = uint_of(*(json_t *const *)a, "start"),
		 y = uint_of(*(json_t *const *)b, "start");

	return x < y ? -1 : x > y;
}

/* Partitions in the order of their place, with what lies between them. */
static void put_bar(FILE *out, const json_t *list, uint64_t size)
{
	const json_t *sorted[1024], *part;
	size_t count = 0, i;
	uint64_t at = 0;

	json_array_foreach(list, i, part) if (count < VMIMG_ARRAY_LEN(sorted) &&
		!json_object_get(part, "extended")) sorted[count++] = part;
	qsort((void *)sorted, count, sizeof(sorted[0]), by_start);
	fputs("<div class=\"bar\">", out);
	for (i = 0; i < count; i++) {
		uint64_t start = vmimg_min(uint_of(sorted[i], "start"), size);
		uint64_t len = vmimg_min(uint_of(sorted[i], "length"), size - start);

		if (start > at)
			put_segment(out, start - at, size, -1, NULL);
		put_segment(out, len, size, (int)i, sorted[i]);
		at = vmimg_max(at, start + len);
	}
	if (at < size)
		put_segment(out, size - at, size, -1, NULL);
	fputs("</div>", out);
}

static void put_quoted(FILE *out, const char *text)
{
	if (!*text)
		return;
	fputs(" “", out);
	put(out, text);
	fputs("”", out);
}

static void put_fs_name(FILE *out, const json_t *fs)
{
	fputs("<span>", out);
	put(out, text_of(fs, "type"));
	if (*text_of(fs, "variant"))
		fprintf(out, " <small>%s</small>", text_of(fs, "variant"));
	put_quoted(out, text_of(fs, "label"));
	fputs("</span>", out);
}

/* A cell without anything is not shown where the page is narrow. */
static void put_fs_cells(FILE *out, const json_t *fs)
{
	fputs("<td data-l=\"File system\">", out);
	if (fs)
		put_fs_name(out, fs);
	fputs("</td><td class=\"n\" data-l=\"Used\">", out);
	if (json_object_get(fs, "used"))
		put_size(out, uint_of(fs, "used"));
	fputs("</td><td data-l=\"UUID\">", out);
	if (*text_of(fs, "uuid")) {
		fputs("<code>", out);
		put(out, text_of(fs, "uuid"));
		fputs("</code>", out);
	}
	fputs("</td>", out);
}

static void put_partitions(FILE *out, const json_t *report)
{
	const json_t *list = json_object_get(report, "partitions"), *part, *warning;
	size_t i;

	fputs("<h2>Partitions</h2>", out);
	if (json_array_size(list))
		put_bar(out, list, uint_of(report, "virtual-size"));
	fputs("<div class=\"wide\" "
	      "style=\"margin-top:.6rem\"><table><tr><th>#<th>Type<th class=n>First byte<th "
	      "class=n>Size"
	      "<th>File system<th class=n>Used<th>UUID</tr>",
		out);
	if (json_object_get(report, "filesystem")) {
		fputs("<tr><td>–</td><td>the whole disk</td><td class=\"n\" data-l=\"First "
		      "byte\">0</td><td class=\"n\" data-l=\"Size\">",
			out);
		put_size(out, uint_of(report, "virtual-size"));
		fputs("</td>", out);
		put_fs_cells(out, json_object_get(report, "filesystem"));
		fputs("</tr>", out);
	}
	json_array_foreach(list, i, part)
	{
		fprintf(out, "<tr><td data-l=\"Partition\">%" PRIu64 "</td><td data-l=\"Type\">",
			uint_of(part, "index"));
		put(out,
			*text_of(part, "type-name") ? text_of(part, "type-name")
						    : text_of(part, "type"));
		put_quoted(out, text_of(part, "name"));
		fprintf(out,
			"</td><td class=\"n\" data-l=\"First byte\">%" PRIu64
			"</td><td class=\"n\" data-l=\"Size\">",
			uint_of(part, "start"));
		put_size(out, uint_of(part, "length"));
		fputs("</td>", out);
		put_fs_cells(out, json_object_get(part, "filesystem"));
		fputs("</tr>", out);
	}
	fputs("</table></div>", out);
	json_array_foreach(
		json_object_get(json_object_get(report, "partition-table"), "warnings"), i, warning)
	{
		fputs("<p class=\"bad\">", out);
		put(out, json_string_value(warning));
		fputs("</p>", out);
	}
}

/* ---- allocation -------------------------------------------------------------------------- */

static const struct {
	const char *color, *name;
} fills[] = {
	[VMIMG_FILL_HOLE] = { "hole", "not allocated" },
	[VMIMG_FILL_ZERO] = { "zero", "zeroes" },
	[VMIMG_FILL_PACKED] = { "packed", "compressed data" },
	[VMIMG_FILL_DATA] = { "data", "data" },
};

static void put_map(FILE *out, const struct vmimg_allocation *a)
{
	fprintf(out,
		"<svg viewBox=\"0 0 %zu 1\" preserveAspectRatio=\"none\" role=\"img\" "
		"aria-label=\"allocation map\">",
		a->count);
	for (size_t i = 0; i < a->count;) {
		const struct vmimg_cell *cell = &a->cells[i];
		size_t n = 1;
		double shown = cell->share < 0.25 ? 0.25 : cell->share;
		double layer = cell->depth ? 0.55 : 1;

		while (i + n < a->count && a->cells[i + n].fill == cell->fill &&
			a->cells[i + n].depth == cell->depth &&
			a->cells[i + n].share > cell->share - 0.02 &&
			a->cells[i + n].share < cell->share + 0.02)
			n++;
		if (cell->fill >= VMIMG_FILL_PACKED)
			fprintf(out,
				"<rect x=\"%zu\" width=\"%zu\" y=\"%.2f\" height=\"%.2f\" "
				"opacity=\"%.2f\" fill=\"var(--%s)\"/>",
				i, n, 1 - shown, shown, layer, fills[cell->fill].color);
		else if (cell->fill == VMIMG_FILL_ZERO)
			fprintf(out,
				"<rect x=\"%zu\" width=\"%zu\" height=\"1\" fill=\"var(--zero)\"/>",
				i, n);
		i += n;
	}
	fputs("</svg>", out);
}

static void put_allocation(FILE *out, const struct vmimg_allocation *a, uint64_t size)
{
	fputs("<h2>What fills it</h2>", out);
	put_map(out, a);
	fputs("<ul class=\"key\">", out);
	for (int fill = VMIMG_FILL_DATA; fill >= 0; fill--) {
		fprintf(out, "<li><i style=\"background:var(--%s)\"></i>%s: ", fills[fill].color,
			fills[fill].name);
		put_size(out, a->bytes[fill]);
		fprintf(out, " (%.1f %%)</li>", percent(a->bytes[fill], size));
	}
	for (unsigned depth = 1; depth < 16; depth++)
		if (a->by_depth[depth]) {
			fprintf(out, "<li>%s %u: ", depth == 15 ? "layers below" : "backing layer",
				depth);
			put_size(out, a->by_depth[depth]);
			fputs(" of data</li>", out);
		}
	fputs("</ul><p>From the first byte on the left to the last; a bar's height is the share of "
	      "data. Fainter bars lie in a backing file.</p>",
		out);
}

/* ---- the rest ---------------------------------------------------------------------------- */

static void put_pair(FILE *out, const char *name, const char *value)
{
	if (!*value)
		return;
	fprintf(out, "<dt>%s</dt><dd>", name);
	put(out, value);
	fputs("</dd>", out);
}

static void put_words(FILE *out, const char *name, const json_t *list, const char *key)
{
	const json_t *item;
	size_t i;

	if (!json_array_size(list))
		return;
	fprintf(out, "<dt>%s</dt><dd>", name);
	json_array_foreach(list, i, item)
	{
		fputs(i ? ", " : "", out);
		put(out, key ? text_of(item, key) : json_string_value(item));
	}
	fputs("</dd>", out);
}

static void put_systems(FILE *out, const json_t *report)
{
	const json_t *boot = json_object_get(report, "boot"), *os;
	size_t i;

	fputs("<h2>Start and system</h2><dl>", out);
	json_array_foreach(json_object_get(report, "operating-systems"), i, os)
	{
		put_pair(out, "System",
			*text_of(os, "pretty-name") ? text_of(os, "pretty-name")
						    : text_of(os, "id"));
		put_pair(out, "Architecture", text_of(os, "architecture"));
		put_pair(out, "Host name", text_of(os, "hostname"));
		put_pair(out, "Version", text_of(os, "version-id"));
		put_words(out, "Kernels", json_object_get(os, "kernels"), "version");
		put_pair(out, "cloud-init",
			json_is_true(json_object_get(os, "cloud-init")) ? "yes" : "no");
		put_words(out, "Mounts", json_object_get(os, "fstab"), "mount-point");
	}
	put_pair(out, "Medium of",
		text_of(json_object_get(json_object_get(report, "iso"), "medium"), "name"));
	if (json_array_size(json_object_get(boot, "methods")))
		put_words(out, "Boots by", json_object_get(boot, "methods"), NULL);
	else
		put_pair(out, "Boots by", "nothing that was found");
	put_words(out, "EFI programs", json_object_get(boot, "efi-loaders"), "path");
	put_words(out, "Windows’ loaders", json_object_get(boot, "windows"), "path");
	put_words(out, "Kernel files", json_object_get(boot, "kernels"), "path");
	put_words(out, "Ramdisks", json_object_get(boot, "initrds"), "path");
	fputs("</dl>", out);
}

static void put_check(FILE *out, const struct cli_page *page)
{
	const struct vmimg_report *r = page->check;

	fputs("<h2>Check</h2>", out);
	if (!r) {
		fputs("<p>", out);
		put(out, page->unchecked);
		fputs("</p>", out);
		return;
	}
	fprintf(out, "<p>%" PRIu64 " corruptions, %" PRIu64 " leaks, %" PRIu64 " errors.</p>",
		r->count[VMIMG_FINDING_CORRUPTION], r->count[VMIMG_FINDING_LEAK],
		r->count[VMIMG_FINDING_ERROR]);
	if (!r->kept_count)
		return;
	fputs("<div class=\"wide\"><table><tr><th>Severity<th>Finding</tr>", out);
	for (unsigned i = 0; i < r->kept_count; i++) {
		fprintf(out, "<tr><td%s>%s</td><td>",
			r->kept[i].severity >= VMIMG_FINDING_CORRUPTION ? " class=\"bad\"" : "",
			vmimg_severity_name(r->kept[i].severity));
		put(out, r->kept[i].text);
		fputs("</td></tr>", out);
	}
	fputs("</table></div>", out);
}

char *cli_page_make(const struct cli_page *page, size_t *len)
{
	uint64_t size = uint_of(page->report, "virtual-size");
	char *text = NULL;
	FILE *out = open_memstream(&text, len);

	if (!out)
		return NULL;
	fprintf(out,
		"<!DOCTYPE html>\n<html lang=\"en\"><meta charset=\"utf-8\"><meta "
		"name=\"viewport\" "
		"content=\"width=device-width,initial-scale=1\"><title>");
	put(out, text_of(page->report, "filename"));
	fprintf(out, "</title><style>%s</style><main><h1>", style);
	put(out, text_of(page->report, "filename"));
	fputs("</h1><p>", out);
	put(out, text_of(page->report, "format"));
	fputs(", ", out);
	put_size(out, size);
	fputs("; partition table: ", out);
	put(out, text_of(json_object_get(page->report, "partition-table"), "scheme"));
	fputs("</p>", out);
	put_partitions(out, page->report);
	put_allocation(out, page->allocation, size);
	put_systems(out, page->report);
	put_check(out, page);
	fputs("</main></html>\n", out);
	if (fclose(out)) {
		free(text);
		return NULL;
	}
	return text;
}
