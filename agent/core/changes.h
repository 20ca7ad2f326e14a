/* SPDX-License-Identifier: MIT */
#pragma once
/*
 * What changed from one pass to the next, as events for those who watch. Pure: two pictures in, events
 * out, so that no event can be forgotten where something changes. schema/ctl-events.schema.json.
 */

#include <jansson.h>
#include <time.h>

#include "agent/core/status.h"

/* What is watched of the state, and nothing that moves by itself. A new reference; NULL: no memory. */
json_t *picture_make(const struct status *status);

/* The events between two pictures, an array, each stamped with `time`. NULL: no memory. */
json_t *changes_make(json_t *before, json_t *after, const struct timespec *time);

/* One event; takes the reference to `more`, further fields; NULL: none. NULL: no memory. */
json_t *event_make(const char *type, const struct timespec *time, json_t *more);
