/* SPDX-License-Identifier: MIT */
#pragma once
/* What the two ways to detach share: by a running agent, and without one. */

#include <jansson.h>
#include <stdint.h>

#include "tools/ctl/ctl.h"

/* What was done, as -j prints it; arrays of {ifindex, name}, in them once each. */
struct detach_outcome {
	json_t *detached;
	json_t *restored; /* features of the offload guard */
	bool stays_off;   /* an agent runs, and was told */
};

/*
 * Has the running agent take the program off and leave it off, and says what it did. CTL_OK,
 * CTL_DEGRADED when it goes on trying, or what ctl_fail() returned.
 */
int detach_by_agent(const struct ctl *ctl, struct detach_outcome *outcome);

/* Notes and, without -j, says it; `name` may be "". */
void detach_note_interface(const struct ctl *ctl, json_t *list, uint32_t ifindex, const char *name);
void detach_note_feature(const struct ctl *ctl, json_t *list, uint32_t ifindex, const char *name);
