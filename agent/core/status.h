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
#include "agent/core/config.h"
#include "agent/core/desired.h"
#include "agent/core/offload.h"
#include "agent/core/placement.h"
#include "agent/core/route.h"
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
	uint64_t restored; /* times that somebody removed the program and it was attached anew */
	uint64_t unpinned_usec; /* since when it hangs there without its pin; 0: it has it */
	bool replaced;          /* another program is to take the place of this one */
	/* What may be there still though nothing counts as attached; 0: nothing. Where its pin went, only this knows it. */
	uint32_t left_program;
	enum uplink_state next_hop; /* how its packets find their next hop */
	struct offload_guard guard;
};

/* What the view is made of; nothing in it is owned. */
struct status {
	int pid;
	time_t started_at; /* seconds since the epoch */
	time_t synced_at;  /* 0: no pass was complete yet */
	uint64_t passes;
	uint32_t resync_interval_s;
	int pass_error;      /* 0, or why the last pass could not do all */
	unsigned int unread; /* passes since everything was read */
	uint64_t route_reads;
	const char *config_path; /* the one in use; NULL: none */
	const char *config_file; /* where it is looked for */
	time_t config_loaded_at;
	const struct config_error *config_error; /* NULL, or why the last reload was refused */
	uint64_t reloads;
	const struct snapshot *snapshot;
	const struct tunnels *tunnels;
	const struct overrides *overrides;    /* NULL: none */
	const struct placement *placement;    /* NULL: as configured */
	const struct rows *rows;              /* what the maps hold */
	const struct slot_counters *counters; /* of each row, in the same order */
	const struct slot_counters *no_entry; /* slot 0 */
	const struct row *no_room;
	size_t n_no_room;
	uint32_t max_rows, wanted_rows; /* of the maps, and of the configuration */
	bool takeover_waits; /* another program is attached and goes on until all is known */
	const struct status_interface *interfaces;
	size_t n_interfaces;
};

/* In the run directory, written anew after a pass. */
#define STATUS_FILE "status.json"
#define STATUS_SIZE_MAX ((size_t)64 * 1024 * 1024) /* bytes: some 100000 rows */

/* A new reference, or NULL when memory is short. */
json_t *status_make(const struct status *status);

/*
 * Of the text of a status: the id of the program that its agent had attached to the interface; 0: none, or that is no such
 * text. Ids are given once (kernel/bpf/syscall.c, bpf_prog_alloc_id()), so whatever has this one is that program.
 */
uint32_t status_program_of(const char *text, size_t size, uint32_t ifindex);

/* Whether something needs an operator: a conflict, no room, not attached, not all read. */
bool status_is_degraded(const struct status *status);

/* The counters as an object: direct_packets, direct_bytes and one number a reason. */
json_t *status_counters(const struct slot_counters *counters);

/* What is wrong with a configuration: file, line, column and place, null when unknown, and message. */
json_t *status_config_error(const char *file, const struct config_error *error);

/* One item of `tunnels`, of `entries` (without its counters) and of `interfaces`. NULL: no memory. */
json_t *status_tunnel(const struct tunnels *tunnels, const struct tunnel *tunnel);
json_t *status_row(const struct tunnels *tunnels, const struct row *row);
json_t *status_interface(const struct status_interface *interface);

/* Exemptions and ports as the configuration spells them. */
json_t *status_exempt(const struct policy *policy);
json_t *status_server_ports(const struct policy *policy);

/*
 * A JSON string of any bytes: what is not UTF-8 becomes \xNN, since names of files and interfaces are
 * bytes that others choose.
 */
json_t *status_text(const char *bytes);
