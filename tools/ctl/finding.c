/* SPDX-License-Identifier: MIT */
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "agent/core/status.h"
#include "agent/util/array.h"
#include "agent/util/cleanup.h"
#include "tools/ctl/finding.h"
#include "tools/ctl/output.h"
#include "tools/ctl/table.h"

void findings_done(struct findings *findings)
{
	for (size_t i = 0; i < findings->n; i++) {
		free(findings->list[i].text);
		free(findings->list[i].remedy);
	}
	free(findings->list);
	*findings = (struct findings){ 0 };
}

void findings_add(
	struct findings *findings, const char *name, enum result result, const char *format, ...)
{
	struct finding *finding;
	char *text;
	va_list ap;

	va_start(ap, format);
	text = text_format(format, ap);
	va_end(ap);
	finding = text ? ARRAY_APPEND(findings->list, findings->n) : NULL;
	if (!finding) {
		free(text);
		findings->failed = true;
		return;
	}
	*finding = (struct finding){ name, result, text, NULL };
	findings->n++;
}

void findings_remedy(struct findings *findings, const char *format, ...)
{
	char *text;
	va_list ap;

	if (findings->n == 0)
		return;
	va_start(ap, format);
	text = text_format(format, ap);
	va_end(ap);
	if (!text) {
		findings->failed = true;
		return;
	}
	free(findings->list[findings->n - 1].remedy);
	findings->list[findings->n - 1].remedy = text;
}

const struct finding *findings_first(const struct findings *findings, enum result result)
{
	for (size_t i = 0; i < findings->n; i++)
		if (findings->list[i].result == result)
			return &findings->list[i];
	return NULL;
}

bool findings_have(const struct findings *findings, enum result result)
{
	return findings_first(findings, result) != NULL;
}

static const char *result_name(const struct findings *findings, enum result result)
{
	switch (result) {
	case RESULT_OK:
		return "ok";
	case RESULT_NOTE:
		return findings->note ? findings->note : "note";
	case RESULT_WARN:
		return "warn";
	case RESULT_FAIL:
		return "fail";
	case RESULT_UNKNOWN:
		return "unknown";
	}
	return "?";
}

json_t *findings_json(const struct findings *findings, const char *name_key)
{
	json_t *array = findings->failed ? NULL : json_array();

	for (size_t i = 0; array && i < findings->n; i++) {
		const struct finding *finding = &findings->list[i];
		json_t *object = json_pack("{s:s, s:s, s:o, s:o}", name_key, finding->name,
			"result", result_name(findings, finding->result), "text",
			status_text(finding->text), "remedy",
			finding->remedy ? status_text(finding->remedy) : json_null());

		if (json_array_append_new(array, object) < 0) {
			json_decref(array);
			return NULL;
		}
	}
	return array;
}

static enum colour colour_of(enum result result)
{
	switch (result) {
	case RESULT_OK:
		return COLOUR_GOOD;
	case RESULT_NOTE:
		return COLOUR_NONE;
	case RESULT_WARN:
	case RESULT_UNKNOWN:
		return COLOUR_WARNING;
	case RESULT_FAIL:
		return COLOUR_BAD;
	}
	return COLOUR_NONE;
}

#define RESULT_WIDTH 9 /* "unknown" and a gap of two, as in tables */

void findings_print(const struct findings *findings)
{
	size_t width = 0;

	for (size_t i = 0; i < findings->n; i++)
		if (strlen(findings->list[i].name) > width)
			width = strlen(findings->list[i].name);
	width += 2;
	for (size_t i = 0; i < findings->n; i++) {
		const struct finding *finding = &findings->list[i];
		unsigned int indent = RESULT_WIDTH + (unsigned int)width;

		(void)printf("%s%-*s%s%-*s", colour_begin(colour_of(finding->result)), RESULT_WIDTH,
			result_name(findings, finding->result), colour_end(), (int)width,
			finding->name);
		print_wrapped(indent, output_width(), "%s", finding->text);
		if (finding->remedy) {
			(void)printf("%*s-> ", (int)indent, "");
			print_wrapped(indent + 3, output_width(), "%s", finding->remedy);
		}
	}
}

int findings_print_brief(const struct findings *findings)
{
	static const struct table_column columns[] = { { "" }, { "" }, { "", .shrinkto = 20 } };
	_cleanup_(table_done) struct table table;

	table_init(&table, columns, ELEMENTS_OF(columns));
	table.no_titles = true;
	for (size_t i = 0; i < findings->n; i++) {
		table_add(&table, "%s", result_name(findings, findings->list[i].result));
		table_add(&table, "%s", findings->list[i].name);
		table_add(&table, "%s", findings->list[i].text);
	}
	return table_print(&table, output_width());
}
