/* SPDX-License-Identifier: MIT */
#pragma once
/*
 * Metrics as text, in two dialects that differ in the names of counters and at the end: OpenMetrics 1.0,
 * and Prometheus' text format 0.0.4, the only one that node_exporter reads from files.
 */

#include <stdbool.h>
#include <stdio.h>

#include <jansson.h>

#define METRIC_PREFIX "ipipdirect_"

enum metric_type {
	METRIC_GAUGE,
	METRIC_COUNTER,
};

struct metric {
	enum metric_type type;
	const char *name; /* without prefix and _total; ends in its unit, where it has one */
	const char *unit; /* NULL: none */
	const char *help;
};

struct exposition {
	FILE *out;
	bool open_metrics;
};

/* Once a metric, before its samples. */
void exposition_begin(struct exposition *exposition, const struct metric *metric);

/*
 * One sample. `labels`: pairs of name and value, ended by a NULL name; values may be any bytes. NULL:
 * none.
 */
void exposition_add(struct exposition *exposition, const struct metric *metric,
	const char *const *labels, json_int_t value);

void exposition_end(struct exposition *exposition);
