/* SPDX-License-Identifier: MIT */
#pragma once
/* Which tunnels of a status document a word means. Pure. */

#include <jansson.h>
#include <stdbool.h>
#include <stddef.h>

/* Tunnels in the document, which must live on. */
struct search {
	const json_t **tunnels;
	size_t n;
	const json_t *netns; /* the namespace that the word names; NULL: it names none */
};

/*
 * `word`: a remote, a game server IP or an inner source; else a network namespace, whose fallback device counts only
 * where it is the only one; else an interface.
 * `ifname`, or NULL: only tunnels of that name. 0 or -ENOMEM.
 */
int search_make(const json_t *document, const char *word, const char *ifname, struct search *ret);
void search_done(struct search *search);

/* Whether two tunnels or names of tunnels are the same: netns and ifname. */
bool search_same(const json_t *a, const json_t *b);

/* Whether `word` is one of the strings of `array`. */
bool search_has(const json_t *array, const char *word);
