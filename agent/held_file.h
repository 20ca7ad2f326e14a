/* SPDX-License-Identifier: MIT */
#pragma once
/*
 * Keeps what the host's interfaces once held in a file of the run directory, for the next agent: an address that is away
 * while that starts has not become a server's either.
 */

#include "agent/core/once_held.h"

#define HELD_FILE "held.json"

/*
 * 0, also without a file. -errno: it cannot be read or understood; *ret is then such that nothing is known of any
 * address.
 */
int held_load(int run_dir, struct once_held *ret);

/* Where there is anything new. 0 or -errno, and then the file is as before. */
int held_store(int run_dir, struct once_held *once);
