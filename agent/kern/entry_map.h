/* SPDX-License-Identifier: MIT */
#pragma once
/*
 * The pinned maps as rows and counters. A thin door: one operation on one row at a time, no decisions.
 * All functions return 0 or -errno.
 */

#include <stdbool.h>
#include <stdint.h>

#include "agent/core/clients.h"
#include "agent/core/desired.h"
#include "agent/core/front.h"
#include "agent/core/plan.h"
#include "agent/core/status.h"
#include "agent/kern/pins.h"
#include "schema/maps.h"

struct entry_maps {
	int remotes, sources, server_ports, exempt_clients, counters, kept; /* fds, owned */
	uint32_t max_rows;  /* of each of remotes and sources */
	uint32_t n_slots;   /* of counters and kept */
	struct front front; /* kept in step, where the caller sets one */
};

#define ENTRY_MAPS_NONE ((struct entry_maps){ -1, -1, -1, -1, -1, -1, 0, 0, { NULL, 0 } })

/*
 * Opens the pins in `directory`. Read-only works for who may only read them (BPF_F_RDONLY). -ENOENT: there are none;
 * -EPERM or -EACCES: not allowed; -EINVAL: they are not what this ABI pins.
 */
int entry_maps_open(const char *directory, bool read_only, struct entry_maps *ret);
void entry_maps_done(struct entry_maps *maps);

/*
 * Whether what is pinned there is ours to use: whose it is, and what. 0, also where there is nothing;
 * -EUCLEAN: no, and why; or -errno.
 */
int entry_maps_check(const char *directory, struct pin_problem *ret);

/* All rows of both maps, sorted by row_compare(), each once; the caller's. */
int entry_maps_read(const struct entry_maps *maps, struct rows *ret);

/*
 * Carries out one operation. PLAN_ADD zeroes the counter slot first. -E2BIG: the map is full. Removing
 * what is not there succeeds.
 */
int entry_maps_apply(const struct entry_maps *maps, const struct plan_op *op);

/* Room for MAPS_EXEMPT_CLIENTS_MAX, in any order, perhaps some twice; the caller's. */
int entry_maps_read_clients(const struct entry_maps *maps, struct clients *ret);

/*
 * Carries out one operation. Removing what is not there succeeds. Adding what is there needs room for one more in most
 * kernels before 6.13 (kernel/bpf/lpm_trie.c, trie_update_elem()).
 */
int entry_maps_apply_client(const struct entry_maps *maps, const struct client_op *op);

/* Writes counters of a slot that no program counts in yet. */
int entry_maps_set_count(
	const struct entry_maps *maps, uint32_t slot, const struct slot_counters *counters);

int entry_maps_count(const struct entry_maps *maps, uint32_t slot, struct slot_counters *ret);
