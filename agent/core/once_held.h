/* SPDX-License-Identifier: MIT */
#pragma once
/*
 * The public addresses that the host's interfaces hold, and those that they held before: one that is away for a
 * moment, as DHCP, keepalived and network managers have it, has not become a server's. Pure.
 */

#include <stdbool.h>
#include <stddef.h>

#include "agent/core/ip4.h"

#define ONCE_HELD_MAX 65536                  /* addresses */
#define ONCE_HELD_SIZE_MAX (2 * 1024 * 1024) /* bytes of text */

/* All zero: none so far. */
struct once_held {
	struct ip4 *list; /* sorted */
	size_t n;
	bool overflows;  /* there were more */
	bool is_unsaved; /* since it was read or written as text */
};

void once_held_done(struct once_held *once);

/* 0, also when it is known already, or -ENOMEM. Beyond the maximum `overflows` is set. */
int once_held_add(struct once_held *once, struct ip4 address);
bool once_held_has(const struct once_held *once, struct ip4 address);

/* From and to the text that a later agent reads; the caller's, NULL: no memory. 0, -ENOMEM, or -EBADMSG: not such a text. */
char *once_held_text(const struct once_held *once);
int once_held_parse(const char *text, size_t size, struct once_held *ret);
