/* SPDX-License-Identifier: MIT */
#pragma once
/* From two readings of counters to rates. Pure. */

#include "agent/core/status.h"

/* Per second. */
struct rate {
	bool known; /* false: there was nothing before, or the counters began anew */
	double packets, bytes;
	double kept[MAPS_REASON_COUNT];
};

/* `before` may be NULL. `seconds` between both, by a clock that never goes back. */
struct rate rate_make(
	const struct slot_counters *before, const struct slot_counters *now, double seconds);

/* Adds `rate` to `sum`; an unknown one adds nothing. */
void rate_add(struct rate *sum, const struct rate *rate);

/*
 * Packets per second that stayed on the tunnel and were not meant to, so without `shadow`, and the
 * reason of most of them; MAPS_REASON_COUNT: there were none.
 */
double rate_kept(const struct rate *rate, enum maps_reason *ret_main);
