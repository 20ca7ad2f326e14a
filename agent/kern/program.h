/* SPDX-License-Identifier: MIT */
#pragma once
/*
 * The BPF object between opening and attaching: how large its maps are, and the jumps between its
 * programs. A thin door. All functions return 0 or -errno.
 */

#include <stdbool.h>
#include <stdint.h>

#include "agent/core/front.h"
#include "schema/maps.h"

struct direct_bpf; /* direct.skel.h */

/* Before loading: room for `max_rows` rows in each of remotes and sources. */
int program_set_size(struct direct_bpf *skeleton, uint32_t max_rows);

/* After loading: joins the programs. Before, every packet stays on the tunnel. */
int program_join(struct direct_bpf *skeleton);

/*
 * Opens or closes the way through the fast program, which believes `front` and `uplinks`. The kernel
 * closes it when nobody has the object's descriptors any more: when the process that loaded it ends, however it does.
 */
int program_set_alive(struct direct_bpf *skeleton, bool alive);

/*
 * In a child of that process, which has the object's descriptors as well and would put that off. Closes the one that counts;
 * the object is not to be destroyed there.
 */
void program_drop_alive(const struct direct_bpf *skeleton);

/* The tables that the program shares with the one who loaded it, mapped into memory. */
struct program_tables {
	struct front front;
	struct maps_uplink *uplinks; /* MAPS_UPLINKS */
};

int program_map_tables(struct direct_bpf *skeleton, struct program_tables *ret);

/* `uplinks` goes with the object. */
void program_unmap_tables(struct program_tables *tables);
