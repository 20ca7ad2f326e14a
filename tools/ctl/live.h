/* SPDX-License-Identifier: MIT */
#pragma once
/* The pinned maps, read-only: what the BPF program works with, whether an agent runs or not. */

#include <jansson.h>

#include "agent/core/desired.h"
#include "agent/core/status.h"
#include "agent/kern/entry_map.h"
#include "tools/ctl/ctl.h"

struct live {
	struct entry_maps maps;
	struct rows rows;               /* all of them, sorted by row_compare() */
	struct slot_counters *counters; /* of each row; NULL before live_count() */
	struct slot_counters no_entry;  /* slot 0 */
};

#define LIVE_NONE ((struct live){ .maps = ENTRY_MAPS_NONE })

/* Opens the pins and reads all rows, or none. -errno as entry_maps_open() and entry_maps_read(). */
int live_read(struct live *ret);
void live_done(struct live *live);

/* Reads the counters of all rows, or fails. */
int live_count(struct live *live);

/* Rows in remotes and in sources; each has room for `maps.max_rows`. */
struct map_use {
	size_t remotes, sources;
};

struct map_use live_use(const struct live *live);

/* The row of a remote, or with an inner source the row of `sources`; SIZE_MAX: there is none. */
size_t live_find(const struct live *live, struct ip4 remote, struct ip4 inner_source);

/* Ends a command that cannot do without the pins, as ctl_fail(). `r`: what live_…() returned. */
int live_fail(const struct ctl *ctl, int r);

/* 0; -ENOENT: /sys/fs/bpf is no bpffs here, as under `ip netns exec`. */
int live_check_bpffs(void);
int live_fail_bpffs(const struct ctl *ctl);

/* Packets that stayed on the tunnel for any reason that belongs to an entry. */
uint64_t kept_packets(const struct slot_counters *counters);
void slot_counters_add(struct slot_counters *sum, const struct slot_counters *counters);
