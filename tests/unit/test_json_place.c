/* SPDX-License-Identifier: MIT */
/* Positions of keys and values in JSON text, and that no text makes the finder read outside. */
#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "agent/core/json_place.h"
#include "agent/util/array.h"
#include "tests/unit/unit.h"

#define STEPS_MAX 4

static const struct place_case {
	const char *text;
	struct json_step steps[STEPS_MAX];
	size_t n_steps;
	unsigned int key_line, key_column; /* 0: not asked */
	unsigned int line, column;         /* 0: there is no such value */
} cases[] = {
	{ "{}", { { 0 } }, 0, 0, 0, 1, 1 },
	{ " \n\t[]", { { 0 } }, 0, 0, 0, 2, 2 },
	{ "{\"a\": 1}", { { "a", 0 } }, 1, 1, 2, 1, 7 },
	{ "{\"a\":1, \"b\":\n  true}", { { "b", 0 } }, 1, 1, 9, 2, 3 },
	{ "{\"a\":1}", { { "b", 0 } }, 1, 0, 0, 0, 0 },
	{ "{}", { { "b", 0 } }, 1, 0, 0, 0, 0 },
	{ "[]", { { NULL, 0 } }, 1, 0, 0, 0, 0 },
	{ "[1, 2]", { { NULL, 1 } }, 1, 0, 0, 1, 5 },
	{ "[1, 2]", { { NULL, 2 } }, 1, 0, 0, 0, 0 },
	{ "[1, 2]", { { "a", 0 } }, 1, 0, 0, 0, 0 },
	{ "{\"a\": 1}", { { NULL, 0 } }, 1, 0, 0, 0, 0 },
	{ "[[[1], {\"a\": []}], [2, [3, 4]]]", { { NULL, 1 }, { NULL, 1 }, { NULL, 1 } }, 3, 0, 0,
		1, 28 },
	/* A key that looks like the end, like another value, like another key. */
	{ "{\"}\": \"]\\\"}\", \"x\": 1}", { { "x", 0 } }, 1, 1, 15, 1, 20 },
	{ "{\"x\\\"\": 1, \"x\": 2}", { { "x", 0 } }, 1, 1, 12, 1, 17 },
	{ "{\"xy\": 1, \"x\": 2}", { { "x", 0 } }, 1, 1, 11, 1, 16 },
	{ "{\"x\": {\"y\": 1}, \"y\": 2}", { { "y", 0 } }, 1, 1, 17, 1, 22 },
	/* Escapes name the same key. */
	{ "{\"\\u006d\\u006Fde\": 1}", { { "mode", 0 } }, 1, 1, 2, 1, 20 },
	{ "{\"a\\/\\t\\n\\b\": 1}", { { "a/\t\n\b", 0 } }, 1, 1, 2, 1, 15 },
	{ "{\"\\u00e4\\u20ac\\ud83d\\ude00\": 1}", { { "\u00e4\u20ac\U0001f600", 0 } }, 1, 1, 2, 1,
		30 },
	/* Columns are characters, not bytes. */
	{ "{\"\u00e4\u20ac\U0001f600\": 1}", { { "\u00e4\u20ac\U0001f600", 0 } }, 1, 1, 2, 1, 9 },
	{ "{\"r\": [{\"m\": {}},\n\t{\"m\": {\"n\": \"\"}}]}",
		{ { "r", 0 }, { NULL, 1 }, { "m", 0 }, { "n", 0 } }, 4, 2, 9, 2, 14 },
};

static void find(const struct place_case *c, bool of_key, unsigned int line, unsigned int column)
{
	struct json_spot spot = { .line = 77, .column = 78 };
	bool found = json_place_find(c->text, strlen(c->text), c->steps, c->n_steps, of_key, &spot);

	assert_int_equal(found, line > 0);
	assert_int_equal(spot.line, line > 0 ? line : 77);
	assert_int_equal(spot.column, line > 0 ? column : 78);
}

static void finds(void **state)
{
	const struct place_case *c = *state;
	json_t *document = json_loads(c->text, JSON_REJECT_DUPLICATES, NULL);

	assert_non_null(document); /* the test's own mistake */
	json_decref(document);
	find(c, false, c->line, c->column);
	if (c->key_line > 0)
		find(c, true, c->key_line, c->key_column);
}

static void spots(void **state)
{
	static const char text[] = "a\u00e4b\n\nc";

	(void)state;
	assert_int_equal(json_spot_at(text, sizeof(text) - 1, 3).column, 3);
	assert_int_equal(json_spot_at(text, sizeof(text) - 1, 6).line, 3);
	assert_int_equal(json_spot_at(text, sizeof(text) - 1, 6).column, 1);
	assert_int_equal(json_spot_at(text, sizeof(text) - 1, 1000).offset, 7);
	assert_int_equal(json_spot_at(NULL, 0, 1).line, 1);
}

/* In a block of its own size, so that ASan sees a byte too far. */
static void find_anything(const char *text, size_t size)
{
	static const struct json_step steps[] = { { "r", 0 }, { NULL, 1 }, { "m", 0 }, { "n", 0 } };
	char *copy = malloc(size > 0 ? size : 1);
	struct json_spot spot;

	assert_non_null(copy);
	memcpy(copy, text, size);
	for (size_t n = 0; n <= ELEMENTS_OF(steps); n++)
		if (json_place_find(copy, size, steps, n, true, &spot))
			assert_true(spot.offset < size);
	free(copy);
}

static void survives_any_text(void **state)
{
	static const char text[] =
		"{\"r\": [{}, {\"\\ud83d\\ude00\": 1, \"m\": {\"n\\u0041\": [[1]], \"n\": 2}}]}";
	static const char noise[] = "{}[]:,\"\\u \n\0d0\xff";
	uint32_t random = 2463534242;
	char broken[sizeof(text)];

	(void)state;
	for (size_t size = 0; size < sizeof(text); size++)
		find_anything(text, size);
	for (int round = 0; round < 20000; round++) {
		memcpy(broken, text, sizeof(text));
		for (int i = 0; i < 4; i++) {
			random ^= random << 13;
			random ^= random >> 17;
			random ^= random << 5;
			broken[random % (sizeof(text) - 1)] =
				noise[(random >> 16) % (sizeof(noise) - 1)];
		}
		find_anything(broken, sizeof(text) - 1);
	}
}

static void depth_costs_no_stack(void **state)
{
	static char deep[4 * 1024 * 1024];
	static const struct json_step second = { NULL, 1 };
	struct json_spot spot;

	(void)state;
	memset(deep, '[', sizeof(deep));
	assert_false(json_place_find(deep, sizeof(deep), &second, 1, false, &spot));
}

int main(void)
{
	struct CMUnitTest tests[ELEMENTS_OF(cases) + 3] = {
		cmocka_unit_test(spots),
		cmocka_unit_test(survives_any_text),
		cmocka_unit_test(depth_costs_no_stack),
	};
	static char names[ELEMENTS_OF(cases)][16];

	for (size_t i = 0; i < ELEMENTS_OF(cases); i++) {
		(void)snprintf(names[i], sizeof(names[i]), "finds_%zu", i + 1);
		tests[3 + i] =
			(struct CMUnitTest){ names[i], finds, NULL, NULL, (void *)&cases[i] };
	}
	return _cmocka_run_group_tests("json_place", tests, ELEMENTS_OF(tests), NULL, NULL);
}
