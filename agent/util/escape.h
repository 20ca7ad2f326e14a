/* SPDX-License-Identifier: MIT */
#pragma once

/* How a byte that is not to be shown as it is looks everywhere: \xNN, which is a literal of shells and of C as well. */
#define ESCAPED_MAX 4 /* bytes that one becomes */

/* Writes it to `out`; returns what follows it. */
static inline char *escape_byte(char *out, unsigned char c)
{
	static const char digits[] = "0123456789abcdef";

	*out++ = '\\';
	*out++ = 'x';
	*out++ = digits[c >> 4];
	*out++ = digits[c & 15];
	return out;
}

/* The same, of what is no printable ASCII; the rest stays. */
static inline char *escape_invisible(char *out, unsigned char c)
{
	if (c < 0x20 || c >= 0x7f)
		return escape_byte(out, c);
	*out++ = (char)c;
	return out;
}
