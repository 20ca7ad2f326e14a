/* SPDX-License-Identifier: MIT */
#pragma once
/*
 * From the exempt clients that the map has to those that the configuration wants, in an order in which nobody who is or
 * shall be exempt goes direct meanwhile. Pure.
 */

#include <stdbool.h>
#include <stddef.h>

#include "agent/core/ip4.h"

struct clients {
	struct ip4_prefix *list; /* in any order, also more than once */
	size_t n;
};

void clients_done(struct clients *clients);

struct client_op {
	struct ip4_prefix prefix;
	bool add; /* else remove */
};

struct client_plan {
	struct client_op *ops;
	size_t n_ops;
};

/*
 * Is made twice. Before rows are written, for `have` to hold all of `wanted`, besides what it holds: rows that are not written
 * yet may need it. Where there is no room for both, of `room`, everybody is exempt until the second. After that, for it to
 * hold nothing else. 0 or -ENOMEM.
 *
 * Where a list is as long as there is room, one prefix is missing for the instant between two operations.
 */
int client_plan_make(const struct clients *have, const struct clients *wanted, size_t room,
	bool rows_are_written, struct client_plan *ret);
void client_plan_done(struct client_plan *plan);
