/* SPDX-License-Identifier: MIT */
/*
 * detach: takes off everything that ipipdirect put on this host, and nothing else. Programs first:
 * the maps stay until nothing looks at them, so that until then every packet goes where it went
 * before. Device features that the guard turned off go back in between.
 *
 * Where an agent runs it is asked to (detach_agent.c), and keeps its maps for the time after.
 */
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <net/if.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "agent/guard.h"
#include "agent/kern/dataplane.h"
#include "agent/kern/pins.h"
#include "agent/placement_file.h"
#include "agent/util/array.h"
#include "agent/util/cleanup.h"
#include "schema/maps.h"
#include "tools/ctl/agent.h"
#include "tools/ctl/attached.h"
#include "tools/ctl/detach.h"
#include "tools/ctl/live.h"
#include "tools/ctl/output.h"

#define DETACH_SCHEMA_VERSION 1 /* schema/ctl-detach.schema.json */

/* What there is to take off. */
struct remains {
	uint32_t *ifindexes; /* interfaces with something of ours, each once */
	size_t n;
	int run_dir; /* -1: there is none, hence no memory of features */
	struct offload_memory features, elsewhere;
};

static void remains_done(struct remains *remains)
{
	free(remains->ifindexes);
	closep(&remains->run_dir);
	offload_memory_done(&remains->features);
	offload_memory_done(&remains->elsewhere);
}

static int compare_ifindexes(const void *pa, const void *pb)
{
	uint32_t a = *(const uint32_t *)pa, b = *(const uint32_t *)pb;

	return a < b ? -1 : a > b;
}

/* The interfaces with something of ours, each once. */
static int list_attached(uint32_t **ret, size_t *ret_n)
{
	uint32_t *list;
	size_t n, kept = 0;
	int r;

	r = dataplane_attached(&list, &n);
	if (r < 0)
		return r;
	if (n > 0)
		qsort(list, n, sizeof(*list), compare_ifindexes);
	for (size_t i = 0; i < n; i++)
		if (kept == 0 || list[kept - 1] != list[i])
			list[kept++] = list[i];
	*ret = list;
	*ret_n = kept;
	return 0;
}

/* The agent's name for an interface; without one this namespace's, "" when it has none either. */
static void name_interface(const struct agent_view *view, uint32_t ifindex, char ret[IF_NAMESIZE])
{
	const json_t *interface = agent_interface(view->document, ifindex);

	if (interface)
		(void)snprintf(ret, IF_NAMESIZE, "%s", json_text(interface, "name"));
	else if (!if_indextoname(ifindex, ret))
		ret[0] = '\0';
}

static bool has_filter(const struct remains *remains)
{
	char path[PIN_PATH_MAX];

	for (size_t i = 0; i < remains->n; i++) {
		pin_path(PIN_PROGRAM, remains->ifindexes[i], path);
		if (access(path, F_OK) == 0)
			return true;
	}
	return false;
}

/*
 * A TCX link goes with its pin, from anywhere. A clsact filter and a feature are found by interface
 * index, and in another namespace that is another interface: the pin would go, the filter stay.
 */
static int check_namespace(
	const struct ctl *ctl, const struct agent_view *view, const struct remains *remains)
{
	if (ctl->force || agent_is_of_netns(view->document) != 0 ||
		(remains->elsewhere.n == 0 && !has_filter(remains)))
		return CTL_OK;
	return ctl_fail(ctl, CTL_FAILED, "wrong-namespace",
		"use \"nsenter --net=FILE ipipdirectctl detach\"; "
		"--force when that namespace is gone",
		"the agent worked in another network namespace than this one");
}

static int fail(const struct ctl *ctl, int r, const char *what)
{
	bool permission = r == -EACCES || r == -EPERM;

	return ctl_fail(ctl, CTL_FAILED, permission ? "permission" : "failed",
		permission ? CTL_HINT_ROOT : NULL, "cannot %s: %s", what, strerror(-r));
}

