/* SPDX-License-Identifier: MIT */
#pragma once
/* One line to stderr, with the level that journald understands when it listens. Not for library code. */

#include <syslog.h>

/* LOG_ERR … LOG_DEBUG; lines above the level are dropped. */
void log_set_level(int level);

/* "error", "warning", "notice", "info", "debug". 0 or -EINVAL. */
int log_level_parse(const char *name, int *ret);

__attribute__((format(printf, 2, 3))) void log_line(int level, const char *format, ...);

#define log_error(...) log_line(LOG_ERR, __VA_ARGS__)
#define log_warning(...) log_line(LOG_WARNING, __VA_ARGS__)
#define log_notice(...) log_line(LOG_NOTICE, __VA_ARGS__)
#define log_info(...) log_line(LOG_INFO, __VA_ARGS__)
#define log_debug(...) log_line(LOG_DEBUG, __VA_ARGS__)
