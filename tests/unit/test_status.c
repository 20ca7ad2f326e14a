/* SPDX-License-Identifier: MIT */
/* What a later agent reads of a status: which program was attached where, or nothing. */

#include <stdint.h>
#include <stdio.h>
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

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_program),
		cmocka_unit_test(test_no_such_text),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
