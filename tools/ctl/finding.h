/* SPDX-License-Identifier: MIT */
#pragma once
/* What explain and doctor found: a list of results, each with its reason and what to do about it. */

#include <jansson.h>
#include <stdbool.h>
#include <stddef.h>

enum result {
	RESULT_OK,
	RESULT_NOTE, /* good to know */
	RESULT_WARN,
	RESULT_FAIL,
	RESULT_UNKNOWN, /* could not be looked at */
};

struct finding {
	const char *name; /* of the check or step; static */
	enum result result;
	char *text;
	char *remedy; /* NULL: none */
};

struct findings {
	struct finding *list;
	size_t n;
	const char *note; /* what RESULT_NOTE is called; NULL: "note" */
	bool failed;      /* memory ran short: something is missing */
};

void findings_done(struct findings *findings);

/* Adds one with its reason; findings_remedy() says what to do about the last one. */
__attribute__((format(printf, 4, 5))) void findings_add(
	struct findings *findings, const char *name, enum result result, const char *format, ...);
__attribute__((format(printf, 2, 3))) void findings_remedy(
	struct findings *findings, const char *format, ...);

bool findings_have(const struct findings *findings, enum result result);

/* The first of these, or NULL. */
const struct finding *findings_first(const struct findings *findings, enum result result);

/* [{name_key: name, result, text, remedy}]; NULL: no memory. */
json_t *findings_json(const struct findings *findings, const char *name_key);

/* One paragraph each, and the remedy below it. */
void findings_print(const struct findings *findings);
/* One line each, cut where the reader's terminal ends; without remedies. 0 or -ENOMEM. */
int findings_print_brief(const struct findings *findings);
