/* SPDX-License-Identifier: MIT */
#pragma once
/* Between the two halves of explain: explain.c finds out what is meant, explain_steps.c explains it. */

#include "tools/ctl/agent.h"
#include "tools/ctl/ctl.h"
#include "tools/ctl/finding.h"
#include "tools/ctl/live.h"
#include "tools/ctl/search.h"

/* Which packets of a tunnel the rows send direct, whether or not that is meant. */
enum reach {
	REACH_NONE,
	REACH_SOME, /* those that have a row */
	REACH_ALL,
};

struct inquiry {
	const struct ctl *ctl;
	struct agent_view view;
	struct live live;
	int live_error; /* 0: live is there */
	struct search search;
	const json_t *tunnel;          /* the one in question; NULL: none */
	struct slot_counters counters; /* of its rows, as far as they are in the maps */
	size_t n_rows;                 /* of it, in the maps */
	bool owns_rows;                /* some entry of the status names it */
	enum reach reach;
	struct findings steps;
};

/* The steps of inquiry->tunnel. */
void explain_tunnel(struct inquiry *inquiry);

/* Of a namespace in which there is none. */
void explain_empty_namespace(struct inquiry *inquiry);

/* Of a row, by its index, that no tunnel of the status accounts for, as without a status. */
void explain_row(struct inquiry *inquiry, size_t row);