static int fail_interface(
	const struct ctl *ctl, int r, const char *verb, uint32_t ifindex, const char *name)
{
	char what[96];

	(void)snprintf(what, sizeof(what), "%s interface %" PRIu32 " %s", verb, ifindex, name);
	return fail(ctl, r, what);
}

static void note(json_t *list, uint32_t ifindex, const char *name)
{
	(void)json_array_append_new(
		list, json_pack("{s:I, s:o}", "ifindex", (json_int_t)ifindex, "name",
			      name[0] ? status_text(name) : json_null()));
}

void detach_note_interface(const struct ctl *ctl, json_t *list, uint32_t ifindex, const char *name)
{
	note(list, ifindex, name);
	if (ctl->json)
		return;
	if (name[0])
		print_escaped(
			stdout, "detached from %s (interface index %" PRIu32 ")", name, ifindex);
	else
		(void)printf("detached from interface index %" PRIu32, ifindex);
	(void)fputc('\n', stdout);
}

void detach_note_feature(const struct ctl *ctl, json_t *list, uint32_t ifindex, const char *name)
{
	note(list, ifindex, name);
	if (ctl->json)
		return;
	print_escaped(stdout, "turned " OFFLOAD_FEATURE " on again on %s", name);
	(void)fputc('\n', stdout);
}

/* By what the last agent said: without its pin nothing else tells a filter of ours from others'. */
static uint32_t filter_of_status(const struct agent_view *view, uint32_t ifindex)
{
	const json_t *interface = agent_interface(view->document, ifindex);

	return interface ? attached_filter(view, interface) : 0;
}

static int detach_all(const struct ctl *ctl, const struct agent_view *view,
	const struct remains *remains, json_t *detached)
{
	int status = CTL_OK;

	/* One that cannot be left keeps none of the others. */
	for (size_t i = 0; i < remains->n; i++) {
		uint32_t ifindex = remains->ifindexes[i];
		char name[IF_NAMESIZE];
		int r = dataplane_detach(ifindex, filter_of_status(view, ifindex));

		name_interface(view, ifindex, name);
		if (r < 0) {
			if (status == CTL_OK)
				status = fail_interface(ctl, r, "detach from", ifindex, name);
			continue;
		}
		detach_note_interface(ctl, detached, ifindex, name);
	}
	return status;
}

/* Of agents that worked in other namespaces before: with --force, these are taken for gone. */
static int leave_elsewhere(const struct ctl *ctl, const struct remains *remains)
{
	int r;

	if (ctl->force) {
		r = guard_forget_elsewhere(remains->run_dir);
		return r < 0 ? fail(ctl, r, "write " GUARD_FILE) : CTL_OK;
	}
	for (size_t i = 0; i < remains->elsewhere.n; i++)
		ctl_note(ctl, OFFLOAD_FEATURE " stays off on %s of another network namespace",
			remains->elsewhere.list[i].ifname);
	return CTL_OK;
}

/* Nothing is stripped any more, so devices may segment IPIP as they like. */
static int restore_all(
	const struct ctl *ctl, const struct remains *remains, const struct detach_outcome *outcome)
{
	int status = CTL_OK;

	if (remains->features.n > 0 && json_array_size(outcome->detached) > 0)
		(void)sleep(GUARD_QUEUE_SECONDS);
	for (size_t i = 0; i < remains->features.n; i++) {
		const struct offload_record *record = &remains->features.list[i];
		int r = guard_give_back(remains->run_dir, record->ifindex);

		if (r < 0 && status == CTL_OK)
			status = fail_interface(ctl, r, "turn " OFFLOAD_FEATURE " on again on",
				record->ifindex, record->ifname);
		if (r <= 0)
			continue;
		detach_note_feature(ctl, outcome->restored, record->ifindex, record->ifname);
	}
	return status == CTL_OK && remains->elsewhere.n > 0 ? leave_elsewhere(ctl, remains)
							    : status;
}

enum agent_part {
	AGENT_PART_NONE,        /* none runs */
	AGENT_PART_STAYS_OFF,   /* it was told, or the next one will find that */
	AGENT_PART_UNREACHABLE, /* it could not be told */
};

