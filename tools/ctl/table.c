/* SPDX-License-Identifier: MIT */
#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "agent/util/array.h"
#include "agent/util/cleanup.h"
#include "tools/ctl/output.h"
#include "tools/ctl/table.h"

#define GAP 2 /* blanks between columns */

/* How a column is printed; a width of 0 means not at all. */
struct layout {
	size_t *widths;
	size_t n;
};

void table_init(struct table *ret, const struct table_column *columns, size_t n_columns)
{
	*ret = (struct table){ .columns = columns, .n_columns = n_columns };
}

void table_done(struct table *table)
{
	for (size_t i = 0; i < table->n_cells; i++)
		free(table->cells[i]);
	free(table->cells);
	*table = (struct table){ 0 };
}

void table_add(struct table *table, const char *format, ...)
{
	_cleanup_free_ char *text = NULL;
	char **slot;
	va_list ap;

	va_start(ap, format);
	text = text_format(format, ap);
	va_end(ap);
	slot = text ? ARRAY_APPEND(table->cells, table->n_cells) : NULL;
	if (slot)
		*slot = text_escape(text);
	if (!slot || !*slot) {
		table->failed = true;
		return;
	}
	table->n_cells++;
}

static size_t total(const struct layout *layout)
{
	size_t sum = 0;

	for (size_t i = 0; i < layout->n; i++)
		if (layout->widths[i] > 0)
			sum += layout->widths[i] + (sum > 0 ? GAP : 0);
	return sum;
}

static void measure(const struct table *table, struct layout *layout)
{
	for (size_t i = 0; i < layout->n; i++)
		layout->widths[i] = table->no_titles ? 1 : strlen(table->columns[i].title);
	for (size_t i = 0; i < table->n_cells; i++) {
		size_t n = strlen(table->cells[i]), column = i % layout->n;

		if (n > layout->widths[column])
			layout->widths[column] = n;
	}
}

/* The next column to leave out; `n` when there is none. */
static size_t find_droppable(const struct table *table, const struct layout *layout)
{
	size_t found = layout->n;

	for (size_t i = 0; i < layout->n; i++) {
		if (layout->widths[i] == 0 || table->columns[i].drop == 0)
			continue;
		if (found == layout->n || table->columns[i].drop > table->columns[found].drop)
			found = i;
	}
	return found;
}

static void shrink(const struct table *table, struct layout *layout, size_t width)
{
	for (size_t i = 0; i < layout->n && total(layout) > width; i++) {
		size_t min = table->columns[i].shrinkto;
		size_t title = table->no_titles ? 0 : strlen(table->columns[i].title);
		size_t excess = total(layout) - width;

		if (min == 0 || layout->widths[i] == 0)
			continue;
		if (min < title)
			min = title;
		if (layout->widths[i] <= min)
			continue;
		layout->widths[i] =
			layout->widths[i] - min < excess ? min : layout->widths[i] - excess;
	}
}

static void fit(const struct table *table, struct layout *layout, size_t width)
{
	while (width > 0 && total(layout) > width) {
		size_t column = find_droppable(table, layout);

		if (column == layout->n)
			break;
		layout->widths[column] = 0;
	}
	if (width > 0)
		shrink(table, layout, width);
}

/* `last`: nothing follows, so no blanks do either. */
static void print_cell(const struct table_column *column, size_t width, const char *text, bool last)
{
	if (strlen(text) > width) /* "~": there is more of it */
		(void)printf("%.*s~", (int)width - 1, text);
	else if (column->right)
		(void)printf("%*s", (int)width, text);
	else if (last)
		(void)fputs(text, stdout);
	else
		(void)printf("%-*s", (int)width, text);
	if (!last)
		(void)printf("%*s", GAP, "");
}

static void print_line(
	const struct table *table, const struct layout *layout, const char *const *texts)
{
	size_t last = 0;

	for (size_t i = 0; i < layout->n; i++)
		if (layout->widths[i] > 0 && texts[i][0])
			last = i;
	for (size_t i = 0; i <= last; i++)
		if (layout->widths[i] > 0)
			print_cell(&table->columns[i], layout->widths[i], texts[i], i == last);
	(void)fputc('\n', stdout);
}

int table_print(const struct table *table, unsigned int width)
{
	_cleanup_free_ size_t *widths = calloc(table->n_columns, sizeof(*widths));
	_cleanup_free_ const char **titles = calloc(table->n_columns, sizeof(*titles));
	struct layout layout = { .widths = widths, .n = table->n_columns };

	if (!widths || !titles || table->failed)
		return -ENOMEM;
	for (size_t i = 0; i < table->n_columns; i++)
		titles[i] = table->columns[i].title;
	measure(table, &layout);
	fit(table, &layout, width);
	if (!table->no_titles)
		print_line(table, &layout, titles);
	for (size_t i = 0; i + table->n_columns <= table->n_cells; i += table->n_columns)
		print_line(table, &layout, (const char *const *)&table->cells[i]);
	return 0;
}
