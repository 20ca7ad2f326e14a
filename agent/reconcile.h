/* SPDX-License-Identifier: MIT */
#pragma once
/*
 * The one sequence: snapshot → tunnels → desired → plan → apply → status. Everything else in the agent
 * either feeds it or is called by it.
 */

#include <stdbool.h>
#include <stdio.h>
#include <time.h>

#include "agent/core/config.h"
#include "agent/core/once_held.h"
#include "agent/core/status.h"
#include "agent/interfaces.h"
#include "agent/kern/dataplane.h"
#include "agent/kern/events.h"
#include "agent/observe.h"

struct reconciler {
	const struct config *config;       /* borrowed; replaced on reload */
	const struct overrides *overrides; /* borrowed; NULL: none */
	const char *config_path;           /* borrowed; NULL: none */
	const char *config_file;           /* borrowed; where it is looked for */
	time_t config_loaded_at;
	const struct config_error *config_error; /* borrowed; why the last reload was refused */
	uint64_t reloads;                        /* up to the last pass */
	struct rtnl *rtnl;
	struct observer observer;
	struct dataplane *dataplane; /* NULL in a dry run */
	uint64_t strip_flags;
	struct entry_maps maps;
	struct entry_maps former;   /* whose place they take, for its counters; closed after that */
	bool pins_are_doubtful;     /* somebody asked to attach: see whether they are there */
	bool pins_are_missing;      /* they were not, and are not made anew yet */
	bool load_was_refused;      /* not again before the next full pass */
	bool load_has_failed;       /* since then: that is told once */
	uint64_t loaded_usec;       /* when the program was, CLOCK_MONOTONIC */
	struct once_held once_held; /* by the host's interfaces */
	bool holding_has_failed;    /* that could not be written: told once */
	struct tunnels tunnels;
	struct rows have; /* what the maps hold; true while have_is_valid */
	bool have_is_valid;
	struct plan plan;         /* the last one; its no_room is reported */
	bool room_was_freed;      /* by a plan that had no room for others */
	bool clients_are_stale;   /* exempt_clients may differ from the configuration */
	bool clients_are_missing; /* some could not be written, so nothing more may go direct */
	struct interfaces interfaces;
	time_t started_at, synced_at;
	int pid; /* the agent's: a child may write the status */
	uint64_t passes;
	int pass_error;      /* 0, or why the last one could not do all */
	bool has_failed;     /* likewise, also where it is to be expected */
	unsigned int unread; /* passes since everything was read */
};

#define RECONCILER_NONE                                                                            \
	((struct reconciler){                                                                      \
		.observer = OBSERVER_NONE, .maps = ENTRY_MAPS_NONE, .former = ENTRY_MAPS_NONE })

/*
 * Opens the request socket, and, unless in a dry run, loads the program and opens the maps. `run_dir`:
 * where to remember what must outlive the agent; borrowed; -1: a dry run.
 */
int reconciler_init(struct reconciler *reconciler, const struct config *config, int run_dir);
void reconciler_done(struct reconciler *reconciler);

/* Notes what a bell says. In how many microseconds it takes a pass; UINT64_MAX: it takes none. */
uint64_t reconciler_ring(struct reconciler *reconciler, const struct bell *bell);

/* Likewise after a pass, for what it left for later. */
uint64_t reconciler_wait(const struct reconciler *reconciler);
void reconciler_ring_list(struct reconciler *reconciler);
/* Read everything anew, maps and attachments included. */
void reconciler_ring_all(struct reconciler *reconciler);
/* In the next pass, too, whatever the pauses between two reads of the routes and of /proc: somebody waits for it. */
void reconciler_ring_at_once(struct reconciler *reconciler);

/*
 * Has the program follow an operator. The pins are made anew if somebody has removed them: whoever says
 * "attach" after that means it.
 */
void reconciler_place(struct reconciler *reconciler, const struct placement *placement);

/*
 * One pass. 0: maps and kernel agree. -EAGAIN: something could not be read or written; what could be
 * was done, call again a little later. Other -errno: the pass did nothing.
 */
int reconciler_run(struct reconciler *reconciler);

/* Reads and plans, writes the plan to `out` and changes nothing. */
int reconciler_dry_run(struct reconciler *reconciler, FILE *out);

/* The status document, newly made; NULL when memory is short. */
json_t *reconciler_status(struct reconciler *reconciler);
/* What core/changes.h compares; likewise. */
json_t *reconciler_picture(const struct reconciler *reconciler);
bool reconciler_is_degraded(const struct reconciler *reconciler);
/* Whether the maps have the room that the configuration wants. */
bool reconciler_has_size(const struct reconciler *reconciler);
