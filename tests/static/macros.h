/* SPDX-License-Identifier: MIT */
/* For cppcheck, which reads no system headers: without these macros it gives up on a file. */
#define _GNU_SOURCE 1
#define IPIPDIRECT_VERSION "0"
#define LIBBPF_OPTS(type, name, ...) struct type name = { __VA_ARGS__ }
#define SEC(name)
#define json_array_foreach(array, i, value)                                                        \
	for (i = 0; i < json_array_size(array) && (value = json_array_get(array, i)); i++)
#define json_object_foreach(object, key, value)                                                    \
	for (key = json_object_first(object); key && (value = json_object_get(object, key));       \
		key = json_object_next(object, key))
