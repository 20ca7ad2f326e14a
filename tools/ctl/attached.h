/* SPDX-License-Identifier: MIT */
#pragma once
/* Whether the program hangs on an interface now, whatever the status says. */

#include <jansson.h>
#include <stdbool.h>
#include <stdint.h>

#include "tools/ctl/agent.h"

/* Interfaces that have something of ours pinned, whoever put it there. */
struct attached {
	uint32_t *list; /* owned */
	size_t n;
	int error; /* 0, or -errno: why that cannot be told */
};

void attached_read(struct attached *ret);
void attached_done(struct attached *attached);

/*
 * Whether an interface of the status has the program: by the agent's word while one lives, then by the kernel's,
 * as somebody may have taken it off since. Who is not root learns only whether something is pinned for it, and it is
 * there. 1, 0, or -errno: it cannot be told.
 */
int attached_now(
	const struct attached *attached, const struct agent_view *view, const json_t *interface);

/*
 * The program that the status says is in a filter there, where the kernel has that filter, pinned or not: a filter
 * outlives its pin. 0: none, or that cannot be told.
 */
uint32_t attached_filter(const struct agent_view *view, const json_t *interface);

/* Of those that have something pinned, all but those of the status that have not got the program. */
size_t attached_count(const struct attached *attached, const struct agent_view *view);

/*
 * `interface`: what the status says of it, or NULL. 0: it is there; -ENOENT: it is not; another -errno:
 * that cannot be told. Who is not root learns only whether something is pinned for it.
 */
int attached_check(const json_t *interface, uint32_t ifindex);
