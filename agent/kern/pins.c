/* SPDX-License-Identifier: MIT */
#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "agent/kern/pins.h"
#include "agent/util/array.h"
#include "schema/maps.h"

static const char *const prefixes[] = {
	[PIN_LINK] = "link_",
	[PIN_PROGRAM] = "prog_",
};

void pin_path(enum pin_kind kind, uint32_t ifindex, char ret[static PIN_PATH_MAX])
{
	(void)snprintf(ret, PIN_PATH_MAX, "%s/%s%" PRIu32, MAPS_PIN_ROOT, prefixes[kind], ifindex);
}

int pin_parse(const char *name, enum pin_kind *ret_kind, uint32_t *ret_ifindex)
{
	for (size_t i = 0; i < ELEMENTS_OF(prefixes); i++) {
		size_t n = strlen(prefixes[i]);
		unsigned long value;
		char *end;

		if (strncmp(name, prefixes[i], n) != 0 || name[n] < '1' || name[n] > '9')
			continue;
		errno = 0;
		value = strtoul(name + n, &end, 10);
		if (errno != 0 || value > INT32_MAX || (*end != '\0' && strcmp(end, "_new") != 0))
			continue;
		*ret_kind = (enum pin_kind)i;
		*ret_ifindex = (uint32_t)value;
		return 0;
	}
	return -ENOENT;
}

int pin_make_directory(const char *path)
{
	if (mkdir(path, 0750) < 0 && errno != EEXIST)
		return -errno;
	return 0;
}
