/* SPDX-License-Identifier: MIT */
#pragma once
/*
 * Keeps the snapshot: which namespaces there are, and what each of them held when it was last read.
 * Bells say what to read anew; nothing else is read.
 */

#include <stdbool.h>

#include "agent/core/snapshot.h"
#include "agent/kern/events.h"
#include "agent/kern/rtnl.h"

struct observer {
	struct rtnl *rtnl;     /* borrowed */
	const char *directory; /* of namespace files */
	struct snapshot snapshot;
	uint64_t next_seq;
	bool list_is_stale;   /* namespaces may have come or gone */
	bool views_are_stale; /* every namespace must be read */
	int32_t *stale_nsids; /* these must be read */
	size_t n_stale_nsids;
};

void observer_init(struct observer *observer, struct rtnl *rtnl, const char *directory);
void observer_done(struct observer *observer);

/* Notes what a bell says. */
void observer_ring(struct observer *observer, const struct bell *bell);
void observer_ring_list(struct observer *observer);
void observer_ring_all(struct observer *observer);

/*
 * Reads what is stale. 0; -EAGAIN: something could not be read and stays stale, call again a little
 * later; other -errno: nothing was changed.
 */
int observer_refresh(struct observer *observer);
