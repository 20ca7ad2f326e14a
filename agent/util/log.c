/* SPDX-License-Identifier: MIT */
#include <errno.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "agent/util/array.h"
#include "agent/util/log.h"

static int max_level = LOG_INFO;

static const struct {
	const char *name;
	int level;
} levels[] = {
	{ "error", LOG_ERR },
	{ "warning", LOG_WARNING },
	{ "notice", LOG_NOTICE },
	{ "info", LOG_INFO },
	{ "debug", LOG_DEBUG },
};

void log_set_level(int level)
{
	max_level = level;
}

int log_level_parse(const char *name, int *ret)
{
	for (size_t i = 0; i < ELEMENTS_OF(levels); i++) {
		if (strcmp(levels[i].name, name) == 0) {
			*ret = levels[i].level;
			return 0;
		}
	}
	return -EINVAL;
}

/* Names of namespaces and interfaces are chosen by others: no control character reaches a terminal. */
static void escape(const char *text, char *out, size_t size)
{
	size_t n = 0;

	for (const unsigned char *p = (const unsigned char *)text; *p && n + 5 < size; p++) {
		if (*p < 0x20 || *p == 0x7f)
			n += (size_t)snprintf(out + n, size - n, "\\x%02x", *p);
		else
			out[n++] = (char)*p;
	}
	out[n] = '\0';
}

void log_line(int level, const char *format, ...)
{
	char text[1024], escaped[4 * sizeof(text)];
	va_list ap;

	if (level > max_level)
		return;
	va_start(ap, format);
	(void)vsnprintf(text, sizeof(text), format, ap);
	va_end(ap);
	escape(text, escaped, sizeof(escaped));
	/* sd-daemon(3): the prefix carries the level. JOURNAL_STREAM: journald is at the other end. */
	if (getenv("JOURNAL_STREAM"))
		(void)fprintf(stderr, "<%d>%s\n", level, escaped);
	else
		(void)fprintf(stderr, "ipipdirectd: %s\n", escaped);
}
