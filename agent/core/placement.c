/* SPDX-License-Identifier: MIT */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "agent/core/placement.h"
#include "agent/core/status.h"

#define TEXT_VERSION 1

bool placement_has(const struct placement *placement, const char *ifname)
{
	for (size_t i = 0; i < placement->n; i++)
		if (strcmp(placement->names[i], ifname) == 0)
			return true;
	return false;
}

int placement_add(struct placement *placement, const char *ifname)
{
	size_t size = strlen(ifname) + 1;

	if (size == 1 || size > IFNAMSIZ)
		return -EINVAL;
	if (placement_has(placement, ifname))
		return 0;
	if (placement->n == PLACEMENT_MAX)
		return -E2BIG;
	memcpy(placement->names[placement->n++], ifname, size);
	return 0;
}

bool placement_is_default(const struct placement *placement)
{
	return !placement->detached && placement->n == 0;
}

static json_t *names_json(const struct placement *placement)
{
	json_t *array = json_array();

	for (size_t i = 0; array && i < placement->n; i++)
		(void)json_array_append_new(array, status_text(placement->names[i]));
	return array;
}

json_t *placement_json(const struct placement *placement)
{
	return json_pack(
		"{s:b, s:o}", "detached", placement->detached, "interfaces", names_json(placement));
}

char *placement_text(const struct placement *placement)
{
	json_auto_t *document = placement_json(placement);

	if (!document || json_object_set_new(document, "version", json_integer(TEXT_VERSION)) < 0)
		return NULL;
	return json_dumps(document, JSON_INDENT(1));
}

int placement_parse(const char *text, size_t size, struct placement *ret)
{
	json_auto_t *document = json_loadb(text, size, JSON_REJECT_DUPLICATES, NULL);
	const json_t *detached = json_object_get(document, "detached");
	json_t *list = json_object_get(document, "interfaces"), *item;
	struct placement placement = { .detached = json_is_true(detached) };
	size_t i;

	if (json_integer_value(json_object_get(document, "version")) != TEXT_VERSION ||
		!json_is_boolean(detached) || !json_is_array(list))
		return -EBADMSG;
	json_array_foreach(list, i, item)
	{
		if (!json_is_string(item) || placement_add(&placement, json_string_value(item)) < 0)
			return -EBADMSG;
	}
	*ret = placement;
	return 0;
}
