/* SPDX-License-Identifier: MIT */
/*
 * detach: takes off everything that ipipdirect put on this host, and nothing else. Programs first:
 * the maps stay until nothing looks at them, so that until then every packet goes where it went
 * before.
 */
#include <errno.h>
#include <inttypes.h>
#include <net/if.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "agent/kern/dataplane.h"
#include "agent/kern/pins.h"
#include "agent/util/cleanup.h"
#include "schema/maps.h"
#include "tools/ctl/agent.h"
#include "tools/ctl/live.h"
#include "tools/ctl/output.h"

#define DETACH_SCHEMA_VERSION 1 /* schema/ctl-detach.schema.json */

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
	const json_t *interfaces = json_object_get(view->document, "interfaces");
	const json_t *interface;
	size_t i;

	json_array_foreach((json_t *)interfaces, i, interface)
	{
		if (json_number(interface, "ifindex") == ifindex) {
			(void)snprintf(ret, IF_NAMESIZE, "%s", json_text(interface, "name"));
			return;
		}
	}
	if (!if_indextoname(ifindex, ret))
		ret[0] = '\0';
}

/* Whether the agent that wrote the status worked in another network namespace than we are in. */
static bool is_elsewhere(const struct agent_view *view)
{
	const json_t *namespaces = json_object_get(view->document, "namespaces");
	const json_t *namespace;
	struct stat st;
	size_t i;

	if (stat("/proc/self/ns/net", &st) < 0)
		return false;
	json_array_foreach((json_t *)namespaces, i, namespace)
	{
		if (json_is_null(json_object_get(namespace, "nsid")))
			return json_number(namespace, "inode") != (json_int_t)st.st_ino;
	}
	return false;
}

/*
 * A TCX link goes with its pin, from anywhere. A clsact filter is found by interface index, and in
 * another namespace that is another interface: its pin would go, the filter stay.
 */
static int check_namespace(
	const struct ctl *ctl, const struct agent_view *view, const uint32_t *ifindexes, size_t n)
{
	char path[PIN_PATH_MAX];

	if (ctl->force || !is_elsewhere(view))
		return CTL_OK;
	for (size_t i = 0; i < n; i++) {
		pin_path(PIN_PROGRAM, ifindexes[i], path);
		if (access(path, F_OK) == 0)
			return ctl_fail(ctl, CTL_FAILED, "wrong-namespace",
				"use \"nsenter --net=FILE ipipdirectctl detach\"; "
				"--force when that namespace is gone",
				"the agent worked in another network namespace than this one");
	}
	return CTL_OK;
}

static int fail(const struct ctl *ctl, int r, const char *what)
{
	bool permission = r == -EACCES || r == -EPERM;

	return ctl_fail(ctl, CTL_FAILED, permission ? "permission" : "failed",
		permission ? CTL_HINT_ROOT : NULL, "cannot %s: %s", what, strerror(-r));
}

static int fail_interface(const struct ctl *ctl, int r, uint32_t ifindex, const char *name)
{
	char what[96];

	(void)snprintf(what, sizeof(what), "detach from interface %" PRIu32 " %s", ifindex, name);
	return fail(ctl, r, what);
}

static void print_detached(uint32_t ifindex, const char *name)
{
	if (name[0])
		print_escaped(
			stdout, "detached from %s (interface index %" PRIu32 ")", name, ifindex);
	else
		(void)printf("detached from interface index %" PRIu32, ifindex);
	(void)fputc('\n', stdout);
}

static int detach_all(const struct ctl *ctl, const struct agent_view *view,
	const uint32_t *ifindexes, size_t n, json_t *detached)
{
	int status = CTL_OK;

	/* One that cannot be left keeps none of the others. */
	for (size_t i = 0; i < n; i++) {
		char name[IF_NAMESIZE];
		int r = dataplane_detach(ifindexes[i]);

		name_interface(view, ifindexes[i], name);
		if (r < 0) {
			if (status == CTL_OK)
				status = fail_interface(ctl, r, ifindexes[i], name);
			continue;
		}
		if (!ctl->json)
			print_detached(ifindexes[i], name);
		(void)json_array_append_new(
			detached, json_pack("{s:I, s:o}", "ifindex", (json_int_t)ifindexes[i],
					  "name", name[0] ? status_text(name) : json_null()));
	}
	return status;
}

/* Removes the maps and says so, or that there was nothing. `detached`: what went before; taken. */
static int remove_pins(const struct ctl *ctl, json_t *detached)
{
	bool there = access(MAPS_PIN_ROOT, F_OK) == 0;
	size_t n = json_array_size(detached);
	int r = dataplane_remove_pins();

	/* Somebody keeps something of his own in our directory. */
	if (r < 0 && r != -ENOTEMPTY) {
		json_decref(detached);
		return fail(ctl, r, "remove the pinned maps");
	}
	if (ctl->json)
		return ctl_print_json(
			ctl, json_pack("{s:i, s:o, s:b}", "schema_version", DETACH_SCHEMA_VERSION,
				     "detached", detached, "pins_removed", there));
	json_decref(detached);
	if (there)
		(void)puts("removed the pinned maps below " MAPS_PIN_ROOT);
	else if (n == 0)
		(void)puts("nothing to remove");
	if (r == -ENOTEMPTY)
		ctl_note(ctl, MAPS_PIN_ROOT " holds something that is not ours: it stays");
	return CTL_OK;
}

static int detach(const struct ctl *ctl, const struct agent_view *view)
{
	_cleanup_free_ uint32_t *ifindexes = NULL;
	json_t *detached;
	size_t n;
	int r, status;

	r = list_attached(&ifindexes, &n);
	if (r < 0)
		return fail(ctl, r, "read " MAPS_PIN_ROOT);
	status = check_namespace(ctl, view, ifindexes, n);
	if (status != CTL_OK)
		return status;
	detached = json_array();
	if (!detached)
		return fail(ctl, -ENOMEM, "detach");
	status = detach_all(ctl, view, ifindexes, n, detached);
	if (status != CTL_OK) {
		json_decref(detached);
		return status;
	}
	return remove_pins(ctl, detached);
}

static int run_detach(const struct ctl *ctl)
{
	_cleanup_(agent_view_done) struct agent_view view = { 0 };
	_cleanup_close_ int lock = -1;
	int r;

	if (live_check_bpffs() < 0)
		return live_fail_bpffs(ctl);
	/* Held to the end: no agent starts in the middle of this. */
	r = agent_lock(&lock);
	if (r == -EWOULDBLOCK && !ctl->force)
		return ctl_fail(ctl, CTL_FAILED, "agent-running",
			"systemctl stop ipipdirect, then again; --force does it anyway",
			"the agent is running and would attach again");
	if (r < 0 && r != -EWOULDBLOCK && !ctl->force)
		return fail(ctl, r, "tell whether the agent is running");
	if (agent_read(ctl, &view) < 0)
		return fail(ctl, -ENOMEM, "detach");
	return detach(ctl, &view);
}

const struct ctl_command ctl_detach_command = {
	.name = "detach",
	.summary = "remove everything: back to the tunnels",
	.help = "Removes everything of ipipdirect from this host and nothing else: first the\n"
		"program from each interface, then the pinned maps. All replies take the tunnel\n"
		"again. A clsact qdisc stays, for others may use it. Doing it twice is no error.\n"
		"\n"
		"Refuses while the agent runs, which would attach again at its next pass.\n",
	.options = CTL_OPTION_FORCE,
	.run = run_detach,
};
