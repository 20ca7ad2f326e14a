/* SPDX-License-Identifier: MIT */
#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "agent/config_file.h"
#include "agent/util/file.h"

int config_file_read(
	const char *path, char **ret_text, size_t *ret_size, struct config_error *error)
{
	int r = file_read(path, CONFIG_SIZE_MAX, ret_text, ret_size);

	if (r == 0)
		return 0;
	*error = (struct config_error){ 0 };
	if (r == -E2BIG)
		(void)snprintf(error->message, sizeof(error->message),
			"larger than %d bytes: this is no configuration", CONFIG_SIZE_MAX);
	else if (r == -EINVAL)
		(void)snprintf(error->message, sizeof(error->message), "not a regular file");
	else
		(void)snprintf(
			error->message, sizeof(error->message), "cannot be read: %s", strerror(-r));
	return r;
}
