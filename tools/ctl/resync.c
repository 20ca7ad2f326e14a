/* SPDX-License-Identifier: MIT */
/* resync: has the running agent read everything anew, and correct what differs. */
#include <stdio.h>

#include "agent/util/cleanup.h"
#include "tools/ctl/varlink.h"

#define RESYNC_SCHEMA_VERSION 1 /* schema/ctl-resync.schema.json */

static int run_resync(const struct ctl *ctl)
{
	_cleanup_(varlink_done) struct varlink varlink = VARLINK_NONE;
	json_auto_t *answer = NULL;
	bool complete;
	int status;

	status = varlink_open(ctl, &varlink);
	if (status == CTL_OK)
		status = varlink_call(ctl, &varlink, "Resync", json_object(), &answer);
	if (status != CTL_OK)
		return status;
	complete = json_is_true(json_object_get(answer, "complete"));
	if (ctl->json)
		status = ctl_print_json(ctl, json_pack("{s:i, s:b}", "schema_version",
						     RESYNC_SCHEMA_VERSION, "complete", complete));
	else if (complete)
		(void)puts("the agent has read everything anew");
	if (!complete)
		ctl_note(ctl, "not everything could be read or written; the agent goes on trying");
	return status == CTL_OK && !complete ? CTL_DEGRADED : status;
}

const struct ctl_command ctl_resync_command = {
	.name = "resync",
	.summary = "have the agent read everything anew",
	.help = "Has the running agent read all namespaces, maps and attachments anew and\n"
		"correct what differs, and waits until that is done.\n"
		"\n"
		"Exit status: 3 when the agent is not running, 4 when something could not be\n"
		"read or written.\n",
	.run = run_resync,
};
