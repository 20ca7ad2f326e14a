/* SPDX-License-Identifier: MIT */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "agent/core/reason.h"
#include "agent/util/array.h"
#include "agent/util/cleanup.h"
#include "tools/ctl/agent.h"
#include "tools/ctl/output.h"
#include "tools/ctl/top.h"

#define NUMBER_WIDTH 7
#define REASON_WIDTH 14
#define REMOTE_WIDTH 15
#define GAP 2
/* Three numbers, the reason, and the gaps before these and before the history. */
#define FIXED_WIDTH (3 * NUMBER_WIDTH + REASON_WIDTH + 5 * GAP)
#define LABEL_MIN 10
#define HISTORY_MIN 8
#define HISTORY_UNLIMITED 30 /* where there is no width to fill */

int top_sort_parse(const char *text, enum top_sort *ret)
{
	static const char letters[] = "bpkn";
	const char *found = text[0] ? strchr(letters, text[0]) : NULL;

	if (!found || text[1] != '\0')
		return -EINVAL;
	*ret = (enum top_sort)(found - letters);
	return 0;
}

void top_rows_done(struct top_rows *rows)
{
	free(rows->list);
	free(rows->order);
	*rows = (struct top_rows){ 0 };
}

static void make_label(const struct owners *owners, const struct row *row, char *buf, size_t size)
{
	const json_t *tunnel = owners_find(owners, row);
	_cleanup_free_ char *netns = text_escape(json_text(tunnel, "netns"));
	_cleanup_free_ char *ifname = text_escape(json_text(tunnel, "ifname"));

	if (tunnel && netns && ifname)
		(void)snprintf(buf, size, "%.44s %.18s", netns, ifname);
	else if (row->map == ROW_SOURCES)
		(void)snprintf(
			buf, size, "%s %s", IP4_FORMAT(row->remote), IP4_FORMAT(row->inner_source));
	else
		(void)snprintf(buf, size, "%s%s", IP4_FORMAT(row->remote),
			row->entry.flags & MAPS_FLAG_SHARED ? " (shared)" : "");
}

static int compare_keys(const void *a, const void *b)
{
	return row_compare(&((const struct top_row *)a)->key, &((const struct top_row *)b)->key);
}

/* The history goes on, one round longer. */
static void append_history(const struct top_rows *old, struct top_row *row)
{
	const struct top_row *was = NULL;

	if (old->n > 0)
		was = bsearch(row, old->list, old->n, sizeof(*row), compare_keys);
	if (was) {
		size_t skip = was->n_history == TOP_HISTORY;

		row->n_history = was->n_history - skip;
		memcpy(row->history, was->history + skip, row->n_history * sizeof(float));
	}
	if (row->rate.known)
		row->history[row->n_history++] = (float)row->rate.packets;
}

int top_rows_make(const struct top_rows *old, const struct sample *before, const struct sample *now,
	const struct owners *owners, struct top_rows *ret)
{
	struct top_rows rows = { .n = now->live.rows.n };
	struct rate no_entry = sample_no_entry_rate(before, now);

	rows.list = calloc(rows.n + 1, sizeof(*rows.list));
	rows.order = calloc(rows.n + 1, sizeof(const struct top_row *));
	if (!rows.list || !rows.order) {
		top_rows_done(&rows);
		return -ENOMEM;
	}
	for (size_t i = 0; i < rows.n; i++) {
		struct top_row *row = &rows.list[i];

		row->key = now->live.rows.list[i];
		make_label(owners, &row->key, row->label, sizeof(row->label));
		row->rate = sample_rate(before, now, i);
		row->kept = rate_kept(&row->rate, &row->reason);
		append_history(old, row);
		rate_add(&rows.total, &row->rate);
		/* Nothing goes direct by a shared row; it is of interest when it keeps something. */
		if (!(row->key.entry.flags & MAPS_FLAG_SHARED) || row->kept > 0)
			rows.order[rows.n_order++] = row;
	}
	rate_add(&rows.total, &no_entry);
	*ret = rows;
	return 0;
}

struct comparison {
	enum top_sort sort;
	bool reverse;
};

static double value_of(const struct top_row *row, enum top_sort sort)
{
	switch (sort) {
	case TOP_SORT_BITS:
		return row->rate.bytes;
	case TOP_SORT_PACKETS:
		return row->rate.packets;
	case TOP_SORT_KEPT:
		return row->kept;
	case TOP_SORT_NAME:
		return 0;
	}
	return 0;
}

/* The most first; rows with as much by name, so that idle ones do not dance. */
static int compare_shown(const void *pa, const void *pb, void *userdata)
{
	const struct comparison *how = userdata;
	const struct top_row *a = *(const struct top_row *const *)pa;
	const struct top_row *b = *(const struct top_row *const *)pb;
	double va = value_of(a, how->sort), vb = value_of(b, how->sort);
	int c = va > vb ? -1 : va < vb ? 1 : 0;

	if (c == 0)
		c = strcmp(a->label, b->label);
	if (c == 0)
		c = row_compare(&a->key, &b->key);
	return how->reverse ? -c : c;
}

void top_rows_sort(struct top_rows *rows, enum top_sort sort, bool reverse)
{
	struct comparison how = { sort, reverse };

	if (rows->n_order > 0)
		qsort_r(rows->order, rows->n_order, sizeof(*rows->order), compare_shown, &how);
}

