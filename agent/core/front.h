/* SPDX-License-Identifier: MIT */
#pragma once
/*
 * The table `front` of schema/maps.h, which the BPF program asks before it asks the map of remotes.
 * Pure: it works on memory, which the caller has mapped. Every step leaves the table so that a reader
 * finds a row as it was, as it will be, or not at all.
 */

#include <stdint.h>

#include "agent/core/desired.h"
#include "schema/maps.h"

struct front {
	struct maps_front *buckets; /* 1 << bits; borrowed; NULL: there is no table */
	uint32_t bits;
};

/* How large a table for `max_rows` rows is: half full with all of them in it. */
uint32_t front_bits(uint32_t max_rows);

/* Whether a row has its place here: it decides by the remote, and by the inner source at most. */
bool front_takes(const struct row *row);

/* Takes a remote out. Do it before its row in the map changes or goes. */
void front_remove(const struct front *front, struct ip4 remote);

/* Puts a row in, if front_takes() it and its bucket has room. Do it after the map has the row. */
void front_put(const struct front *front, const struct row *row);

/* Makes the table what these rows, all that the map holds, say. */
void front_sync(const struct front *front, const struct rows *rows);
