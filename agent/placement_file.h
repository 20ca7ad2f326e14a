/* SPDX-License-Identifier: MIT */
#pragma once
/*
 * Keeps an operator's placement of the program in a file of the run directory, for the next agent: one
 * who took the program off must not find it attached again because the agent was restarted.
 */

#include "agent/core/placement.h"

#define PLACEMENT_FILE "placement.json"

/*
 * 0, also without a file. -errno: it cannot be read or understood; *ret is then to leave every packet to
 * the tunnel, since somebody wanted something and nobody knows what.
 */
int placement_load(int run_dir, struct placement *ret);

/* 0 or -errno, and then the file is as before. */
int placement_store(int run_dir, const struct placement *placement);
