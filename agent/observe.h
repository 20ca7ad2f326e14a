/* SPDX-License-Identifier: MIT */
#pragma once
/*
 * Keeps the snapshot: which namespaces there are, and what each of them held when it was last read.
 * Bells say what to read anew; nothing else is read.
 */

#include <stdbool.h>

#include "agent/core/roster.h"
#include "agent/core/snapshot.h"
#include "agent/kern/events.h"
#include "agent/kern/rtnl.h"

/* Where namespaces are looked for. What a source saw holds until it is looked at again. */
enum observer_source {
	OBSERVE_FILES,
	OBSERVE_DOCKER,
	OBSERVE_PROCESSES,
	OBSERVE_NSIDS,
	OBSERVE_COUNT,
};

struct observer {
	struct rtnl *rtnl; /* borrowed */
	int nsid_bell_fd;  /* what it reads by number, it hears of itself; -1: not opened yet */
	struct snapshot snapshot;
	struct netns **by_nsid; /* the namespaces of the snapshot */
	struct netns_id own;
	int32_t own_nsid;       /* of the agent's namespace in itself; NSID_NONE: it has none */
	int32_t noted_own_nsid; /* as it was when everything was last to be read for it */
	bool own_was_numbered;  /* it is another since the caller took note of it */
	struct sightings sightings[OBSERVE_COUNT];
	struct netns_source sources[OBSERVE_COUNT];
	uint64_t next_seq;
	size_t netns_max;         /* namespaces that are looked at */
	uint64_t view_free_usec;  /* a read that took less costs no pause */
	uint64_t unread_max_usec; /* so long a namespace of which nothing is known is waited for */
	bool list_is_stale;       /* namespaces may have come or gone */
	bool list_has_failed;     /* when it was last to be made: the caller tries again */
	bool files_are_stale;     /* … with their files */
	bool processes_are_stale; /* … with their processes */
	bool views_are_stale;     /* every namespace must be read */
	bool views_are_doubtful;  /* … but for those that count for nothing and are not due */
	bool was_complete;        /* at some time: since then memory helps */
	bool list_is_incomplete;  /* something could not be looked at: try again */
	bool was_overrun;         /* what is remembered by nsid may be of another namespace */
	/* CLOCK_MONOTONIC, microseconds: listing takes its time, so it does not follow each bell. */
	uint64_t list_not_before, scan_not_before;
	uint64_t look_again_at; /* for namespaces that are being made; 0: there are none */
	uint64_t listing_took;  /* microseconds, of the last list and reads; UINT64_MAX: none yet */
};

#define OBSERVER_NONE ((struct observer){ .nsid_bell_fd = -1 })

void observer_init(struct observer *observer, struct rtnl *rtnl);
void observer_done(struct observer *observer);

/* Notes what a bell says. Whether it is news: the agent hears of what it did itself, too. */
bool observer_ring(struct observer *observer, const struct bell *bell);
/* Namespace files may have come or gone. */
void observer_ring_list(struct observer *observer);
void observer_ring_all(struct observer *observer);

/*
 * Reads what is stale. `config`: its rules say who gives way where there is no room for all, and who is trusted by the
 * number that he is read by. 0; -EAGAIN: something could not be read and stays stale, call again a little later; other
 * -errno: nothing was changed.
 */
int observer_refresh(struct observer *observer, const struct config *config);

/*
 * Whether that would be to find out anew which namespaces there are, or to read all of them, and took more than `usec` the last
 * time; or was never done.
 */
bool observer_takes_longer(const struct observer *observer, uint64_t usec);

/* When to call again for what was put off (CLOCK_MONOTONIC, microseconds); 0: nothing was. */
uint64_t observer_due(const struct observer *observer);
