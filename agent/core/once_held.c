/* SPDX-License-Identifier: MIT */
#include <errno.h>
#include <jansson.h>
#include <stdlib.h>
#include <string.h>

#include "agent/core/once_held.h"
#include "agent/util/array.h"
#include "agent/util/cleanup.h"

#define TEXT_VERSION 1

void once_held_done(struct once_held *once)
{
	free(once->list);
	*once = (struct once_held){ 0 };
}

/* Where it is, or belongs. */
static size_t place_of(const struct once_held *once, struct ip4 address)
{
	size_t first = 0, end = once->n;

	while (first < end) {
		size_t middle = first + (end - first) / 2;

		if (ip4_compare(once->list[middle], address) < 0)
			first = middle + 1;
		else
			end = middle;
	}
	return first;
}

bool once_held_has(const struct once_held *once, struct ip4 address)
{
	size_t place = place_of(once, address);

	return place < once->n && ip4_equal(once->list[place], address);
}

int once_held_add(struct once_held *once, struct ip4 address)
{
	size_t place = place_of(once, address);

	if (place < once->n && ip4_equal(once->list[place], address))
		return 0;
	if (once->n >= ONCE_HELD_MAX) {
		once->is_unsaved = once->is_unsaved || !once->overflows;
		once->overflows = true;
		return 0;
	}
	if (!ARRAY_APPEND(once->list, once->n))
		return -ENOMEM;
	memmove(&once->list[place + 1], &once->list[place],
		(once->n - place) * sizeof(*once->list));
	once->list[place] = address;
	once->n++;
	once->is_unsaved = true;
	return 0;
}

char *once_held_text(const struct once_held *once)
{
	json_auto_t *document = json_pack("{s:i, s:b, s:[]}", "version", TEXT_VERSION, "overflows",
		once->overflows, "addresses");
	json_t *list = json_object_get(document, "addresses");

	for (size_t i = 0; i < once->n; i++)
		if (json_array_append_new(list, json_string(IP4_FORMAT(once->list[i]))) < 0)
			return NULL;
	return json_dumps(document, JSON_COMPACT);
}

int once_held_parse(const char *text, size_t size, struct once_held *ret)
{
	json_auto_t *document = json_loadb(text, size, JSON_REJECT_DUPLICATES, NULL);
	const json_t *overflows = json_object_get(document, "overflows");
	json_t *list = json_object_get(document, "addresses"), *item;
	_cleanup_(once_held_done) struct once_held once = { 0 };
	struct ip4 address;
	size_t i;

	if (json_integer_value(json_object_get(document, "version")) != TEXT_VERSION ||
		!json_is_boolean(overflows) || !json_is_array(list) ||
		json_array_size(list) > ONCE_HELD_MAX)
		return -EBADMSG;
	once.overflows = json_is_true(overflows);
	json_array_foreach(list, i, item)
	{
		if (!json_is_string(item) || ip4_parse(json_string_value(item), &address) < 0)
			return -EBADMSG;
		if (once_held_add(&once, address) < 0)
			return -ENOMEM;
	}
	once.is_unsaved = false;
	*ret = once;
	once = (struct once_held){ 0 };
	return 0;
}
