/* SPDX-License-Identifier: MIT */
#pragma once
/*
 * What the fuzzers share. A target is one function over bytes, built twice: by clang with libFuzzer, and
 * by whatever compiler builds the rest, with replay.c, over the inputs that are kept.
 */

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

/* A property; it stands in release builds as well. */
#define CHECK(condition)                                                                           \
	do {                                                                                       \
		if (!(condition)) {                                                                \
			(void)fprintf(                                                             \
				stderr, "%s:%d: not true: %s\n", __FILE__, __LINE__, #condition);  \
			abort();                                                                   \
		}                                                                                  \
	} while (0)

/* An input taken apart from the front; behind its end come zeros. */
struct input {
	const uint8_t *data;
	size_t size;
};

static inline uint8_t take_byte(struct input *input)
{
	if (input->size == 0)
		return 0;
	input->size--;
	return *input->data++;
}

static inline void take_bytes(struct input *input, void *out, size_t n)
{
	for (size_t i = 0; i < n; i++)
		((uint8_t *)out)[i] = take_byte(input);
}

/* A copy that ends where its memory ends, so that reading behind it is seen. The caller's. */
static inline void *copy_exactly(const void *data, size_t size)
{
	void *copy = malloc(size ? size : 1);

	CHECK(copy);
	if (size > 0)
		memcpy(copy, data, size);
	return copy;
}

/* The same with a NUL behind it. */
static inline char *copy_text(const void *data, size_t size)
{
	char *copy = malloc(size + 1);

	CHECK(copy);
	if (size > 0)
		memcpy(copy, data, size);
	copy[size] = '\0';
	return copy;
}
