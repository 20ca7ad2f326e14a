/* SPDX-License-Identifier: MIT */
/*
 * The files in which an agent leaves to the next what operators said, what it turned off, what it attached and which addresses were
 * the host's. What is
 * refused changes nothing; what is taken is within its limits, and written and read again it is the same.
 */

#include <errno.h>
#include <jansson.h>

#include "agent/core/offload.h"
#include "agent/core/once_held.h"
#include "agent/core/override.h"
#include "agent/core/placement.h"
#include "agent/core/status.h"
#include "agent/util/cleanup.h"
#include "tests/fuzz/fuzz.h"

static bool is_refusal(int r)
{
	return r == -EBADMSG || r == -ENOMEM;
}

static void parse_overrides(const char *text, size_t size)
{
	_cleanup_(overrides_done) struct overrides first = { 0 }, second = { 0 };
	_cleanup_free_ char *written = NULL, *again = NULL;
	size_t lost;
	int r = overrides_parse(text, size, &first, &lost);

	if (r < 0) {
		CHECK(is_refusal(r) && first.n == 0 && !first.list);
		return;
	}
	CHECK(first.n <= OVERRIDES_MAX);
	for (size_t i = 0; i < first.n; i++) {
		CHECK(strlen(first.list[i].netns) <= OVERRIDE_NAME_MAX);
		CHECK(memchr(first.list[i].ifname, '\0', IFNAMSIZ));
	}
	written = overrides_text(&first);
	CHECK(written);
	CHECK(overrides_parse(written, strlen(written), &second, &lost) == 0);
	CHECK(lost == 0 && second.n == first.n);
	for (size_t i = 0; i < first.n; i++)
		CHECK(overrides_has(&second, first.list[i].netns, first.list[i].ifname));
	again = overrides_text(&second);
	CHECK(again && strcmp(again, written) == 0);
}

static void parse_placement(const char *text, size_t size)
{
	static const struct placement none;
	struct placement first = none, second;
	_cleanup_free_ char *written = NULL, *again = NULL;
	int r = placement_parse(text, size, &first);

	if (r < 0) {
		CHECK(is_refusal(r) && memcmp(&first, &none, sizeof(none)) == 0);
		return;
	}
	CHECK(first.n <= PLACEMENT_MAX);
	for (size_t i = 0; i < first.n; i++)
		CHECK(memchr(first.names[i], '\0', IFNAMSIZ));
	written = placement_text(&first);
	CHECK(written && placement_parse(written, strlen(written), &second) == 0);
	again = placement_text(&second);
	CHECK(again && strcmp(again, written) == 0);
}

static char *memory_text(const struct offload_memory *memory)
{
	json_t *document = offload_memory_make(memory);
	char *text = json_dumps(document, JSON_INDENT(1));

	json_decref(document);
	CHECK(text);
	return text;
}

static void parse_memory(const char *text, size_t size)
{
	_cleanup_(offload_memory_done) struct offload_memory first = { 0 }, second = { 0 };
	_cleanup_free_ char *written = NULL;
	int r = offload_memory_parse(text, size, &first);

	if (r < 0) {
		CHECK(is_refusal(r) && first.n == 0 && !first.list);
		return;
	}
	written = memory_text(&first);
	CHECK(offload_memory_parse(written, strlen(written), &second) == 0);
	CHECK(second.n == first.n);
	for (size_t i = 0; i < first.n; i++) {
		CHECK(memchr(first.list[i].ifname, '\0', IFNAMSIZ));
		CHECK(first.list[i].ifindex > 0 && first.list[i].netns > 0);
		CHECK(offload_memory_find(&second, first.list[i].netns, first.list[i].ifindex));
	}
}

static void parse_held(const char *text, size_t size)
{
	_cleanup_(once_held_done) struct once_held first = { 0 }, second = { 0 };
	_cleanup_free_ char *written = NULL, *again = NULL;
	int r = once_held_parse(text, size, &first);

	if (r < 0) {
		CHECK(is_refusal(r) && first.n == 0 && !first.list);
		return;
	}
	CHECK(first.n <= ONCE_HELD_MAX);
	for (size_t i = 1; i < first.n; i++)
		CHECK(ip4_compare(first.list[i - 1], first.list[i]) < 0);
	written = once_held_text(&first);
	CHECK(written && once_held_parse(written, strlen(written), &second) == 0);
	again = once_held_text(&second);
	CHECK(again && strcmp(again, written) == 0);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	_cleanup_free_ char *text = copy_exactly(data, size);

	parse_overrides(text, size);
	parse_placement(text, size);
	parse_memory(text, size);
	parse_held(text, size);
	(void)status_program_of(text, size, 2);
	return 0;
}
