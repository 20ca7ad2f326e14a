/* SPDX-License-Identifier: MIT */
#pragma once
/*
 * Where an operator wants the program at run time, in place of, or besides, where the configuration and
 * the routes want it. Pure.
 */

#include <jansson.h>
#include <net/if.h>
#include <stdbool.h>
#include <stddef.h>

#define PLACEMENT_MAX 16               /* interfaces */
#define PLACEMENT_SIZE_MAX (64 * 1024) /* bytes of text */

/* All zero: as configured. */
struct placement {
	bool detached; /* nowhere but on these */
	char names[PLACEMENT_MAX][IFNAMSIZ];
	size_t n;
};

/* 0, also when it is there already; -E2BIG: there are too many; -EINVAL: a name that nothing can have. */
int placement_add(struct placement *placement, const char *ifname);
bool placement_has(const struct placement *placement, const char *ifname);
bool placement_is_default(const struct placement *placement);

/* As status shows it; NULL: no memory. */
json_t *placement_json(const struct placement *placement);

/*
 * From and to the text that a later agent reads. 0, -ENOMEM, or -EBADMSG: not such a text.
 * placement_text() returns the caller's, or NULL.
 */
char *placement_text(const struct placement *placement);
int placement_parse(const char *text, size_t size, struct placement *ret);