static int print_outcome(const struct ctl *ctl, const struct detach_outcome *outcome,
	bool pins_removed, enum agent_part agent)
{
	static const char *const parts[] = { "not-running", "stays-off", "unreachable" };

	if (ctl->json)
		return ctl_print_json(
			ctl, json_pack("{s:i, s:O, s:O, s:b, s:s}", "schema_version",
				     DETACH_SCHEMA_VERSION, "detached", outcome->detached,
				     "restored", outcome->restored, "pins_removed", pins_removed,
				     "agent", parts[agent]));
	if (pins_removed)
		(void)puts("removed the pinned maps below " MAPS_PIN_ROOT);
	else if (agent == AGENT_PART_STAYS_OFF && json_array_size(outcome->detached) == 0)
		(void)puts("nothing was attached");
	else if (agent == AGENT_PART_NONE &&
		 json_array_size(outcome->detached) + json_array_size(outcome->restored) == 0)
		(void)puts("nothing to remove");
	if (agent == AGENT_PART_STAYS_OFF)
		(void)puts("the agent stays off until 'ipipdirectctl attach'");
	return CTL_OK;
}

/* Removes the maps. The directory stays for an agent that runs, whose user may not make it. */
static int remove_pins(const struct ctl *ctl, enum agent_part agent, bool *ret_there)
{
	int r;

	*ret_there = access(MAPS_PIN_ROOT, F_OK) == 0;
	r = dataplane_remove_pins(agent != AGENT_PART_NONE);
	/* Somebody keeps something of his own in our directory. */
	if (r < 0 && r != -ENOTEMPTY)
		return fail(ctl, r, "remove the pinned maps");
	if (r == -ENOTEMPTY)
		ctl_note(ctl, MAPS_PIN_ROOT " holds something that is not ours: it stays");
	return CTL_OK;
}

static bool has_remains(const struct remains *remains, uint32_t ifindex)
{
	for (size_t i = 0; i < remains->n; i++)
		if (remains->ifindexes[i] == ifindex)
			return true;
	return false;
}

/* Filters whose pins are gone. */
static int add_filters(const struct agent_view *view, struct remains *remains)
{
	const json_t *interface;
	size_t i;

	json_array_foreach(json_object_get(view->document, "interfaces"), i, interface)
	{
		uint32_t ifindex = (uint32_t)json_number(interface, "ifindex"), *slot;

		if (has_remains(remains, ifindex) || attached_filter(view, interface) == 0)
			continue;
		slot = ARRAY_APPEND(remains->ifindexes, remains->n);
		if (!slot)
			return -ENOMEM;
		*slot = ifindex;
		remains->n++;
	}
	return 0;
}

static int find_remains(
	const struct ctl *ctl, const struct agent_view *view, struct remains *remains)
{
	int r;

	r = list_attached(&remains->ifindexes, &remains->n);
	if (r == 0)
		r = add_filters(view, remains);
	if (r < 0)
		return fail(ctl, r, "read " MAPS_PIN_ROOT);
	r = agent_open_run_directory(&remains->run_dir);
	if (r == 0)
		r = guard_read(remains->run_dir, &remains->features, &remains->elsewhere);
	return r < 0 && r != -ENOENT ? fail(ctl, r, "read " GUARD_FILE) : CTL_OK;
}

/*
 * An agent that was killed or ended by itself leaves its socket behind, and the service manager starts the next one, in
 * a second. That one must not attach again.
 */
static int note_for_the_next(const struct ctl *ctl, int run_dir, enum agent_part *agent)
{
	const struct placement off = { .detached = true };
	int r;

	if (*agent != AGENT_PART_NONE || run_dir < 0 ||
		faccessat(run_dir, AGENT_SOCKET, F_OK, AT_SYMLINK_NOFOLLOW) < 0)
		return CTL_OK;
	r = placement_store(run_dir, &off);
	if (r < 0)
		return fail(ctl, r, "write " PLACEMENT_FILE ", for the next agent to stay off");
	*agent = AGENT_PART_STAYS_OFF;
	return CTL_OK;
}

