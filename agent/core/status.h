/* SPDX-License-Identifier: MIT */
#pragma once
/*
 * The agent's state as JSON: a read-only view of what a pass saw and did. Pure. The format is
 * schema/status.schema.json; fields are added, never changed or removed, within one schema_version.
 */

#include <jansson.h>
#include <stdbool.h>
#include <stdint.h>
#include <time.h>

#include "agent/core/attachment.h"
#include "agent/core/desired.h"
#include "agent/core/snapshot.h"
#include "agent/core/tunnel.h"
#include "schema/maps.h"

#define STATUS_SCHEMA_VERSION 1

/* Everything counted in one slot, all CPUs added up. */
struct slot_counters {
	struct maps_direct_counters direct;
	struct maps_kept_counters kept;
};

struct status_interface {
	struct attachment attachment;
	const char *error; /* NULL, or why nothing is attached */
};

/* What the view is made of; nothing in it is owned. */
struct status {
	int pid;
	time_t started_at; /* seconds since the epoch */
	time_t synced_at;  /* 0: no pass was complete yet */
	uint64_t passes;
	const char *config_path;  /* NULL: none */
	const char *config_error; /* NULL, or why the last reload was refused */
	const struct snapshot *snapshot;
	const struct tunnels *tunnels;
	const struct rows *rows;              /* what the maps hold */
	const struct slot_counters *counters; /* of each row, in the same order */
	const struct slot_counters *no_entry; /* slot 0 */
	const struct row *no_room;
	size_t n_no_room;
	uint32_t max_rows;
	const struct status_interface *interfaces;
	size_t n_interfaces;
};

/* A new reference, or NULL when memory is short. */
json_t *status_make(const struct status *status);

/* Whether something needs an operator: a conflict, no room, not attached, not all read. */
bool status_is_degraded(const struct status *status);

/* The counters as an object: direct_packets, direct_bytes and one number a reason. */
json_t *status_counters(const struct slot_counters *counters);

/*
 * A JSON string of any bytes: what is not UTF-8 becomes \xNN, since names of files and interfaces are
 * bytes that others choose.
 */
json_t *status_text(const char *bytes);
