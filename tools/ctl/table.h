/* SPDX-License-Identifier: MIT */
#pragma once
/*
 * Tables for people. A table that is wider than the reader's terminal first leaves out the columns
 * that may go, then shortens those that may shrink; what still does not fit runs over.
 */

#include <stdbool.h>
#include <stddef.h>

struct table_column {
	const char *title;
	bool right;            /* numbers */
	unsigned int drop;     /* 0: stays; else the highest goes first */
	unsigned int shrinkto; /* 0: never shortened; else not below this many bytes */
};

struct table {
	const struct table_column *columns;
	size_t n_columns;
	char **cells; /* escaped, row by row */
	size_t n_cells;
	bool no_titles;
	bool failed; /* memory ran short: table_print() says so */
};

void table_init(struct table *ret, const struct table_column *columns, size_t n_columns);
void table_done(struct table *table);

/* The next cell, row by row; escaped here. */
__attribute__((format(printf, 2, 3))) void table_add(struct table *table, const char *format, ...);

/* Prints to stdout, at most `width` columns if that can be; 0: no limit. 0 or -ENOMEM. */
int table_print(const struct table *table, unsigned int width);
