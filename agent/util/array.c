/* SPDX-License-Identifier: MIT */
#include <stdint.h>
#include <string.h>

#include "agent/util/array.h"

void *array_append(void *array, size_t n, size_t size)
{
	void **p = array;

	/* Full exactly when n is 0 or a power of two from 4 on: the capacity needs no field. */
	if (n == 0 || (n >= 4 && (n & (n - 1)) == 0)) {
		size_t capacity = n == 0 ? 4 : n * 2;
		void *grown;

		if (capacity > SIZE_MAX / size)
			return NULL;
		grown = realloc(*p, capacity * size);
		if (!grown)
			return NULL;
		*p = grown;
	}
	return memset((char *)*p + n * size, 0, size);
}
