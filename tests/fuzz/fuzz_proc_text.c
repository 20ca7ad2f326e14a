/* SPDX-License-Identifier: MIT */
/* Texts of /proc, with names that others chose. */

#include <errno.h>

#include "agent/core/proc_text.h"
#include "agent/util/cleanup.h"
#include "tests/fuzz/fuzz.h"

#define UNTOUCHED '\x5a'

static void check_label(int (*make)(const char *, char *), const char *text)
{
	_cleanup_free_ char *label = malloc(PROC_LABEL_MAX);
	int r;

	CHECK(label);
	memset(label, UNTOUCHED, PROC_LABEL_MAX);
	r = make(text, label);
	if (r < 0) {
		CHECK(r == -ENOENT);
		for (size_t i = 0; i < PROC_LABEL_MAX; i++)
			CHECK(label[i] == UNTOUCHED);
		return;
	}
	CHECK(memchr(label, '\0', PROC_LABEL_MAX));
	CHECK(label[0] != '\0' && !strchr(label, '\n'));
}

static void check_link(const char *text)
{
	char again[64];
	uint32_t pid = 0;
	int r = proc_parse_link(text, &pid);

	if (r < 0) {
		CHECK(r == -EINVAL && pid == 0);
		return;
	}
	CHECK(pid > 0 && pid <= INT32_MAX);
	(void)snprintf(again, sizeof(again), "/proc/%u/ns/net", pid);
	CHECK(strcmp(text, again) == 0 || strstr(text, "/task/"));
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	_cleanup_free_ char *text = copy_text(data, size);
	_cleanup_free_ char *half = copy_text(data, size / 2);

	check_label(proc_label_from_cgroup, text);
	check_label(proc_label_from_comm, text);
	check_link(text);
	CHECK(proc_same_uid_map(text, text) == (text[0] != '\0'));
	CHECK(proc_same_uid_map(text, half) == proc_same_uid_map(half, text));
	return 0;
}
