/* SPDX-License-Identifier: MIT */
#pragma once
/*
 * Snapshots from a few lines of text, and what the core makes of them as text, so that a test reads as
 * a table of worlds and outcomes.
 *
 *   host 198.51.100.10            the own namespace; its eth0 has these addresses
 *   netns game1 10.9.0.2          a namespace; its eth0 has these addresses
 *   guest evil 10.9.0.3           one that another user namespace owns
 *   netns x unnamed label=y       one without a file name, known by its label; also: truncated, unread,
 *                                renewed
 *    tun0 203.0.113.1 10.0.0.2    in the namespace above: an ipip device, its remote, its addresses
 *    tun1 203.0.113.1 - fou       … no address, FOU; also: external, mpls, down, local=ADDRESS
 */

#include "agent/core/config.h"
#include "agent/core/desired.h"
#include "agent/core/plan.h"
#include "agent/core/snapshot.h"

/* Fails the test on text it cannot read. */
void world_parse(const char *text, struct snapshot *ret);

/* Of a text, or where that is NULL of none. Fails the test on one that is refused. */
void world_config(const char *text, struct config *ret);

/* Tunnels and rows, one a line, as the tests write them; static storage, good until the next call. */
const char *world_outcome(const char *world, const char *config);

/* The rows that the core wants for a world. */
void world_rows(const char *world, const char *config, struct rows *ret);

/* The same, with rows in the maps already. */
const char *world_outcome_with(
	const char *world, const char *config, const struct present *present);
void world_rows_with(
	const char *world, const char *config, const struct present *present, struct rows *ret);

struct ip4 ip4_of(const char *text);
