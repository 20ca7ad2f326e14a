/* SPDX-License-Identifier: MIT */
#include <inttypes.h>
#include <limits.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <unistd.h>

#include "agent/core/status.h"
#include "agent/util/array.h"
#include "agent/util/cleanup.h"
#include "agent/util/escape.h"
#include "tools/ctl/ctl.h"
#include "tools/ctl/output.h"

#define COMPLAINT_INDENT 2

char *text_escape(const char *text)
{
	char *escaped = malloc(ESCAPED_MAX * strlen(text) + 1);
	char *out = escaped;

	if (!escaped)
		return NULL;
	for (const unsigned char *p = (const unsigned char *)text; *p; p++)
		out = escape_invisible(out, *p);
	*out = '\0';
	return escaped;
}

/* Whether each character stands for itself, wherever in a command line. */
static bool is_plain_word(const char *name)
{
	static const char plain[] = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789"
				    "_./:@%+,=-";
	size_t n = strspn(name, plain);

	return n > 0 && n < PATH_MAX && name[n] == '\0';
}

const char *shell_word(const char *name, char buf[static SHELL_WORD_MAX])
{
	char *out = buf;

	if (is_plain_word(name)) {
		return memcpy(buf, name, strlen(name) + 1);
	}
	*out++ = '$';
	*out++ = '\'';
	for (size_t i = 0; i < PATH_MAX && name[i]; i++) {
		unsigned char c = (unsigned char)name[i];

		if (c == '\'' || c == '\\')
			out = escape_byte(out, c);
		else
			out = escape_invisible(out, c);
	}
	*out++ = '\'';
	*out = '\0';
	return buf;
}

char *text_format(const char *format, va_list ap)
{
	char *text;

	return vasprintf(&text, format, ap) < 0 ? NULL : text;
}

/* As it is printed: NULL when memory is short. */
__attribute__((format(printf, 1, 0))) static char *format_escaped(const char *format, va_list ap)
{
	_cleanup_free_ char *text = text_format(format, ap);

	return text ? text_escape(text) : NULL;
}

void print_escaped(FILE *out, const char *format, ...)
{
	_cleanup_free_ char *escaped = NULL;
	va_list ap;

	va_start(ap, format);
	escaped = format_escaped(format, ap);
	va_end(ap);
	if (escaped)
		(void)fputs(escaped, out);
}

/* The words of a text from `column` on, in lines of `width` of which all but the first begin at `indent`. */
static void print_words(
	FILE *out, unsigned int column, unsigned int indent, unsigned int width, char *text)
{
	char *save, *word = strtok_r(text, " ", &save);

	for (bool first = true; word; word = strtok_r(NULL, " ", &save), first = false) {
		unsigned int n = (unsigned int)strlen(word);

		if (first) {
			column += n;
		} else if (width > 0 && column + 1 + n > width) {
			(void)fprintf(out, "\n%*s", (int)indent, "");
			column = indent + n;
		} else {
			(void)fputc(' ', out);
			column += 1 + n;
		}
		(void)fputs(word, out);
	}
	(void)fputc('\n', out);
}

void print_wrapped(unsigned int indent, unsigned int width, const char *format, ...)
{
	_cleanup_free_ char *escaped = NULL;
	va_list ap;

	va_start(ap, format);
	escaped = format_escaped(format, ap);
	va_end(ap);
	if (escaped)
		print_words(stdout, indent, indent, width, escaped);
}

static bool wants_colour(void)
{
	const char *no_color = getenv("NO_COLOR"), *term = getenv("TERM");

	/* https://no-color.org: set and not empty. */
	if (no_color && no_color[0])
		return false;
	return isatty(STDOUT_FILENO) && term && strcmp(term, "dumb") != 0;
}

const char *colour_begin(enum colour colour)
{
	if (!wants_colour())
		return "";
	switch (colour) {
	case COLOUR_NONE:
		return "";
	case COLOUR_GOOD:
		return "\033[32m";
	case COLOUR_WARNING:
		return "\033[33m";
	case COLOUR_BAD:
		return "\033[1;31m";
	}
	return "";
}

const char *colour_end(void)
{
	return wants_colour() ? "\033[0m" : "";
}

unsigned int output_width(void)
{
	const char *columns = getenv("COLUMNS");
	struct winsize size;
	char *end;

	if (columns && columns[0] >= '1' && columns[0] <= '9') {
		unsigned long n = strtoul(columns, &end, 10);

		if (*end == '\0' && n <= 10000)
			return (unsigned int)n;
	}
	if (ioctl(STDOUT_FILENO, TIOCGWINSZ, &size) == 0)
		return size.ws_col;
	return 0;
}

const char *human_bytes(uint64_t bytes, char buf[static HUMAN_MAX])
{
	static const char *const units[] = { "KiB", "MiB", "GiB", "TiB", "PiB", "EiB" };
	double value = (double)bytes;
	size_t unit = 0;

	if (bytes < 1024) {
		(void)snprintf(buf, HUMAN_MAX, "%" PRIu64 " B", bytes);
		return buf;
	}
	for (value /= 1024; value >= 1024 && unit + 1 < ELEMENTS_OF(units); unit++)
		value /= 1024;
	(void)snprintf(buf, HUMAN_MAX, "%.1f %s", value, units[unit]);
	return buf;
}

