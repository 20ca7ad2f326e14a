/* SPDX-License-Identifier: MIT */
#pragma once
/*
 * From tunnels to the rows that the BPF maps should hold. Pure: same tunnels, same rows, byte for byte.
 */

#include <stddef.h>

#include "agent/core/tunnel.h"
#include "schema/maps.h"

enum row_map {
	ROW_REMOTES, /* key: remote */
	ROW_SOURCES, /* key: remote and inner source */
};

/* One row of one map; the common currency of desired, plan, entry_map and status. */
struct row {
	enum row_map map;
	struct ip4 remote;
	struct ip4 inner_source;               /* none in ROW_REMOTES */
	struct maps_entry entry;               /* entry.slot is 0 in desired rows: plan gives it */
	struct maps_server_ports server_ports; /* with MAPS_FLAG_SERVER_PORTS */
	size_t tunnel; /* index of the tunnel it is for; SIZE_MAX: several, or unknown */
};

struct rows {
	struct row *list; /* sorted by row_compare() */
	size_t n;
};

/* By map, remote, inner source: what makes it a row, never its contents. */
int row_compare(const struct row *a, const struct row *b);
/* Whether both ask for the same treatment; the slot does not count. */
bool row_contents_equal(const struct row *a, const struct row *b);
/* Whether a row of a remote that is not shared is for packets with that inner source; none: with any private one. */
bool row_serves(const struct row *row, struct ip4 inner_source);
void rows_sort(struct rows *rows);
/* The one with the map, remote and inner source of `key`; NULL: there is none. */
const struct row *rows_find(const struct rows *rows, const struct row *key);
void rows_done(struct rows *rows);

/* What the maps hold now: it tells who was first where the tunnels cannot, as after a restart. */
struct present {
	const struct rows *rows;
	/*
	 * Whether all namespaces are known. If not, a row that nobody known asks for may be somebody's,
	 * and holds its game server IP for him; and a remote that is new may be that of others as well.
	 */
	bool complete;
};

/*
 * Resolves shared remotes and conflicts. Marks tunnels that collide (state, reason, rival) and returns
 * the rows of all others. 0 or -ENOMEM.
 */
int desired_make(struct tunnels *tunnels, const struct present *present, struct rows *ret);
