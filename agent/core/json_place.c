/* SPDX-License-Identifier: MIT */
#include <stdint.h>
#include <string.h>

#include "agent/core/json_place.h"

struct scan {
	const char *p, *end;
};

/* 0 at the end, as for a NUL, which no accepted text holds. */
static char peek(const struct scan *scan)
{
	return scan->p < scan->end ? *scan->p : '\0';
}

static void skip_blanks(struct scan *scan)
{
	while (peek(scan) != '\0' && strchr(" \t\r\n", *scan->p))
		scan->p++;
}

static bool skip_char(struct scan *scan, char c)
{
	skip_blanks(scan);
	if (peek(scan) != c || scan->p == scan->end)
		return false;
	scan->p++;
	return true;
}

static uint32_t take_hex(struct scan *scan)
{
	uint32_t value = 0;

	for (int i = 0; i < 4 && scan->p < scan->end; i++) {
		char c = *scan->p++;

		value = value << 4 | (uint32_t)(c <= '9' ? c - '0' : (c | 0x20) - 'a' + 10);
	}
	return value & 0xffff;
}

/* Behind "\u": one character, or two escapes that are one (UTF-16 surrogates). Returns its bytes. */
static size_t take_unicode(struct scan *scan, char out[static 4])
{
	uint32_t code = take_hex(scan);

	if (code >= 0xd800 && code < 0xdc00 && scan->end - scan->p >= 6 && scan->p[0] == '\\') {
		scan->p += 2;
		code = 0x10000 + ((code - 0xd800) << 10) + ((take_hex(scan) - 0xdc00) & 0x3ff);
	}
	if (code < 0x80) {
		out[0] = (char)code;
		return 1;
	}
	if (code < 0x800) {
		out[0] = (char)(0xc0 | code >> 6);
		out[1] = (char)(0x80 | (code & 0x3f));
		return 2;
	}
	if (code < 0x10000) {
		out[0] = (char)(0xe0 | code >> 12);
		out[1] = (char)(0x80 | (code >> 6 & 0x3f));
		out[2] = (char)(0x80 | (code & 0x3f));
		return 3;
	}
	out[0] = (char)(0xf0 | (code >> 18 & 7));
	out[1] = (char)(0x80 | (code >> 12 & 0x3f));
	out[2] = (char)(0x80 | (code >> 6 & 0x3f));
	out[3] = (char)(0x80 | (code & 0x3f));
	return 4;
}

/* The next character of a string, or byte of one, unescaped; returns its bytes. Not at the end. */
static size_t take_char(struct scan *scan, char out[static 4])
{
	static const char escapes[] = "b\bf\fn\nr\rt\t";
	const char *escape;
	char c = *scan->p++;

	if (c != '\\' || scan->p == scan->end) {
		out[0] = c;
		return 1;
	}
	c = *scan->p++;
	if (c == 'u')
		return take_unicode(scan, out);
	escape = c != '\0' ? strchr(escapes, c) : NULL;
	out[0] = escape && (escape - escapes) % 2 == 0 ? escape[1] : c;
	return 1;
}

/* Takes a string; *ret_equal: whether it says `key`, which may be NULL. False: there is no string. */
static bool take_string(struct scan *scan, const char *key, bool *ret_equal)
{
	bool equal = key != NULL;
	char c[4];

	if (!skip_char(scan, '"'))
		return false;
	while (scan->p < scan->end && *scan->p != '"') {
		size_t n = take_char(scan, c);

		equal = equal && c[0] != '\0' && strncmp(key, c, n) == 0;
		if (equal)
			key += n;
	}
	if (scan->p == scan->end)
		return false;
	scan->p++;
	*ret_equal = equal && *key == '\0';
	return true;
}

/* Depth is counted and not recursed into: the text is somebody else's. False: there is no value. */
static bool skip_value(struct scan *scan)
{
	size_t depth = 0;
	bool unused;

	do {
		skip_blanks(scan);
		switch (peek(scan)) {
		case '\0':
			return false;
		case '"':
			if (!take_string(scan, NULL, &unused))
				return false;
			break;
		case '{':
		case '[':
			depth++;
			scan->p++;
			break;
		case '}':
		case ']':
		case ',':
		case ':':
			if (depth == 0)
				return false;
			depth -= *scan->p == '}' || *scan->p == ']';
			scan->p++;
			break;
		default: /* a number or a word */
			while (scan->p < scan->end && !strchr(" \t\r\n,:{}[]\"", *scan->p))
				scan->p++;
			break;
		}
	} while (depth > 0);
	return true;
}

/* To the value of a member; *ret_key is where its key begins. */
static bool enter_member(struct scan *scan, const char *key, const char **ret_key)
{
	bool equal;

	if (!skip_char(scan, '{'))
		return false;
	do {
		skip_blanks(scan);
		*ret_key = scan->p;
		if (!take_string(scan, key, &equal) || !skip_char(scan, ':'))
			return false;
		if (equal)
			return true;
	} while (skip_value(scan) && skip_char(scan, ','));
	return false;
}

static bool enter_element(struct scan *scan, size_t index)
{
	if (!skip_char(scan, '['))
		return false;
	for (size_t i = 0; i < index; i++)
		if (!skip_value(scan) || !skip_char(scan, ','))
			return false;
	skip_blanks(scan);
	return peek(scan) != ']' && scan->p < scan->end;
}

struct json_spot json_spot_at(const char *text, size_t size, size_t offset)
{
	struct json_spot spot = { .offset = offset < size ? offset : size, .line = 1, .column = 1 };

	for (size_t i = 0; i < spot.offset; i++) {
		if (text[i] == '\n') {
			spot.line++;
			spot.column = 1;
		} else if ((text[i] & 0xc0) != 0x80) { /* not the rest of a character */
			spot.column++;
		}
	}
	return spot;
}

bool json_place_find(const char *text, size_t size, const struct json_step *steps, size_t n_steps,
	bool of_key, struct json_spot *ret)
{
	struct scan scan = { .p = text, .end = text + size };
	const char *key = NULL;

	for (size_t i = 0; i < n_steps; i++) {
		key = NULL;
		if (!(steps[i].key ? enter_member(&scan, steps[i].key, &key)
				   : enter_element(&scan, steps[i].index)))
			return false;
	}
	skip_blanks(&scan);
	if (scan.p == scan.end)
		return false;
	*ret = json_spot_at(text, size, (size_t)((of_key && key ? key : scan.p) - text));
	return true;
}
