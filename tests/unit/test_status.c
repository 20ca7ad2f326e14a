/* SPDX-License-Identifier: MIT */
/* What a later agent reads of a status: which program was attached where, or nothing. And what is told of the maps' room. */

#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "agent/core/status.h"
#include "agent/util/array.h"
#include "tests/unit/unit.h"

static uint32_t program_of(const char *text, uint32_t ifindex)
{
	return status_program_of(text, strlen(text), ifindex);
}

static void test_program(void **state)
{
	static const char text[] =
		"{\"interfaces\": [{\"ifindex\": 2, \"program_id\": 858}, {\"ifindex\": 3, \"program_id\": null},"
		" {\"ifindex\": 4, \"program_id\": 4294967295}]}";

	(void)state;
	assert_int_equal(program_of(text, 2), 858);
	assert_int_equal(program_of(text, 3), 0);
	assert_int_equal(program_of(text, 4), UINT32_MAX);
	assert_int_equal(program_of(text, 5), 0);
}

static void test_no_such_text(void **state)
{
	static const char *const texts[] = {
		"",
		"{",
		"[]",
		"{}",
		"{\"interfaces\": 2}",
		"{\"interfaces\": [2, null, [], {}]}",
		"{\"interfaces\": [{\"ifindex\": 2}]}",
		"{\"interfaces\": [{\"ifindex\": 2, \"program_id\": \"858\"}]}",
		"{\"interfaces\": [{\"ifindex\": 2, \"program_id\": -1}]}",
		"{\"interfaces\": [{\"ifindex\": 2, \"program_id\": 4294967296}]}",
		"{\"interfaces\": [{\"ifindex\": 4294967298, \"program_id\": 858}]}",
	};

	(void)state;
	for (size_t i = 0; i < ELEMENTS_OF(texts); i++)
		assert_int_equal(program_of(texts[i], 2), 0);
}

/* The problems of an agent with maps of that room, where others are wanted, and rows that find none. */
static char *problems_of(uint32_t max_rows, uint32_t wanted_rows, size_t n_no_room)
{
	static const struct snapshot snapshot = { .complete = true };
	static const struct tunnels tunnels;
	static const struct rows rows;
	static const struct slot_counters no_entry;
	static const struct row row;
	static const struct status_interface interface = { .attachment.kind = ATTACHMENT_TCX };
	struct status status = {
		.snapshot = &snapshot,
		.tunnels = &tunnels,
		.rows = &rows,
		.no_entry = &no_entry,
		.no_room = &row,
		.n_no_room = n_no_room,
		.max_rows = max_rows,
		.wanted_rows = wanted_rows,
		.interfaces = &interface,
		.n_interfaces = 1,
	};
	json_auto_t *document = status_make(&status);
	char *text = json_dumps(
		json_object_get(json_object_get(document, "agent"), "problems"), JSON_COMPACT);

	assert_non_null(text);
	return text;
}

/* What an operator has done already is not what he is asked to do. */
static void test_room(void **state)
{
	static const struct {
		uint32_t max_rows, wanted_rows;
		size_t n_no_room;
		const char *problems;
	} cases[] = {
		{ 100, 100, 0, "[]" },
		{ 100, 100, 2,
			"[\"map full: no room for 2 rows, their packets stay on the tunnel; raise max_entries\"]" },
		{ 100, 200, 2,
			"[\"the maps have room for 100 rows, not for 200 (max_entries): others could not be made yet; "
			"it is tried again\",\"map full: no room for 2 rows, their packets stay on the tunnel\"]" },
		{ 200, 100, 0,
			"[\"the maps have room for 200 rows, not for 100 (max_entries): others could not be made yet; "
			"it is tried again\"]" },
	};

	(void)state;
	for (size_t i = 0; i < ELEMENTS_OF(cases); i++) {
		char *problems =
			problems_of(cases[i].max_rows, cases[i].wanted_rows, cases[i].n_no_room);

		assert_string_equal(problems, cases[i].problems);
		free(problems);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_program),
		cmocka_unit_test(test_no_such_text),
		cmocka_unit_test(test_room),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
