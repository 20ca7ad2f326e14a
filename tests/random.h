/* SPDX-License-Identifier: MIT */
#pragma once
/* xorshift32 (Marsaglia, "Xorshift RNGs", 2003): the same numbers of the same seed, in every run and on every machine. */

#include <stdint.h>

static uint32_t random_state = 2463534242; /* any but 0 */

static inline uint32_t random_below(uint32_t n)
{
	random_state ^= random_state << 13;
	random_state ^= random_state >> 17;
	random_state ^= random_state << 5;
	return random_state % n;
}
