/* SPDX-License-Identifier: MIT */
/* attach: has the running agent attach the program, after a detach, or to one more interface. */
#include <stdio.h>
#include <string.h>

#include "agent/core/attachment.h"
#include "agent/core/status.h"
#include "agent/util/cleanup.h"
#include "tools/ctl/agent.h"
#include "tools/ctl/output.h"
#include "tools/ctl/varlink.h"

#define ATTACH_SCHEMA_VERSION 1 /* schema/ctl-attach.schema.json */

static bool is_attached(const json_t *interface)
{
	return strcmp(json_text(interface, "attachment"), attachment_kind_name(ATTACHMENT_NONE)) !=
	       0;
}

/* One or more, and all of them. */
static bool all_attached(const json_t *interfaces)
{
	const json_t *interface;
	size_t i;

	json_array_foreach((json_t *)interfaces, i, interface)
	{
		if (!is_attached(interface))
			return false;
	}
	return json_array_size(interfaces) > 0;
}

static json_t *make_document(const json_t *interfaces, bool complete)
{
	json_t *list = json_array();
	const json_t *interface;
	size_t i;

	json_array_foreach((json_t *)interfaces, i, interface)
	{
		(void)json_array_append_new(
			list, json_pack("{s:O, s:O, s:O, s:O}", "name",
				      json_object_get(interface, "name"), "ifindex",
				      json_object_get(interface, "ifindex"), "attachment",
				      json_object_get(interface, "attachment"), "error",
				      json_object_get(interface, "error")));
	}
	return json_pack("{s:i, s:o, s:b}", "schema_version", ATTACH_SCHEMA_VERSION, "interfaces",
		list, "complete", complete);
}

static void print_interfaces(const struct ctl *ctl, const json_t *interfaces)
{
	const json_t *interface;
	size_t i;

	json_array_foreach((json_t *)interfaces, i, interface)
	{
		const char *name = json_text(interface, "name");

		if (!is_attached(interface)) {
			ctl_note(
				ctl, "not attached to %s: %s", name, json_text(interface, "error"));
			continue;
		}
		print_escaped(stdout, "attached to %s (%s, program %" JSON_INTEGER_FORMAT ")", name,
			json_text(interface, "attachment"), json_number(interface, "program_id"));
		(void)fputc('\n', stdout);
	}
	if (json_array_size(interfaces) == 0)
		ctl_note(ctl, NO_INTERFACE);
}

static int run_attach(const struct ctl *ctl)
{
	_cleanup_(varlink_done) struct varlink varlink = VARLINK_NONE;
	json_auto_t *answer = NULL;
	const json_t *interfaces;
	bool complete;
	int status;

	status = varlink_open(ctl, &varlink);
	if (status == CTL_OK)
		status = varlink_call(ctl, &varlink, "Attach",
			json_pack("{s:o}", "ifname",
				ctl->n_args > 0 ? status_text(ctl->args[0]) : json_null()),
			&answer);
	if (status != CTL_OK)
		return status;
	interfaces = json_object_get(answer, "interfaces");
	complete = json_is_true(json_object_get(answer, "complete"));
	if (ctl->json)
		status = ctl_print_json(ctl, make_document(interfaces, complete));
	else
		print_interfaces(ctl, interfaces);
	if (!complete)
		ctl_note(ctl, "the agent could not do it all yet, and goes on trying");
	if (status != CTL_OK)
		return status;
	return complete && all_attached(interfaces) ? CTL_OK : CTL_DEGRADED;
}

const struct ctl_command ctl_attach_command = {
	.name = "attach",
	.arguments = "[IFNAME]",
	.summary = "attach again, or to one more interface",
	.help = "Has the running agent attach the program where the configuration or the default\n"
		"routes want it, also after a detach, and waits until that is done. With IFNAME\n"
		"on that interface besides; after a detach, on that interface alone.\n"
		"\n"
		"It holds until the next attach or detach without a name, also when the agent is\n"
		"restarted, but not for longer than the host runs.\n"
		"\n"
		"Exit status: 3 when the agent is not running, 4 when an interface is without\n"
		"the program.\n",
	.max_args = 1,
	.run = run_attach,
};
