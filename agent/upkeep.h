/* SPDX-License-Identifier: MIT */
#pragma once
/*
 * Has the kernel look after the gateways that direct packets use (agent/core/next_hop.h): reads their
 * neighbour entries, lets the core decide, asks. Sends no packet itself.
 */

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "agent/core/next_hop.h"
#include "agent/kern/events.h"
#include "agent/kern/rtnl.h"

struct upkeep {
	struct rtnl *rtnl; /* borrowed */
	struct next_hops hops;
};

/* Whether a bell is about one of the gateways. */
bool upkeep_minds(const struct upkeep *upkeep, const struct bell *bell);

/*
 * Looks at all gateways and has those probed that need it; `now` in microseconds. Returns how many
 * microseconds later to do it again, unless a bell rings before; UINT64_MAX: not by itself.
 */
uint64_t upkeep_run(struct upkeep *upkeep, uint64_t now);
