/* SPDX-License-Identifier: MIT */
#pragma once
/* Growing arrays: a pointer and a length, doubled as they fill. */

#include <errno.h>
#include <stdbool.h>
#include <stdlib.h>

/*
 * Makes room for one more element behind `n`. `*array` holds `n` elements of `size` bytes and was
 * grown by this function only. Returns the zeroed new element, which the caller counts, or NULL with
 * the array as it was (-ENOMEM).
 */
void *array_append(void *array, size_t n, size_t size);

/* The typed form: ARRAY_APPEND(list, n_list) -> pointer to the new element, or NULL. */
#define ARRAY_APPEND(array, n) ((typeof(array))array_append(&(array), (n), sizeof(*(array))))

#define ELEMENTS_OF(x) (sizeof(x) / sizeof((x)[0]))
