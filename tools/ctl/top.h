/* SPDX-License-Identifier: MIT */
#pragma once
/* Between the halves of top: top.c reads and decides, top_rows.c orders and lays out, top_screen.c draws. */

#include <stdbool.h>
#include <stddef.h>

#include "tools/ctl/ctl.h"
#include "tools/ctl/sample.h"

#define TOP_HISTORY 60    /* rounds */
#define TOP_LINE_MAX 1024 /* bytes of a line */

enum top_sort {
	TOP_SORT_BITS,
	TOP_SORT_PACKETS,
	TOP_SORT_KEPT,
	TOP_SORT_NAME,
};

/* "b", "p", "k", "n". 0 or -EINVAL. */
int top_sort_parse(const char *text, enum top_sort *ret);

/* One row of the maps, over the last rounds. */
struct top_row {
	struct row key;
	char label[64]; /* whose it is, or its key; printable ASCII */
	struct rate rate;
	double kept;
	enum maps_reason reason;    /* of most that was kept */
	float history[TOP_HISTORY]; /* packets a second, the newest last */
	size_t n_history;
};

struct top_rows {
	struct top_row *list; /* sorted by row_compare() */
	size_t n;
	const struct top_row **order; /* the same, as they are shown */
	size_t n_order;
	struct rate total;
};

/* From two readings, and the rows of the round before, which give their history. 0 or -ENOMEM. */
int top_rows_make(const struct top_rows *old, const struct sample *before, const struct sample *now,
	const struct owners *owners, struct top_rows *ret);
void top_rows_done(struct top_rows *rows);
void top_rows_sort(struct top_rows *rows, enum top_sort sort, bool reverse);

/* How a table of `width` columns is laid out; 0: no limit. */
struct top_layout {
	unsigned int label, history;
	bool remote;
	bool unicode; /* else the history is drawn in ASCII */
};

struct top_layout top_layout_make(const struct top_rows *rows, unsigned int width, bool unicode);
void top_title(const struct top_layout *layout, char buf[static TOP_LINE_MAX]);
void top_line(
	const struct top_layout *layout, const struct top_row *row, char buf[static TOP_LINE_MAX]);

/* What stands above the table: how many, how much in total, and what is wrong. */
struct top_head {
	const struct sample *now;
	const char *agent; /* in what state the agent is */
	const char *error; /* NULL, or why this round could not be read */
};

void top_summary(
	const struct top_head *head, const struct top_rows *rows, char buf[static TOP_LINE_MAX]);

/* ---- the terminal */

enum top_key {
	TOP_KEY_NONE,
	TOP_KEY_QUIT,
	TOP_KEY_SORT, /* *sort was changed */
	TOP_KEY_REVERSE,
	TOP_KEY_SCROLL,
};

struct top_screen;

/* Takes the terminal over. -ENOTTY: it cannot be drawn on. */
int top_screen_open(struct top_screen **ret);
/* Gives it back as it was. Before anything else is printed. */
void top_screen_close(struct top_screen *screen);
void top_screen_draw(struct top_screen *screen, const struct top_head *head,
	const struct top_rows *rows, enum top_sort sort, bool reverse, bool unicode);
/* Takes one key that was pressed; TOP_KEY_NONE: there is no more, or it means nothing. */
enum top_key top_screen_read(struct top_screen *screen, enum top_sort *sort);
/* The terminal has another size. */
void top_screen_resize(struct top_screen *screen);
