/* SPDX-License-Identifier: MIT */
#pragma once
/*
 * Modes that an operator gave single tunnels at run time: they win over the configuration until taken
 * back. Known by name, so that one holds for a tunnel that goes and comes back. Pure.
 */

#include <jansson.h>
#include <net/if.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "agent/core/config.h"

#define OVERRIDES_MAX 4096
#define OVERRIDE_NAME_MAX 255                /* of a namespace: a file name, or a label */
#define OVERRIDES_SIZE_MAX (4 * 1024 * 1024) /* bytes of text */

struct mode_override {
	char *netns; /* one of the names of the namespace, or what status calls it */
	char ifname[IFNAMSIZ];
	enum maps_mode mode;
	bool until_reload; /* a reload of the configuration takes it back */
	/*
	 * The namespaces that it was given to, by struct netns.seq: for these it is whatever they are called later. No other
	 * agent knows them, so they are not in the text.
	 */
	uint64_t *given;
	size_t n_given;
};

struct overrides {
	struct mode_override *list; /* by netns, then ifname */
	size_t n;
};

void overrides_done(struct overrides *overrides);

/* 0; -E2BIG: there are too many; -EINVAL: a name that nothing can have; -ENOMEM. */
int overrides_set(struct overrides *overrides, const char *netns, const char *ifname,
	enum maps_mode mode, bool until_reload);
bool overrides_has(const struct overrides *overrides, const char *netns, const char *ifname);
/* Of one that is there: it is for that namespace as well. 0 or -ENOMEM. */
int overrides_give(
	struct overrides *overrides, const char *netns, const char *ifname, uint64_t seq);
/*
 * What was given under `name` to a namespace that is not called so any more goes over to what it is called now, before
 * the name is given another mode or taken back. 0; -ENOMEM; -E2BIG: there are too many.
 */
int overrides_move(struct overrides *overrides, const char *name, const char *ifname,
	const struct netns *netns);
/* None is for that namespace any more, but by its names. */
void overrides_take_from(struct overrides *overrides, uint64_t seq, const char *ifname);
/* Whether there was one. */
bool overrides_remove(struct overrides *overrides, const char *netns, const char *ifname);
/* Those that a reload takes back. */
void overrides_drop_until_reload(struct overrides *overrides);
int overrides_copy(const struct overrides *overrides, struct overrides *ret);

/*
 * The override of a tunnel, by its namespace or one of its names; of several the one that sends less direct. NULL: there is
 * none, or there are no overrides at all (NULL).
 */
const struct mode_override *overrides_find(
	const struct overrides *overrides, const struct netns *netns, const struct ipip_link *link);

/* Whether somebody means this namespace when saying `name`. */
bool override_is_about(const char *name, const struct netns *netns);

/* As status shows them: an array; NULL: no memory. */
json_t *overrides_json(const struct overrides *overrides);

/*
 * From and to the text that a later agent reads, to whom until_reload means nothing else; any names survive it. 0, -ENOMEM,
 * or -EBADMSG: not such a text. `ret_lost`: how many of them were not understood; of these, who has a name there is left
 * to the tunnel. overrides_text() returns the caller's, or NULL.
 */
char *overrides_text(const struct overrides *overrides);
int overrides_parse(const char *text, size_t size, struct overrides *ret, size_t *ret_lost);
