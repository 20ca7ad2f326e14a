/* SPDX-License-Identifier: MIT */
/*
 * Draws on a terminal, by ncurses: it knows terminals, sends only what changed, and gives the terminal
 * back after a stop (^Z) too. No colours, so there is none to leave out for NO_COLOR.
 */
#include <curses.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <unistd.h>

#include "tools/ctl/top.h"

#define HEAD_LINES 3 /* summary, agent, titles */
#define FOOT_LINES 1

struct top_screen {
	SCREEN *screen;
	size_t first; /* the row at the top */
	size_t n;     /* rows when last drawn */
};

int top_screen_open(struct top_screen **ret)
{
	const char *term = getenv("TERM");
	struct top_screen *screen;

	if (!isatty(STDIN_FILENO) || !isatty(STDOUT_FILENO) || !term || !term[0] ||
		strcmp(term, "dumb") == 0)
		return -ENOTTY;
	screen = calloc(1, sizeof(*screen));
	if (!screen)
		return -ENOMEM;
	screen->screen = newterm(NULL, stdout, stdin);
	if (!screen->screen) {
		free(screen);
		return -ENOTTY;
	}
	(void)cbreak();
	(void)noecho();
	(void)nonl();
	(void)curs_set(0);
	(void)keypad(stdscr, TRUE);
	(void)nodelay(stdscr, TRUE);
	(void)set_escdelay(25);
	*ret = screen;
	return 0;
}

void top_screen_close(struct top_screen *screen)
{
	if (!screen)
		return;
	(void)endwin();
	delscreen(screen->screen);
	free(screen);
}

/* A line that is longer than the terminal is cut, not wrapped; only the history is not ASCII, and fits. */
static void put(int y, attr_t attribute, const char *text)
{
	bool ascii = true;

	if (y < 0 || y >= LINES)
		return;
	for (const char *p = text; *p; p++)
		ascii = ascii && (unsigned char)*p < 0x80;
	(void)attrset((int)attribute);
	(void)move(y, 0);
	(void)clrtoeol();
	(void)addnstr(text, ascii ? COLS : -1);
	if (attribute & A_REVERSE)
		for (int x = getcurx(stdscr); y == getcury(stdscr) && x < COLS; x++)
			(void)mvaddch(y, x, ' ');
	(void)attrset((int)A_NORMAL);
}

static size_t room(void)
{
	int n = LINES - HEAD_LINES - FOOT_LINES;

	return n > 0 ? (size_t)n : 0;
}

static void limit_scroll(struct top_screen *screen)
{
	size_t last = screen->n > room() ? screen->n - room() : 0;

	if (screen->first > last)
		screen->first = last;
}

static void draw_foot(const struct top_screen *screen, enum top_sort sort, bool reverse)
{
	static const char *const names[] = { "bits", "packets", "kept", "name" };
	char text[TOP_LINE_MAX];

	(void)snprintf(text, sizeof(text),
		"by %s%s: b bits, p packets, k kept, n name, r reverse, q quit   %zu-%zu of %zu",
		names[sort], reverse ? " reversed" : "", screen->n > 0 ? screen->first + 1 : 0,
		screen->first + room() < screen->n ? screen->first + room() : screen->n, screen->n);
	put(LINES - 1, A_NORMAL, text);
}

void top_screen_draw(struct top_screen *screen, const struct top_head *head,
	const struct top_rows *rows, enum top_sort sort, bool reverse, bool unicode)
{
	struct top_layout layout = top_layout_make(rows, (unsigned int)COLS, unicode);
	char text[TOP_LINE_MAX];

	screen->n = rows->n_order;
	limit_scroll(screen);
	(void)erase();
	top_summary(head, rows, text);
	put(0, A_BOLD, text);
	put(1, head->error ? A_BOLD : A_NORMAL, head->error ? head->error : head->agent);
	top_title(&layout, text);
	put(2, A_REVERSE, text);
	for (size_t i = 0; i < room() && screen->first + i < rows->n_order; i++) {
		const struct top_row *row = rows->order[screen->first + i];

		top_line(&layout, row, text);
		put(HEAD_LINES + (int)i, row->kept > 0 ? A_BOLD : A_NORMAL, text);
	}
	if (LINES > HEAD_LINES)
		draw_foot(screen, sort, reverse);
	(void)refresh();
}

static enum top_key scroll_to(struct top_screen *screen, size_t first)
{
	screen->first = first;
	limit_scroll(screen);
	return TOP_KEY_SCROLL;
}

enum top_key top_screen_read(struct top_screen *screen, enum top_sort *sort)
{
	int key = getch();
	char text[2] = { (char)key, '\0' };

	switch (key) {
	case ERR:
		return TOP_KEY_NONE;
	case 'L' - '@': /* ^L: somebody else wrote here */
		(void)clearok(stdscr, TRUE);
		return TOP_KEY_SCROLL;
	case 'q':
	case 'Q':
		return TOP_KEY_QUIT;
	case 'r':
		return TOP_KEY_REVERSE;
	case KEY_DOWN:
		return scroll_to(screen, screen->first + 1);
	case KEY_UP:
		return scroll_to(screen, screen->first > 0 ? screen->first - 1 : 0);
	case KEY_NPAGE:
	case ' ':
		return scroll_to(screen, screen->first + room());
	case KEY_PPAGE:
		return scroll_to(screen, screen->first > room() ? screen->first - room() : 0);
	case KEY_HOME:
		return scroll_to(screen, 0);
	case KEY_END:
		return scroll_to(screen, screen->n);
	default:
		if (key < 0x80 && top_sort_parse(text, sort) == 0)
			return TOP_KEY_SORT;
		return TOP_KEY_SCROLL; /* of no meaning; draw again all the same */
	}
}

void top_screen_resize(struct top_screen *screen)
{
	struct winsize size;

	if (ioctl(STDOUT_FILENO, TIOCGWINSZ, &size) == 0 && size.ws_row > 0 && size.ws_col > 0)
		(void)resizeterm(size.ws_row, size.ws_col);
	limit_scroll(screen);
}
