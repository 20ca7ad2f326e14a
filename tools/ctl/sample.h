/* SPDX-License-Identifier: MIT */
#pragma once
/*
 * One reading of the pinned maps, with its time, for commands that read again and again; and whose
 * rows they are, which only the status knows.
 */

#include <jansson.h>
#include <time.h>

#include "tools/ctl/live.h"
#include "tools/ctl/rate.h"

struct sample {
	struct live live; /* counted */
	struct timespec monotonic;
	struct timespec wall;
};

#define SAMPLE_NONE ((struct sample){ .live = LIVE_NONE })

/* Opens the pins anew: what was detached and attached in between is seen. As live_read(). */
int sample_take(struct sample *ret);
void sample_done(struct sample *sample);

/* Since `before`; `before` may be NULL, or what was read first. */
double sample_seconds(const struct sample *before, const struct sample *now);
struct rate sample_rate(const struct sample *before, const struct sample *now, size_t row);
struct rate sample_no_entry_rate(const struct sample *before, const struct sample *now);

/* "2026-11-24T20:25:54.123Z" */
#define SAMPLE_TIME_MAX 40
const char *sample_time(const struct sample *sample, char buf[static SAMPLE_TIME_MAX]);

/* Which tunnel a row is for, by the status document. */
struct owner {
	struct row key;
	const json_t *tunnel; /* {netns, ifname}; in the document, which must live on */
};

struct owners {
	struct owner *list; /* sorted by row_compare() */
	size_t n;
};

/* `document` may be NULL: nobody is known. 0 or -ENOMEM. */
int owners_make(const json_t *document, struct owners *ret);
void owners_done(struct owners *owners);
/* NULL: unknown, or several tunnels'. */
const json_t *owners_find(const struct owners *owners, const struct row *row);
