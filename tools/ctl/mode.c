/* SPDX-License-Identifier: MIT */
/* mode: gives one tunnel another mode than the configuration does, at run time. */
#include <stdio.h>
#include <string.h>

#include "agent/core/config.h"
#include "agent/util/cleanup.h"
#include "tools/ctl/agent.h"
#include "tools/ctl/output.h"
#include "tools/ctl/varlink.h"

#define MODE_SCHEMA_VERSION 1 /* schema/ctl-mode.schema.json */

/* Strings belong to somebody else. */
struct wish {
	const char *netns, *ifname;
	const char *mode; /* NULL: as configured */
};

static int find_remote(
	const struct ctl *ctl, const json_t *tunnels, const char *remote, struct wish *wish)
{
	const json_t *tunnel, *found = NULL;
	size_t i;

	json_array_foreach((json_t *)tunnels, i, tunnel)
	{
		if (strcmp(json_text(tunnel, "remote"), remote) != 0)
			continue;
		if (found)
			return ctl_fail(ctl, CTL_FAILED, "ambiguous-word",
				"name it: ipipdirectctl mode NETNS IFNAME MODE",
				"several tunnels have the remote %s: %s %s, %s %s, …", remote,
				json_text(found, "netns"), json_text(found, "ifname"),
				json_text(tunnel, "netns"), json_text(tunnel, "ifname"));
		found = tunnel;
	}
	if (!found)
		return ctl_fail(ctl, CTL_FAILED, "not-found", "see 'ipipdirectctl tunnels'",
			"there is no tunnel with the remote %s", remote);
	wish->netns = json_text(found, "netns");
	wish->ifname = json_text(found, "ifname");
	return CTL_OK;
}

/* The last word; the others name the tunnel. */
static int read_mode(const struct ctl *ctl, struct wish *wish)
{
	const char *word = ctl->args[ctl->n_args - 1];
	enum maps_mode mode;

	if (strcmp(word, "default") == 0) {
		wish->mode = NULL;
		return CTL_OK;
	}
	if (maps_mode_parse(word, &mode) < 0)
		return ctl_fail(ctl, CTL_USAGE, "usage", "try 'ipipdirectctl mode --help'",
			"unknown mode '%s'; expected direct, shadow, tunnel or default", word);
	wish->mode = maps_mode_name(mode);
	return CTL_OK;
}

static int report(const struct ctl *ctl, const struct wish *wish, const json_t *answer)
{
	bool complete = json_is_true(json_object_get(answer, "complete"));
	json_int_t n = json_number(answer, "tunnels");
	int status = CTL_OK;

	if (ctl->json) {
		status = ctl_print_json(ctl,
			json_pack("{s:i, s:s, s:s, s:s?, s:I, s:b}", "schema_version",
				MODE_SCHEMA_VERSION, "netns", wish->netns, "ifname", wish->ifname,
				"mode", wish->mode, "tunnels", n, "complete", complete));
	} else {
		print_escaped(stdout, "%s %s: %s", wish->netns, wish->ifname,
			wish->mode ? wish->mode : "as configured");
		if (n != 1)
			(void)printf(n == 0 ? " (there is no such tunnel now)"
					    : " (%" JSON_INTEGER_FORMAT " tunnels have that name)",
				n);
		(void)fputc('\n', stdout);
	}
	if (!complete)
		ctl_note(ctl, "the agent could not do it all yet, and goes on trying");
	return status == CTL_OK && !complete ? CTL_DEGRADED : status;
}

static int run_mode(const struct ctl *ctl)
{
	_cleanup_(varlink_done) struct varlink varlink = VARLINK_NONE;
	json_auto_t *list = NULL, *answer = NULL;
	struct wish wish = { ctl->args[0], ctl->args[1], NULL };
	int status;

	status = read_mode(ctl, &wish);
	if (status == CTL_OK)
		status = varlink_open(ctl, &varlink);
	if (status == CTL_OK && ctl->n_args == 2) {
		status = varlink_call(ctl, &varlink, "ListTunnels", json_object(), &list);
		if (status == CTL_OK)
			status = find_remote(
				ctl, json_object_get(list, "tunnels"), ctl->args[0], &wish);
	}
	if (status != CTL_OK)
		return status;
	status = varlink_call(ctl, &varlink, "SetMode",
		json_pack("{s:o, s:o, s:s?, s:b}", "netns", json_string(wish.netns), "ifname",
			json_string(wish.ifname), "mode", wish.mode, "until_reload",
			ctl->until_reload),
		&answer);
	return status != CTL_OK ? status : report(ctl, &wish, answer);
}

const struct ctl_command ctl_mode_command = {
	.name = "mode",
	.arguments = "NETNS IFNAME MODE",
	.summary = "give one tunnel another mode",
	.help = "Gives a tunnel another mode than the configuration does, and waits until that\n"
		"is at work:\n"
		"  direct   replies go straight to the client\n"
		"  shadow   what would go direct is only counted\n"
		"  tunnel   everything is left to the tunnel\n"
		"  default  as the configuration has it\n"
		"\n"
		"It holds until it is taken back, also when the agent or the tunnel is\n"
		"restarted, but not for longer than the host runs. Instead of NETNS IFNAME\n"
		"there may be one word, the remote of the only tunnel that has it.\n"
		"\n"
		"Exit status: 3 when the agent is not running, 4 when something could not be\n"
		"read or written yet.\n",
	.options = CTL_OPTION_UNTIL_RELOAD,
	.min_args = 2,
	.max_args = 3,
	.run = run_mode,
};
