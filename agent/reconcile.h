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
#include "agent/core/status.h"
#include "agent/kern/dataplane.h"
#include "agent/kern/events.h"
#include "agent/observe.h"

struct reconciler {
	const struct config *config; /* borrowed; replaced on reload */
	const char *config_path;     /* likewise; NULL: none */
	const char *config_error;    /* likewise; why the last reload was refused */
	struct rtnl *rtnl;
	struct observer observer;
	struct dataplane *dataplane; /* NULL in a dry run */
	struct entry_maps maps;
	struct tunnels tunnels;
	struct rows have; /* what the maps hold; true while have_is_valid */
	bool have_is_valid;
	struct plan plan;       /* the last one; its no_room is reported */
	bool clients_are_stale; /* exempt_clients may differ from the configuration */
	bool interfaces_are_stale;
	struct status_interface *interfaces;
	size_t n_interfaces;
	time_t started_at, synced_at;
	uint64_t passes;
};

/* Opens the request socket, and, unless in a dry run, loads the program and opens the maps. */
int reconciler_init(struct reconciler *reconciler, const struct config *config, bool dry_run);
void reconciler_done(struct reconciler *reconciler);

void reconciler_ring(struct reconciler *reconciler, const struct bell *bell);
void reconciler_ring_list(struct reconciler *reconciler);
/* Read everything anew, maps and attachments included. */
void reconciler_ring_all(struct reconciler *reconciler);

/*
 * One pass. 0: maps and kernel agree. -EAGAIN: something could not be read or written; what could be
 * was done, call again a little later. Other -errno: the pass did nothing.
 */
int reconciler_run(struct reconciler *reconciler);

/* Reads and plans, writes the plan to `out` and changes nothing. */
int reconciler_dry_run(struct reconciler *reconciler, FILE *out);

/* The status document, newly made; NULL when memory is short. */
json_t *reconciler_status(struct reconciler *reconciler);
bool reconciler_is_degraded(const struct reconciler *reconciler);
