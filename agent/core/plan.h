/* SPDX-License-Identifier: MIT */
#pragma once
/*
 * From "have" and "desired" to the operations between them, in an order in which after each single one
 * every packet is either right or left to the tunnel. Pure.
 */

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "agent/core/desired.h"

enum plan_verb {
	PLAN_ADD,    /* a row that is not there: its counter slot is new and must be zeroed first */
	PLAN_CHANGE, /* a row that is there with another entry; it keeps its slot */
	PLAN_REMOVE,
};

struct plan_op {
	enum plan_verb verb;
	struct row row; /* with its slot; for PLAN_REMOVE the row as it is */
	/*
	 * The row leaves its packets to the tunnel before its ports are written: those are another map's, and the row
	 * as it was must not count for ports that come with another one.
	 */
	bool rests;
	/*
	 * Of a remote's row that becomes a shared one: as it is it is right, too, since it is of its own source and says of
	 * those packets what the row of `sources` is to say. So it may stay a while longer.
	 */
	bool may_wait;
	bool left_out; /* not to be done, for another one failed */
};

struct plan {
	struct plan_op *ops;
	size_t n_ops;
	/* Of these, those that add and change rows of `remotes`; by remote. */
	size_t first_remote, n_remotes;
	/* Desired rows that found no room in their map and whose packets stay on the tunnel; sorted by row_compare(). */
	struct row *no_room;
	size_t n_no_room;
};

struct plan_limits {
	uint32_t max_rows;  /* of each of the two maps */
	uint32_t max_slots; /* of the counters, slot 0 included */
	/*
	 * Whether the snapshot was complete. If not, no row is removed that counts, and no packet gets
	 * another game server IP than it has: a row that seems superfluous or different may be that
	 * of a namespace nobody could read. Where a known tunnel speaks against it, its packets
	 * go to the tunnel.
	 */
	bool complete;
};

/*
 * Both lists sorted by row_compare(). Rows of `sources` come before the row of `remotes` that makes
 * them count, and go after it; those that do not count go first. A remote that is to become a shared one
 * keeps the row of its own source where there is no room for that of `sources` which does the same: nobody
 * falls out because somebody comes. 0 or -ENOMEM.
 */
int plan_make(const struct rows *desired, const struct rows *have, const struct plan_limits *limits,
	struct plan *ret);
void plan_done(struct plan *plan);

/*
 * That an operation failed, in whole or from one of its writes on. A row of `sources` that does not count is there still,
 * perhaps, as it was, and must not come to count: what would make its remote a shared one is left out, and where the
 * remote's row may be wrong as it is that is removed instead. All others go on: they leave no packet a way that it had not.
 */
void plan_op_failed(struct plan *plan, size_t i);

/*
 * While not all who are exempt are in the map, or whose each row would be is not sure, no row that is new or changes may send
 * more packets direct. But one that is wrong must not stay. A remote does not become a shared one, as rows that are below it already would count. Returns whether
 * there is anything to do.
 */
bool plan_hold_back(struct plan_op *op);

/* For which tunnel a row is that is there: its index, or SIZE_MAX. */
size_t plan_tunnel_of(const struct rows *desired, const struct row *row);

/* The rows there are once all of `plan` is done to `have`, sorted likewise. 0 or -ENOMEM. */
int plan_outcome(const struct rows *have, const struct plan *plan, struct rows *ret);

const char *plan_verb_name(enum plan_verb verb);
