/* SPDX-License-Identifier: MIT */
#include <errno.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/uio.h>
#include <unistd.h>

/* Whoever calls us says where he is. */
#define SD_JOURNAL_SUPPRESS_LOCATION
#include <systemd/sd-journal.h>

#include "agent/util/array.h"
#include "agent/util/cleanup.h"
#include "agent/util/escape.h"
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

void log_escape(const char *text, char *out, size_t size)
{
	const char *end = out + size;

	for (const unsigned char *p = (const unsigned char *)text; *p && end - out > ESCAPED_MAX;
		p++)
		out = escape_invisible(out, *p);
	*out = '\0';
}

/* systemd.exec(5): the device and inode of the stream; set for our stderr, or for that of a parent. */
static bool is_journal(void)
{
	static int known = -1;
	const char *stream = getenv("JOURNAL_STREAM");
	uintmax_t dev, ino;
	struct stat st;

	if (known < 0)
		known = stream && sscanf(stream, "%ju:%ju", &dev, &ino) == 2 &&
			fstat(STDERR_FILENO, &st) == 0 && st.st_dev == dev && st.st_ino == ino;
	return known;
}

/* "NAME=value", of a field that is there. The caller's. */
struct fields {
	struct iovec list[16];
	size_t n;
};

static void fields_done(struct fields *fields)
{
	for (size_t i = 0; i < fields->n; i++)
		free(fields->list[i].iov_base);
}

__attribute__((format(printf, 2, 3))) static void add_field(
	struct fields *fields, const char *format, ...)
{
	va_list ap;
	char *text;
	int n;

	va_start(ap, format);
	n = vasprintf(&text, format, ap);
	va_end(ap);
	if (n >= 0)
		fields->list[fields->n++] = (struct iovec){ text, (size_t)n };
}

/* Names are escaped as in the text, so that one can be found by what the other says. */
static void add_name(struct fields *fields, const char *field, const char *value)
{
	char escaped[1024];

	if (!value)
		return;
	log_escape(value, escaped, sizeof(escaped));
	add_field(fields, "%s=%s", field, escaped);
}

static int send_to_journal(
	int level, const struct log_about *about, const struct log_place *place, const char *text)
{
	_cleanup_(fields_done) struct fields fields = { .n = 0 };

	add_field(&fields, "MESSAGE=%s", text);
	add_field(&fields, "PRIORITY=%d", level);
	add_field(&fields, "SYSLOG_IDENTIFIER=ipipdirectd");
	add_field(&fields, "CODE_FILE=%s", place->file);
	add_field(&fields, "CODE_LINE=%d", place->line);
	add_field(&fields, "CODE_FUNC=%s", place->function);
	if (about) {
		add_name(&fields, "MESSAGE_ID", about->id);
		add_name(&fields, "IPIPDIRECT_NETNS", about->netns);
		add_name(&fields, "IPIPDIRECT_IFNAME", about->ifname);
		add_name(&fields, "IPIPDIRECT_REMOTE", about->remote);
		add_name(&fields, "IPIPDIRECT_REASON", about->reason);
	}
	return sd_journal_sendv(fields.list, (int)fields.n);
}

void log_line(int level, const struct log_place *place, const struct log_about *about,
	const char *format, ...)
{
	char text[1024], escaped[4 * sizeof(text)];
	va_list ap;

	if (level > max_level)
		return;
	va_start(ap, format);
	(void)vsnprintf(text, sizeof(text), format, ap);
	va_end(ap);
	log_escape(text, escaped, sizeof(escaped));
	if (is_journal() && send_to_journal(level, about, place, escaped) >= 0)
		return;
	/* sd-daemon(3): the prefix carries the level. */
	if (is_journal())
		(void)fprintf(stderr, "<%d>%s\n", level, escaped);
	else
		(void)fprintf(stderr, "ipipdirectd: %s\n", escaped);
}
