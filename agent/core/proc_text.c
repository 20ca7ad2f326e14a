/* SPDX-License-Identifier: MIT */
#include <ctype.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "agent/core/proc_text.h"

#define ID_MIN 32   /* hexadecimal digits: below that it is a word */
#define ID_SHOWN 12 /* of which tools show this many */

/* Digits only: no sign, no blank, no leading zero, as the kernel writes a pid. */
static const char *parse_pid(const char *text, uint32_t *ret)
{
	char *end;
	unsigned long value;

	if (text[0] < '1' || text[0] > '9')
		return NULL;
	errno = 0;
	value = strtoul(text, &end, 10);
	if (errno != 0 || value > INT32_MAX)
		return NULL;
	*ret = (uint32_t)value;
	return end;
}

int proc_parse_link(const char *text, uint32_t *ret_pid)
{
	static const char proc[] = "/proc/", task[] = "/task/";
	const char *rest;
	uint32_t pid;

	if (strncmp(text, proc, sizeof(proc) - 1) != 0)
		return -EINVAL;
	rest = parse_pid(text + sizeof(proc) - 1, &pid);
	if (rest && strncmp(rest, task, sizeof(task) - 1) == 0)
		rest = parse_pid(rest + sizeof(task) - 1, &pid);
	if (!rest || strcmp(rest, "/ns/net") != 0)
		return -EINVAL;
	*ret_pid = pid;
	return 0;
}

static bool ends_with(const char *text, size_t n, const char *end)
{
	size_t n_end = strlen(end);

	return n > n_end && memcmp(text + n - n_end, end, n_end) == 0;
}

static bool starts_with(const char *text, size_t n, const char *start)
{
	size_t n_start = strlen(start);

	return n >= n_start && memcmp(text, start, n_start) == 0;
}

/* "0123…", "docker-0123….scope", "cri-containerd-0123….scope", "libpod-0123…" */
static bool label_container(const char *part, size_t n, char ret[static PROC_LABEL_MAX])
{
	size_t digits = 0, before;

	if (ends_with(part, n, ".scope"))
		n -= strlen(".scope");
	while (digits < n && isxdigit((unsigned char)part[n - 1 - digits]))
		digits++;
	before = n - digits;
	if (digits < ID_MIN || (before > 0 && part[before - 1] != '-'))
		return false;
	(void)snprintf(ret, PROC_LABEL_MAX, "%.*s%.*s", (int)before, part, ID_SHOWN, part + before);
	return true;
}

/* A session or a user's manager holds everything that somebody started: the command says more. */
static bool is_login(const char *part, size_t n)
{
	return starts_with(part, n, "session-") || starts_with(part, n, "user@") ||
	       (n == strlen("init.scope") && starts_with(part, n, "init.scope"));
}

static bool label_unit(const char *part, size_t n, char ret[static PROC_LABEL_MAX])
{
	if (!ends_with(part, n, ".service") && !ends_with(part, n, ".scope"))
		return false;
	if (is_login(part, n))
		return false;
	(void)snprintf(ret, PROC_LABEL_MAX, "%.*s", (int)n, part);
	return true;
}

/* The outermost container, else the innermost unit. */
static int label_path(const char *path, size_t size, char ret[static PROC_LABEL_MAX])
{
	int r = -ENOENT;

	for (size_t i = 0, n; i < size; i += n + 1) {
		n = 0;
		while (i + n < size && path[i + n] != '/')
			n++;
		if (label_container(path + i, n, ret))
			return 0;
		if (label_unit(path + i, n, ret))
			r = 0;
	}
	return r;
}

/* Lines are "HIERARCHY:CONTROLLERS:PATH". Of v1's many, systemd's own names units. */
int proc_label_from_cgroup(const char *text, char ret[static PROC_LABEL_MAX])
{
	char label[PROC_LABEL_MAX];

	for (const char *line = text; *line;) {
		size_t n = strcspn(line, "\n");
		const char *colon = memchr(line, ':', n);
		const char *path =
			colon ? memchr(colon + 1, ':', n - (size_t)(colon + 1 - line)) : NULL;

		if (path && label_path(path + 1, n - (size_t)(path + 1 - line), label) == 0) {
			memcpy(ret, label, PROC_LABEL_MAX);
			return 0;
		}
		line += n + (line[n] == '\n');
	}
	return -ENOENT;
}

int proc_label_from_comm(const char *text, char ret[static PROC_LABEL_MAX])
{
	size_t n = strcspn(text, "\n");

	if (n == 0)
		return -ENOENT;
	(void)snprintf(ret, PROC_LABEL_MAX, "%.*s",
		(int)(n < PROC_LABEL_MAX ? n : PROC_LABEL_MAX - 1), text);
	return 0;
}

bool proc_same_uid_map(const char *a, const char *b)
{
	return a[0] != '\0' && strcmp(a, b) == 0;
}
