/* SPDX-License-Identifier: MIT */
#pragma once
/* The part of the status about namespaces: which there are, and where they were looked for. Pure. */

#include <jansson.h>

#include "agent/core/snapshot.h"

/* New references, or NULL when memory is short. */
/* Who a namespace is, for an event about it. */
json_t *status_netns_name(const struct netns *netns);
json_t *status_namespaces(const struct snapshot *snapshot);
json_t *status_skipped_files(const struct snapshot *snapshot);
json_t *status_discovery(const struct snapshot *snapshot);

/* Adds to an array of sentences. */
void status_netns_problems(const struct snapshot *snapshot, json_t *problems);