const char *human_rate(double rate, char buf[static HUMAN_MAX])
{
	static const char units[] = " kMGTPE";
	size_t unit = 0;

	while (rate >= 999.5 && unit + 2 < sizeof(units)) {
		rate /= 1000;
		unit++;
	}
	if (rate == 0)
		(void)snprintf(buf, HUMAN_MAX, "0");
	else if (unit == 0)
		(void)snprintf(buf, HUMAN_MAX, rate < 9.95 ? "%.1f" : "%.0f", rate);
	else
		(void)snprintf(
			buf, HUMAN_MAX, rate < 9.95 ? "%.1f%c" : "%.0f%c", rate, units[unit]);
	return buf;
}

const char *human_duration(int64_t seconds, char buf[static HUMAN_MAX])
{
	int64_t s = seconds < 0 ? 0 : seconds;

	if (s < 60)
		(void)snprintf(buf, HUMAN_MAX, "%" PRId64 "s", s);
	else if (s < 3600)
		(void)snprintf(buf, HUMAN_MAX, "%" PRId64 "m%" PRId64 "s", s / 60, s % 60);
	else if (s < 86400)
		(void)snprintf(buf, HUMAN_MAX, "%" PRId64 "h%" PRId64 "m", s / 3600, s % 3600 / 60);
	else
		(void)snprintf(
			buf, HUMAN_MAX, "%" PRId64 "d%" PRId64 "h", s / 86400, s % 86400 / 3600);
	return buf;
}

/* DEL is the one control character that jansson lets through; it can only be in a string. */
static int print_json_part(const char *text, size_t size, void *unused)
{
	(void)unused;
	for (size_t i = 0; i < size; i++)
		if (text[i] == 0x7f)
			(void)fputs("\\u007F", stdout);
		else
			(void)fputc(text[i], stdout);
	return 0;
}

static void print_json(const struct ctl *ctl, const json_t *document)
{
	/* ASCII: what JSON itself does not escape (C1 controls, marks of direction) is \uNNNN. */
	(void)json_dump_callback(document, print_json_part, NULL,
		JSON_ENSURE_ASCII | (ctl->pretty ? JSON_INDENT(2) : JSON_COMPACT));
	(void)fputc('\n', stdout);
}

static int fail_json(const struct ctl *ctl, enum ctl_exit status, const char *code,
	const char *hint, const char *message, const json_t *more)
{
	json_auto_t *error = json_pack("{s:{s:s, s:o, s:o}}", "error", "code", code, "message",
		status_text(message), "hint", hint ? status_text(hint) : json_null());
	json_t *object = json_object_get(error, "error");

	if (error && (!more || json_object_update(object, (json_t *)more) == 0))
		print_json(ctl, error);
	else
		(void)fputs("ipipdirectctl: no memory\n", stderr);
	return (int)status;
}

/* A terminal gets lines that end between words; whoever reads a pipe gets one line. */
static void print_complaint(const char *prefix, const char *text)
{
	_cleanup_free_ char *escaped = text_escape(text);
	struct winsize size = { 0 };

	(void)fputs(prefix, stderr);
	if (!escaped)
		(void)fputc('\n', stderr);
	else if (ioctl(STDERR_FILENO, TIOCGWINSZ, &size) == 0)
		print_words(stderr, (unsigned int)strlen(prefix), COMPLAINT_INDENT, size.ws_col,
			escaped);
	else
		(void)fprintf(stderr, "%s\n", escaped);
}

__attribute__((format(printf, 6, 0))) static int fail_va(const struct ctl *ctl,
	enum ctl_exit status, const char *code, const char *hint, const json_t *more,
	const char *format, va_list ap)
{
	_cleanup_free_ char *message = NULL;

	if (ctl->silent)
		return (int)status;
	message = text_format(format, ap);
	if (!message) {
		(void)fputs("ipipdirectctl: no memory\n", stderr);
		return (int)status;
	}
	if (ctl->json)
		return fail_json(ctl, status, code, hint, message, more);
	(void)fflush(stdout); /* what was printed comes before what is wrong with it */
	print_complaint("ipipdirectctl: ", message);
	if (hint)
		print_complaint("hint: ", hint);
	return (int)status;
}

int ctl_fail(const struct ctl *ctl, enum ctl_exit status, const char *code, const char *hint,
	const char *format, ...)
{
	va_list ap;
	int r;

	va_start(ap, format);
	r = fail_va(ctl, status, code, hint, NULL, format, ap);
	va_end(ap);
	return r;
}

int ctl_fail_with(const struct ctl *ctl, enum ctl_exit status, const char *code, json_t *more,
	const char *format, ...)
{
	json_auto_t *fields = more;
	va_list ap;
	int r;

	va_start(ap, format);
	r = fail_va(ctl, status, code, NULL, fields, format, ap);
	va_end(ap);
	return r;
}

void ctl_note(const struct ctl *ctl, const char *format, ...)
{
	_cleanup_free_ char *text = NULL;
	va_list ap;

	if (ctl->json)
		return;
	va_start(ap, format);
	text = text_format(format, ap);
	va_end(ap);
	if (!text)
		return;
	(void)fflush(stdout);
	print_complaint("ipipdirectctl: ", text);
}

int ctl_print_json(const struct ctl *ctl, json_t *document)
{
	if (!document)
		return ctl_fail(ctl, CTL_FAILED, "no-memory", NULL, "no memory");
	print_json(ctl, document);
	json_decref(document);
	return CTL_OK;
}
