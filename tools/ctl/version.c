/* SPDX-License-Identifier: MIT */
#include <stdio.h>

#include "agent/core/status.h"
#include "schema/maps.h"
#include "tools/ctl/ctl.h"

static int run_version(const struct ctl *ctl)
{
	if (ctl->json)
		return ctl_print_json(
			ctl, json_pack("{s:i, s:s, s:i, s:i}", "schema_version", 1, "version",
				     IPIPDIRECT_VERSION, "map_abi", MAPS_ABI,
				     "status_schema_version", STATUS_SCHEMA_VERSION));
	(void)printf("ipipdirectctl %s\n", IPIPDIRECT_VERSION);
	return CTL_OK;
}

const struct ctl_command ctl_version_command = {
	.name = "version",
	.summary = "print the version",
	.help = "Prints the version; with -j also those of the maps and of the status document.\n",
	.run = run_version,
};
