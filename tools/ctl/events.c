/* SPDX-License-Identifier: MIT */
/* events: what changes, as it changes. */
#include <errno.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "agent/util/cleanup.h"
#include "tools/ctl/agent.h"
#include "tools/ctl/output.h"
#include "tools/ctl/varlink.h"

static void note_signal(int number)
{
	(void)number;
}

/* Blocked but while we wait, so that no line is cut. Returns by `ret` the mask to wait with. */
static void catch_end(sigset_t *ret)
{
	static const int ends[] = { SIGINT, SIGTERM };
	struct sigaction action = { .sa_handler = note_signal };
	sigset_t blocked;

	(void)sigemptyset(&blocked);
	for (size_t i = 0; i < 2; i++) {
		(void)sigaddset(&blocked, ends[i]);
		(void)sigaction(ends[i], &action, NULL);
	}
	(void)sigprocmask(SIG_BLOCK, &blocked, ret);
	for (size_t i = 0; i < 2; i++)
		(void)sigdelset(ret, ends[i]);
}

static void print_tunnel(const json_t *tunnel)
{
	const char *remote = json_text(tunnel, "remote"), *reason = json_text(tunnel, "reason");
	const json_t *rival = json_object_get(tunnel, "rival");

	print_escaped(stdout, " %s %s remote %s: %s, %s%s%s", json_text(tunnel, "netns"),
		json_text(tunnel, "ifname"), remote[0] ? remote : "-", json_text(tunnel, "state"),
		json_text(tunnel, "mode"), reason[0] ? ", " : "", reason);
	if (json_is_object(rival))
		print_escaped(stdout, ", rival %s %s", json_text(rival, "netns"),
			json_text(rival, "ifname"));
}

static void print_row(const json_t *row)
{
	const char *source = json_text(row, "inner_source");
	const char *address = json_text(row, "game_server_ip");

	print_escaped(stdout, " remote %s%s%s: %s, %s", json_text(row, "remote"),
		source[0] ? " inner source " : "", source, address[0] ? address : "shared",
		json_text(row, "mode"));
}

static void print_interface(const json_t *interface)
{
	print_escaped(stdout, " %s: %s", json_text(interface, "name"),
		json_text(interface, "attachment"));
}

static void print_namespace(const json_t *netns)
{
	print_escaped(
		stdout, " %s: owner %s", json_text(netns, "label"), json_text(netns, "owner"));
}

static void print_config_error(const json_t *error)
{
	print_escaped(stdout, " %s: %s%s%s", json_text(error, "file"), json_text(error, "place"),
		json_text(error, "place")[0] ? ": " : "", json_text(error, "message"));
}

static void print_changed(const json_t *names)
{
	const json_t *name;
	size_t i;

	json_array_foreach((json_t *)names, i, name)
		print_escaped(stdout, "%s%s", i > 0 ? ", " : " (", json_string_value(name) ?: "?");
	if (i > 0)
		(void)fputc(')', stdout);
}

static void print_event(const json_t *event)
{
	static const struct {
		const char *field;
		void (*print)(const json_t *value);
	} parts[] = {
		{ "tunnel", print_tunnel },
		{ "row", print_row },
		{ "interface", print_interface },
		{ "namespace", print_namespace },
		{ "error", print_config_error },
		{ "changed", print_changed },
	};

	print_escaped(stdout, "%s %s", json_text(event, "time"), json_text(event, "type"));
	for (size_t i = 0; i < sizeof(parts) / sizeof(parts[0]); i++) {
		const json_t *value = json_object_get(event, parts[i].field);

		if (value)
			parts[i].print(value);
	}
	if (json_text(event, "config")[0])
		print_escaped(stdout, " %s", json_text(event, "config"));
	if (json_text(event, "reason")[0])
		print_escaped(stdout, " %s", json_text(event, "reason"));
	if (json_number(event, "lost") > 0)
		(void)printf(", %" JSON_INTEGER_FORMAT " lost", json_number(event, "lost"));
	(void)fputc('\n', stdout);
}

/* Until a line fits in, or somebody wants us to end: false. A pipe that can be written to takes a page (pipe(7)). */
static bool wait_for_reader(const sigset_t *mask)
{
	struct pollfd writable = { .fd = STDOUT_FILENO, .events = POLLOUT };

	return ppoll(&writable, 1, NULL, mask) >= 0 || errno != EINTR;
}

static int run_events(const struct ctl *ctl)
{
	_cleanup_(varlink_done) struct varlink varlink = VARLINK_NONE;
	sigset_t mask;
	int status;

	catch_end(&mask);
	status = varlink_open(ctl, &varlink);
	if (status == CTL_OK)
		status = varlink_observe(ctl, &varlink, "Monitor");
	while (status == CTL_OK) {
		json_auto_t *answer = NULL;
		json_t *event;

		status = varlink_next(ctl, &varlink, &mask, &answer);
		if (status != CTL_OK || !answer)
			break;
		if (!wait_for_reader(&mask))
			break;
		event = json_object_get(answer, "event");
		if (ctl->json)
			status = ctl_print_json(ctl, json_incref(event));
		else
			print_event(event);
		/* Nobody reads any more, or there is no space: main() says so. */
		if (fflush(stdout) != 0)
			break;
	}
	return status;
}

const struct ctl_command ctl_events_command = {
	.name = "events",
	.summary = "what changes, as it changes",
	.help = "Prints a line for each change of tunnels, rows of the maps, namespaces,\n"
		"interfaces and configuration, until it is interrupted; with -j a JSON object\n"
		"a line. \"resync\" stands at the beginning and wherever changes were lost: read\n"
		"the status then.\n"
		"\n"
		"Exit status: 3 when the agent is not running, or ends.\n",
	.run = run_events,
};
