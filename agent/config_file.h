/* SPDX-License-Identifier: MIT */
#pragma once
/* The file of the configuration, as the agent and `ipipdirectctl config check` read it. */

#include <stddef.h>

#include "agent/core/config.h"

#define CONFIG_PATH_DEFAULT "/etc/ipipdirect/config.json"

/* Reads it; *ret_text is the caller's. 0 or -errno, with *error filled. */
int config_file_read(
	const char *path, char **ret_text, size_t *ret_size, struct config_error *error);
