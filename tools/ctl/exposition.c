/* SPDX-License-Identifier: MIT */
#include <string.h>

#include "agent/util/cleanup.h"
#include "tools/ctl/exposition.h"
#include "tools/ctl/output.h"

static const char *suffix(const struct metric *metric)
{
	return metric->type == METRIC_COUNTER ? "_total" : "";
}

void exposition_begin(struct exposition *exposition, const struct metric *metric)
{
	/* In OpenMetrics the family of a counter has no suffix, its samples have. */
	const char *family = exposition->open_metrics ? "" : suffix(metric);

	(void)fprintf(exposition->out, "# TYPE " METRIC_PREFIX "%s%s %s\n", metric->name, family,
		metric->type == METRIC_COUNTER ? "counter" : "gauge");
	if (exposition->open_metrics && metric->unit)
		(void)fprintf(exposition->out, "# UNIT " METRIC_PREFIX "%s %s\n", metric->name,
			metric->unit);
	(void)fprintf(exposition->out, "# HELP " METRIC_PREFIX "%s%s %s\n", metric->name, family,
		metric->help);
}

/*
 * Names of others may hold anything. As in tables everything but printable ASCII becomes \xNN, so that no
 * reader is led astray; what is left are the two characters that the format itself escapes.
 */
static void print_value(FILE *out, const char *value)
{
	_cleanup_free_ char *text = text_escape(value);

	for (const char *p = text ? text : "?"; *p; p++) {
		if (*p == '\\' || *p == '"')
			(void)fputc('\\', out);
		(void)fputc(*p, out);
	}
}

void exposition_add(struct exposition *exposition, const struct metric *metric,
	const char *const *labels, json_int_t value)
{
	FILE *out = exposition->out;

	(void)fprintf(out, METRIC_PREFIX "%s%s", metric->name, suffix(metric));
	for (size_t i = 0; labels && labels[i]; i += 2) {
		(void)fprintf(out, "%c%s=\"", i == 0 ? '{' : ',', labels[i]);
		print_value(out, labels[i + 1]);
		(void)fputc('"', out);
	}
	(void)fprintf(out, "%s %" JSON_INTEGER_FORMAT "\n", labels && labels[0] ? "}" : "", value);
}

void exposition_end(struct exposition *exposition)
{
	if (exposition->open_metrics)
		(void)fputs("# EOF\n", exposition->out);
}
