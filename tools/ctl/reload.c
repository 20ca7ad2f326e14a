/* SPDX-License-Identifier: MIT */
/* reload: has the running agent read its configuration anew, and tells what came of it. */
#include <stdio.h>

#include "agent/util/cleanup.h"
#include "tools/ctl/agent.h"
#include "tools/ctl/output.h"
#include "tools/ctl/varlink.h"

#define RELOAD_SCHEMA_VERSION 1 /* schema/ctl-reload.schema.json */

/* It may not have been able to do all that the configuration says. */
static void print_problems(const json_t *agent)
{
	const json_t *problem;
	size_t i;

	json_array_foreach(json_object_get(agent, "problems"), i, problem)
	{
		print_escaped(stderr, "problem: %s", json_string_value(problem) ?: "");
		(void)fputc('\n', stderr);
	}
}

/* `agent`: of the status. */
static int report(const struct ctl *ctl, const json_t *agent)
{
	const char *path = json_string_value(json_object_get(agent, "config"));

	if (ctl->json)
		return ctl_print_json(ctl,
			json_pack("{s:i, s:O, s:O, s:O}", "schema_version", RELOAD_SCHEMA_VERSION,
				"config", json_object_get(agent, "config"), "config_loaded_at",
				json_object_get(agent, "config_loaded_at"), "reloads",
				json_object_get(agent, "reloads")));
	if (path)
		print_escaped(stdout, "the agent has taken %s", path);
	else
		(void)fputs("the agent has found no configuration: the defaults hold", stdout);
	(void)fputc('\n', stdout);
	print_problems(agent);
	return CTL_OK;
}

/* By the socket, not by a signal: only there an answer is to this call, and not to somebody else's before. */
static int run_reload(const struct ctl *ctl)
{
	_cleanup_(varlink_done) struct varlink varlink = VARLINK_NONE;
	json_auto_t *answer = NULL, *after = NULL;
	int status;

	status = varlink_open(ctl, &varlink);
	if (status == CTL_OK)
		status = varlink_call(ctl, &varlink, "Reload", json_object(), &answer);
	if (status == CTL_OK)
		status = varlink_call(ctl, &varlink, "GetStatus", json_object(), &after);
	if (status != CTL_OK)
		return status;
	return report(ctl, json_object_get(json_object_get(after, "status"), "agent"));
}

const struct ctl_command ctl_reload_command = {
	.name = "reload",
	.summary = "have the agent read its configuration anew",
	.help = "Has the running agent read its configuration, and waits until it has taken it\n"
		"and made a pass with it, or refused it and kept the former one. Problems that\n"
		"it has then are told on the standard error.\n"
		"\n"
		"Exit status: 2 when it was refused, 3 when the agent is not running or does\n"
		"not answer.\n",
	.run = run_reload,
};
