/* SPDX-License-Identifier: MIT */
#pragma once
/*
 * One line to stderr, or, when the journal is at its other end, an entry of the journal with fields. Not
 * for library code.
 */

#include <stddef.h>
#include <syslog.h>

/* LOG_ERR … LOG_DEBUG; lines above the level are dropped. */
void log_set_level(int level);

/* "error", "warning", "notice", "info", "debug". 0 or -EINVAL. */
int log_level_parse(const char *name, int *ret);

/*
 * Names of namespaces and interfaces are chosen by others: everything but printable ASCII becomes \xNN,
 * so that neither a control sequence, of eight bits or in UTF-8, nor a mark of direction reaches a
 * terminal. Cut where `size` ends; log_line() does it itself.
 */
void log_escape(const char *text, char *out, size_t size);

/* What programs may filter by, sd_id128_to_string(): MESSAGE_ID=, which never changes. ipipdirectd(8) */
#define LOG_ID_ATTACHED "5a1c7f0d3be94d0f9d0b6c1d8c5b7e21"
#define LOG_ID_NOT_ATTACHED "b2f1e9c47d5a4c3a8e6f0d9b1a7c3e54"
#define LOG_ID_RESTORED "0e8d4b6a92c74f5bb3d1f7a5c2e60918"
#define LOG_ID_PLACED "c96f3a1e57b84d2e8a40d5b7f3c1e682"
#define LOG_ID_CONFIG_LOADED "7d20b5c8e1f64a93a6b9c4d7e0f31582"
#define LOG_ID_CONFIG_REFUSED "e4a97c31d0b84f6f9c25a8d3b6f07e14"
#define LOG_ID_MODE "31c8f6e2a7d94b058e1fb4c9d6a25037"
#define LOG_ID_PASS_FAILED "98e5d1b7c3a24f60b7d8f2e6a1c94035"
#define LOG_ID_ROW_FAILED "d73b0f9e6c184a25915ec7a4f8b2d360"

/* What a line is about: fields of the journal. NULL: not about such a thing. */
struct log_about {
	const char *id;     /* MESSAGE_ID= */
	const char *netns;  /* IPIPDIRECT_NETNS= */
	const char *ifname; /* IPIPDIRECT_IFNAME= */
	const char *remote; /* IPIPDIRECT_REMOTE= */
	const char *reason; /* IPIPDIRECT_REASON= */
};

/* Where in the source a line is said; CODE_*= */
struct log_place {
	const char *file;
	const char *function;
	int line;
};

__attribute__((format(printf, 4, 5))) void log_line(int level, const struct log_place *place,
	const struct log_about *about, const char *format, ...);

#define LOG_HERE (&(const struct log_place){ __FILE__, __func__, __LINE__ })

/* log_about(LOG_ERR, &(const struct log_about){ .ifname = name }, "…", …) */
#define log_about(level, ...) log_line((level), LOG_HERE, __VA_ARGS__)

#define log_error(...) log_line(LOG_ERR, LOG_HERE, NULL, __VA_ARGS__)
#define log_warning(...) log_line(LOG_WARNING, LOG_HERE, NULL, __VA_ARGS__)
#define log_notice(...) log_line(LOG_NOTICE, LOG_HERE, NULL, __VA_ARGS__)
#define log_info(...) log_line(LOG_INFO, LOG_HERE, NULL, __VA_ARGS__)
#define log_debug(...) log_line(LOG_DEBUG, LOG_HERE, NULL, __VA_ARGS__)
