/* SPDX-License-Identifier: MIT */
#pragma once
/*
 * Loading, pinning, attaching and detaching the BPF program. Touches nothing that is not ours: no qdisc
 * is removed, no filter or link of anybody else is changed.
 *
 * Everything is pinned (or held by a filter), so the agent's death changes nothing on the wire, and
 * what a former agent left is adopted. All functions return 0 or -errno.
 */

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "agent/core/attachment.h"
#include "agent/kern/entry_map.h"
#include "agent/kern/program.h"
#include "agent/kern/rtnl.h"

struct dataplane;

/*
 * Loads the program and opens its maps: those that are pinned, where they are of this ABI and of
 * `max_rows`; else new ones, pinned beside. `strip_flags`: see strip.h. Nothing is attached yet.
 */
int dataplane_load(uint32_t max_rows, uint64_t strip_flags, struct dataplane **ret);

/* What it attached goes on, and believes nothing of the tables any more. */
void dataplane_free(struct dataplane *dataplane);

/* In a child: it is not to keep the program believing them when its parent is gone. See agent/kern/program.h. */
void dataplane_drop_alive(const struct dataplane *dataplane);

/* Where its maps are pinned, see map_dirs.h. */
const char *dataplane_directory(const struct dataplane *dataplane);

/* Whether its maps are to take the place of others. */
bool dataplane_is_beside(const struct dataplane *dataplane);

/*
 * And whether a program is attached that uses those: then it should go on until the new maps say all
 * that they say.
 */
bool dataplane_must_wait(const struct dataplane *dataplane);

/*
 * Whether its pins are still there. Without them its maps go on, but nothing can be attached that
 * another agent could adopt.
 */
bool dataplane_is_pinned(const struct dataplane *dataplane);

/* The tables that the program reads while this agent lives; see agent/kern/program.h. */
struct program_tables *dataplane_tables(struct dataplane *dataplane);

/*
 * Attaches to the egress of `interface`, before everybody else's programs: a TCX link where the kernel
 * has it (6.6), else a clsact filter of our own priority and handle. What an earlier agent attached is
 * replaced in place, without a gap. `known`: the program that this agent attached there before, 0: none; a
 * filter with it is ours, pinned or not. -ENOENT: the pins are gone, and nothing is attached.
 */
int dataplane_attach(struct dataplane *dataplane, const struct host_interface *interface,
	uint32_t known, struct attachment *ret);

/* Whether the attachment is still there, pinned and with our program in it: 0, or -ENOENT. */
int dataplane_check(const struct attachment *attachment);

/* The same, with whatever program of ours. */
int dataplane_check_any(enum attachment_kind kind, uint32_t ifindex);

/* The interfaces that have something of ours, by their pins. The caller frees *ret. */
int dataplane_attached(uint32_t **ret_ifindexes, size_t *ret_n);

/*
 * Gives its maps their final place, and then lets go of what former programs needed, which does no harm while it is
 * there. Not before every interface has this one: a program that has lost its parts leaves every packet to the tunnel.
 */
int dataplane_settle(struct dataplane *dataplane);
int dataplane_tidy(struct dataplane *dataplane);

/* Whether a filter of our priority and handle has that program, pinned or not. 1, 0, or -errno. */
int dataplane_has_filter(uint32_t ifindex, uint32_t program_id);

/* Removes what is ours from one interface, and its pin. Nothing there is no error. `known`: as above. */
int dataplane_detach(uint32_t ifindex, uint32_t known);

/*
 * Removes all pins, maps included. Detach first. `keep_directory`: an agent lives that could not make
 * the directory itself.
 */
int dataplane_remove_pins(bool keep_directory);
