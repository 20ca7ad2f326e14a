/* SPDX-License-Identifier: MIT */
#pragma once
/*
 * The interfaces that the program hangs on: which the default routes or the configuration want, the
 * guard of each, attaching before leaving, and what the program may know of their routes.
 */

#include <stdbool.h>
#include <stddef.h>
#include <stdio.h>

#include "agent/core/config.h"
#include "agent/core/placement.h"
#include "agent/core/status.h"
#include "agent/guard.h"
#include "agent/kern/dataplane.h"
#include "agent/kern/rtnl.h"
#include "agent/upkeep.h"

struct interfaces {
	const struct config *config; /* borrowed; replaced on reload */
	struct placement placement;  /* what an operator wants besides, or instead */
	struct rtnl *rtnl;           /* borrowed */
	struct dataplane *dataplane; /* borrowed; NULL in a dry run */
	struct guard guard;
	bool stale;             /* routes, rules or links may have changed */
	bool attachments_stale; /* somebody may have taken the program off */
	bool is_off;            /* nowhere, as an operator wants it, whatever else is stale */
	bool may_pass;          /* an error of attaching that may pass by itself */
	uint64_t route_reads;   /* since the start */
	uint64_t read_again;    /* microseconds, CLOCK_MONOTONIC: not before that */
	uint64_t
		give_back_at; /* likewise, device features where nothing is attached any more; 0: none */
	bool untold;          /* routes have changed since the program was told */
	bool suspended;       /* what it is told it must not believe yet */
	struct status_interface *list;
	size_t n;
	struct upkeep upkeep; /* of their gateways */
};

void interfaces_done(struct interfaces *interfaces);

/* Has another program take the place of the one that is attached, the next time. */
void interfaces_replace_program(struct interfaces *interfaces, struct dataplane *dataplane);

/* Has it followed at once, whatever the pause between two reads of the routes. */
void interfaces_place(struct interfaces *interfaces, const struct placement *placement);

/*
 * Whether a bell is about one of the interfaces. Notes what it says. Of the clients that changed routes may lead elsewhere the
 * program believes nothing from here on, if not all routes are read right away.
 */
bool interfaces_ring(struct interfaces *interfaces, const struct bell *bell);

/* Puts the program back where somebody took it off. Nobody else's is touched. 0, or -EAGAIN: once more. */
int interfaces_restore(struct interfaces *interfaces);

/*
 * Nothing rings when a TCX link goes, or the pin of a filter's program; this looks at all of one kind, at the price
 * of a few system calls an interface. True: `attachments_stale` is set.
 */
bool interfaces_check(struct interfaces *interfaces, enum attachment_kind kind);
bool interfaces_have_links(const struct interfaces *interfaces);

/* Microseconds until the routes may be read; 0: now. */
uint64_t interfaces_wait(const struct interfaces *interfaces);

/*
 * Reads the routes, attaches to what is wanted, leaves what is not, and tells the program the routes.
 * 0, or -errno: it stays stale. It does as well, with 0, where interfaces_wait() is not over.
 */
int interfaces_follow(struct interfaces *interfaces);

/*
 * Takes the program off where an operator does not want it: for a pass that came to nothing, since that asks neither
 * namespaces nor maps. 0, or -errno: not everywhere.
 */
int interfaces_leave(struct interfaces *interfaces);

/* Whether the program is where it was wanted last, as far as it can be. */
bool interfaces_are_placed(const struct interfaces *interfaces);

/*
 * Where routes changed that the program was not told of, it shall ask the FIB until it is told: after a pass that failed, or
 * while they are not to be read yet.
 */
void interfaces_doubt(struct interfaces *interfaces);

/* Bells are gathered for as long: what takes no more may go unheard. */
#define INTERFACES_DEAF_USEC (10 * 1000)

/*
 * Before what takes longer: nobody listens to the routes meanwhile, so the program asks the kernel for each packet.
 * _resume() when what was said has been heard; what that put in doubt stays so.
 */
void interfaces_suspend(struct interfaces *interfaces);
void interfaces_resume(struct interfaces *interfaces);

/*
 * Has the kernel look after the gateways, as upkeep_run() does, and the program forget of the default ones what is no
 * longer true. Gives back device features whose time has come.
 */
uint64_t interfaces_look_after(struct interfaces *interfaces, uint64_t now);

/* Waits for the time of what is to be given back, if anything is. */
void interfaces_give_back(struct interfaces *interfaces);

/* Writes to `out` what following would do, or cannot, a line each. `ret_any`: whether there was a line. */
int interfaces_dry_run(struct interfaces *interfaces, FILE *out, bool *ret_any);