struct top_layout top_layout_make(const struct top_rows *rows, unsigned int width, bool unicode)
{
	struct top_layout layout = { .label = LABEL_MIN, .unicode = unicode };
	unsigned int rest;

	for (size_t i = 0; i < rows->n_order; i++)
		if (strlen(rows->order[i]->label) > layout.label)
			layout.label = (unsigned int)strlen(rows->order[i]->label);
	if (width == 0) {
		layout.remote = true;
		layout.history = HISTORY_UNLIMITED;
		return layout;
	}
	rest = width > FIXED_WIDTH + LABEL_MIN ? width - FIXED_WIDTH : LABEL_MIN;
	if (layout.label > rest - HISTORY_MIN && rest >= LABEL_MIN + HISTORY_MIN)
		layout.label = rest - HISTORY_MIN;
	if (layout.label > rest)
		layout.label = rest;
	rest -= layout.label;
	layout.remote = rest >= REMOTE_WIDTH + GAP + 2 * HISTORY_MIN;
	if (layout.remote)
		rest -= REMOTE_WIDTH + GAP;
	layout.history = rest < HISTORY_MIN ? 0 : rest > TOP_HISTORY ? TOP_HISTORY : rest;
	return layout;
}

/* Blocks of eight heights, by the row's own highest; nothing at all is a blank. */
static void draw_history(const struct top_layout *layout, const struct top_row *row, FILE *out)
{
	static const char *const blocks[] = { "\u2581", "\u2582", "\u2583", "\u2584", "\u2585",
		"\u2586", "\u2587", "\u2588" };
	static const char ascii[] = "_.-:=+*#";
	size_t n = row->n_history < layout->history ? row->n_history : layout->history;
	const float *history = row->history + row->n_history - n;
	float highest = 0;

	for (size_t i = 0; i < n; i++)
		if (history[i] > highest)
			highest = history[i];
	for (size_t i = 0; i < n; i++) {
		size_t height = 0;

		if (highest > 0)
			height = (size_t)(history[i] / highest * 7.999F);
		if (history[i] <= 0)
			(void)fputc(' ', out);
		else if (layout->unicode)
			(void)fputs(blocks[height], out);
		else
			(void)fputc(ascii[height], out);
	}
}

static void print_label(FILE *out, const char *label, unsigned int width)
{
	if (strlen(label) > width) /* "~": there is more of it */
		(void)fprintf(out, "%.*s~", (int)width - 1, label);
	else
		(void)fprintf(out, "%-*s", (int)width, label);
}

static void trim(char *text)
{
	size_t n = strlen(text);

	while (n > 0 && text[n - 1] == ' ')
		text[--n] = '\0';
}

void top_title(const struct top_layout *layout, char buf[static TOP_LINE_MAX])
{
	(void)snprintf(buf, TOP_LINE_MAX, "%-*s  %s%*s  %*s  %*s  %-*s  %s", (int)layout->label,
		"TUNNEL", layout->remote ? "REMOTE           " : "", NUMBER_WIDTH, "PKT/S",
		NUMBER_WIDTH, "BIT/S", NUMBER_WIDTH, "KEPT/S", REASON_WIDTH, "MOSTLY",
		layout->history > 0 ? "HISTORY" : "");
	trim(buf);
}

void top_line(
	const struct top_layout *layout, const struct top_row *row, char buf[static TOP_LINE_MAX])
{
	const struct rate *rate = &row->rate;
	FILE *out = fmemopen(buf, TOP_LINE_MAX, "w");

	buf[0] = '\0';
	if (!out)
		return;
	print_label(out, row->label, layout->label);
	if (layout->remote)
		(void)fprintf(out, "  %-*s", REMOTE_WIDTH, IP4_FORMAT(row->key.remote));
	(void)fprintf(out, "  %*s  %*s  %*s  %-*s  ", NUMBER_WIDTH,
		rate->known ? HUMAN_RATE(rate->packets) : "-", NUMBER_WIDTH,
		rate->known ? HUMAN_RATE(rate->bytes * 8) : "-", NUMBER_WIDTH,
		rate->known ? HUMAN_RATE(row->kept) : "-", REASON_WIDTH,
		row->reason == MAPS_REASON_COUNT ? "" : maps_reason_name(row->reason));
	draw_history(layout, row, out);
	(void)fclose(out);
	trim(buf);
}

void top_summary(
	const struct top_head *head, const struct top_rows *rows, char buf[static TOP_LINE_MAX])
{
	char time_text[SAMPLE_TIME_MAX];
	enum maps_reason reason;
	double kept = rate_kept(&rows->total, &reason);

	/* The time of the day alone: the date is no news. */
	(void)sample_time(head->now, time_text);
	time_text[19] = '\0';
	(void)snprintf(buf, TOP_LINE_MAX, "%sZ  %zu rows  %s pkt/s  %s bit/s direct  %s/s kept",
		time_text + 11, rows->n, rows->total.known ? HUMAN_RATE(rows->total.packets) : "-",
		rows->total.known ? HUMAN_RATE(rows->total.bytes * 8) : "-",
		rows->total.known ? HUMAN_RATE(kept) : "-");
	if (rows->total.known && reason != MAPS_REASON_COUNT)
		(void)snprintf(buf + strlen(buf), TOP_LINE_MAX - strlen(buf), " (%s)",
			maps_reason_name(reason));
}
