/* SPDX-License-Identifier: MIT */
#pragma once
/*
 * Where a value stands in a JSON text: jansson tells positions of syntax errors only. Pure. Meant for
 * text that jansson took; of other text it finds less, and reads nothing outside.
 */

#include <stdbool.h>
#include <stddef.h>

/* One step down: the member `key` of an object, or element `index` of an array. */
struct json_step {
	const char *key; /* NULL: an element */
	size_t index;
};

struct json_spot {
	size_t offset;     /* in bytes, from 0 */
	unsigned int line; /* from 1 */
	/* From 1, in characters as a reader of UTF-8 counts them. */
	unsigned int column;
};

/* The spot of a byte; behind the end it is that of the end. */
struct json_spot json_spot_at(const char *text, size_t size, size_t offset);

/*
 * Finds the value at the end of `steps`, or, with `of_key`, the key before it. False: there is none,
 * and *ret is untouched.
 */
bool json_place_find(const char *text, size_t size, const struct json_step *steps, size_t n_steps,
	bool of_key, struct json_spot *ret);
