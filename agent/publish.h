/* SPDX-License-Identifier: MIT */
#pragma once
/*
 * Writes the status file, so that bells need not wait for it: of thousands of tunnels it takes longer than
 * many passes. Then a child does it, which has the state of one moment for free. Decides nothing else.
 */

#include <stdbool.h>
#include <stdint.h>
#include <systemd/sd-event.h>

#include "agent/reconcile.h"

struct publisher {
	struct reconciler *reconciler; /* borrowed */
	int run_dir, locks[2];         /* borrowed */
	sd_event *event;               /* borrowed */
	sd_event_source *timer;
	sd_event_source *child;   /* NULL: none is writing */
	int pid;                  /* of the child */
	int error;                /* of the last time; 0: none */
	bool is_due;              /* the timer runs */
	bool is_stale;            /* something changed since the child began */
	bool is_behind;           /* a pass is over that the file says nothing of yet */
	uint64_t took_usec;       /* of processor time, the last */
	uint64_t not_before_usec; /* CLOCK_MONOTONIC: when the next may be */
};

/* Blocks SIGCHLD, for sd-event. 0 or -errno. */
int publisher_wire(struct publisher *publisher, sd_event *event);
/* Ends a child. */
void publisher_done(struct publisher *publisher);

/* Whether to make one takes longer than a bell may go unheard, by the last one; or there was none. */
bool publisher_takes_long(const struct publisher *publisher);

/* Writes it now, and returns when it is there; ends a child first. 0 or -errno. A failure is logged once. */
int publisher_publish(struct publisher *publisher);

/* A pass is over. */
void publisher_note_pass(struct publisher *publisher);

/* Writes it now, if it does not say yet what the last pass found. */
void publisher_catch_up(struct publisher *publisher);

/* Writes it when the last time was long enough ago, else as soon as it will be. 0 or -errno. */
int publisher_publish_soon(struct publisher *publisher);
