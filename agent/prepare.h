/* SPDX-License-Identifier: MIT */
#pragma once
/* What is done before the agent gives up its rights, and giving them up. Logs what goes wrong. */

/*
 * Takes over what an agent of another user left, if we are root; gives up all rights that are not
 * needed; sees whether those that are needed are there. `run_dir`: -1 in a dry run, which takes over nothing.
 * 0 or -errno: there is no going on.
 */
int prepare_rights(int run_dir);

/* Hands everything to the agent's user and lets him reach it, for a unit that starts the agent as him. 0 or -errno. */
int prepare_for_account(int run_dir);
