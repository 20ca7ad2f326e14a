/* SPDX-License-Identifier: MIT */
/*
 * Places in JSON text. Of text that jansson takes and that has no NUL in it, every value is found, and what stands at its place is
 * that value; of other text nothing is read outside.
 */

#include <jansson.h>

#include "agent/core/json_place.h"
#include "agent/util/cleanup.h"
#include "tests/fuzz/fuzz.h"

#define DEPTH_MAX 16
#define TAKES (JSON_REJECT_DUPLICATES | JSON_DECODE_ANY)

struct path {
	struct json_step steps[DEPTH_MAX];
	size_t n;
};

static void check_place(const char *text, size_t size, const struct path *path, const json_t *value)
{
	struct json_spot spot = { 0 }, again;
	json_t *found;

	CHECK(json_place_find(text, size, path->steps, path->n, false, &spot));
	CHECK(spot.offset < size);
	again = json_spot_at(text, size, spot.offset);
	CHECK(again.line == spot.line && again.column == spot.column && spot.line > 0);
	found = json_loadb(
		text + spot.offset, size - spot.offset, TAKES | JSON_DISABLE_EOF_CHECK, NULL);
	CHECK(found);
	CHECK(json_equal(found, value));
	json_decref(found);
	CHECK(json_place_find(text, size, path->steps, path->n, true, &again));
	CHECK(again.offset <= spot.offset);
}

static void check_below(const char *text, size_t size, struct path *path, json_t *value)
{
	struct json_step *step = &path->steps[path->n];
	const char *key;
	json_t *child;
	size_t i;

	check_place(text, size, path, value);
	if (path->n == DEPTH_MAX)
		return;
	path->n++;
	json_object_foreach(value, key, child)
	{
		*step = (struct json_step){ .key = key };
		check_below(text, size, path, child);
	}
	json_array_foreach(value, i, child)
	{
		*step = (struct json_step){ .index = i };
		check_below(text, size, path, child);
	}
	path->n--;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	static const struct json_step steps[] = { { "rules", 0 }, { NULL, 1 }, { "a", 0 },
		{ NULL, 0 } };
	_cleanup_free_ char *text = copy_exactly(data, size);
	json_t *document = json_loadb(text, size, TAKES, NULL);
	struct path path = { 0 };
	struct json_spot spot;

	for (size_t from = 0; from < 4; from++)
		for (size_t n = 0; from + n <= 4; n++)
			if (json_place_find(text, size, steps + from, n, n % 2, &spot))
				CHECK(spot.offset < size);
	/* Each value is looked for from the start: large documents would only cost time. */
	if (document && size <= 4096 && !memchr(text, '\0', size))
		check_below(text, size, &path, document);
	json_decref(document);
	return 0;
}
