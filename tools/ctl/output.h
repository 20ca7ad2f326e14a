/* SPDX-License-Identifier: MIT */
#pragma once
/* Text for people: escaped, aligned, as wide as the terminal. */

#include <limits.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <time.h>

/*
 * Names of namespaces and interfaces are chosen by others. A copy in which everything but printable
 * ASCII is \xNN: no control sequence reaches a terminal, no look-alike or right-to-left mark
 * deceives a reader, and a byte is a column. The caller's; NULL when memory is short.
 */
char *text_escape(const char *text);

/* vasprintf() that leaves nothing undefined: the caller's, or NULL when memory is short. */
__attribute__((format(printf, 1, 0))) char *text_format(const char *format, va_list ap);

/* fprintf(), escaped. */
__attribute__((format(printf, 2, 3))) void print_escaped(FILE *out, const char *format, ...);

/*
 * Prints one paragraph, escaped, on stdout, and ends the line. The first line begins behind
 * `indent` columns that are already printed; the others are indented so. Broken at blanks when
 * `width` is not 0.
 */
__attribute__((format(printf, 3, 4))) void print_wrapped(
	unsigned int indent, unsigned int width, const char *format, ...);

enum colour {
	COLOUR_NONE,
	COLOUR_GOOD,
	COLOUR_WARNING,
	COLOUR_BAD,
};

/* Begin and end of coloured text on stdout: "" unless it is a terminal and NO_COLOR is not set. */
const char *colour_begin(enum colour colour);
const char *colour_end(void);

/* Columns of the reader: $COLUMNS, else the terminal's; 0, no limit, when stdout is neither. */
unsigned int output_width(void);

#define SHELL_WORD_MAX (4 * PATH_MAX + 4)

/*
 * A name as one word of a command line that somebody may paste into a shell: as it is, or, with characters
 * that mean something there or cannot be seen, as $'...' (bash(1), QUOTING; also ksh and zsh). Names of
 * interfaces and namespaces are bytes that others choose. One that is longer than a path is cut. Returns `buf`.
 */
const char *shell_word(const char *name, char buf[static SHELL_WORD_MAX]);

#define SHELL_WORD(name) shell_word((name), (char[SHELL_WORD_MAX]){ 0 })

#define HUMAN_MAX 32

/* "1023 B", "1.5 KiB", …; returns `buf`. */
const char *human_bytes(uint64_t bytes, char buf[static HUMAN_MAX]);

/* A rate, in three digits: "0", "0.3", "12", "1.2k", "34M"; thousands, not 1024s. Returns `buf`. */
const char *human_rate(double rate, char buf[static HUMAN_MAX]);

/* "4s", "12m5s", "3h12m", "5d2h"; negative is 0. Returns `buf`. */
const char *human_duration(int64_t seconds, char buf[static HUMAN_MAX]);

#define HUMAN_BYTES(n) human_bytes((n), (char[HUMAN_MAX]){ 0 })
#define HUMAN_RATE(n) human_rate((n), (char[HUMAN_MAX]){ 0 })
#define HUMAN_DURATION(n) human_duration((n), (char[HUMAN_MAX]){ 0 })
