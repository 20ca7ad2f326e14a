/* SPDX-License-Identifier: MIT */
#include <inttypes.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <unistd.h>

#include "agent/core/status.h"
#include "agent/util/array.h"
#include "agent/util/cleanup.h"
#include "tools/ctl/ctl.h"
#include "tools/ctl/output.h"

char *text_escape(const char *text)
{
	static const char digits[] = "0123456789abcdef";
	char *escaped = malloc(4 * strlen(text) + 1);
	char *out = escaped;

	if (!escaped)
		return NULL;
	for (const unsigned char *p = (const unsigned char *)text; *p; p++) {
		if (*p >= 0x20 && *p < 0x7f) {
			*out++ = (char)*p;
			continue;
		}
		*out++ = '\\';
		*out++ = 'x';
		*out++ = digits[*p >> 4];
		*out++ = digits[*p & 15];
	}
	*out = '\0';
	return escaped;
}

__attribute__((format(printf, 2, 0))) static void print_escaped_va(
	FILE *out, const char *format, va_list ap)
{
	_cleanup_free_ char *text = NULL, *escaped = NULL;

	if (vasprintf(&text, format, ap) < 0) {
		text = NULL;
		return;
	}
	escaped = text_escape(text);
	if (escaped)
		(void)fputs(escaped, out);
}

void print_escaped(FILE *out, const char *format, ...)
{
	va_list ap;

	va_start(ap, format);
	print_escaped_va(out, format, ap);
	va_end(ap);
}

void print_wrapped(unsigned int indent, unsigned int width, const char *format, ...)
{
	_cleanup_free_ char *text = NULL, *escaped = NULL;
	unsigned int column = indent;
	char *save, *word;
	va_list ap;
	int r;

	va_start(ap, format);
	r = vasprintf(&text, format, ap);
	va_end(ap);
	if (r < 0)
		text = NULL;
	escaped = text ? text_escape(text) : NULL;
	word = escaped ? strtok_r(escaped, " ", &save) : NULL;
	for (bool first = true; word; word = strtok_r(NULL, " ", &save), first = false) {
		unsigned int n = (unsigned int)strlen(word);

		if (first) {
			column += n;
		} else if (width > 0 && column + 1 + n > width) {
			(void)printf("\n%*s", (int)indent, "");
			column = indent + n;
		} else {
			(void)fputc(' ', stdout);
			column += 1 + n;
		}
		(void)fputs(word, stdout);
	}
	(void)fputc('\n', stdout);
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
	const char *hint, const char *message)
{
	json_auto_t *error = json_pack("{s:{s:s, s:o, s:o}}", "error", "code", code, "message",
		status_text(message), "hint", hint ? status_text(hint) : json_null());

	if (error)
		print_json(ctl, error);
	else
		(void)fputs("ipipdirectctl: no memory\n", stderr);
	return (int)status;
}

int ctl_fail(const struct ctl *ctl, enum ctl_exit status, const char *code, const char *hint,
	const char *format, ...)
{
	_cleanup_free_ char *message = NULL;
	va_list ap;
	int r;

	va_start(ap, format);
	r = vasprintf(&message, format, ap);
	va_end(ap);
	if (r < 0) {
		message = NULL;
		(void)fputs("ipipdirectctl: no memory\n", stderr);
		return (int)status;
	}
	if (ctl->json)
		return fail_json(ctl, status, code, hint, message);
	(void)fflush(stdout); /* what was printed comes before what is wrong with it */
	print_escaped(stderr, "ipipdirectctl: %s", message);
	(void)fputc('\n', stderr);
	if (hint) {
		print_escaped(stderr, "hint: %s", hint);
		(void)fputc('\n', stderr);
	}
	return (int)status;
}

void ctl_note(const struct ctl *ctl, const char *format, ...)
{
	va_list ap;

	if (ctl->json)
		return;
	(void)fflush(stdout);
	(void)fputs("ipipdirectctl: ", stderr);
	va_start(ap, format);
	print_escaped_va(stderr, format, ap);
	va_end(ap);
	(void)fputc('\n', stderr);
}

int ctl_print_json(const struct ctl *ctl, json_t *document)
{
	if (!document)
		return ctl_fail(ctl, CTL_FAILED, "no-memory", NULL, "no memory");
	print_json(ctl, document);
	json_decref(document);
	return CTL_OK;
}
