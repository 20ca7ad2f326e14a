/* SPDX-License-Identifier: MIT */
#pragma once
/*
 * The directories that sets of maps are pinned in, below MAPS_PIN_ROOT: "v1" for the set of ABI 1 that
 * is in use, "v1_new" for one that is being filled to take its place. What lies in the latter when an
 * agent starts was left by one that was killed before its program took over, or just after; nobody
 * needs its pins, since attached programs keep their maps.
 *
 * All functions return 0 or -errno.
 */

#include <stdbool.h>

#include "agent/kern/pins.h"

#define MAP_DIR PINS_MAPS_DIR
#define MAP_DIR_NEXT PINS_MAPS_DIR "_new"

/* Whether a file name below MAPS_PIN_ROOT is that of a set of maps of any version: "v7" or "v7_new". */
bool map_dir_parse(const char *name);

/* Whether there is a set of another ABI. */
int map_dirs_have_others(bool *ret);

/* Removes the set that was being filled. */
int map_dirs_remove_next(void);

/*
 * Makes the next set the one in use, at once, so that whoever is killed leaves a set in use. The former is removed, or has
 * the name of the next one then, so this is not to be done again once it is done.
 */
int map_dirs_promote(void);

/* Removes those of other ABIs, and what is left of the former. */
int map_dirs_remove_others(void);

/* Removes all. -ENOTEMPTY: somebody keeps something of his own there. */
int map_dirs_remove(void);