/* Without the agent's help. */
static int detach(const struct ctl *ctl, struct detach_outcome *outcome, enum agent_part agent)
{
	_cleanup_(agent_view_done) struct agent_view view = { 0 };
	_cleanup_(remains_done) struct remains remains = { .run_dir = -1 };
	enum agent_part told = agent;
	bool there;
	int status;

	if (live_check_bpffs() < 0)
		return live_fail_bpffs(ctl);
	if (agent_read(ctl, &view) < 0)
		return fail(ctl, -ENOMEM, "detach");
	status = find_remains(ctl, &view, &remains);
	if (status == CTL_OK)
		status = check_namespace(ctl, &view, &remains);
	if (status == CTL_OK)
		status = note_for_the_next(ctl, remains.run_dir, &told);
	if (status == CTL_OK)
		status = detach_all(ctl, &view, &remains, outcome->detached);
	if (status == CTL_OK)
		status = restore_all(ctl, &remains, outcome);
	if (status == CTL_OK)
		status = remove_pins(ctl, agent, &there);
	return status == CTL_OK ? print_outcome(ctl, outcome, there, told) : status;
}

static int detach_beside(const struct ctl *ctl, struct detach_outcome *outcome)
{
	int status = detach_by_agent(ctl, outcome), printed;

	if (status != CTL_OK && status != CTL_DEGRADED)
		return status;
	printed = print_outcome(ctl, outcome, false, AGENT_PART_STAYS_OFF);
	if (status == CTL_DEGRADED)
		ctl_note(ctl, "the agent could not do it all yet, and goes on trying");
	return printed == CTL_OK ? status : printed;
}

/* Whatever the agent says. It is asked all the same: else it would attach again in a second. */
static int detach_by_force(const struct ctl *ctl, struct detach_outcome *outcome)
{
	struct ctl silent = *ctl;
	int status;

	silent.silent = true;
	(void)detach_by_agent(&silent, outcome);
	status = detach(
		ctl, outcome, outcome->stays_off ? AGENT_PART_STAYS_OFF : AGENT_PART_UNREACHABLE);
	if (status != CTL_OK || outcome->stays_off)
		return status;
	ctl_note(ctl, "the agent could not be told and may attach again; "
		      "'systemctl stop ipipdirect', then again");
	return CTL_DEGRADED;
}

static int run(const struct ctl *ctl, struct detach_outcome *outcome)
{
	_cleanup_close_ int lock = -1;
	int r;

	/* Held to the end: no agent starts in the middle of this. */
	r = agent_lock(&lock);
	if (r == -EWOULDBLOCK)
		return ctl->force ? detach_by_force(ctl, outcome) : detach_beside(ctl, outcome);
	if (r < 0 && !ctl->force)
		return fail(ctl, r, "tell whether the agent is running");
	return detach(ctl, outcome, AGENT_PART_NONE);
}

static int run_detach(const struct ctl *ctl)
{
	struct detach_outcome outcome = { json_array(), json_array(), false };
	int status;

	if (outcome.detached && outcome.restored)
		status = run(ctl, &outcome);
	else
		status = fail(ctl, -ENOMEM, "detach");
	json_decref(outcome.detached);
	json_decref(outcome.restored);
	return status;
}

const struct ctl_command ctl_detach_command = {
	.name = "detach",
	.summary = "remove everything: back to the tunnels",
	.help = "Removes everything of ipipdirect from this host and nothing else: first the\n"
		"program from each interface, then the pinned maps. All replies take the tunnel\n"
		"again. What the offload guard turned off is turned on again. A clsact qdisc\n"
		"stays, for others may use it. Doing it twice is no error.\n"
		"\n"
		"While the agent runs it is asked to take the program off and to leave it off,\n"
		"also when it is restarted, until 'ipipdirectctl attach'; the maps stay, for\n"
		"that. One that was killed is not waited for: the next one stays off, too.\n"
		"--force removes them too, also when the agent does not answer.\n"
		"\n"
		"Exit status: 4 when the agent goes on trying, or could not be told (--force).\n",
	.options = CTL_OPTION_FORCE,
	.run = run_detach,
};
