/* SPDX-License-Identifier: MIT */
#pragma once
/*
 * Keeps the modes that operators gave single tunnels, in memory and in a file of the run directory, for
 * the next agent.
 */

#include <stdbool.h>
#include <stddef.h>

#include "agent/core/override.h"
#include "agent/core/tunnel.h"

struct modes {
	struct overrides overrides;
	int run_dir; /* borrowed */
};

/*
 * Reads the file. 0, also without one, with how many in it were not understood; -errno: it cannot be read, and there are no
 * overrides.
 */
int modes_load(struct modes *modes, int run_dir, size_t *ret_lost);
void modes_done(struct modes *modes);
/* A file without any takes the place of what cannot be read. 0 or -errno. */
int modes_forget(struct modes *modes);

/*
 * Gives the tunnels of that name a mode, or takes it back (NULL); `ret_n`: how many there are now.
 * -ENOENT: there are none, and none is remembered; -E2BIG; other -errno: the file cannot be written.
 * Nothing is changed then.
 */
int modes_set(struct modes *modes, const struct tunnels *tunnels, const char *netns,
	const char *ifname, const enum maps_mode *mode, bool until_reload, size_t *ret_n);

/* The configuration was read anew. */
int modes_reloaded(struct modes *modes);
