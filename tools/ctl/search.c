/* SPDX-License-Identifier: MIT */
#include <errno.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

#include "agent/core/ip4.h"
#include "agent/util/array.h"
#include "tools/ctl/agent.h"
#include "tools/ctl/search.h"

void search_done(struct search *search)
{
	free(search->tunnels);
	*search = (struct search){ 0 };
}

bool search_same(const json_t *a, const json_t *b)
{
	return json_is_object(a) && json_is_object(b) &&
	       strcmp(json_text(a, "netns"), json_text(b, "netns")) == 0 &&
	       strcmp(json_text(a, "ifname"), json_text(b, "ifname")) == 0;
}

bool search_has(const json_t *array, const char *word)
{
	const json_t *item;
	size_t i;

	json_array_foreach((json_t *)array, i, item)
	{
		const char *text = json_string_value(item);

		if (text && strcmp(text, word) == 0)
			return true;
	}
	return false;
}

/* Whether a row by inner source `address` was made for the tunnel. */
static bool has_inner_source(const json_t *document, const json_t *tunnel, const char *address)
{
	const json_t *entry;
	size_t i;

	json_array_foreach(json_object_get(document, "entries"), i, entry)
	{
		if (strcmp(json_text(entry, "inner_source"), address) == 0 &&
			search_same(json_object_get(entry, "tunnel"), tunnel))
			return true;
	}
	return false;
}

static bool has_address(const json_t *document, const json_t *tunnel, const char *address)
{
	return strcmp(json_text(tunnel, "remote"), address) == 0 ||
	       search_has(json_object_get(tunnel, "game_server_ips"), address) ||
	       has_inner_source(document, tunnel, address);
}

static const json_t *find_netns(const json_t *document, const char *word)
{
	const json_t *netns;
	size_t i;

	json_array_foreach(json_object_get(document, "namespaces"), i, netns)
	{
		if (strcmp(json_text(netns, "label"), word) == 0 ||
			search_has(json_object_get(netns, "names"), word))
			return netns;
	}
	return NULL;
}

static bool is_meant(
	const json_t *document, const struct search *search, const json_t *tunnel, const char *word)
{
	struct ip4 address;

	if (ip4_parse(word, &address) == 0)
		return has_address(document, tunnel, word);
	if (search->netns)
		return strcmp(json_text(tunnel, "netns"), json_text(search->netns, "label")) == 0;
	return strcmp(json_text(tunnel, "ifname"), word) == 0;
}

/* Nobody who names the namespace means these, if there is another tunnel. */
static void drop_fallbacks(struct search *search)
{
	size_t n = 0;

	for (size_t i = 0; i < search->n; i++)
		if (!agent_is_fallback(search->tunnels[i]))
			search->tunnels[n++] = search->tunnels[i];
	if (n > 0)
		search->n = n;
}

int search_make(const json_t *document, const char *word, const char *ifname, struct search *ret)
{
	struct search search = { .netns = find_netns(document, word) };
	const json_t *tunnel, **slot;
	size_t i;

	json_array_foreach(json_object_get(document, "tunnels"), i, tunnel)
	{
		if (ifname && strcmp(json_text(tunnel, "ifname"), ifname) != 0)
			continue;
		if (!is_meant(document, &search, tunnel, word))
			continue;
		slot = ARRAY_APPEND(search.tunnels, search.n);
		if (!slot) {
			search_done(&search);
			return -ENOMEM;
		}
		*slot = tunnel;
		search.n++;
	}
	if (search.netns && !ifname)
		drop_fallbacks(&search);
	*ret = search;
	return 0;
}
