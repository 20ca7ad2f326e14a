/* SPDX-License-Identifier: MIT */
/* Where an operator wants the program: names are taken once, within bounds, and come back from text. */

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "agent/core/placement.h"
#include "agent/util/array.h"
#include "agent/util/cleanup.h"
#include "tests/unit/unit.h"

static void test_names(void **state)
{
	struct placement placement = { 0 };

	(void)state;
	assert_true(placement_is_default(&placement));
	assert_int_equal(placement_add(&placement, ""), -EINVAL);
	assert_int_equal(placement_add(&placement, "0123456789abcdef"), -EINVAL);
	assert_true(placement_is_default(&placement));
	assert_int_equal(placement_add(&placement, "0123456789abcde"), 0);
	assert_int_equal(placement_add(&placement, "0123456789abcde"), 0);
	assert_int_equal(placement.n, 1);
	assert_false(placement_is_default(&placement));
	placement = (struct placement){ .detached = true };
	assert_false(placement_is_default(&placement));
}

static void test_bound(void **state)
{
	struct placement placement = { 0 };
	char name[IFNAMSIZ];

	(void)state;
	for (size_t i = 0; i < PLACEMENT_MAX; i++) {
		(void)snprintf(name, sizeof(name), "eth%zu", i);
		assert_int_equal(placement_add(&placement, name), 0);
	}
	assert_int_equal(placement_add(&placement, "one-more"), -E2BIG);
	assert_int_equal(placement_add(&placement, "eth3"), 0);
	assert_int_equal(placement.n, PLACEMENT_MAX);
}

static void test_text(void **state)
{
	struct placement placement = { .detached = true }, back;
	_cleanup_free_ char *text = NULL;

	(void)state;
	assert_int_equal(placement_add(&placement, "eth0"), 0);
	assert_int_equal(placement_add(&placement, "a\"b\\c"), 0);
	text = placement_text(&placement);
	assert_non_null(text);
	assert_int_equal(placement_parse(text, strlen(text), &back), 0);
	assert_memory_equal(&back, &placement, sizeof(back));
}

static void test_bad_text(void **state)
{
	static const char *const texts[] = { "", "{}", "[]", "42",
		"{\"version\": 2, \"detached\": true, \"interfaces\": []}",
		"{\"version\": 1, \"detached\": 1, \"interfaces\": []}",
		"{\"version\": 1, \"interfaces\": []}", "{\"version\": 1, \"detached\": true}",
		"{\"version\": 1, \"detached\": true, \"interfaces\": [1]}",
		"{\"version\": 1, \"detached\": true, \"interfaces\": [\"0123456789abcdef\"]}",
		"{\"version\": 1, \"detached\": true, \"detached\": false, \"interfaces\": []}" };
	struct placement untouched = { .n = 3 };

	(void)state;
	for (size_t i = 0; i < ELEMENTS_OF(texts); i++)
		assert_int_equal(placement_parse(texts[i], strlen(texts[i]), &untouched), -EBADMSG);
	assert_int_equal(untouched.n, 3);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_names),
		cmocka_unit_test(test_bound),
		cmocka_unit_test(test_text),
		cmocka_unit_test(test_bad_text),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
